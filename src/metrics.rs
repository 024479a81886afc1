//! Counters: one place that INFO (and later `/metrics` and the status page) reads.
//!
//! Everything is a relaxed atomic: a counter orders nothing. Hot paths count locally and add up once
//! per batch of requests.

use crate::clock::{Stopwatch, UnixMillis};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Distinct error codes that are counted one by one; a client could invent more.
const ERROR_CODES_MAX: usize = 128;
/// Points behind the "per second" figures.
const RATE_SAMPLES: usize = 16;

/// A number that only grows, until CONFIG RESETSTAT.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, n: u64) {
        if n > 0 {
            self.0.fetch_add(n, Relaxed);
        }
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// The sum.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    fn reset(&self) {
        self.0.store(0, Relaxed);
    }
}

/// Powers of two that a histogram tells apart: up to 2^26 microseconds, a minute.
const POWERS: usize = 27;
/// Each power of two is cut into so many buckets: a percentile is off by a fifth at most.
const STEPS: usize = 4;
const BUCKETS: usize = POWERS * STEPS;

/// How often something took how long. Buckets grow with the value, so that microseconds and seconds are
/// equally sharp (the idea of HdrHistogram, Gil Tene).
#[derive(Debug)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: std::array::from_fn(|_| AtomicU64::new(0)), sum: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Notes one value, in microseconds or whatever unit the owner states.
    pub fn record(&self, value: u64) {
        self.counts[bucket_of(value)].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// What has been noted so far. Under load the sum may be a moment newer than the counts.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let counts = self.counts.iter().map(|count| count.load(Relaxed)).collect();
        HistogramSnapshot { counts, sum: self.sum.load(Relaxed) }
    }

    /// CONFIG RESETSTAT, LATENCY RESET.
    pub fn reset(&self) {
        self.counts.iter().for_each(|count| count.store(0, Relaxed));
        self.sum.store(0, Relaxed);
    }
}

/// A histogram at one moment.
#[derive(Clone, Debug, Default)]
pub struct HistogramSnapshot {
    counts: Vec<u64>,
    /// All values added up.
    pub sum: u64,
}

impl HistogramSnapshot {
    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many values are at most `bound`, which is exact for bounds of the form 2^n - 1 and else
    /// rounded down to a bucket.
    pub fn count_up_to(&self, bound: u64) -> u64 {
        let within = |(bucket, _): &(usize, &u64)| upper_bound(*bucket) <= bound;
        self.counts.iter().enumerate().filter(within).map(|(_, count)| count).sum()
    }

    /// The value that this share of all values (0.99 for p99) does not exceed: the upper end of its
    /// bucket. 0 if there are none.
    pub fn percentile(&self, share: f64) -> u64 {
        let rank = (self.count() as f64 * share).ceil() as u64;
        let mut below = 0;
        let reaches = |count: &u64| {
            below += count;
            below >= rank && below > 0
        };
        self.counts.iter().position(reaches).map_or(0, upper_bound)
    }
}

fn bucket_of(value: u64) -> usize {
    // Below STEPS each value has a bucket of its own; from there on, the bits behind the highest choose.
    if value < STEPS as u64 {
        return value as usize;
    }
    let power = value.ilog2() as usize;
    let step = (value >> (power - STEPS.ilog2() as usize)) as usize % STEPS;
    ((power - 1) * STEPS + step).min(BUCKETS - 1)
}

/// The largest value of a bucket.
fn upper_bound(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let (power, step) = (bucket / STEPS + 1, bucket % STEPS);
    let width = 1 << (power - STEPS.ilog2() as usize);
    (1 << power) + (step as u64 + 1) * width - 1
}

/// What is counted for each command.
#[derive(Debug, Default)]
pub struct CommandStats {
    /// Calls that ran.
    pub calls: Counter,
    /// Microseconds in all of them.
    pub micros: Counter,
    /// Calls refused before they ran.
    pub rejected: Counter,
    /// Calls that ran and failed.
    pub failed: Counter,
}

/// All counters of a server.
#[derive(Debug)]
#[allow(missing_docs, reason = "the names are those of INFO")]
pub struct Metrics {
    pub started: UnixMillis,
    pub connections_received: Counter,
    pub connections_rejected: Counter,
    pub commands_processed: Counter,
    pub keyspace_hits: Counter,
    pub keyspace_misses: Counter,
    pub expired_keys: Counter,
    pub evicted_keys: Counter,
    pub expire_cycle_micros: Counter,
    pub input_bytes: Counter,
    pub output_bytes: Counter,
    pub error_replies: Counter,
    pub auth_failures: Counter,
    pub protocol_errors: Counter,
    pub query_limit_disconnections: Counter,
    pub output_limit_disconnections: Counter,
    /// Those of them that were subscribers.
    pub subscriber_limit_disconnections: Counter,
    /// By clients, with PUBLISH.
    pub messages_published: Counter,
    /// Once for each subscriber and name.
    pub messages_delivered: Counter,
    /// By index in the command table.
    pub commands: Box<[CommandStats]>,
    errors: Mutex<BTreeMap<String, u64>>,
    rates: Mutex<Rates>,
}

/// "Per second" figures: the mean over the last samples, as Redis.
#[derive(Debug)]
struct Rates {
    since_last: Stopwatch,
    last: [u64; 3],
    samples: [[f64; 3]; RATE_SAMPLES],
    next: usize,
}

impl Metrics {
    /// Counters for a table of so many commands, at zero.
    pub fn new(commands: usize) -> Metrics {
        Metrics {
            started: UnixMillis::now(),
            connections_received: Counter::default(),
            connections_rejected: Counter::default(),
            commands_processed: Counter::default(),
            keyspace_hits: Counter::default(),
            keyspace_misses: Counter::default(),
            expired_keys: Counter::default(),
            evicted_keys: Counter::default(),
            expire_cycle_micros: Counter::default(),
            input_bytes: Counter::default(),
            output_bytes: Counter::default(),
            error_replies: Counter::default(),
            auth_failures: Counter::default(),
            protocol_errors: Counter::default(),
            query_limit_disconnections: Counter::default(),
            output_limit_disconnections: Counter::default(),
            subscriber_limit_disconnections: Counter::default(),
            messages_published: Counter::default(),
            messages_delivered: Counter::default(),
            commands: (0..commands).map(|_| CommandStats::default()).collect(),
            errors: Mutex::default(),
            rates: Mutex::new(Rates {
                since_last: Stopwatch::start(),
                last: [0; 3],
                samples: [[0.0; 3]; RATE_SAMPLES],
                next: 0,
            }),
        }
    }

    /// Counts an error reply by its code.
    pub fn count_error(&self, code: &str) {
        self.error_replies.increment();
        let mut errors = self.errors.lock();
        if let Some(count) = errors.get_mut(code) {
            *count += 1;
        } else if errors.len() < ERROR_CODES_MAX {
            errors.insert(code.to_string(), 1);
        }
    }

    /// Error replies by code.
    pub fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().clone()
    }

    /// Takes a sample for the "per second" figures; called about ten times a second.
    pub fn sample_rates(&self) {
        let totals =
            [self.commands_processed.get(), self.input_bytes.get(), self.output_bytes.get()];
        let rates = &mut *self.rates.lock();
        let seconds = rates.since_last.lap_micros().max(1) as f64 / 1e6;
        let sample = &mut rates.samples[rates.next % RATE_SAMPLES];
        for ((rate, total), last) in sample.iter_mut().zip(totals).zip(&mut rates.last) {
            *rate = total.saturating_sub(*last) as f64 / seconds;
            *last = total;
        }
        rates.next += 1;
    }

    /// Commands, bytes in and bytes out, each per second.
    pub fn rates(&self) -> [f64; 3] {
        let rates = self.rates.lock();
        let mut means = [0.0; 3];
        for sample in rates.samples {
            for (mean, rate) in means.iter_mut().zip(sample) {
                *mean += rate / RATE_SAMPLES as f64;
            }
        }
        means
    }

    /// CONFIG RESETSTAT.
    pub fn reset(&self) {
        let counters = [
            &self.connections_received,
            &self.connections_rejected,
            &self.commands_processed,
            &self.keyspace_hits,
            &self.keyspace_misses,
            &self.expired_keys,
            &self.evicted_keys,
            &self.expire_cycle_micros,
            &self.input_bytes,
            &self.output_bytes,
            &self.error_replies,
            &self.auth_failures,
            &self.protocol_errors,
            &self.query_limit_disconnections,
            &self.output_limit_disconnections,
            &self.subscriber_limit_disconnections,
            &self.messages_published,
            &self.messages_delivered,
        ];
        let of_commands = self.commands.iter().flat_map(|command| {
            [&command.calls, &command.micros, &command.rejected, &command.failed]
        });
        counters.into_iter().chain(of_commands).for_each(Counter::reset);
        self.errors.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_the_bucket_that_ends_at_or_above_it() {
        for value in (0..5000).chain((13..27).flat_map(|n| [(1 << n) - 1, 1 << n, (1 << n) + 1])) {
            let bucket = bucket_of(value);
            assert!(value <= upper_bound(bucket), "{value}");
            assert!(bucket == 0 || value > upper_bound(bucket - 1), "{value}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_near() {
        let histogram = Histogram::default();
        assert_eq!(histogram.snapshot().percentile(0.99), 0);
        (1..=1000).for_each(|value| histogram.record(value));
        let seen = histogram.snapshot();
        assert_eq!((seen.count(), seen.sum), (1000, 500_500));
        assert_eq!(seen.count_up_to(255), 255);
        assert!((500..=600).contains(&seen.percentile(0.5)), "{}", seen.percentile(0.5));
        assert!((990..=1200).contains(&seen.percentile(0.99)), "{}", seen.percentile(0.99));
    }
}
