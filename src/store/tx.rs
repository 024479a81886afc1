//! A transaction: some shards locked, a fixed time, and the one way to change state.

use super::effect;
use super::effect::{Effect, Seq};
use super::entry::Entry;
use super::locks::{Guard, Guards};
use super::sample::Odds;
use super::shard::Shard;
use super::told::Told;
use super::usage::{Tracking, Usage, Use};
use super::{KeyHash, SHARDS, Store, Totals};
use crate::clock::UnixMillis;
use fastrand::Rng;
use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering::Relaxed;

/// What a transaction locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Nothing for long: whatever is read is locked shard by shard while it is looked at.
    Fleeting,
    /// Every shard.
    All,
}

/// A live key: one that is there and has not expired.
#[derive(Clone, Copy, Debug)]
pub struct Live<'t> {
    /// Its value.
    pub value: &'t [u8],
    /// When it expires, if it does.
    pub deadline: Option<UnixMillis>,
    /// How it was used.
    pub usage: Usage,
    /// Bytes allocated for it.
    pub allocated_bytes: usize,
}

/// Access to the store for the length of one command, or of all commands of an EXEC.
///
/// Everything in it happens at one instant, `now`: a key cannot expire between two looks at it. Only a
/// [`Scope::Fleeting`] walk, which is not of one instant anyway, has a later `now` after it waited for a shard.
pub struct Tx<'s> {
    store: &'s Store,
    guards: Guards<'s>,
    /// What FLUSHALL took out of the store. Fields are dropped in this order: to free a million entries
    /// takes a while, and nobody should wait for it at the locks. So this stands behind `guards`.
    flushed: Vec<Shard>,
    now: Cell<UnixMillis>,
    /// Asked again after a wait in the middle of a walk.
    clock: Option<Box<dyn Fn() -> UnixMillis + 's>>,
    /// The first key's hash, known from locking. Told apart by address and length: the key outlives
    /// the command, so nothing else can stand at its address meanwhile.
    first: Option<(*const u8, usize, KeyHash)>,
    /// Effects applied so far.
    effects: usize,
    /// Keys that they changed.
    changes: u64,
    /// Where effects are written down for the log, if there is one: MULTI, then the effects.
    payload: Option<Vec<u8>>,
    hits: Cell<u64>,
    misses: Cell<u64>,
    /// As `last_seq`, of shards that were locked only for a look.
    seen_seq: Cell<Seq>,
    /// Whether an expired key was come across.
    saw_expired: Cell<bool>,
    /// Whether reading a key counts as using it (`CLIENT NO-TOUCH`).
    touch: bool,
    tracking: Tracking,
    /// What subscribers will be told, if they want to be told anything.
    pub(super) told: Option<Box<RefCell<Told>>>,
    /// Whether somebody else held a lock that was asked for.
    waited: bool,
}

impl Store {
    /// Locks the shards of these keys, in ascending order. `clock` is asked once they are locked: the wait
    /// for a lock may be long.
    pub fn begin<'s, 'k>(
        &'s self,
        mut keys: impl Iterator<Item = &'k [u8]>,
        write: bool,
        clock: impl Fn() -> UnixMillis + 's,
    ) -> Tx<'s> {
        let (first, second) = (keys.next(), keys.next());
        let Some(key) = first else { return self.begin_scope(Scope::Fleeting, write, clock) };
        let hash = self.hash(key);
        let mut waited = false;
        let guards = match second {
            None => Guards::One(hash.shard, self.lock(hash.shard, write, &mut waited)),
            Some(second) => {
                let rest = std::iter::once(second).chain(keys).map(|key| self.hash(key).shard);
                let mut shards: Vec<usize> = std::iter::once(hash.shard).chain(rest).collect();
                shards.sort_unstable();
                shards.dedup();
                self.lock_all(shards.into_iter(), write, &mut waited)
            }
        };
        let mut tx = self.transaction(guards, clock());
        tx.first = Some((key.as_ptr(), key.len(), hash));
        tx.waited = waited;
        tx
    }

    /// Locks every shard, or none for long.
    pub fn begin_scope<'s>(
        &'s self,
        scope: Scope,
        write: bool,
        clock: impl Fn() -> UnixMillis + 's,
    ) -> Tx<'s> {
        let shards = match scope {
            Scope::Fleeting => 0..0,
            Scope::All => 0..SHARDS,
        };
        let mut waited = false;
        let guards = self.lock_all(shards, write, &mut waited);
        let mut tx = self.transaction(guards, clock());
        tx.waited = waited;
        if scope == Scope::Fleeting {
            tx.clock = Some(Box::new(clock));
        }
        tx
    }

    /// Locks one shard by its number, to change it.
    pub fn begin_shard(&self, shard: usize, clock: impl FnOnce() -> UnixMillis) -> Tx<'_> {
        let guards = Guards::One(shard, self.lock(shard, true, &mut false));
        self.transaction(guards, clock())
    }

    fn transaction<'s>(&'s self, guards: Guards<'s>, now: UnixMillis) -> Tx<'s> {
        Tx {
            store: self,
            guards,
            flushed: Vec::new(),
            now: Cell::new(now),
            clock: None,
            first: None,
            effects: 0,
            changes: 0,
            payload: None,
            hits: Cell::new(0),
            misses: Cell::new(0),
            seen_seq: Cell::new(Seq(0)),
            saw_expired: Cell::new(false),
            touch: true,
            tracking: Tracking::Time,
            told: None,
            waited: false,
        }
    }
}

const NOT_LOCKED: &str = "a command touched a key that its row in the table does not name";

impl<'s> Tx<'s> {
    /// Corrects the time: whoever gave it did not know that the locks had to be waited for.
    pub fn set_now(&self, now: UnixMillis) {
        self.now.set(now);
    }

    /// The instant at which all of this transaction happens.
    pub fn now(&self) -> UnixMillis {
        self.now.get()
    }

    /// Whether the locks were not to be had at once.
    pub fn waited_for_locks(&self) -> bool {
        self.waited
    }

    /// Reading no longer counts as using the key.
    pub fn without_touch(mut self, without: bool) -> Self {
        self.touch = !without;
        self
    }

    /// Notes this of each use.
    pub fn with_tracking(mut self, tracking: Tracking) -> Self {
        self.tracking = tracking;
        self
    }

    /// What is noted of each use.
    pub fn tracking(&self) -> Tracking {
        self.tracking
    }

    /// A live key's value. Counts as a use of the key.
    pub fn value(&self, key: &[u8]) -> Option<&[u8]> {
        let hash = self.hash(key);
        let shard = self.shard(hash);
        let found = shard.table().find(hash.place, key).and_then(|at| {
            let entry = shard.table().entry(at);
            self.is_live(entry).then(|| {
                if self.touch {
                    shard.table().touch(at, self.one_use());
                }
                entry.value()
            })
        });
        self.count(found.is_some());
        if found.is_none() {
            self.tell_miss(key, true);
        }
        found
    }

    /// A live key, without counting as a use of it.
    pub fn peek(&self, key: &[u8]) -> Option<Live<'_>> {
        let found = self.look(key);
        if found.is_none() {
            self.tell_miss(key, false);
        }
        found
    }

    /// As `peek`, and nobody is told of a miss.
    pub fn look(&self, key: &[u8]) -> Option<Live<'_>> {
        let hash = self.hash(key);
        let table = self.shard(hash).table();
        let found = table.find(hash.place, key).filter(|&at| self.is_live(table.entry(at)));
        self.count(found.is_some());
        found.map(|at| {
            let entry = table.entry(at);
            Live {
                value: entry.value(),
                deadline: entry.deadline(),
                usage: table.usage(at),
                allocated_bytes: entry.allocated_bytes() + 32,
            }
        })
    }

    /// Counts a look-up as a hit or a miss.
    fn count(&self, found: bool) {
        let counter = if found { &self.hits } else { &self.misses };
        counter.set(counter.get() + 1);
    }

    /// Whether the key is live, without any counting.
    pub(super) fn is_there(&self, key: &[u8]) -> bool {
        let hash = self.hash(key);
        self.shard(hash).find(hash.place, key).is_some_and(|entry| self.is_live(entry))
    }

    /// Whether the key is live.
    pub fn exists(&self, key: &[u8]) -> bool {
        self.peek(key).is_some()
    }

    /// Changes the state: the only way there is.
    pub fn apply(&mut self, effect: Effect<'_>) {
        self.effects += 1;
        self.changes += match effect {
            Effect::Del { keys } => keys.len() as u64,
            Effect::FlushAll => self.key_count() as u64,
            _ => 1,
        };
        if let Some(payload) = &mut self.payload {
            effect.encode(payload);
        }
        if let Effect::Set { key, .. } | Effect::SetRange { key, .. } = effect {
            self.tell_creation(key);
        }
        match effect {
            Effect::Set { key, value, deadline } => {
                let (shard, place, using) = self.shard_mut(key);
                shard.set(place, key, value, deadline, using);
            }
            Effect::SetRange { key, offset, bytes } => {
                let (shard, place, using) = self.shard_mut(key);
                shard.set_range(place, key, offset, bytes, using);
            }
            Effect::Del { keys } => {
                for key in keys {
                    let (shard, place, _) = self.shard_mut(key);
                    shard.remove(place, key);
                }
            }
            Effect::PexpireAt { key, deadline } => {
                let (shard, place, using) = self.shard_mut(key);
                shard.set_deadline(place, key, Some(deadline), using);
            }
            Effect::Persist { key } => {
                let (shard, place, using) = self.shard_mut(key);
                shard.set_deadline(place, key, None, using);
            }
            Effect::FlushAll => self.flush(),
        }
    }

    /// Notes other uses of a key than those that were seen here. They are not in the log, as no uses are.
    pub fn set_usage(&mut self, key: &[u8], usage: Usage) {
        let (shard, place) = self.shard_of(key);
        if let Some(at) = shard.table().find(place, key) {
            shard.table().set_usage(at, usage);
        }
    }

    /// Removes up to `limit` expired keys of a held shard; returns how many.
    pub fn expire(&mut self, shard: usize, limit: usize) -> usize {
        let now = self.now();
        let expired = self.held_mut(shard).take_expired(now, limit);
        if !expired.is_empty() {
            let keys: Vec<&[u8]> = expired.iter().map(Vec::as_slice).collect();
            keys.iter().for_each(|key| self.tell_expired(key));
            self.apply(Effect::Del { keys: &keys });
        }
        expired.len()
    }

    /// Removes those of a write's keys that it came across expired and left so; returns how many.
    pub fn reap<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>) -> usize {
        if !self.saw_expired.take() {
            return 0;
        }
        let is_expired = |key: &&[u8]| {
            let hash = self.hash(key);
            self.shard(hash).find(hash.place, key).is_some_and(|entry| !self.is_live(entry))
        };
        let expired: Vec<&[u8]> = keys.filter(is_expired).collect();
        if !expired.is_empty() {
            self.apply(Effect::Del { keys: &expired });
        }
        expired.len()
    }

    /// Writes effects down from here on, into a buffer that is given back by [`Tx::commit`].
    pub fn record_into(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        buffer.extend_from_slice(effect::MULTI);
        self.payload = Some(buffer);
    }

    /// Hands the record of this transaction to `append`, while the locks are held, and marks the locked
    /// shards with its seq. Nothing happened, nothing is handed over. Gives the buffer back.
    pub fn commit(&mut self, append: impl FnOnce(&[u8]) -> Seq) -> (Option<Seq>, Vec<u8>) {
        let mut payload = self.payload.take().unwrap_or_default();
        if self.effects == 0 {
            return (None, payload);
        }
        // A single effect needs no frame to be all or nothing.
        let seq = if self.effects == 1 {
            append(&payload[effect::MULTI.len()..])
        } else {
            payload.extend_from_slice(effect::EXEC);
            append(&payload)
        };
        self.guards.each_mut(|guard| guard.shard_mut().last_seq = seq);
        (Some(seq), payload)
    }

    /// As [`Tx::commit`], for effects that stand in a record already.
    pub fn commit_record(&mut self, append: impl FnOnce() -> Seq) -> Seq {
        let seq = append();
        self.guards.each_mut(|guard| guard.shard_mut().last_seq = seq);
        seq
    }

    /// The last record that changed any of the shards looked at.
    pub fn last_seq(&self) -> Seq {
        let mut last = self.seen_seq.get();
        self.guards.each(|guard| last = last.max(guard.shard().last_seq));
        last
    }

    /// Counts nothing that has been applied as a change: it was read back from the log.
    pub fn forget_changes(&mut self) {
        self.changes = 0;
    }

    /// How many effects have been applied.
    pub fn effects(&self) -> usize {
        self.effects
    }

    /// Bytes written down for the log so far.
    pub fn payload_len(&self) -> usize {
        self.payload.as_ref().map_or(0, Vec::len)
    }

    /// How many reads found their key, and how many did not, since this was asked the last time.
    pub fn take_hits_and_misses(&self) -> (u64, u64) {
        (self.hits.take(), self.misses.take())
    }

    /// Does something that those who watch keys need not know, because in the end nothing will have
    /// changed.
    pub fn unwatched<T>(&mut self, change: impl FnOnce(&mut Self) -> T) -> T {
        self.guards.each(|guard| guard.shard().watched.mute(true));
        let result = change(self);
        self.guards.each(|guard| guard.shard().watched.mute(false));
        result
    }

    /// Keys in the store, including expired ones that are not yet removed.
    pub fn key_count(&self) -> usize {
        self.sizes().sum()
    }

    /// Visits entries in hash order from `cursor` on, expired ones too, until `visit` has had enough and
    /// says false; returns the cursor to go on from, 0 at the end. Keys whose hashes are equal are
    /// visited together, because the cursor cannot tell them apart.
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

    /// Visits all live keys, in hash order.
    pub fn each_live(&self, mut visit: impl FnMut(&Entry)) {
        self.scan(0, |entry| {
            if self.is_live(entry) {
                visit(entry);
            }
            true
        });
    }

    /// A random live key, if there is one.
    pub fn random_key(&self, random: &mut Rng) -> Option<Vec<u8>> {
        let odds = Odds::new(self.sizes());
        // Redis gives up looking for a live one among expired ones after 100 tries, too.
        for _ in 0..100 {
            let found = self.with_shard(odds.draw(random)?, |shard| {
                let table = shard.table();
                let entry = table.entry(table.random_taken(random)?);
                self.is_live(entry).then(|| entry.key().to_vec())
            });
            if found.is_some() {
                return found;
            }
        }
        let mut found = None;
        self.each_live(|entry| found = Some(entry.key().to_vec()));
        found
    }

    fn sizes(&self) -> impl Iterator<Item = usize> {
        (0..SHARDS).map(|number| self.with_shard(number, |shard| shard.table().len()))
    }

    /// Looks at a shard under the lock that is held, or else under one just for this look.
    fn with_shard<T>(&self, number: usize, look: impl FnOnce(&Shard) -> T) -> T {
        match self.guards.held(number) {
            Some(guard) => look(guard.shard()),
            None => {
                let lock = &self.store.shards[number];
                let shard = lock.try_read().unwrap_or_else(|| {
                    let shard = lock.read();
                    self.now.set(self.clock.as_ref().map_or(self.now(), |clock| clock()));
                    shard
                });
                self.seen_seq.set(self.seen_seq.get().max(shard.last_seq));
                look(&shard)
            }
        }
    }

    fn flush(&mut self) {
        let Guards::Many(guards) = &mut self.guards else { panic!("{NOT_LOCKED}") };
        assert_eq!(guards.len(), SHARDS, "{NOT_LOCKED}");
        for (_, guard) in guards {
            self.flushed.push(guard.shard_mut().take_entries());
        }
    }

    /// Whether an entry has not expired.
    pub fn is_live(&self, entry: &Entry) -> bool {
        let live = entry.deadline().is_none_or(|deadline| deadline >= self.now());
        if !live {
            self.saw_expired.set(true);
            self.tell_expired(entry.key());
        }
        live
    }

    fn one_use(&self) -> Use {
        Use { now: self.now(), tracking: self.tracking }
    }

    fn hash(&self, key: &[u8]) -> KeyHash {
        match self.first {
            Some((at, len, hash)) if at == key.as_ptr() && len == key.len() => hash,
            _ => self.store.hash(key),
        }
    }

    /// A key's shard, and its place there.
    pub(super) fn shard_of(&self, key: &[u8]) -> (&Shard, u32) {
        let hash = self.hash(key);
        (self.shard(hash), hash.place)
    }

    fn shard(&self, hash: KeyHash) -> &Shard {
        self.held(hash.shard)
    }

    /// The shard of a key that is written, the key's place in it, and what this use of it is.
    fn shard_mut(&mut self, key: &[u8]) -> (&mut Shard, u32, Use) {
        let hash = self.hash(key);
        let using = self.one_use();
        (self.held_mut(hash.shard), hash.place, using)
    }

    /// A locked shard.
    pub(super) fn held(&self, shard: usize) -> &Shard {
        self.guards.held(shard).expect(NOT_LOCKED).shard()
    }

    fn held_mut(&mut self, shard: usize) -> &mut Shard {
        self.guards.held_mut(shard).expect(NOT_LOCKED).shard_mut()
    }
}

impl Drop for Tx<'_> {
    /// Brings the store's sums up to date, while the shards are still locked.
    fn drop(&mut self) {
        if self.effects > 0 {
            let mut change = Totals::default();
            self.guards.each_mut(|guard| {
                let Guard::Write(shard) = guard else { return };
                let totals = shard.totals();
                change.add_change(std::mem::replace(&mut shard.in_sums, totals), totals);
            });
            self.store.change_totals(change);
            self.store.changes.fetch_add(self.changes, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    fn begin_all(store: &Store, now: u64) -> Tx<'_> {
        store.begin_scope(Scope::All, true, move || UnixMillis(now))
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
        assert_eq!(tx.random_key(&mut Rng::new()).as_deref(), Some(&b"here"[..]));
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
                scope.spawn(|| store.begin_scope(Scope::All, true, now).now()),
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
