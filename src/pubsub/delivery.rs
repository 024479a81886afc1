//! Sending messages: publishers send for each other.

use super::{List, Name, PubSub, Subscriber, Subscription};
use crate::clients::outbox::SendError;
use crate::config::OutputLimit;
use crate::lock::{Mutex, rank};
use crate::protocol::{Dialect, Reply};
use parking_lot::Condvar;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Publishers to different lists send at the same time, unless they have the same lane.
pub const LANES: usize = 16;

/// Where publishers wait for each other.
#[derive(Debug, Default)]
pub struct Lane {
    state: Mutex<LaneState, { rank::LANE }>,
    /// Signalled when messages have been sent.
    progress: Condvar,
}

#[derive(Debug, Default)]
struct LaneState {
    /// Not yet being sent: of each publisher, at most what it hands over at once.
    waiting: Vec<Message>,
    /// Whether the last one to send found messages of others beside its own.
    is_crowded: bool,
    /// Whether somebody is sending.
    is_busy: bool,
    /// How many messages have ever entered, and how many have been sent.
    entered: u64,
    left: u64,
}

impl Lane {
    /// Adds messages and returns when they have been sent. Whoever finds nobody sending sends all that is
    /// there; those who come meanwhile wait, and one of them sends for all of them next. In a crowd it
    /// first steps aside for those who are just about to come, as the sync thread does: at most as often
    /// as there are connections, for each of them then waits here.
    fn pass(&self, messages: &mut Vec<Message>, mut send: impl FnMut(&[Message])) {
        let mut state = self.state.lock();
        let own_len = messages.len();
        state.entered += own_len as u64;
        state.waiting.append(messages);
        let own = state.entered;
        while state.left < own {
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
            let (all, upto) = (std::mem::take(&mut state.waiting), state.entered);
            drop(state);
            send(&all);
            state = self.state.lock();
            (state.is_busy, state.left) = (false, upto);
            self.progress.notify_all();
        }
    }
}

/// Those who listen by one name; the pattern, unless that is the channel's name itself.
pub type Target = (Option<Name>, List);

/// A message, and those who listened when it was published.
#[derive(Debug)]
pub struct Message {
    targets: Vec<Target>,
    channel: Box<[u8]>,
    payload: Box<[u8]>,
}

impl Message {
    pub(super) fn new(targets: Vec<Target>, channel: &[u8], payload: &[u8]) -> Message {
        Message { targets, channel: channel.into(), payload: payload.into() }
    }

    /// How many get it, counting a client once for each name by which it listens.
    pub fn receivers(&self) -> usize {
        self.targets.iter().map(|(_, list)| list.len()).sum()
    }

    /// By the list, so that those who publish to the same subscribers meet.
    fn lane(&self) -> usize {
        // Allocations are some bytes apart.
        (Arc::as_ptr(&self.targets[0].1) as usize >> 5) % LANES
    }

    /// Whether both go to the same list, and to no other: then they can be sent as one.
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

/// What [`PubSub::deliver`] has handed to outboxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// A message counts for each of its receivers.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl PubSub {
    /// Sends messages in their order, and those of others who wait to send theirs, and returns when all have
    /// been sent, by whomever. A subscriber that cannot be sent to is cut off, and told to `cut` with
    /// the reason. No lock may be held.
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
            let mut encoded =
                Encoded { messages: alike, pattern: pattern.as_ref(), bytes: [const { None }; 3] };
            for subscription in list.iter() {
                match subscription.send(&mut encoded, limit) {
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

/// Messages as bytes, in the dialects that somebody has asked for.
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

impl Subscription {
    /// How many bytes it was sent: none, if it has ended meanwhile.
    fn send(&self, encoded: &mut Encoded<'_>, limit: OutputLimit) -> Result<usize, SendError> {
        let turn = self.subscriber.outbox.turn();
        if !self.live.load(Relaxed) {
            return Ok(0);
        }
        let bytes = encoded.in_dialect(self.subscriber.dialect.load(Relaxed));
        turn.send(bytes, 0, limit).map(|()| bytes.len())
    }
}
