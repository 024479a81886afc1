//! Slow events by kind, with their times, for LATENCY.
//!
//! The longest event of a second is its sample. Kinds have Redis's names if they mean the same:
//!
//! | event | slow operation |
//! |---|---|
//! | `command`, `fast-command` | a command under its lock |
//! | `aof-write`, `aof-fsync-always` | `write` or `fdatasync` of the log, at the gate |
//! | `expire-cycle`, `eviction-cycle` | a sweep, or evictions for a write |
//!
//! A sync in the background is not an event, since no client waits for it.

use crate::clock::UnixMillis;
use crate::config::{Config, Id};
use crate::lock::Mutex;
use std::collections::{BTreeMap, VecDeque};

/// Samples that are kept of one kind of event, as in Redis.
const SAMPLES_MAX: usize = 160;

/// The latest slow events.
#[derive(Debug, Default)]
pub struct Latency(Mutex<BTreeMap<&'static str, Event>>);

/// One kind of event.
#[derive(Clone, Debug, Default)]
pub struct Event {
    /// `(Unix seconds, duration in milliseconds)`, oldest first; not empty.
    pub samples: VecDeque<(u64, u64)>,
    /// The longest event since the last reset, in milliseconds.
    pub max: u64,
}

impl Latency {
    /// Records an event, if it took `latency-monitor-threshold` or longer.
    pub fn note(&self, config: &Config, event: &'static str, nanos: u64) {
        let limit = config.int(Id::LatencyMonitorThreshold) as u64;
        let millis = nanos / 1_000_000;
        if limit > 0 && millis >= limit {
            self.add(event, UnixMillis::now().seconds(), millis);
        }
    }

    fn add(&self, event: &'static str, at: u64, millis: u64) {
        let mut events = self.0.lock();
        let event = events.entry(event).or_default();
        event.max = event.max.max(millis);
        if let Some((_, longest)) = event.samples.back_mut().filter(|(last, _)| *last == at) {
            *longest = millis.max(*longest);
            return;
        }
        if event.samples.len() == SAMPLES_MAX {
            event.samples.pop_front();
        }
        event.samples.push_back((at, millis));
    }

    /// All kinds with at least one event.
    pub fn events(&self) -> BTreeMap<&'static str, Event> {
        self.0.lock().clone()
    }

    /// Removes the kinds that `is_meant` selects. Returns their number.
    pub fn reset(&self, is_meant: impl Fn(&str) -> bool) -> usize {
        let mut events = self.0.lock();
        let before = events.len();
        events.retain(|name, _| !is_meant(name));
        before - events.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_one_sample_and_samples_are_bounded() {
        let latency = Latency::default();
        for at in 0..200 {
            latency.add("command", at, 5);
            latency.add("command", at, 1 + at % 10);
        }
        latency.add("expire-cycle", 7, 3);
        let events = latency.events();
        let samples = &events["command"].samples;
        assert_eq!((samples.len(), samples[0], samples[159]), (160, (40, 5), (199, 10)));
        assert_eq!(events["command"].max, 10);
        assert_eq!(latency.reset(|name| name == "command"), 1);
        assert_eq!(latency.events().len(), 1);
    }
}
