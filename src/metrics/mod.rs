//! The numbers of a running server: counters, histograms, rates. INFO, `/metrics` and the status page read
//! them; this folder does not know those pages.
//!
//! Every number is a relaxed atomic: it orders nothing. Hot paths count in a session first and add the sum
//! once per batch of requests.
//!
//! A new plain counter is one line of [`Stat`] and one row of the table in `observe/figures.rs`.

pub mod histogram;
pub mod latency;
pub mod process;
pub mod timeline;

pub use self::histogram::{Histogram, HistogramSnapshot, LocalHistogram};
use crate::clock::{Stopwatch, UnixMillis};
use crate::lock::Mutex;
use std::collections::BTreeMap;
use std::ops::Index;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Distinct error codes that are counted one by one. A client could invent more.
const ERROR_CODES_MAX: usize = 128;
/// The "per second" figures are means over so many samples.
const RATE_SAMPLES: usize = 16;

/// A number that only grows, until CONFIG RESETSTAT.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
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

    /// Starts again at 0, for CONFIG RESETSTAT.
    pub fn reset(&self) {
        self.0.store(0, Relaxed);
    }
}

/// The plain counters of a server: `metrics[Stat::InputBytes].add(n)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of INFO")]
pub enum Stat {
    ConnectionsReceived,
    ConnectionsRejected,
    CommandsProcessed,
    KeyspaceHits,
    KeyspaceMisses,
    ExpiredKeys,
    EvictedKeys,
    /// The time that the sweeper worked.
    ExpireCycleMicros,
    /// From clients and followers.
    InputBytes,
    /// To clients and followers.
    OutputBytes,
    ErrorReplies,
    AuthFailures,
    /// Requests for commands that do not exist.
    UnknownCommands,
    ProtocolErrors,
    QueryLimitDisconnections,
    /// Subscribers included.
    OutputLimitDisconnections,
    SubscriberLimitDisconnections,
    /// Clients cut off because no thread could be started to send to them.
    PushThreadFailures,
    /// By clients, with PUBLISH.
    MessagesPublished,
    /// One for each subscriber and matching name.
    MessagesDelivered,
}

/// The last of [`Stat`], by which they are counted.
const STATS: usize = Stat::MessagesDelivered as usize + 1;

/// Counts for one command.
#[derive(Debug, Default)]
pub struct CommandStats {
    /// Microseconds of each call that ran.
    pub latency: Histogram,
    /// Calls refused before they ran.
    pub rejected: Counter,
    /// Calls that ran and failed.
    pub failed: Counter,
}

/// All numbers of a server.
#[derive(Debug)]
pub struct Metrics {
    /// When the server started.
    pub started: UnixMillis,
    /// The time since then, whatever happens to the wall clock.
    pub uptime: Stopwatch,
    stats: [Counter; STATS],
    /// By index in the command table.
    pub commands: Box<[CommandStats]>,
    /// Microseconds that a batch of replies waited for the log, if it had to.
    pub gate_wait: Histogram,
    /// Microseconds that a command waited for its shards, if others held them.
    pub lock_wait: Histogram,
    errors: Mutex<BTreeMap<String, u64>>,
    rates: Mutex<Rates>,
}

/// The "per second" figures: means over the last samples, as in Redis.
#[derive(Debug)]
struct Rates {
    since_last: Stopwatch,
    last: [u64; 3],
    samples: [[f64; 3]; RATE_SAMPLES],
    next: usize,
}

impl Index<Stat> for Metrics {
    type Output = Counter;

    fn index(&self, stat: Stat) -> &Counter {
        &self.stats[stat as usize]
    }
}

impl Metrics {
    /// Numbers for a table of `commands` commands, at zero.
    pub fn new(commands: usize) -> Metrics {
        Metrics {
            started: UnixMillis::now(),
            uptime: Stopwatch::start(),
            stats: std::array::from_fn(|_| Counter::default()),
            commands: (0..commands).map(|_| CommandStats::default()).collect(),
            gate_wait: Histogram::default(),
            lock_wait: Histogram::default(),
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
        self[Stat::ErrorReplies].increment();
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

    /// Takes a sample for the "per second" figures. The sweeper calls it about ten times a second.
    pub fn sample_rates(&self) {
        let totals =
            [Stat::CommandsProcessed, Stat::InputBytes, Stat::OutputBytes].map(|s| self[s].get());
        let rates = &mut *self.rates.lock();
        let seconds = rates.since_last.lap_nanos().max(1) as f64 / 1e9;
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
        let sum = |of: usize| rates.samples.iter().map(|sample| sample[of]).sum::<f64>();
        [0, 1, 2].map(|of| sum(of) / RATE_SAMPLES as f64)
    }

    /// Starts all numbers again at 0, for CONFIG RESETSTAT.
    pub fn reset(&self) {
        self.stats.iter().for_each(Counter::reset);
        for command in &self.commands {
            command.latency.reset();
            [&command.rejected, &command.failed].into_iter().for_each(Counter::reset);
        }
        [&self.gate_wait, &self.lock_wait].into_iter().for_each(Histogram::reset);
        self.errors.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_its_place_and_is_reset() {
        let metrics = Metrics::new(1);
        metrics[Stat::ConnectionsReceived].add(3);
        metrics[Stat::MessagesDelivered].increment();
        assert_eq!(metrics[Stat::ConnectionsReceived].get(), 3);
        assert_eq!(metrics[Stat::MessagesDelivered].get(), 1);
        metrics.count_error("ERR");
        metrics.reset();
        assert!(metrics.stats.iter().all(|stat| stat.get() == 0) && metrics.errors().is_empty());
    }
}
