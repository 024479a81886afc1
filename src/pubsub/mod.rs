//! Publish and subscribe: who listens to what, and how a message gets to them.
//!
//! A message is not data. It is in no log, nobody keeps it, and who does not listen when it is sent has
//! missed it.
//!
//! ```text
//! conn-7  PUBLISH news hi ── address: who listens? ─── the gate ─── deliver ─┬─▶ outbox of conn-8
//!                            (a look at the registry)                        ├─▶ outbox of conn-9
//!                                                                            └─▶ queue of conn-12,
//!                                                                                which reads slowly
//! ```
//!
//! # What is promised
//!
//! - A message arrives at most once, and whole: between replies, never inside one.
//! - What one connection publishes arrives everywhere in the order in which it was published.
//! - Between the confirmation of SUBSCRIBE and that of UNSUBSCRIBE messages come, before and behind it
//!   none do. A RESP2 client needs this: it would take a late message for the reply to its next command.
//! - What a publisher wrote before it published is as safe as `appendfsync` promises before the message
//!   leaves: nobody hears of a write that a crash then takes back.
//! - A publisher waits for no subscriber; only for others who publish to the same ones, while they send.
//!
//! What is not: that a message arrives at all; that messages of two publishers arrive everywhere in the
//! same order; where among the replies to a RESP3 client's own commands a message comes.
//!
//! # How
//!
//! The registry maps a name to a list of subscriptions. A publisher takes a reference to the lists and
//! lets go of the registry before it sends; a list that somebody is sending to is copied by whoever
//! changes it. So a list may be old when it is used. What counts is the subscription's own `live`, which
//! is looked at and changed only during the subscriber's turn to send ([`Outbox::turn`]): UNSUBSCRIBE
//! clears it and sends the confirmation in one turn, SUBSCRIBE enters the registry and sends the
//! confirmation in one turn, a publisher looks and sends in one turn.
//!
//! The publisher sends to each socket itself, as far as the kernel takes it at once; only the rest is
//! queued for the subscriber's push thread. And publishers to the same subscribers send for each other
//! (`delivery`): whoever finds nobody sending sends all that waits, so that a socket gets in one call what
//! several have published. A message is encoded once for each dialect, not for each subscriber.
//!
//! Measured, CPU of the server for one message to one of 50 subscribers: 4 µs from one publisher, nearly
//! all of it in `send`, and 1 µs from eight who send for each other. Queueing every message and waking the
//! subscriber's thread costs 15 and 3 µs, for it is the thread's turn that is dear.
//!
//! A subscriber that does not read is cut off at `client-output-buffer-limit pubsub`.
//!
//! Out of scope: sharded channels; telling other nodes (`engine::messages`).

pub(crate) mod classes;
pub(crate) mod commands;
pub(crate) mod delivery;
pub(crate) mod notify;

pub use delivery::{Delivered, Message};

use crate::config::OutputLimit;
use crate::engine::outbox::{Outbox, SendError, Turn};
use crate::glob::Pattern;
use crate::memory::account::{Held, Sum};
use crate::protocol::{Dialect, Reply};
use delivery::{LANES, Lane, Target};
use parking_lot::RwLock;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::Relaxed};

/// Channels and patterns that one client may listen to. With the longest names they take about as much
/// memory as may wait for a subscriber.
pub const SUBSCRIPTIONS_MAX: usize = 10_000;
/// The longest name of a channel, and the longest pattern. It also bounds the time that matching takes.
pub use crate::glob::PATTERN_BYTES_MAX as NAME_BYTES_MAX;
/// A subscription without its name: its places in the maps and lists here, as the allocator rounds them.
const SUBSCRIPTION_BYTES: usize = 256;

/// What a subscription's name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The name of a channel.
    Channel,
    /// A glob pattern of such names.
    Pattern,
}

type Name = Arc<[u8]>;
/// In the order in which they subscribed.
type List = Arc<Vec<Arc<Subscription>>>;

/// The registry.
#[derive(Debug, Default)]
pub struct PubSub {
    registry: RwLock<Registry>,
    lanes: [Lane; LANES],
}

#[derive(Debug, Default)]
struct Registry {
    channels: HashMap<Name, List>,
    /// In order, so that who listens to several gets a message from them in the same order each time.
    patterns: BTreeMap<Name, (Pattern, List)>,
}

/// One client, as publishers see it.
#[derive(Debug)]
pub struct Subscriber {
    /// Its address, for the server's log.
    pub addr: SocketAddr,
    outbox: Arc<Outbox>,
    /// What messages to it are written in.
    dialect: AtomicU8,
    /// How many channels and patterns it listens to, by [`Kind`].
    counts: [AtomicUsize; 2],
}

#[derive(Debug)]
pub(crate) struct Subscription {
    subscriber: Arc<Subscriber>,
    /// Looked at and changed only during the subscriber's turn.
    live: AtomicBool,
    /// What it takes in memory.
    bytes: usize,
}

impl Subscriber {
    /// A client that listens to nothing yet.
    pub fn new(outbox: Arc<Outbox>, addr: SocketAddr) -> Subscriber {
        Subscriber { addr, outbox, dialect: AtomicU8::default(), counts: Default::default() }
    }

    /// How many channels or patterns it listens to.
    pub fn count(&self, kind: Kind) -> usize {
        self.counts[kind as usize].load(Relaxed)
    }

    /// Whether it listens to anything.
    pub fn listens(&self) -> bool {
        self.count(Kind::Channel) + self.count(Kind::Pattern) > 0
    }

    /// Messages to it are written so from now on.
    pub fn speak(&self, dialect: Dialect) {
        self.dialect.store(dialect as u8, Relaxed);
    }
}

impl PubSub {
    /// The channels that somebody listens to by name.
    pub fn channels(&self) -> Vec<Name> {
        self.registry.read().channels.keys().cloned().collect()
    }

    /// How many listen to a channel by name.
    pub fn listeners(&self, channel: &[u8]) -> usize {
        self.registry.read().channels.get(channel).map_or(0, |list| list.len())
    }

    /// How many different channels are listened to, and how many different patterns.
    pub fn counts(&self) -> (usize, usize) {
        let registry = self.registry.read();
        (registry.channels.len(), registry.patterns.len())
    }

    /// Finds out who gets a message. None if nobody does.
    pub fn address(&self, channel: &[u8], payload: &[u8]) -> Option<Message> {
        let registry = self.registry.read();
        let by_name = registry.channels.get(channel).map(|list| (None, Arc::clone(list)));
        let by_pattern =
            registry.patterns.iter().filter(|(_, (pattern, _))| pattern.matches(channel));
        let by_pattern =
            by_pattern.map(|(name, (_, list))| (Some(Arc::clone(name)), Arc::clone(list)));
        let targets: Vec<Target> = by_name.into_iter().chain(by_pattern).collect();
        drop(registry);
        (!targets.is_empty()).then(|| Message::new(targets, channel, payload))
    }

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

/// What one client listens to. Owned by its connection's thread; dropped, it listens to nothing.
#[derive(Debug)]
pub struct Subscriptions {
    pubsub: Arc<PubSub>,
    subscriber: Arc<Subscriber>,
    channels: BTreeMap<Name, Arc<Subscription>>,
    patterns: BTreeMap<Name, Arc<Subscription>>,
    /// What all of them take, for the sum over all clients.
    held: Held,
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        self.leave_all();
    }
}

impl Subscriptions {
    /// None yet. What they will take is part of `memory`.
    pub fn new(pubsub: Arc<PubSub>, subscriber: Arc<Subscriber>, memory: &Sum) -> Subscriptions {
        let (channels, patterns) = (BTreeMap::new(), BTreeMap::new());
        Subscriptions { pubsub, subscriber, channels, patterns, held: Held::new(memory) }
    }

    /// How many there are, channels and patterns.
    pub fn len(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Listens to these names and sends a confirmation for each, in `dialect`, as messages will be; returns
    /// how many bytes that took. The caller has sent all replies to earlier commands, and has looked that
    /// no name is longer than a pattern may be.
    pub fn subscribe<'n>(
        &mut self,
        kind: Kind,
        names: impl Iterator<Item = &'n [u8]>,
        dialect: Dialect,
        limit: OutputLimit,
    ) -> Result<usize, SendError> {
        let (pubsub, subscriber) = (Arc::clone(&self.pubsub), Arc::clone(&self.subscriber));
        let turn = subscriber.outbox.turn();
        subscriber.speak(dialect);
        let mut reply = confirmations(dialect, limit);
        for name in names {
            if !self.own(kind).contains_key(name) {
                let pattern = match kind {
                    Kind::Channel => None,
                    Kind::Pattern => Some(Pattern::parse(name).expect("the caller has looked")),
                };
                let parsed_bytes = pattern.as_ref().map_or(0, Pattern::allocated_bytes);
                let (name, live) = (Name::from(name), AtomicBool::new(true));
                let bytes = SUBSCRIPTION_BYTES + name.len() + parsed_bytes;
                let subscriber = Arc::clone(&subscriber);
                let subscription = Arc::new(Subscription { subscriber, live, bytes });
                pubsub.join(&name, pattern, &subscription);
                self.held.set(self.held.get() + bytes);
                self.own(kind).insert(name, subscription);
            }
            self.confirm(kind, ["subscribe", "psubscribe"], Some(name), &mut reply);
        }
        send(turn, &reply, limit)
    }

    /// Stops listening to these names, or to all of this kind, and sends a confirmation for each; for
    /// none, one that says so.
    pub fn unsubscribe<'n>(
        &mut self,
        kind: Kind,
        names: impl ExactSizeIterator<Item = &'n [u8]>,
        dialect: Dialect,
        limit: OutputLimit,
    ) -> Result<usize, SendError> {
        const VERBS: [&str; 2] = ["unsubscribe", "punsubscribe"];
        let subscriber = Arc::clone(&self.subscriber);
        let turn = subscriber.outbox.turn();
        let mut reply = confirmations(dialect, limit);
        if names.len() > 0 {
            for name in names {
                self.leave(kind, name);
                self.confirm(kind, VERBS, Some(name), &mut reply);
            }
        } else if self.own(kind).is_empty() {
            self.confirm(kind, VERBS, None, &mut reply);
        } else {
            while let Some((name, _)) = self.own(kind).first_key_value() {
                let name = Arc::clone(name);
                self.leave(kind, &name);
                self.confirm(kind, VERBS, Some(&name), &mut reply);
            }
        }
        send(turn, &reply, limit)
    }

    /// Stops listening to anything, without a word.
    pub fn leave_all(&mut self) {
        if self.is_empty() {
            return;
        }
        let subscriber = Arc::clone(&self.subscriber);
        let _turn = subscriber.outbox.turn();
        for kind in [Kind::Channel, Kind::Pattern] {
            while let Some((name, _)) = self.own(kind).first_key_value() {
                let name = Arc::clone(name);
                self.leave(kind, &name);
            }
        }
    }

    /// During the subscriber's turn.
    fn leave(&mut self, kind: Kind, name: &[u8]) {
        let Some((name, subscription)) = self.own(kind).remove_entry(name) else { return };
        subscription.live.store(false, Relaxed);
        self.held.set(self.held.get() - subscription.bytes);
        self.pubsub.leave(kind, &name, &subscription);
        self.count();
    }

    fn confirm(&self, kind: Kind, verbs: [&str; 2], name: Option<&[u8]>, reply: &mut Reply) {
        self.count();
        reply.push(3);
        reply.bulk(verbs[kind as usize].as_bytes());
        reply.bulk_or_nil(name);
        reply.count(self.len());
    }

    fn own(&mut self, kind: Kind) -> &mut BTreeMap<Name, Arc<Subscription>> {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
        }
    }

    fn count(&self) {
        for (count, own) in self.subscriber.counts.iter().zip([&self.channels, &self.patterns]) {
            count.store(own.len(), Relaxed);
        }
    }
}

/// A buffer for confirmations, which grows no longer than the client's limit.
fn confirmations(dialect: Dialect, limit: OutputLimit) -> Reply {
    let mut reply = Reply::new(dialect);
    if limit.hard_bytes > 0 {
        reply.set_limit(limit.hard_bytes as usize);
    }
    reply
}

fn send(turn: Turn<'_>, reply: &Reply, limit: OutputLimit) -> Result<usize, SendError> {
    let len = reply.bytes().len();
    if reply.is_over_limit() {
        return Err(SendError::OverLimit(len));
    }
    turn.send(reply.bytes(), 0, limit).map(|()| len)
}
