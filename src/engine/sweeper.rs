//! The sweeper thread: gives back the memory of expired keys that nobody asks for, and, at its pace,
//! what is over the memory limit without a write that would see to it (see `evict.rs`), and what waits for
//! clients that are over their output limits without asking for more.
//!
//! Each shard knows its next deadline, so a sweep with nothing to do is 256 short looks. A shard with
//! expired keys is locked for a batch of them at a time, and then it is the next one's turn: a client
//! waits for at most one batch. A million keys that expire in one second are gone within the
//! next, and traffic goes on meanwhile.
//!
//! Promised: a passed deadline is noticed within a sweep's interval (`hz`) plus the time of the work
//! that is due. Not promised: the order in which keys go.

use super::Engine;
use crate::clock::{Stopwatch, UnixMillis};
use crate::config::Id;
use crate::store::SHARDS;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Keys removed under one hold of a shard's lock: some 20 µs.
const BATCH_KEYS: usize = 64;

/// Runs until shutdown.
pub fn sweep(engine: &Engine) {
    loop {
        let interval = Duration::from_millis(1000 / engine.config.int(Id::Hz).max(1) as u64);
        if engine.shutdown.wait_for(interval) {
            return;
        }
        engine.metrics.sample_rates();
        if engine.role.is_loading() {
            continue;
        }
        if engine.active_expire.load(Relaxed) && !engine.role.is_follower() {
            sweep_once(engine);
        }
        engine.cut_slow_clients();
        if let Some(persistence) = &engine.persistence {
            persistence.aside.look(engine.config.int(Id::SetAsideWarnSize) as u64);
        }
        engine.keep_within_limit();
    }
}

/// Removes a batch of expired keys; each is an effect in the log.
fn expire(engine: &Engine, shard: usize, now: UnixMillis) -> usize {
    let mut tx = engine.begin_shard(shard, now);
    // Only a leader deletes; a follower's keys go when the leader's do.
    if engine.role.is_follower() {
        return 0;
    }
    if engine.persistence.is_some() {
        tx.record_into(Vec::new());
    }
    let expired = tx.expire(shard, BATCH_KEYS);
    if let Some(persistence) = &engine.persistence {
        tx.commit(|payload| persistence.log.append(payload, now));
        persistence.log.work.notify();
    }
    let events = tx.take_events();
    drop(tx);
    engine.announce(events);
    expired
}

fn sweep_once(engine: &Engine) {
    let (watch, now) = (Stopwatch::start(), UnixMillis::now());
    let mut expired = 0;
    // A batch of each shard in turn: whoever waits for a shard gets it while the others are swept.
    let mut more = true;
    while more && !engine.shutdown.is_requested() {
        more = false;
        for shard in (0..SHARDS).filter(|&shard| engine.store.has_expired(shard, now)) {
            // Deletions are writes; while the log takes none, expired keys stay, unseen.
            if engine.persistence.as_ref().is_some_and(|log| log.admit().is_err()) {
                return;
            }
            let batch = expire(engine, shard, now);
            more |= batch > 0;
            expired += batch;
        }
    }
    engine.metrics.expired_keys.add(expired as u64);
    engine.metrics.expire_cycle_micros.add(watch.micros());
    engine.latency.note(&engine.config, "expire-cycle", watch.nanos());
}
