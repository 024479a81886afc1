//! A transaction: some shards locked, at one instant. Its reads are in `read.rs`, its changes in
//! `write.rs`.

use super::effect::Seq;
use super::locks::{Guard, Guards, NOT_LOCKED};
use super::notify::Notifications;
use super::shard::Shard;
use super::{KeyHash, SHARDS, Store};
use crate::clock::UnixMillis;
use crate::memory::recency::{Access, Tracking};
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Access to the store for the length of one command, or of all commands of an EXEC.
///
/// Everything in it happens at one instant, `now`: a key cannot expire between two reads of it. Only a fleeting walk
/// ([`Store::begin_fleeting`]), which is not of one instant anyway, has a later `now` after it waited for a shard.
pub struct Tx<'s> {
    pub(super) store: &'s Store,
    pub(super) guards: Guards<'s>,
    /// The entries that FLUSHALL removed. Fields are dropped in this order: freeing a million entries takes a
    /// while, so it comes after `guards` have unlocked the shards.
    pub(super) flushed: Vec<Shard>,
    now: Cell<UnixMillis>,
    /// Of a fleeting walk: asked again after it waited for a shard.
    clock: Option<Box<dyn Fn() -> UnixMillis + 's>>,
    /// The key that was locked and its hash, so that a command with one key hashes it once. The borrow
    /// keeps its bytes in place: a key at the same address is the same key.
    first: Option<(&'s [u8], KeyHash)>,
    /// Effects applied so far.
    pub(super) effects: usize,
    /// Keys that they changed.
    pub(super) changes: u64,
    /// The record for the log, if one is written: MULTI, then the effects.
    pub(super) payload: Option<Vec<u8>>,
    pub(super) hits: Cell<u64>,
    pub(super) misses: Cell<u64>,
    /// The last record that changed a shard which was locked only while it was read.
    pub(super) seen_seq: Cell<Seq>,
    /// A command found an expired key.
    pub(super) saw_expired: Cell<bool>,
    /// A read counts as an access to the key (not after `CLIENT NO-TOUCH`).
    pub(super) reads_count: bool,
    tracking: Tracking,
    /// Events for subscribers, if anybody wants them.
    pub(super) notifications: Option<Box<RefCell<Notifications>>>,
    /// Another thread held one of the locks.
    waited: bool,
}

impl Store {
    /// Locks the shards of a command's keys; without keys, none for long. `clock` is read after they are
    /// locked, because the wait for a lock may be long.
    pub fn begin<'s>(
        &'s self,
        mut keys: impl Iterator<Item = &'s [u8]>,
        write: bool,
        clock: impl Fn() -> UnixMillis + 's,
    ) -> Tx<'s> {
        let first = keys.next();
        let second = keys.next();
        let (Some(key), None) = (first, second) else {
            let keys = first.into_iter().chain(second).chain(keys);
            return self.begin_several(keys, write, clock);
        };
        let hash = self.hash(key);
        let lock = |waited: &mut _| Guards::One((hash.shard, self.lock(hash.shard, write, waited)));
        let mut tx = self.transaction(lock, clock);
        tx.first = Some((key, hash));
        tx
    }

    /// As [`Store::begin`], for keys that need not live as long as the transaction.
    pub fn begin_several<'s, 'k>(
        &'s self,
        keys: impl Iterator<Item = &'k [u8]>,
        write: bool,
        clock: impl Fn() -> UnixMillis + 's,
    ) -> Tx<'s> {
        let mut shards: Vec<usize> = keys.map(|key| self.hash(key).shard).collect();
        if shards.is_empty() {
            return self.begin_fleeting(clock);
        }
        shards.sort_unstable();
        shards.dedup();
        self.transaction(|waited| self.lock_all(shards.into_iter(), write, waited), clock)
    }

    /// Locks every shard.
    pub fn begin_all(&self, write: bool, clock: impl FnOnce() -> UnixMillis) -> Tx<'_> {
        self.transaction(|waited| self.lock_all(0..SHARDS, write, waited), clock)
    }

    /// Locks no shard for long: each is locked while it is read.
    pub fn begin_fleeting<'s>(&'s self, clock: impl Fn() -> UnixMillis + 's) -> Tx<'s> {
        let mut tx = self.transaction(|_| Guards::Many(Vec::new()), &clock);
        tx.clock = Some(Box::new(clock));
        tx
    }

    /// Locks one shard by its number, to change it.
    pub fn begin_shard(&self, shard: usize, clock: impl FnOnce() -> UnixMillis) -> Tx<'_> {
        let lock = |waited: &mut _| Guards::One((shard, self.lock(shard, true, waited)));
        self.transaction(lock, clock)
    }

    /// A transaction with the locks that `lock` takes. The clock is read when they are held.
    fn transaction<'s>(
        &'s self,
        lock: impl FnOnce(&mut bool) -> Guards<'s>,
        clock: impl FnOnce() -> UnixMillis,
    ) -> Tx<'s> {
        let mut waited = false;
        let guards = lock(&mut waited);
        Tx {
            store: self,
            guards,
            flushed: Vec::new(),
            now: Cell::new(clock()),
            clock: None,
            first: None,
            effects: 0,
            changes: 0,
            payload: None,
            hits: Cell::new(0),
            misses: Cell::new(0),
            seen_seq: Cell::new(Seq(0)),
            saw_expired: Cell::new(false),
            reads_count: true,
            tracking: Tracking::Time,
            notifications: None,
            waited,
        }
    }
}

impl Tx<'_> {
    /// The instant at which all of this transaction happens.
    pub fn now(&self) -> UnixMillis {
        self.now.get()
    }

    /// Corrects the instant, after a wait that the caller's clock did not include.
    pub fn set_now(&self, now: UnixMillis) {
        self.now.set(now);
    }

    /// True if another thread held one of the locks.
    pub fn waited_for_locks(&self) -> bool {
        self.waited
    }

    /// Sets the record that is kept of each access, and whether reads count as accesses.
    pub fn track_accesses(&mut self, tracking: Tracking, reads_count: bool) {
        self.tracking = tracking;
        self.reads_count = reads_count;
    }

    /// The record that is kept of each access.
    pub fn tracking(&self) -> Tracking {
        self.tracking
    }

    pub(super) fn access(&self) -> Access {
        Access { now: self.now(), tracking: self.tracking }
    }

    /// Where a key belongs.
    pub(super) fn hash(&self, key: &[u8]) -> KeyHash {
        match self.first {
            Some((first, hash)) if std::ptr::eq(first, key) => hash,
            _ => self.store.hash(key),
        }
    }

    /// A locked shard.
    pub(crate) fn held(&self, shard: usize) -> &Shard {
        self.guards.held(shard).expect(NOT_LOCKED).shard()
    }

    pub(super) fn held_mut(&mut self, shard: usize) -> &mut Shard {
        self.guards.held_mut(shard).expect(NOT_LOCKED).shard_mut()
    }

    /// Reads a shard under the lock that is held, or else under one taken for this.
    pub(crate) fn with_shard<T>(&self, number: usize, read: impl FnOnce(&Shard) -> T) -> T {
        if let Some(guard) = self.guards.held(number) {
            return read(guard.shard());
        }
        let mut waited = false;
        let guard = self.store.lock(number, false, &mut waited);
        if let (true, Some(clock)) = (waited, &self.clock) {
            self.now.set(clock());
        }
        let shard = guard.shard();
        self.seen_seq.set(self.seen_seq.get().max(shard.last_seq));
        read(shard)
    }
}

impl Drop for Tx<'_> {
    /// Brings the store's sums up to date while the shards are still locked.
    fn drop(&mut self) {
        if self.effects == 0 {
            return;
        }
        let add = |sum: &AtomicUsize, before: usize, after: usize| {
            if before != after {
                // Wraps around where the sum gets smaller.
                sum.fetch_add(after.wrapping_sub(before), Relaxed);
            }
        };
        for (_, guard) in self.guards.all_mut() {
            let Guard::Write(shard) = guard else { return };
            let after = shard.totals();
            let before = std::mem::replace(&mut shard.in_sums, after);
            add(&self.store.keys, before.keys, after.keys);
            add(&self.store.volatile, before.volatile, after.volatile);
            add(&self.store.bytes, before.bytes, after.bytes);
        }
        self.store.changes.fetch_add(self.changes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::sample::random_key;
    use crate::store::effect::Effect;
    use fastrand::Rng;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    fn begin_all(store: &Store, now: u64) -> Tx<'_> {
        store.begin_all(true, move || UnixMillis(now))
    }

    fn set(tx: &mut Tx<'_>, key: &str, deadline: Option<u64>) {
        let deadline = deadline.map(UnixMillis);
        tx.apply(Effect::Set { key: key.as_bytes(), value: b"v", deadline });
    }

    #[test]
    fn a_scan_returns_each_key_that_is_there_throughout() {
        let store = Store::new();
        let mut tx = begin_all(&store, 0);
        (0..5000).for_each(|n| set(&mut tx, &format!("stays{n}"), None));
        let (mut cursor, mut seen, mut round) = (0, std::collections::BTreeSet::new(), 0);
        loop {
            let mut looked_at = 0;
            cursor = tx.scan(cursor, |entry| {
                seen.insert(entry.key().to_vec());
                looked_at += 1;
                looked_at < 7
            });
            if cursor == 0 {
                break;
            }
            // Grow and shrink the table under the scan.
            round += 1;
            for n in 0..40 {
                set(&mut tx, &format!("passes{round}:{n}"), None);
                let old = format!("passes{}:{n}", round / 2);
                tx.apply(Effect::Del { keys: &[old.as_bytes()] });
            }
        }
        assert_eq!(seen.iter().filter(|key| key.starts_with(b"stays")).count(), 5000);
    }

    #[test]
    fn expired_keys_are_absent_before_and_after_the_sweep() {
        let store = Store::new();
        let mut tx = begin_all(&store, 0);
        set(&mut tx, "gone", Some(10));
        set(&mut tx, "here", Some(20));
        drop(tx);
        let mut tx = begin_all(&store, 11);
        assert!(tx.value(b"gone").is_none() && tx.value(b"here").is_some());
        assert_eq!(tx.key_count(), 2);
        assert_eq!((0..SHARDS).map(|shard| tx.expire(shard, 10)).sum::<usize>(), 1);
        assert_eq!(tx.key_count(), 1);
        assert_eq!(random_key(&tx, &mut Rng::new()).as_deref(), Some(&b"here"[..]));
    }

    #[test]
    fn the_clock_is_asked_once_the_locks_are_held() {
        let (store, released) = (Store::new(), AtomicBool::new(false));
        let now = || {
            assert!(released.load(SeqCst), "the time of a transaction is older than its locks");
            UnixMillis(7)
        };
        let keys = || [&b"a"[..], b"b", b"c"].into_iter();
        let all = begin_all(&store, 0);
        std::thread::scope(|scope| {
            let waiting = [
                scope.spawn(|| store.begin(keys().take(1), true, now).now()),
                scope.spawn(|| store.begin(keys(), false, now).now()),
                scope.spawn(|| store.begin_all(true, now).now()),
                scope.spawn(|| store.begin_shard(3, now).now()),
            ];
            std::thread::yield_now();
            released.store(true, SeqCst);
            drop(all);
            for thread in waiting {
                assert_eq!(thread.join().expect("no thread panics"), UnixMillis(7));
            }
        });
    }

    #[test]
    #[should_panic(expected = "readonly wrote")]
    fn a_reading_transaction_cannot_write() {
        let store = Store::new();
        let key: &[u8] = b"k";
        let mut tx = store.begin(std::iter::once(key), false, || UnixMillis(0));
        tx.apply(Effect::Persist { key });
    }
}
