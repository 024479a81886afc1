//! Watched keys: a flag says whether one has changed since WATCH.
//!
//! WATCH puts the connection's flag beside the key, in the key's shard and under its lock. A change of the
//! key raises the flags beside it. EXEC reads its own flag while it holds the shards of all watched keys,
//! so nothing can happen between that and what EXEC then does. A shard without watches costs a write
//! one comparison with zero.
//!
//! A deadline that passes is a change, too, but no command makes it, so EXEC checks for it. A key may also
//! have expired before WATCH. Then its later removal changes nothing that could be read, and does not count.
//!
//! Out of scope: what a raised flag leads to (the engine's).

use super::{Entry, Store};
use crate::clock::UnixMillis;
use crate::lock::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// The watched keys of one shard. Keys are added, and changes reported, while the shard is locked. The
/// registry's own lock is a leaf, so a watch can end while a load holds the shard.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// The number of keys. Without any, a change costs only reading this.
    len: AtomicUsize,
    /// Changes do not count, see `Tx::unwatched`. Set while the shard is locked.
    muted: AtomicBool,
    keys: Mutex<BTreeMap<Box<[u8]>, Vec<Watcher>>>,
}

#[derive(Debug)]
struct Watcher {
    flag: Arc<AtomicBool>,
    /// The key's place in the shard.
    place: u32,
    /// The key had expired when the watch began, and has not changed since.
    expired: bool,
}

impl Watched {
    fn is_active(&self) -> bool {
        self.len.load(Relaxed) > 0 && !self.muted.load(Relaxed)
    }

    /// Sets whether changes do not count.
    pub(super) fn mute(&self, muted: bool) {
        self.muted.store(muted, Relaxed);
    }

    /// A key has changed.
    pub(super) fn changed(&self, key: &[u8]) {
        self.each(key, |watcher| watcher.flag.store(true, Relaxed));
    }

    /// A key was removed.
    pub(super) fn removed(&self, key: &[u8]) {
        self.each(key, Watcher::removed);
    }

    fn each(&self, key: &[u8], act: impl FnMut(&mut Watcher)) {
        if self.is_active()
            && let Some(watchers) = self.keys.lock().get_mut(key)
        {
            watchers.iter_mut().for_each(act);
        }
    }

    /// All keys were removed. `was_there` says whether the shard had a key.
    pub(super) fn emptied(&self, was_there: impl Fn(u32, &[u8]) -> bool) {
        if self.is_active() {
            let mut keys = self.keys.lock();
            let here = keys.iter_mut().filter(|(key, of)| was_there(of[0].place, key));
            here.for_each(|(_, watchers)| watchers.iter_mut().for_each(Watcher::removed));
        }
    }

    fn add(&self, key: &[u8], watcher: Watcher) {
        let mut keys = self.keys.lock();
        keys.entry(key.into()).or_default().push(watcher);
        self.len.store(keys.len(), Relaxed);
    }

    fn remove(&self, key: &[u8], flag: &Arc<AtomicBool>) {
        let mut keys = self.keys.lock();
        let Some(watchers) = keys.get_mut(key) else { return };
        watchers.retain(|watcher| !Arc::ptr_eq(&watcher.flag, flag));
        if watchers.is_empty() {
            keys.remove(key);
            self.len.store(keys.len(), Relaxed);
        }
    }
}

impl Watcher {
    fn removed(&mut self) {
        if !std::mem::take(&mut self.expired) {
            self.flag.store(true, Relaxed);
        }
    }
}

/// The keys that one connection watches. The watch ends when this is dropped.
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
        let guard = self.store.lock(hash.shard, false, &mut false);
        let deadline = guard.shard().find(hash.place, key).and_then(Entry::deadline);
        let expired = deadline.is_some_and(|deadline| deadline < clock());
        let watcher = Watcher { flag: Arc::clone(&self.flag), place: hash.place, expired };
        guard.shard().watched.add(key, watcher);
    }

    /// Raises the flag: all data is being replaced.
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
        // After the last removal, no change raises it again.
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

    /// Bytes that watching a key takes, here and in its shard.
    pub fn bytes_for(key: &[u8]) -> usize {
        2 * key.len()
            + size_of::<Box<[u8]>>() * 2
            + size_of::<Vec<Watcher>>()
            + size_of::<Watcher>()
    }

    /// True if a key has been changed. [`Tx::has_fired`](super::Tx::has_fired) also looks for expiry.
    pub fn is_flagged(&self) -> bool {
        self.flag.load(Relaxed)
    }

    /// True if this watch of a key, whose shard is locked, began before the key expired.
    pub(super) fn saw_it_live(&self, watched: &Watched, key: &[u8]) -> bool {
        let keys = watched.keys.lock();
        let mut watchers = keys.get(key).into_iter().flatten();
        watchers.any(|watcher| Arc::ptr_eq(&watcher.flag, &self.flag) && !watcher.expired)
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.clear();
    }
}
