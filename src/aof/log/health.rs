//! Whether the log can be written.

use super::Log;
use crate::aof::errors::LogError;
use crate::lock::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The log's present error, if there is one.
///
/// - `failed` is true exactly if `error` holds one. Reading it is the only cost while there is none.
/// - A failed write goes away when a repetition succeeds. A failed sync stays until the process ends.
#[derive(Debug, Default)]
pub(super) struct Health {
    failed: AtomicBool,
    error: Mutex<Option<LogError>>,
}

impl Log {
    /// True while the log is broken.
    pub fn has_failed(&self) -> bool {
        self.health.failed.load(Relaxed)
    }

    /// The present error.
    pub fn check(&self) -> Result<(), LogError> {
        if !self.has_failed() {
            return Ok(());
        }
        self.health.error.lock().clone().map_or(Ok(()), Err)
    }

    /// Records an error. Repetitions of a failed write are not logged.
    pub(super) fn fail(&self, error: LogError) -> LogError {
        let mut present = self.health.error.lock();
        let is_news = match &*present {
            None => true,
            Some(present) => !error.is_retried() && *present != error,
        };
        if is_news {
            log::error!("{error}; writes are refused with MISCONF, reads go on");
            *present = Some(error.clone());
        }
        self.health.failed.store(true, Relaxed);
        drop(present);
        self.watermarks.progress.notify();
        self.work.notify();
        error
    }

    /// Repeats a write that failed; called by the sync thread.
    pub fn retry(&self) {
        if !matches!(self.check(), Err(error) if error.is_retried()) {
            return;
        }
        if self.write(&mut self.segments.writer.lock()).is_err() {
            return;
        }
        let mut present = self.health.error.lock();
        // A sync may have failed meanwhile. Only a restart takes that back.
        if present.as_ref().is_some_and(LogError::is_retried) {
            *present = None;
            self.health.failed.store(false, Relaxed);
            drop(present);
            log::warn!("the log can be written again; service resumes");
            self.watermarks.progress.notify();
        }
    }
}
