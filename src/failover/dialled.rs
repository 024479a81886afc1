//! One address that this node dials: what waits to be sent there, and the connection, if there is one.
//!
//! Threads that have something to say put it into the queue and go on. The threads `peer-<n>` and `peer-<n>-in`
//! (`dialler.rs`) own the connection.

use crate::cluster::message::Message;
use crate::cluster::term::{ClusterId, NodeId};
use crate::config::Address;
use crate::lock::Mutex;
use crate::signal::Signal;
use std::collections::VecDeque;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// Lines that wait for one address at most. Then the oldest is dropped: a newer one says more.
const QUEUE_LEN_MAX: usize = 64;

/// An address that this node dials.
#[derive(Debug)]
pub(super) struct Dialled {
    pub address: Address,
    /// True if the settings list it: what it answers tells a node without a cluster which one to join.
    pub is_listed: bool,
    /// The number in its thread's name.
    pub number: u64,
    state: Mutex<State>,
    changed: Signal,
}

#[derive(Debug, Default)]
struct State {
    /// When each was put here, and the line.
    queue: VecDeque<(Instant, Message)>,
    dropped: u64,
    /// The node that answered last.
    id: Option<NodeId>,
    /// The cluster that it named; None while there is no connection.
    link: Option<Option<ClusterId>>,
    /// A second handle of the socket, to cut the connection with.
    socket: Option<TcpStream>,
    heard_at: Option<Instant>,
    /// When the last connection ended, if it had come to an answer.
    parted_at: Option<Instant>,
    /// When the first line was sent after the last answer.
    unanswered_since: Option<Instant>,
    is_over: bool,
    is_started: bool,
}

/// Why there is nothing more to send over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quiet {
    /// It was cut, or its other thread has ended it.
    Ended,
    /// A line has had no answer for the whole timeout.
    Unanswered,
}

/// What is known of a dialled address, for routing and for figures.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub id: Option<NodeId>,
    pub is_linked: bool,
    /// The cluster that the other node named on this connection.
    pub cluster: Option<ClusterId>,
    pub heard_at: Option<Instant>,
    /// When the last connection ended.
    pub parted_at: Option<Instant>,
    pub dropped: u64,
}

impl Dialled {
    pub fn new(address: Address, is_listed: bool, number: u64) -> Dialled {
        let (state, changed) = Default::default();
        Dialled { address, is_listed, number, state, changed }
    }

    /// Changes the state and wakes the sending thread.
    fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.lock());
        self.changed.notify();
        result
    }

    /// Adds a line, for whenever there is a connection.
    pub fn put(&self, message: Message) {
        self.update(|state| {
            if state.queue.len() >= QUEUE_LEN_MAX {
                state.queue.pop_front();
                state.dropped += 1;
            }
            state.queue.push_back((Instant::now(), message));
        });
    }

    /// Waits for the next line to send.
    pub fn next(&self, timeout: Duration) -> Result<Message, Quiet> {
        loop {
            let deadline = self.state.lock().unanswered_since.map(|since| since + timeout);
            let mut next = None;
            self.changed.wait_until(deadline, || {
                next = self.state.lock().take(timeout);
                next.is_some()
            });
            if let Some(next) = next {
                return next;
            }
        }
    }

    /// A socket is connected. Returns false if the address is not wanted any more.
    pub fn begin(&self, socket: TcpStream) -> bool {
        self.update(|state| {
            state.socket = Some(socket);
            !state.is_over
        })
    }

    /// The node at this address has said who it is.
    pub fn link_up(&self, id: NodeId, cluster: Option<ClusterId>) {
        self.update(|state| {
            state.id = Some(id);
            state.link = Some(cluster);
            state.heard_at = Some(Instant::now());
            state.unanswered_since = None;
        });
    }

    /// The connection has ended, or must.
    pub fn cut(&self) {
        self.update(State::cut);
    }

    /// The address is not wanted any more.
    pub fn end(&self) {
        self.update(|state| {
            state.is_over = true;
            state.cut();
        });
    }

    /// A line has come back.
    pub fn answered(&self) {
        self.update(|state| {
            state.heard_at = Some(Instant::now());
            state.unanswered_since = None;
        });
    }

    /// Waits before the next try.
    pub fn pause(&self, time: Duration) {
        self.changed.wait_until(Some(Instant::now() + time), || self.is_over());
    }

    pub fn is_over(&self) -> bool {
        self.state.lock().is_over
    }

    /// Records that it has a thread, or has none. Returns what was recorded before.
    pub fn set_started(&self, is_started: bool) -> bool {
        std::mem::replace(&mut self.state.lock().is_started, is_started)
    }

    pub fn known(&self) -> Known {
        let state = self.state.lock();
        Known {
            id: state.id,
            is_linked: state.link.is_some(),
            cluster: state.link.flatten(),
            heard_at: state.heard_at,
            parted_at: state.parted_at,
            dropped: state.dropped,
        }
    }
}

impl State {
    /// The next line, or why there is none any more; None if there is none yet.
    fn take(&mut self, timeout: Duration) -> Option<Result<Message, Quiet>> {
        if self.link.is_none() {
            return Some(Err(Quiet::Ended));
        }
        if self.unanswered_since.is_some_and(|since| since.elapsed() >= timeout) {
            return Some(Err(Quiet::Unanswered));
        }
        loop {
            let (put_at, message) = self.queue.pop_front()?;
            // A line that has waited longer for a connection is answered too late to count.
            if put_at.elapsed() < timeout {
                self.unanswered_since.get_or_insert_with(Instant::now);
                return Some(Ok(message));
            }
        }
    }

    fn cut(&mut self) {
        if self.link.take().is_some() {
            self.parted_at = Some(Instant::now());
        }
        if let Some(socket) = self.socket.take() {
            // It fails if the peer is gone already, which is as well.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn beat(round: u64) -> Message {
        Message::Beat { epoch: crate::aof::record::Epoch(1), round, promise: 0 }
    }

    fn dialled() -> Dialled {
        Dialled::new(Address { host: "a".to_string(), port: 1 }, true, 1)
    }

    #[test]
    fn a_full_queue_drops_the_oldest() {
        let dialled = dialled();
        (0..QUEUE_LEN_MAX as u64 + 3).for_each(|round| dialled.put(beat(round)));
        assert_eq!(dialled.known().dropped, 3);
        dialled.link_up(NodeId([1; 20]), None);
        for round in 3..QUEUE_LEN_MAX as u64 + 3 {
            assert_eq!(dialled.next(LONG), Ok(beat(round)));
        }
        dialled.cut();
        assert_eq!(dialled.next(LONG), Err(Quiet::Ended));
    }

    #[test]
    fn what_waited_too_long_is_not_sent_and_an_answer_is_waited_for() {
        let dialled = dialled();
        dialled.put(beat(1));
        dialled.link_up(NodeId([1; 20]), None);
        dialled.state.lock().queue[0].0 = Instant::now() - Duration::from_secs(60);
        dialled.put(beat(2));
        assert_eq!(dialled.next(Duration::from_secs(50)), Ok(beat(2)));
        dialled.answered();
        dialled.put(beat(3));
        assert_eq!(dialled.next(LONG), Ok(beat(3)));
        assert_eq!(dialled.next(Duration::from_millis(1)), Err(Quiet::Unanswered));
    }

    #[test]
    fn an_address_that_is_not_wanted_any_more_takes_no_connection() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let socket =
            || TcpStream::connect(listener.local_addr().expect("bound")).expect("to connect");
        let dialled = dialled();
        assert!(dialled.begin(socket()));
        dialled.cut();
        assert_eq!(dialled.known().parted_at, None, "it had come to no answer");
        dialled.link_up(NodeId([1; 20]), None);
        assert_eq!(dialled.known().parted_at, None);
        dialled.end();
        assert!(dialled.known().parted_at.is_some() && !dialled.known().is_linked);
        assert!(dialled.is_over() && !dialled.begin(socket()));
    }
}
