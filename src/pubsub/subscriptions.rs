//! The subscriptions of one client. They change only during the client's turn to send, together with the
//! confirmation.

use super::glob::Pattern;
use super::{Kind, Name, PubSub};
use crate::clients::outbox::{Outbox, SendError};
use crate::clients::socket::Addr;
use crate::config::OutputLimit;
use crate::memory::account::{Account, Total};
use crate::protocol::{Dialect, Reply};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::Relaxed};

/// Bytes of a subscription without its name: its places in the maps and lists, as the allocator rounds them.
const SUBSCRIPTION_BYTES: usize = 256;

/// One client, as publishers see it.
#[derive(Debug)]
pub struct Subscriber {
    /// Its address, for the server's log.
    pub addr: Addr,
    outbox: Arc<Outbox>,
    /// The dialect of messages to it.
    dialect: AtomicU8,
    /// The numbers of its channels and patterns, by [`Kind`].
    counts: [AtomicUsize; 2],
}

/// One client's subscription to one name.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(super) subscriber: Arc<Subscriber>,
    /// Read and changed only during the subscriber's turn.
    live: AtomicBool,
    /// The memory that it takes.
    bytes: usize,
}

impl Subscriber {
    /// A client without subscriptions.
    pub fn new(outbox: Arc<Outbox>, addr: Addr) -> Subscriber {
        Subscriber { addr, outbox, dialect: AtomicU8::default(), counts: Default::default() }
    }

    /// The number of its channels or patterns.
    pub fn count(&self, kind: Kind) -> usize {
        self.counts[kind as usize].load(Relaxed)
    }

    /// True if it is subscribed to anything.
    pub fn listens(&self) -> bool {
        self.count(Kind::Channel) + self.count(Kind::Pattern) > 0
    }

    /// Sets the dialect of messages to it.
    pub fn speak(&self, dialect: Dialect) {
        self.dialect.store(dialect as u8, Relaxed);
    }
}

impl Subscription {
    /// Sends the bytes that `encode` has for the subscriber's dialect. Returns their number: 0 if the
    /// subscription has ended meanwhile.
    pub(super) fn send<'b>(
        &self,
        encode: impl FnOnce(u8) -> &'b [u8],
        limit: OutputLimit,
    ) -> Result<usize, SendError> {
        let turn = self.subscriber.outbox.turn();
        if !self.live.load(Relaxed) {
            return Ok(0);
        }
        let bytes = encode(self.subscriber.dialect.load(Relaxed));
        turn.send(bytes, 0, limit).map(|()| bytes.len())
    }
}

/// All subscriptions of one client. Owned by its connection's thread; they end when this is dropped.
#[derive(Debug)]
pub struct Subscriptions {
    pubsub: Arc<PubSub>,
    subscriber: Arc<Subscriber>,
    /// By [`Kind`].
    own: [BTreeMap<Name, Arc<Subscription>>; 2],
    /// The memory that they take, as a part of all clients'.
    held: Account,
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        self.leave_all();
    }
}

impl Subscriptions {
    /// None yet. The memory that they will take is part of `memory`.
    pub fn new(pubsub: Arc<PubSub>, subscriber: Arc<Subscriber>, memory: &Total) -> Subscriptions {
        Subscriptions { pubsub, subscriber, own: Default::default(), held: Account::new(memory) }
    }

    /// The number of channels and patterns.
    pub fn len(&self) -> usize {
        self.own.iter().map(BTreeMap::len).sum()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Subscribes to these names and sends a confirmation for each, in `dialect`, as messages will be.
    /// Returns the number of bytes sent. The caller has sent all replies to earlier commands, and has checked
    /// that no name is longer than a pattern may be.
    pub fn subscribe<'n>(
        &mut self,
        kind: Kind,
        names: impl Iterator<Item = &'n [u8]>,
        dialect: Dialect,
        limit: OutputLimit,
    ) -> Result<usize, SendError> {
        self.in_turn(dialect, limit, |this, reply| {
            this.subscriber.speak(dialect);
            for name in names {
                if !this.own[kind as usize].contains_key(name) {
                    this.join(kind, name);
                }
                this.confirm(kind, ["subscribe", "psubscribe"], Some(name), reply);
            }
        })
    }

    /// Unsubscribes from these names, or from all of this kind, and sends a confirmation for each; if there
    /// are none, one that says so.
    pub fn unsubscribe<'n>(
        &mut self,
        kind: Kind,
        names: impl ExactSizeIterator<Item = &'n [u8]>,
        dialect: Dialect,
        limit: OutputLimit,
    ) -> Result<usize, SendError> {
        const VERBS: [&str; 2] = ["unsubscribe", "punsubscribe"];
        self.in_turn(dialect, limit, |this, reply| {
            let all = names.len() == 0;
            let names = if all { this.names(kind) } else { names.map(Name::from).collect() };
            if names.is_empty() {
                this.confirm(kind, VERBS, None, reply);
            }
            for name in &names {
                this.leave(kind, name);
                this.confirm(kind, VERBS, Some(name), reply);
            }
        })
    }

    /// Changes subscriptions during the subscriber's turn, and sends the confirmations, of which no more than
    /// the client's limit are kept. Returns the number of bytes sent.
    fn in_turn(
        &mut self,
        dialect: Dialect,
        limit: OutputLimit,
        change: impl FnOnce(&mut Self, &mut Reply),
    ) -> Result<usize, SendError> {
        let subscriber = Arc::clone(&self.subscriber);
        let turn = subscriber.outbox.turn();
        let mut reply = Reply::new(dialect);
        if limit.hard_bytes > 0 {
            reply.set_limit(limit.hard_bytes as usize);
        }
        change(self, &mut reply);
        let len = reply.bytes().len();
        if reply.is_over_limit() {
            return Err(SendError::OverLimit(len));
        }
        turn.send(reply.bytes(), 0, limit).map(|()| len)
    }

    /// Ends all subscriptions, without a confirmation.
    pub fn leave_all(&mut self) {
        if self.is_empty() {
            return;
        }
        let subscriber = Arc::clone(&self.subscriber);
        let _turn = subscriber.outbox.turn();
        for kind in [Kind::Channel, Kind::Pattern] {
            self.names(kind).iter().for_each(|name| self.leave(kind, name));
        }
    }

    fn names(&self, kind: Kind) -> Vec<Name> {
        self.own[kind as usize].keys().cloned().collect()
    }

    /// Only during the subscriber's turn, as [`Subscriptions::leave`].
    fn join(&mut self, kind: Kind, name: &[u8]) {
        let pattern = match kind {
            Kind::Channel => None,
            Kind::Pattern => Some(Pattern::parse(name).expect("the caller has checked its length")),
        };
        let parsed_bytes = pattern.as_ref().map_or(0, Pattern::allocated_bytes);
        let name = Name::from(name);
        let subscription = Arc::new(Subscription {
            subscriber: Arc::clone(&self.subscriber),
            live: AtomicBool::new(true),
            bytes: SUBSCRIPTION_BYTES + name.len() + parsed_bytes,
        });
        self.pubsub.join(&name, pattern, &subscription);
        self.held.set(self.held.get() + subscription.bytes);
        self.own[kind as usize].insert(name, subscription);
    }

    fn leave(&mut self, kind: Kind, name: &[u8]) {
        let own = &mut self.own[kind as usize];
        let Some((name, subscription)) = own.remove_entry(name) else { return };
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

    fn count(&self) {
        for (count, own) in self.subscriber.counts.iter().zip(&self.own) {
            count.store(own.len(), Relaxed);
        }
    }
}
