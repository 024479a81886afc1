//! What can go wrong with a log: while it runs ([`LogError`]), and when it is read back ([`RecoveryError`]).

use super::mark::MARK;
use crate::file_error;
use crate::store::effect::Seq;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why the log takes no writes, or could not make one safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogError {
    /// Writing failed; it is being tried again.
    Write(String),
    /// Syncing failed; only a restart helps.
    Sync(String),
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Write(error) => write!(f, "cannot write the log: {error}; trying again"),
            LogError::Sync(error) => write!(
                f,
                "cannot sync the log: {error}; what the disk holds is unknown until a restart"
            ),
        }
    }
}

/// Why a directory cannot be recovered.
#[derive(Debug)]
pub enum RecoveryError {
    /// The operating system says no.
    Io(PathBuf, io::Error),
    /// The files are not what was written.
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// Which record should be there.
        seq: Seq,
        /// What is wrong.
        what: String,
    },
    /// The files are whole, but end before a record that was on the disk.
    Lost {
        /// The file that should hold the next record.
        path: PathBuf,
        /// The last record that is there; 0 if none is.
        last: Seq,
        /// The last record that the mark proves.
        synced: Seq,
    },
}

impl RecoveryError {
    /// Adds what the mark proves to damage that begins before it.
    pub(super) fn with_proof(mut self, dir: &Path, synced: Option<Seq>) -> RecoveryError {
        if let RecoveryError::Corrupt { seq, what, .. } = &mut self
            && let Some(synced) = synced.filter(|synced| *synced >= *seq)
        {
            let whole = Seq(seq.0 - 1);
            *what += &format!("; it is whole up to record {whole}, and {}", proof(dir, synced));
        }
        self
    }
}

fn proof(dir: &Path, synced: Seq) -> String {
    format!("{} proves that records up to {synced} were on the disk", dir.join(MARK).display())
}

impl fmt::Display for RecoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoveryError::Io(path, error) => f.write_str(&file_error::describe(path, error)),
            RecoveryError::Corrupt { path, offset, seq, what } => {
                let dir = path.parent().unwrap_or(path).display();
                write!(
                    f,
                    "{}, byte {offset}, record {seq}: {what}. The log is damaged and nothing has been \
                     changed. Either restore a backup, or keep what is before the damage with \
                     'kvstore check {dir} --repair', which first saves what it cuts off",
                    path.display()
                )
            }
            RecoveryError::Lost { path, last, synced } => {
                let dir = path.parent().unwrap_or(path);
                write!(
                    f,
                    "{}: the log ends with record {last}, but {}. Records are lost, unless this is a copy \
                     of a directory that a server was writing; nothing has been changed. Either restore a backup of the whole directory, or accept the loss with \
                     'kvstore check {} --repair', which first saves the old mark",
                    path.display(),
                    proof(dir, *synced),
                    dir.display()
                )
            }
        }
    }
}

impl std::error::Error for RecoveryError {}
