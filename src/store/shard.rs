//! One part of the store: plain single-threaded code behind the shard's lock.

use super::Totals;
use super::effect::Seq;
use super::entry::Entry;
use super::table::Table;
use super::watch::Watched;
use crate::clock::UnixMillis;
use crate::memory::recency::Access;
use fastrand::Rng;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// Random items of the list of deadlines that are tried before it is cleared of leftovers.
const RANDOM_TRIES_MAX: usize = 32;
/// Keys that expire are removed together, in one record, up to about this many bytes of their names.
const EXPIRED_BYTES_MAX: usize = 1 << 20;

/// The entries whose hashes begin with this shard's number.
///
/// Invariants:
/// - for each entry with a deadline, `deadlines` has an item with its hash and a time no later than that
///   deadline; other items are leftovers, recognised when they come up
/// - `volatile` is the number of entries with a deadline
/// - `entry_bytes` is the sum of `allocated_bytes` over all entries
#[derive(Debug)]
pub struct Shard {
    table: Table,
    /// When to look for an expired entry, earliest first. A deadline that moves later leaves its item
    /// alone: the sweeper puts it back with the true time. So a session that is renewed on every request
    /// costs nothing here.
    ///
    /// The hash's bits are reversed: of keys with one deadline, those next to each other in the table
    /// then come up far apart, and the rest of the table stays evenly filled.
    deadlines: BinaryHeap<Reverse<(UnixMillis, u32)>>,
    volatile: usize,
    entry_bytes: usize,
    /// The last record that changed this shard: what a reader's reply may have to wait for.
    pub(super) last_seq: Seq,
    /// The watched keys. Every method that changes an entry reports the change here.
    pub(super) watched: Arc<Watched>,
    /// This shard's part of the store's sums, as it was added to them.
    pub(super) in_sums: Totals,
}

/// A key to be changed: its place in the shard, its bytes, and what the change is as an access.
#[derive(Clone, Copy)]
pub(super) struct Target<'k> {
    pub place: u32,
    pub key: &'k [u8],
    pub access: Access,
}

impl Shard {
    /// An empty shard.
    pub(super) fn new(watched: Arc<Watched>) -> Shard {
        Shard {
            table: Table::new(),
            deadlines: BinaryHeap::new(),
            volatile: 0,
            entry_bytes: 0,
            last_seq: Seq(0),
            watched,
            in_sums: Totals::default(),
        }
    }

    /// The table, to read.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The number of entries with a deadline.
    pub fn volatile(&self) -> usize {
        self.volatile
    }

    /// This shard's part of the store's sums, as it is now. Bytes are those of entries, slots and deadlines.
    pub(crate) fn totals(&self) -> Totals {
        let deadline_bytes = self.deadlines.capacity() * 16;
        let bytes = self.entry_bytes + self.table.allocated_bytes() + deadline_bytes;
        Totals { keys: self.table.len(), volatile: self.volatile, bytes }
    }

    /// The first time at which an entry may have expired.
    pub fn next_deadline(&self) -> Option<UnixMillis> {
        self.deadlines.peek().map(|Reverse((deadline, _))| *deadline)
    }

    /// The entry of a key, expired or not.
    pub fn find(&self, place: u32, key: &[u8]) -> Option<&Entry> {
        self.table.find(place, key).map(|at| self.table.entry(at))
    }

    pub(super) fn set(&mut self, to: Target<'_>, value: &[u8], deadline: Option<UnixMillis>) {
        let new = || Entry::new(to.key, value, deadline);
        self.change_or_insert(to, |entry| entry.set(value, deadline), new);
    }

    pub(super) fn set_range(&mut self, to: Target<'_>, offset: usize, bytes: &[u8]) {
        let change = |entry: &mut Entry| entry.set_range(offset, bytes);
        self.change_or_insert(to, change, || {
            let mut entry = Entry::new(to.key, b"", None);
            entry.set_range(offset, bytes);
            entry
        });
    }

    pub(super) fn set_deadline(&mut self, to: Target<'_>, deadline: Option<UnixMillis>) {
        if let Some(at) = self.table.find(to.place, to.key) {
            self.watched.changed(to.key);
            self.table.touch(at, to.access);
            self.change(at, to.place, |entry| entry.set_deadline(deadline));
        }
    }

    pub(super) fn remove(&mut self, gone: Target<'_>) {
        let Some(at) = self.table.find(gone.place, gone.key) else { return };
        let entry = self.table.remove(at);
        self.entry_bytes -= entry.allocated_bytes();
        self.volatile -= usize::from(entry.deadline().is_some());
        if self.volatile == 0 {
            self.deadlines = BinaryHeap::new();
        }
        self.watched.removed(gone.key);
    }

    /// Takes all entries out. Watches stay.
    pub(super) fn take_entries(&mut self) -> Shard {
        let mut new = Shard::new(Arc::clone(&self.watched));
        new.last_seq = self.last_seq;
        new.in_sums = self.in_sums;
        let old = std::mem::replace(self, new);
        self.watched.emptied(|place, key| old.find(place, key).is_some());
        old
    }

    /// Takes up to `limit` expired keys from the list of deadlines. They are still in the table: the caller
    /// removes them with an effect before it releases the lock.
    pub(super) fn take_expired(&mut self, now: UnixMillis, limit: usize) -> Vec<Vec<u8>> {
        let mut expired: Vec<Vec<u8>> = Vec::new();
        let mut bytes = 0;
        while expired.len() < limit && bytes < EXPIRED_BYTES_MAX {
            let Some(&Reverse((due, reversed))) = self.deadlines.peek() else { break };
            if due >= now {
                break;
            }
            self.deadlines.pop();
            for (_, entry) in self.table.slots_of(reversed.reverse_bits()) {
                match entry.deadline() {
                    Some(deadline) if deadline < now => {
                        bytes += entry.key().len();
                        expired.push(entry.key().to_vec());
                    }
                    Some(later) => self.deadlines.push(Reverse((later, reversed))),
                    None => {}
                }
            }
        }
        // A key whose deadline moved earlier has come up once for each.
        expired.sort_unstable();
        expired.dedup();
        expired
    }

    /// A slot with a key, each as likely as any other; if `volatile`, one with a deadline. Of the latter it
    /// may find none, if the list has many leftovers.
    pub fn random_slot(&self, volatile: bool, random: &mut Rng) -> Option<usize> {
        if !volatile {
            return self.table.random_taken(random);
        }
        let listed = self.deadlines.as_slice();
        let tries = if listed.is_empty() { 0 } else { RANDOM_TRIES_MAX };
        (0..tries).find_map(|_| {
            let Reverse((_, reversed)) = listed[random.usize(..listed.len())];
            let mut slots = self.table.slots_of(reversed.reverse_bits());
            slots.find(|(_, entry)| entry.deadline().is_some()).map(|(at, _)| at)
        })
    }

    fn change_or_insert(
        &mut self,
        to: Target<'_>,
        change: impl FnOnce(&mut Entry),
        new: impl FnOnce() -> Entry,
    ) {
        self.watched.changed(to.key);
        if let Some(at) = self.table.find(to.place, to.key) {
            self.table.touch(at, to.access);
            return self.change(at, to.place, change);
        }
        let entry = new();
        let deadline = entry.deadline();
        self.entry_bytes += entry.allocated_bytes();
        self.volatile += usize::from(deadline.is_some());
        self.table.insert(to.place, entry, to.access.new_key());
        self.list_deadline(to.place, None, deadline);
    }

    /// Changes an entry and keeps the counts and the list of deadlines right.
    fn change(&mut self, at: usize, place: u32, change: impl FnOnce(&mut Entry)) {
        let entry = self.table.entry_mut(at);
        let (old_bytes, old_deadline) = (entry.allocated_bytes(), entry.deadline());
        change(entry);
        let (new_bytes, new_deadline) = (entry.allocated_bytes(), entry.deadline());
        self.entry_bytes = self.entry_bytes - old_bytes + new_bytes;
        self.volatile += usize::from(new_deadline.is_some());
        self.volatile -= usize::from(old_deadline.is_some());
        self.list_deadline(place, old_deadline, new_deadline);
    }

    fn list_deadline(&mut self, place: u32, old: Option<UnixMillis>, new: Option<UnixMillis>) {
        let Some(new) = new else { return };
        if old.is_some_and(|old| old <= new) {
            return;
        }
        self.deadlines.push(Reverse((new, place.reverse_bits())));
        if self.deadlines.len() > 2 * self.volatile + self.table.len() / 8 + 64 {
            self.rebuild_deadlines();
        }
    }

    /// Drops the leftovers. Amortised: it runs only after as many pushes as an eighth of the table.
    pub(crate) fn rebuild_deadlines(&mut self) {
        self.deadlines = self
            .table
            .entries_from(0)
            .filter_map(|(place, entry)| Some(Reverse((entry.deadline()?, place.reverse_bits()))))
            .collect();
        debug_assert_eq!(self.deadlines.len(), self.volatile, "`volatile` is wrong");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(place: u32, key: &[u8]) -> Target<'_> {
        Target { place, key, access: Access::default() }
    }

    fn set(shard: &mut Shard, n: u32, deadline: Option<u64>) {
        shard.set(target(n, &n.to_le_bytes()), b"value", deadline.map(UnixMillis));
    }

    #[test]
    fn expired_keys_come_up_once_and_renewed_ones_later() {
        let mut shard = Shard::new(Arc::default());
        (0..10).for_each(|n| set(&mut shard, n, Some(100)));
        set(&mut shard, 3, Some(500));
        set(&mut shard, 4, None);
        shard.set_deadline(target(5, &5u32.to_le_bytes()), Some(UnixMillis(50)));
        let expired = shard.take_expired(UnixMillis(51), 100);
        assert_eq!(expired, [5u32.to_le_bytes()]);
        shard.remove(target(5, &5u32.to_le_bytes()));
        assert_eq!(shard.take_expired(UnixMillis(101), 3).len(), 3);
        // The caller must remove what it took; here it did not, and nothing is taken twice.
        assert_eq!(shard.take_expired(UnixMillis(101), 100).len(), 4);
        assert_eq!(shard.next_deadline(), Some(UnixMillis(500)));
        assert_eq!(shard.volatile(), 8);
    }

    #[test]
    fn leftovers_do_not_pile_up() {
        let mut shard = Shard::new(Arc::default());
        for round in 0..10_000 {
            set(&mut shard, 1, Some(1_000_000 - round));
            set(&mut shard, 2, None);
        }
        assert!(shard.deadlines.len() < 200, "{} items for one deadline", shard.deadlines.len());
    }

    #[test]
    fn counts_bytes_exactly() {
        let mut shard = Shard::new(Arc::default());
        (0..100).for_each(|n| set(&mut shard, n, None));
        shard.set_range(target(7, &7u32.to_le_bytes()), 100, b"x");
        set(&mut shard, 8, Some(1));
        let sum: usize =
            shard.table.entries_from(0).map(|(_, entry)| entry.allocated_bytes()).sum();
        assert_eq!(shard.entry_bytes, sum);
        (0..100u32).for_each(|n| shard.remove(target(n, &n.to_le_bytes())));
        assert_eq!((shard.entry_bytes, shard.volatile, shard.table.len()), (0, 0, 0));
    }
}
