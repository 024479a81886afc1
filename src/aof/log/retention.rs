//! Retention of segments that a base has replaced: for connected followers that still read them, and for
//! followers that are disconnected for a while.
//!
//! - Of the newest replaced segments, up to `backlog` bytes are always kept: after a restart of a follower
//!   or of its leader, the follower resumes where it was. (Redis's replication backlog, but on disk.)
//! - Segments that a connected follower still needs are **pinned**, up to `pinned` bytes. A follower that
//!   lags further loses its place and gets a full copy, so that it cannot fill the leader's disk.

use super::Log;
use crate::aof::files;
use crate::lock::Mutex;
use crate::store::effect::Seq;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The limits, and what connected followers still need.
#[derive(Debug, Default)]
pub struct Retention {
    backlog_bytes: AtomicU64,
    pinned_bytes: AtomicU64,
    /// The first record that is still needed, by pin.
    pins: Mutex<BTreeMap<u64, Seq>>,
}

/// While held, keeps the log from some record on.
#[derive(Debug)]
pub struct Pin<'l> {
    retention: &'l Retention,
    id: u64,
}

impl Pin<'_> {
    /// Moves the pin: records before `seq` are no longer needed.
    pub fn advance(&self, seq: Seq) {
        self.retention.pins.lock().insert(self.id, seq);
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        self.retention.pins.lock().remove(&self.id);
    }
}

impl Log {
    /// Keeps the log from `seq` on, as long as the pin is held.
    pub fn pin(&self, seq: Seq) -> Pin<'_> {
        let mut pins = self.retention.pins.lock();
        let id = pins.last_key_value().map_or(0, |(last, _)| last + 1);
        pins.insert(id, seq);
        Pin { retention: &self.retention, id }
    }

    /// Changes the limits.
    pub fn set_retention(&self, backlog_bytes: u64, pinned_bytes: u64) {
        self.retention.backlog_bytes.store(backlog_bytes, Relaxed);
        self.retention.pinned_bytes.store(pinned_bytes, Relaxed);
    }

    /// Removes the segments that the base at `base` has replaced and that are not retained. The oldest go
    /// first, so a crash leaves no gap.
    pub fn remove_segments_before(&self, base: Seq) -> io::Result<()> {
        let listing = files::Listing::of(self.disk.names()?);
        // A segment is replaced if no record after the base is in it.
        let replaced: Vec<Seq> = listing
            .segments
            .windows(2)
            .filter(|pair| pair[1].0 <= base.0 + 1)
            .map(|pair| pair[0])
            .collect();
        let needed = self.retention.pins.lock().values().min().copied();
        let backlog = self.retention.backlog_bytes.load(Relaxed);
        let pinned = self.retention.pinned_bytes.load(Relaxed);
        let mut kept_bytes = 0;
        let mut kept = replaced.len();
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
