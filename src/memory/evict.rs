//! Eviction: which keys go when memory is over its limit, and when.
//!
//! ```text
//! SET k v ─ over maxmemory? ─ no ──────────────────────────────────────────▶ run it
//!               │ yes                                                          ▲
//!               ▼            ┌─ draw 5 random keys, keep the 16 best ever drawn │
//!           lock the pool ─▶ │  take the best; is it still so? then DEL: one    │ under the limit
//!               ▲            └─ shard's lock, one record in the log ────────────┤
//!               └─────────────────── still over ────────────────────────────────┘ nothing may go: -OOM
//! ```
//!
//! A command that may need memory (DENYOOM in the table) makes room before it locks anything. All others run as
//! usual, so a full server still reads, deletes and expires. Memory that grows without such a command (replies
//! that wait, a limit that is lowered) is reclaimed by the sweeper within a tenth of a second.
//!
//! - **The log.** Records that wait to be written count as memory (see `limit.rs`), and each deletion is a record.
//!   So they are written before keys go for them; otherwise each deletion would call for the next.
//! - **The choice.** A list of all keys by age would cost two pointers a key and a lock for each read. As in Redis,
//!   a few random keys are drawn and the best of them goes. A pool of the best seen so far makes that good. Unlike
//!   in Redis, a key that was used while it was in the pool is spared.
//! - **Promised.** A command that runs found memory under the limit, so memory exceeds it at most by what commands
//!   running at one time add. An eviction is an effect like any other: memory after a restart is memory before it.
//!   Recovery evicts nothing; the first write after it does. A writer waits for at most one eviction at a shard, a
//!   reader for none.
//! - **Not promised.** That the least used key goes; that a limit lowered by a lot is reached before the next
//!   writer has waited for it.

use super::evictor::{Candidate, Evictor, Order, Policy};
use crate::clock::{Stopwatch, UnixMillis};
use crate::config::Id;
use crate::engine::Engine;
use crate::error::{Failure, Kind};
use crate::memory::recency::Tracking;
use crate::memory::sample::{self, Odds, Sample};
use crate::metrics::Stat;

const OUT_OF_MEMORY: Failure =
    Failure::fixed("OOM command not allowed when used memory > 'maxmemory'.")
        .of_kind(Kind::Unavailable);
/// More samples would make one eviction a long job.
const SAMPLES_MAX: i64 = 64;
/// Evictions under one hold of the pool's lock. Then others who wait for it have a turn.
const STEP_KEYS: usize = 16;
/// Draws in vain before the search is given up.
const ROUNDS_MAX: usize = 64;
/// More pending bytes of the log than this are written before keys go.
const PENDING_BYTES_FLUSH: u64 = 256 << 10;

impl Evictor {
    /// Removes one key. Returns false if none may go.
    fn evict(&mut self, engine: &Engine, policy: Policy) -> bool {
        if self.policy != Some(policy) {
            *self = Evictor { policy: Some(policy), ..Evictor::default() };
        }
        for _ in 0..ROUNDS_MAX {
            if !self.draw(engine, policy, engine.clock.now()) {
                return false;
            }
            while let Some(best) = self.pool.0.pop() {
                if self.remove(engine, policy, best) {
                    self.odds_last = self.odds_last.saturating_sub(1);
                    return true;
                }
            }
            // All drawn keys are gone, so the odds are wrong.
            self.odds_last = 0;
        }
        false
    }

    /// Adds random keys to the pool. Returns false if there are none.
    fn draw(&mut self, engine: &Engine, policy: Policy, now: UnixMillis) -> bool {
        if self.odds_last == 0 {
            self.odds = Odds::of(&engine.store, policy.volatile);
            // A few keys more or fewer among thousands do not matter; counting takes 256 locks.
            self.odds_last = self.odds.total() / 64;
        }
        let samples = match policy.order {
            Order::Random => 1,
            _ => engine.config.int(Id::MaxmemorySamples).min(SAMPLES_MAX),
        };
        for _ in 0..samples {
            let Some(shard) = self.odds.draw(&mut self.random) else { return false };
            if let Some(key) = Sample::draw(&engine.store, shard, policy.volatile, &mut self.random)
            {
                let score = policy.score(key, now, engine.decay_minutes());
                self.pool.offer(Candidate { score, key });
            }
        }
        true
    }

    /// Removes a candidate, if its score is still as high.
    fn remove(&mut self, engine: &Engine, policy: Policy, candidate: Candidate) -> bool {
        let decay_minutes = engine.decay_minutes();
        let mut tx = engine.begin_shard(candidate.key.shard);
        let now = tx.now();
        if !engine.may_delete() {
            return false;
        }
        tx.record_into(std::mem::take(&mut self.record));
        let goes = |key| policy.score(key, now, decay_minutes) >= candidate.score;
        let evicted = sample::evict(&mut tx, candidate.key, goes);
        let append = |payload: &[u8]| match &engine.persistence {
            Some(persistence) => persistence.log.append(payload, now),
            None => Default::default(),
        };
        (_, self.record) = tx.commit(append);
        self.events.append(&mut tx.take_events());
        drop(tx);
        engine.metrics[Stat::EvictedKeys].add(evicted.is_some().into());
        evicted.is_some()
    }
}

impl Engine {
    /// True if keys must go. NB: a follower deletes nothing by itself, so it has no limit. During CLIENT PAUSE no
    /// key goes, as in Redis.
    fn is_over_limit(&self) -> bool {
        let limit = self.config.int(Id::Maxmemory) as usize;
        limit > 0 && self.used_memory() > limit && self.may_delete()
    }

    /// Brings memory under the limit for a command that may need more, or refuses the command. Returns true if keys
    /// had to go.
    pub(crate) fn make_room(&self) -> Result<bool, Failure> {
        if !self.is_over_limit() {
            return Ok(false);
        }
        let stopwatch = Stopwatch::start();
        while self.is_over_limit() {
            self.evict_some()?;
        }
        self.latency.record(&self.config, "eviction-cycle", stopwatch.nanos());
        Ok(true)
    }

    /// The sweeper's part: memory that is over the limit without a write.
    pub(crate) fn keep_within_limit(&self) {
        self.watch_memory();
        while self.is_over_limit() && !self.shutdown.is_requested() {
            if self.evict_some().is_err() {
                return;
            }
        }
    }

    /// A step towards the limit.
    fn evict_some(&self) -> Result<(), Failure> {
        if let Some(persistence) = &self.persistence {
            persistence.admit()?;
            persistence.write_pending(PENDING_BYTES_FLUSH)?;
        }
        let policy = Policy::of(&self.config).ok_or(OUT_OF_MEMORY)?;
        let mut evictor = self.evictor.lock();
        let mut any_may_go = true;
        for _ in 0..STEP_KEYS {
            if !any_may_go || !self.is_over_limit() {
                break;
            }
            any_may_go = evictor.evict(self, policy);
        }
        let events = std::mem::take(&mut evictor.events);
        drop(evictor);
        if let Some(persistence) = &self.persistence {
            persistence.log.work.notify();
        }
        self.publish_events(events);
        if any_may_go { Ok(()) } else { Err(OUT_OF_MEMORY) }
    }

    /// What is recorded at each use of a key.
    pub(crate) fn tracking(&self) -> Tracking {
        if !self.config.choice(Id::MaxmemoryPolicy).ends_with("lfu") {
            return Tracking::Time;
        }
        let log_factor = self.config.int(Id::LfuLogFactor) as u32;
        Tracking::Frequency { log_factor, decay_minutes: self.decay_minutes() }
    }

    fn decay_minutes(&self) -> u32 {
        self.config.int(Id::LfuDecayTime) as u32
    }
}
