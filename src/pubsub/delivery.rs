//! Delivery of messages: publishers to the same subscribers send for each other.

use super::subscriptions::Subscriber;
use super::{List, Name, PubSub};
use crate::clients::outbox::SendError;
use crate::config::OutputLimit;
use crate::lock::{Mutex, rank};
use crate::protocol::{Dialect, Reply};
use parking_lot::Condvar;
use std::sync::Arc;

/// Publishers in different lanes send at the same time. A message's lane follows from its first list, so
/// messages to the same subscribers are in the same lane.
pub const LANES: usize = 16;

/// A queue in which publishers leave messages, and one of them sends what all have left.
#[derive(Debug, Default)]
pub struct Lane {
    state: Mutex<LaneState, { rank::LANE }>,
    /// Signalled when messages have been sent.
    progress: Condvar,
}

#[derive(Debug, Default)]
struct LaneState {
    /// Not yet being sent. Of each publisher, at most what it hands over at once.
    waiting: Vec<Message>,
    /// The last publisher to send also sent messages of others.
    is_crowded: bool,
    /// A publisher is sending.
    is_busy: bool,
    /// The numbers of messages that have ever entered and that have been sent.
    entered: u64,
    sent: u64,
}

impl Lane {
    /// Adds messages and returns after they have been sent.
    ///
    /// A publisher that finds the lane idle sends everything in it. Publishers that come meanwhile wait;
    /// then one of them sends for all of them. In a crowd the sender first yields while more messages come
    /// in. That ends: each publisher waits here after its own, so there are at most as many rounds as
    /// connections.
    fn pass(&self, messages: &mut Vec<Message>, mut send: impl FnMut(&[Message])) {
        let mut state = self.state.lock();
        let own_len = messages.len();
        state.entered += own_len as u64;
        state.waiting.append(messages);
        let own_last = state.entered;
        while state.sent < own_last {
            if state.is_busy {
                self.progress.wait(state.raw());
                continue;
            }
            state.is_busy = true;
            let mut seen = if state.is_crowded { 0 } else { state.entered };
            while seen < state.entered {
                seen = state.entered;
                drop(state);
                std::thread::yield_now();
                state = self.state.lock();
            }
            state.is_crowded = state.waiting.len() > own_len;
            let all = std::mem::take(&mut state.waiting);
            let last = state.entered;
            drop(state);
            send(&all);
            state = self.state.lock();
            state.is_busy = false;
            state.sent = last;
            self.progress.notify_all();
        }
    }
}

/// The subscribers to one name; the pattern, unless the name is the channel's own.
pub type Target = (Option<Name>, List);

/// A message, and its receivers at the time when it was published.
#[derive(Debug)]
pub struct Message {
    targets: Vec<Target>,
    channel: Box<[u8]>,
    payload: Box<[u8]>,
}

impl Message {
    /// `targets` has at least one.
    pub(super) fn new(targets: Vec<Target>, channel: &[u8], payload: &[u8]) -> Message {
        Message { targets, channel: channel.into(), payload: payload.into() }
    }

    /// The number of receivers. A client counts once for each name by which it is subscribed.
    pub fn receivers(&self) -> usize {
        self.targets.iter().map(|(_, list)| list.len()).sum()
    }

    fn lane(&self) -> usize {
        // The list's address. Allocations are at least 32 bytes apart.
        (Arc::as_ptr(&self.targets[0].1) as usize >> 5) % LANES
    }

    /// True if both go to the same list, and to no other: then they can be sent as one.
    fn goes_with(&self, other: &Message) -> bool {
        match (&self.targets[..], &other.targets[..]) {
            ([(_, one)], [(_, other)]) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    fn write(&self, pattern: Option<&Name>, reply: &mut Reply) {
        reply.push(if pattern.is_some() { 4 } else { 3 });
        reply.bulk(if pattern.is_some() { b"pmessage" } else { b"message" });
        if let Some(pattern) = pattern {
            reply.bulk(pattern);
        }
        reply.bulk(&self.channel);
        reply.bulk(&self.payload);
    }
}

/// The result of [`PubSub::deliver`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Messages. One counts for each of its receivers.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl PubSub {
    /// Sends messages in their order and returns after all have been sent, by this thread or another. This
    /// thread may send those of others, too. A subscriber that cannot be sent to is disconnected, and `cut`
    /// is called with the reason. No lock may be held.
    pub fn deliver(
        &self,
        messages: &mut Vec<Message>,
        limit: OutputLimit,
        mut cut: impl FnMut(&Subscriber, &SendError),
    ) -> Delivered {
        let mut delivered = Delivered::default();
        while let Some(lane) = messages.first().map(Message::lane) {
            let others = messages.iter().position(|message| message.lane() != lane);
            let rest = messages.split_off(others.unwrap_or(messages.len()));
            self.lanes[lane].pass(messages, |all| send_all(all, limit, &mut cut, &mut delivered));
            *messages = rest;
        }
        delivered
    }
}

fn send_all(
    messages: &[Message],
    limit: OutputLimit,
    cut: &mut impl FnMut(&Subscriber, &SendError),
    delivered: &mut Delivered,
) {
    for alike in messages.chunk_by(Message::goes_with) {
        for (pattern, list) in &alike[0].targets {
            let pattern = pattern.as_ref();
            let mut encoded = Encoded { messages: alike, pattern, bytes: [const { None }; 3] };
            for subscription in list.iter() {
                match subscription.send(|dialect| encoded.in_dialect(dialect), limit) {
                    Ok(0) => {}
                    Ok(bytes) => {
                        delivered.messages += alike.len() as u64;
                        delivered.bytes += bytes as u64;
                    }
                    Err(error) => cut(&subscription.subscriber, &error),
                }
            }
        }
    }
}

const DIALECTS: [Dialect; 3] = [Dialect::Text, Dialect::Resp2, Dialect::Resp3];

/// Messages as bytes, in the dialects asked for so far.
struct Encoded<'m> {
    messages: &'m [Message],
    pattern: Option<&'m Name>,
    bytes: [Option<Vec<u8>>; DIALECTS.len()],
}

impl Encoded<'_> {
    fn in_dialect(&mut self, number: u8) -> &[u8] {
        let number = usize::from(number);
        self.bytes[number].get_or_insert_with(|| {
            let mut reply = Reply::new(DIALECTS[number]);
            self.messages.iter().for_each(|message| message.write(self.pattern, &mut reply));
            reply.take()
        })
    }
}
