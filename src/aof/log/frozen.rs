//! The log of a follower: records that come from a leader, and resuming after another record when the files have
//! been cut off or replaced.

use super::segments::{SyncTurn, Writer};
use super::{Log, LogError, Pending};
use crate::aof::outline::Outline;
use crate::aof::record::{Epoch, Header, Position, ResumePoint};
use crate::clock::UnixMillis;
use crate::cluster::members::Members;
use crate::store::effect::Seq;
use std::io;
use std::sync::atomic::{Ordering::Relaxed, Ordering::SeqCst};

/// While this is held, no thread syncs or begins a segment: the files can be replaced or cut off.
pub struct Frozen<'l> {
    log: &'l Log,
    _turn: SyncTurn<'l>,
}

impl Log {
    /// Begins an epoch: its first record, an empty one, is durable before this returns.
    pub fn begin_epoch(&self, epoch: Epoch, now: UnixMillis) -> Result<Position, LogError> {
        let mut pending = self.appender.pending.lock();
        let first = self.add_first(&mut pending, epoch, now);
        drop(pending);
        self.sync().map(|_| first)
    }

    /// As [`Log::begin_epoch`], for an epoch that this node was elected for: only if `is_mine` still holds while no
    /// other record can be added. The record is not durable yet.
    pub fn begin_epoch_if(
        &self,
        epoch: Epoch,
        now: UnixMillis,
        is_mine: impl FnOnce() -> bool,
    ) -> Option<Position> {
        let mut pending = self.appender.pending.lock();
        let begins = pending.epoch < epoch && is_mine();
        begins.then(|| self.add_first(&mut pending, epoch, now))
    }

    fn add_first(&self, pending: &mut Pending, epoch: Epoch, now: UnixMillis) -> Position {
        pending.epoch = epoch;
        self.add(pending, &[], crc32fast::hash(&[]), now);
        self.appender.outline.write().epochs.note(pending.last);
        pending.last
    }

    /// Adds a record of the leader's, byte for byte. The caller has checked it against [`Log::last`], and holds
    /// the locks of what it changes.
    ///
    /// # Panics
    /// If it does not follow the last record: the copies would differ from then on. Also if it is a damaged record of
    /// members.
    pub fn append_record(&self, header: &Header, record: &[u8]) -> Seq {
        let payload = &record[record.len() - header.len as usize..];
        let members = Members::of_record(header.seq, payload).expect("the caller has checked it");
        let mut pending = self.appender.pending.lock();
        let follows = header.seq == pending.last.next() && header.epoch >= pending.last.epoch;
        assert!(follows, "a record of the leader's must follow the last one");
        if header.epoch > pending.last.epoch {
            self.appender.outline.write().epochs.note(header.position());
            pending.epoch = header.epoch;
        }
        if let Some(members) = members {
            self.appender.outline.write().note_members(members);
        }
        pending.bytes.extend_from_slice(record);
        pending.last = header.position();
        pending.at = pending.at.max(header.at);
        self.appender.pending_bytes.fetch_add(record.len() as u64, Relaxed);
        self.watermarks.set_appended(header.seq);
        header.seq
    }

    /// Waits for the turn to sync and keeps it. The caller appends nothing meanwhile.
    pub fn freeze(&self) -> Frozen<'_> {
        let frozen = Frozen { log: self, _turn: self.segments.syncing.lock() };
        self.generation.fetch_add(1, SeqCst);
        self.written_moved.notify();
        frozen
    }

    /// Changes when the log resumes after another record than its last, or is about to. Bytes
    /// read before a change must not be joined to bytes read after it.
    pub fn generation(&self) -> u64 {
        self.generation.load(SeqCst)
    }
}

impl Frozen<'_> {
    /// True if everything that was appended is in the files.
    pub fn is_complete(&self) -> bool {
        let writer = self.log.segments.writer.lock();
        writer.is_idle() && self.log.appender.pending.lock().bytes.is_empty()
    }

    /// Sets the mark, durably, before the files are cut off after this record.
    pub fn set_mark(&self, last: Seq) -> io::Result<()> {
        self.log.segments.mark.set(last)
    }

    /// Resumes where the replaced or shortened files end; they have `size` bytes.
    ///
    /// # Panics
    /// If something is pending: it would belong to a history that is gone ([`Frozen::is_complete`]).
    pub fn resume_at(self, at: ResumePoint, outline: Outline, size: u64) -> io::Result<()> {
        let log = self.log;
        let mut writer = log.segments.writer.lock();
        let mut pending = log.appender.pending.lock();
        assert!(
            pending.bytes.is_empty() && writer.is_idle(),
            "records are pending that belong to a history which is gone"
        );
        // The mark must never be ahead of the log, not even over a power cut.
        log.segments.mark.set(at.last.seq)?;
        let bytes = writer.end.bytes;
        *writer = Writer::at(&*log.disk, at)?;
        writer.end.bytes = bytes;
        (pending.last, pending.epoch) = (at.last, at.last.epoch);
        *log.appender.outline.write() = outline;
        log.segments.total_bytes.store(size, Relaxed);
        log.segments.is_full.store(false, Relaxed);
        log.watermarks.resume_at(at.last.seq);
        // Again: a thread that read the generation in between may have seen a part of these changes.
        log.generation.fetch_add(1, SeqCst);
        drop((pending, writer));
        log.written_moved.notify();
        log.progress.notify();
        Ok(())
    }
}
