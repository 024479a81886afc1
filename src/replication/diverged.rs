//! Records that only this node has when it follows another history.
//!
//! A leader that dies may have acknowledged writes that few followers had, or none. When a node with such writes
//! follows another history, the two differ after some record. What only this node has is saved to `diverged/`,
//! durably, **before** it is cut off or a full copy takes its place ([`super::replacement`]); `kvstore log` reads it.
//! Only a proof that the new history holds the same records spares the saving
//! (`Epochs::last_shared`), whichever node wrote them.

use super::truncate;
use crate::aof::disk::make_dir;
use crate::aof::record::Position;
use crate::aof::recovery::{self, Then};
use crate::replace::{UNFINISHED, sync_dir};
use crate::store::effect;
use crate::store::effect::Seq;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The directory in which such records are kept.
pub const DIVERGED: &str = "diverged";
/// Keys that a report names; the file has all of them.
const KEYS_NAMED_MAX: usize = 10;

/// Writes that another history does not have.
#[derive(Debug, Default)]
pub struct Lost {
    /// Records with effects. Of a base, which has taken the place of records, each key counts.
    pub writes: u64,
    /// True if a base was counted: there may have been more writes, of keys that are gone.
    pub based: bool,
    /// Some of the keys that they changed.
    pub keys: BTreeSet<Vec<u8>>,
    /// True if there were more keys.
    pub more_keys: bool,
}

impl Lost {
    /// Adds a record of the log or of a base.
    fn add(&mut self, payload: &[u8], of_base: bool) {
        let mut keys = 0;
        let _ = effect::keys(payload, |key| {
            keys += 1;
            if self.keys.len() < KEYS_NAMED_MAX {
                self.keys.insert(key.to_vec());
            } else {
                self.more_keys |= !self.keys.contains(key);
            }
        });
        self.writes += if of_base { keys } else { u64::from(effect::check(payload) != Ok(0)) };
    }
}

/// The writes that the log holds after `last`. If the segments do not go back that far, the newest base stands
/// for all records before it. `working` is called now and then.
pub fn lost_after(dir: &Path, last: Seq, mut working: impl FnMut()) -> io::Result<Lost> {
    let mut lost = Lost::default();
    let reaches_back = truncate::each_after(dir, last, |payload| {
        working();
        lost.add(payload, false);
    })?;
    if !reaches_back {
        lost.based = true;
        recovery::read_each(dir, |record| {
            working();
            lost.add(record.payload, record.of_base);
            Ok(Then::GoOn)
        })
        .map_err(|error| io::Error::other(error.to_string()))?;
    }
    Ok(lost)
}

/// Saves everything after `last` up to the log's `end`; returns where. The name tells which records of which
/// history these are, so saving them again replaces the same file.
pub fn save(dir: &Path, last: Seq, end: Position) -> io::Result<PathBuf> {
    let diverged = dir.join(DIVERGED);
    make_dir(&diverged)?;
    let name = format!("log-{}-{}-{:08x}.aof", last.0 + 1, end.seq, end.crc);
    let unfinished = diverged.join(format!("{name}{UNFINISHED}"));
    let path = diverged.join(name);
    let copied = truncate::copy_after(dir, last, &unfinished);
    // On a full disk, service cannot resume without that space.
    copied.inspect_err(|_| drop(fs::remove_file(&unfinished)))?;
    fs::rename(&unfinished, &path)?;
    sync_dir(&diverged)?;
    sync_dir(dir)?;
    Ok(path)
}
