//! The sweeper thread. At its pace (`hz`) it
//!
//! - deletes expired keys that no client reads;
//! - evicts keys while memory is over its limit without a write that would make room (`memory/evict.rs`);
//! - cuts off clients over their output limits that ask for nothing more.
//!
//! Each shard knows its next deadline, so a sweep without work is 256 short reads. A shard with expired keys
//! is locked for one batch of them, then the next shard has its turn: a client waits for at most one batch. The thread
//! works in slices with rests between them ([`Slices`]). A million keys that expire in one second are gone
//! within the next two.
//!
//! A passed deadline is noticed within one interval plus the time of the work that is due.

use super::Engine;
use crate::clock::Stopwatch;
use crate::config::Id;
use crate::metrics::Stat;
use crate::observe::cut::cut_slow_clients;
use crate::observe::history::Sampler;
use crate::shutdown::Shutdown;
use crate::store::SHARDS;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Keys removed under one hold of a shard's lock: some 20 µs.
const BATCH_KEYS: usize = 64;
/// The time of work between two rests.
const SLICE: Duration = Duration::from_micros(500);
/// The longest rest, also after a slice in which the disk was slow.
const REST_MAX: Duration = Duration::from_millis(1);
/// How often to look for clients that left while they waited (`clients/blocked.rs`).
const GONE_LOOK_EVERY: Duration = Duration::from_secs(1);

/// Background work in slices, so that the threads of clients find a core. With rests as long as the slices, a million
/// keys that expired at once took 1.85 times as long to delete, and the p99 of other traffic meanwhile was a fifth.
#[derive(Debug)]
struct Slices {
    began: Instant,
}

impl Slices {
    /// Begins the first slice.
    fn begin() -> Slices {
        Slices { began: Instant::now() }
    }

    /// To be called between two steps of the work, without locks. Rests half as long as it worked, if the slice is over;
    /// returns whether the server is shutting down.
    fn rest(&mut self, shutdown: &Shutdown) -> bool {
        let worked = self.began.elapsed();
        if worked < SLICE {
            return shutdown.is_requested();
        }
        let is_over = shutdown.wait_for((worked / 2).min(REST_MAX));
        self.began = Instant::now();
        is_over
    }
}

/// Runs until shutdown.
pub fn sweep(engine: &Engine) {
    let mut looked_at = Instant::now();
    let mut sampler = Sampler::start();
    loop {
        let interval = Duration::from_millis(1000 / engine.config.int(Id::Hz).max(1) as u64);
        if engine.shutdown.wait_for(interval) {
            return;
        }
        engine.metrics.sample_rates();
        sampler.look(engine);
        // A load holds all shards and replaces their keys.
        let may_sweep = !engine.loading.is_active();
        if looked_at.elapsed() >= GONE_LOOK_EVERY {
            looked_at = Instant::now();
            engine.clients.unblock_those_gone();
        }
        if may_sweep && engine.active_expire.load(Relaxed) && engine.may_delete() {
            sweep_once(engine);
        }
        cut_slow_clients(&engine.clients, &engine.config, &engine.metrics);
        if let Some(persistence) = &engine.persistence {
            persistence.aside.look(engine.config.int(Id::SetAsideWarnSize) as u64);
        }
        if may_sweep {
            engine.keep_within_limit();
        }
    }
}

impl Engine {
    /// True if this server may delete keys by itself: not on a follower, whose keys go with the leader's, and
    /// not during CLIENT PAUSE. Certain while a shard is locked.
    pub(crate) fn may_delete(&self) -> bool {
        !self.role.is_follower() && !self.pause.is_active()
    }
}

/// Removes a batch of expired keys; each is an effect in the log.
fn expire(engine: &Engine, shard: usize) -> usize {
    let mut tx = engine.begin_shard(shard);
    if !engine.may_delete() {
        return 0;
    }
    if engine.persistence.is_some() {
        tx.record_into(Vec::new());
    }
    let expired = tx.expire(shard, BATCH_KEYS);
    if let Some(persistence) = &engine.persistence {
        let now = tx.now();
        tx.commit(|payload| persistence.log.append(payload, now));
        persistence.log.work.notify();
    }
    let events = tx.take_events();
    drop(tx);
    engine.publish_events(events);
    expired
}

fn sweep_once(engine: &Engine) {
    let stopwatch = Stopwatch::start();
    let now = engine.clock.now();
    let mut expired = 0;
    // One batch of each shard in turn: a client that waits for a shard gets it while others are swept.
    let mut more = true;
    let mut slices = Slices::begin();
    'sweep: while more {
        more = false;
        for shard in (0..SHARDS).filter(|&shard| engine.store.has_expired(shard, now)) {
            // Deletions are writes; while the log takes none, expired keys stay, unseen.
            if engine.persistence.as_ref().is_some_and(|log| log.admit().is_err()) {
                break 'sweep;
            }
            let batch = expire(engine, shard);
            more |= batch > 0;
            expired += batch;
            if slices.rest(&engine.shutdown) {
                break 'sweep;
            }
        }
    }
    engine.metrics[Stat::ExpiredKeys].add(expired as u64);
    engine.metrics[Stat::ExpireCycleMicros].add(stopwatch.micros());
    engine.instruments.latency.note(&engine.config, "expire-cycle", stopwatch.nanos());
}
