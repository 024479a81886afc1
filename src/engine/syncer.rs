//! The thread `aof-sync`: syncs the log at the policy's pace, and then sends the replies that were parked for
//! it. It waits for the disk, never for a client.
//!
//! ```text
//! conn-1 ── try_sync ──────── fdatasync ────────┐ sends its replies itself
//! conn-2 ── a sync is going on: park ──┐        │
//! conn-3 ── park ──────────────────────┤        │
//! aof-sync                             └────────┴── one fdatasync for both ── sends the replies of both
//! ```

use super::{Engine, Persistence};
use crate::config::Fsync;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::thread;
use std::time::{Duration, Instant};

/// How often a log that cannot be written is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// Under `always`, how soon records are synced for which no reply waits, such as the sweeper's deletions.
/// Under all policies, how often an idle thread looks for work.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A sync waits for no more parked batches than this, so that the first of them leaves in time.
const PARKED_BATCH_MAX: usize = 1024;
/// How often to yield without a further batch being parked, before syncing.
const YIELDS_IN_VAIN_MAX: usize = 2;

/// Runs until [`Persistence::stop_syncing`], which is called after the last connection; then writes and
/// syncs what is left.
pub fn run(engine: &Engine) {
    let Some(persistence) = &engine.persistence else { return };
    let log = &persistence.log;
    let mut last_sync = Instant::now();
    while !persistence.is_stopping.load(SeqCst) {
        log.rotate_if_full();
        if awaits_sync(engine, persistence) {
            sync_for_parked(engine, persistence);
            continue;
        }
        let interval = match persistence.gate.policy.get() {
            Fsync::Every(interval) => Some(interval),
            Fsync::Always => Some(LOOK_EVERY),
            Fsync::Never => None,
        };
        wait(engine, persistence, interval, &mut last_sync);
        log.retry();
        if interval.is_some_and(|interval| last_sync.elapsed() >= interval) {
            // The log remembers a failure; the gate and INFO show it.
            let _ = log.sync();
            last_sync = Instant::now();
        }
    }
    if let Err(error) = log.sync() {
        log::error!("the last sync failed: {error}");
    }
}

/// Waits until a reply is parked, the interval is over, or the log or the policy has changed. While all is
/// durable, no interval runs: the next one begins with the first write.
fn wait(
    engine: &Engine,
    persistence: &Persistence,
    interval: Option<Duration>,
    last_sync: &mut Instant,
) {
    let (log, gate) = (&persistence.log, &persistence.gate);
    let policy = gate.policy.get();
    let failed = log.has_failed();
    let is_durable = || log.durable() == log.appended();
    let is_idle = interval.is_some() && is_durable();
    log.awaits_writes.store(is_idle && policy != Fsync::Always, SeqCst);
    let now = Instant::now();
    let deadline = match interval {
        _ if failed => now + RETRY_EVERY,
        Some(interval) if !is_idle => *last_sync + interval,
        _ => now + LOOK_EVERY,
    };
    let begins = || is_idle && policy != Fsync::Always && !is_durable();
    log.work.wait_until(Some(deadline), || {
        awaits_sync(engine, persistence)
            || begins()
            || log.is_full()
            || persistence.is_stopping.load(SeqCst)
            || log.has_failed() != failed
            || gate.policy.get() != policy
    });
    log.awaits_writes.store(false, SeqCst);
    if is_idle {
        *last_sync = Instant::now();
    }
}

/// True if a sync frees parked replies. Among nodes that elect their leader, replies also wait for other nodes.
fn awaits_sync(engine: &Engine, persistence: &Persistence) -> bool {
    let Persistence { log, gate, .. } = persistence;
    if engine.cluster.is_none() {
        return gate.parking.len() > 0;
    }
    gate.policy.get() == Fsync::Always
        && !log.has_failed()
        && gate.parking.waits_beyond(log.durable())
}

/// Syncs once for all batches that are parked, then sends them.
fn sync_for_parked(engine: &Engine, persistence: &Persistence) {
    await_crowd(persistence);
    let synced = persistence.log.sync();
    engine.report_own_level(persistence);
    let count = engine.release_parked(persistence, &synced);
    persistence.gate.is_crowded.store(count > 1, Relaxed);
}

/// As long as yielding brings more parked batches, one sync a moment later is cheaper than two.
fn await_crowd(persistence: &Persistence) {
    let mut parked = persistence.gate.parking.len();
    let mut yields_in_vain = 0;
    while yields_in_vain < YIELDS_IN_VAIN_MAX && parked < PARKED_BATCH_MAX {
        thread::yield_now();
        let now = persistence.gate.parking.len();
        yields_in_vain = if now > parked { 0 } else { yields_in_vain + 1 };
        parked = now;
    }
}
