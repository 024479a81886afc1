//! The log as one of several copies: new leaderships, records that come from a leader, and starting
//! over at another place.

use super::{Log, LogError, Tail};
use crate::aof::divergence;
use crate::aof::epochs::{EpochStart, Epochs};
use crate::aof::record::{Epoch, Header, Position};
use crate::clock::UnixMillis;
use crate::effect::Seq;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering::{Relaxed, Release};

impl Log {
    /// Begins a leadership: its first record, an empty one, is durable before this returns.
    pub fn begin_epoch(&self, epoch: Epoch, now: UnixMillis) -> Result<(), LogError> {
        {
            let mut pending = self.pending.lock();
            pending.epoch = epoch;
            let first = self.append_to(&mut pending, &[], crc32fast::hash(&[]), now);
            self.epochs.write().note(EpochStart { epoch, first, crc: pending.last.crc });
        }
        self.sync().map(drop)
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
        self.pending_bytes.fetch_add(record.len() as u64, Relaxed);
        self.appended.store(header.seq.0, Release);
        header.seq
    }

    /// The last record appended.
    pub fn last(&self) -> Position {
        self.pending.lock().last
    }

    /// Cuts the files off behind a record; [`Log::restart_at`] must follow. Nobody appends meanwhile.
    pub fn cut_behind(&self, dir: &Path, last: Seq) -> io::Result<()> {
        let _syncing = self.syncing.lock();
        // First, so that the mark is never ahead of the log.
        self.mark.set(last)?;
        divergence::cut_behind(dir, last)
    }

    /// Goes on behind another place: the files have been replaced or cut off there. Nobody appends
    /// meanwhile.
    ///
    /// # Panics
    /// If something is pending: it would belong to a history that is gone.
    pub fn restart_at(&self, tail: Tail, epochs: Epochs, size: u64) -> io::Result<()> {
        let _syncing = self.syncing.lock();
        let mut writer = self.writer.lock();
        let mut pending = self.pending.lock();
        assert!(
            pending.bytes.is_empty() && writer.is_idle(),
            "records are pending that belong to a history which is gone"
        );
        let Tail { last, .. } = tail;
        // The mark must never be ahead of the log, not even over a power cut.
        self.mark.set(last.seq)?;
        writer.move_to(&*self.disk, tail)?;
        (pending.last, pending.epoch) = (last, last.epoch);
        *self.epochs.write() = epochs;
        self.size.store(size, Relaxed);
        self.is_full.store(false, Relaxed);
        for reached in [&self.appended, &self.written, &self.durable] {
            reached.store(last.seq.0, Release);
        }
        Ok(())
    }

    /// The seqs of the log's records that are of one epoch with `seq`, and where that epoch began; None if
    /// this history does not have the record, or no longer knows whose it is.
    pub fn epoch_of(&self, seq: Seq) -> Option<EpochStart> {
        self.epochs.read().of(seq).filter(|_| seq <= self.appended())
    }
}
