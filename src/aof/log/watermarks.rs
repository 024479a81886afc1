//! How far the log has come, and the signals that say so.

use crate::signal::Signal;
use crate::store::effect::Seq;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release, Ordering::SeqCst};

/// The last record that was appended, written and synced.
///
/// - durable ≤ written ≤ appended (asserted whenever one moves)
/// - `appended` moves while the appender's lock is held, `written` while the writer's is, `durable` while the
///   turn to sync is.
/// - None of them goes back, except when a frozen log resumes after another record.
#[derive(Debug)]
pub(super) struct Watermarks {
    appended: AtomicU64,
    written: AtomicU64,
    durable: AtomicU64,
    pub written_moved: Arc<Signal>,
    pub progress: Arc<Signal>,
}

impl Watermarks {
    pub fn at(seq: Seq) -> Watermarks {
        let mark = || AtomicU64::new(seq.0);
        Watermarks {
            appended: mark(),
            written: mark(),
            durable: mark(),
            written_moved: Arc::default(),
            progress: Arc::default(),
        }
    }

    pub fn appended(&self) -> Seq {
        Seq(self.appended.load(Acquire))
    }

    pub fn written(&self) -> Seq {
        Seq(self.written.load(Acquire))
    }

    pub fn durable(&self) -> Seq {
        Seq(self.durable.load(Acquire))
    }

    pub fn set_appended(&self, seq: Seq) {
        self.appended.store(seq.0, Release);
    }

    pub fn set_written(&self, seq: Seq) {
        assert!(self.written() <= seq && seq <= self.appended(), "written is at most appended");
        // Sequentially consistent with the sync thread's wait: it is seen waiting, or it sees this.
        self.written.store(seq.0, SeqCst);
        self.written_moved.notify();
    }

    pub fn set_durable(&self, seq: Seq) {
        assert!(self.durable() <= seq && seq <= self.written(), "durable is at most written");
        self.durable.store(seq.0, Release);
    }

    /// Moves all three to another record, in an order in which durable ≤ written ≤ appended at every moment.
    pub fn resume_at(&self, seq: Seq) {
        let mut marks = [&self.durable, &self.written, &self.appended];
        if seq > self.appended() {
            marks.reverse();
        }
        marks.iter().for_each(|mark| mark.store(seq.0, Release));
    }
}
