//! The log that is being written.
//!
//! A record passes three marks, and each reply waits for one of them:
//!
//! ```text
//! append (shard locks held)      write(2)               fdatasync
//! ───────▶ pending buffer ───────▶ kernel ───────────────▶ disk
//!          `appended`              `written`               `durable`
//!                                  survives kill -9        survives a power cut
//! ```
//!
//! - [`Log::append`] is a memcpy under `pending`, a leaf lock. It never waits for the disk.
//! - Whoever needs `written` and finds nobody writing writes for all ([`Log::ensure_written`]).
//! - Whoever needs `durable` and finds nobody syncing syncs for all ([`Log::sync`]): group commit.
//!
//! - A segment that has reached its size is ended by the sync thread ([`Log::rotate_if_full`]): all of it
//!   is made durable before the next one exists, so only the last segment can lose anything.
//!
//! Locks are taken in the order `syncing`, `writer`, `pending`.
//!
//! When a write fails (disk full), the rest of it stays and is tried again by the sync thread; until it
//! succeeds, [`Log::admit`] refuses new writes. The place in the file is ours, not the kernel's, so the
//! repetition overwrites whatever the failed call left. When a sync fails, nobody can know what the
//! kernel has dropped (the "fsyncgate" of 2018), so it is never repeated: writes are refused until the
//! server is restarted and has read back what is really there.

mod history;
mod retention;
mod syncing;
mod writing;

use super::disk::{Disk, LogFile};
use super::epochs::Epochs;
pub use super::failure::LogError;
use super::files;
use super::mark::Mark;
pub use super::record::ResumePoint;
use super::record::{Epoch, PAYLOAD_BYTES_MAX, Position, append_header};
use super::stats::{LogStats, Stages};
use crate::clock::UnixMillis;
use crate::signal::Signal;
use crate::store::effect::Seq;
pub use history::Frozen;
use parking_lot::{Mutex, RwLock};
pub use retention::{Pin, Retention};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
pub use writing::ReadableEnd;
use writing::Writer;

/// Writers wait before they lock anything, while more than this is pending: a slow disk slows them
/// down instead of filling the memory. A limit on memory makes it less, see [`Log::set_pending_max`].
pub const PENDING_BYTES_MAX: u64 = 64 << 20;
/// Buffers larger than this are given back.
const BUFFER_BYTES_KEEP: usize = 1 << 20;

/// A log open for writing.
#[derive(Debug)]
pub struct Log {
    disk: Box<dyn Disk>,
    segment_size: AtomicU64,
    pending: Mutex<Pending>,
    writer: Mutex<Writer>,
    /// Held by whoever syncs or begins a segment; what the last sync took.
    syncing: Mutex<Stages>,
    mark: Mark,
    /// Whether the segment has reached its size.
    is_full: AtomicBool,
    appended: AtomicU64,
    written: AtomicU64,
    durable: AtomicU64,
    pending_bytes: AtomicU64,
    pending_max: AtomicU64,
    /// Bytes of the base and of the segments.
    size: AtomicU64,
    /// Whether `error` holds one: the only cost when there is none.
    failed: AtomicBool,
    error: Mutex<Option<LogError>>,
    /// The leaderships so far; changed while `pending` is held.
    epochs: RwLock<Epochs>,
    /// How often the log has gone on elsewhere, or is about to: who has read from it before reads something
    /// else now.
    generation: AtomicU64,
    retention: Retention,
    /// Notified when `written` has moved, and by [`Log::wake_readers`].
    pub written_moved: Arc<Signal>,
    /// Notified when `durable` or `pending_bytes` has moved, and when an error comes or goes.
    pub progress: Arc<Signal>,
    /// Wakes the sync thread: there is something for it to do.
    pub work: Signal,
    /// The sync thread has synced all that is written, and waits for more.
    pub awaits_writes: AtomicBool,
    /// Counts for INFO.
    pub stats: LogStats,
}

/// Records that no write call has been made for.
#[derive(Debug)]
struct Pending {
    bytes: Vec<u8>,
    last: Position,
    /// Of the next record.
    epoch: Epoch,
    /// When the last record was written; the next one is no earlier, also if the clock was set back.
    at: UnixMillis,
}

impl Log {
    /// Goes on behind `tail`, with files of `size` bytes, as the leader of a new epoch.
    pub fn open(
        disk: Box<dyn Disk>,
        tail: ResumePoint,
        epoch: Epoch,
        segment_size: u64,
        size: u64,
        now: UnixMillis,
    ) -> io::Result<Log> {
        let log = Log::resume(disk, tail, Epochs::default(), segment_size, size)?;
        log.begin_epoch(epoch, now).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(log)
    }

    /// Goes on behind `tail`, in the epoch that it is of.
    pub fn resume(
        disk: Box<dyn Disk>,
        tail: ResumePoint,
        epochs: Epochs,
        segment_size: u64,
        size: u64,
    ) -> io::Result<Log> {
        let last = tail.last;
        let mark = Mark::begin(&*disk, last.seq)?;
        let writer = Writer::at(&*disk, tail)?;
        let seq = || AtomicU64::new(last.seq.0);
        Ok(Log {
            disk,
            segment_size: AtomicU64::new(segment_size),
            pending: Mutex::new(Pending {
                bytes: Vec::new(),
                last,
                epoch: last.epoch,
                at: UnixMillis(0),
            }),
            writer: Mutex::new(writer),
            syncing: Mutex::default(),
            mark,
            is_full: AtomicBool::new(false),
            appended: seq(),
            written: seq(),
            durable: seq(),
            pending_bytes: AtomicU64::new(0),
            pending_max: AtomicU64::new(PENDING_BYTES_MAX),
            size: AtomicU64::new(size),
            failed: AtomicBool::new(false),
            error: Mutex::new(None),
            epochs: RwLock::new(epochs),
            generation: AtomicU64::new(0),
            retention: Retention::default(),
            written_moved: Arc::default(),
            progress: Arc::default(),
            work: Signal::default(),
            awaits_writes: AtomicBool::new(false),
            stats: LogStats::default(),
        })
    }

    /// Adds a record. Called while the shards that it changes are locked, so that the order of the log
    /// is the order in which effects were applied. `now` is when they were locked; a record of another
    /// shard may be later and yet be here first, so the record's own time is the later of the two.
    ///
    /// # Panics
    /// If the payload is longer than followers take. The settings are capped so that none can be.
    pub fn append(&self, payload: &[u8], now: UnixMillis) -> Seq {
        assert!(payload.len() as u64 <= PAYLOAD_BYTES_MAX, "a record of {} bytes", payload.len());
        let payload_crc = crc32fast::hash(payload);
        self.append_to(&mut self.pending.lock(), payload, payload_crc, now)
    }

    fn append_to(
        &self,
        pending: &mut Pending,
        payload: &[u8],
        payload_crc: u32,
        now: UnixMillis,
    ) -> Seq {
        let before = pending.bytes.len();
        pending.at = pending.at.max(now);
        pending.last = append_header(
            &mut pending.bytes,
            pending.last,
            pending.epoch,
            pending.at,
            payload.len(),
            payload_crc,
        );
        pending.bytes.extend_from_slice(payload);
        self.pending_bytes.fetch_add((pending.bytes.len() - before) as u64, Relaxed);
        self.appended.store(pending.last.seq.0, Release);
        pending.last.seq
    }

    /// Records are dated no earlier than this: after recovery, the time of the last one that it read.
    pub fn continue_after(&self, at: UnixMillis) {
        self.pending.lock().at = at;
    }

    /// When the last record was written.
    pub fn last_at(&self) -> UnixMillis {
        self.pending.lock().at
    }

    /// Whether a new write may begin. While too much is pending, whoever asks writes it, or waits until
    /// somebody has; says whether that was so. Refuses while the log is broken.
    pub fn admit(&self) -> Result<bool, LogError> {
        let mut waited = false;
        while self.pending_bytes.load(Relaxed) > self.pending_max.load(Relaxed) {
            self.stats.admission_waits.increment();
            self.ensure_written(self.appended())?;
            waited = true;
        }
        self.check().map(|()| waited)
    }

    /// Whether it is broken at present.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Relaxed)
    }

    /// The present error.
    pub fn check(&self) -> Result<(), LogError> {
        if !self.failed.load(Relaxed) {
            return Ok(());
        }
        self.error.lock().clone().map_or(Ok(()), Err)
    }

    /// The last record appended.
    pub fn appended(&self) -> Seq {
        Seq(self.appended.load(Acquire))
    }

    /// The last record that the kernel has: it survives the process.
    pub fn written(&self) -> Seq {
        Seq(self.written.load(Acquire))
    }

    /// The last record that is on the disk: it survives the machine.
    pub fn durable(&self) -> Seq {
        Seq(self.durable.load(Acquire))
    }

    /// Bytes appended and not yet written.
    pub fn pending_bytes(&self) -> u64 {
        self.pending_bytes.load(Relaxed)
    }

    /// Bytes of the base and of all segments.
    pub fn size(&self) -> u64 {
        self.size.load(Relaxed)
    }

    /// The present leadership's number.
    pub fn epoch(&self) -> Epoch {
        self.pending.lock().epoch
    }

    /// The leaderships so far.
    pub fn epochs(&self) -> Epochs {
        self.epochs.read().clone()
    }

    /// Looks at the leaderships so far, without a copy. The look must take no lock of the log's.
    pub fn with_epochs<T>(&self, look: impl FnOnce(&Epochs) -> T) -> T {
        look(&self.epochs.read())
    }

    /// The files' directory.
    pub fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// Changes how much may be pending before writers wait.
    pub fn set_pending_max(&self, bytes: u64) {
        self.pending_max.store(bytes.min(PENDING_BYTES_MAX), Relaxed);
    }

    /// Changes the size at which segments end.
    pub fn set_segment_size(&self, bytes: u64) {
        self.segment_size.store(bytes, Relaxed);
    }

    fn fail_write(&self, error: &io::Error) -> LogError {
        self.fail(LogError::Write(error.to_string()))
    }

    fn fail(&self, error: LogError) -> LogError {
        let mut present = self.error.lock();
        // A failed sync is final; a failed write is said once, not at each retry.
        if present.is_none()
            || (matches!(error, LogError::Sync(_)) && *present != Some(error.clone()))
        {
            log::error!("{error}; writes are refused with MISCONF, reads go on");
            *present = Some(error.clone());
        }
        self.failed.store(true, Relaxed);
        drop(present);
        self.progress.notify();
        self.work.notify();
        error
    }
}
