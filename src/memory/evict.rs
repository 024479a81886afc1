//! The memory limit: which keys go to make room, and who sees to it.
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
//! A command that may need memory (DENYOOM in the table) makes room before it locks anything; all others
//! run as ever, so a full server still reads, deletes and expires. What grows without such a command
//! (replies that wait, a limit that is lowered) is the sweeper's business, within a tenth of a second.
//!
//! # The log
//!
//! What waits to be written to the log counts, too (see `memory.rs`), and each deletion is a record. So
//! it is written out before keys go for it: else one deletion would call for the next. And under a limit
//! on memory writers wait once a 64th of it is pending, so that a slow disk does not cost keys.
//!
//! # Which keys go
//!
//! No list of all keys by age is kept: it would cost two pointers a key and a lock for each read. As in
//! Redis, a few random keys are drawn and the best goes; what makes that good is a pool of the best seen
//! so far. Unlike Redis, a key that was used while it was in the pool is let off.
//!
//! # Promised
//!
//! - A command that runs found memory under the limit; so memory exceeds it by what commands running at
//!   one time add, and no more.
//! - An eviction is an effect like any other: memory after a restart is memory before it. Recovery itself
//!   evicts nothing, the first write after it does.
//! - Nobody waits for more than one eviction at a shard, and readers not at all.
//!
//! Not promised: that the least used key goes; that a limit which is lowered by a lot is reached before
//! the next writer has waited for it.

use super::evictor::{Candidate, Evictor, Order, Policy};
use crate::clock::{Stopwatch, UnixMillis};
use crate::config::Id;
use crate::engine::Engine;
use crate::error::{Failure, Kind};
use crate::memory::recency::Tracking;
use crate::memory::sample::{self, Odds, Sample};

const OUT_OF_MEMORY: Failure =
    Failure::fixed("OOM command not allowed when used memory > 'maxmemory'.")
        .of_kind(Kind::Unavailable);
/// More samples would make one eviction a long job.
const SAMPLES_MAX: i64 = 64;
/// Evictions under one hold of the pool's lock, before the others who wait for it have a turn.
const STEP_KEYS: usize = 16;
/// Draws in vain, before nothing is taken to be there.
const ROUNDS_MAX: usize = 64;
/// What waits for the log is written out when it is more than this.
const PENDING_BYTES_FLUSH: u64 = 256 << 10;

impl Evictor {
    /// Removes one key; returns whether there was any that may go.
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
            // What was drawn is gone: so the odds are wrong.
            self.odds_last = 0;
        }
        false
    }

    /// Adds random keys to the pool; returns whether there are any.
    fn draw(&mut self, engine: &Engine, policy: Policy, now: UnixMillis) -> bool {
        if self.odds_last == 0 {
            self.odds = Odds::of(&engine.store, policy.volatile);
            // Of thousands of keys a few more or fewer are no matter, and 256 looks are not for each.
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

    /// Removes a candidate, if it is as good as it was; an effect like any other.
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
        engine.metrics.evicted_keys.add(evicted.is_some().into());
        evicted.is_some()
    }
}

impl Engine {
    /// Whether keys must go. NB: a follower deletes nothing by itself; to it, there is no limit. During
    /// CLIENT PAUSE nothing goes, as in Redis.
    fn is_over_limit(&self) -> bool {
        let limit = self.config.int(Id::Maxmemory) as usize;
        limit > 0 && self.used_memory() > limit && self.may_delete()
    }

    /// Brings memory under the limit for a command that may need more, or refuses the command. Returns
    /// whether there was anything to do.
    pub(crate) fn make_room(&self) -> Result<bool, Failure> {
        if !self.is_over_limit() {
            return Ok(false);
        }
        let watch = Stopwatch::start();
        while self.is_over_limit() {
            self.evict_some()?;
        }
        self.latency.record(&self.config, "eviction-cycle", watch.nanos());
        Ok(true)
    }

    /// The sweeper's part: what is over the limit without a writer's doing.
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

    /// What is noted of each use of a key.
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
