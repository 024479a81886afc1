//! The names in the data directory, and what is there.

use super::disk::{leads_to, make_dir, require_same, sync_parent};
use super::mark::MARK;
use super::record::Epoch;
use crate::file_error::{about, named};
use crate::random;
use crate::store::effect::Seq;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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

/// A data directory that this process holds, as long as this lives. The kernel lets go of it however the
/// process ends.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    directory: File,
    _mark: File,
    _file: File,
}

impl Lock {
    /// Refuses if the path leads to another directory by now.
    pub fn check(&self) -> io::Result<()> {
        require_same(&self.path, &self.directory)
    }
}

/// Makes the directory if it is not there, and locks it against a second server.
///
/// The directory itself is locked, because the file LOCK is only a name: it can be removed or replaced while
/// a server runs. LOCK is locked as well: it names the process, and some file systems over a network lock
/// no directories. So is the log's mark, for a copy of the directory may share the log's files by hard links.
pub fn lock(dir: &Path) -> io::Result<Lock> {
    if !dir.is_dir() {
        make_dir(dir)?;
        // Files in a directory that a power cut takes are not durable, however often they are synced.
        sync_parent(dir)?;
    }
    let directory = File::open(dir).map_err(named(dir))?;
    match try_hold(&directory) {
        Ok(true) => require_same(dir, &directory)?,
        Ok(false) => return Err(in_use(dir)),
        Err(error) => log::warn!("{}: only its file LOCK is locked: {error}", dir.display()),
    }
    // In a directory of hard links, the mark is the one that the other directory's server writes.
    let _mark = hold_file(dir, MARK)?;
    let mut _file = hold_file(dir, LOCK)?;
    let named_process = _file.set_len(0).and_then(|()| writeln!(_file, "{}", std::process::id()));
    named_process.map_err(named(&dir.join(LOCK)))?;
    Ok(Lock { path: dir.into(), directory, _mark, _file })
}

/// Opens and locks a file of the directory.
fn hold_file(dir: &Path, name: &str) -> io::Result<File> {
    let path = dir.join(name);
    loop {
        let open = OpenOptions::new().create(true).truncate(false).read(true).write(true).clone();
        let file = open.open(&path).map_err(named(&path))?;
        if !try_hold(&file).map_err(named(&path))? {
            return Err(in_use(dir));
        }
        // Between the two steps another start may have seen it removed.
        if leads_to(&path, &file)? {
            return Ok(file);
        }
    }
}

/// Locks a file or directory; false if another process holds it.
fn try_hold(file: &File) -> io::Result<bool> {
    /// A tool that looks ([`holder`]) is in the way for some microseconds, or until it is scheduled again.
    const LOOKS_MAX: Duration = Duration::from_secs(2);
    let began = Instant::now();
    while began.elapsed() < LOOKS_MAX {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if is_held(file)? => return Ok(false),
            Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(false)
}

/// Whether another process holds a lock that excludes all others. Looking takes a shared one for a moment.
fn is_held(file: &File) -> io::Result<bool> {
    match file.try_lock_shared() {
        Ok(()) => file.unlock().map(|()| false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn in_use(dir: &Path) -> io::Error {
    let process = name_holder(dir);
    let what = format!(
        "another kvstore ({process}) is using this directory; stop it first, or give each server a \
         directory of its own with --dir"
    );
    about(dir, what)
}

/// The process that holds the directory's lock, if one does.
pub fn holder(dir: &Path) -> io::Result<Option<String>> {
    for path in [dir.into(), dir.join(LOCK)] {
        // Who may not read LOCK, or finds no file there, has asked the directory before.
        let Ok(file) = File::open(path) else { continue };
        if is_held(&file).unwrap_or(false) {
            return Ok(Some(name_holder(dir)));
        }
    }
    Ok(None)
}

/// `process 4711`: from the kernel's list of locks, for LOCK may be another file than the one that is locked.
fn name_holder(dir: &Path) -> String {
    let of_directory = || {
        let file = fs::metadata(dir).ok()?;
        let (major, minor) = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
        let inode = format!("{major:02x}:{minor:02x}:{}", file.ino());
        // `1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF`
        fs::read_to_string("/proc/locks").ok()?.lines().find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let is_it = words.get(1) == Some(&"FLOCK")
                && words.get(3) == Some(&"WRITE")
                && words.get(5) == Some(&inode.as_str());
            is_it.then(|| words[4].parse().ok())?
        })
    };
    let of_file = || fs::read_to_string(dir.join(LOCK)).ok()?.trim().parse::<u32>().ok();
    match of_directory().or_else(of_file) {
        Some(process) => format!("process {process}"),
        None => "an unknown process".to_string(),
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
    let path = dir.join(NODE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Node { id: random::hex40(), epoch: Epoch(0) });
        }
        Err(error) => return Err(named(&path)(error)),
    };
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_string))
    };
    let epoch = field("epoch").and_then(|digits| digits.parse().ok());
    match (field("id"), epoch) {
        (Some(id), Some(epoch)) if id.len() == 40 => Ok(Node { id, epoch: Epoch(epoch) }),
        _ => Err(about(
            &path,
            "it is damaged: it must hold 'id <40 hex>' and 'epoch <n>'. Restore it from a backup, or remove it: \
             then this node gets a new id",
        )),
    }
}

/// Replaces the node file: after a crash the old one is there or the new one.
pub fn write_node(dir: &Path, node: &Node) -> io::Result<()> {
    replace(&dir.join(NODE), format!("id {}\nepoch {}\n", node.id, node.epoch.0).as_bytes())
}

/// Replaces a file atomically and durably.
pub fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let unfinished = PathBuf::from(format!("{}{UNFINISHED}", path.display()));
    let mut file = File::create(&unfinished).map_err(named(&unfinished))?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&unfinished, path).map_err(named(path))?;
    sync_parent(path)
}

/// What only this node had when it came to follow another history.
pub const DIVERGED: &str = "diverged";
