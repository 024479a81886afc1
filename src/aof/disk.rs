//! The few calls that the log makes on files, as a trait: a test can lose what was not synced, write short, fail
//! an fsync, or stop at the n-th call.

use crate::file_error::{about, if_there, named};
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The data directory, as far as the running log uses it. Names are relative to it.
pub trait Disk: Debug + Send + Sync {
    /// Creates a file, which must not exist.
    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>>;
    /// Opens a file for writing.
    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>>;
    /// Renames a file, over one that may exist.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// A file's length in bytes.
    fn len(&self, name: &str) -> io::Result<u64>;
    /// The names of everything in the directory.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Makes creations, renames and removals durable.
    fn sync_dir(&self) -> io::Result<()>;
}

/// A file that is written at offsets of the caller's choice: a failed or short write can be repeated without
/// guessing where the file ends.
pub trait LogFile: Debug + Send + Sync {
    /// Writes some bytes at this offset; returns how many.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Makes what was written durable (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
    /// Cuts the file off.
    fn set_len(&self, len: u64) -> io::Result<()>;
}

/// A directory of the operating system.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Kept open, so that syncing cannot fail for want of a descriptor.
    handle: File,
}

impl Directory {
    /// The directory at this path, which must exist.
    pub fn open(path: &Path) -> io::Result<Directory> {
        Ok(Directory { path: path.into(), handle: File::open(path)? })
    }

    /// The path of a name in it.
    fn at(&self, name: &str) -> io::Result<PathBuf> {
        require_same(&self.path, &self.handle)?;
        Ok(self.path.join(name))
    }

    fn open_file(&self, name: &str, must_be_new: bool) -> io::Result<Box<dyn LogFile>> {
        let path = self.at(name)?;
        let file = OpenOptions::new().write(true).create_new(must_be_new).open(&path);
        Ok(Box::new(file.map_err(named(&path))?))
    }
}

impl Disk for Directory {
    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        self.open_file(name, true)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        self.open_file(name, false)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.at(from)?, self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.at(name)?;
        fs::remove_file(&path).map_err(named(&path))
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.path.join(name))?.len())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        names(&self.path)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.handle.sync_all()
    }
}

impl LogFile for File {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }
}

/// The names of everything in a directory, except those that are not UTF-8: none of ours is.
pub fn names(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(named(dir))? {
        names.extend(entry.map_err(named(dir))?.file_name().into_string());
    }
    Ok(names)
}

/// Makes a directory, and those above it, if they are missing.
pub fn make_dir(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => about(path, "a directory should be there: move it away"),
        _ => named(path)(error),
    })
}

/// True if a path still leads to this open file or directory.
pub fn leads_to(path: &Path, file: &File) -> io::Result<bool> {
    let there = if_there(fs::metadata(path)).map_err(named(path))?;
    let Some(there) = there else { return Ok(false) };
    let here = file.metadata()?;
    Ok((there.dev(), there.ino()) == (here.dev(), here.ino()))
}

/// Fails if a path leads to another directory than the one that was opened there.
pub fn require_same(path: &Path, directory: &File) -> io::Result<()> {
    if leads_to(path, directory)? {
        return Ok(());
    }
    Err(about(
        path,
        "this is no longer the directory that this server uses: it was moved or replaced; stop the server, and \
         start it again with --dir DIR",
    ))
}

/// Writes at least one byte at `offset`; returns how many.
pub fn write_some_at(file: &dyn LogFile, bytes: &[u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Writes all of `bytes` at `offset`.
pub fn write_all_at(file: &dyn LogFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = write_some_at(file, bytes, offset)?;
        (bytes, offset) = (&bytes[n..], offset + n as u64);
    }
    Ok(())
}
