//! The followers of this node: how far each has come, and who waits for them.
//!
//! A follower's link is fed by a thread `repl-out-<n>` and its acknowledgements are read by the connection's
//! own thread; both tell it here. INFO, ROLE, WAIT and `min-replicas-to-write` read it.

use super::twins::Twins;
use crate::clock::Stopwatch;
use crate::engine::ClientId;
use crate::memory::account::{Held, Sum};
use crate::rarely::Rarely;
use crate::signal::Signal;
use crate::store::effect::Seq;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Points between what was sent and what was acknowledged, by which the lag is told in milliseconds and
/// bytes. Of more, every second one is forgotten.
const POINTS_MAX: usize = 1024;

/// Messages that wait to be sent on to one follower; of more, the newest are dropped and counted. They are
/// no history, and a follower that does not take them must not fill the leader's memory.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// What was published here, for the subscribers of a follower.
#[derive(Debug)]
pub struct Forwarded {
    /// The log went up to here when it was published: what the publisher wrote before is to be there before
    /// the message is.
    pub behind: Seq,
    /// The channel.
    pub channel: Vec<u8>,
    /// The message.
    pub payload: Vec<u8>,
    /// Its bytes, for the sum over all clients: once, however many followers it waits for.
    held: Held,
}

#[derive(Debug, Default)]
struct Messages {
    queue: VecDeque<Arc<Forwarded>>,
    bytes: usize,
}

/// One follower, as long as its link is there.
#[derive(Debug)]
pub struct ReplicaProgress {
    /// The connection's number.
    pub client: ClientId,
    /// Its node's id.
    pub node_id: String,
    /// The address and the port under which it can be reached.
    pub host: String,
    /// See `host`.
    pub port: u16,
    /// Whether the full copy, if there was one, is sent.
    pub online: AtomicBool,
    /// PROMOTE was typed there.
    pub handover_requested: AtomicBool,
    received: AtomicU64,
    applied: AtomicU64,
    durable: AtomicU64,
    acks: AtomicU64,
    clock: Stopwatch,
    /// Milliseconds on `clock` of the last acknowledgement.
    acked_at: AtomicU64,
    /// What its own clock shows at least, minus what ours does; the lowest number if it has not said.
    clock_ahead: AtomicI64,
    points: Mutex<VecDeque<Point>>,
    /// With so many bytes of the link, the log up to here was sent; to be compared with an acknowledgement.
    checkpoint: Mutex<Option<(u64, Seq)>>,
    messages: Mutex<Messages>,
}

/// The log had come so far at that time.
#[derive(Clone, Copy, Debug)]
struct Point {
    seq: Seq,
    /// Bytes of log up to there.
    bytes: u64,
    /// Milliseconds on the follower's clock.
    at: u64,
}

/// What a follower lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Records appended here and not applied there.
    pub records: u64,
    /// Bytes of them that were written here and not acknowledged.
    pub bytes: u64,
    /// For how long the oldest of them has been on its way.
    pub millis: u64,
}

impl ReplicaProgress {
    /// A follower whose log ends at `seq`.
    pub fn new(
        client: ClientId,
        node_id: String,
        host: String,
        port: u16,
        online: bool,
        seq: Seq,
    ) -> ReplicaProgress {
        let at = || AtomicU64::new(seq.0);
        ReplicaProgress {
            client,
            node_id,
            host,
            port,
            online: AtomicBool::new(online),
            handover_requested: AtomicBool::new(false),
            received: at(),
            applied: at(),
            durable: at(),
            acks: AtomicU64::new(0),
            clock: Stopwatch::start(),
            acked_at: AtomicU64::new(0),
            clock_ahead: AtomicI64::new(i64::MIN),
            points: Mutex::default(),
            checkpoint: Mutex::default(),
            messages: Mutex::default(),
        }
    }

    /// Takes the next message, if the follower has been sent all that it must be behind.
    pub fn next_message(&self, sent: Seq) -> Option<Arc<Forwarded>> {
        let mut messages = self.messages.lock();
        let next = messages.queue.pop_front_if(|message| message.behind <= sent)?;
        messages.bytes -= next.size();
        Some(next)
    }

    /// Whether messages wait.
    pub fn has_messages(&self) -> bool {
        !self.messages.lock().queue.is_empty()
    }

    /// Adds a message; returns whether there was room.
    fn forward(&self, message: &Arc<Forwarded>) -> bool {
        let mut messages = self.messages.lock();
        let fits = messages.bytes + message.size() <= MESSAGE_BYTES_MAX;
        if fits {
            messages.bytes += message.size();
            messages.queue.push_back(Arc::clone(message));
        }
        fits
    }

    /// The log goes up to here; `bytes` counts all of it. Called when more of it is about to be sent.
    pub fn note_end(&self, seq: Seq, bytes: u64) {
        let mut points = self.points.lock();
        if points.len() >= POINTS_MAX {
            let mut odd = false;
            points.retain(|_| {
                odd = !odd;
                odd
            });
        }
        points.push_back(Point { seq, bytes, at: self.now() });
    }

    /// The first so many bytes of the link hold the log up to here.
    pub fn note_sent(&self, bytes: u64, seq: Seq) {
        self.checkpoint.lock().get_or_insert((bytes, seq));
    }

    /// Whether what it has received cannot be what was sent to it. A bit that flips in a length makes it wait
    /// for bytes that never come, and only here can that be told from a slow link.
    pub fn stream_is_corrupt(&self, bytes: u64, received: Seq) -> bool {
        let mut checkpoint = self.checkpoint.lock();
        let reached = checkpoint.take_if(|(sent, _)| *sent <= bytes);
        reached.is_some_and(|(_, seq)| received < seq)
    }

    /// Its clock showed this, in milliseconds, when it sent what has just come.
    pub fn note_clock(&self, clock: u64) {
        if clock > 0 {
            self.clock_ahead.store(clock as i64 - self.now() as i64, Relaxed);
        }
    }

    /// What its clock shows at least; 0 if it has not said.
    pub fn clock(&self) -> u64 {
        match self.clock_ahead.load(Relaxed) {
            i64::MIN => 0,
            ahead => ahead.saturating_add(self.now() as i64).max(0) as u64,
        }
    }

    fn acknowledge(&self, received: Seq, applied: Seq, durable: Seq) {
        self.received.store(received.0, Relaxed);
        self.applied.store(applied.0, Relaxed);
        self.durable.store(durable.0, Relaxed);
        self.acked_at.store(self.now(), Relaxed);
        self.acks.fetch_add(1, Relaxed);
        let mut points = self.points.lock();
        // The last one reached stays: it tells the bytes.
        while points.get(1).is_some_and(|next| next.seq <= applied) {
            points.pop_front();
        }
    }

    /// The last record that it has applied.
    pub fn applied(&self) -> Seq {
        Seq(self.applied.load(Relaxed))
    }

    /// The last record that it has on its disk.
    pub fn durable(&self) -> Seq {
        Seq(self.durable.load(Relaxed))
    }

    /// How many acknowledgements have come.
    pub fn acks(&self) -> u64 {
        self.acks.load(Relaxed)
    }

    /// Milliseconds since its last acknowledgement.
    pub fn silent_ms(&self) -> u64 {
        self.now().saturating_sub(self.acked_at.load(Relaxed))
    }

    /// How far it is behind a log that ends at `appended`, of which `bytes` are written.
    pub fn lag(&self, appended: Seq, bytes: u64) -> Lag {
        let applied = self.applied();
        let points = self.points.lock();
        let reached = points.front().filter(|point| point.seq <= applied);
        let missing = points.iter().find(|point| point.seq > applied);
        Lag {
            records: appended.0.saturating_sub(applied.0),
            bytes: reached.map_or(0, |reached| bytes.saturating_sub(reached.bytes)),
            millis: missing.map_or(0, |missing| self.now().saturating_sub(missing.at)),
        }
    }

    fn now(&self) -> u64 {
        self.clock.micros() / 1000
    }
}

impl Forwarded {
    /// A message published when the log ended at `behind`. It is part of `memory`.
    pub fn new(behind: Seq, channel: &[u8], payload: &[u8], memory: &Sum) -> Forwarded {
        let (channel, payload) = (channel.to_vec(), payload.to_vec());
        let message = Forwarded { behind, channel, payload, held: Held::new(memory) };
        message.held.set(message.size());
        message
    }

    fn size(&self) -> usize {
        self.channel.len() + self.payload.len() + size_of::<Forwarded>()
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Progress {
    all: Mutex<Vec<Arc<ReplicaProgress>>>,
    /// How many: the only cost of a message when there are none.
    len: AtomicUsize,
    /// Messages that a follower was too slow for.
    pub dropped_messages: AtomicU64,
    /// Notified by acknowledgements, and when a follower comes or goes. While anybody waits for it,
    /// acknowledgements are asked for at once.
    pub acknowledged: Arc<Signal>,
    /// Full copies begun.
    pub full_copies: AtomicU64,
    /// The server ends: the rest of the log is sent, and nothing more.
    closing: AtomicBool,
    /// Links that went on where they were.
    pub continued: AtomicU64,
    /// Which connection has which node id.
    pub(crate) twins: Twins,
    /// Complaints about followers that are in the log.
    pub said: Rarely,
}

/// Takes the follower out of the list when its link ends, however it ends.
pub struct Registration<'f> {
    followers: &'f Progress,
    /// The follower.
    pub follower: Arc<ReplicaProgress>,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        let mut all = self.followers.all.lock();
        all.retain(|other| other.client != self.follower.client);
        self.followers.len.store(all.len(), Relaxed);
        drop(all);
        self.followers.acknowledged.notify();
    }
}

impl Progress {
    /// Adds one for the life of its link.
    pub fn register(&self, follower: ReplicaProgress) -> Registration<'_> {
        let follower = Arc::new(follower);
        let mut all = self.all.lock();
        all.push(Arc::clone(&follower));
        self.len.store(all.len(), Relaxed);
        drop(all);
        self.acknowledged.notify();
        Registration { followers: self, follower }
    }

    /// All of them, oldest link first.
    pub fn all(&self) -> Vec<Arc<ReplicaProgress>> {
        self.all.lock().clone()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len.load(Relaxed) == 0
    }

    /// Sends a message on to all of them. One that is being given a full copy gets none.
    pub fn forward(&self, message: Forwarded) {
        let message = Arc::new(message);
        for follower in self.all.lock().iter().filter(|follower| follower.online.load(Relaxed)) {
            if !follower.forward(&message) {
                self.dropped_messages.fetch_add(1, Relaxed);
            }
        }
    }

    /// Lets the links end once all that is written is sent.
    pub fn close(&self) {
        self.closing.store(true, Relaxed);
    }

    /// Whether they are to end.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    /// Notes an acknowledgement.
    pub fn acknowledge(
        &self,
        follower: &ReplicaProgress,
        received: Seq,
        applied: Seq,
        durable: Seq,
    ) {
        follower.acknowledge(received, applied, durable);
        self.twins.changed.notify();
        self.acknowledged.notify();
    }

    /// Whether somebody waits for acknowledgements.
    pub fn is_awaited(&self) -> bool {
        self.acknowledged.has_waiters()
    }

    /// How many satisfy a condition. A node with two links, one of which it has lost, counts once.
    pub fn count(&self, condition: impl Fn(&ReplicaProgress) -> bool) -> usize {
        let all = self.all.lock();
        let mut nodes: Vec<&str> = Vec::with_capacity(all.len());
        for follower in all.iter().filter(|follower| condition(follower)) {
            if !nodes.contains(&follower.node_id.as_str()) {
                nodes.push(&follower.node_id);
            }
        }
        nodes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follower() -> ReplicaProgress {
        ReplicaProgress::new(ClientId(1), "n".into(), "h".into(), 1, true, Seq(0))
    }

    #[test]
    fn lag_is_told_in_records_and_bytes() {
        let follower = follower();
        follower.note_end(Seq(0), 0);
        follower.note_end(Seq(10), 1000);
        follower.note_end(Seq(20), 2000);
        follower.acknowledge(Seq(12), Seq(12), Seq(0));
        let lag = follower.lag(Seq(25), 2500);
        assert_eq!((lag.records, lag.bytes), (13, 1500));
        follower.acknowledge(Seq(20), Seq(20), Seq(20));
        assert_eq!(follower.lag(Seq(20), 2000), Lag::default());
    }

    #[test]
    fn messages_come_behind_what_was_written_before_them_and_are_bounded() {
        let (followers, follower) = (Progress::default(), follower());
        let registration = followers.register(follower);
        let memory = Sum::default();
        let message =
            |behind, payload: Vec<u8>| Forwarded::new(Seq(behind), b"news", &payload, &memory);
        followers.forward(message(7, b"first".to_vec()));
        assert!(registration.follower.next_message(Seq(6)).is_none());
        assert_eq!(registration.follower.next_message(Seq(7)).unwrap().payload, b"first");
        (0..40).for_each(|_| followers.forward(message(8, vec![0; 1 << 20])));
        assert!((15 << 20..16 << 20).contains(&memory.get()), "{}", memory.get());
        let kept = std::iter::from_fn(|| registration.follower.next_message(Seq(8))).count();
        assert_eq!((kept as u64, followers.dropped_messages.load(Relaxed)), (15, 25));
        assert!(!registration.follower.has_messages());
        assert_eq!(memory.get(), 0);
    }

    #[test]
    fn a_node_with_two_links_counts_once() {
        let followers = Progress::default();
        let add = |client, node: &str| {
            let id = ClientId(client);
            followers.register(ReplicaProgress::new(id, node.into(), "h".into(), 1, true, Seq(0)))
        };
        let _links = [add(1, "a"), add(2, "b"), add(3, "a")];
        assert_eq!(followers.count(|_| true), 2);
        assert_eq!(followers.count(|follower| follower.client == ClientId(3)), 1);
    }

    #[test]
    fn bytes_without_the_records_in_them_are_not_what_was_sent() {
        let follower = follower();
        assert!(!follower.stream_is_corrupt(1000, Seq(0)));
        follower.note_sent(500, Seq(7));
        follower.note_sent(900, Seq(9));
        assert!(!follower.stream_is_corrupt(499, Seq(0)), "they are on their way");
        assert!(follower.stream_is_corrupt(500, Seq(6)));
        assert!(!follower.stream_is_corrupt(500, Seq(6)), "said once");
        follower.note_sent(900, Seq(9));
        assert!(!follower.stream_is_corrupt(950, Seq(9)));
    }

    #[test]
    fn points_do_not_pile_up() {
        let follower = follower();
        (0..100_000).for_each(|n| follower.note_end(Seq(n), n * 10));
        assert!(follower.points.lock().len() <= POINTS_MAX);
        follower.acknowledge(Seq(99_999), Seq(99_999), Seq(0));
        assert_eq!(follower.lag(Seq(99_999), 999_990).millis, 0);
    }
}
