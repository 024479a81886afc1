//! The names of the log's files, and which of them a directory holds.

use super::disk::names;
use super::numbers::canonical_number;
use crate::replace::UNFINISHED;
use crate::store::effect::Seq;
use std::io;
use std::path::Path;

/// The directory for what recovery or a repair cut off.
pub const QUARANTINE: &str = "quarantine";

/// The file of the segment that begins with this record.
pub fn segment_name(first: Seq) -> String {
    format!("log-{first}.aof")
}

/// The file of the state at this record.
pub fn base_name(seq: Seq) -> String {
    format!("base-{seq}.aof")
}

/// The log's files in a directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The seqs of the bases, ascending.
    pub bases: Vec<Seq>,
    /// The first seqs of the segments, ascending.
    pub segments: Vec<Seq>,
    /// Files that were not finished, by name.
    pub unfinished: Vec<String>,
}

/// Lists the log's files in a directory.
pub fn list(dir: &Path) -> io::Result<Listing> {
    Ok(Listing::of(names(dir)?))
}

impl Listing {
    /// The log's files among these names.
    pub fn of(names: Vec<String>) -> Listing {
        let mut listing = Listing::default();
        for name in names {
            if name.ends_with(UNFINISHED) {
                listing.unfinished.push(name);
            } else if let Some(seq) = numbered(&name, "base-") {
                listing.bases.push(seq);
            } else if let Some(seq) = numbered(&name, "log-") {
                listing.segments.push(seq);
            }
        }
        listing.bases.sort_unstable();
        listing.segments.sort_unstable();
        listing
    }

    /// The segment that holds this record, or would hold it if it existed.
    pub fn segment_of(&self, seq: Seq) -> Option<Seq> {
        self.segments.iter().rev().find(|first| **first <= seq).copied()
    }
}

/// True for the name of a base or of a segment.
pub fn is_log(name: &str) -> bool {
    numbered(name, "base-").or(numbered(name, "log-")).is_some()
}

fn numbered(name: &str, prefix: &str) -> Option<Seq> {
    let digits = name.strip_prefix(prefix)?.strip_suffix(".aof")?;
    canonical_number(digits.as_bytes()).map(Seq)
}
