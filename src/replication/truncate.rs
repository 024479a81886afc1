//! The end of a log: looking at, copying and cutting off all records after one of them.
//!
//! The records are read without checking their crcs: they are this node's own, recovery has checked them, and the
//! record before the first one may be gone.

use crate::aof::files::{self, segment_name};
use crate::aof::record::Position;
use crate::aof::recovery::{self, RecoveryError};
use crate::aof::scan::Scanner;
use crate::replace::sync_dir;
use crate::store::effect::Seq;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::path::Path;

/// True if the state at this record can be rebuilt from the directory: the base is not newer, and had been
/// finished by then.
pub fn can_rewind(dir: &Path, last: Seq) -> Result<bool, RecoveryError> {
    let listing = files::list(dir)?;
    match listing.bases.last() {
        None => Ok(listing.segments.first().is_none_or(|first| *first == Seq(1))),
        Some(base) if *base > last => Ok(false),
        Some(base) => Ok(recovery::read_base(dir, *base, |_| Ok(()))?.0.end_seq <= last),
    }
}

/// The position at a record, read from the segment that holds it; None if no segment does.
pub fn position_at(dir: &Path, seq: Seq) -> io::Result<Option<Position>> {
    if seq == Seq(0) {
        return Ok(Some(Position::default()));
    }
    let Some(first) = files::list(dir)?.segment_of(seq) else { return Ok(None) };
    Scanner::open(&dir.join(segment_name(first)), Position::default())?.skip_unchecked(first, seq)
}

/// Hands over the payload of each record after `last`; false if the segments do not go back that far.
pub fn each_after(dir: &Path, last: Seq, mut take: impl FnMut(&[u8])) -> io::Result<bool> {
    let Some((segment, mut scanner)) = open_after(dir, last)? else { return Ok(false) };
    let later = files::list(dir)?.segments.into_iter().filter(|first| *first > segment);
    for next in later.map(Some).chain([None]) {
        while let Some((_, payload)) = scanner.read_unchecked()? {
            take(payload);
        }
        if let Some(next) = next {
            scanner = Scanner::open(&dir.join(segment_name(next)), Position::default())?;
        }
    }
    Ok(true)
}

/// Copies all records after `last` to a new file, durably.
pub fn copy_after(dir: &Path, last: Seq, to: &Path) -> io::Result<()> {
    let (segment, scanner) = open_after(dir, last)?.ok_or_else(|| missing(last))?;
    let mut copy = File::create(to)?;
    for first in files::list(dir)?.segments.into_iter().filter(|first| *first >= segment) {
        let mut file = File::open(dir.join(segment_name(first)))?;
        file.seek(SeekFrom::Start(if first == segment { scanner.offset() } else { 0 }))?;
        io::copy(&mut file, &mut copy)?;
    }
    copy.sync_all()
}

/// Cuts the log off after a record. The newest segment goes first, so that a crash leaves a log without a gap.
/// The segment that the next record belongs to stays: a base is worthless without the log after it.
pub fn cut_after(dir: &Path, last: Seq) -> io::Result<()> {
    let segments = files::list(dir)?.segments;
    for first in segments.iter().rev().filter(|first| first.0 > last.0 + 1) {
        fs::remove_file(dir.join(segment_name(*first)))?;
        sync_dir(dir)?;
    }
    let Some((first, scanner)) = open_after(dir, last)? else { return Ok(()) };
    let file = File::options().write(true).open(dir.join(segment_name(first)))?;
    file.set_len(scanner.offset())?;
    file.sync_all()
}

/// The segment that the record after `last` belongs to, opened at that record.
fn open_after(dir: &Path, last: Seq) -> io::Result<Option<(Seq, Scanner)>> {
    let Some(first) = files::list(dir)?.segment_of(Seq(last.0 + 1)) else { return Ok(None) };
    let mut scanner = Scanner::open(&dir.join(segment_name(first)), Position::default())?;
    if first <= last {
        scanner.skip_unchecked(first, last)?.ok_or_else(|| missing(last))?;
    }
    Ok(Some((first, scanner)))
}

fn missing(record: Seq) -> io::Error {
    io::Error::other(format!("record {record} cannot be found in the log"))
}
