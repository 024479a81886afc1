//! How much memory is in use, and for what.
//!
//! What counts toward `maxmemory`: the process at its start, keys and values with their slots and
//! deadlines as the allocator rounds them, clients' input buffers, transactions and waiting replies, and
//! what the log has yet to write. Each of these sums is kept up to date by whoever changes it, so that a
//! write asks three atomics. Not counted: stacks, what the allocator loses between its pieces, the buffer
//! of a compaction.

use super::{Engine, info};
use crate::config::Id;
use crate::store::Totals;
use std::sync::atomic::Ordering::Relaxed;

/// Where memory goes; all but `data` in bytes.
pub(super) struct Memory {
    pub data: Totals,
    pub clients: usize,
    /// Appended to the log and not yet written.
    pub log: usize,
    /// All that we know of: the program itself, data, clients, the log.
    pub used: usize,
    pub peak: usize,
    /// `maxmemory`; 0 is none.
    pub limit: usize,
    /// As the kernel has it.
    pub resident: usize,
}

impl Engine {
    /// Counts it all: each shard is locked for a moment.
    pub(super) fn memory(&self) -> Memory {
        Memory {
            data: self.store.totals(),
            clients: self.clients.memory().get(),
            log: self.pending_bytes(),
            used: self.used_memory(),
            peak: self.memory_peak(),
            limit: self.config.int(Id::Maxmemory) as usize,
            resident: info::resident_bytes().unwrap_or(0),
        }
    }

    /// What counts toward `maxmemory`, in bytes.
    pub fn used_memory(&self) -> usize {
        self.startup_bytes + self.store.bytes() + self.clients.memory().get() + self.pending_bytes()
    }

    /// The most memory that was seen in use: by the sweeper, ten times a second, or by whoever asks.
    pub(super) fn memory_peak(&self) -> usize {
        let used = self.used_memory();
        self.memory_peak.fetch_max(used, Relaxed).max(used)
    }

    fn pending_bytes(&self) -> usize {
        self.persistence.as_ref().map_or(0, |persistence| persistence.log.pending_bytes() as usize)
    }
}
