//! Making the log durable, alone or for many at once.

use super::{Log, LogError, LogFile};
use crate::aof::stats::Stages;
use crate::clock::Stopwatch;
use crate::lock::MutexGuard;
use crate::store::effect::Seq;
use std::sync::Arc;
use std::sync::atomic::Ordering::Release;

impl Log {
    /// Makes everything appended so far durable, alone or together with others' records.
    pub fn sync(&self) -> Result<Stages, LogError> {
        self.sync_holding(&mut self.syncing.lock())
    }

    /// As [`Log::sync`], unless somebody is syncing already.
    pub fn try_sync(&self) -> Option<Result<Stages, LogError>> {
        Some(self.sync_holding(&mut self.syncing.try_lock()?))
    }

    pub(super) fn sync_holding(
        &self,
        last: &mut MutexGuard<'_, Stages>,
    ) -> Result<Stages, LogError> {
        if let Err(error @ LogError::Sync(_)) = self.check() {
            return Err(error);
        }
        let (file, is_new, upto, write) = {
            let mut writer = self.writer.lock();
            let write = self.write_timed(&mut writer)?;
            if self.durable() == self.written() {
                // Somebody synced for all while we waited for our turn.
                return Ok(**last);
            }
            let is_new = writer.take_is_new();
            (Arc::clone(&writer.file), is_new, self.written(), write)
        };
        **last = Stages { write, ..self.sync_file(&*file, is_new, upto)? };
        Ok(**last)
    }

    /// Syncs a segment, and its name if that is new, and marks what is in it as durable.
    pub(super) fn sync_file(
        &self,
        file: &dyn LogFile,
        is_new: bool,
        upto: Seq,
    ) -> Result<Stages, LogError> {
        let watch = Stopwatch::start();
        let result = file.sync().and_then(|()| if is_new { self.disk.sync_dir() } else { Ok(()) });
        let (fsync, records) = (watch.nanos(), upto.0 - self.durable().0);
        let stages = Stages { fsync, records, ..Stages::default() };
        self.stats.note_fsync(stages);
        result.map_err(|error| self.fail(LogError::Sync(error.to_string())))?;
        self.durable.store(upto.0, Release);
        self.mark.note(upto);
        self.progress.notify();
        Ok(stages)
    }
}
