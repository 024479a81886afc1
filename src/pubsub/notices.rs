//! Messages: from PUBLISH and from events about keys to the subscribers.
//!
//! A command only notes what there is to tell, because it may run with shards locked. It is sent behind
//! the gate, when all that this connection wrote before is as safe as promised, and before the replies of
//! the batch.

use super::{Message, Subscriber};
use crate::cluster::progress::Forwarded;
use crate::config::{ClientClass, Id};
use crate::engine::outbox::SendError;
use crate::engine::{Engine, Session};
use crate::event::{Classes, Event};
use crate::store::Tx;

/// Before a key's name, or an event's. There is one database.
const KEYSPACE: &[u8] = b"__keyspace@0__:";
const KEYEVENT: &[u8] = b"__keyevent@0__:";
/// Messages held at once, so that a command on a million keys does not make two million of them.
const MESSAGES_AT_ONCE: usize = 256;

/// Something to tell subscribers.
#[derive(Debug)]
pub enum Notice {
    /// Published by a client; it is known who gets it, for the client has been told how many do.
    Message(Message),
    /// Something happened to a key.
    Event(Event),
}

impl Engine {
    /// Publishes for a client; returns how many get it here. Every message that a client of this server
    /// publishes passes here, and once: a leader passes it on to its followers from here.
    pub(crate) fn publish(&self, session: &mut Session, channel: &[u8], payload: &[u8]) -> usize {
        self.metrics.messages_published.increment();
        self.forward(channel, payload);
        let Some(message) = self.pubsub.address(channel, payload) else { return 0 };
        let receivers = message.receivers();
        session.notices.push(Notice::Message(message));
        receivers
    }

    /// Passes a message on to followers, whose subscribers get it behind what was written before it.
    fn forward(&self, channel: &[u8], payload: &[u8]) {
        let Some(persistence) = self.persistence.as_ref().filter(|_| !self.followers.is_empty())
        else {
            return;
        };
        let behind = persistence.log.appended();
        let message = Forwarded::new(behind, channel, payload, self.clients.memory());
        self.followers.forward(message);
        persistence.log.wake_readers();
    }

    /// Delivers what a client of the leader published, to the subscribers of this server and of those that
    /// follow it.
    pub fn deliver_forwarded(&self, channel: &[u8], payload: &[u8]) {
        self.forward(channel, payload);
        self.deliver(&mut Vec::from_iter(self.pubsub.address(channel, payload)));
    }

    /// Which events about keys somebody wants to be told of.
    pub(crate) fn told_classes(&self) -> Classes {
        Classes::from_bits(self.config.int(Id::NotifyKeyspaceEvents))
    }

    /// Tells of events that no client's command caused: for the sweeper and for eviction, which note them
    /// in a transaction begun with `begin_shard` and call this when it has ended, and for a
    /// leader's records.
    pub fn announce(&self, events: Vec<Event>) {
        self.deliver_notices(events.into_iter().map(Notice::Event));
    }

    /// Sends all of it in order, some at a time. No lock may be held.
    pub(crate) fn deliver_notices(&self, notices: impl IntoIterator<Item = Notice>) {
        let (classes, mut messages) = (self.told_classes(), Vec::new());
        for notice in notices {
            match notice {
                Notice::Message(message) => messages.push(message),
                Notice::Event(event) => self.address_event(classes, &event, &mut messages),
            }
            if messages.len() >= MESSAGES_AT_ONCE {
                self.deliver(&mut messages);
            }
        }
        self.deliver(&mut messages);
    }

    /// The messages that tell of an event: the one on the key's channel first, as in Redis.
    fn address_event(&self, classes: Classes, event: &Event, messages: &mut Vec<Message>) {
        if classes.has(Classes::KEYSPACE) {
            let channel = [KEYSPACE, &event.key].concat();
            messages.extend(self.pubsub.address(&channel, event.name.as_bytes()));
        }
        if classes.has(Classes::KEYEVENT) {
            let channel = [KEYEVENT, event.name.as_bytes()].concat();
            messages.extend(self.pubsub.address(&channel, &event.key));
        }
    }

    /// A transaction on a shard, for the server's own deletions.
    pub(crate) fn begin_shard(&self, shard: usize) -> Tx<'_> {
        let mut tx = self.store.begin_shard(shard, || self.clock.now());
        tx.tell_events(self.told_classes());
        tx
    }

    fn deliver(&self, messages: &mut Vec<Message>) {
        if messages.is_empty() {
            return;
        }
        let cut = |subscriber: &Subscriber, error: &SendError| {
            let over = u64::from(matches!(error, SendError::OverLimit(_)));
            self.metrics.subscriber_limit_disconnections.add(over);
            self.note_cut(subscriber.addr, error);
        };
        let limit = self.config.output_limit(ClientClass::PubSub);
        let delivered = self.pubsub.deliver(messages, limit, cut);
        self.metrics.messages_delivered.add(delivered.messages);
        self.metrics.output_bytes.add(delivered.bytes);
    }
}
