//! Recovery: reads back what the directory holds, and judges all of it before it touches any of it.
//!
//! 1. The newest base is read to its last line.
//! 2. Every segment after it is read; each record must follow the one before (seq, epoch, crc).
//! 3. The log must reach the record that the mark proves.
//! 4. Only then is anything changed ([`super::cleanup`]): a torn tail is moved aside, leftovers are removed.
//!
//! A bad record in the last segment, with nothing intact after it, is a **torn tail**: the write that a crash cut
//! off. With a mark (see [`mark`]), it is a torn tail exactly if it comes after the mark, because a power cut takes
//! what was not synced in any order. It was never acknowledged as durable. It goes to `quarantine/`.
//!
//! Anything else is **corruption**: something that was once whole is damaged or missing. A log that is whole but
//! ends before the mark has **lost** records. In both cases the server does not start, because the next write
//! would bury the evidence. It names the file, the byte and the record, and the ways out.

use super::base::Frame;
use super::epochs::Epochs;
pub use super::errors::RecoveryError;
use super::files::{self, Listing, base_name, segment_name};
use super::mark;
use super::reader::Reader;
pub use super::reader::{Record, Recovered, Then, Torn};
use super::record::ResumePoint;
use crate::file_error::named;
use crate::loading::Loading;
use crate::store::effect::{Malformed, Seq};
use std::fs;
use std::io;
use std::path::Path;

/// Reads a directory and passes on the payload of each record in order. Changes nothing.
pub fn read(
    dir: &Path,
    mut apply: impl FnMut(&[u8]) -> Result<(), Malformed>,
) -> Result<Recovered, RecoveryError> {
    read_each(dir, |record| apply(record.payload).map(|()| Then::GoOn))
}

/// As [`read`], into memory: tells `loading` how far it has come, and stops when that is given up.
pub fn load(
    dir: &Path,
    loading: &Loading,
    mut apply: impl FnMut(&[u8]) -> Result<(), Malformed>,
) -> Result<Recovered, RecoveryError> {
    read_from(dir, Some(loading), |record| {
        if loading.is_given_up() {
            return Err(Malformed("the server is shutting down"));
        }
        apply(record.payload).map(|()| Then::GoOn)
    })
}

/// As [`read`], with more about each record, and with a way to stop. What comes after the last record taken is
/// not judged, be it damaged or lost. The caller checks whether the log then reaches the base's end seq.
pub fn read_each(
    dir: &Path,
    apply: impl FnMut(Record<'_>) -> Result<Then, Malformed>,
) -> Result<Recovered, RecoveryError> {
    read_from(dir, None, apply)
}

/// Reads a base and passes on the payload of each record. Returns its frame, and the epochs that it lists.
pub fn read_base(
    dir: &Path,
    seq: Seq,
    mut apply: impl FnMut(&[u8]) -> Result<(), Malformed>,
) -> Result<(Frame, Epochs), RecoveryError> {
    let mut reader =
        Reader::new(dir, |record: Record<'_>| apply(record.payload).map(|()| Then::GoOn));
    let frame = reader.base(seq)?;
    Ok((frame, reader.read.outline.epochs))
}

fn read_from(
    dir: &Path,
    loading: Option<&Loading>,
    apply: impl FnMut(Record<'_>) -> Result<Then, Malformed>,
) -> Result<Recovered, RecoveryError> {
    let listing = files::list(dir)?;
    // A server may be writing: the mark is read first, so that it is not ahead of the log.
    let synced = mark::read(dir)?;
    let mut reader = Reader::new(dir, apply);
    (reader.synced, reader.loading) = (synced, loading);
    let newest = listing.bases.last().copied();
    let segments = segments_after(dir, &listing, newest.unwrap_or_default());
    if let Some(loading) = loading {
        loading.begin(bytes_of(dir, newest, segments.as_deref().unwrap_or_default())?);
    }
    let base = newest.map(|seq| reader.base(seq)).transpose()?;
    let proven = |error: RecoveryError| error.with_proof(dir, synced);
    let segments = segments.map_err(proven)?;
    reader.segments(&segments).map_err(proven)?;
    if !reader.stopped {
        require_base_end(dir, base, reader.read.end)?;
        require_synced(dir, synced, reader.read.end)?;
    }
    let leftovers = leftovers(&listing, base);
    Ok(Recovered { segments, leftovers, ..reader.read })
}

/// The segments that hold the records after `base`: the one with the next record, and all later ones.
fn segments_after(dir: &Path, listing: &Listing, base: Seq) -> Result<Vec<Seq>, RecoveryError> {
    let (segments, next) = (&listing.segments, Seq(base.0 + 1));
    if let Some(from) = listing.segment_of(next) {
        return Ok(segments.iter().copied().filter(|first| *first >= from).collect());
    }
    let what = match segments.first() {
        Some(first) => format!(
            "the segment with this record, or a base, is missing: the first segment begins with {first}"
        ),
        // A new directory.
        None if base == Seq(0) => return Ok(Vec::new()),
        None => "the segment with this record is missing".to_string(),
    };
    let path = dir.join(segment_name(next));
    Err(RecoveryError::Corrupt { path, offset: 0, seq: next, what })
}

/// A base holds effects up to its end seq: a log that ends earlier has half of a transaction, perhaps.
fn require_base_end(
    dir: &Path,
    base: Option<Frame>,
    end: ResumePoint,
) -> Result<(), RecoveryError> {
    let last = end.last;
    let Some(base) = base.filter(|base| last.seq < base.end_seq) else { return Ok(()) };
    let path = dir.join(base_name(base.position.seq));
    let what = format!(
        "the base was finished at record {}, but the log ends at {}",
        base.end_seq, last.seq
    );
    Err(RecoveryError::Corrupt { path, offset: 0, seq: last.next(), what })
}

/// The log must reach the mark. A follower that gives up the end of its log lowers the mark before it cuts, so the
/// mark is read again: beside such a server nothing is lost.
fn require_synced(dir: &Path, synced: Option<Seq>, end: ResumePoint) -> Result<(), RecoveryError> {
    let last = end.last.seq;
    if synced.is_none_or(|synced| synced <= last) {
        return Ok(());
    }
    let Some(synced) = mark::read(dir)?.filter(|synced| *synced > last) else { return Ok(()) };
    let path = dir.join(segment_name(end.segment.map_or(end.last.next(), |(first, _)| first)));
    Err(RecoveryError::Lost { path, last, synced })
}

/// Bases that the newest one replaces, and unfinished files. Segments before the base are none: they are kept for
/// followers.
fn leftovers(listing: &Listing, base: Option<Frame>) -> Vec<String> {
    let newest = base.map(|base| base.position.seq);
    let older = listing.bases.iter().filter(|seq| Some(**seq) != newest);
    older.map(|seq| base_name(*seq)).chain(listing.unfinished.iter().cloned()).collect()
}

/// The length of a base and of segments.
fn bytes_of(dir: &Path, base: Option<Seq>, segments: &[Seq]) -> io::Result<u64> {
    let names = base.map(base_name).into_iter().chain(segments.iter().copied().map(segment_name));
    let paths = names.map(|name| dir.join(name));
    paths.map(|path| Ok(fs::metadata(&path).map_err(named(&path))?.len())).sum()
}
