//! Which segments are kept although a base has replaced them: those that followers still read, and some
//! more for followers that are away for a while.
//!
//! - The newest `backlog` bytes are kept always: a follower that was restarted, or whose leader was, goes on
//!   where it was. (What Redis calls the replication backlog, on disk instead of in memory.)
//! - What a connected follower still needs is **pinned**, up to `pinned` bytes. A follower that falls further
//!   behind loses its place and is given a full copy, so that it cannot fill the leader's disk.

use super::{Log, files};
use crate::effect::Seq;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What is kept.
#[derive(Debug, Default)]
pub struct Retention {
    backlog_bytes: AtomicU64,
    pinned_bytes: AtomicU64,
    pins: Mutex<Pins>,
}

#[derive(Debug, Default)]
struct Pins {
    last_id: u64,
    /// The first record that each still needs.
    needed: BTreeMap<u64, Seq>,
}

/// Keeps the log from some record on, as long as it is held.
#[derive(Debug)]
pub struct Pin<'l> {
    retention: &'l Retention,
    id: u64,
}

impl Pin<'_> {
    /// Nothing before this record is needed any more.
    pub fn advance(&self, seq: Seq) {
        self.retention.pins.lock().needed.insert(self.id, seq);
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        self.retention.pins.lock().needed.remove(&self.id);
    }
}

impl Log {
    /// Keeps everything from this record on.
    pub fn pin(&self, seq: Seq) -> Pin<'_> {
        let mut pins = self.retention.pins.lock();
        pins.last_id += 1;
        let id = pins.last_id;
        pins.needed.insert(id, seq);
        Pin { retention: &self.retention, id }
    }

    /// Changes how much is kept.
    pub fn set_retention(&self, backlog_bytes: u64, pinned_bytes: u64) {
        self.retention.backlog_bytes.store(backlog_bytes, Relaxed);
        self.retention.pinned_bytes.store(pinned_bytes, Relaxed);
    }

    /// Removes the segments that the base at `base` has replaced and nobody needs, oldest first, so that
    /// what a crash leaves is still without a gap.
    pub fn remove_segments_before(&self, base: Seq) -> io::Result<()> {
        let listing = files::Listing::of(self.disk.names()?);
        // A segment is replaced if the next one begins no later than behind the base.
        let replaced: Vec<Seq> = listing
            .segments
            .windows(2)
            .filter(|pair| pair[1].0 <= base.0 + 1)
            .map(|pair| pair[0])
            .collect();
        let needed = self.retention.pins.lock().needed.values().min().copied();
        let backlog = self.retention.backlog_bytes.load(Relaxed);
        let pinned = self.retention.pinned_bytes.load(Relaxed);
        let (mut kept_bytes, mut kept) = (0, replaced.len());
        for (at, first) in replaced.iter().enumerate().rev() {
            kept_bytes += self.disk.len(&files::segment_name(*first))?;
            let next = replaced.get(at + 1).map_or(base.0 + 1, |next| next.0);
            let is_pinned = needed.is_some_and(|needed| needed.0 < next);
            let allowed = if is_pinned { backlog.max(pinned) } else { backlog };
            if kept_bytes > allowed {
                break;
            }
            kept = at;
        }
        for first in &replaced[..kept] {
            self.disk.remove(&files::segment_name(*first))?;
        }
        Ok(())
    }
}
