//! How old a follower's data may be.
//!
//! ```text
//! leader      … record 20 ── heartbeat: "my last record is 20, your clock showed 5000 or more" ──▶
//! follower    … applies 18, 19, 20: all that the leader had when our clock showed 5000 is here
//! ```
//!
//! A heartbeat carries the follower's own clock back to it, so no two clocks need agree, and the time that it
//! was on its way counts as age.

use crate::lock::Mutex;
use crate::signal::Signal;
use crate::store::effect::Seq;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Heartbeats whose record has not been applied yet. Beyond this many, new ones are ignored.
const AWAITED_MAX: usize = 256;

/// The age of this node's data. Times are milliseconds on the process's clock.
#[derive(Debug, Default)]
pub struct Freshness {
    /// All that the leader had at this time is here; 0 is never.
    fresh_at: AtomicU64,
    /// Heartbeats that named a record which is not applied yet: the record, and the heartbeat's time.
    awaited: Mutex<VecDeque<(Seq, u64)>>,
    /// Notified when `fresh_at` moves, and when the link ends.
    pub changed: Signal,
}

impl Freshness {
    /// Records a heartbeat that named `seq`. `echo` is our own clock as the leader last saw it, so the
    /// heartbeat is no older than `now - echo`. `behind_ms` is the leader's own staleness (`u64::MAX` is
    /// unknown).
    pub fn heartbeat(&self, seq: Seq, behind_ms: u64, echo: u64, now: u64) {
        let mut awaited = self.awaited.lock();
        if awaited.len() < AWAITED_MAX && behind_ms < u64::MAX && echo > 0 {
            awaited.push_back((seq, echo.min(now).saturating_sub(behind_ms)));
        }
    }

    /// All records up to this one are applied.
    pub fn reached(&self, applied: Seq) {
        let mut awaited = self.awaited.lock();
        let mut moved = false;
        while let Some((_, at)) = awaited.pop_front_if(|(seq, _)| *seq <= applied) {
            moved |= self.fresh_at.fetch_max(at.max(1), Relaxed) < at;
        }
        drop(awaited);
        if moved {
            self.changed.notify();
        }
    }

    /// The link has ended: the records of its heartbeats may never come.
    pub fn link_ended(&self) {
        self.awaited.lock().clear();
        self.changed.notify();
    }

    /// The data becomes an earlier state, or another leader's: its age is unknown.
    pub fn forget(&self) {
        self.fresh_at.store(0, Relaxed);
    }

    /// True if everything that the leader had at this time is here.
    pub fn is_fresh(&self, at: u64) -> bool {
        self.fresh_at.load(Relaxed) >= at
    }

    /// How old the data may be, in milliseconds. None if that is unknown.
    pub fn staleness_ms(&self, now: u64) -> Option<u64> {
        let fresh_at = self.fresh_at.load(Relaxed);
        (fresh_at > 0).then(|| now.saturating_sub(fresh_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_as_old_as_the_newest_heartbeat_that_it_has_caught_up_with() {
        let freshness = Freshness::default();
        assert_eq!(freshness.staleness_ms(100), None);
        freshness.heartbeat(Seq(10), 0, 0, 100);
        freshness.reached(Seq(10));
        assert_eq!(freshness.staleness_ms(100), None, "how long it was on its way is unknown");
        freshness.heartbeat(Seq(10), 0, 90, 100);
        freshness.reached(Seq(9));
        assert_eq!(freshness.staleness_ms(100), None);
        freshness.reached(Seq(10));
        assert_eq!(freshness.staleness_ms(100), Some(10));
        // Records that are on their way do not make the data any older than it is.
        freshness.heartbeat(Seq(20), 0, 100, 100);
        assert_eq!((freshness.staleness_ms(105), freshness.is_fresh(91)), (Some(15), false));
        freshness.heartbeat(Seq(20), 3, 104, 105);
        freshness.reached(Seq(20));
        assert_eq!(freshness.staleness_ms(105), Some(4), "the leader was 3 ms behind itself");
    }
}
