//! Making the log durable, alone or for many at once.

use super::{Log, LogError, LogFile, WAIT_STEP};
use crate::clock::Stopwatch;
use crate::effect::Seq;
use crate::shutdown::Shutdown;
use parking_lot::MutexGuard;
use std::sync::Arc;
use std::sync::atomic::Ordering::Release;
use std::time::{Duration, Instant};

impl Log {
    /// Makes everything appended so far durable, alone or together with others' records.
    pub fn sync(&self) -> Result<(), LogError> {
        self.sync_holding(&self.syncing.lock())
    }

    /// As [`Log::sync`], unless somebody is syncing already.
    pub fn try_sync(&self) -> Option<Result<(), LogError>> {
        Some(self.sync_holding(&self.syncing.try_lock()?))
    }

    pub(super) fn sync_holding(&self, _syncing: &MutexGuard<'_, ()>) -> Result<(), LogError> {
        if let Err(error @ LogError::Sync(_)) = self.check() {
            return Err(error);
        }
        let (file, is_new, upto) = {
            let mut writer = self.writer.lock();
            self.write(&mut writer)?;
            if self.durable() == self.written() {
                return Ok(());
            }
            let is_new = writer.take_is_new();
            (Arc::clone(&writer.file), is_new, self.written())
        };
        self.sync_file(&*file, is_new, upto)
    }

    /// Syncs a segment, and its name if that is new, and marks what is in it as durable.
    pub(super) fn sync_file(
        &self,
        file: &dyn LogFile,
        is_new: bool,
        upto: Seq,
    ) -> Result<(), LogError> {
        let watch = Stopwatch::start();
        let result = file.sync().and_then(|()| if is_new { self.disk.sync_dir() } else { Ok(()) });
        self.stats.fsync(watch.micros(), upto.0 - self.durable().0);
        result.map_err(|error| self.fail(LogError::Sync(error.to_string())))?;
        self.durable.store(upto.0, Release);
        self.mark.note(upto);
        self.notify();
        Ok(())
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
}
