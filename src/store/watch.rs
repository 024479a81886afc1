//! Watched keys: who wants to know whether a key changes.
//!
//! WATCH puts the connection's flag beside the key, in the key's shard and under its lock. Whatever
//! changes the key raises the flags beside it, and EXEC, while it holds the watched keys' shards, looks
//! at its own: so nothing comes between the look and what EXEC then does. The key's entry bears nothing,
//! and a shard that nobody watches costs a write one comparison with zero.
//!
//! A deadline that passes is a change too, which nobody makes: EXEC looks for it. Except that a key may
//! have expired before WATCH; then its removal, whenever that comes, changes nothing that could be read.
//!
//! Out of scope: what comes of a raised flag (the engine's).

use super::Store;
use super::tx::Tx;
use crate::clock::UnixMillis;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The keys of one shard that somebody watches.
#[derive(Debug, Default)]
pub(super) struct Watched(BTreeMap<Box<[u8]>, Watchers>);

#[derive(Debug)]
struct Watchers {
    /// The key's place in the shard.
    place: u32,
    watchers: Vec<Watcher>,
}

#[derive(Debug)]
struct Watcher {
    flag: Arc<AtomicBool>,
    /// The key was there and had expired when the watch began, and has not changed since.
    expired: bool,
}

impl Watched {
    pub(super) const fn new() -> Watched {
        Watched(BTreeMap::new())
    }

    /// Raises the flags of those who watch a key. Called for each change, so it must be cheap when
    /// nobody watches anything.
    pub(super) fn changed(&mut self, key: &[u8]) {
        if !self.0.is_empty()
            && let Some(watchers) = self.0.get(key)
        {
            watchers.watchers.iter().for_each(|watcher| watcher.flag.store(true, Relaxed));
        }
    }

    /// The same, for a key that is removed.
    pub(super) fn removed(&mut self, key: &[u8]) {
        if !self.0.is_empty()
            && let Some(watchers) = self.0.get_mut(key)
        {
            watchers.removed();
        }
    }

    /// The same, for all keys that `was_there` says were there.
    pub(super) fn emptied(&mut self, was_there: impl Fn(u32, &[u8]) -> bool) {
        let here = self.0.iter_mut().filter(|(key, of)| was_there(of.place, key));
        here.for_each(|(_, watchers)| watchers.removed());
    }

    fn add(&mut self, place: u32, key: &[u8], watcher: Watcher) {
        let new = || Watchers { place, watchers: Vec::new() };
        self.0.entry(key.into()).or_insert_with(new).watchers.push(watcher);
    }

    fn remove(&mut self, key: &[u8], flag: &Arc<AtomicBool>) {
        let Some(of) = self.0.get_mut(key) else { return };
        of.watchers.retain(|watcher| !Arc::ptr_eq(&watcher.flag, flag));
        if of.watchers.is_empty() {
            self.0.remove(key);
        }
    }

    /// Whether this flag was put beside the key before it expired.
    fn saw_it_live(&self, key: &[u8], flag: &Arc<AtomicBool>) -> bool {
        let mut watchers = self.0.get(key).into_iter().flat_map(|of| &of.watchers);
        watchers.any(|watcher| Arc::ptr_eq(&watcher.flag, flag) && !watcher.expired)
    }
}

impl Watchers {
    fn removed(&mut self) {
        for watcher in &mut self.watchers {
            if !std::mem::take(&mut watcher.expired) {
                watcher.flag.store(true, Relaxed);
            }
        }
    }
}

/// What one connection watches. Watching ends with it.
#[derive(Debug)]
pub struct Watches {
    store: Arc<Store>,
    /// Raised when a watched key changes.
    flag: Arc<AtomicBool>,
    keys: BTreeSet<Box<[u8]>>,
    bytes: usize,
}

impl Watches {
    /// Watches nothing yet.
    pub fn new(store: Arc<Store>, flag: Arc<AtomicBool>) -> Watches {
        Watches { store, flag, keys: BTreeSet::new(), bytes: 0 }
    }

    /// Watches one more key.
    pub fn add(&mut self, key: &[u8], clock: impl FnOnce() -> UnixMillis) {
        if !self.keys.insert(key.into()) {
            return;
        }
        self.bytes += Watches::bytes_for(key);
        let hash = self.store.hash(key);
        let mut shard = self.store.shards[hash.shard].write();
        let deadline = shard.find(hash.place, key).and_then(super::Entry::deadline);
        let expired = deadline.is_some_and(|deadline| deadline < clock());
        let watcher = Watcher { flag: Arc::clone(&self.flag), expired };
        shard.watched.add(hash.place, key, watcher);
    }

    /// Watches nothing any more.
    pub fn clear(&mut self) {
        for key in std::mem::take(&mut self.keys) {
            let shard = self.store.hash(&key).shard;
            self.store.shards[shard].write().watched.remove(&key, &self.flag);
        }
        self.bytes = 0;
        // Behind the last removal: nobody raises it any more.
        self.flag.store(false, Relaxed);
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.iter().map(|key| &**key)
    }

    /// Bytes held for them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that watching a key takes: here and in its shard.
    pub fn bytes_for(key: &[u8]) -> usize {
        2 * key.len() + size_of::<Box<[u8]>>() * 2 + size_of::<Watchers>() + size_of::<Watcher>()
    }

    /// Whether a key has been changed. Expiry is not looked for; [`Watches::have_fired`] does.
    pub fn is_flagged(&self) -> bool {
        self.flag.load(Relaxed)
    }

    /// Whether a key has changed or expired; `tx` must hold the shards of all of them.
    pub fn have_fired(&self, tx: &Tx<'_>) -> bool {
        let expired_since = |key: &[u8]| {
            let (shard, place) = tx.shard_of(key);
            let is_expired = |entry| !tx.is_live(entry);
            shard.find(place, key).is_some_and(is_expired)
                && shard.watched.saw_it_live(key, &self.flag)
        };
        self.is_flagged() || self.keys().any(expired_since)
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.clear();
    }
}
