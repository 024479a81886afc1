//! The names in the data directory, and what is there.

use super::record::Epoch;
use crate::effect::Seq;
use crate::random::Random;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What recovery cut off.
pub const QUARANTINE: &str = "quarantine";
const LOCK: &str = "LOCK";
const NODE: &str = "node";
/// Behind the name of a file that is being made; what a crash leaves is removed at the next start.
pub const UNFINISHED: &str = ".tmp";

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
    /// Unfinished files.
    pub unfinished: Vec<String>,
}

/// Looks what is there.
pub fn list(dir: &Path) -> io::Result<Listing> {
    Ok(Listing::of(super::disk::names(dir)?))
}

impl Listing {
    /// The log's files among these.
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
}

/// Whether this is the name of a base or of a segment.
pub fn is_log(name: &str) -> bool {
    numbered(name, "base-").or(numbered(name, "log-")).is_some()
}

fn numbered(name: &str, prefix: &str) -> Option<Seq> {
    let digits = name.strip_prefix(prefix)?.strip_suffix(".aof")?;
    super::record::canonical_number(digits.as_bytes()).map(Seq)
}

/// Makes the directory if it is not there, and locks it against a second server. The lock is held as
/// long as the file is open, and the kernel lets go of it however the process ends.
pub fn lock(dir: &Path) -> io::Result<File> {
    if !dir.exists() {
        fs::create_dir_all(dir)?;
        // Files in a directory that a power cut takes are not durable, however often they are synced.
        super::disk::sync_parent(dir)?;
    }
    let path = dir.join(LOCK);
    let mut file =
        OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            return Err(io::Error::other(format!(
                "another kvstore (process {}) is using this directory",
                holder.trim()
            )));
        }
        Err(fs::TryLockError::Error(error)) => return Err(error),
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

/// The process that holds the directory's lock, if one does. The look itself takes a shared lock for a
/// moment.
pub fn holder(dir: &Path) -> io::Result<Option<String>> {
    let path = dir.join(LOCK);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result?,
    };
    match file.try_lock_shared() {
        Err(fs::TryLockError::WouldBlock) => {
            Ok(Some(fs::read_to_string(&path)?.trim().to_string()))
        }
        _ => Ok(None),
    }
}

/// Who this node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// 40 hex digits, chosen once for the directory.
    pub id: String,
    /// The last leadership that it took part in.
    pub epoch: Epoch,
}

/// Reads the node file; a directory without one gets a new id.
pub fn read_node(dir: &Path) -> io::Result<Node> {
    let text = match fs::read_to_string(dir.join(NODE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Node { id: Random::new().hex40(), epoch: Epoch(0) });
        }
        Err(error) => return Err(error),
    };
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_string))
    };
    let epoch = field("epoch").and_then(|digits| digits.parse().ok());
    match (field("id"), epoch) {
        (Some(id), Some(epoch)) if id.len() == 40 => Ok(Node { id, epoch: Epoch(epoch) }),
        _ => {
            let path = dir.join(NODE);
            let text = format!(
                "{} is damaged: it must hold 'id <40 hex>' and 'epoch <n>'",
                path.display()
            );
            Err(io::Error::other(text))
        }
    }
}

/// Replaces the node file: after a crash the old one is there or the new one.
pub fn write_node(dir: &Path, node: &Node) -> io::Result<()> {
    replace(&dir.join(NODE), format!("id {}\nepoch {}\n", node.id, node.epoch.0).as_bytes())
}

/// Replaces a file atomically and durably.
pub fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let unfinished = PathBuf::from(format!("{}{UNFINISHED}", path.display()));
    let mut file = File::create(&unfinished)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    super::disk::sync_parent(path)
}

/// What only this node had when it came to follow another history.
pub const DIVERGED: &str = "diverged";
