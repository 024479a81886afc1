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
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

/// How often a log that cannot be written is tried again, and how often anything at all is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Replies served by one sync at most, so that the first of them need not wait for ever.
const PARKED_BATCH_MAX: usize = 1024;
/// How often to step aside for nothing before syncing.
const LOOKS_IN_VAIN_MAX: usize = 2;

/// Runs until `stop` is disconnected, which happens behind the last connection; then writes and syncs
/// what is left.
pub fn run(engine: &Engine, persistence: &Persistence, stop: &Receiver<()>) {
    let mut last_sync = Instant::now();
    while stop.try_recv() != Err(crossbeam_channel::TryRecvError::Disconnected) {
        let interval = match persistence.policy() {
            Fsync::Every(interval) => Some(interval),
            // For what nobody waits for, such as the sweeper's deletions.
            Fsync::Always => Some(LOOK_EVERY),
            Fsync::Never => None,
        };
        let left = interval.unwrap_or(LOOK_EVERY).saturating_sub(last_sync.elapsed());
        let wait = left.clamp(Duration::from_millis(1), LOOK_EVERY);
        persistence.log.rotate_if_full();
        match persistence.parked_rx.recv_timeout(wait) {
            Ok(first) => serve_parked(engine, persistence, first),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                persistence.log.retry();
                if interval.is_some_and(|interval| last_sync.elapsed() >= interval) {
                    // A failure is on record in the log; the gate and INFO tell.
                    let _ = persistence.log.sync();
                    last_sync = Instant::now();
                }
            }
        }
    }
    if let Err(error) = persistence.log.sync() {
        log::error!("the last sync failed: {error}");
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
