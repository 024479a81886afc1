//! Replacing a file as a whole: after a crash the old contents are there or the new ones, never a part of either.
//!
//! The new file is written beside the old one, synced and renamed over it; then the directory is synced, so that a
//! power cut cannot undo the rename.

use crate::file_error::named;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Appended to the name of a file that is not finished. The server removes such files of the log at its start.
pub const UNFINISHED: &str = ".tmp";

/// The new contents of a file. Unless [`Replacement::commit`] succeeds, the old file stays.
#[derive(Debug)]
pub struct Replacement {
    path: PathBuf,
    unfinished: PathBuf,
    file: File,
    is_committed: bool,
}

impl Replacement {
    /// Creates the new file beside the old one, as `<path><suffix>`, with these permissions less the umask.
    pub fn begin(path: &Path, suffix: &str, mode: u32) -> io::Result<Replacement> {
        let mut unfinished = OsString::from(path);
        unfinished.push(suffix);
        let unfinished = PathBuf::from(unfinished);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(mode);
        let file = options.open(&unfinished)?;
        Ok(Replacement { path: path.into(), unfinished, file, is_committed: false })
    }

    /// The new file: to be written, or given other permissions.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Makes the new file durable and gives it its name.
    pub fn commit(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.unfinished, &self.path)?;
        self.is_committed = true;
        sync_parent(&self.path)
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.is_committed {
            // The first error is the one to report; a file left over does no harm.
            let _ = fs::remove_file(&self.unfinished);
        }
    }
}

/// Replaces a file atomically and durably.
pub fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let replace = || {
        let mut replacement = Replacement::begin(path, UNFINISHED, 0o666)?;
        replacement.file.write_all(contents)?;
        replacement.commit()
    };
    replace().map_err(named(path))
}

/// Makes a directory's entries durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes the directory's entry for this file or directory durable.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync_dir(parent.unwrap_or(Path::new(".")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_file_stays_until_the_new_one_is_committed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node");
        replace(&path, b"old").unwrap();
        let mut replacement = Replacement::begin(&path, ".new", 0o600).unwrap();
        replacement.file().write_all(b"new").unwrap();
        drop(replacement);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let mut replacement = Replacement::begin(&path, ".new", 0o600).unwrap();
        replacement.file().write_all(b"new").unwrap();
        replacement.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
