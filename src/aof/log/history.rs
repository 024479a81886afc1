//! The log as one of several copies: new leaderships, records that come from a leader, and starting
//! over at another place.

use super::{Log, LogError, ResumePoint};
use crate::aof::epochs::{EpochStart, Epochs};
use crate::aof::record::{Epoch, Header, Position};
use crate::aof::stats::Stages;
use crate::aof::truncate;
use crate::clock::UnixMillis;
use crate::store::effect::Seq;
use parking_lot::MutexGuard;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering::{Relaxed, Release, SeqCst};

/// As long as it is held, nobody syncs and nobody begins a segment: the files can be replaced or cut off.
pub struct Frozen<'l> {
    log: &'l Log,
    _syncing: MutexGuard<'l, Stages>,
}

impl Log {
    /// Begins a leadership: its first record, an empty one, is durable before this returns.
    pub fn begin_epoch(&self, epoch: Epoch, now: UnixMillis) -> Result<Position, LogError> {
        let first = {
            let mut pending = self.pending.lock();
            pending.epoch = epoch;
            let first = self.append_to(&mut pending, &[], crc32fast::hash(&[]), now);
            self.epochs.write().note(EpochStart { epoch, first, crc: pending.last.crc });
            pending.last
        };
        self.sync().map(|_| first)
    }

    /// Adds a record of the leader's, byte for byte. The caller has checked it against [`Log::last`], and
    /// holds the locks of what it changes.
    ///
    /// # Panics
    /// If it does not follow the last record.
    pub fn append_record(&self, header: &Header, record: &[u8]) -> Seq {
        let mut pending = self.pending.lock();
        let follows = header.seq.0 == pending.last.seq.0 + 1 && header.epoch >= pending.last.epoch;
        assert!(follows, "a record of the leader's must follow the last one");
        if header.epoch > pending.last.epoch {
            let (epoch, first, crc) = (header.epoch, header.seq, header.crc);
            self.epochs.write().note(EpochStart { epoch, first, crc });
            pending.epoch = epoch;
        }
        pending.bytes.extend_from_slice(record);
        pending.last = Position { seq: header.seq, epoch: header.epoch, crc: header.crc };
        pending.at = pending.at.max(header.at);
        self.pending_bytes.fetch_add(record.len() as u64, Relaxed);
        self.appended.store(header.seq.0, Release);
        header.seq
    }

    /// The last record appended.
    pub fn last(&self) -> Position {
        self.pending.lock().last
    }

    /// The files are about to be replaced or cut off. Nobody appends meanwhile.
    pub fn freeze(&self) -> Frozen<'_> {
        let frozen = Frozen { log: self, _syncing: self.syncing.lock() };
        self.generation.fetch_add(1, SeqCst);
        self.wake_readers();
        frozen
    }

    /// Changes when the log goes on elsewhere than at its end.
    pub fn generation(&self) -> u64 {
        self.generation.load(SeqCst)
    }

    /// The seqs of the log's records that are of one epoch with `seq`, and where that epoch began; None if
    /// this history does not have the record, or no longer knows whose it is.
    pub fn epoch_of(&self, seq: Seq) -> Option<EpochStart> {
        self.epochs.read().of(seq).filter(|_| seq <= self.appended())
    }
}

impl Frozen<'_> {
    /// Whether everything that was appended is in the files.
    pub fn is_settled(&self) -> bool {
        let writer = self.log.writer.lock();
        writer.is_idle() && self.log.pending.lock().bytes.is_empty()
    }

    /// Cuts the files off behind a record; [`Frozen::resume_at`] must follow.
    pub fn cut_after(&self, dir: &Path, last: Seq) -> io::Result<()> {
        // First, so that the mark is never ahead of the log.
        self.log.mark.set(last)?;
        truncate::cut_after(dir, last)
    }

    /// Goes on behind another place: the files have been replaced or cut off there.
    ///
    /// # Panics
    /// If something is pending: it would belong to a history that is gone ([`Frozen::is_settled`]).
    pub fn resume_at(self, tail: ResumePoint, epochs: Epochs, size: u64) -> io::Result<()> {
        let log = self.log;
        let mut writer = log.writer.lock();
        let mut pending = log.pending.lock();
        assert!(
            pending.bytes.is_empty() && writer.is_idle(),
            "records are pending that belong to a history which is gone"
        );
        let ResumePoint { last, .. } = tail;
        // The mark must never be ahead of the log, not even over a power cut.
        log.mark.set(last.seq)?;
        writer.move_to(&*log.disk, tail)?;
        (pending.last, pending.epoch) = (last, last.epoch);
        *log.epochs.write() = epochs;
        log.size.store(size, Relaxed);
        log.is_full.store(false, Relaxed);
        for reached in [&log.appended, &log.written, &log.durable] {
            reached.store(last.seq.0, Release);
        }
        // Once more: who looked in between may have seen some of this and some of that.
        log.generation.fetch_add(1, SeqCst);
        drop((pending, writer));
        log.wake_readers();
        log.progress.notify();
        Ok(())
    }
}
