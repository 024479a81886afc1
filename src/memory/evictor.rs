//! The evictor: draws random keys and keeps the best of them in a pool. It chooses; its caller removes.

use super::sample::{Odds, Sample};
use crate::clock::UnixMillis;
use crate::config::{Config, Id};
use crate::store::Store;
use fastrand::Rng;

/// As in Redis. A larger pool gains nothing that more samples would not.
const POOL_MAX: usize = 16;
/// More samples would make one eviction a long job.
const SAMPLES_MAX: i64 = 64;
/// Draws in vain before the search is given up.
const ROUNDS_MAX: usize = 64;

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
pub struct Policy {
    order: Order,
    /// Only keys with a deadline go.
    volatile: bool,
    /// `maxmemory-samples`, and `lfu-decay-time`.
    samples: i64,
    decay_minutes: u32,
}

impl Policy {
    /// The policy of the settings. None means that no key goes.
    pub fn of(config: &Config) -> Option<Policy> {
        let (scope, order) = config.choice(Id::MaxmemoryPolicy).split_once('-')?;
        let order = match order {
            "lru" => Order::IdleLongest,
            "lfu" => Order::UsedLeast,
            "ttl" => Order::ExpiringSoonest,
            _ => Order::Random,
        };
        let samples = match order {
            Order::Random => 1,
            _ => config.int(Id::MaxmemorySamples).min(SAMPLES_MAX),
        };
        let decay_minutes = config.int(Id::LfuDecayTime) as u32;
        Some(Policy { order, volatile: scope == "volatile", samples, decay_minutes })
    }

    /// The key with the highest score goes first. A score rises while the key is not used and falls when it is.
    pub fn score(self, key: Sample, now: UnixMillis) -> u64 {
        match self.order {
            Order::IdleLongest => key.recency.idle_millis(now),
            Order::UsedLeast => u64::from(u8::MAX - key.recency.frequency(now, self.decay_minutes)),
            Order::ExpiringSoonest => u64::MAX - key.deadline.map_or(u64::MAX, |at| at.0),
            Order::Random => 0,
        }
    }
}

/// A key in the pool.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Its score when it was drawn.
    pub score: u64,
    /// Its place in the store.
    pub key: Sample,
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
    /// The caller's buffer for records, used again.
    pub record: Vec<u8>,
}

impl Evictor {
    /// Evicts one key of `store`. `remove` is given `record` and removes a candidate, unless its score has fallen.
    /// Returns false if no key may go.
    pub fn evict(
        &mut self,
        store: &Store,
        policy: Policy,
        now: impl Fn() -> UnixMillis,
        mut remove: impl FnMut(&mut Vec<u8>, Candidate) -> bool,
    ) -> bool {
        if self.policy != Some(policy) {
            *self = Evictor { policy: Some(policy), ..Evictor::default() };
        }
        for _ in 0..ROUNDS_MAX {
            if !self.draw(store, policy, now()) {
                return false;
            }
            while let Some(best) = self.pool.0.pop() {
                if remove(&mut self.record, best) {
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
    fn draw(&mut self, store: &Store, policy: Policy, now: UnixMillis) -> bool {
        if self.odds_last == 0 {
            self.odds = Odds::of(store, policy.volatile);
            // A few keys more or fewer among thousands do not matter; counting takes 256 locks.
            self.odds_last = self.odds.total() / 64;
        }
        for _ in 0..policy.samples {
            let Some(shard) = self.odds.draw(&mut self.random) else { return false };
            if let Some(key) = Sample::draw(store, shard, policy.volatile, &mut self.random) {
                let score = policy.score(key, now);
                self.pool.offer(Candidate { score, key });
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::recency::{Recency, Tracking};

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
            move |recency, deadline| policy.score(key(recency, deadline), now)
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
