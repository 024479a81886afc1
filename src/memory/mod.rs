//! The memory limit: how much is in use, and which keys go when it is too much.

pub mod account;
pub mod arenas;
pub(crate) mod evict;
pub mod evictor;
pub(crate) mod limit;
pub mod recency;
pub mod sample;

use crate::lock::{Mutex, rank};
use crate::metrics::process;
use crate::store::Store;
use evictor::Evictor;
use std::sync::atomic::AtomicUsize;

/// What the engine keeps for the limit.
#[derive(Debug)]
pub struct MemoryState {
    /// Resident memory before any data was read.
    pub(crate) startup_bytes: usize,
    /// The store's bytes without a key in it.
    empty_store_bytes: usize,
    /// The most memory seen in use.
    peak: AtomicUsize,
    /// Resident memory beyond the count that counts toward `maxmemory`.
    loss: AtomicUsize,
    /// Keys that may be evicted next. Taken before any shard's lock.
    evictor: Mutex<Evictor, { rank::EVICTOR }>,
}

impl MemoryState {
    /// To be called while the store is empty.
    pub(crate) fn before_loading(store: &Store) -> MemoryState {
        MemoryState {
            startup_bytes: process::resident_bytes().unwrap_or(0),
            empty_store_bytes: store.bytes(),
            peak: AtomicUsize::new(0),
            loss: AtomicUsize::new(0),
            evictor: Mutex::default(),
        }
    }
}
