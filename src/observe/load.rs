//! The progress of a load, as the pages show it.

use crate::clock::UnixMillis;
use crate::loading::Loading;
use std::sync::atomic::Ordering::Relaxed;

/// The progress of a load at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadProgress {
    /// When it began, in Unix seconds.
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

impl LoadProgress {
    /// The progress of the current load, if there is one.
    pub fn of(loading: &Loading) -> Option<LoadProgress> {
        if !loading.is_active() {
            return None;
        }
        let started = loading.started.load(Relaxed);
        let total_bytes = loading.total_bytes.load(Relaxed);
        let loaded_bytes = loading.loaded_bytes.load(Relaxed);
        let elapsed = UnixMillis::now().seconds().saturating_sub(started);
        let left = u128::from(elapsed) * u128::from(total_bytes.saturating_sub(loaded_bytes));
        let eta = if elapsed == 0 { 1 } else { left / u128::from(loaded_bytes.max(1)) };
        Some(LoadProgress {
            started,
            total_bytes,
            loaded_bytes,
            percent: loaded_bytes as f64 * 100.0 / total_bytes.max(1) as f64,
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
        assert_eq!(LoadProgress::of(&loading), None);
        loading.begin(200);
        loading.reached(50);
        let progress = LoadProgress::of(&loading).expect("it is active");
        assert_eq!((progress.total_bytes, progress.loaded_bytes), (200, 50));
        assert_eq!((progress.percent, progress.eta_seconds), (25.0, 1));
        loading.set_active(false);
        assert_eq!(LoadProgress::of(&loading), None);
        loading.set_active(true);
        loading.give_up();
        loading.set_active(false);
        assert!(loading.is_active(), "a part of the data would be shown as all of it");
    }
}
