//! Time as a value. `store` and `commands` read no clock: they take the time as an argument, which makes
//! them testable and replay exact.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in time: milliseconds since 1970-01-01 UTC. Deadlines are absolute, so they mean the same
/// after a restart and on a follower.
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

    /// Formats as ISO 8601: `2026-01-01T00:00:00.123Z`. A time after the year 9999 stays a number.
    pub fn utc(self) -> String {
        /// 9999-12-31T23:59:59.999Z.
        const LATEST: u64 = 253_402_300_799_999;
        if self.0 > LATEST {
            return self.0.to_string();
        }
        humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(self.0)).to_string()
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

/// Milliseconds since the machine was started, on a clock that goes on while it sleeps and that no one can set. Leaders
/// and followers measure their promises with it.
pub fn boot_millis() -> u64 {
    use rustix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

fn since_epoch() -> Duration {
    // A clock set before 1970 reads as 1970: wrong, but harmless and visible.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The wall clock as the engine reads it. Only a test stops it, or makes it jump.
#[derive(Debug, Default)]
pub struct WallClock {
    /// The time at which a test has stopped it; 0: it runs.
    stopped_at: AtomicU64,
    /// When it is set forward, and by how much.
    jump: Option<(Instant, Duration)>,
}

/// For tests, which cannot set the machine's clock: `<seconds after the start>:<seconds forward>`.
const JUMP_VARIABLE: &str = "KVSTORE_CLOCK_JUMP";

impl WallClock {
    /// The machine's clock, with the jump that a test wants.
    pub fn of_environment() -> WallClock {
        let text = std::env::var(JUMP_VARIABLE).ok();
        let jump = text.as_deref().and_then(|text| text.split_once(':')).and_then(|(after, by)| {
            let seconds = |text: &str| text.parse().ok().map(Duration::from_secs);
            Some((Instant::now() + seconds(after)?, seconds(by)?))
        });
        WallClock { jump, ..WallClock::default() }
    }

    /// The time now.
    pub fn now(&self) -> UnixMillis {
        match self.stopped_at.load(Relaxed) {
            0 => UnixMillis(UnixMillis::now().0 + self.ahead().as_millis() as u64),
            millis => UnixMillis(millis),
        }
    }

    fn ahead(&self) -> Duration {
        let jumped = self.jump.filter(|(at, _)| Instant::now() >= *at);
        jumped.map_or(Duration::ZERO, |(_, by)| by)
    }

    /// The wall clock's time when this stopwatch was started, a moment ago. It is worked out from
    /// `reading`, which is renewed if it is too old.
    pub fn at_start_of(&self, stopwatch: &Stopwatch, reading: &mut Reading) -> UnixMillis {
        if self.stopped_at.load(Relaxed) > 0 {
            return self.now();
        }
        if stopwatch.0.saturating_duration_since(reading.at) > READING_AGE_MAX {
            *reading = Reading::now();
        }
        let since = stopwatch.0.saturating_duration_since(reading.at);
        UnixMillis((reading.wall + since + self.ahead()).as_millis() as u64)
    }

    /// For tests: stops the clock at this time, which may be earlier than the time it showed before.
    pub fn stop_at(&self, now: UnixMillis) {
        self.stopped_at.store(now.0, Relaxed);
    }
}

/// Both clocks, read at one moment. A later time is worked out from it without a call to the system.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    wall: Duration,
    at: Instant,
}

/// The age up to which a reading is used: a change of the wall clock must be noticed.
const READING_AGE_MAX: Duration = Duration::from_millis(1);

impl Reading {
    /// Reads both clocks.
    pub fn now() -> Reading {
        Reading { wall: since_epoch(), at: Instant::now() }
    }
}

/// Measures one span of time on the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts a stopwatch now.
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// Microseconds since the start.
    pub fn micros(&self) -> u64 {
        self.nanos() / 1000
    }

    /// Nanoseconds since the start.
    pub fn nanos(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }

    /// Nanoseconds since the start or the last lap; starts the next lap.
    pub fn lap_nanos(&mut self) -> u64 {
        let start = std::mem::replace(self, Stopwatch::start());
        self.since(&start)
    }

    /// Nanoseconds from the start of `earlier` to the start of this one.
    pub fn since(&self, earlier: &Stopwatch) -> u64 {
        self.0.duration_since(earlier.0).as_nanos() as u64
    }
}
