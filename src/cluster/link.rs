//! The link to the leader, as this node's commands see it: whether it is up, how old the data is, what it
//! cost so far.
//!
//! The thread `repl-in` owns the link and notes here what happens to it; INFO, ROLE, `/metrics` and the guards
//! of reads look, and whoever gives a new order cuts it.

use crate::clock::Stopwatch;
use crate::lock::Mutex;
use crate::metrics::Counter;
use crate::signal::Signal;
use crate::store::effect::Seq;
use std::collections::VecDeque;
use std::net::{Shutdown as Direction, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Heartbeats whose seq has not been reached yet; of more, the newest are forgotten.
const AWAITED_MAX: usize = 256;

/// A leader that is so many links away is none: the nodes follow each other in a circle, where the number of
/// links grows by one with each heartbeat, or the chain of followers is longer than any should be.
pub const HOPS_MAX: u64 = 32;

/// What the link to the leader tells of itself.
#[derive(Debug)]
pub struct Link {
    /// To cut it from another thread.
    socket: Mutex<Option<TcpStream>>,
    up: AtomicBool,
    copying: AtomicBool,
    clock: Stopwatch,
    /// Milliseconds on `clock` when the link was last up, or came up.
    changed_at: AtomicU64,
    /// Milliseconds on `clock` when something was last received.
    heard_at: AtomicU64,
    /// Milliseconds on `clock` at which all that the leader had was here; 0 for never.
    fresh_at: AtomicU64,
    /// Notified when `fresh_at` moves.
    freshened: Signal,
    /// Heartbeats that told of records which are still on their way: seq and time.
    awaited: Mutex<VecDeque<(Seq, u64)>>,
    /// The newest record that the leader told of.
    leader_seq: AtomicU64,
    /// How many links lie between this node and the one that leads.
    hops: AtomicU64,
    /// Bytes received.
    pub received_bytes: Counter,
    /// Links that came up.
    pub links: Counter,
    /// Full copies received.
    pub full_copies: Counter,
    /// Times that something was received which was not what the leader sent.
    pub rejected: Counter,
    /// Records that only this node had and gave up.
    pub diverged_records: Counter,
    /// Where the last of them were saved.
    pub diverged_file: Mutex<Option<String>>,
    /// Why the link is down, if it is.
    pub error: Mutex<Option<String>>,
}

impl Default for Link {
    fn default() -> Link {
        Link {
            socket: Mutex::default(),
            up: AtomicBool::new(false),
            copying: AtomicBool::new(false),
            clock: Stopwatch::start(),
            changed_at: AtomicU64::new(0),
            heard_at: AtomicU64::new(0),
            fresh_at: AtomicU64::new(0),
            freshened: Signal::default(),
            awaited: Mutex::default(),
            leader_seq: AtomicU64::new(0),
            hops: AtomicU64::new(0),
            received_bytes: Counter::default(),
            links: Counter::default(),
            full_copies: Counter::default(),
            rejected: Counter::default(),
            diverged_records: Counter::default(),
            diverged_file: Mutex::default(),
            error: Mutex::default(),
        }
    }
}

impl Link {
    /// Notes the socket of a new link, so that it can be cut.
    pub fn dialled(&self, socket: &TcpStream) -> std::io::Result<()> {
        *self.socket.lock() = Some(socket.try_clone()?);
        Ok(())
    }

    /// Cuts the link: its thread is woken. Returns whether there was one.
    pub fn cut(&self) -> bool {
        let socket = self.socket.lock().take();
        socket.is_some_and(|socket| socket.shutdown(Direction::Both).is_ok())
    }

    /// The link is up: records come in.
    pub fn came_up(&self) {
        self.links.increment();
        self.changed_at.store(self.now(), Relaxed);
        self.up.store(true, Relaxed);
        self.hops.store(0, Relaxed);
        self.copying.store(false, Relaxed);
        *self.error.lock() = None;
    }

    /// A full copy comes in.
    pub fn copies(&self) {
        self.full_copies.increment();
        self.copying.store(true, Relaxed);
    }

    /// The link is down.
    pub fn went_down(&self) {
        self.cut();
        self.hops.store(0, Relaxed);
        if self.up.swap(false, Relaxed) {
            self.changed_at.store(self.now(), Relaxed);
        }
        self.copying.store(false, Relaxed);
        self.awaited.lock().clear();
        self.freshened.notify();
    }

    /// Bytes have come in.
    pub fn heard(&self, bytes: usize) {
        self.received_bytes.add(bytes as u64);
        self.heard_at.store(self.now(), Relaxed);
    }

    /// The leader said, when [`Link::clock`] showed at least `echo`, that its last record was this one, and if
    /// it is a follower itself, that this was so `behind_ms` before; the highest number says that it does not
    /// know.
    pub fn heartbeat(&self, seq: Seq, behind_ms: u64, echo: u64) {
        self.leader_seq.store(seq.0, Relaxed);
        let mut awaited = self.awaited.lock();
        if awaited.len() < AWAITED_MAX && behind_ms < u64::MAX && echo > 0 {
            awaited.push_back((seq, echo.min(self.now()).saturating_sub(behind_ms)));
        }
    }

    /// The leader said how many links lie between it and the node that leads. Returns whether that node has
    /// just been found, or been lost to a circle.
    pub fn note_hops(&self, hops: u64) -> Option<bool> {
        let (before, circles) = (self.circles(), hops >= HOPS_MAX);
        self.hops.store(hops.saturating_add(1).min(HOPS_MAX + 1), Relaxed);
        (before != circles).then(|| self.changed_at.store(self.now(), Relaxed));
        (before != circles).then_some(!circles)
    }

    /// How many links lie between this node and the one that leads: 0 is unknown, and 33 a circle.
    pub fn distance(&self) -> u64 {
        self.hops.load(Relaxed)
    }

    /// As [`Link::distance`], for this node's own followers.
    pub fn hops(&self) -> u64 {
        self.distance().clamp(1, HOPS_MAX)
    }

    /// Whether the nodes that are followed here follow each other, and none of them leads.
    fn circles(&self) -> bool {
        self.distance() > HOPS_MAX
    }

    /// Milliseconds, for the leader to send back; never 0.
    pub fn clock(&self) -> u64 {
        self.now().max(1)
    }

    /// The data goes back to what it was, or becomes another's: how old it is is unknown.
    pub fn starts_over(&self) {
        self.fresh_at.store(0, Relaxed);
    }

    /// All records up to this one are applied.
    pub fn reached(&self, applied: Seq) {
        let mut awaited = self.awaited.lock();
        let mut moved = false;
        while let Some((_, at)) = awaited.pop_front_if(|(seq, _)| *seq <= applied) {
            moved |= self.fresh_at.fetch_max(at.max(1), Relaxed) < at;
        }
        drop(awaited);
        if moved {
            self.freshened.notify();
        }
    }

    /// Waits until all is here that the leader had when [`Link::clock`] showed `at`. Returns whether it is.
    pub fn wait_fresh(&self, at: u64, at_most: Duration) -> bool {
        let is_fresh = || self.fresh_at.load(Relaxed) >= at;
        // A link that is down makes nothing fresh.
        let end = || is_fresh() || !self.is_up();
        self.freshened.wait_until(Some(Instant::now() + at_most), end);
        is_fresh()
    }

    /// Whether records come in, or would if there were any: at the other end of the link, or further on, is a
    /// node that leads, as far as is known.
    pub fn is_up(&self) -> bool {
        self.up.load(Relaxed) && !self.circles()
    }

    /// In Redis's words.
    pub fn state(&self) -> &'static str {
        match (self.is_up(), self.is_copying(), self.socket.lock().is_some()) {
            (true, ..) => "connected",
            (_, true, _) => "sync",
            (.., true) => "connecting",
            _ => "connect",
        }
    }

    /// Whether a full copy comes in.
    pub fn is_copying(&self) -> bool {
        self.copying.load(Relaxed)
    }

    /// The newest record that the leader told of.
    pub fn leader_seq(&self) -> Seq {
        Seq(self.leader_seq.load(Relaxed))
    }

    /// How old what is here may be, in milliseconds. None if nothing is known.
    pub fn staleness_ms(&self) -> Option<u64> {
        let fresh_at = self.fresh_at.load(Relaxed);
        (fresh_at > 0).then(|| self.now().saturating_sub(fresh_at))
    }

    /// Seconds since the link came up or went down.
    pub fn seconds_since_change(&self) -> u64 {
        self.now().saturating_sub(self.changed_at.load(Relaxed)) / 1000
    }

    /// Seconds since anything came in.
    pub fn silent_seconds(&self) -> u64 {
        self.now().saturating_sub(self.heard_at.load(Relaxed)) / 1000
    }

    fn now(&self) -> u64 {
        self.clock.micros() / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_as_old_as_the_newest_heartbeat_that_it_has_caught_up_with() {
        let link = Link::default();
        assert_eq!(link.staleness_ms(), None);
        link.heartbeat(Seq(10), 0, 0);
        link.reached(Seq(10));
        assert_eq!(link.staleness_ms(), None, "nobody knows how long that was on its way");
        link.heartbeat(Seq(10), 0, link.clock());
        link.reached(Seq(9));
        assert_eq!(link.staleness_ms(), None);
        link.reached(Seq(10));
        assert!(link.staleness_ms().is_some());
        // Records that are on their way do not make what is here any older than it is.
        link.heartbeat(Seq(20), 0, link.clock());
        assert_eq!((link.leader_seq(), link.awaited.lock().len()), (Seq(20), 1));
    }

    #[test]
    fn a_leader_that_gets_further_away_without_end_is_none() {
        let link = Link::default();
        link.came_up();
        assert_eq!((link.note_hops(0), link.hops()), (None, 1));
        // Two nodes that tell each other how far away the leader is.
        let other = Link::default();
        other.came_up();
        let rounds = 2 * HOPS_MAX;
        let turns =
            (0..rounds).map(|_| (link.note_hops(other.hops()), other.note_hops(link.hops())));
        let lost = turns.filter(|turn| turn.0 == Some(false) || turn.1 == Some(false)).count();
        assert!((1..=2).contains(&lost) && !link.is_up() && !other.is_up());
        assert_eq!(link.note_hops(0), Some(true), "somebody leads again");
        assert!(link.is_up());
    }
}
