//! Random keys, for eviction and RANDOMKEY.
//!
//! A shard is drawn by how many keys it has, then a key in it, each as likely as any other. So a sample
//! is even however the keys are spread, and costs one read lock.

use super::recency::Recency;
use crate::clock::UnixMillis;
use crate::store::effect::Effect;
use crate::store::{Entry, SHARDS, Shard, Store, Tx};
use fastrand::Rng;

/// Redis, too, gives up looking for a live key among expired ones after so many tries.
const LIVE_TRIES_MAX: usize = 100;

/// A key that was drawn. It is known by its hash: of keys with equal hashes, any will do.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Its shard.
    pub shard: usize,
    /// Its place in the shard's hash order.
    pub place: u32,
    /// The record of its accesses.
    pub recency: Recency,
    /// Its deadline, if only keys with one were asked for.
    pub deadline: Option<UnixMillis>,
}

/// Draws shards by their numbers of keys. These may be somewhat out of date; that costs evenness only.
#[derive(Debug, Default)]
pub struct Odds {
    /// For each shard, the number of keys in it and in those before it.
    up_to: Vec<usize>,
}

impl Odds {
    /// For shards with these numbers of keys.
    pub fn new(counts: impl Iterator<Item = usize>) -> Odds {
        let add = |sum: &mut usize, count| {
            *sum += count;
            Some(*sum)
        };
        Odds { up_to: counts.scan(0, add).collect() }
    }

    /// For the shards of a store; if `volatile`, by their keys with a deadline.
    pub fn of(store: &Store, volatile: bool) -> Odds {
        Odds::new((0..SHARDS).map(|number| {
            let guard = store.lock(number, false, &mut false);
            let shard = guard.shard();
            if volatile { shard.volatile() } else { shard.table().len() }
        }))
    }

    /// The number of keys.
    pub fn total(&self) -> usize {
        self.up_to.last().copied().unwrap_or(0)
    }

    /// A shard, if there is any key.
    pub fn draw(&self, random: &mut Rng) -> Option<usize> {
        if self.total() == 0 {
            return None;
        }
        let ticket = random.usize(..self.total());
        Some(self.up_to.partition_point(|&up_to| up_to <= ticket))
    }
}

impl Sample {
    /// A random key of a shard; if `volatile`, one with a deadline.
    pub fn draw(store: &Store, number: usize, volatile: bool, random: &mut Rng) -> Option<Sample> {
        let guard = store.lock(number, false, &mut false);
        let shard = guard.shard();
        let mut slot = shard.random_slot(volatile, random);
        let found = slot.map(|at| Sample::at(shard, number, at, volatile));
        if found.is_some() || shard.volatile() == 0 {
            return found;
        }
        drop(guard);
        // Few of the listed deadlines are still valid. Once the others are dropped, the next try finds one.
        let mut guard = store.lock(number, true, &mut false);
        let shard = guard.shard_mut();
        shard.rebuild_deadlines();
        slot = shard.random_slot(volatile, random);
        slot.map(|at| Sample::at(shard, number, at, volatile))
    }

    fn at(shard: &Shard, number: usize, at: usize, volatile: bool) -> Sample {
        let table = shard.table();
        // The entry is read only if it must be: it is seldom in the cache.
        let deadline = if volatile { table.entry(at).deadline() } else { None };
        Sample { shard: number, place: table.hash_at(at), recency: table.recency(at), deadline }
    }
}

/// Removes the key at a sample's place, if `goes` says so of the key that is there now. Returns the key.
pub fn evict(tx: &mut Tx<'_>, old: Sample, goes: impl Fn(Sample) -> bool) -> Option<Vec<u8>> {
    let volatile = old.deadline.is_some();
    let shard = tx.held(old.shard);
    let still_goes = |&(at, _): &(usize, &Entry)| {
        let new = Sample::at(shard, old.shard, at, volatile);
        new.deadline.is_some() == volatile && goes(new)
    };
    let (_, entry) = shard.table().slots_of(old.place).find(still_goes)?;
    let key = entry.key().to_vec();
    tx.apply(Effect::Del { keys: &[&key] });
    tx.emit("evicted", &key);
    Some(key)
}

/// A random live key, if there is one.
pub fn random_key(tx: &Tx<'_>, random: &mut Rng) -> Option<Vec<u8>> {
    let odds = Odds::new(tx.shard_sizes());
    for _ in 0..LIVE_TRIES_MAX {
        let found = tx.with_shard(odds.draw(random)?, |shard| {
            let table = shard.table();
            let entry = table.entry(table.random_taken(random)?);
            tx.is_live(entry).then(|| entry.key().to_vec())
        });
        if found.is_some() {
            return found;
        }
    }
    let mut found = None;
    tx.scan(0, |entry| {
        found = tx.is_live(entry).then(|| entry.key().to_vec());
        found.is_none()
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Totals;
    use std::collections::BTreeMap;

    const NOW: UnixMillis = UnixMillis(1_000_000);

    fn filled(keys: u32, deadline: impl Fn(u32) -> Option<UnixMillis>) -> Store {
        let store = Store::new();
        let mut tx = store.begin_all(true, || NOW);
        for n in 0..keys {
            tx.apply(Effect::Set { key: &n.to_le_bytes(), value: b"v", deadline: deadline(n) });
        }
        drop(tx);
        store
    }

    /// How often each key is drawn, as the evictor draws.
    fn draws(store: &Store, volatile: bool, draws: usize) -> BTreeMap<(usize, u32), usize> {
        let (mut random, mut drawn) = (Rng::new(), BTreeMap::new());
        let odds = Odds::of(store, volatile);
        for _ in 0..draws {
            let shard = odds.draw(&mut random).unwrap();
            let sample = Sample::draw(store, shard, volatile, &mut random).unwrap();
            *drawn.entry((sample.shard, sample.place)).or_default() += 1;
        }
        drawn
    }

    /// Chi-squared over the keys: for `keys - 1` degrees of freedom its mean is that, its variance twice
    /// as much.
    fn assert_even(drawn: &BTreeMap<(usize, u32), usize>, keys: usize) {
        let total: usize = drawn.values().sum();
        let expected = total as f64 / keys as f64;
        let missed = (keys - drawn.len()) as f64 * expected;
        let distance = |&count: &usize| (count as f64 - expected).powi(2) / expected;
        let chi_squared: f64 = drawn.values().map(distance).sum::<f64>() + missed;
        let freedom = (keys - 1) as f64;
        let bound = freedom + 6.0 * (2.0 * freedom).sqrt();
        assert!(chi_squared <= bound, "{chi_squared} for {freedom} degrees of freedom");
    }

    #[test]
    fn each_key_is_as_likely_as_any_other() {
        for keys in [1, 10, 300, 5000] {
            let store = filled(keys, |_| None);
            assert_even(&draws(&store, false, keys as usize * 40), keys as usize);
        }
    }

    #[test]
    fn keys_with_a_deadline_are_found_among_many_without() {
        let volatile = |n: u32| n.is_multiple_of(1000).then_some(UnixMillis(NOW.0 + 1000));
        let store = filled(20_000, volatile);
        assert_even(&draws(&store, true, 2000), 20);
        // Leave hundreds of leftovers beside a single true one.
        let mut tx = store.begin_all(true, || NOW);
        for n in (0..20_000u32).filter(|n| n % 1000 != 0) {
            let key = &n.to_le_bytes()[..];
            tx.apply(Effect::PexpireAt { key, deadline: UnixMillis(NOW.0 + 5000) });
            tx.apply(Effect::Persist { key });
        }
        drop(tx);
        assert_even(&draws(&store, true, 2000), 20);
    }

    #[test]
    fn nothing_is_drawn_where_nothing_is() {
        let mut random = Rng::new();
        for (store, volatile) in [(Store::new(), false), (filled(300, |_| None), true)] {
            assert!((0..SHARDS).all(|n| Sample::draw(&store, n, volatile, &mut random).is_none()));
        }
    }

    #[test]
    fn only_what_is_still_there_and_still_the_same_is_evicted() {
        let store = filled(1, |_| None);
        let mut random = Rng::new();
        let shard = Odds::of(&store, false).draw(&mut random).unwrap();
        let sample = Sample::draw(&store, shard, false, &mut random).unwrap();
        let mut tx = store.begin_shard(shard, || NOW);
        assert_eq!(evict(&mut tx, sample, |_| false), None);
        assert_eq!(evict(&mut tx, sample, |_| true), Some(0u32.to_le_bytes().to_vec()));
        assert_eq!(evict(&mut tx, sample, |_| true), None);
    }

    #[test]
    fn the_sums_are_those_of_the_shards() {
        let counted = |store: &Store| {
            (0..SHARDS).fold(Totals::default(), |sum, number| {
                let shard = store.lock(number, false, &mut false).shard().totals();
                Totals {
                    keys: sum.keys + shard.keys,
                    volatile: sum.volatile + shard.volatile,
                    bytes: sum.bytes + shard.bytes,
                }
            })
        };
        let store = filled(1000, |n| n.is_multiple_of(3).then_some(UnixMillis(NOW.0 + 9)));
        assert_eq!(store.totals(), counted(&store));
        assert_eq!((store.totals().keys, store.totals().volatile), (1000, 334));
        let mut tx = store.begin_all(true, || NOW);
        tx.apply(Effect::Del { keys: &[&7u32.to_le_bytes(), &8u32.to_le_bytes()] });
        drop(tx);
        assert_eq!(store.totals(), counted(&store));
        let mut tx = store.begin_all(true, || NOW);
        tx.apply(Effect::FlushAll);
        drop(tx);
        assert_eq!(store.totals(), Totals::default());
        assert_eq!(store.bytes(), 0);
    }
}
