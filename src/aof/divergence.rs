//! Giving up the end of a log that another history has replaced.
//!
//! A leader that dies may have acknowledged writes that no follower had. When it comes back and follows the
//! new leader, the two histories differ behind some record. What only it had is saved to `diverged/`,
//! durably, **before** it is cut off; `kvstore log` reads it.

use super::disk::make_dir;
use super::files::{self, DIVERGED, Listing, UNFINISHED, base_name, segment_name};
use super::record::Position;
use super::recovery::{self, RecoveryError};
use super::scan::Scanner;
use crate::effect::{self, Seq};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Keys that a report names; the file has all of them.
const KEYS_NAMED_MAX: usize = 10;

/// What was saved.
#[derive(Debug)]
pub struct Saved {
    /// Where to. The name tells which records of which history, so what is saved twice is there once.
    pub path: PathBuf,
    /// Records with effects: writes.
    pub writes: u64,
    /// Some of the keys that they changed.
    pub keys: BTreeSet<Vec<u8>>,
    /// Whether there were more keys.
    pub more_keys: bool,
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

/// Saves everything behind `last` up to the log's `end`, as it stands there. None if not all of it is there.
pub fn save(dir: &Path, last: Seq, end: Position) -> io::Result<Option<Saved>> {
    let next = Seq(last.0 + 1);
    let Some((first, mut scanner)) = open_segment_of(dir, next)? else { return Ok(None) };
    if first < next && scanner.skip_unchecked(first, last)?.is_none() {
        return Err(io::Error::other(format!("record {last} cannot be found in the log")));
    }
    let mut offset = scanner.offset();
    let diverged = dir.join(DIVERGED);
    make_dir(&diverged)?;
    let name = format!("log-{next}-{}-{:08x}.aof", end.seq, end.crc);
    let (path, unfinished) = (diverged.join(&name), diverged.join(name + UNFINISHED));
    let mut copy = File::create(&unfinished)?;
    for first in files::list(dir)?.segments.into_iter().filter(|segment| *segment >= first) {
        let segment = dir.join(segment_name(first));
        let mut file = File::open(&segment)?;
        file.seek(SeekFrom::Start(offset))?;
        io::copy(&mut Read::by_ref(&mut file), &mut copy)?;
        offset = 0;
    }
    copy.sync_all()?;
    fs::rename(&unfinished, &path)?;
    super::disk::sync_dir(&diverged)?;
    super::disk::sync_dir(dir)?;
    count(path).map(Some)
}

/// Looks through what was saved. Damage in it would have been found by recovery.
fn count(path: PathBuf) -> io::Result<Saved> {
    let mut scanner = Scanner::open(&path, Position::default())?;
    let mut saved = Saved { path, writes: 0, keys: BTreeSet::new(), more_keys: false };
    while let Some((_, payload)) = scanner.read_unchecked()? {
        saved.writes += u64::from(!payload.is_empty());
        let _ = effect::keys(payload, |key| {
            if saved.keys.len() < KEYS_NAMED_MAX {
                saved.keys.insert(key.to_vec());
            } else {
                saved.more_keys |= !saved.keys.contains(key);
            }
        });
    }
    Ok(saved)
}

/// Whether the log holds anything but the beginnings of leaderships.
pub fn holds_writes(dir: &Path) -> io::Result<bool> {
    let Listing { bases, segments, .. } = files::list(dir)?;
    for first in segments.into_iter().filter(|_| bases.is_empty()) {
        let mut scanner = Scanner::open(&dir.join(segment_name(first)), Position::default())?;
        while let Some((_, payload)) = scanner.read_unchecked()? {
            if !payload.is_empty() {
                return Ok(true);
            }
        }
    }
    Ok(!bases.is_empty())
}

/// Keeps all files of the log, which ends at `end`, aside, because nobody can tell which of their records
/// only they hold.
pub fn save_all(dir: &Path, end: Position) -> io::Result<PathBuf> {
    let aside = dir.join(DIVERGED).join(format!("all-{}-{:08x}", end.seq, end.crc));
    match fs::remove_dir_all(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => make_dir(&aside)?,
    }
    let Listing { bases, segments, .. } = files::list(dir)?;
    let names = bases.into_iter().map(base_name).chain(segments.into_iter().map(segment_name));
    for name in names {
        // A second name for the same bytes: it costs no space until the first is removed.
        fs::hard_link(dir.join(&name), aside.join(&name))?;
    }
    super::disk::sync_dir(&aside)?;
    super::disk::sync_dir(&dir.join(DIVERGED))?;
    super::disk::sync_dir(dir)?;
    Ok(aside)
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
