//! The log that is being written.
//!
//! A record passes three watermarks, and each reply waits for one of them:
//!
//! ```text
//! append (shard locks held)      write(2)               fdatasync
//! ───────▶ appender ─────────────▶ kernel ───────────────▶ disk
//!          `appended`              `written`               `durable`
//!                                  survives kill -9        survives a power cut
//! ```
//!
//! - [`Log::append`] is a memcpy under the appender's lock, a leaf. It never waits for the disk.
//! - A thread that needs `written` while no other thread is writing writes for all ([`Log::ensure_written`]).
//! - A thread that needs `durable` while no other thread is syncing syncs for all ([`Log::sync`]).
//! - A segment that has reached its size is ended by the sync thread ([`Log::rotate_if_full`]): it is made
//!   durable before the next one exists, so only the last segment can lose anything.
//!
//! Locks are taken in this order: the turn to sync, the writer, the appender's pending records, the outline.
//!
//! When a write fails (disk full), the sync thread repeats it; meanwhile [`Log::admit`] refuses new writes. When a
//! sync fails, the kernel may have dropped anything (the "fsyncgate" of 2018), so it is never repeated: writes are
//! refused until a restart has read back what is really there.

mod frozen;
mod retention;
mod segments;
mod state;

use super::disk::Disk;
pub use super::errors::LogError;
use super::mark::Mark;
use super::outline::Outline;
use super::record::{Epoch, PAYLOAD_BYTES_MAX, Position, ResumePoint, append_header};
use super::stats::LogStats;
use crate::clock::UnixMillis;
use crate::cluster::members::Members;
use crate::lock::{Mutex, RwLock, RwLockReadGuard, rank};
use crate::signal::Signal;
use crate::store::effect::Seq;
pub use frozen::Frozen;
pub use retention::Pin;
pub use segments::ReadableEnd;
use segments::{Segments, Writer};
use state::{Health, Watermarks};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Writers wait while more than this is pending: a slow disk slows them down instead of filling the memory.
pub const PENDING_BYTES_MAX: u64 = 64 << 20;

/// Limits of a log, in bytes.
#[derive(Debug)]
pub struct Limits {
    /// [`Log::admit`] waits while more is pending; at most [`PENDING_BYTES_MAX`].
    pub pending_bytes: AtomicU64,
    /// The length at which a segment ends.
    pub segment_bytes: AtomicU64,
    /// Segments that a base has replaced and that are always kept (`retention`).
    pub backlog_bytes: AtomicU64,
    /// Such segments that are kept while a connected follower still reads them.
    pub pinned_bytes: AtomicU64,
}

/// A log open for writing.
#[derive(Debug)]
pub struct Log {
    disk: Box<dyn Disk>,
    appender: Appender,
    segments: Segments,
    watermarks: Watermarks,
    health: Health,
    /// The first record that is still needed, by pin.
    pins: Mutex<BTreeMap<u64, Seq>>,
    /// Limits that CONFIG SET may change at any time.
    pub limits: Limits,
    /// See [`Log::generation`].
    generation: AtomicU64,
    /// Notified when `written` has moved, and when readers of the log have another reason to look.
    pub written_moved: Arc<Signal>,
    /// Notified when `durable` has moved, and when an error comes or goes.
    pub progress: Arc<Signal>,
    /// Wakes the sync thread: there is something for it to do.
    pub work: Signal,
    /// The sync thread has synced all that is written, and waits for more.
    pub awaits_writes: AtomicBool,
    /// Counts for INFO.
    pub stats: LogStats,
}

/// The end of the log in memory: records for which no write call has been made yet, in the order in which their
/// effects are applied.
#[derive(Debug)]
struct Appender {
    /// A leaf lock, held for a memcpy.
    pending: Mutex<Pending, { rank::PENDING }>,
    /// Bytes appended and not yet written, those that the writer has taken included.
    pending_bytes: AtomicU64,
    /// The epochs and members so far. Changed only while `pending` is locked; otherwise a leaf lock.
    outline: RwLock<Outline, { rank::OUTLINE }>,
}

/// The pending records.
///
/// - Each record follows the one before: the next seq, no older epoch, no earlier time, the crc chained.
/// - When the writer takes `bytes`, it takes all of it. So if `bytes` is empty and the writer has written all it
///   took, then the last record is written (asserted in `Log::write`).
#[derive(Debug)]
struct Pending {
    bytes: Vec<u8>,
    /// The last record appended.
    last: Position,
    /// The epoch of the next record.
    epoch: Epoch,
    /// The time of the last record.
    at: UnixMillis,
}

impl Limits {
    fn of_segments(segment_bytes: u64) -> Limits {
        Limits {
            pending_bytes: AtomicU64::new(PENDING_BYTES_MAX),
            segment_bytes: AtomicU64::new(segment_bytes),
            backlog_bytes: AtomicU64::default(),
            pinned_bytes: AtomicU64::default(),
        }
    }
}

impl Log {
    /// Resumes at `end`, in the epoch of its record, with files of `size` bytes.
    pub fn resume(
        disk: Box<dyn Disk>,
        end: ResumePoint,
        outline: Outline,
        segment_bytes: u64,
        size: u64,
    ) -> io::Result<Log> {
        let mark = Mark::begin(&*disk, end.last.seq)?;
        let segments = Segments {
            writer: Mutex::new(Writer::at(&*disk, end)?),
            syncing: Mutex::default(),
            mark,
            is_full: AtomicBool::new(false),
            total_bytes: AtomicU64::new(size),
        };
        let (last, epoch) = (end.last, end.last.epoch);
        let pending = Pending { bytes: Vec::new(), last, epoch, at: UnixMillis(0) };
        let appender = Appender {
            pending: Mutex::new(pending),
            pending_bytes: AtomicU64::new(0),
            outline: RwLock::new(outline),
        };
        let watermarks = Watermarks::default();
        watermarks.resume_at(last.seq);
        Ok(Log {
            disk,
            appender,
            segments,
            watermarks,
            health: Health::default(),
            pins: Mutex::default(),
            limits: Limits::of_segments(segment_bytes),
            generation: AtomicU64::new(0),
            written_moved: Arc::default(),
            progress: Arc::default(),
            work: Signal::default(),
            awaits_writes: AtomicBool::new(false),
            stats: LogStats::default(),
        })
    }

    /// Adds a record. Called while the shards that it changes are locked, so that the order of the log is the
    /// order in which effects were applied. `now` is the time at which they were locked. A record of another
    /// shard may be later and yet be here first, so the record's own time is the later of the two.
    ///
    /// # Panics
    /// If the payload is longer than followers take. The settings are capped so that none can be.
    pub fn append(&self, payload: &[u8], now: UnixMillis) -> Seq {
        assert!(payload.len() as u64 <= PAYLOAD_BYTES_MAX, "a record of {} bytes", payload.len());
        let payload_crc = crc32fast::hash(payload);
        let mut pending = self.appender.pending.lock();
        self.add(&mut pending, payload, payload_crc, now);
        pending.last.seq
    }

    /// Adds a record of a cluster's members, unless the epoch is no longer this one: then another node leads, or is
    /// about to. Returns the members with the record's number. None also if they do not fit into a record
    /// ([`Members::payload`]).
    pub fn append_members(
        &self,
        members: Members,
        epoch: Epoch,
        now: UnixMillis,
    ) -> Option<Members> {
        let payload = members.payload()?;
        let payload_crc = crc32fast::hash(&payload);
        let mut pending = self.appender.pending.lock();
        if pending.epoch != epoch {
            return None;
        }
        self.add(&mut pending, &payload, payload_crc, now);
        let members = Members { seq: pending.last.seq, ..members };
        self.appender.outline.write().note_members(members.clone());
        Some(members)
    }

    /// Adds a record of this node's own.
    fn add(&self, pending: &mut Pending, payload: &[u8], payload_crc: u32, now: UnixMillis) {
        let before = pending.bytes.len();
        pending.at = pending.at.max(now);
        let Pending { bytes, last, epoch, at } = pending;
        *last = append_header(bytes, *last, *epoch, *at, payload.len(), payload_crc);
        bytes.extend_from_slice(payload);
        self.appender.pending_bytes.fetch_add((bytes.len() - before) as u64, Relaxed);
        self.watermarks.set_appended(last.seq);
    }

    /// Records are dated no earlier than this: after recovery, the time of the last one that it read.
    pub fn continue_after(&self, at: UnixMillis) {
        self.appender.pending.lock().at = at;
    }

    /// The time of the last record.
    pub fn last_at(&self) -> UnixMillis {
        self.appender.pending.lock().at
    }

    /// Decides whether a new write may begin; refuses while the log is broken. While too much is pending, the
    /// caller writes it or waits for the thread that does. Returns true if that was so.
    pub fn admit(&self) -> Result<bool, LogError> {
        let mut waited = false;
        while self.pending_bytes() > self.limits.pending_bytes.load(Relaxed) {
            self.stats.admission_waits.increment();
            self.ensure_written(self.appended())?;
            waited = true;
        }
        self.check().map(|()| waited)
    }

    /// The position after the last record appended.
    pub fn last(&self) -> Position {
        self.appender.pending.lock().last
    }

    /// Bytes appended and not yet written.
    pub fn pending_bytes(&self) -> u64 {
        self.appender.pending_bytes.load(Relaxed)
    }

    /// Bytes of the base and of all segments since.
    pub fn size(&self) -> u64 {
        self.segments.total_bytes.load(Relaxed)
    }

    /// The present epoch.
    pub fn epoch(&self) -> Epoch {
        self.appender.pending.lock().epoch
    }

    /// The epochs and members so far. Begin no epoch, and take no lock of the log's, while holding them.
    pub fn outline(&self) -> RwLockReadGuard<'_, Outline> {
        self.appender.outline.read()
    }

    /// The members of the cluster, as the newest record of them says, durable or not.
    pub fn members(&self) -> Option<Members> {
        self.outline().members().cloned()
    }

    /// The files' directory.
    pub fn disk(&self) -> &dyn Disk {
        &*self.disk
    }
}
