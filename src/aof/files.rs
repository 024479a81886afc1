//! The names of the log's files, which of them a directory holds, and the node's identity.

use super::disk::names;
use super::numbers::canonical_number;
use super::record::Epoch;
use crate::file_error::{about, named};
use crate::random;
use crate::replace::{UNFINISHED, replace};
use crate::store::effect::Seq;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// The directory for what recovery or a repair cut off.
pub const QUARANTINE: &str = "quarantine";
const NODE: &str = "node";

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

/// A node's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// 40 hex digits, chosen once for the directory.
    pub id: String,
    /// The last epoch in which this node led; 0 before the first.
    pub epoch: Epoch,
}

impl Node {
    /// Reads the file; a directory without one gets a new id.
    pub fn read(dir: &Path) -> io::Result<Node> {
        let path = dir.join(NODE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Node { id: random::hex40(), epoch: Epoch(0) });
            }
            Err(error) => return Err(named(&path)(error)),
        };
        Node::parse(&text).ok_or_else(|| {
            about(
                &path,
                "it is damaged: it must hold 'id <40 hex>' and 'epoch <n>'. Restore it from a backup, or remove \
                 it: then this node gets a new id",
            )
        })
    }

    fn parse(text: &str) -> Option<Node> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let id = field("id ").filter(|id| id.len() == 40)?.to_string();
        let epoch = Epoch(canonical_number(field("epoch ")?.as_bytes())?);
        Some(Node { id, epoch })
    }

    /// Replaces the file.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        replace(&dir.join(NODE), format!("id {}\nepoch {}\n", self.id, self.epoch.0).as_bytes())
    }
}
