//! Messages of channels, over a connection that is opened again when it fails.
//!
//! A message that is published while the connection is down is lost: the server keeps none. The subscriber cannot
//! know whether there was one, so each reconnection gives an [`Event::Gap`], after which the caller fetches what the
//! messages would have told it. Everything published after the gap was returned arrives as a message.

use super::connection::Connection;
use super::error::Error;
use super::executor::{Executor, pause};
use super::reply::Value;
use crate::resp::array;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After so long without a byte the server is asked whether it is there; after as long again, the connection is
/// given up.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Messages that may come before all channels are confirmed. Beyond them the connection is given up.
const EARLY_MAX: usize = 10_000;

/// An item of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message.
    Message(Message),
    /// The connection was lost and is there again. Messages in between are lost.
    Gap,
}

/// A message of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The channel's name.
    pub channel: Vec<u8>,
    /// The published bytes.
    pub payload: Vec<u8>,
}

impl Message {
    /// The payload as text; bytes that are not UTF-8 are replaced.
    pub fn payload_str(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.payload)
    }
}

/// The messages of some channels: an iterator that blocks and does not end. An error means that no node could be
/// reached within the deadline of a call; the next call tries again.
#[derive(Debug)]
pub struct Subscriber {
    executor: Arc<Executor>,
    channels: Vec<Vec<u8>>,
    link: Option<Link>,
}

#[derive(Debug)]
struct Link {
    connection: Connection,
    /// Messages that came before the last channel was confirmed.
    early: VecDeque<Message>,
    /// A PING was sent, and nothing has come since.
    is_asked: bool,
}

impl Subscriber {
    /// Subscribes. After it returns, every message is received.
    pub(super) fn new(
        executor: Arc<Executor>,
        channels: Vec<Vec<u8>>,
    ) -> Result<Subscriber, Error> {
        if channels.is_empty() {
            return Err(Error::Invalid("a subscription to no channel".to_owned()));
        }
        let mut subscriber = Subscriber { executor, channels, link: None };
        subscriber.link = Some(subscriber.connect()?);
        Ok(subscriber)
    }

    /// Connects to the leader and subscribes, until the deadline of a call.
    fn connect(&self) -> Result<Link, Error> {
        let deadline = self.executor.deadline();
        let mut attempt = 0;
        loop {
            let linked = self.executor.nodes.connect_to_leader(deadline).and_then(|connection| {
                self.subscribe(connection, deadline)
                    .map_err(|error| Error::Unavailable(error.to_string()))
            });
            match linked {
                Err(Error::Unavailable(_)) if pause(attempt, deadline) => attempt += 1,
                linked => return linked,
            }
        }
    }

    fn subscribe(&self, mut connection: Connection, deadline: Instant) -> io::Result<Link> {
        let words = std::iter::once(&b"SUBSCRIBE"[..]);
        let words: Vec<&[u8]> = words.chain(self.channels.iter().map(Vec::as_slice)).collect();
        let mut bytes = vec![];
        array(&mut bytes, &words);
        connection.send(&bytes, self.channels.len(), deadline).map_err(|failure| failure.error)?;
        let (mut early, mut missing) = (VecDeque::new(), self.channels.len());
        while missing > 0 {
            match connection.next(deadline)? {
                Value::Error(text) => return Err(io::Error::other(text)),
                Value::Push(items) if is_kind(&items, b"subscribe") => missing -= 1,
                other if early.len() < EARLY_MAX => early.extend(message(other)),
                _ => return Err(io::Error::other("too many messages before the confirmation")),
            }
        }
        Ok(Link { connection, early, is_asked: false })
    }
}

impl Link {
    /// The next message, or an error of the connection.
    fn receive(&mut self) -> io::Result<Message> {
        loop {
            if let Some(message) = self.early.pop_front() {
                return Ok(message);
            }
            match self.connection.next(Instant::now() + SILENCE_MAX) {
                Ok(value) => {
                    self.is_asked = false;
                    if let Some(message) = message(value) {
                        return Ok(message);
                    }
                }
                Err(error) if error.kind() == ErrorKind::TimedOut && !self.is_asked => {
                    self.ask()?
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks the server whether it is there.
    fn ask(&mut self) -> io::Result<()> {
        self.is_asked = true;
        let mut ping = vec![];
        array(&mut ping, &[b"PING"]);
        let sent = self.connection.send(&ping, 1, Instant::now() + SILENCE_MAX);
        sent.map_err(|failure| failure.error)
    }
}

impl Iterator for Subscriber {
    type Item = Result<Event, Error>;

    fn next(&mut self) -> Option<Result<Event, Error>> {
        if let Some(link) = &mut self.link {
            if let Ok(message) = link.receive() {
                return Some(Ok(Event::Message(message)));
            }
            self.link = None;
        }
        Some(self.connect().map(|link| {
            self.link = Some(link);
            Event::Gap
        }))
    }
}

fn is_kind(items: &[Value], kind: &[u8]) -> bool {
    matches!(items.first(), Some(Value::Bytes(bytes)) if bytes == kind)
}

/// The message in a push: `message`, channel, payload.
fn message(value: Value) -> Option<Message> {
    let Value::Push(items) = value else { return None };
    if !is_kind(&items, b"message") {
        return None;
    }
    match <[Value; 3]>::try_from(items) {
        Ok([_, Value::Bytes(channel), Value::Bytes(payload)]) => Some(Message { channel, payload }),
        _ => None,
    }
}
