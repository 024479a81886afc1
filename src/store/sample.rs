//! Random keys, to find one that may go.
//!
//! A shard is drawn by how many keys it has, then a key in it, each as likely as any other. So a sample
//! is even however the keys are spread, and costs one look under one reader's lock.

use super::effect::Effect;
use super::tx::Tx;
use super::usage::Usage;
use super::{Shard, Store};
use crate::clock::UnixMillis;
use crate::event::Classes;
use fastrand::Rng;

/// A key, met in passing. It is known by its hash: of keys whose hashes are equal, any will do.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Its shard.
    pub shard: usize,
    /// Its place in the shard's hash order.
    pub place: u32,
    /// How it was used.
    pub usage: Usage,
    /// Its deadline, if only keys with one were asked for.
    pub deadline: Option<UnixMillis>,
}

/// Draws shards by how many keys each has. May be somewhat out of date, for the price of evenness.
#[derive(Debug, Default)]
pub struct Odds {
    /// For each shard, the keys of it and of those before it.
    up_to: Vec<usize>,
}

impl Odds {
    /// For shards with so many keys.
    pub fn new(counts: impl Iterator<Item = usize>) -> Odds {
        let mut sum = 0;
        let add = |count| {
            sum += count;
            sum
        };
        Odds { up_to: counts.map(add).collect() }
    }

    /// All keys.
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
    fn of(shard: &Shard, number: usize, at: usize, volatile: bool) -> Sample {
        let table = shard.table();
        // Without need, the entry itself is not looked at: it is seldom in the cache.
        let deadline = if volatile { table.entry(at).deadline() } else { None };
        Sample { shard: number, place: table.hash_at(at), usage: table.usage(at), deadline }
    }
}

impl Store {
    /// How many keys each shard has; if `volatile`, keys with a deadline.
    pub fn odds(&self, volatile: bool) -> Odds {
        Odds::new(self.shards.iter().map(|shard| {
            let shard = shard.read();
            if volatile { shard.volatile() } else { shard.table().len() }
        }))
    }

    /// A random key of a shard; if `volatile`, one with a deadline.
    pub fn sample(&self, number: usize, volatile: bool, random: &mut Rng) -> Option<Sample> {
        let shard = self.shards[number].read();
        let mut slot = shard.random_slot(volatile, random);
        let found = slot.map(|at| Sample::of(&shard, number, at, volatile));
        if found.is_some() || shard.volatile() == 0 {
            return found;
        }
        drop(shard);
        // Few of the listed deadlines are still true. Without the others, the next look finds one.
        let mut shard = self.shards[number].write();
        shard.rebuild_deadlines();
        slot = shard.random_slot(volatile, random);
        slot.map(|at| Sample::of(&shard, number, at, volatile))
    }
}

impl Tx<'_> {
    /// Removes the key at a sample's place, if `goes` says so of what is there by now. Returns the key.
    pub fn evict(&mut self, old: Sample, goes: impl Fn(Sample) -> bool) -> Option<Vec<u8>> {
        let volatile = old.deadline.is_some();
        let shard = self.held(old.shard);
        let is_still_one = |&at: &usize| {
            let new = Sample::of(shard, old.shard, at, volatile);
            new.deadline.is_some() == volatile && goes(new)
        };
        let at = shard.table().slots_of(old.place).find(is_still_one)?;
        let key = shard.table().entry(at).key().to_vec();
        self.apply(Effect::Del { keys: &[&key] });
        self.tell(Classes::EVICTED, "evicted", &key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{SHARDS, Scope, Totals};
    use std::collections::BTreeMap;

    const NOW: UnixMillis = UnixMillis(1_000_000);

    fn filled(keys: u32, deadline: impl Fn(u32) -> Option<UnixMillis>) -> Store {
        let store = Store::new();
        let mut tx = store.begin_scope(Scope::All, true, || NOW);
        for n in 0..keys {
            tx.apply(Effect::Set { key: &n.to_le_bytes(), value: b"v", deadline: deadline(n) });
        }
        drop(tx);
        store
    }

    /// How often each key is drawn, as the evictor draws.
    fn draws(store: &Store, volatile: bool, draws: usize) -> BTreeMap<(usize, u32), usize> {
        let (mut random, mut drawn) = (Rng::new(), BTreeMap::new());
        let odds = store.odds(volatile);
        for _ in 0..draws {
            let shard = odds.draw(&mut random).unwrap();
            let sample = store.sample(shard, volatile, &mut random).unwrap();
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
        let mut tx = store.begin_scope(Scope::All, true, || NOW);
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
            assert!((0..SHARDS).all(|n| store.sample(n, volatile, &mut random).is_none()));
        }
    }

    #[test]
    fn only_what_is_still_there_and_still_the_same_is_evicted() {
        let store = filled(1, |_| None);
        let mut random = Rng::new();
        let shard = store.odds(false).draw(&mut random).unwrap();
        let sample = store.sample(shard, false, &mut random).unwrap();
        let mut tx = store.begin_shard(shard, || NOW);
        assert_eq!(tx.evict(sample, |_| false), None);
        assert_eq!(tx.evict(sample, |_| true), Some(0u32.to_le_bytes().to_vec()));
        assert_eq!(tx.evict(sample, |_| true), None);
    }

    #[test]
    fn the_sums_are_those_of_the_shards() {
        let counted = |store: &Store| {
            store.shards.iter().fold(Totals::default(), |mut sum, shard| {
                sum.add_change(Totals::default(), shard.read().totals());
                sum
            })
        };
        let store = filled(1000, |n| n.is_multiple_of(3).then_some(UnixMillis(NOW.0 + 9)));
        assert_eq!(store.totals(), counted(&store));
        assert_eq!((store.totals().keys, store.totals().volatile), (1000, 334));
        let mut tx = store.begin_scope(Scope::All, true, || NOW);
        tx.apply(Effect::Del { keys: &[&7u32.to_le_bytes(), &8u32.to_le_bytes()] });
        drop(tx);
        assert_eq!(store.totals(), counted(&store));
        let mut tx = store.begin_scope(Scope::All, true, || NOW);
        tx.apply(Effect::FlushAll);
        drop(tx);
        assert_eq!(store.totals(), Totals::default());
        assert_eq!(store.bytes(), 0);
    }
}
