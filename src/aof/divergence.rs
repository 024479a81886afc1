//! Giving up the end of a log that another history replaces.
//!
//! A leader that dies may have acknowledged writes that no follower had, or that only one follower had. A
//! leader that lost its disk has none of its followers' writes. When a node with such writes follows another
//! history, the two differ after some record. What only this node has is saved to `diverged/`, durably,
//! **before** it is cut off here, or when a full copy takes its place ([`super::replacement`]); `kvstore log`
//! reads it. The only thing that spares the saving is a proof that the new history holds the same records
//! ([`super::epochs::Epochs::last_shared`]); whose writes they once were does not matter.

use super::disk::make_dir;
use super::files::{self, DIVERGED, UNFINISHED, segment_name};
use super::record::Position;
use super::recovery::{self, RecoveryError, Then};
use super::scan::Scanner;
use crate::store::effect;
use crate::store::effect::Seq;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Keys that a report names; the file has all of them.
const KEYS_NAMED_MAX: usize = 10;

/// Writes that another history does not have.
#[derive(Debug, Default)]
pub struct Lost {
    /// Records with effects. Where a base has taken the records' place, its keys.
    pub writes: u64,
    /// Whether a base had taken the place of some records: there may have been more, of keys that are gone.
    pub based: bool,
    /// Some of the keys that they changed.
    pub keys: BTreeSet<Vec<u8>>,
    /// Whether there were more keys.
    pub more_keys: bool,
}

impl Lost {
    /// Adds a record; of a base's record, each key is a write.
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
        self.writes += if of_base { keys } else { u64::from(!payload.is_empty()) };
    }
}

/// Whether the state at this record can be rebuilt from the directory: the base is not newer, and had
/// been finished by then.
pub fn can_rewind(dir: &Path, last: Seq) -> Result<bool, RecoveryError> {
    let listing = files::list(dir).map_err(|error| RecoveryError::Io(dir.into(), error))?;
    match listing.bases.last() {
        None => Ok(listing.segments.first().is_none_or(|first| *first == Seq(1))),
        Some(base) if *base > last => Ok(false),
        Some(base) => Ok(recovery::read_base(dir, *base)?.end_seq <= last),
    }
}

/// The position at a record, read from the segment that holds it; None if no segment does.
pub fn position_at(dir: &Path, seq: Seq) -> io::Result<Option<Position>> {
    if seq == Seq(0) {
        return Ok(Some(Position::default()));
    }
    let Some((first, mut scanner)) = open_segment_of(dir, seq)? else { return Ok(None) };
    scanner.skip_unchecked(first, seq)
}

/// The writes that the log holds after `last`. If the segments do not go back that far, the newest base tells of all
/// that is before it. `working` is called now and then.
pub fn lost_after(dir: &Path, last: Seq, mut working: impl FnMut()) -> io::Result<Lost> {
    let (next, mut lost) = (Seq(last.0 + 1), Lost::default());
    let segments = files::list(dir)?.segments;
    let Some(from) = segments.iter().rposition(|first| *first <= next) else {
        lost.based = true;
        recovery::read_each(dir, |record| {
            working();
            lost.add(record.payload, record.of_base);
            Ok(Then::GoOn)
        })
        .map_err(|error| io::Error::other(error.to_string()))?;
        return Ok(lost);
    };
    for first in &segments[from..] {
        let mut scanner = Scanner::open(&dir.join(segment_name(*first)), Position::default())?;
        if *first < next {
            scanner.skip_unchecked(*first, last)?;
        }
        while let Some((_, payload)) = scanner.read_unchecked()? {
            working();
            lost.add(payload, false);
        }
    }
    Ok(lost)
}

/// Saves everything after `last` up to the log's `end`, as it stands there; returns where. The name tells
/// which records of which history, so what is saved twice is there once.
pub fn save(dir: &Path, last: Seq, end: Position) -> io::Result<PathBuf> {
    let diverged = dir.join(DIVERGED);
    make_dir(&diverged)?;
    let name = format!("log-{}-{}-{:08x}.aof", last.0 + 1, end.seq, end.crc);
    let (path, unfinished) = (diverged.join(&name), diverged.join(name + UNFINISHED));
    let copied = copy_after(dir, last, &unfinished);
    // On a full disk, that space is what service waits for.
    copied.inspect_err(|_| drop(fs::remove_file(&unfinished)))?;
    fs::rename(&unfinished, &path)?;
    super::disk::sync_dir(&diverged)?;
    super::disk::sync_dir(dir)?;
    Ok(path)
}

fn copy_after(dir: &Path, last: Seq, to: &Path) -> io::Result<()> {
    let missing = || io::Error::other(format!("record {last} cannot be found in the log"));
    let next = Seq(last.0 + 1);
    let (first, mut scanner) = open_segment_of(dir, next)?.ok_or_else(missing)?;
    if first < next {
        scanner.skip_unchecked(first, last)?.ok_or_else(missing)?;
    }
    let mut offset = scanner.offset();
    let mut copy = File::create(to)?;
    for first in files::list(dir)?.segments.into_iter().filter(|segment| *segment >= first) {
        let mut file = File::open(dir.join(segment_name(first)))?;
        file.seek(SeekFrom::Start(offset))?;
        io::copy(&mut Read::by_ref(&mut file), &mut copy)?;
        offset = 0;
    }
    copy.sync_all()
}

/// Cuts the log off behind a record. Newest first, so that a crash leaves a log without a gap. The segment in
/// which the next record will be stays: a base is nothing without the log that it belongs to.
pub fn cut_behind(dir: &Path, last: Seq) -> io::Result<()> {
    let next = Seq(last.0 + 1);
    let segments = files::list(dir)?.segments;
    for first in segments.iter().rev().filter(|first| **first > next) {
        fs::remove_file(dir.join(segment_name(*first)))?;
        super::disk::sync_dir(dir)?;
    }
    let Some((first, mut scanner)) = open_segment_of(dir, next)? else { return Ok(()) };
    if first < next && scanner.skip_unchecked(first, last)?.is_none() {
        return Err(io::Error::other(format!("record {last} cannot be found in the log")));
    }
    let file = File::options().write(true).open(dir.join(segment_name(first)))?;
    file.set_len(scanner.offset())?;
    file.sync_all()
}

/// The segment in which a record is or would be.
fn open_segment_of(dir: &Path, seq: Seq) -> io::Result<Option<(Seq, Scanner)>> {
    let segments = files::list(dir)?.segments;
    let Some(first) = segments.iter().rev().find(|first| **first <= seq).copied() else {
        return Ok(None);
    };
    let scanner = Scanner::open(&dir.join(segment_name(first)), Position::default())?;
    Ok(Some((first, scanner)))
}
