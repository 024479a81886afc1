//! The log's files: handing records to the kernel, syncing them, and going from one segment to the next.

use super::{Log, LogError};
use crate::aof::disk::{Disk, LogFile, write_some_at};
use crate::aof::files;
use crate::aof::mark::Mark;
use crate::aof::record::{Position, ResumePoint};
use crate::aof::stats::Stages;
use crate::clock::Stopwatch;
use crate::lock::{Mutex, MutexGuard, rank};
use crate::store::effect::Seq;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

/// Buffers larger than this are given back.
const BUFFER_BYTES_KEEP: usize = 1 << 20;
/// A waypoint is kept for so many bytes of the log: a follower's place is found by reading no more than that.
const WAYPOINT_BYTES: u64 = 256 << 10;
/// Older ones are forgotten; before them, a place is looked for from the beginning of its segment.
const WAYPOINTS_MAX: usize = 4096;

/// The files, as far as they are being written.
///
/// - Only the holder of `syncing`, a [`SyncTurn`], moves `durable` and begins segments. So a segment is durable to
///   its end before the next one exists.
/// - `mark` is never ahead of `durable`.
#[derive(Debug)]
pub(super) struct Segments {
    pub writer: Mutex<Writer, { rank::WRITER }>,
    /// The turn to sync; holds the figures of the last sync.
    pub syncing: Mutex<Stages, { rank::SYNCING }>,
    pub mark: Mark,
    /// True if the segment has reached its size.
    pub is_full: AtomicBool,
    /// Bytes of the base and of all segments since.
    pub total_bytes: AtomicU64,
}

/// The turn to sync. Its holder alone moves `durable`, begins segments and replaces files.
pub(super) type SyncTurn<'l> = MutexGuard<'l, Stages>;

/// The segment that is being written.
#[derive(Debug)]
pub(super) struct Writer {
    pub file: Arc<dyn LogFile>,
    /// Bytes in the file that are ours.
    pub len: u64,
    /// Taken from the appender; the first `done` bytes are written.
    buffer: Vec<u8>,
    done: usize,
    /// The last record in `buffer`, or before it if that is empty.
    pub last: Position,
    /// A write failed: the file may hold anything after `len`.
    dirty_end: bool,
    /// The file's name is not synced yet.
    pub is_new: bool,
    /// The next segment could not be created; it is tried again when this one is so long.
    retry_at: u64,
    /// The end after the last write that left nothing half done.
    pub end: ReadableEnd,
    /// The end at the start and some since, ascending: a sparse index of the log, as Kafka keeps one of a segment.
    waypoints: VecDeque<ReadableEnd>,
}

/// How far the log can be read by others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadableEnd {
    /// The segment that is being written, by its first record.
    pub segment: Seq,
    /// Its length; it ends with a whole record.
    pub len: u64,
    /// That record.
    pub last: Position,
    /// Bytes written since the start of the process, up to here.
    pub bytes: u64,
}

impl Writer {
    /// Continues in the resume point's segment or, if it names none, in a new one.
    pub fn at(disk: &dyn Disk, at: ResumePoint) -> io::Result<Writer> {
        let (segment, len) = at.segment.unwrap_or((at.last.next(), 0));
        let name = files::segment_name(segment);
        let file = if at.segment.is_some() { disk.open(&name)? } else { disk.create(&name)? };
        let end = ReadableEnd { segment, len, last: at.last, bytes: 0 };
        Ok(Writer {
            file: Arc::from(file),
            len,
            buffer: Vec::new(),
            done: 0,
            last: at.last,
            dirty_end: false,
            is_new: true,
            retry_at: 0,
            end,
            waypoints: VecDeque::from([end]),
        })
    }

    /// True if nothing is left to write.
    pub fn is_idle(&self) -> bool {
        self.done == self.buffer.len()
    }

    /// Sets the end. It becomes a waypoint if the last one is far.
    fn move_end(&mut self, end: ReadableEnd) {
        self.end = end;
        let is_near = |last: &ReadableEnd| end.bytes < last.bytes + WAYPOINT_BYTES;
        if !self.waypoints.back().is_some_and(is_near) {
            if self.waypoints.len() == WAYPOINTS_MAX {
                self.waypoints.pop_front();
            }
            self.waypoints.push_back(end);
        }
    }

    /// Writes a part of the buffer; returns how many bytes. A repetition overwrites what a failed call left.
    fn write_some(&mut self) -> io::Result<u64> {
        if self.dirty_end {
            self.file.set_len(self.len)?;
            self.dirty_end = false;
        }
        let written = write_some_at(&*self.file, &self.buffer[self.done..], self.len);
        self.dirty_end = written.is_err();
        let n = written?;
        self.done += n;
        self.len += n as u64;
        Ok(n as u64)
    }
}

impl Log {
    /// Returns when all records up to `seq` have been handed to the kernel. If no other thread is writing, this
    /// one writes for all.
    pub fn ensure_written(&self, seq: Seq) -> Result<Stages, LogError> {
        let mut stages = Stages::default();
        if self.written() < seq {
            let mut writer = self.segments.writer.lock();
            if self.written() < seq {
                self.check()?;
                stages.write = self.write(&mut writer)?;
            }
        }
        Ok(stages)
    }

    /// Writes everything that is pending; returns the nanoseconds that it took, 0 if there was nothing.
    pub(super) fn write(&self, writer: &mut Writer) -> Result<u64, LogError> {
        let (stopwatch, before) = (Stopwatch::start(), writer.len);
        while !writer.is_idle() || self.take_pending(writer) {
            let n = writer.write_some();
            let n = n.map_err(|error| self.fail(LogError::Write(error.to_string())))?;
            self.segments.total_bytes.fetch_add(n, Relaxed);
            if writer.is_idle() {
                self.note_written(writer);
            }
        }
        if writer.len == before {
            return Ok(0);
        }
        let nanos = stopwatch.nanos();
        self.stats.write.record(nanos / 1000);
        Ok(nanos)
    }

    /// Takes what is pending into the writer's buffer; false if there is nothing.
    fn take_pending(&self, writer: &mut Writer) -> bool {
        writer.buffer.clear();
        writer.buffer.shrink_to(BUFFER_BYTES_KEEP);
        writer.done = 0;
        let mut pending = self.appender.pending.lock();
        std::mem::swap(&mut pending.bytes, &mut writer.buffer);
        writer.last = pending.last;
        let is_new = !writer.buffer.is_empty();
        assert!(
            is_new || self.written() == writer.last.seq,
            "a record is neither pending nor written"
        );
        is_new
    }

    /// The writer's buffer is written: publishes how far the log is written now.
    fn note_written(&self, writer: &mut Writer) {
        let (segments, bytes) = (&self.segments, writer.buffer.len() as u64);
        self.appender.pending_bytes.fetch_sub(bytes, Relaxed);
        self.stats.written_bytes.add(bytes);
        let bytes = self.stats.written_bytes.get();
        writer.move_end(ReadableEnd { len: writer.len, last: writer.last, bytes, ..writer.end });
        self.watermarks.set_written(writer.last.seq);
        self.written_moved.notify();
        let full_at = self.limits.segment_bytes.load(Relaxed).max(writer.retry_at);
        let is_full_now = writer.len >= full_at && !segments.is_full.swap(true, Relaxed);
        if is_full_now || self.awaits_writes.load(SeqCst) {
            self.work.notify();
        }
    }

    /// Makes everything appended so far durable, alone or together with others' records.
    pub fn sync(&self) -> Result<Stages, LogError> {
        self.sync_in(&mut self.segments.syncing.lock())
    }

    /// As [`Log::sync`]; None if another thread is syncing.
    pub fn try_sync(&self) -> Option<Result<Stages, LogError>> {
        Some(self.sync_in(&mut self.segments.syncing.try_lock()?))
    }

    pub(super) fn sync_in(&self, turn: &mut SyncTurn<'_>) -> Result<Stages, LogError> {
        if let Err(error @ LogError::Sync(_)) = self.check() {
            return Err(error);
        }
        let mut writer = self.segments.writer.lock();
        let write = self.write(&mut writer)?;
        let upto = self.written();
        if self.durable() == upto {
            // Another thread synced for all while this one waited for its turn.
            return Ok(**turn);
        }
        let is_new = std::mem::take(&mut writer.is_new);
        let file = Arc::clone(&writer.file);
        // Other threads may write meanwhile.
        drop(writer);
        **turn = Stages { write, ..self.sync_file(turn, &*file, is_new, upto)? };
        Ok(**turn)
    }

    /// Syncs a segment, and its name if that is new, and marks what is in it as durable.
    pub(super) fn sync_file(
        &self,
        _turn: &mut SyncTurn<'_>,
        file: &dyn LogFile,
        is_new: bool,
        upto: Seq,
    ) -> Result<Stages, LogError> {
        let stopwatch = Stopwatch::start();
        let result = file.sync().and_then(|()| if is_new { self.disk.sync_dir() } else { Ok(()) });
        let (fsync, records) = (stopwatch.nanos(), upto.0 - self.durable().0);
        self.stats.fsync.record(fsync / 1000);
        self.stats.fsync_records.record(records);
        self.stats.fsync_micros_max.fetch_max(fsync / 1000, Relaxed);
        result.map_err(|error| self.fail(LogError::Sync(error.to_string())))?;
        self.watermarks.set_durable(upto);
        // After `durable`: the mark must never be ahead of it.
        self.segments.mark.note(upto);
        self.progress.notify();
        Ok(Stages { fsync, records, ..Stages::default() })
    }

    /// Starts a new segment after everything appended so far. Returns the last position before it.
    pub fn rotate(&self) -> Result<Position, LogError> {
        let mut turn = self.segments.syncing.lock();
        // Most of what must be synced, while other threads still write.
        self.sync_in(&mut turn)?;
        let mut writer = self.segments.writer.lock();
        self.write(&mut writer)?;
        if writer.len > 0 {
            self.next_segment(&mut turn, &mut writer)?;
        }
        Ok(writer.last)
    }

    /// Starts a new segment if the present one has reached its size; called by the sync thread. If that fails,
    /// the present segment grows on.
    pub fn rotate_if_full(&self) {
        if !self.segments.is_full.swap(false, Relaxed) {
            return;
        }
        if let Err(LogError::Write(error)) = self.rotate() {
            log::error!("{error}; the present one grows on");
        }
    }

    /// Begins the next segment, after all that is written.
    ///
    /// The present one is made durable first. Otherwise a power cut could take the end of one segment and leave
    /// the next, and recovery could not tell that from a damaged log.
    fn next_segment(&self, turn: &mut SyncTurn<'_>, writer: &mut Writer) -> Result<(), LogError> {
        if self.durable() < self.written() {
            let is_new = std::mem::take(&mut writer.is_new);
            self.sync_file(turn, &*writer.file, is_new, self.written())?;
        }
        // A write may have found the present segment full while it was synced; the next one is not.
        self.segments.is_full.store(false, Relaxed);
        let first = writer.last.next();
        match self.disk.create(&files::segment_name(first)) {
            Ok(file) => {
                writer.file = Arc::from(file);
                (writer.len, writer.is_new, writer.retry_at) = (0, true, 0);
                (writer.end.segment, writer.end.len) = (first, 0);
                self.stats.segments_started.increment();
                Ok(())
            }
            // Writes are not refused: the present segment takes them as well.
            Err(error) => {
                writer.retry_at = writer.len + self.limits.segment_bytes.load(Relaxed) / 8;
                Err(LogError::Write(format!("cannot begin a new segment: {error}")))
            }
        }
    }

    /// True if the segment has reached its size.
    pub fn is_full(&self) -> bool {
        self.segments.is_full.load(Relaxed)
    }

    /// How far others can read.
    pub fn readable_end(&self) -> ReadableEnd {
        self.segments.writer.lock().end
    }

    /// The last known place in this segment that is not after this record: a record, and where it ends in the file.
    pub fn waypoint(&self, segment: Seq, seq: Seq) -> Option<(Position, u64)> {
        let writer = self.segments.writer.lock();
        let next = writer.waypoints.partition_point(|end| end.last.seq <= seq);
        let found = writer.waypoints.get(next.checked_sub(1)?)?;
        (found.segment == segment).then_some((found.last, found.len))
    }

    /// A base of so many bytes has replaced everything before the present segment.
    pub fn forget_before(&self, base_bytes: u64) {
        let writer = self.segments.writer.lock();
        self.segments.total_bytes.store(base_bytes + writer.len, Relaxed);
    }
}
