//! Compaction: replaces the log by the state that it leads to.
//!
//! The order of steps is what makes a crash at any point harmless:
//!
//! 1. start a new segment at S + 1
//! 2. copy the state into `base-S.aof.tmp`; note the seq E that the log has reached by then
//! 3. sync it
//! 4. wait until the log is durable up to E: a base may hold effects up to E, and a power cut must not
//!    leave it knowing effects that the log has lost
//! 5. rename it to `base-S.aof`, sync the directory
//! 6. remove what it replaces: older bases, and segments up to S but for those that followers need
//!
//! Out of scope: where the state comes from, and when it is time (`engine::compactor`).

use super::base::BaseWriter;
use super::files::{self, Listing};
use super::log::Log;
use super::record::Position;
use crate::effect::Seq;
use std::io;

/// Compacts; returns the size of the base. `walk` adds the state to it, record by record, while writers
/// may go on.
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
    assert!(log.durable() >= end, "a base must not know more than the durable log");
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
