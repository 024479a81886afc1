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

use crate::clock::{Stopwatch, UnixMillis};
use crate::config::{Config, Id};
use crate::engine::Engine;
use crate::error::{Failure, Kind};
use crate::memory::recency::Tracking;
use crate::memory::sample::{self, Odds, Sample};
use crate::metrics::Stat;
use crate::store::Event;
use fastrand::Rng;

const OUT_OF_MEMORY: Failure =
    Failure::fixed("OOM command not allowed when used memory > 'maxmemory'.")
        .of_kind(Kind::Unavailable);
/// As in Redis. A larger pool gains nothing that more samples would not.
const POOL_MAX: usize = 16;
/// More samples would make one eviction a long job.
const SAMPLES_MAX: i64 = 64;
/// Evictions under one hold of the pool's lock. Then others who wait for it have a turn.
const STEP_KEYS: usize = 16;
/// Draws in vain before the search is given up.
const ROUNDS_MAX: usize = 64;
/// More pending bytes of the log than this are written before keys go.
const PENDING_BYTES_FLUSH: u64 = 256 << 10;

/// Which keys go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    IdleLongest,
    UsedLeast,
    ExpiringSoonest,
    Random,
}

/// `maxmemory-policy`, unless it is `noeviction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Policy {
    order: Order,
    /// Only keys with a deadline go.
    volatile: bool,
}

impl Policy {
    fn of(config: &Config) -> Option<Policy> {
        let (scope, order) = config.choice(Id::MaxmemoryPolicy).split_once('-')?;
        let order = match order {
            "lru" => Order::IdleLongest,
            "lfu" => Order::UsedLeast,
            "ttl" => Order::ExpiringSoonest,
            _ => Order::Random,
        };
        Some(Policy { order, volatile: scope == "volatile" })
    }

    /// The key with the highest score goes first. A score rises while the key is not used and falls when it is.
    fn score(self, key: Sample, now: UnixMillis, decay_minutes: u32) -> u64 {
        match self.order {
            Order::IdleLongest => key.recency.idle_millis(now),
            Order::UsedLeast => u64::from(u8::MAX - key.recency.frequency(now, decay_minutes)),
            Order::ExpiringSoonest => u64::MAX - key.deadline.map_or(u64::MAX, |at| at.0),
            Order::Random => 0,
        }
    }
}

/// A key in the pool.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    score: u64,
    key: Sample,
}

/// The best candidates seen so far, the best one last.
#[derive(Debug, Default)]
struct Pool(Vec<Candidate>);

impl Pool {
    fn offer(&mut self, new: Candidate) {
        let is_same =
            |old: &Candidate| (old.key.shard, old.key.place) == (new.key.shard, new.key.place);
        if self.0.iter().any(is_same) {
            return;
        }
        if self.0.len() == POOL_MAX {
            if new.score <= self.0[0].score {
                return;
            }
            self.0.remove(0);
        }
        let at = self.0.partition_point(|old| old.score < new.score);
        self.0.insert(at, new);
    }
}

/// State that is kept from one eviction to the next.
#[derive(Debug, Default)]
pub struct Evictor {
    policy: Option<Policy>,
    pool: Pool,
    odds: Odds,
    /// Evictions until the odds are counted again.
    odds_last: usize,
    random: Rng,
    /// The buffer for records, used again.
    record: Vec<u8>,
    /// To be published when the lock is released.
    events: Vec<Event>,
}

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
        self.latency.note(&self.config, "eviction-cycle", stopwatch.nanos());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::recency::Recency;

    fn candidate(place: u32, score: u64) -> Candidate {
        let key = Sample { shard: 0, place, recency: Recency::default(), deadline: None };
        Candidate { score, key }
    }

    #[test]
    fn the_pool_keeps_the_best_of_all_that_it_was_offered() {
        let (mut pool, mut random) = (Pool::default(), Rng::new());
        let mut offered: Vec<u64> = (0..1000).map(|_| random.u64(..) >> 40).collect();
        for (place, score) in offered.iter().enumerate() {
            pool.offer(candidate(place as u32, *score));
        }
        offered.sort_unstable();
        let kept: Vec<u64> = pool.0.iter().map(|candidate| candidate.score).collect();
        assert_eq!(kept, offered[1000 - POOL_MAX..]);
    }

    #[test]
    fn a_key_is_in_the_pool_once() {
        let mut pool = Pool::default();
        [5, 9, 1].iter().for_each(|&score| pool.offer(candidate(7, score)));
        assert_eq!(pool.0.len(), 1);
    }

    #[test]
    fn a_policy_prefers_what_its_name_says() {
        let config = Config::default();
        assert_eq!(Policy::of(&config), None, "by default nothing goes");
        let now = UnixMillis(1_000_000_000);
        let lru = Tracking::Time;
        let used = |millis| Recency::new(UnixMillis(now.0 - millis), lru);
        let key = |recency, deadline| Sample { shard: 0, place: 0, recency, deadline };
        let set = |policy: &str| {
            config.set_many(&[(b"maxmemory-policy", policy.as_bytes())]).expect("a policy");
            let policy = Policy::of(&config).expect("keys go");
            move |recency, deadline| policy.score(key(recency, deadline), now, 1)
        };
        let score = set("volatile-lru");
        assert!(score(used(9000), None) > score(used(100), None));
        let score = set("allkeys-lfu");
        let counted = |counter| Recency::counted(counter, now);
        assert!(score(counted(3), None) > score(counted(200), None));
        let score = set("volatile-ttl");
        let soon = |millis| Some(UnixMillis(now.0 + millis));
        assert!(score(used(0), soon(5)) > score(used(0), soon(6)));
        assert!(Policy::of(&config).is_some_and(|policy| policy.volatile));
    }
}
