//! Compaction: replaces the log by the state that it produces.
//!
//! The order of steps makes a crash at any point harmless:
//!
//! 1. start a new segment at S + 1
//! 2. copy the state into `base-S.aof.tmp`; then take the log's last seq, E
//! 3. sync it
//! 4. make the log durable up to E: the base may hold effects up to E, and after a power cut it must
//!    not hold effects that the log has lost
//! 5. rename it to `base-S.aof`, sync the directory
//! 6. remove what it replaces: older bases, and the segments up to S that `log::retention` lets go
//!
//! Out of scope: where the state comes from, and when to compact (`engine::compactor`).

use super::base::BaseWriter;
use super::files::{self, Listing};
use super::log::Log;
use super::record::Position;
use crate::store::effect::Seq;
use std::io;

/// Compacts the log, and returns the base's size in bytes. `walk` adds the state record by record;
/// writers may continue meanwhile.
pub fn compact(
    log: &Log,
    walk: impl FnOnce(&mut BaseWriter<'_>) -> Result<(), String>,
) -> Result<u64, String> {
    let position = log.rotate().map_err(|error| format!("cannot begin a new segment: {error}"))?;
    let size = write_base(log, position, walk).inspect_err(|_| {
        if let Err(error) = BaseWriter::discard(log.disk(), position.seq) {
            ::log::warn!("cannot remove the unfinished base: {error}");
        }
    })?;
    log.forget_before(size);
    remove_replaced(log, position.seq)
        .map_err(|error| format!("cannot remove what the new base replaces: {error}"))?;
    Ok(size)
}

fn write_base(
    log: &Log,
    position: Position,
    walk: impl FnOnce(&mut BaseWriter<'_>) -> Result<(), String>,
) -> Result<u64, String> {
    let text = |error: io::Error| format!("cannot write the base: {error}");
    let mut base = BaseWriter::begin(log.disk(), position, &log.epochs()).map_err(text)?;
    walk(&mut base)?;
    let end = log.appended();
    base.finish(end).map_err(text)?;
    log.sync().map_err(|error| error.to_string())?;
    assert!(log.durable() >= end, "a base must not hold more than the durable log");
    let size = base.size();
    base.publish().map_err(text)?;
    Ok(size)
}

fn remove_replaced(log: &Log, seq: Seq) -> io::Result<()> {
    let disk = log.disk();
    for base in Listing::of(disk.names()?).bases.iter().filter(|base| **base < seq) {
        disk.remove(&files::base_name(*base))?;
    }
    log.remove_segments_before(seq)?;
    disk.sync_dir()
}
