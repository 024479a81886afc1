//! One server per data directory. The directory itself is locked, because the file `LOCK` is only a name that can be
//! removed or replaced. `LOCK` is locked as well: some network file systems lock no directories. The log's mark is
//! the third: a copy of the directory may share the log's files by hard links. The kernel releases all three however
//! the process ends.

use super::disk::{leads_to, make_dir, require_same};
use super::mark::MARK;
use crate::file_error::{about, named};
use crate::replace::sync_parent;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LOCK: &str = "LOCK";
/// Looks at the kernel's list of locks for the one that holds the directory.
const LOOKS_MAX: u32 = 8;
/// A tool that calls [`holder`] has a lock for some microseconds, or until it is scheduled again.
const TRY_FOR: Duration = Duration::from_secs(2);

/// A data directory that this process holds for as long as this value lives.
#[derive(Debug)]
pub struct DirLock {
    path: PathBuf,
    directory: File,
    _mark: File,
    _file: File,
}

impl DirLock {
    /// Makes the directory if it is missing, and locks it against a second server.
    pub fn hold(dir: &Path) -> io::Result<DirLock> {
        if !dir.is_dir() {
            make_dir(dir)?;
            // Without this, a power cut could take the directory and every synced file in it.
            sync_parent(dir)?;
        }
        let directory = File::open(dir).map_err(named(dir))?;
        match try_hold(&directory) {
            Ok(true) => require_same(dir, &directory)?,
            Ok(false) => return Err(in_use(dir)),
            Err(error) => log::warn!("{}: only its file LOCK is locked: {error}", dir.display()),
        }
        let _mark = hold_file(dir, MARK)?;
        let mut _file = hold_file(dir, LOCK)?;
        let written = _file.set_len(0).and_then(|()| writeln!(_file, "{}", std::process::id()));
        written.map_err(named(&dir.join(LOCK)))?;
        Ok(DirLock { path: dir.into(), directory, _mark, _file })
    }

    /// Fails if the path leads to another directory by now.
    pub fn check(&self) -> io::Result<()> {
        require_same(&self.path, &self.directory)
    }
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
        // The file may have been removed between the two steps.
        if leads_to(&path, &file)? {
            return Ok(file);
        }
    }
}

/// Locks a file or directory; false if another process holds it.
fn try_hold(file: &File) -> io::Result<bool> {
    let began = Instant::now();
    while began.elapsed() < TRY_FOR {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if is_held(file)? => return Ok(false),
            Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(false)
}

/// True if another process holds a lock that excludes all others. Takes a shared lock for a moment.
fn is_held(file: &File) -> io::Result<bool> {
    match file.try_lock_shared() {
        Ok(()) => file.unlock().map(|()| false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn in_use(dir: &Path) -> io::Error {
    let what = format!(
        "another kvstore ({}) is using this directory; stop it first, or give each server a directory of its own \
         with --dir",
        name_holder(dir)
    );
    about(dir, what)
}

/// The process that holds the directory's lock, if one does.
pub fn holder(dir: &Path) -> io::Result<Option<String>> {
    for path in [dir.into(), dir.join(LOCK)] {
        // LOCK may be missing or unreadable; the directory has been asked before.
        let Ok(file) = File::open(path) else { continue };
        if is_held(&file).unwrap_or(false) {
            return Ok(Some(name_holder(dir)));
        }
    }
    Ok(None)
}

/// `process 4711`, from the kernel's list of locks or else from LOCK, which may be another file than the locked one.
fn name_holder(dir: &Path) -> String {
    let of_file = || fs::read_to_string(dir.join(LOCK)).ok()?.trim().parse().ok();
    let process = process_in_list(dir).or_else(of_file);
    process.map_or("an unknown process".to_string(), |process| format!("process {process}"))
}

/// Looks the directory up in /proc/locks: `1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF`
fn process_in_list(dir: &Path) -> Option<u32> {
    let file = fs::metadata(dir).ok()?;
    let (major, minor) = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    let inode = format!("{major:02x}:{minor:02x}:{}", file.ino());
    let holder = |line: &str| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [_, "FLOCK", _, "WRITE", process, of, ..] if of == inode => process.parse().ok(),
        _ => None,
    };
    // A lock of another program that ends between two reads can hide a line, so the list is read again.
    (0..LOOKS_MAX).find_map(|_| kernel_locks().ok()?.lines().find_map(holder))
}

/// The kernel's list of locks, in reads as large as it allows.
fn kernel_locks() -> io::Result<String> {
    let mut list = String::with_capacity(64 << 10);
    File::open("/proc/locks")?.read_to_string(&mut list)?;
    Ok(list)
}
