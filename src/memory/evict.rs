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
//! A command that may need memory (DENYOOM in the table) makes room before it locks anything. All others run as usual:
//! a full server still reads, deletes and expires. The sweeper sees to memory that grows without such a command.
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
//! - **Not promised.** That the least used key goes; that a limit lowered by a lot is reached at once.

use super::evictor::{Candidate, Policy};
use super::recency::Tracking;
use super::sample;
use crate::clock::Stopwatch;
use crate::config::Id;
use crate::engine::Engine;
use crate::error::{Failure, Kind};
use crate::metrics::Stat;
use crate::store::Event;

const OUT_OF_MEMORY: Failure =
    Failure::fixed("OOM command not allowed when used memory > 'maxmemory'.")
        .of_kind(Kind::Unavailable);
/// Evictions under one hold of the pool's lock. Then others who wait for it have a turn.
const STEP_KEYS: usize = 16;
/// More pending bytes of the log than this are written before keys go.
const PENDING_BYTES_FLUSH: u64 = 256 << 10;

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
        self.instruments.latency.note(&self.config, "eviction-cycle", stopwatch.nanos());
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
        let (mut events, mut any_may_go) = (Vec::new(), true);
        let mut remove =
            |record: &mut Vec<u8>, candidate| self.remove(policy, record, candidate, &mut events);
        let mut evictor = self.memory_state.evictor.lock();
        for _ in 0..STEP_KEYS {
            if !any_may_go || !self.is_over_limit() {
                break;
            }
            any_may_go = evictor.evict(&self.store, policy, || self.clock.now(), &mut remove);
        }
        drop(evictor);
        if let Some(persistence) = &self.persistence {
            persistence.log.work.notify();
        }
        self.publish_events(events);
        if any_may_go { Ok(()) } else { Err(OUT_OF_MEMORY) }
    }

    /// The data recorded at each use of a key.
    pub(crate) fn tracking(&self) -> Tracking {
        if !self.config.choice(Id::MaxmemoryPolicy).ends_with("lfu") {
            return Tracking::Time;
        }
        let log_factor = self.config.int(Id::LfuLogFactor) as u32;
        Tracking::Frequency { log_factor, decay_minutes: self.config.int(Id::LfuDecayTime) as u32 }
    }

    /// Removes a candidate, if its score is still as high.
    fn remove(
        &self,
        policy: Policy,
        record: &mut Vec<u8>,
        candidate: Candidate,
        events: &mut Vec<Event>,
    ) -> bool {
        let mut tx = self.begin_shard(candidate.key.shard);
        let now = tx.now();
        if !self.may_delete() {
            return false;
        }
        tx.record_into(std::mem::take(record));
        let goes = |key| policy.score(key, now) >= candidate.score;
        let evicted = sample::evict(&mut tx, candidate.key, goes);
        let append = |payload: &[u8]| match &self.persistence {
            Some(persistence) => persistence.log.append(payload, now),
            None => Default::default(),
        };
        (_, *record) = tx.commit(append);
        events.append(&mut tx.take_events());
        drop(tx);
        self.metrics[Stat::EvictedKeys].add(evicted.is_some().into());
        evicted.is_some()
    }
}
