//! Lanes: publishers to the same subscribers send for each other.
//!
//! ```text
//! conn-7  PUBLISH a ── the lane is idle: becomes its sender ── send a ──┬─ send b, c ── yield ── end
//! conn-8  PUBLISH b ── the lane is busy: leaves b and goes on ──────────┤
//! conn-9  PUBLISH c ── leaves c and goes on ────────────────────────────┘
//! ```
//!
//! A publisher that finds its lane idle becomes its sender. Others leave their messages with it and go on, so no
//! thread is put to sleep. The sender sends what has been left, in one call for each subscriber, until nothing
//! is left. After it has sent for others it yields once before it ends: publishers whose requests are here
//! already leave their messages meanwhile.
//!
//! A publisher waits until its messages have been sent
//!
//! - if with them more than [`LEFT_MAX`] messages or [`LEFT_BYTES_MAX`] would wait: publishers are not faster
//!   than the sender for long;
//! - if the sender has sent for longer than [`SENDING_MICROS_MAX`], and no other publisher waits. The sender
//!   ends after its current round, and the publisher that waits takes over;
//! - before it sends in another lane, or answers a client that is a subscriber ([`Lane::wait`]).

use super::PubSub;
use super::delivery::{Message, Send};
use crate::clock::Stopwatch;
use crate::lock::{Mutex, MutexGuard, rank};
use parking_lot::Condvar;
use std::sync::Arc;

/// Publishers in different lanes send at the same time. Messages to the same subscribers are in the same
/// lane.
pub const LANES: usize = 16;

/// Messages that wait in a lane and whose publishers do not wait.
const LEFT_MAX: usize = 256;
/// The bytes of these messages.
const LEFT_BYTES_MAX: usize = 256 << 10;
/// A sender that has sent for longer hands over to the next publisher. Its own client waits for a reply as
/// long as it sends.
const SENDING_MICROS_MAX: u64 = 200;

/// A queue in which publishers leave messages, and one of them sends what all have left.
#[derive(Debug, Default)]
pub struct Lane {
    state: Mutex<LaneState, { rank::LANE }>,
    /// Signalled after each round, if a thread waits.
    progress: Condvar,
}

/// Messages have numbers, from 1, in the order in which they enter the lane. `sent <= entered`.
#[derive(Debug, Default)]
struct LaneState {
    /// Not yet being sent.
    waiting: Vec<Message>,
    waiting_bytes: usize,
    /// A publisher is sending.
    is_busy: bool,
    /// The sender has sent for too long. It ends as soon as another publisher waits.
    hands_over: bool,
    /// The sender has sent for others, or the last one did.
    is_crowded: bool,
    /// The last message that entered, that was left, that was sent, and that a thread has waited for.
    entered: u64,
    left: u64,
    sent: u64,
    awaited: u64,
}

impl LaneState {
    /// True if these messages may be left with the sender.
    fn takes(&self, messages: &[Message], bytes: usize) -> bool {
        self.is_busy
            && self.waiting.len() + messages.len() <= LEFT_MAX
            && self.waiting_bytes + bytes <= LEFT_BYTES_MAX
            && !(self.hands_over && self.awaited <= self.sent)
    }
}

impl Lane {
    /// Sends messages, or leaves them with the publisher that is sending. Returns the number of the last.
    fn pass(&self, messages: &mut Vec<Message>, send: Send<'_>) -> u64 {
        let bytes = messages.iter().map(Message::bytes).sum();
        let mut state = self.state.lock();
        let is_left = state.takes(messages, bytes);
        state.entered += messages.len() as u64;
        state.waiting_bytes += bytes;
        state.waiting.append(messages);
        let last = state.entered;
        if is_left {
            state.left = last;
        } else {
            self.wait_for(state, last, send);
        }
        last
    }

    /// Returns after the message with this number has been sent, and all before it.
    fn wait(&self, number: impl FnOnce(&LaneState) -> u64, send: Send<'_>) {
        let state = self.state.lock();
        let number = number(&state);
        self.wait_for(state, number, send);
    }

    fn wait_for<'l>(&'l self, mut state: MutexGuard<'l, LaneState>, number: u64, send: Send<'_>) {
        while state.sent < number {
            if state.is_busy {
                state.awaited = state.awaited.max(number);
                self.progress.wait(state.raw());
            } else {
                state = self.send_waiting(state, send);
            }
        }
    }

    /// Sends what waits and what is left meanwhile, in rounds, until there is nothing more or a thread that
    /// waits takes over.
    fn send_waiting<'l>(
        &'l self,
        mut state: MutexGuard<'l, LaneState>,
        send: Send<'_>,
    ) -> MutexGuard<'l, LaneState> {
        let stopwatch = Stopwatch::start();
        let mut may_yield = state.is_crowded;
        state.is_busy = true;
        state.is_crowded = false;
        let mut batch = Vec::new();
        loop {
            std::mem::swap(&mut batch, &mut state.waiting);
            state.waiting_bytes = 0;
            let last = state.entered;
            drop(state);
            if batch.is_empty() {
                std::thread::yield_now();
                may_yield = false;
            } else {
                send(&batch);
                batch.clear();
            }
            state = self.state.lock();
            if state.awaited > state.sent {
                self.progress.notify_all();
            }
            state.sent = last;
            state.hands_over = stopwatch.micros() > SENDING_MICROS_MAX;
            let is_left = !state.waiting.is_empty();
            may_yield |= is_left;
            state.is_crowded |= is_left;
            let takes_over = state.hands_over && state.awaited > state.sent;
            if takes_over || !(is_left || may_yield) {
                state.is_busy = false;
                state.hands_over = false;
                return state;
            }
        }
    }
}

/// A publisher's last message, which may still wait in its lane.
#[derive(Debug, Default)]
pub struct LastMessage {
    lane: usize,
    number: u64,
}

/// The number of a message's lane, from the address of its first list.
fn lane_of(message: &Message) -> usize {
    // Allocations are at least 32 bytes apart.
    (Arc::as_ptr(&message.targets[0].1) as usize >> 5) % LANES
}

impl PubSub {
    /// Sends messages in their order, after the publisher's `last` one, or leaves them with a thread that is
    /// sending in their lane. This thread may `send` those of others, too. No lock may be held.
    pub(super) fn deliver(
        &self,
        messages: &mut Vec<Message>,
        last: &mut LastMessage,
        send: Send<'_>,
    ) {
        while let Some(lane) = messages.first().map(lane_of) {
            if lane != last.lane {
                self.wait_sent(last, send);
            }
            let others = messages.iter().position(|message| lane_of(message) != lane);
            let rest = messages.split_off(others.unwrap_or(messages.len()));
            *last = LastMessage { lane, number: self.lanes[lane].pass(messages, send) };
            *messages = rest;
        }
    }

    /// Returns after a publisher's last message has been sent. No lock may be held.
    pub(super) fn wait_sent(&self, last: &LastMessage, send: Send<'_>) {
        self.lanes[last.lane].wait(|_| last.number, send);
    }

    /// Returns after every message has been sent that a publisher has left so far. No lock may be held.
    pub(super) fn wait_left(&self, send: Send<'_>) {
        self.lanes.iter().for_each(|lane| lane.wait(|state| state.left, send));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::{self, Scope, ScopedJoinHandle};
    use std::time::{Duration, Instant};

    const DEADLINE: Duration = Duration::from_secs(10);

    fn message(payload: &str) -> Message {
        Message::new(Vec::new(), b"", payload.as_bytes())
    }

    fn payloads(messages: &[Message]) -> Vec<String> {
        messages.iter().map(|message| message.payload.escape_ascii().to_string()).collect()
    }

    /// Passes a message that must be left with the sender.
    fn leave(lane: &Lane, payload: &str) {
        lane.pass(&mut vec![message(payload)], &mut |_| panic!("{payload} finds the lane idle"));
    }

    fn wait_until(lane: &Lane, condition: impl Fn(&LaneState) -> bool) {
        let began = Instant::now();
        while !condition(&lane.state.lock()) {
            assert!(began.elapsed() < DEADLINE, "{:?}", lane.state.lock());
            thread::yield_now();
        }
    }

    /// A thread that passes messages, one round at a time.
    struct Publisher<'s> {
        round_rx: Receiver<Vec<String>>,
        go_tx: Sender<()>,
        thread: ScopedJoinHandle<'s, ()>,
    }

    impl<'s> Publisher<'s> {
        fn start<'e>(scope: &'s Scope<'s, 'e>, lane: &'e Lane, payload: &'e str) -> Publisher<'s> {
            let (round_tx, round_rx) = channel();
            let (go_tx, go_rx) = channel();
            let mut send = move |messages: &[Message]| {
                round_tx.send(payloads(messages)).unwrap();
                // An error means that it need not wait any more.
                let _ = go_rx.recv();
            };
            let thread = scope.spawn(move || {
                lane.pass(&mut vec![message(payload)], &mut send);
            });
            Publisher { round_rx, go_tx, thread }
        }

        /// What it is sending. It goes on sending until [`Publisher::go`].
        fn round(&self) -> Vec<String> {
            self.round_rx.recv_timeout(DEADLINE).unwrap()
        }

        fn go(&self) {
            self.go_tx.send(()).unwrap();
        }

        /// Lets it go on until it has passed; returns what it still sent.
        fn end(self) -> Vec<Vec<String>> {
            drop(self.go_tx);
            self.thread.join().unwrap();
            self.round_rx.try_iter().collect()
        }
    }

    #[test]
    fn the_sender_sends_what_others_leave_in_its_order() {
        let lane = Lane::default();
        thread::scope(|scope| {
            let sender = Publisher::start(scope, &lane, "a");
            assert_eq!(sender.round(), ["a"]);
            leave(&lane, "b");
            leave(&lane, "c");
            sender.go();
            assert_eq!(sender.round(), ["b", "c"]);
            // On a slow machine the sender has sent for long by now, and this one takes over.
            let next = Publisher::start(scope, &lane, "d");
            wait_until(&lane, |state| state.entered == 4);
            assert_eq!([sender.end(), next.end()].concat(), [["d"]]);
        });
        let state = lane.state.lock();
        assert_eq!((state.is_busy, state.sent), (false, 4));
    }

    /// Leaves messages until no more may be left; a publisher of one more waits until it is sent.
    #[track_caller]
    fn assert_bounded(left: usize, payload: &str) {
        let lane = Lane::default();
        thread::scope(|scope| {
            let sender = Publisher::start(scope, &lane, "a");
            assert_eq!(sender.round(), ["a"]);
            (0..left).for_each(|_| leave(&lane, payload));
            let waiting = Publisher::start(scope, &lane, payload);
            wait_until(&lane, |state| state.awaited == left as u64 + 2);
            // Either of them sends the rest.
            let rounds = [sender.end(), waiting.end()].concat();
            assert_eq!(rounds, [vec![payload; left + 1]]);
        });
    }

    #[test]
    fn the_messages_that_are_left_are_bounded() {
        assert_bounded(LEFT_MAX, "b");
    }

    #[test]
    fn the_bytes_that_are_left_are_bounded() {
        assert_bounded(4, &"b".repeat(LEFT_BYTES_MAX / 4));
    }

    #[test]
    fn a_sender_hands_over_when_it_has_sent_for_long() {
        let lane = Lane::default();
        thread::scope(|scope| {
            let sender = Publisher::start(scope, &lane, "a");
            assert_eq!(sender.round(), ["a"]);
            leave(&lane, "b");
            thread::sleep(Duration::from_micros(2 * SENDING_MICROS_MAX));
            sender.go();
            // Long enough, but no thread waits.
            assert_eq!(sender.round(), ["b"]);
            let next = Publisher::start(scope, &lane, "c");
            wait_until(&lane, |state| state.awaited == 3);
            leave(&lane, "d");
            sender.go();
            assert_eq!(next.round(), ["c", "d"]);
            assert!(sender.end().is_empty());
            assert!(next.end().is_empty());
        });
        let state = lane.state.lock();
        assert_eq!((state.is_busy, state.sent), (false, 4));
    }

    #[test]
    fn a_thread_may_wait_for_what_was_left() {
        let lane = Lane::default();
        thread::scope(|scope| {
            let sender = Publisher::start(scope, &lane, "a");
            assert_eq!(sender.round(), ["a"]);
            leave(&lane, "b");
            sender.go();
            assert_eq!(sender.round(), ["b"]);
            let waiting = scope.spawn(|| {
                lane.wait(|state| state.left, &mut |_| panic!("it has nothing to send"));
                lane.state.lock().sent
            });
            wait_until(&lane, |state| state.awaited == 2);
            sender.go();
            assert_eq!(waiting.join().unwrap(), 2);
            assert!(sender.end().is_empty());
        });
    }
}
