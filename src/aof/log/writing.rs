//! Handing records to the kernel, and going from one segment to the next.

use super::{BUFFER_BYTES_KEEP, Disk, Log, LogError, LogFile, Position, ResumePoint, files};
use crate::aof::stats::Stages;
use crate::clock::Stopwatch;
use crate::store::effect::Seq;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};

/// The place where the log goes on.
#[derive(Debug)]
pub(super) struct Writer {
    pub file: Arc<dyn LogFile>,
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
    /// As of the last write that left nothing half done.
    end: ReadableEnd,
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
    /// Goes on behind `tail`, in its segment or, if it names none, in a new one.
    pub(super) fn at(disk: &dyn Disk, tail: ResumePoint) -> io::Result<Writer> {
        let next = Seq(tail.last.seq.0 + 1);
        let (segment, len) = tail.segment.unwrap_or((next, 0));
        let name = files::segment_name(segment);
        let file = if tail.segment.is_some() { disk.open(&name)? } else { disk.create(&name)? };
        Ok(Writer {
            file: Arc::from(file),
            len,
            buffer: Vec::new(),
            done: 0,
            last: tail.last,
            dirty_end: false,
            is_new: true,
            retry_at: 0,
            end: ReadableEnd { segment, len, last: tail.last, bytes: 0 },
        })
    }

    /// Whether it has nothing left to write.
    pub(super) fn is_idle(&self) -> bool {
        self.done == self.buffer.len()
    }

    /// Goes on elsewhere.
    pub(super) fn move_to(&mut self, disk: &dyn Disk, tail: ResumePoint) -> io::Result<()> {
        let bytes = self.end.bytes;
        *self = Writer::at(disk, tail)?;
        self.end.bytes = bytes;
        Ok(())
    }

    /// Whether its segment's name is not yet synced; from here on somebody else sees to it.
    pub(super) fn take_is_new(&mut self) -> bool {
        std::mem::take(&mut self.is_new)
    }
}

impl Log {
    /// Returns when all records up to `seq` have been handed to the kernel.
    pub fn ensure_written(&self, seq: Seq) -> Result<Stages, LogError> {
        if self.written() >= seq {
            return Ok(Stages::default());
        }
        let mut writer = self.writer.lock();
        if self.written() >= seq {
            return Ok(Stages::default());
        }
        self.check()?;
        Ok(Stages { write: self.write_timed(&mut writer)?, ..Stages::default() })
    }

    /// As [`Log::write`]; returns the nanoseconds that it took, 0 if there was nothing to write.
    pub(super) fn write_timed(&self, writer: &mut Writer) -> Result<u64, LogError> {
        let (watch, before) = (Stopwatch::start(), writer.len);
        self.write(writer)?;
        if writer.len == before {
            return Ok(0);
        }
        let nanos = watch.nanos();
        self.stats.write.record(nanos / 1000);
        Ok(nanos)
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
                self.progress.notify();
            }
        }
    }

    /// Starts a new segment behind everything appended so far. Returns the last position before it.
    pub fn rotate(&self) -> Result<Position, LogError> {
        let mut syncing = self.syncing.lock();
        // Most of what has to be synced, while writers go on.
        self.sync_holding(&mut syncing)?;
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

    /// How far others can read.
    pub fn readable_end(&self) -> ReadableEnd {
        self.writer.lock().end
    }

    /// Wakes those who wait for something to be written: there is another reason to look.
    pub fn wake_readers(&self) {
        self.written_moved.notify();
    }

    /// Waits until something after `seq` is written, for at most so long: for whoever sends the log on.
    /// `unless` there is another reason to go on, of which [`Log::wake_readers`] tells.
    pub fn wait_written(&self, seq: Seq, at_most: Duration, unless: impl Fn() -> bool) {
        let deadline = Instant::now().checked_add(at_most);
        self.written_moved.wait_until(deadline, || self.written() > seq || unless());
    }

    /// A base of so many bytes has replaced everything before the present segment.
    pub fn forget_before(&self, base_bytes: u64) {
        let writer = self.writer.lock();
        self.size.store(base_bytes + writer.len, Relaxed);
    }

    /// Writes everything that is pending.
    pub(super) fn write(&self, writer: &mut Writer) -> Result<(), LogError> {
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
                self.note_written(writer);
                let full_at = self.segment_size.load(Relaxed).max(writer.retry_at);
                if writer.len >= full_at && !self.is_full.swap(true, Relaxed) {
                    self.work.notify();
                }
            }
        }
    }

    /// Tells everyone how far the log is written now.
    fn note_written(&self, writer: &mut Writer) {
        let bytes = self.stats.written_bytes.get();
        writer.end = ReadableEnd { len: writer.len, last: writer.last, bytes, ..writer.end };
        // Sequentially consistent with the sync thread's wait: either it is seen waiting here, or it sees this.
        self.written.store(writer.last.seq.0, SeqCst);
        self.written_moved.notify();
        if self.awaits_writes.load(SeqCst) {
            self.work.notify();
        }
    }

    /// Whether the segment has reached its size.
    pub fn is_full(&self) -> bool {
        self.is_full.load(Relaxed)
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
            let is_new = writer.take_is_new();
            self.sync_file(&*writer.file, is_new, self.written())?;
        }
        // Also if a write has found it full while it was being synced: the next one is not.
        self.is_full.store(false, Relaxed);
        let first = Seq(writer.last.seq.0 + 1);
        match self.disk.create(&files::segment_name(first)) {
            Ok(file) => {
                writer.file = Arc::from(file);
                (writer.len, writer.is_new, writer.retry_at) = (0, true, 0);
                (writer.end.segment, writer.end.len) = (first, 0);
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
}
