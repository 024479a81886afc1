//! Counters: one place that INFO (and later `/metrics` and the status page) reads.
//!
//! Everything is a relaxed atomic: a counter orders nothing. Hot paths count locally and add up once
//! per batch of requests.

use crate::clock::{Stopwatch, UnixMillis};
use crate::lock::Mutex;
pub use crate::metrics::histogram::{Histogram, HistogramSnapshot, LocalHistogram};
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

    /// CONFIG RESETSTAT.
    pub fn reset(&self) {
        self.0.store(0, Relaxed);
    }
}

/// What is counted for each command.
#[derive(Debug, Default)]
pub struct CommandStats {
    /// Microseconds of each call that ran.
    pub latency: Histogram,
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
    /// Since then, whatever is done to the wall clock.
    pub uptime: Stopwatch,
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
    /// Clients cut off because no thread could be had to send to them.
    pub push_thread_failures: Counter,
    /// By clients, with PUBLISH.
    pub messages_published: Counter,
    /// Once for each subscriber and name.
    pub messages_delivered: Counter,
    /// By index in the command table.
    pub commands: Box<[CommandStats]>,
    /// Microseconds that a batch of replies waited for the log, if it had to.
    pub gate_wait: Histogram,
    /// Microseconds that a command waited for its shards, if others held them.
    pub lock_wait: Histogram,
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
            uptime: Stopwatch::start(),
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
            push_thread_failures: Counter::default(),
            messages_published: Counter::default(),
            messages_delivered: Counter::default(),
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
            &self.push_thread_failures,
            &self.messages_published,
            &self.messages_delivered,
        ];
        let of_commands =
            self.commands.iter().flat_map(|command| [&command.rejected, &command.failed]);
        counters.into_iter().chain(of_commands).for_each(Counter::reset);
        self.commands.iter().for_each(|command| command.latency.reset());
        self.gate_wait.reset();
        self.lock_wait.reset();
        self.errors.lock().clear();
    }
}

pub mod histogram;
pub mod latency;
pub mod timeline;
