//! How far each follower of this node has come.
//!
//! A thread `repl-out-<n>` sends the log to a follower, and the connection's own thread reads its
//! acknowledgements; both record here what they see. INFO, ROLE, WAIT and `min-replicas-to-write` read it.

use crate::config::{Config, Id};
use crate::error::{Failure, Kind};
use crate::lock::{Mutex, rank};
use crate::memory::account::{Account, Total};
use crate::metrics::Counter;
use crate::rarely::Rarely;
use crate::signal::Signal;
use crate::store::effect::Seq;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Points between what was sent and what was acknowledged, from which the lag in milliseconds and bytes is
/// computed. At this many, every second one is dropped.
const POINTS_MAX: usize = 1024;

/// Bytes of messages that wait to be sent on to one follower. Beyond this, new ones are dropped and counted:
/// they are not history, and a slow follower must not fill the leader's memory.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// The number of a follower's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkId(pub u64);

/// One follower, as long as its link is open.
#[derive(Debug)]
pub struct ReplicaProgress {
    /// Its connection.
    pub link: LinkId,
    /// Its node's id.
    pub node_id: String,
    /// The address at which it can be reached.
    pub host: String,
    /// The port at which it can be reached.
    pub port: u16,
    /// The full copy, if it needed one, is sent.
    pub online: AtomicBool,
    /// It asks to lead: PROMOTE was typed there.
    pub handover_requested: AtomicBool,
    /// The end of its log when the link began. It is where sending began, and no acknowledgement.
    began_at: Seq,
    /// The last record that it has acknowledged as applied on this link; 0 before the first acknowledgement.
    applied: AtomicU64,
    /// The same for its disk.
    durable: AtomicU64,
    /// Milliseconds on the process's clock of the last acknowledgement.
    acked_at: AtomicU64,
    state: Mutex<SendState>,
}

/// State shared by the sender and the reader of acknowledgements.
#[derive(Debug, Default)]
struct SendState {
    /// Acknowledgements so far.
    acks: u64,
    /// The follower's clock minus ours, at least; None before it has told its clock.
    clock_ahead: Option<i64>,
    points: VecDeque<Point>,
    /// `(bytes sent, last seq sent)` at a heartbeat. An acknowledgement of that many bytes must report at
    /// least that seq; otherwise the stream was corrupted.
    checkpoint: Option<(u64, Seq)>,
    /// Messages that wait to be sent on, and their bytes.
    messages: VecDeque<Arc<Forwarded>>,
    message_bytes: usize,
}

/// The end of the log at one time.
#[derive(Clone, Copy, Debug)]
struct Point {
    seq: Seq,
    /// Bytes of log up to there.
    bytes: u64,
    /// Milliseconds on the process's clock.
    at: u64,
}

/// The lag of a follower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Records appended here and not applied there.
    pub records: u64,
    /// Bytes written here and not acknowledged.
    pub bytes: u64,
    /// Milliseconds since the oldest of these records was sent.
    pub millis: u64,
}

impl ReplicaProgress {
    /// A follower whose log ends at `seq`, which is reached at `host` and `port`.
    pub fn new(
        link: LinkId,
        node_id: String,
        (host, port): (String, u16),
        online: bool,
        seq: Seq,
        now: u64,
    ) -> ReplicaProgress {
        ReplicaProgress {
            link,
            node_id,
            host,
            port,
            online: AtomicBool::new(online),
            handover_requested: AtomicBool::new(false),
            began_at: seq,
            applied: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            acked_at: AtomicU64::new(now),
            state: Mutex::default(),
        }
    }

    /// The log goes up to here; `bytes` counts all of it. Called when more of it is about to be sent.
    pub fn record_end(&self, seq: Seq, bytes: u64, now: u64) {
        let points = &mut self.state.lock().points;
        if points.len() >= POINTS_MAX {
            let mut index = 0;
            points.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
        points.push_back(Point { seq, bytes, at: now });
    }

    /// The first `bytes` of the link hold the log up to here.
    pub fn record_checkpoint(&self, bytes: u64, seq: Seq) {
        self.state.lock().checkpoint.get_or_insert((bytes, seq));
    }

    /// True if it cannot have received what was sent to it. A bit that flips in a length makes it wait
    /// for bytes that never come; only here can that be told from a slow link.
    pub fn stream_is_corrupt(&self, bytes: u64, received: Seq) -> bool {
        let checkpoint = &mut self.state.lock().checkpoint;
        let reached = checkpoint.take_if(|(sent, _)| *sent <= bytes);
        reached.is_some_and(|(_, seq)| received < seq)
    }

    /// Its clock, in milliseconds, when it sent what has just come; 0 if it does not tell.
    pub fn record_clock(&self, clock: u64, now: u64) {
        if clock > 0 {
            self.state.lock().clock_ahead = Some(clock as i64 - now as i64);
        }
    }

    /// A lower bound of its clock; 0 is unknown.
    pub fn clock(&self, now: u64) -> u64 {
        let ahead = self.state.lock().clock_ahead;
        ahead.map_or(0, |ahead| ahead.saturating_add(now as i64).max(0) as u64)
    }

    fn acknowledge(&self, applied: Seq, durable: Seq, now: u64) {
        self.applied.store(applied.0, Relaxed);
        self.durable.store(durable.0, Relaxed);
        self.acked_at.store(now, Relaxed);
        let mut state = self.state.lock();
        state.acks += 1;
        // The last one reached stays: the lag in bytes counts from it.
        while state.points.get(1).is_some_and(|next| next.seq <= applied) {
            state.points.pop_front();
        }
    }

    /// The last record that it has applied, as far as is known.
    pub fn applied(&self) -> Seq {
        self.began_at.max(Seq(self.applied.load(Relaxed)))
    }

    /// The last record that it has on its disk, as far as is known.
    pub fn durable(&self) -> Seq {
        self.began_at.max(Seq(self.durable.load(Relaxed)))
    }

    /// True if it has acknowledged, on this link, that it has applied this record. Its request for the log does not
    /// count: it names a record that the node may not have synced, or may give up before it answers.
    pub fn has_applied(&self, seq: Seq) -> bool {
        self.applied.load(Relaxed) >= seq.0
    }

    /// True if it has acknowledged, on this link, that this record is on its disk.
    pub fn has_durable(&self, seq: Seq) -> bool {
        self.durable.load(Relaxed) >= seq.0
    }

    /// How many acknowledgements have come.
    pub fn acks(&self) -> u64 {
        self.state.lock().acks
    }

    /// Milliseconds since its last acknowledgement.
    pub fn silent_ms(&self, now: u64) -> u64 {
        now.saturating_sub(self.acked_at.load(Relaxed))
    }

    /// Takes the next message, if the follower has been sent the records before it.
    pub fn next_message(&self, sent: Seq) -> Option<Arc<Forwarded>> {
        let mut state = self.state.lock();
        let next = state.messages.pop_front_if(|message| message.after <= sent)?;
        state.message_bytes -= next.size();
        Some(next)
    }

    /// True if messages wait.
    pub fn has_messages(&self) -> bool {
        !self.state.lock().messages.is_empty()
    }

    /// Adds a message. Returns whether there was room.
    fn forward(&self, message: &Arc<Forwarded>) -> bool {
        let mut state = self.state.lock();
        let fits = state.message_bytes + message.size() <= MESSAGE_BYTES_MAX;
        if fits {
            state.message_bytes += message.size();
            state.messages.push_back(Arc::clone(message));
        }
        fits
    }

    /// Its lag, compared with a log that ends at `appended`, of which `bytes` are written.
    pub fn lag(&self, appended: Seq, bytes: u64, now: u64) -> Lag {
        let applied = self.applied();
        let points = &self.state.lock().points;
        let reached = points.front().filter(|point| point.seq <= applied);
        let missing = points.iter().find(|point| point.seq > applied);
        Lag {
            records: appended.0.saturating_sub(applied.0),
            bytes: reached.map_or(0, |reached| bytes.saturating_sub(reached.bytes)),
            millis: missing.map_or(0, |missing| now.saturating_sub(missing.at)),
        }
    }
}

/// A published message on its way to the subscribers of followers.
#[derive(Debug)]
pub struct Forwarded {
    /// The end of the log when it was published. A follower gets the message after these records, so that it
    /// has what the publisher wrote before.
    pub after: Seq,
    /// The channel.
    pub channel: Vec<u8>,
    /// The message.
    pub payload: Vec<u8>,
    /// Its bytes in the total of all clients: once, however many followers it waits for.
    held: Account,
}

impl Forwarded {
    /// A message published when the log ended at `after`. Its bytes count in `memory`.
    pub fn new(after: Seq, channel: &[u8], payload: &[u8], memory: &Total) -> Forwarded {
        let (channel, payload) = (channel.to_vec(), payload.to_vec());
        let message = Forwarded { after, channel, payload, held: Account::new(memory) };
        message.held.set(message.size());
        message
    }

    fn size(&self) -> usize {
        self.channel.len() + self.payload.len() + size_of::<Forwarded>()
    }
}

/// A process that follows, or is being answered.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Its connection.
    pub link: LinkId,
    /// Its node's id.
    pub node_id: String,
    /// 40 hex digits that are new for each process; empty if it does not tell.
    pub run_id: String,
}

/// All followers.
#[derive(Debug, Default)]
pub struct Progress {
    all: Mutex<Vec<Arc<ReplicaProgress>>, { rank::FOLLOWERS }>,
    /// How many: without followers, this is the only cost of a published message.
    len: AtomicUsize,
    /// Which process uses which node id (see `replication/twins.rs`).
    pub claims: Mutex<Vec<Claim>>,
    /// Notified by acknowledgements, and when a follower or a claim comes or goes. While a thread waits for
    /// it, acknowledgements are asked for at once.
    pub acknowledged: Arc<Signal>,
    /// The server ends: the rest of the log is sent, and nothing more.
    closing: AtomicBool,
    /// Full copies begun.
    pub full_copies: Counter,
    /// Links that went on from where they were.
    pub continued: Counter,
    /// Messages that were dropped because a follower was too slow.
    pub dropped_messages: Counter,
    /// Complaints about followers that are in the log.
    pub said: Rarely,
}

/// A follower's place in [`Progress`], given up when its link ends, however it ends.
pub struct Registration<'f> {
    followers: &'f Progress,
    /// The follower.
    pub follower: Arc<ReplicaProgress>,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        let mut all = self.followers.all.lock();
        all.retain(|other| other.link != self.follower.link);
        self.followers.len.store(all.len(), Relaxed);
        drop(all);
        self.followers.acknowledged.notify();
    }
}

impl Progress {
    /// Adds a follower for the life of its link.
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

    /// The follower on this link.
    pub fn find(&self, link: LinkId) -> Option<Arc<ReplicaProgress>> {
        self.all.lock().iter().find(|follower| follower.link == link).cloned()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len.load(Relaxed) == 0
    }

    /// Sends a message on to all of them. One that is being given a full copy gets none.
    pub fn forward(&self, message: Forwarded) {
        let message = Arc::new(message);
        for follower in self.all.lock().iter().filter(|follower| follower.online.load(Relaxed)) {
            if !follower.forward(&message) {
                self.dropped_messages.increment();
            }
        }
    }

    /// Lets the links end once all that is written is sent.
    pub fn close(&self) {
        self.closing.store(true, Relaxed);
    }

    /// True if they are to end.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    /// Records an acknowledgement.
    pub fn acknowledge(&self, follower: &ReplicaProgress, applied: Seq, durable: Seq, now: u64) {
        follower.acknowledge(applied, durable, now);
        self.acknowledged.notify();
    }

    /// True if a thread waits for acknowledgements.
    pub fn is_awaited(&self) -> bool {
        self.acknowledged.has_waiters()
    }

    /// Refuses a write that fewer followers would get than `min-replicas-to-write`. `now` is asked only with that
    /// setting.
    pub fn may_write(&self, config: &Config, now: impl FnOnce() -> u64) -> Result<(), Failure> {
        let wanted = config.int(Id::MinReplicasToWrite) as usize;
        if wanted == 0 || self.good(config, now()) >= wanted {
            return Ok(());
        }
        let refusal = Failure::fixed("NOREPLICAS Not enough good replicas to write.");
        Err(refusal.of_kind(Kind::Unavailable))
    }

    /// How many keep up: connected, and heard of lately (`min-replicas-max-lag`).
    pub fn good(&self, config: &Config, now: u64) -> usize {
        let silent_ms_max = config.int(Id::MinReplicasMaxLag) as u64 * 1000;
        self.count(|follower| {
            follower.online.load(Relaxed)
                && (silent_ms_max == 0 || follower.silent_ms(now) <= silent_ms_max)
        })
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

    fn linked(link: u64, node: &str) -> ReplicaProgress {
        ReplicaProgress::new(LinkId(link), node.into(), ("h".into(), 1), true, Seq(0), 0)
    }

    fn follower() -> ReplicaProgress {
        linked(1, "n")
    }

    #[test]
    fn a_request_for_the_log_is_no_acknowledgement() {
        let follower =
            ReplicaProgress::new(LinkId(1), "n".into(), ("h".into(), 1), true, Seq(10), 0);
        assert_eq!((follower.applied(), follower.durable()), (Seq(10), Seq(10)), "for figures");
        assert!(!follower.has_applied(Seq(10)) && !follower.has_durable(Seq(10)));
        follower.acknowledge(Seq(10), Seq(9), 1);
        assert!(follower.has_applied(Seq(10)) && !follower.has_durable(Seq(10)));
        assert!(!follower.has_applied(Seq(11)) && follower.has_durable(Seq(9)));
    }

    #[test]
    fn lag_is_told_in_records_and_bytes() {
        let follower = follower();
        follower.record_end(Seq(0), 0, 1);
        follower.record_end(Seq(10), 1000, 2);
        follower.record_end(Seq(20), 2000, 3);
        follower.acknowledge(Seq(12), Seq(0), 7);
        let lag = follower.lag(Seq(25), 2500, 9);
        assert_eq!(lag, Lag { records: 13, bytes: 1500, millis: 6 });
        assert_eq!(follower.silent_ms(9), 2);
        follower.acknowledge(Seq(20), Seq(20), 9);
        assert_eq!(follower.lag(Seq(20), 2000, 9), Lag::default());
    }

    #[test]
    fn messages_come_after_what_was_written_before_them_and_are_bounded() {
        let (followers, follower) = (Progress::default(), follower());
        let registration = followers.register(follower);
        let memory = Total::default();
        let message =
            |after, payload: Vec<u8>| Forwarded::new(Seq(after), b"news", &payload, &memory);
        followers.forward(message(7, b"first".to_vec()));
        assert!(registration.follower.next_message(Seq(6)).is_none());
        assert_eq!(registration.follower.next_message(Seq(7)).unwrap().payload, b"first");
        (0..40).for_each(|_| followers.forward(message(8, vec![0; 1 << 20])));
        assert!((15 << 20..16 << 20).contains(&memory.get()), "{}", memory.get());
        let kept = std::iter::from_fn(|| registration.follower.next_message(Seq(8))).count();
        assert_eq!((kept as u64, followers.dropped_messages.get()), (15, 25));
        assert!(!registration.follower.has_messages());
        assert_eq!(memory.get(), 0);
    }

    #[test]
    fn a_node_with_two_links_counts_once() {
        let followers = Progress::default();
        let add = |link, node: &str| followers.register(linked(link, node));
        let _links = [add(1, "a"), add(2, "b"), add(3, "a")];
        assert_eq!(followers.count(|_| true), 2);
        assert_eq!(followers.count(|follower| follower.link == LinkId(3)), 1);
    }

    #[test]
    fn bytes_without_the_records_in_them_are_not_what_was_sent() {
        let follower = follower();
        assert!(!follower.stream_is_corrupt(1000, Seq(0)));
        follower.record_checkpoint(500, Seq(7));
        follower.record_checkpoint(900, Seq(9));
        assert!(!follower.stream_is_corrupt(499, Seq(0)), "they are on their way");
        assert!(follower.stream_is_corrupt(500, Seq(6)));
        assert!(!follower.stream_is_corrupt(500, Seq(6)), "said once");
        follower.record_checkpoint(900, Seq(9));
        assert!(!follower.stream_is_corrupt(950, Seq(9)));
    }

    #[test]
    fn points_do_not_pile_up() {
        let follower = follower();
        (0..100_000).for_each(|n| follower.record_end(Seq(n), n * 10, n));
        assert!(follower.state.lock().points.len() <= POINTS_MAX);
        follower.acknowledge(Seq(99_999), Seq(0), 100_000);
        assert_eq!(follower.lag(Seq(99_999), 999_990, 100_000).millis, 0);
    }
}
