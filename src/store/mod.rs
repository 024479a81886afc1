//! The store: what the log says, as a table in memory.
//!
//! # Shards
//!
//! The 64-bit hash of a key is cut into two numbers: the top bits pick the shard, the next 32 order the keys
//! in it. Each process seeds the hash anew, so that a client cannot prepare keys that collide.
//!
//! ```text
//! hash  [ 8 bits: shard ][ 32 bits: place in the shard's hash order ][ unused ]
//! ```
//!
//! Each shard has its own readers-writer lock. There are more of them than cores, so that two commands
//! seldom meet at one lock; and 256, so that whatever visits a whole shard (growth, a snapshot, a sweep)
//! delays a 256th of the keys. One map with one lock would be simpler and would serve one core.
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
//! - A thread that holds a shard's lock waits for nothing but another shard's lock.
//!
//! # Files
//!
//! `effect` says what can happen. `entry` is a key with its value, `table` the entries of a `shard`, `watch`
//! its watched keys. `tx` begins a transaction with `locks`; `read`, `write` and `notify` are what it can do.
//!
//! Out of scope: reading the clock, files, sockets, deciding anything.

pub mod effect;
mod entry;
mod locks;
mod notify;
mod read;
mod shard;
mod table;
mod tx;
mod watch;
mod write;

pub use entry::Entry;
pub use notify::Event;
pub use read::Live;
pub use shard::Shard;
pub use tx::Tx;
pub use watch::Watches;

use crate::clock::UnixMillis;
use crate::lock::{RwLock, rank};
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
    shards: Box<[RwLock<Shard, { rank::SHARD }>]>,
    /// Each shard's watched keys, also reachable without the shard's lock.
    watched: Box<[Arc<Watched>]>,
    seed: RandomState,
    /// Sums over all shards, kept by each transaction that changes them. Adding them up on demand would
    /// take 256 locks, and wait for a load that holds them.
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

    /// Keys and bytes. Takes no lock.
    pub fn totals(&self) -> Totals {
        let (keys, volatile) = (self.keys.load(Relaxed), self.volatile.load(Relaxed));
        Totals { keys, volatile, bytes: self.bytes() }
    }

    /// Bytes allocated for all keys.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// Changes since the last base. Each key that is set, changed or removed is one.
    pub fn changes(&self) -> u64 {
        self.changes.load(Relaxed)
    }

    /// A base was written that holds this many of the changes.
    pub fn saved(&self, changes: u64) {
        self.changes.fetch_sub(changes, Relaxed);
    }

    /// The data was read back from a base and this many records.
    pub fn loaded(&self, records: u64) {
        self.changes.store(records, Relaxed);
    }

    /// True if a deadline in this shard has passed. For the sweeper.
    pub fn has_expired(&self, shard: usize, now: UnixMillis) -> bool {
        self.shards[shard].read().next_deadline().is_some_and(|due| due < now)
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}
