//! A limit on repeated log lines: the same complaint is logged only now and then.

use crate::lock::Mutex;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The same thing is said again only after this long.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// Of more things, all are forgotten: then some are said once too often.
const THINGS_MAX: usize = 256;

/// The complaints so far, and when each was last logged.
#[derive(Debug, Default)]
pub struct Rarely(Mutex<BTreeMap<String, Instant>>);

impl Rarely {
    /// Whether it is time to say this; if so, it counts as said.
    pub fn is_due(&self, what: &str) -> bool {
        let mut said = self.0.lock();
        if said.get(what).is_some_and(|at| at.elapsed() < AGAIN_AFTER) {
            return false;
        }
        if said.len() >= THINGS_MAX {
            said.clear();
        }
        said.insert(what.to_string(), Instant::now());
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
