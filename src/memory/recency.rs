//! Recency: the time of a key's last access, or how often it was accessed. 32 bits beside each entry.
//!
//! `maxmemory-policy` decides which of the two is recorded. The top bit says which it was:
//!
//! ```text
//! by time       0 [ 31 bits: time, in units of 64 ms ]
//! by frequency  1 [ 7 unused ][ 16 bits: minute of the last access ][ 8 bits: counter ]
//! ```
//!
//! Each form can be read as the other, for after a change of the policy (and for recovery, which records
//! times): a time counts as a key that was new then, a counter as an access in its last minute.
//!
//! Seconds, Redis's unit, could not distinguish old from new in a cache whose keys are replaced within seconds.
//! Both clocks wrap, the time after four years, the minutes after 45 days. A time that lies ahead by up to half of
//! that comes from a clock that was set back, and counts as now.
//!
//! The counter is Redis's (Salvatore Sanfilippo, "Random notes on improving the Redis LRU algorithm", 2016). Eight
//! bits distinguish ten accesses from a million, since the probability that it grows falls with its height. It loses
//! one for each `lfu-decay-time` minutes without an access. A new key starts above 0, or it would go at once.

use crate::clock::UnixMillis;

/// The record that is kept of accesses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tracking {
    /// The time of the last one.
    #[default]
    Time,
    /// How many there were lately, on a logarithmic scale.
    Frequency {
        /// `lfu-log-factor`: more makes the counter grow more slowly.
        log_factor: u32,
        /// `lfu-decay-time`: minutes after which the counter loses one; 0 is never.
        decay_minutes: u32,
    },
}

/// The record of a key's accesses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recency(pub(crate) u32);

/// One access to a key.
#[derive(Clone, Copy, Debug, Default)]
pub struct Access {
    /// Its time.
    pub now: UnixMillis,
    /// The record to keep of it.
    pub tracking: Tracking,
}

impl Access {
    /// The record of a key that is created now.
    pub fn new_key(self) -> Recency {
        Recency::new(self.now, self.tracking)
    }

    /// A record after one more access.
    pub fn after(self, before: Recency) -> Recency {
        before.used(self.now, self.tracking, fastrand::f64)
    }
}

const BY_FREQUENCY: u32 = 1 << 31;
const TIME_MASK: u32 = BY_FREQUENCY - 1;
const TIME_UNIT_MS: u64 = 64;
/// The counter of a new key.
const FREQUENCY_NEW: u8 = 5;

impl Recency {
    /// Of a key that is created now.
    pub fn new(now: UnixMillis, tracking: Tracking) -> Recency {
        match tracking {
            Tracking::Time => Recency((now.0 / TIME_UNIT_MS) as u32 & TIME_MASK),
            Tracking::Frequency { .. } => Recency::counted(FREQUENCY_NEW, now),
        }
    }

    /// Of a key with this counter that is accessed now.
    pub fn counted(counter: u8, now: UnixMillis) -> Recency {
        Recency(BY_FREQUENCY | u32::from(minute(now)) << 8 | u32::from(counter))
    }

    /// Of a key whose last access was so many seconds ago, or as long ago as can be represented.
    pub fn unused_for(seconds: u64, now: UnixMillis) -> Recency {
        let units =
            seconds.saturating_mul(1000).div_ceil(TIME_UNIT_MS).min(u64::from(TIME_MASK / 2));
        Recency(Recency::new(now, Tracking::Time).0.wrapping_sub(units as u32) & TIME_MASK)
    }

    /// After one more access. `dice` draws a random number from 0 to 1, if it is needed.
    pub fn used(self, now: UnixMillis, tracking: Tracking, dice: impl FnOnce() -> f64) -> Recency {
        match tracking {
            Tracking::Time => Recency::new(now, tracking),
            Tracking::Frequency { log_factor, decay_minutes } => {
                let counter = self.frequency(now, decay_minutes);
                Recency::counted(increment(counter, log_factor, dice), now)
            }
        }
    }

    /// Milliseconds since the last access, as precisely as is known.
    pub fn idle_millis(self, now: UnixMillis) -> u64 {
        if self.is_by_frequency() {
            return u64::from(self.idle_minutes(now)) * 60_000;
        }
        let units = Recency::new(now, Tracking::Time).0.wrapping_sub(self.0) & TIME_MASK;
        if units > TIME_MASK / 2 { 0 } else { u64::from(units) * TIME_UNIT_MS }
    }

    /// The counter now, after what it has lost since the last access.
    pub fn frequency(self, now: UnixMillis, decay_minutes: u32) -> u8 {
        let (counter, minutes) = if self.is_by_frequency() {
            (self.0 as u8, u64::from(self.idle_minutes(now)))
        } else {
            (FREQUENCY_NEW, self.idle_millis(now) / 60_000)
        };
        let periods = minutes.checked_div(u64::from(decay_minutes)).unwrap_or(0);
        counter.saturating_sub(periods.min(255) as u8)
    }

    fn is_by_frequency(self) -> bool {
        self.0 & BY_FREQUENCY != 0
    }

    /// As in Redis, a minute that seems to lie ahead is one of 45 days ago.
    fn idle_minutes(self, now: UnixMillis) -> u16 {
        minute(now).wrapping_sub((self.0 >> 8) as u16)
    }
}

fn minute(now: UnixMillis) -> u16 {
    (now.seconds() / 60) as u16
}

fn increment(counter: u8, log_factor: u32, dice: impl FnOnce() -> f64) -> u8 {
    if counter == u8::MAX {
        return counter;
    }
    let height = f64::from(counter.saturating_sub(FREQUENCY_NEW));
    let grows = dice() < 1.0 / (height * f64::from(log_factor) + 1.0);
    counter + u8::from(grows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;

    const LFU: Tracking = Tracking::Frequency { log_factor: 10, decay_minutes: 1 };
    const DAY_MS: u64 = 86_400_000;

    #[test]
    fn idle_times_survive_the_wrap_and_a_clock_that_is_set_back() {
        let wrap = u64::from(BY_FREQUENCY) * TIME_UNIT_MS;
        for start in [0, 1_767_225_600_000, wrap - 1000, 3 * wrap - 64] {
            let recency = Recency::new(UnixMillis(start), Tracking::Time);
            for later in [0, 1000, 3_600_000, 700 * DAY_MS] {
                let idle = recency.idle_millis(UnixMillis(start + later));
                assert!(idle.abs_diff(later) <= TIME_UNIT_MS, "{idle} for {later} from {start}");
            }
            let before = UnixMillis(start.saturating_sub(5000));
            assert_eq!(recency.idle_millis(before), 0, "set back from {start}");
        }
    }

    /// `LFULogIncr` and `LFUDecrAndReturn` of Redis 7.0's evict.c, word for word.
    fn redis_increment(counter: u32, log_factor: u32, r: f64) -> u32 {
        if counter == 255 {
            return 255;
        }
        let mut baseval = f64::from(counter) - 5.0;
        if baseval < 0.0 {
            baseval = 0.0;
        }
        let p = 1.0 / (baseval * f64::from(log_factor) + 1.0);
        if r < p { counter + 1 } else { counter }
    }

    fn redis_decrement(counter: u32, ldt: u32, now_minutes: u32, decay_time: u32) -> u32 {
        let elapsed =
            if now_minutes >= ldt { now_minutes - ldt } else { 65535 - ldt + now_minutes };
        let periods = elapsed.checked_div(decay_time).unwrap_or(0);
        counter.saturating_sub(periods)
    }

    #[test]
    fn the_counter_obeys_the_law_of_redis() {
        let mut random = Rng::new();
        for _ in 0..100_000 {
            let counter = random.usize(..256) as u8;
            let (factor, decay) = (random.usize(..101) as u32, random.usize(..4) as u32);
            let dice = random.f64();
            let grown = increment(counter, factor, || dice);
            assert_eq!(u32::from(grown), redis_increment(counter.into(), factor, dice));

            let ldt = random.usize(..65_000);
            let now = ldt + random.usize(..500);
            let recency = Recency::counted(counter, UnixMillis(ldt as u64 * 60_000 + 59_999));
            let decayed = recency.frequency(UnixMillis(now as u64 * 60_000), decay);
            let expected = redis_decrement(counter.into(), ldt as u32, now as u32, decay);
            assert_eq!(u32::from(decayed), expected, "{counter} from {ldt} to {now}, {decay}");
        }
    }

    /// The table in redis.conf: with factor 10, 100 hits give 10, 1,000 give 18, 100,000 give 142.
    #[test]
    fn the_counter_grows_as_redis_conf_says() {
        let mut random = Rng::new();
        let mut mean = |hits: u32| {
            let grow = |_| {
                let start = Recency::new(UnixMillis(0), LFU);
                let use_once =
                    |recency: Recency, _| recency.used(UnixMillis(0), LFU, || random.f64());
                f64::from((0..hits).fold(start, use_once).frequency(UnixMillis(0), 1))
            };
            (0..40).map(grow).sum::<f64>() / 40.0
        };
        for (hits, expected) in [(100, 10.0), (1000, 18.0), (100_000, 142.0)] {
            let mean = mean(hits);
            assert!((mean - expected).abs() < 0.15 * expected, "{mean} after {hits} hits");
        }
    }

    #[test]
    fn each_form_can_be_read_as_the_other() {
        let (then, now) = (UnixMillis(10 * DAY_MS), UnixMillis(10 * DAY_MS + 200_000));
        let timed = Recency::new(then, Tracking::Time);
        assert_eq!(timed.frequency(then, 1), FREQUENCY_NEW);
        assert_eq!(timed.frequency(now, 1), FREQUENCY_NEW - 3);
        assert_eq!(timed.frequency(now, 0), FREQUENCY_NEW);
        let counted = Recency::counted(200, then);
        assert_eq!(counted.idle_millis(now), 180_000);
        assert_eq!(counted.used(now, Tracking::Time, || 0.0).idle_millis(now), 0);
        assert_eq!(timed.used(now, LFU, || 0.0).frequency(now, 1), FREQUENCY_NEW - 2);
    }
}
