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
use crate::clock::UnixMillis;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// The keys of one shard that somebody watches. Keys are added, and changes told, while the shard is
/// locked. The registry's own lock is a leaf, so a watch can end while a load holds the shard.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// How many keys: the only cost of a change when there are none.
    len: AtomicUsize,
    /// Changes are not told, see `Tx::unwatched`. Set while the shard is locked.
    muted: AtomicBool,
    keys: Mutex<BTreeMap<Box<[u8]>, Watchers>>,
}

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
    fn is_told(&self) -> bool {
        self.len.load(Relaxed) > 0 && !self.muted.load(Relaxed)
    }

    /// Whether changes are not told.
    pub(super) fn mute(&self, muted: bool) {
        self.muted.store(muted, Relaxed);
    }

    /// Raises the flags of those who watch a key. Called for each change, so it must be cheap when
    /// nobody watches anything.
    pub(super) fn changed(&self, key: &[u8]) {
        if self.is_told()
            && let Some(watchers) = self.keys.lock().get(key)
        {
            watchers.watchers.iter().for_each(|watcher| watcher.flag.store(true, Relaxed));
        }
    }

    /// The same, for a key that is removed.
    pub(super) fn removed(&self, key: &[u8]) {
        if self.is_told()
            && let Some(watchers) = self.keys.lock().get_mut(key)
        {
            watchers.removed();
        }
    }

    /// The same, for all keys that `was_there` says were there.
    pub(super) fn emptied(&self, was_there: impl Fn(u32, &[u8]) -> bool) {
        if self.is_told() {
            let mut keys = self.keys.lock();
            let here = keys.iter_mut().filter(|(key, of)| was_there(of.place, key));
            here.for_each(|(_, watchers)| watchers.removed());
        }
    }

    fn add(&self, place: u32, key: &[u8], watcher: Watcher) {
        let new = || Watchers { place, watchers: Vec::new() };
        let mut keys = self.keys.lock();
        keys.entry(key.into()).or_insert_with(new).watchers.push(watcher);
        self.len.store(keys.len(), Relaxed);
    }

    fn remove(&self, key: &[u8], flag: &Arc<AtomicBool>) {
        let mut keys = self.keys.lock();
        let Some(of) = keys.get_mut(key) else { return };
        of.watchers.retain(|watcher| !Arc::ptr_eq(&watcher.flag, flag));
        if of.watchers.is_empty() {
            keys.remove(key);
            self.len.store(keys.len(), Relaxed);
        }
    }

    /// Whether this flag was put beside the key before it expired.
    fn saw_it_live(&self, key: &[u8], flag: &Arc<AtomicBool>) -> bool {
        let keys = self.keys.lock();
        let mut watchers = keys.get(key).into_iter().flat_map(|of| &of.watchers);
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
        let shard = self.store.shards[hash.shard].read();
        let deadline = shard.find(hash.place, key).and_then(super::Entry::deadline);
        let expired = deadline.is_some_and(|deadline| deadline < clock());
        let watcher = Watcher { flag: Arc::clone(&self.flag), expired };
        shard.watched.add(hash.place, key, watcher);
    }

    /// Counts as changed from now on: all data is being replaced.
    pub fn lose(&self) {
        self.flag.store(true, Relaxed);
    }

    /// Watches nothing any more.
    pub fn clear(&mut self) {
        for key in std::mem::take(&mut self.keys) {
            let shard = self.store.hash(&key).shard;
            self.store.watched[shard].remove(&key, &self.flag);
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

    /// Whether a key has been changed. Expiry is not looked for; [`Tx::has_fired`](super::Tx::has_fired) does.
    pub fn is_flagged(&self) -> bool {
        self.flag.load(Relaxed)
    }

    /// Whether this watch of a key, whose shard is locked, began before the key expired.
    pub(super) fn saw_it_live(&self, watched: &Watched, key: &[u8]) -> bool {
        watched.saw_it_live(key, &self.flag)
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.clear();
    }
}
