//! The reads of a transaction.

use super::effect::Seq;
use super::entry::Entry;
use super::table::Table;
use super::{SHARDS, Tx, Watches};
use crate::clock::UnixMillis;
use crate::memory::recency::Recency;

/// A live key: it is in the table and has not expired.
#[derive(Clone, Copy, Debug)]
pub struct Live<'t> {
    /// Its value.
    pub value: &'t [u8],
    /// When it expires, if it does.
    pub deadline: Option<UnixMillis>,
    /// Its last access, or how often it was accessed.
    pub recency: Recency,
    /// Bytes allocated for it.
    pub allocated_bytes: usize,
}

impl Tx<'_> {
    /// A live key's value. Counts as an access to the key.
    pub fn value(&self, key: &[u8]) -> Option<&[u8]> {
        let Some((table, at)) = self.look_up(key) else {
            self.emit_miss(key, true);
            return None;
        };
        if self.reads_count {
            table.touch(at, self.access());
        }
        Some(table.entry(at).value())
    }

    /// A live key. Does not count as an access to it.
    pub fn peek(&self, key: &[u8]) -> Option<Live<'_>> {
        let found = self.inspect(key);
        if found.is_none() {
            self.emit_miss(key, false);
        }
        found
    }

    /// As [`Tx::peek`], without an event about a miss.
    pub fn inspect(&self, key: &[u8]) -> Option<Live<'_>> {
        let (table, at) = self.look_up(key)?;
        let entry = table.entry(at);
        Some(Live {
            value: entry.value(),
            deadline: entry.deadline(),
            recency: table.recency(at),
            allocated_bytes: entry.allocated_bytes() + 32,
        })
    }

    /// The slot of a live key. Counts a hit or a miss.
    fn look_up(&self, key: &[u8]) -> Option<(&Table, usize)> {
        let hash = self.hash(key);
        let table = self.held(hash.shard).table();
        let found = table.find(hash.place, key).filter(|&at| self.is_live(table.entry(at)));
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.set(counter.get() + 1);
        Some((table, found?))
    }

    /// True if the key is live.
    pub fn exists(&self, key: &[u8]) -> bool {
        self.peek(key).is_some()
    }

    /// The entry of a key, expired or not. Counts nothing.
    pub fn find(&self, key: &[u8]) -> Option<&Entry> {
        let hash = self.hash(key);
        self.held(hash.shard).find(hash.place, key)
    }

    /// True if an entry has not expired.
    pub fn is_live(&self, entry: &Entry) -> bool {
        let live = entry.deadline().is_none_or(|deadline| deadline >= self.now());
        if !live {
            self.saw_expired.set(true);
            self.emit_expired(entry.key());
        }
        live
    }

    /// The numbers of reads that found their key and that did not, since the last call.
    pub fn take_hits_and_misses(&self) -> (u64, u64) {
        (self.hits.take(), self.misses.take())
    }

    /// The last record that changed any of the shards read.
    pub fn last_seq(&self) -> Seq {
        let held = self.guards.all().iter().map(|(_, guard)| guard.shard().last_seq);
        held.fold(self.seen_seq.get(), Seq::max)
    }

    /// True if a watched key has changed or expired. The shards of all of them must be locked.
    pub fn has_fired(&self, watches: &Watches) -> bool {
        let expired_since = |key: &[u8]| {
            self.find(key).is_some_and(|entry| !self.is_live(entry))
                && watches.saw_it_live(&self.held(self.hash(key).shard).watched, key)
        };
        watches.is_flagged() || watches.keys().any(expired_since)
    }

    /// Keys in the store, including expired ones that are not yet removed.
    pub fn key_count(&self) -> usize {
        self.shard_sizes().sum()
    }

    /// The number of keys in each shard.
    pub(crate) fn shard_sizes(&self) -> impl Iterator<Item = usize> {
        (0..SHARDS).map(|number| self.with_shard(number, |shard| shard.table().len()))
    }

    /// Visits entries in hash order from `cursor` on, expired ones too, until `visit` returns false.
    /// Returns the cursor to go on from, 0 at the end. Keys with equal hashes are visited together, because
    /// a cursor cannot stand between them.
    pub fn scan(&self, cursor: u64, mut visit: impl FnMut(&Entry) -> bool) -> u64 {
        let (mut from, mut go_on) = (cursor as u32, true);
        for number in (cursor >> 32) as usize..SHARDS {
            let next = self.with_shard(number, |shard| {
                let mut last = None;
                for (place, entry) in shard.table().entries_from(from) {
                    if !go_on && last != Some(place) {
                        return Some(place);
                    }
                    last = Some(place);
                    go_on &= visit(entry);
                }
                None
            });
            if let Some(place) = next {
                return (number as u64) << 32 | u64::from(place);
            }
            from = 0;
        }
        0
    }
}
