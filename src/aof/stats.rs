//! Figures of the log.

use crate::metrics::{Counter, Histogram};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts for INFO and the metrics.
#[derive(Debug, Default)]
pub struct LogStats {
    /// Bytes handed to the kernel. Followers' lag is counted in them, so they only grow.
    pub written_bytes: Counter,
    /// Microseconds of each round of `write` calls.
    pub write: Histogram,
    /// Microseconds of each `fdatasync`.
    pub fsync: Histogram,
    /// Records that each sync made durable: how well group commit works.
    pub fsync_records: Histogram,
    /// The longest sync, in microseconds.
    pub fsync_micros_max: AtomicU64,
    /// Segments begun since the start.
    pub segments_started: Counter,
    /// Times that a writer had to wait because too much was pending.
    pub admission_waits: Counter,
}

/// The time that it took to make records safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// Nanoseconds in `write`.
    pub write: u64,
    /// Nanoseconds in `fdatasync`, be it this thread's or that of a thread that synced for all.
    pub fsync: u64,
    /// Records that this sync made durable.
    pub records: u64,
}

impl LogStats {
    /// Resets what CONFIG RESETSTAT resets.
    pub fn reset(&self) {
        [&self.write, &self.fsync, &self.fsync_records].into_iter().for_each(Histogram::reset);
        [&self.segments_started, &self.admission_waits].into_iter().for_each(Counter::reset);
        self.fsync_micros_max.store(0, Relaxed);
    }
}
