//! Messages on their way from PUBLISH and from keyspace events to the subscribers.
//!
//! A command only notes what there is to publish, because it may run with shards locked. It is sent after
//! the gate, when all that this connection wrote before is as safe as promised, and before the replies of
//! the batch. Another publisher may send it, after that (`lane`).

use super::classes::Classes;
use super::delivery::{Delivered, send_all};
use super::{LastMessage, Message, Subscriber};
use crate::clients::outbox::SendError;
use crate::cluster::progress::Forwarded;
use crate::config::{ClientClass, Id};
use crate::engine::{Engine, Session};
use crate::metrics::Stat;
use crate::observe::cut::record_cut;
use crate::store::effect::Effect;
use crate::store::{Event, Tx};

/// These stand before a key's name, and before an event's. There is one database.
const KEYSPACE: &[u8] = b"__keyspace@0__:";
const KEYEVENT: &[u8] = b"__keyevent@0__:";
/// Messages held at once, so that a command on a million keys does not make two million of them.
const MESSAGES_AT_ONCE: usize = 256;

/// Something to publish.
#[derive(Debug)]
pub enum Notice {
    /// A client's message. Its receivers are known, for the client has been told how many there are.
    Message(Message),
    /// Something that happened to a key.
    Event(Event),
}

impl Engine {
    /// Publishes a client's message. Returns the number of receivers here. Every message of a client of this
    /// server passes here once, and from here a leader forwards it to its followers.
    pub(crate) fn publish(&self, session: &mut Session, channel: &[u8], payload: &[u8]) -> usize {
        self.metrics[Stat::MessagesPublished].increment();
        self.forward(channel, payload);
        let Some(message) = self.pubsub.address(channel, payload) else { return 0 };
        let receivers = message.receivers();
        session.notices.push(Notice::Message(message));
        receivers
    }

    /// Forwards a message to followers, whose subscribers get it after what was written before it.
    fn forward(&self, channel: &[u8], payload: &[u8]) {
        let Some(persistence) = &self.persistence else { return };
        if self.followers.is_empty() {
            return;
        }
        let after = persistence.log.appended();
        let message = Forwarded::new(after, channel, payload, self.clients.memory());
        self.followers.forward(message);
        persistence.log.written_moved.notify();
    }

    /// Delivers what a client of the leader published to the subscribers of this server, and forwards it to
    /// this server's followers.
    pub fn deliver_forwarded(&self, channel: &[u8], payload: &[u8]) {
        self.forward(channel, payload);
        self.deliver_when_committed(self.pubsub.address(channel, payload).map(Notice::Message));
    }

    fn enabled_classes(&self) -> Classes {
        Classes::from_bits(self.config.int(Id::NotifyKeyspaceEvents))
    }

    /// Has a transaction collect the events that are published here.
    pub(crate) fn collect_events(&self, tx: &mut Tx<'_>) {
        let classes = self.enabled_classes();
        if classes.have_a_channel() {
            tx.collect_events(move |event| classes.has(Classes::of(event)));
        }
    }

    /// Publishes events that no client's command caused: of the sweeper, of eviction and of a leader's
    /// records. No lock may be held.
    pub fn publish_events(&self, events: Vec<Event>) {
        self.deliver_when_committed(events.into_iter().map(Notice::Event));
    }

    /// Sends all notices in order, and returns after they have been sent.
    pub(super) fn deliver_and_wait(&self, notices: impl IntoIterator<Item = Notice>) {
        let mut last = LastMessage::default();
        self.deliver_notices(notices, &mut last);
        self.as_sender(|send| self.pubsub.wait_sent(&last, send));
    }

    /// Sends all notices in order, some at a time, after the publisher's `last` message. They may have been left
    /// with another publisher when it returns. No lock may be held.
    pub(crate) fn deliver_notices(
        &self,
        notices: impl IntoIterator<Item = Notice>,
        last: &mut LastMessage,
    ) {
        let classes = self.enabled_classes();
        let mut messages = Vec::new();
        for notice in notices {
            match notice {
                Notice::Message(message) => messages.push(message),
                Notice::Event(event) => self.address_event(classes, &event, &mut messages),
            }
            if messages.len() >= MESSAGES_AT_ONCE {
                self.deliver(&mut messages, last);
            }
        }
        self.deliver(&mut messages, last);
    }

    /// The messages about an event: the one on the key's channel first, as in Redis.
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
        self.collect_events(&mut tx);
        tx
    }

    fn deliver(&self, messages: &mut Vec<Message>, last: &mut LastMessage) {
        if !messages.is_empty() {
            self.as_sender(|send| self.pubsub.deliver(messages, last, send));
        }
    }

    /// Before a subscriber is answered, waits for the messages whose publishers have been answered: they come
    /// before its reply. No lock may be held.
    pub(crate) fn wait_for_messages(&self, session: &Session) {
        if !session.subscriptions.is_empty() {
            self.as_sender(|send| self.pubsub.wait_left(send));
        }
    }

    /// Runs something that may send messages.
    fn as_sender(&self, run: impl FnOnce(&mut dyn FnMut(&[Message]))) {
        let mut cut = |subscriber: &Subscriber, error: &SendError| {
            let over = u64::from(matches!(error, SendError::OverLimit(_)));
            self.metrics[Stat::SubscriberLimitDisconnections].add(over);
            record_cut(&self.metrics, subscriber.addr, error);
        };
        let limit = self.config.output_limit(ClientClass::PubSub);
        let mut delivered = Delivered::default();
        run(&mut |messages| send_all(messages, limit, &mut cut, &mut delivered));
        self.metrics[Stat::MessagesDelivered].add(delivered.messages);
        self.metrics[Stat::OutputBytes].add(delivered.bytes);
    }
}

/// Applies an effect of a leader's record and emits the events that follow from it. The log does not say
/// which command it was, so INCR and its like show as `set`.
pub(crate) fn apply(tx: &mut Tx<'_>, effect: Effect<'_>) {
    if !tx.collects_events() {
        return tx.apply(effect);
    }
    // The deadline of a key that is in the table, expired or not.
    let deadline_of = |tx: &Tx<'_>, key: &[u8]| tx.find(key).map(|entry| entry.deadline());
    match effect {
        Effect::Set { key, deadline, .. } => {
            // INCR and its like set a value again with the deadline that it has.
            let expires = deadline.is_some() && deadline_of(tx, key) != Some(deadline);
            tx.apply(effect);
            tx.emit("set", key);
            if expires {
                tx.emit("expire", key);
            }
        }
        Effect::SetRange { key, .. } => {
            tx.apply(effect);
            tx.emit("setrange", key);
        }
        Effect::Del { keys } => {
            // The deletion of an expired key is an expiry, and `is_live` emits that.
            for key in keys.iter().filter(|key| tx.find(key).is_some_and(|it| tx.is_live(it))) {
                tx.emit("del", key);
            }
            tx.apply(effect);
        }
        Effect::PexpireAt { key, .. } | Effect::Persist { key } => {
            if deadline_of(tx, key).is_some() {
                let expires = matches!(effect, Effect::PexpireAt { .. });
                tx.emit(if expires { "expire" } else { "persist" }, key);
            }
            tx.apply(effect);
        }
        Effect::FlushAll => tx.apply(effect),
    }
}
