//! Publish and subscribe: who gets which message, and how.
//!
//! A message is not data. It is not in the log and it is not kept: a client that is not subscribed at that
//! moment never sees it.
//!
//! ```text
//! conn-7  PUBLISH news hi ── address: who gets it? ─── the gate ─── deliver ─┬─▶ outbox of conn-8
//!                            (reads the registry)                            ├─▶ outbox of conn-9
//!                                                                            └─▶ queue of conn-12,
//!                                                                                which reads slowly
//! ```
//!
//! # Promised
//!
//! - A message arrives at most once, and whole: between replies, never inside one.
//! - What one connection publishes arrives everywhere in the order in which it was published.
//! - Messages arrive between the confirmation of SUBSCRIBE and that of UNSUBSCRIBE, not before and not after.
//!   A RESP2 client needs this: it would take a late message for the reply to its next command.
//! - What a publisher wrote before it published is as safe as `appendfsync` promises before the message
//!   leaves: a subscriber never hears of a write that a crash then takes back.
//! - A message whose publisher has been answered comes before a subscriber's replies to its next commands.
//! - A publisher waits for no subscriber. When it waits for another publisher, that one is sending.
//!
//! Not promised: that a message arrives at all; that it has been sent when its publisher is answered; that
//! messages of two publishers arrive everywhere in the same order; where among the replies to a RESP3
//! client's own commands a message of another client arrives.
//!
//! # How
//!
//! The registry maps a name to a list of subscriptions. A publisher takes a reference to the lists and
//! unlocks the registry before it sends; a change of a list in use copies it. So a list may be out of date
//! when it is used. What counts is the subscription's own `live` flag, read and changed only during the
//! subscriber's turn to send ([`Outbox::turn`](crate::clients::outbox::Outbox::turn)). SUBSCRIBE enters the
//! registry and sends its confirmation in one turn, UNSUBSCRIBE clears the flag and sends its confirmation
//! in one turn, a publisher reads the flag and sends in one turn.
//!
//! The publisher writes to each socket itself, as far as the kernel takes it at once; only the rest is
//! queued for the subscriber's push thread. Publishers to the same subscribers leave their messages with the
//! one that is sending (`lane`), so that one call to a socket carries what several have published. A message
//! is encoded once for each dialect, not for each subscriber.
//!
//! Measured, CPU of the server for one message to one of 50 subscribers: 4 µs from one publisher, nearly
//! all of it in `send`, and 1 µs from eight who send for each other. Queueing every message and waking the
//! subscriber's thread costs 15 and 3 µs: the thread's turn is what is expensive.
//!
//! A subscriber that does not read is disconnected at `client-output-buffer-limit pubsub`.
//!
//! Out of scope: sharded channels; forwarding to other nodes (`cluster::progress`).

pub(crate) mod classes;
pub(crate) mod commands;
pub(crate) mod delivery;
pub(crate) mod glob;
pub(crate) mod held;
mod lane;
pub(crate) mod notify;
mod subscriptions;

pub use delivery::Message;
pub use lane::LastMessage;
pub use subscriptions::{Subscriber, Subscriptions};

use crate::lock::RwLock;
use glob::Pattern;
use held::Held;
use lane::{LANES, Lane};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use subscriptions::Subscription;

/// Channels and patterns that one client may subscribe to. With the longest names they take about as much
/// memory as may wait for a subscriber.
pub const SUBSCRIPTIONS_MAX: usize = 10_000;
/// The longest name of a channel, and the longest pattern. It also bounds the time that matching takes.
pub use glob::PATTERN_BYTES_MAX as NAME_BYTES_MAX;

/// The kind of name in a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A channel.
    Channel,
    /// A glob pattern of channels.
    Pattern,
}

type Name = Arc<[u8]>;
/// In the order in which they subscribed.
type List = Arc<Vec<Arc<Subscription>>>;

/// The registry of all subscriptions.
#[derive(Debug, Default)]
pub struct PubSub {
    registry: RwLock<Registry>,
    lanes: [Lane; LANES],
    /// Messages and events that wait for a majority.
    held: Held,
}

#[derive(Debug, Default)]
struct Registry {
    channels: HashMap<Name, List>,
    /// Ordered, so that a client with several patterns gets a message from them in the same order each time.
    patterns: BTreeMap<Name, (Pattern, List)>,
}

impl PubSub {
    /// The channels with subscribers by name.
    pub fn channels(&self) -> Vec<Name> {
        self.registry.read().channels.keys().cloned().collect()
    }

    /// The number of clients subscribed to a channel by name.
    pub fn listeners(&self, channel: &[u8]) -> usize {
        self.registry.read().channels.get(channel).map_or(0, |list| list.len())
    }

    /// The numbers of different channels and of different patterns with subscribers.
    pub fn counts(&self) -> (usize, usize) {
        let registry = self.registry.read();
        (registry.channels.len(), registry.patterns.len())
    }

    /// A message with its receivers; None if there are none.
    pub fn address(&self, channel: &[u8], payload: &[u8]) -> Option<Message> {
        let registry = self.registry.read();
        let mut targets = Vec::new();
        targets.extend(registry.channels.get(channel).map(|list| (None, Arc::clone(list))));
        for (name, (pattern, list)) in &registry.patterns {
            if pattern.matches(channel) {
                targets.push((Some(Arc::clone(name)), Arc::clone(list)));
            }
        }
        drop(registry);
        (!targets.is_empty()).then(|| Message::new(targets, channel, payload))
    }

    /// Enters a subscription; for a pattern, with the name parsed.
    fn join(&self, name: &Name, pattern: Option<Pattern>, subscription: &Arc<Subscription>) {
        let registry = &mut *self.registry.write();
        let list = match pattern {
            None => registry.channels.entry(Arc::clone(name)).or_default(),
            Some(pattern) => {
                let entry = registry.patterns.entry(Arc::clone(name));
                &mut entry.or_insert_with(|| (pattern, List::default())).1
            }
        };
        Arc::make_mut(list).push(Arc::clone(subscription));
    }

    fn leave(&self, kind: Kind, name: &Name, subscription: &Arc<Subscription>) {
        let registry = &mut *self.registry.write();
        let list = match kind {
            Kind::Channel => registry.channels.get_mut(name),
            Kind::Pattern => registry.patterns.get_mut(name).map(|(_, list)| list),
        };
        let list = Arc::make_mut(list.expect("it was entered under this name"));
        list.retain(|other| !Arc::ptr_eq(other, subscription));
        if list.is_empty() {
            match kind {
                Kind::Channel => drop(registry.channels.remove(name)),
                Kind::Pattern => drop(registry.patterns.remove(name)),
            }
        }
    }
}
