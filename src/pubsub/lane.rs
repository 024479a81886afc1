//! Lanes: publishers to the same subscribers send for each other.
//!
//! ```text
//! conn-7  PUBLISH a ─▶ lane idle: conn-7 becomes its sender ── send a ───── send b, c ── yield ── end
//! conn-8  PUBLISH b ──────▶ lane busy: leaves b, goes on ──────────┘ │
//! conn-9  PUBLISH c ─────────▶ leaves c, goes on ────────────────────┘
//! ```
//!
//! The first publisher to come to an idle lane becomes its sender. Others leave their messages with it and go
//! on, so no thread is put to sleep. The sender sends what has been left, all in one call for each subscriber,
//! until nothing is left. After it has sent for others it yields once before it ends: publishers whose
//! requests are here already leave theirs meanwhile.
//!
//! A publisher waits, until its messages have been sent, in three cases:
//!
//! - More than [`LEFT_MAX`] messages or [`LEFT_BYTES_MAX`] bytes would wait with its own. So publishers are
//!   not faster for long than the sender.
//! - The sender has sent for longer than [`SENDING_MICROS_MAX`], and no other publisher waits. It ends after
//!   the call that it is in, and the one who waits becomes the sender. So no client waits for long
//!   for the reply to its own command.
//! - The caller asks for it ([`Lane::wait`]), since what it does next must come after these messages.

use super::delivery::{Message, Send};
use crate::clock::Stopwatch;
use crate::lock::{Mutex, MutexGuard, rank};
use parking_lot::Condvar;

/// Messages that wait in a lane for its sender. More than these wait only if their publishers wait with them.
const LEFT_MAX: usize = 256;
/// As [`LEFT_MAX`], in bytes of channels and payloads.
const LEFT_BYTES_MAX: usize = 256 << 10;
/// A sender that has been busy for longer hands over to the next publisher that comes.
const SENDING_MICROS_MAX: u64 = 1000;

/// A queue in which publishers leave messages, and one of them sends what all have left.
#[derive(Debug, Default)]
pub struct Lane {
    state: Mutex<LaneState, { rank::LANE }>,
    /// Signalled when messages that are awaited have been sent, and when their sender hands over.
    progress: Condvar,
}

/// Messages have numbers, from 1, in the order in which they enter the lane. `sent <= entered`.
#[derive(Debug, Default)]
pub struct LaneState {
    /// Not yet being sent: the newest of those up to `entered`.
    waiting: Vec<Message>,
    waiting_bytes: usize,
    /// A publisher is sending.
    is_busy: bool,
    /// The sender has sent for too long. It ends as soon as another publisher waits.
    hands_over: bool,
    /// The last sender also sent for others.
    is_crowded: bool,
    /// The last message that entered, that was left, that was sent, and that a thread has waited for.
    entered: u64,
    left: u64,
    sent: u64,
    awaited: u64,
}

impl LaneState {
    /// The number of the last message that was left.
    pub fn left(&self) -> u64 {
        self.left
    }

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
    pub fn pass(&self, messages: &mut Vec<Message>, send: Send<'_>) -> u64 {
        let bytes = messages.iter().map(Message::len).sum();
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
    pub fn wait(&self, number: impl FnOnce(&LaneState) -> u64, send: Send<'_>) {
        let state = self.state.lock();
        let number = number(&state);
        self.wait_for(state, number, send);
    }

    fn wait_for<'l>(
        &'l self,
        mut state: MutexGuard<'l, LaneState>,
        number: u64,
        send: Send<'_>,
    ) {
        while state.sent < number {
            if state.is_busy {
                state.awaited = state.awaited.max(number);
                self.progress.wait(state.raw());
            } else {
                state = self.send(state, send);
            }
        }
    }

    /// Sends what waits and what is left meanwhile, until there is nothing more or another publisher takes over.
    fn send<'l>(
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
