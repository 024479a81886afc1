//! How much memory is in use, and for what.
//!
//! These count toward `maxmemory`: the process at its start; keys and values with their slots and deadlines, as
//! the allocator rounds them; clients' input buffers, transactions, subscriptions, waiting replies and lines of
//! MONITOR; messages that wait for followers; and what the log has yet to write. Each sum is kept up to date where
//! it changes, so a write reads four atomics.
//!
//! Stacks, buffers of the moment, and above all what the allocator loses between its pieces are not counted. A
//! limit is there to keep the machine alive, so an unusually large loss counts, too: resident memory beyond the
//! count and a sixth of the limit, but at most a sixth of the limit. The bound matters: memory that malloc does not
//! give back must not make all keys go. Values of 10 bytes to 64 KiB, written over each other until 10 GB have
//! passed a limit of 100 MB, lose 38 MB; keys and values of one size lose next to nothing.

use crate::config::Id;
use crate::engine::Engine;
use crate::metrics::process;
use crate::store::Totals;
use std::sync::atomic::Ordering::Relaxed;

/// A sixth of the limit may be lost without counting, and at most a sixth of it counts.
const LOSS_PART: usize = 6;

/// Memory by use, in bytes.
pub(crate) struct Memory {
    pub data: Totals,
    pub clients: usize,
    /// Appended to the log and not yet written.
    pub log: usize,
    /// The part of the allocator's loss that counts.
    pub loss: usize,
    /// The sum: the program itself, data, clients, the log, the loss.
    pub used: usize,
    pub peak: usize,
    /// `maxmemory`; 0 means none.
    pub limit: usize,
    /// As the kernel counts it.
    pub resident: usize,
}

impl Engine {
    /// Memory by use, as of now. Takes no shard's lock.
    pub(crate) fn memory(&self) -> Memory {
        Memory {
            data: self.store.totals(),
            clients: self.clients.memory().get(),
            log: self.pending_bytes(),
            loss: self.memory_state.loss.load(Relaxed),
            used: self.used_memory(),
            peak: self.memory_peak(),
            limit: self.config.int(Id::Maxmemory) as usize,
            resident: process::resident_bytes().unwrap_or(0),
        }
    }

    /// The memory that counts toward `maxmemory`, in bytes.
    pub fn used_memory(&self) -> usize {
        self.counted_memory() + self.memory_state.loss.load(Relaxed)
    }

    fn counted_memory(&self) -> usize {
        self.memory_state.startup_bytes
            + self.store.bytes()
            + self.clients.memory().get()
            + self.pending_bytes()
    }

    /// The sweeper's part: asks the kernel for the loss, ten times a second.
    pub(crate) fn watch_memory(&self) {
        let limit = self.config.int(Id::Maxmemory) as usize;
        let resident = if limit > 0 { process::resident_bytes().unwrap_or(0) } else { 0 };
        self.memory_state.loss.store(loss(resident, self.counted_memory(), limit), Relaxed);
        self.memory_peak();
    }

    /// The most memory that was seen in use, by the sweeper ten times a second or by a caller.
    pub(crate) fn memory_peak(&self) -> usize {
        let used = self.used_memory();
        self.memory_state.peak.fetch_max(used, Relaxed).max(used)
    }

    /// Warns of settings that make the server useless or contradict each other, among those that `is_given` names.
    pub fn advise(&self, is_given: impl Fn(Id) -> bool) {
        let empty_bytes = self.memory_state.startup_bytes + self.memory_state.empty_store_bytes;
        let advice = self.config.advice(empty_bytes, self.used_memory());
        for (_, text) in advice.iter().filter(|(about, _)| about.iter().any(|id| is_given(*id))) {
            log::warn!("{text}");
        }
    }

    fn pending_bytes(&self) -> usize {
        self.persistence.as_ref().map_or(0, |persistence| persistence.log.pending_bytes() as usize)
    }
}

/// The part of the loss that counts.
fn loss(resident: usize, counted: usize, limit: usize) -> usize {
    resident.saturating_sub(counted).saturating_sub(limit / LOSS_PART).min(limit / LOSS_PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unusual_loss_counts_and_never_all_of_it() {
        assert_eq!(loss(100, 120, 1000), 0);
        assert_eq!(loss(1150, 1000, 1000), 0);
        assert_eq!(loss(1250, 1000, 1200), 50);
        assert_eq!(loss(9000, 1000, 1200), 200);
        assert_eq!(loss(9000, 1000, 0), 0);
    }
}
