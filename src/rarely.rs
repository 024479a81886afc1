//! A limit on repeated log lines: the same complaint is logged only now and then.

use crate::lock::Mutex;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The time after which a complaint may be logged again.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// Bounds the memory. At this many complaints all are forgotten, and some are logged once too often.
const COMPLAINTS_MAX: usize = 256;

/// The complaints so far, and when each was last logged.
#[derive(Debug, Default)]
pub struct Rarely(Mutex<BTreeMap<String, Instant>>);

impl Rarely {
    /// True if this complaint is to be logged now. It then counts as logged.
    pub fn is_due(&self, complaint: &str) -> bool {
        let mut logged = self.0.lock();
        if logged.get(complaint).is_some_and(|at| at.elapsed() < AGAIN_AFTER) {
            return false;
        }
        if logged.len() >= COMPLAINTS_MAX {
            logged.clear();
        }
        logged.insert(complaint.to_string(), Instant::now());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_said_once() {
        let rarely = Rarely::default();
        assert_eq!(
            ["a", "b", "a", "b"].map(|what| rarely.is_due(what)),
            [true, true, false, false]
        );
    }
}
