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

use super::disk::{Disk, LogFile};
pub use super::failure::LogError;
use super::files;
use super::mark::Mark;
pub use super::record::Tail;
use super::record::{Epoch, Position, append_header};
use super::stats::LogStats;
use crate::clock::{Stopwatch, UnixMillis};
use crate::effect::Seq;
use crate::shutdown::Shutdown;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::time::{Duration, Instant};

/// Writers wait before they lock anything, while more than this is pending: a slow disk slows them
/// down instead of filling the memory. A limit on memory makes it less, see [`Log::set_pending_max`].
pub const PENDING_BYTES_MAX: u64 = 64 << 20;
/// How long a wait for progress lasts before the reasons to stop waiting are looked at again.
const WAIT_STEP: Duration = Duration::from_millis(10);
/// Buffers larger than this are given back.
const BUFFER_BYTES_KEEP: usize = 1 << 20;

/// A log open for writing.
#[derive(Debug)]
pub struct Log {
    disk: Box<dyn Disk>,
    epoch: Epoch,
    segment_size: AtomicU64,
    pending: Mutex<Pending>,
    writer: Mutex<Writer>,
    /// Held by whoever syncs or begins a segment.
    syncing: Mutex<()>,
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
    /// Signalled when `durable` or `pending_bytes` changes and when an error comes or goes.
    progress: Condvar,
    progress_lock: Mutex<()>,
    /// Counts for INFO.
    pub stats: LogStats,
}

/// Records that no write call has been made for.
#[derive(Debug)]
struct Pending {
    bytes: Vec<u8>,
    last: Position,
}

/// The place where the log goes on.
#[derive(Debug)]
struct Writer {
    file: Arc<dyn LogFile>,
    /// Bytes in the file that are ours.
    len: u64,
    /// Taken from `Pending`; the first `done` bytes are written.
    buffer: Vec<u8>,
    done: usize,
    /// The last record in `buffer`.
    last: Position,
    /// A write failed, and behind `len` the file may hold anything.
    dirty_end: bool,
    /// The file's name is not yet synced.
    is_new: bool,
    /// A new segment could not be begun; it is tried again when this one is so long.
    retry_at: u64,
}

impl Log {
    /// Goes on behind `tail`, with files of `size` bytes, with a new epoch, whose first record is made durable before this returns.
    pub fn open(
        disk: Box<dyn Disk>,
        tail: Tail,
        epoch: Epoch,
        segment_size: u64,
        size: u64,
        now: UnixMillis,
    ) -> io::Result<Log> {
        let mark = Mark::begin(&*disk, tail.last.seq)?;
        let next = Seq(tail.last.seq.0 + 1);
        let (file, len) = match tail.segment {
            Some((first, len)) => (disk.open(&files::segment_name(first))?, len),
            None => (disk.create(&files::segment_name(next))?, 0),
        };
        let writer = Writer {
            file: Arc::from(file),
            len,
            buffer: Vec::new(),
            done: 0,
            last: tail.last,
            dirty_end: false,
            is_new: true,
            retry_at: 0,
        };
        let log = Log {
            disk,
            epoch,
            segment_size: AtomicU64::new(segment_size),
            pending: Mutex::new(Pending { bytes: Vec::new(), last: tail.last }),
            writer: Mutex::new(writer),
            syncing: Mutex::new(()),
            mark,
            is_full: AtomicBool::new(false),
            appended: AtomicU64::new(tail.last.seq.0),
            written: AtomicU64::new(tail.last.seq.0),
            durable: AtomicU64::new(tail.last.seq.0),
            pending_bytes: AtomicU64::new(0),
            pending_max: AtomicU64::new(PENDING_BYTES_MAX),
            size: AtomicU64::new(size),
            failed: AtomicBool::new(false),
            error: Mutex::new(None),
            progress: Condvar::new(),
            progress_lock: Mutex::new(()),
            stats: LogStats::default(),
        };
        log.append(&[], now);
        log.sync().map_err(|error| io::Error::other(error.to_string()))?;
        Ok(log)
    }

    /// Adds a record. Called while the shards that it changes are locked, so that the order of the log
    /// is the order in which effects were applied.
    pub fn append(&self, payload: &[u8], now: UnixMillis) -> Seq {
        let payload_crc = crc32fast::hash(payload);
        let mut pending = self.pending.lock();
        let pending = &mut *pending;
        let before = pending.bytes.len();
        pending.last = append_header(
            &mut pending.bytes,
            pending.last,
            self.epoch,
            now,
            payload.len(),
            payload_crc,
        );
        pending.bytes.extend_from_slice(payload);
        self.pending_bytes.fetch_add((pending.bytes.len() - before) as u64, Relaxed);
        self.appended.store(pending.last.seq.0, Release);
        pending.last.seq
    }

    /// Whether a new write may begin. Waits while too much is pending; refuses while the log is broken.
    pub fn admit(&self) -> Result<(), LogError> {
        while self.pending_bytes.load(Relaxed) > self.pending_max.load(Relaxed) {
            self.check()?;
            self.stats.admission_waits.increment();
            self.wait_for_progress(WAIT_STEP);
        }
        self.check()
    }

    /// The present error.
    pub fn check(&self) -> Result<(), LogError> {
        if !self.failed.load(Relaxed) {
            return Ok(());
        }
        self.error.lock().clone().map_or(Ok(()), Err)
    }

    /// Returns when all records up to `seq` have been handed to the kernel.
    pub fn ensure_written(&self, seq: Seq) -> Result<(), LogError> {
        if self.written() >= seq {
            return Ok(());
        }
        let mut writer = self.writer.lock();
        if self.written() >= seq {
            return Ok(());
        }
        self.check()?;
        self.write(&mut writer)
    }

    /// Makes everything appended so far durable, alone or together with others' records.
    pub fn sync(&self) -> Result<(), LogError> {
        self.sync_holding(&self.syncing.lock())
    }

    /// As [`Log::sync`], unless somebody is syncing already.
    pub fn try_sync(&self) -> Option<Result<(), LogError>> {
        Some(self.sync_holding(&self.syncing.try_lock()?))
    }

    fn sync_holding(&self, _syncing: &MutexGuard<'_, ()>) -> Result<(), LogError> {
        if let Err(error @ LogError::Sync(_)) = self.check() {
            return Err(error);
        }
        let (file, is_new, upto) = {
            let mut writer = self.writer.lock();
            self.write(&mut writer)?;
            if self.durable() == self.written() {
                return Ok(());
            }
            let is_new = std::mem::take(&mut writer.is_new);
            (Arc::clone(&writer.file), is_new, self.written())
        };
        self.sync_file(&*file, is_new, upto)
    }

    /// Syncs a segment, and its name if that is new, and marks what is in it as durable.
    fn sync_file(&self, file: &dyn LogFile, is_new: bool, upto: Seq) -> Result<(), LogError> {
        let watch = Stopwatch::start();
        let result = file.sync().and_then(|()| if is_new { self.disk.sync_dir() } else { Ok(()) });
        self.stats.fsync(watch.micros(), upto.0 - self.durable().0);
        result.map_err(|error| self.fail(LogError::Sync(error.to_string())))?;
        self.durable.store(upto.0, Release);
        self.mark.note(upto);
        self.notify();
        Ok(())
    }

    /// Tries again what failed to be written; called by the sync thread.
    pub fn retry(&self) {
        let is_write_error = |error: &Option<_>| matches!(error, Some(LogError::Write(_)));
        if !self.failed.load(Relaxed) || !is_write_error(&self.error.lock()) {
            return;
        }
        let mut writer = self.writer.lock();
        if self.write(&mut writer).is_ok() {
            let mut present = self.error.lock();
            // A sync may have failed meanwhile, and nothing but a restart takes that back.
            if is_write_error(&present) {
                *present = None;
                self.failed.store(false, Relaxed);
                drop(present);
                log::warn!("the log can be written again; service resumes");
                self.notify();
            }
        }
    }

    /// Starts a new segment behind everything appended so far. Returns the last position before it.
    pub fn rotate(&self) -> Result<Position, LogError> {
        let syncing = self.syncing.lock();
        // Most of what has to be synced, while writers go on.
        self.sync_holding(&syncing)?;
        let mut writer = self.writer.lock();
        self.write(&mut writer)?;
        if writer.len > 0 {
            self.next_segment(&mut writer)?;
        }
        Ok(writer.last)
    }

    /// Starts a new segment if the present one has reached its size; called by the sync thread. If that
    /// fails, the present one grows on.
    pub fn rotate_if_full(&self) {
        if !self.is_full.swap(false, Relaxed) {
            return;
        }
        if let Err(LogError::Write(error)) = self.rotate() {
            log::error!("cannot begin a new segment: {error}; the present one grows on");
        }
    }

    /// Waits until everything up to `seq` is durable, the time is over, the log fails or the server
    /// ends; returns whether it is.
    pub fn wait_durable(&self, seq: Seq, timeout: Option<Duration>, shutdown: &Shutdown) -> bool {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        while self.durable() < seq {
            let over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if over || self.check().is_err() || shutdown.is_requested() {
                return false;
            }
            self.wait_for_progress(WAIT_STEP);
        }
        true
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

    /// A base of so many bytes has replaced everything before the present segment.
    pub fn forget_before(&self, base_bytes: u64) {
        let writer = self.writer.lock();
        self.size.store(base_bytes + writer.len, Relaxed);
    }

    /// This leadership's number.
    pub fn epoch(&self) -> Epoch {
        self.epoch
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

    /// Writes everything that is pending.
    fn write(&self, writer: &mut Writer) -> Result<(), LogError> {
        loop {
            if writer.done == writer.buffer.len() && !self.take_pending(writer) {
                return Ok(());
            }
            if writer.dirty_end {
                writer.file.set_len(writer.len).map_err(|error| self.fail_write(&error))?;
                writer.dirty_end = false;
            }
            match writer.file.write_at(&writer.buffer[writer.done..], writer.len) {
                Ok(n) if n > 0 => {
                    writer.done += n;
                    self.size.fetch_add(n as u64, Relaxed);
                    writer.len += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => {
                    writer.dirty_end = true;
                    let error = result.err().unwrap_or(io::ErrorKind::WriteZero.into());
                    return Err(self.fail_write(&error));
                }
            }
            if writer.done == writer.buffer.len() {
                self.pending_bytes.fetch_sub(writer.buffer.len() as u64, Relaxed);
                self.stats.written_bytes.add(writer.buffer.len() as u64);
                self.written.store(writer.last.seq.0, Release);
                let full_at = self.segment_size.load(Relaxed).max(writer.retry_at);
                self.is_full.fetch_or(writer.len >= full_at, Relaxed);
            }
        }
    }

    /// Takes what is pending into the writer's buffer; returns whether there was anything.
    fn take_pending(&self, writer: &mut Writer) -> bool {
        writer.buffer.clear();
        writer.buffer.shrink_to(BUFFER_BYTES_KEEP);
        writer.done = 0;
        let mut pending = self.pending.lock();
        std::mem::swap(&mut pending.bytes, &mut writer.buffer);
        writer.last = pending.last;
        !writer.buffer.is_empty()
    }

    /// Begins the next segment, behind all that has been appended, while nobody else syncs.
    ///
    /// What is before it is made durable first. Else a power cut could take the end of one segment and
    /// leave the next, and recovery could not tell that from a damaged log.
    fn next_segment(&self, writer: &mut Writer) -> Result<(), LogError> {
        if self.durable() < self.written() {
            self.sync_file(&*writer.file, std::mem::take(&mut writer.is_new), self.written())?;
        }
        // Also if a write has found it full while it was being synced: the next one is not.
        self.is_full.store(false, Relaxed);
        let first = Seq(writer.last.seq.0 + 1);
        match self.disk.create(&files::segment_name(first)) {
            Ok(file) => {
                writer.file = Arc::from(file);
                (writer.len, writer.is_new, writer.retry_at) = (0, true, 0);
                self.stats.segments_started.increment();
                Ok(())
            }
            // No reason to refuse writes: the present segment takes them as well.
            Err(error) => {
                writer.retry_at = writer.len + self.segment_size.load(Relaxed) / 8;
                Err(LogError::Write(error.to_string()))
            }
        }
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
        self.notify();
        error
    }

    fn notify(&self) {
        drop(self.progress_lock.lock());
        self.progress.notify_all();
    }

    fn wait_for_progress(&self, at_most: Duration) {
        self.progress.wait_for(&mut self.progress_lock.lock(), at_most);
    }
}
