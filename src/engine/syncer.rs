//! The thread `aof-sync`: syncs the log at the policy's pace, and sends the replies parked with it.
//!
//! Connections send to it over one channel; it never waits for a client, only for the disk.
//!
//! ```text
//! conn-1 ── try_sync ──────── fdatasync ────────┐ replies itself
//! conn-2 ── somebody is syncing: park ─┐        │
//! conn-3 ── park ──────────────────────┤        │
//! aof-sync                             └────────┴── one fdatasync for both ── replies to both
//! ```

use super::persistence::{Parked, refuse};
use super::{Engine, Persistence};
use crate::aof::stats::Stages;
use crate::config::Fsync;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::thread;
use std::time::{Duration, Instant};

/// How often a log that cannot be written is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// Under `always`, how soon what nobody waits for is synced, such as the sweeper's deletions; under all
/// policies, how often an idle thread looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Replies served by one sync at most, so that the first of them need not wait for ever.
const PARKED_BATCH_MAX: usize = 1024;
/// How often to step aside for nothing before syncing.
const LOOKS_IN_VAIN_MAX: usize = 2;

/// Runs until [`Persistence::stop_syncing`], which is called after the last connection; then writes and
/// syncs what is left.
pub fn run(engine: &Engine, persistence: &Persistence) {
    let log = &persistence.log;
    let mut last_sync = Instant::now();
    while !persistence.is_stopping.load(SeqCst) {
        log.rotate_if_full();
        if let Ok(first) = persistence.parked_rx.try_recv() {
            serve_parked(engine, persistence, first);
            continue;
        }
        let interval = match persistence.policy() {
            Fsync::Every(interval) => Some(interval),
            Fsync::Always => Some(LOOK_EVERY),
            Fsync::Never => None,
        };
        wait(persistence, interval, &mut last_sync);
        log.retry();
        if interval.is_some_and(|interval| last_sync.elapsed() >= interval) {
            // A failure is on record in the log; the gate and INFO tell.
            let _ = log.sync();
            last_sync = Instant::now();
        }
    }
    if let Err(error) = log.sync() {
        log::error!("the last sync failed: {error}");
    }
}

/// Waits until a reply is parked, the interval is over, or something else has to be looked at. While all
/// is durable, no interval runs: the next one begins with the first write.
fn wait(persistence: &Persistence, interval: Option<Duration>, last_sync: &mut Instant) {
    let (log, policy, failed) =
        (&persistence.log, persistence.policy(), persistence.log.has_failed());
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
        !persistence.parked_rx.is_empty()
            || begins()
            || log.is_full()
            || persistence.is_stopping.load(SeqCst)
            || log.has_failed() != failed
            || persistence.policy() != policy
    });
    log.awaits_writes.store(false, SeqCst);
    if is_idle {
        *last_sync = Instant::now();
    }
}

/// Syncs once for everyone who has parked so far, then answers them.
fn serve_parked(engine: &Engine, persistence: &Persistence, first: Parked) {
    let all = gather(persistence, first);
    persistence.crowded.store(all.len() > 1, Relaxed);
    let synced = persistence.log.sync();
    for mut parked in all {
        // As everywhere, a log that fails refuses writes and lets reads go on.
        if let Err(error) = &synced {
            refuse(&mut parked.reply, parked.at_stake.take(), error);
        }
        let stages = *synced.as_ref().unwrap_or(&Stages::default());
        engine.settle(&mut parked.pending, &parked.client, parked.began, Some(stages));
        engine.send_parked(&mut parked);
        parked.client.unpark();
    }
}

/// Everyone who has parked, and, in a crowd, who is just about to: as long as stepping aside for a
/// moment brings more, one sync later is cheaper than two (PostgreSQL's `commit_delay`, without a
/// delay to set).
fn gather(persistence: &Persistence, first: Parked) -> Vec<Parked> {
    let (mut all, mut looks_in_vain) = (vec![first], 0);
    while looks_in_vain < LOOKS_IN_VAIN_MAX && all.len() < PARKED_BATCH_MAX {
        let before = all.len();
        all.extend(persistence.parked_rx.try_iter());
        looks_in_vain = if all.len() > before { 0 } else { looks_in_vain + 1 };
        thread::yield_now();
    }
    all
}
