//! A hash table that is kept in hash order.
//!
//! Ordered linear probing (Amble and Knuth, "Ordered hash tables", 1974): an entry's home is its hash
//! scaled to the number of homes, collisions move to the right, and the entries of a run stay sorted by
//! hash. So the whole table is sorted by hash. That gives:
//!
//! - a SCAN cursor that is a position in hash order: it stays valid while the table grows, shrinks and
//!   changes, and the server keeps no state for it
//! - growth by a quarter instead of doubling, in sequential passes that read no keys: little memory is
//!   wasted and clients do not wait long
//! - a search for an absent key that ends at the first larger hash
//!
//! ```text
//! hash      3   7     9   9  14        22
//! slot    0   1   2   3   4   5   6   7   8 | overflow: runs that begin near the end
//! ```
//!
//! Out of scope: tombstones (after a removal, the run moves back), keys other than bytes.

use super::entry::Entry;
use crate::memory::recency::{Access, Recency};
use fastrand::Rng;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Above this share of entries per home, the table grows: runs become long.
const LOAD_MAX_PERCENT: usize = 85;
/// After growth, the entries are this share of the homes: 85 to 68 is growth by a quarter.
const LOAD_NEW_PERCENT: usize = 68;
/// Below this share, it shrinks.
const LOAD_MIN_PERCENT: usize = 20;
/// Shrinking may not move an entry further than this from its home. Deleting in hash order, as a script
/// with SCAN does, leaves all entries in one corner of the table.
const SHIFT_MAX: usize = 64;
const HOMES_MIN: usize = 8;
/// Random attempts to hit a taken slot.
const RANDOM_TRIES_MAX: usize = 64;

/// One place in the table. 24 bytes.
#[derive(Debug, Default)]
struct Slot {
    /// Place in hash order; meaningful only with an entry.
    hash: u32,
    /// The entry's [`Recency`]. Atomic, because readers write it under a shared lock.
    recency: AtomicU32,
    entry: Option<Entry>,
}

/// Entries by key.
///
/// Invariants:
/// - the hashes of taken slots do not decrease from left to right
/// - between an entry's home and its slot no slot is free
/// - the last slot is free, so every search ends
#[derive(Debug)]
pub struct Table {
    slots: Vec<Slot>,
    /// The first slots are homes; the ones after them are overflow.
    homes: usize,
    len: usize,
    /// With fewer entries, the table shrinks. At most half of the entries at the last rebuild, so that a table
    /// which cannot shrink much is not rebuilt again and again.
    shrink_below: usize,
}

impl Table {
    /// An empty table, which allocates nothing.
    pub const fn new() -> Table {
        Table { slots: Vec::new(), homes: 0, len: 0, shrink_below: 0 }
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes allocated for the slots, without the entries.
    pub fn allocated_bytes(&self) -> usize {
        self.slots.len() * size_of::<Slot>()
    }

    /// The slot of a key; valid until the next change.
    pub fn find(&self, hash: u32, key: &[u8]) -> Option<usize> {
        self.slots_of(hash).find(|(_, entry)| entry.key() == key).map(|(at, _)| at)
    }

    /// The entry in a taken slot.
    pub fn entry(&self, at: usize) -> &Entry {
        self.slots[at].entry.as_ref().expect("the slot is taken")
    }

    /// The entry in a taken slot, to change all but its key.
    pub fn entry_mut(&mut self, at: usize) -> &mut Entry {
        self.slots[at].entry.as_mut().expect("the slot is taken")
    }

    /// Records an access to the entry. Of two at the same time, one may be lost.
    pub fn touch(&self, at: usize, access: Access) {
        self.set_recency(at, access.after(self.recency(at)));
    }

    /// The entry's recency.
    pub fn recency(&self, at: usize) -> Recency {
        Recency(self.slots[at].recency.load(Relaxed))
    }

    /// Sets the entry's recency. Writes only a difference, so that the cache line does not move between the
    /// cores of two readers.
    pub fn set_recency(&self, at: usize, recency: Recency) {
        if self.recency(at) != recency {
            self.slots[at].recency.store(recency.0, Relaxed);
        }
    }

    /// Adds an entry whose key is not in the table yet.
    pub fn insert(&mut self, hash: u32, entry: Entry, recency: Recency) {
        if (self.len + 1) * 100 > self.homes * LOAD_MAX_PERCENT {
            self.rebuild((self.len + 1) * 100 / LOAD_NEW_PERCENT);
        }
        let at = loop {
            // Not `first_not_below(hash + 1)`, which may begin at the next home and leave this one free.
            let at = self.first_after(hash, |before| before <= hash);
            let free = at + self.slots[at..].iter().take_while(|slot| slot.entry.is_some()).count();
            if free + 1 < self.slots.len() {
                self.slots[at..=free].rotate_right(1);
                break at;
            }
            // A run has reached the end of the slots. More homes make it shorter.
            self.rebuild(self.homes * 5 / 4);
        };
        self.slots[at] = Slot { hash, recency: AtomicU32::new(recency.0), entry: Some(entry) };
        self.len += 1;
    }

    /// Removes an entry. The entries after it in its run move back.
    pub fn remove(&mut self, at: usize) -> Entry {
        let entry = self.slots[at].entry.take().expect("the slot is taken");
        let mut end = at + 1;
        while self.slots[end].entry.is_some() && self.home(self.slots[end].hash) < end {
            end += 1;
        }
        self.slots[at..end].rotate_left(1);
        self.len -= 1;
        if self.len < self.shrink_below {
            self.rebuild(self.len * 100 / LOAD_NEW_PERCENT);
        }
        entry
    }

    /// The entries with at least this hash, in hash order, with their hashes.
    pub fn entries_from(&self, hash: u32) -> impl Iterator<Item = (u32, &Entry)> {
        let start = self.first_not_below(hash);
        self.slots[start..].iter().filter_map(|slot| Some((slot.hash, slot.entry.as_ref()?)))
    }

    /// The slots that hold this hash, and their entries: more than one only when hashes collide.
    pub fn slots_of(&self, hash: u32) -> impl Iterator<Item = (usize, &Entry)> {
        let start = self.first_not_below(hash);
        self.slots[start..].iter().zip(start..).map_while(move |(slot, at)| {
            let entry = slot.entry.as_ref()?;
            (slot.hash == hash).then_some((at, entry))
        })
    }

    /// A random taken slot, each with the same probability.
    pub fn random_taken(&self, random: &mut Rng) -> Option<usize> {
        if self.len == 0 {
            return None;
        }
        // The next taken slot after a free one would favour entries after a gap. So that is only the last
        // resort, in a table that is nearly empty.
        let size = self.slots.len();
        let is_taken = |at: &usize| self.slots[*at].entry.is_some();
        let found = (0..RANDOM_TRIES_MAX).map(|_| random.usize(..size)).find(is_taken);
        let from = random.usize(..size);
        found.or_else(|| (0..size).map(|step| (from + step) % size).find(is_taken))
    }

    /// The hash of a taken slot's entry.
    pub fn hash_at(&self, at: usize) -> u32 {
        self.slots[at].hash
    }

    fn home(&self, hash: u32) -> usize {
        home(hash, self.homes)
    }

    /// The first slot, from the hash's home on, that is free or holds a hash of at least this one.
    fn first_not_below(&self, hash: u32) -> usize {
        self.first_after(hash, |before| before < hash)
    }

    /// The first slot, from the hash's home on, that is free or holds a hash which does not come `before`.
    fn first_after(&self, hash: u32, before: impl Fn(u32) -> bool) -> usize {
        let home = self.home(hash);
        let run = self.slots[home..].iter();
        home + run.take_while(|slot| slot.entry.is_some() && before(slot.hash)).count()
    }

    /// Moves all entries to new slots with this many homes, or somewhat more, in one pass.
    fn rebuild(&mut self, homes: usize) {
        let mut homes = homes.max(HOMES_MIN);
        let old = std::mem::take(&mut self.slots);
        // Which slot will be the last is computed first, from the hashes alone.
        let size = loop {
            let (end, shift) = extent(&old, homes);
            // Room for later overflow. Runs grow with the table's size, but only logarithmically.
            let size = homes + 16 + homes / 64;
            let shrinking = homes < self.homes;
            if end + 8 < size && (shift <= SHIFT_MAX || !shrinking) {
                break size;
            }
            homes = homes * 5 / 4;
        };
        self.homes = homes;
        self.shrink_below = (homes * LOAD_MIN_PERCENT / 100).min(self.len / 2);
        self.slots.reserve_exact(size);
        self.slots.resize_with(size, Slot::default);
        let mut next = 0;
        for slot in old.into_iter().filter(|slot| slot.entry.is_some()) {
            let at = self.home(slot.hash).max(next);
            self.slots[at] = slot;
            next = at + 1;
        }
        assert!(next < size, "the last slot must be free, so that every search ends");
    }
}

/// A hash scaled to the number of homes.
fn home(hash: u32, homes: usize) -> usize {
    ((u64::from(hash) * homes as u64) >> 32) as usize
}

/// The number of slots that these entries need in a table with so many homes, and the largest distance of
/// an entry from its home.
fn extent(slots: &[Slot], homes: usize) -> (usize, usize) {
    let hashes = slots.iter().filter(|slot| slot.entry.is_some()).map(|slot| slot.hash);
    hashes.fold((0, 0), |(next, shift), hash| {
        let home = home(hash, homes);
        let at = home.max(next);
        (at + 1, shift.max(at - home))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;
    use std::collections::BTreeMap;

    const NEVER: Recency = Recency(0);

    fn check(table: &Table) {
        let mut last = 0;
        for (at, slot) in table.slots.iter().enumerate().filter(|(_, slot)| slot.entry.is_some()) {
            assert!(slot.hash >= last, "hashes decrease at slot {at}");
            last = slot.hash;
            let home = table.home(slot.hash);
            assert!(home <= at, "slot {at} is left of its home {home}");
            assert!(table.slots[home..at].iter().all(|slot| slot.entry.is_some()), "a hole");
        }
        assert!(
            table.slots.last().is_none_or(|slot| slot.entry.is_none()),
            "the last slot is taken"
        );
    }

    /// Random inserts and removals, checked against a BTreeMap. Few `hash_bits` force collisions.
    fn against_model(hash_bits: u32, steps: usize) {
        let mut random = Rng::new();
        let mut table = Table::new();
        let mut model = BTreeMap::new();
        for step in 0..steps {
            let key = (random.u64(..) % (steps as u64 / 2)).to_string().into_bytes();
            let hash = crc32fast::hash(&key) >> (32 - hash_bits) << (32 - hash_bits);
            let growing = (step / (steps / 4)).is_multiple_of(2);
            match table.find(hash, &key) {
                Some(at) if !growing || step % 3 == 0 => {
                    assert_eq!(table.remove(at).key(), key);
                    assert!(model.remove(&key).is_some());
                }
                Some(at) => assert_eq!(table.entry(at).key(), key),
                None if growing => {
                    table.insert(hash, Entry::new(&key, b"v", None), NEVER);
                    assert!(model.insert(key, hash).is_none());
                }
                None => assert!(!model.contains_key(&key)),
            }
            assert_eq!(table.len(), model.len());
            if step % 512 == 0 {
                check(&table);
            }
        }
        let mut expected: Vec<_> = model.into_iter().map(|(key, hash)| (hash, key)).collect();
        let mut found: Vec<_> =
            table.entries_from(0).map(|(hash, entry)| (hash, entry.key().to_vec())).collect();
        assert!(found.is_sorted_by_key(|(hash, _)| *hash));
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn behaves_as_a_map() {
        against_model(32, 60_000);
    }

    #[test]
    fn survives_colliding_hashes() {
        against_model(6, 4_000);
        against_model(1, 1_000);
    }

    #[test]
    fn deleting_in_hash_order_leaves_a_good_table() {
        let mut table = Table::new();
        let key = |n: u32| (n * 7919).to_le_bytes();
        let hash = |n: u32| crc32fast::hash(&key(n));
        (0..20_000).for_each(|n| table.insert(hash(n), Entry::new(&key(n), b"", None), NEVER));
        let mut in_order: Vec<u32> = (0..20_000).collect();
        in_order.sort_by_key(|n| hash(*n));
        for (deleted, n) in in_order.iter().enumerate() {
            let at = table.find(hash(*n), &key(*n)).unwrap();
            table.remove(at);
            if deleted % 1000 == 0 {
                check(&table);
                let (_, shift) = extent(&table.slots, table.homes);
                assert!(shift <= 2 * SHIFT_MAX, "{shift} slots from home after {deleted}");
            }
        }
        assert!(table.slots.len() < 100, "{} slots for nothing", table.slots.len());
    }

    /// About one key in a million could not be found: if its hash was the last one of its home and the home
    /// was free, it was put into the next slot, which no search reached. The bug was noticed when a follower
    /// had the key, from a walk over the table.
    #[test]
    fn the_last_hash_of_each_home_is_found() {
        let mut table = Table::new();
        for n in 0..200u64 {
            let homes = table.homes.max(HOMES_MIN) as u64;
            let hash = (((n * 7 % homes + 1) << 32).div_ceil(homes) - 1) as u32;
            let key = n.to_le_bytes();
            table.insert(hash, Entry::new(&key, b"", None), NEVER);
            check(&table);
            assert!(table.find(hash, &key).is_some(), "hash {hash:x} among {homes} homes");
        }
    }

    #[test]
    fn hashes_at_the_very_end_fit() {
        let mut table = Table::new();
        for i in 0..500u32 {
            table.insert(u32::MAX, Entry::new(&i.to_le_bytes(), b"", None), NEVER);
        }
        check(&table);
        assert!(table.find(u32::MAX, &499u32.to_le_bytes()).is_some());
    }
}
