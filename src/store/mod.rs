//! The store: what the log says, as a table in memory.
//!
//! # Shards
//!
//! The 64-bit hash of a key, seeded anew by each process so that nobody can prepare colliding keys, is
//! cut into two numbers: the top bits pick the shard, the next 32 order the keys within it.
//!
//! ```text
//! hash  [ 8 bits: shard ][ 32 bits: place in the shard's hash order ][ unused ]
//! ```
//!
//! Each shard has its own readers-writer lock. More of them than cores, so that two commands seldom
//! meet at one lock; and 256, so that whatever visits a whole shard (growth, a snapshot, a sweep) holds
//! up a 256th of the keys. One map with one lock would be simpler and would serve one core.
//!
//! # Scanning
//!
//! Shards are in hash order and each shard is in hash order, so the whole store is. A SCAN cursor is a
//! position in it. A key never moves in this order, so one that is there throughout is returned.
//!
//! # Rules
//!
//! - Several shards are locked only in `locks.rs`, in ascending order: no deadlock.
//! - State changes only through [`Tx::apply`].
//! - Nobody waits for anything but another shard's lock while holding one.
//!
//! Out of scope: reading the clock, files, sockets, deciding anything.

pub mod effect;
pub(crate) mod entry;
mod locks;
mod notify;
mod read;
pub(crate) mod shard;
pub(crate) mod table;
mod tx;
mod watch;
mod write;

pub use entry::Entry;
pub use notify::Event;
pub use read::Live;
pub use shard::Shard;
pub use tx::{Scope, Tx};
pub use watch::Watches;

use crate::clock::UnixMillis;
use parking_lot::RwLock;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use watch::Watched;

/// A power of two; see the module's header for why this one.
pub const SHARDS: usize = 256;
const SHARD_BITS: u32 = SHARDS.trailing_zeros();

/// A key's hash, cut in two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyHash {
    /// The shard's number.
    pub shard: usize,
    /// The place within the shard.
    pub place: u32,
}

/// All keys and values.
#[derive(Debug)]
pub struct Store {
    shards: Box<[RwLock<Shard>]>,
    /// Each shard's watched keys.
    watched: Box<[Arc<Watched>]>,
    seed: RandomState,
    /// Sums over all shards, kept by each transaction that changes them. To add them up would take 256
    /// locks, and wait for a load that holds them.
    keys: AtomicUsize,
    volatile: AtomicUsize,
    bytes: AtomicUsize,
    /// Changes since the last base, which recovery would have to apply again.
    changes: AtomicU64,
}

/// Sums over all shards, as of the last transactions that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Keys, including those that have expired and are not yet removed.
    pub keys: usize,
    /// Keys with a deadline.
    pub volatile: usize,
    /// Bytes allocated for all of it.
    pub bytes: usize,
}

impl Store {
    /// An empty store.
    pub fn new() -> Store {
        let watched: Box<[Arc<Watched>]> = (0..SHARDS).map(|_| Arc::default()).collect();
        Store {
            shards: watched.iter().map(|own| RwLock::new(Shard::new(Arc::clone(own)))).collect(),
            watched,
            seed: RandomState::new(),
            keys: AtomicUsize::new(0),
            volatile: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            changes: AtomicU64::new(0),
        }
    }

    /// Where a key belongs. SipHash-1-3, keyed: not the fastest hash, but one that a client cannot
    /// find collisions for.
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        let mut hasher = self.seed.build_hasher();
        hasher.write(key);
        let hash = hasher.finish();
        KeyHash {
            shard: (hash >> (64 - SHARD_BITS)) as usize,
            place: (hash >> (32 - SHARD_BITS)) as u32,
        }
    }

    /// Bytes allocated for all keys, as of the last transaction that ended.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// Changes since the last base: a key that is set or changed or goes is one.
    pub fn changes(&self) -> u64 {
        self.changes.load(Relaxed)
    }

    /// A base holds this many of the changes.
    pub fn saved(&self, changes: u64) {
        self.changes.fetch_sub(changes, Relaxed);
    }

    /// The data has been read back from a base and so many records.
    pub fn loaded(&self, records: u64) {
        self.changes.store(records, Relaxed);
    }

    /// Keys and bytes. Takes no lock.
    pub fn totals(&self) -> Totals {
        Totals {
            keys: self.keys.load(Relaxed),
            volatile: self.volatile.load(Relaxed),
            bytes: self.bytes(),
        }
    }

    /// Whether a deadline in this shard has passed: a short look, for the sweeper.
    pub fn has_expired(&self, shard: usize, now: UnixMillis) -> bool {
        self.shards[shard].read().next_deadline().is_some_and(|due| due < now)
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}
