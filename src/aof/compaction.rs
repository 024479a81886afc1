//! Compaction: replaces the log by the state that it produces. A crash between any two steps is harmless:
//!
//! 1. start a new segment at S + 1
//! 2. copy the state into `base-S.aof.tmp`; then take the log's last seq, E
//! 3. sync it
//! 4. make the log durable up to E: after a power cut, the base must not hold effects that the log has lost
//! 5. rename it to `base-S.aof`, sync the directory
//! 6. remove what it replaces: older bases, and the segments up to S that `log::retention` releases
//!
//! Out of scope: when to compact, and at what rate (`engine::compactor`).

use super::base::BaseWriter;
use super::errors::CompactError;
use super::log::Log;
use super::record::Position;
use crate::clock::UnixMillis;
use crate::store::Store;
use crate::store::effect::Effect;

/// Bytes copied under one hold of a shard's lock: some 10 µs.
const PART_BYTES: usize = 32 << 10;

/// Compacts the log, and returns the base's size in bytes. `walk` adds the state record by record; writers may
/// continue meanwhile.
pub fn compact(
    log: &Log,
    walk: impl FnOnce(&mut BaseWriter<'_>) -> Result<(), CompactError>,
) -> Result<u64, CompactError> {
    let position = log.rotate().map_err(CompactError::Log)?;
    let size = write_base(log, position, walk).inspect_err(|_| {
        if let Err(error) = BaseWriter::discard(log.disk(), position.seq) {
            ::log::warn!("cannot remove the unfinished base: {error}");
        }
    })?;
    log.forget_before(size);
    log.remove_replaced_by(position.seq).map_err(|error| {
        CompactError::Files(format!("cannot remove what the new base replaces: {error}"))
    })?;
    Ok(size)
}

fn write_base(
    log: &Log,
    position: Position,
    walk: impl FnOnce(&mut BaseWriter<'_>) -> Result<(), CompactError>,
) -> Result<u64, CompactError> {
    let outline = log.outline().clone();
    let mut base = BaseWriter::begin(log.disk(), position, &outline)?;
    walk(&mut base)?;
    let end = log.appended();
    base.finish(end)?;
    log.sync().map_err(CompactError::Log)?;
    assert!(log.durable() >= end, "a base must not hold more than the durable log");
    let size = base.len;
    base.publish()?;
    Ok(size)
}

/// Passes the store on in parts: SET commands, and the number of keys that they set. No lock is held meanwhile.
///
/// Expired entries are included, with their deadlines: a client whose batch began a moment earlier may still see
/// one alive, and its PERSIST or APPEND, replayed on the base, must find it.
pub fn each_part<E>(
    store: &Store,
    mut take: impl FnMut(&[u8], u64) -> Result<(), E>,
) -> Result<(), E> {
    let (mut cursor, mut payload) = (0, Vec::with_capacity(2 * PART_BYTES));
    loop {
        let mut keys = 0;
        payload.clear();
        let tx = store.begin_fleeting(|| UnixMillis(0));
        cursor = tx.scan(cursor, |entry| {
            let (key, value) = (entry.key(), entry.value());
            Effect::Set { key, value, deadline: entry.deadline() }.encode(&mut payload);
            keys += 1;
            payload.len() < PART_BYTES
        });
        drop(tx);
        if keys > 0 {
            take(&payload, keys)?;
        }
        if cursor == 0 {
            return Ok(());
        }
    }
}
