//! Progress of a load: at the start, for a full copy of the leader's data, for DEBUG RELOAD.
//!
//! The thread that reads the data records its progress here. INFO, `/metrics`, the status page and the
//! guards of commands read it. Everything is atomic, so a reader never waits for the locks of a load.

use crate::clock::UnixMillis;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// The state of the current load, if there is one. Shared by loaders and readers.
#[derive(Debug, Default)]
pub struct Loading {
    active: AtomicBool,
    given_up: AtomicBool,
    /// Unix seconds.
    pub started: AtomicU64,
    /// Bytes to read.
    pub total_bytes: AtomicU64,
    /// Bytes read so far.
    pub loaded_bytes: AtomicU64,
}

impl Loading {
    /// True during a load. Clients must not see the data meanwhile.
    pub fn is_active(&self) -> bool {
        self.active.load(Relaxed)
    }

    /// Begins or ends a load. A load that was given up never ends, since it leaves only a part of the
    /// data in memory.
    pub fn set_active(&self, active: bool) {
        if active && !self.active.swap(true, Relaxed) {
            self.begin(0);
        } else if !active && !self.is_given_up() {
            self.active.store(false, Relaxed);
        }
    }

    /// Begins a load of this many bytes.
    pub fn begin(&self, total_bytes: u64) {
        self.started.store(UnixMillis::now().seconds(), Relaxed);
        self.total_bytes.store(total_bytes, Relaxed);
        self.loaded_bytes.store(0, Relaxed);
        self.active.store(true, Relaxed);
    }

    /// Records how many bytes have been read.
    pub fn reached(&self, bytes: u64) {
        self.loaded_bytes.store(bytes, Relaxed);
    }

    /// Gives up all loads, because the server ends. They stop where they are.
    pub fn give_up(&self) {
        self.given_up.store(true, Relaxed);
    }

    /// True once loads must stop.
    pub fn is_given_up(&self) -> bool {
        self.given_up.load(Relaxed)
    }
}
