//! Messages, and their delivery to the subscribers.

use super::subscriptions::Subscriber;
use super::{List, Name};
use crate::clients::outbox::SendError;
use crate::config::OutputLimit;
use crate::protocol::{Dialect, Reply};
use std::sync::Arc;

/// Sends messages to all their receivers.
pub type Send<'f> = &'f mut dyn FnMut(&[Message]);

/// The subscribers to one name; the pattern, unless the name is the channel's own.
pub type Target = (Option<Name>, List);

/// A message, and its receivers at the time when it was published.
#[derive(Debug)]
pub struct Message {
    pub(super) targets: Vec<Target>,
    channel: Box<[u8]>,
    pub(super) payload: Box<[u8]>,
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

    /// The memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.channel.len() + self.payload.len() + size_of_val(&self.targets[..])
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

/// What has been handed to outboxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Messages. One counts for each of its receivers.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Sends messages to their receivers. A subscriber that cannot be sent to is disconnected, and `cut` is called with
/// the reason.
pub(super) fn send_all(
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
