//! Progress of a load: at the start, for a full copy of the leader's data, for DEBUG RELOAD.
//!
//! The thread that reads the data records its progress here. INFO, `/metrics`, the status page and the
//! guards of commands read it. Everything is atomic, so a reader never waits for the locks of a load.

use crate::clock::UnixMillis;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// The state of the current load, if there is one. Shared by loaders and readers.
#[derive(Debug, Default)]
pub struct Loading {
    active: AtomicBool,
    given_up: AtomicBool,
    /// Unix seconds.
    started: AtomicU64,
    total_bytes: AtomicU64,
    loaded_bytes: AtomicU64,
}

/// The progress of a load at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadProgress {
    /// Unix seconds.
    pub started: u64,
    /// Bytes to read.
    pub total_bytes: u64,
    /// Bytes read so far.
    pub loaded_bytes: u64,
    /// `loaded_bytes` in percent of `total_bytes`.
    pub percent: f64,
    /// Seconds left, at the speed so far; 1 in the first second, as in Redis.
    pub eta_seconds: u64,
}

impl Loading {
    /// True during a load. Clients must not see the data meanwhile.
    pub fn is_active(&self) -> bool {
        self.active.load(Relaxed)
    }

    /// Begins or ends a load. A load that was given up never ends, since it leaves only a part of the
    /// data in memory.
    pub fn set_active(&self, active: bool) {
        if active && !self.active.swap(true, Relaxed) {
            self.begin(0);
        } else if !active && !self.is_given_up() {
            self.active.store(false, Relaxed);
        }
    }

    /// Begins a load of this many bytes.
    pub fn begin(&self, total_bytes: u64) {
        self.started.store(UnixMillis::now().seconds(), Relaxed);
        self.total_bytes.store(total_bytes, Relaxed);
        self.loaded_bytes.store(0, Relaxed);
        self.active.store(true, Relaxed);
    }

    /// Records how many bytes have been read.
    pub fn reached(&self, bytes: u64) {
        self.loaded_bytes.store(bytes, Relaxed);
    }

    /// Gives up all loads, because the server ends. They stop where they are.
    pub fn give_up(&self) {
        self.given_up.store(true, Relaxed);
    }

    /// True once loads must stop.
    pub fn is_given_up(&self) -> bool {
        self.given_up.load(Relaxed)
    }

    /// The progress of the current load, if there is one.
    pub fn progress(&self) -> Option<LoadProgress> {
        if !self.is_active() {
            return None;
        }
        let started = self.started.load(Relaxed);
        let total = self.total_bytes.load(Relaxed);
        let loaded = self.loaded_bytes.load(Relaxed);
        let elapsed = UnixMillis::now().seconds().saturating_sub(started);
        let left = u128::from(elapsed) * u128::from(total.saturating_sub(loaded));
        let eta = if elapsed == 0 { 1 } else { left / u128::from(loaded.max(1)) };
        Some(LoadProgress {
            started,
            total_bytes: total,
            loaded_bytes: loaded,
            percent: loaded as f64 * 100.0 / total.max(1) as f64,
            eta_seconds: u64::try_from(eta).unwrap_or(u64::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_that_was_given_up_never_counts_as_loaded() {
        let loading = Loading::default();
        assert_eq!(loading.progress(), None);
        loading.begin(200);
        loading.reached(50);
        let progress = loading.progress().expect("it is active");
        assert_eq!((progress.total_bytes, progress.loaded_bytes), (200, 50));
        assert_eq!((progress.percent, progress.eta_seconds), (25.0, 1));
        loading.set_active(false);
        assert_eq!(loading.progress(), None);
        loading.set_active(true);
        loading.give_up();
        loading.set_active(false);
        assert!(loading.is_active(), "a part of the data would be shown as all of it");
    }
}
