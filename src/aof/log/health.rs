//! Whether the log can be written.

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

impl Health {
    pub fn has_failed(&self) -> bool {
        self.failed.load(Relaxed)
    }

    pub fn check(&self) -> Result<(), LogError> {
        if !self.has_failed() {
            return Ok(());
        }
        self.error.lock().clone().map_or(Ok(()), Err)
    }

    /// Records an error. Repetitions of a failed write are not logged.
    pub fn fail(&self, error: &LogError) {
        let mut present = self.error.lock();
        let is_news = match &*present {
            None => true,
            Some(present) => !error.is_retried() && present != error,
        };
        if is_news {
            log::error!("{error}; writes are refused with MISCONF, reads go on");
            *present = Some(error.clone());
        }
        self.failed.store(true, Relaxed);
    }

    /// True while a failed write is to be repeated.
    pub fn awaits_retry(&self) -> bool {
        self.has_failed() && self.error.lock().as_ref().is_some_and(LogError::is_retried)
    }

    /// A repeated write has succeeded. Returns false if a sync has failed meanwhile.
    pub fn recover(&self) -> bool {
        let mut present = self.error.lock();
        if !present.as_ref().is_some_and(LogError::is_retried) {
            return false;
        }
        *present = None;
        self.failed.store(false, Relaxed);
        true
    }
}
