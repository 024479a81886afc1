//! What the log counts.

use crate::metrics::Counter;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts for INFO.
#[derive(Debug, Default)]
pub struct LogStats {
    /// Bytes handed to the kernel.
    pub written_bytes: Counter,
    /// Calls of `fdatasync`.
    pub fsyncs: Counter,
    /// Microseconds in all of them.
    pub fsync_micros: Counter,
    /// Records that they made durable: divided by `fsyncs`, how well group commit works.
    pub fsync_records: Counter,
    /// The longest one, in microseconds.
    pub fsync_micros_max: AtomicU64,
    /// Segments begun since the start.
    pub segments_started: Counter,
    /// Times that a writer had to wait because too much was pending.
    pub admission_waits: Counter,
}

impl LogStats {
    /// Notes a sync that took so long and made so many records durable.
    pub fn fsync(&self, micros: u64, records: u64) {
        self.fsyncs.increment();
        self.fsync_micros.add(micros);
        self.fsync_records.add(records);
        self.fsync_micros_max.fetch_max(micros, Relaxed);
    }
}
