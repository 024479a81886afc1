//! Retention of segments that a base has replaced: for connected followers that still read them, and for
//! followers that are disconnected for a while.
//!
//! - Of the newest replaced segments, up to `backlog_bytes` are always kept: after a restart of a follower
//!   or of its leader, the follower resumes where it was. (Redis's replication backlog, but on disk.)
//! - Segments that a connected follower still needs are **pinned**, up to `pinned_bytes`. A follower that
//!   lags further loses its place and gets a full copy, so that it cannot fill the leader's disk.

use super::Log;
use crate::aof::files::{Listing, base_name, segment_name};
use crate::store::effect::Seq;
use std::io;
use std::sync::atomic::Ordering::Relaxed;

/// While held, keeps the log from some record on.
#[derive(Debug)]
pub struct Pin<'l> {
    log: &'l Log,
    id: u64,
}

impl Pin<'_> {
    /// Moves the pin: records before `seq` are no longer needed.
    pub fn advance(&self, seq: Seq) {
        self.log.pins.lock().insert(self.id, seq);
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        self.log.pins.lock().remove(&self.id);
    }
}

impl Log {
    /// Keeps the log from `seq` on, as long as the pin is held.
    pub fn pin(&self, seq: Seq) -> Pin<'_> {
        let mut pins = self.pins.lock();
        let id = pins.last_key_value().map_or(0, |(last, _)| last + 1);
        pins.insert(id, seq);
        Pin { log: self, id }
    }

    /// Removes what the base at `base` has replaced: older bases, and the segments that are not retained. The
    /// oldest go first, so a crash leaves no gap.
    pub fn remove_replaced_by(&self, base: Seq) -> io::Result<()> {
        let Listing { bases, segments, .. } = Listing::of(self.disk.names()?);
        for older in bases.into_iter().filter(|older| *older < base) {
            self.disk.remove(&base_name(older))?;
        }
        // A segment is replaced if no record after the base is in it: the next one begins early enough.
        let replaced: Vec<_> =
            segments.windows(2).take_while(|pair| pair[1].0 <= base.0 + 1).collect();
        let needed = self.pins.lock().values().min().copied();
        let backlog = self.limits.backlog_bytes.load(Relaxed);
        let pinned = self.limits.pinned_bytes.load(Relaxed).max(backlog);
        let (mut kept, mut kept_bytes) = (replaced.len(), 0);
        for pair in replaced.iter().rev() {
            kept_bytes += self.disk.len(&segment_name(pair[0]))?;
            let is_pinned = needed.is_some_and(|needed| needed < pair[1]);
            if kept_bytes > if is_pinned { pinned } else { backlog } {
                break;
            }
            kept -= 1;
        }
        for pair in &replaced[..kept] {
            self.disk.remove(&segment_name(pair[0]))?;
        }
        self.disk.sync_dir()
    }
}
