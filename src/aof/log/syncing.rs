//! Making the log durable, alone or for many at once: group commit.

use super::{Log, LogError};
use crate::aof::disk::LogFile;
use crate::aof::stats::Stages;
use crate::clock::Stopwatch;
use crate::lock::MutexGuard;
use crate::store::effect::Seq;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// The turn to sync: its holder alone moves `durable`, begins segments and replaces files. Holds the figures of
/// the last sync.
pub(super) struct SyncTurn<'l>(MutexGuard<'l, Stages>);

impl Log {
    /// Makes everything appended so far durable, alone or together with others' records.
    pub fn sync(&self) -> Result<Stages, LogError> {
        self.sync_in(&mut self.sync_turn())
    }

    /// As [`Log::sync`]; None if another thread is syncing.
    pub fn try_sync(&self) -> Option<Result<Stages, LogError>> {
        let mut turn = SyncTurn(self.segments.syncing.try_lock()?);
        Some(self.sync_in(&mut turn))
    }

    /// Waits for the turn to sync.
    pub(super) fn sync_turn(&self) -> SyncTurn<'_> {
        SyncTurn(self.segments.syncing.lock())
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
            return Ok(*turn.0);
        }
        let is_new = std::mem::take(&mut writer.is_new);
        let file = Arc::clone(&writer.file);
        // Other threads may write meanwhile.
        drop(writer);
        *turn.0 = Stages { write, ..self.sync_file(turn, &*file, is_new, upto)? };
        Ok(*turn.0)
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
        self.watermarks.progress.notify();
        Ok(Stages { fsync, records, ..Stages::default() })
    }
}
