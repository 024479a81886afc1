//! How far the log has come, and whether it can be written.

use super::Log;
use crate::aof::errors::LogError;
use crate::lock::Mutex;
use crate::store::effect::Seq;
use std::sync::atomic::{
    AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
    Ordering::SeqCst,
};

/// The last record that was appended, written and synced.
///
/// - durable ≤ written ≤ appended (asserted whenever one of the lower two moves)
/// - `appended` moves while the appender's lock is held, `written` while the writer's is, `durable` in the turn to
///   sync.
/// - None of them goes back, except when a frozen log resumes after another record.
#[derive(Debug, Default)]
pub(super) struct Watermarks {
    appended: AtomicU64,
    written: AtomicU64,
    durable: AtomicU64,
}

/// The log's present error, if there is one.
///
/// - `failed` is true exactly if `error` holds one. Reading it is the only cost while there is none.
/// - A failed write goes away when a repetition succeeds. A failed sync stays until the process ends.
#[derive(Debug, Default)]
pub(super) struct Health {
    failed: AtomicBool,
    error: Mutex<Option<LogError>>,
}

impl Watermarks {
    pub fn set_appended(&self, seq: Seq) {
        self.appended.store(seq.0, Release);
    }

    pub fn set_written(&self, seq: Seq) {
        let (written, appended) = (self.written.load(Acquire), self.appended.load(Acquire));
        assert!(written <= seq.0 && seq.0 <= appended, "written is at most appended");
        // Sequentially consistent with the sync thread's wait: it is seen waiting, or it sees this.
        self.written.store(seq.0, SeqCst);
    }

    pub fn set_durable(&self, seq: Seq) {
        let (durable, written) = (self.durable.load(Acquire), self.written.load(Acquire));
        assert!(durable <= seq.0 && seq.0 <= written, "durable is at most written");
        self.durable.store(seq.0, Release);
    }

    /// Moves all three to another record, in an order in which durable ≤ written ≤ appended at every moment.
    pub fn resume_at(&self, seq: Seq) {
        let mut marks = [&self.durable, &self.written, &self.appended];
        if seq.0 > self.appended.load(Acquire) {
            marks.reverse();
        }
        marks.iter().for_each(|mark| mark.store(seq.0, Release));
    }
}

impl Log {
    /// The last record appended.
    pub fn appended(&self) -> Seq {
        Seq(self.watermarks.appended.load(Acquire))
    }

    /// The last record that the kernel has: it survives the process.
    pub fn written(&self) -> Seq {
        Seq(self.watermarks.written.load(Acquire))
    }

    /// The last record that is on the disk: it survives the machine.
    pub fn durable(&self) -> Seq {
        Seq(self.watermarks.durable.load(Acquire))
    }

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
        if present.as_ref().is_none_or(|present| !error.is_retried() && *present != error) {
            log::error!("{error}; writes are refused with MISCONF, reads go on");
            *present = Some(error.clone());
        }
        self.health.failed.store(true, Relaxed);
        drop(present);
        self.progress.notify();
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
            self.progress.notify();
        }
    }
}
