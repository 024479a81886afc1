//! Time as a value. The layers below `engine` read no clock: they are given the time as an argument,
//! which is what makes them testable and replay exact.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in time: milliseconds since 1970-01-01 UTC. Deadlines are absolute, so that they mean the
/// same after a restart and on a follower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// The wall clock now.
    pub fn now() -> UnixMillis {
        UnixMillis(since_epoch().as_millis() as u64)
    }

    /// Whole seconds, rounded down.
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// Milliseconds from `earlier` to `self`, 0 if it is not later.
    pub fn since(self, earlier: UnixMillis) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Microseconds since 1970-01-01 UTC, for `TIME`.
pub fn unix_micros() -> u64 {
    since_epoch().as_micros() as u64
}

fn since_epoch() -> Duration {
    // A clock set before 1970 reads as 1970: wrong, but harmless and visible.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Measures one span of time on the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// Microseconds since the start.
    pub fn micros(&self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }

    /// Microseconds since the start or the last lap; starts the next lap.
    pub fn lap_micros(&mut self) -> u64 {
        let now = Instant::now();
        let lap = now.duration_since(self.0);
        self.0 = now;
        lap.as_micros() as u64
    }
}
