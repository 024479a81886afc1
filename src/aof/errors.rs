//! Errors of a log: while it runs ([`LogError`]), while it is compacted ([`CompactError`]), and when
//! it is read back ([`RecoveryError`]).

use super::mark::MARK;
use crate::file_error::named;
use crate::store::effect::Seq;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why the log takes no writes, or could not make one safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogError {
    /// Writing failed. The sync thread repeats it.
    Write(String),
    /// Syncing failed. Only a restart helps.
    Sync(String),
}

impl LogError {
    /// True if service may resume by itself.
    pub fn is_retried(&self) -> bool {
        matches!(self, LogError::Write(_))
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, error, then) = match self {
            LogError::Write(error) => ("write", error, "trying again"),
            LogError::Sync(error) => {
                ("sync", error, "what the disk holds is unknown until a restart")
            }
        };
        write!(f, "cannot {verb} the log: {error}; {then}")
    }
}

impl Error for LogError {}

/// Why a compaction ended early. The log is whole, and a later attempt may succeed.
#[derive(Debug)]
pub enum CompactError {
    /// The log could not be synced, or a new segment not be begun.
    Log(LogError),
    /// The base could not be written, or the files that it replaces not be removed.
    Files(String),
    /// The server is shutting down.
    ShuttingDown,
}

impl fmt::Display for CompactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompactError::Log(error) => error.fmt(f),
            CompactError::Files(what) => f.write_str(what),
            CompactError::ShuttingDown => f.write_str("the server is shutting down"),
        }
    }
}

impl From<io::Error> for CompactError {
    fn from(error: io::Error) -> Self {
        CompactError::Files(format!("cannot write the base: {error}"))
    }
}

/// Why a directory cannot be recovered. Nothing has been changed in it.
#[derive(Debug)]
pub enum RecoveryError {
    /// The operating system refuses. Once that is mended, a start may succeed.
    Io(io::Error),
    /// The files are not what was written. `kvstore check --repair` can cut the damage off.
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// The offset of the damage.
        offset: u64,
        /// The record that should be there.
        seq: Seq,
        /// The fault.
        what: String,
    },
    /// The files are whole, but end before a record that was on the disk. `kvstore check --repair` accepts that.
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
    /// For `map_err`: an error of the system about this path.
    pub fn at(path: &Path) -> impl Fn(io::Error) -> RecoveryError + Copy + '_ {
        move |error| RecoveryError::Io(named(path)(error))
    }

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

    /// The fault and its place, without the ways out.
    pub fn fault(&self) -> String {
        match self {
            RecoveryError::Io(error) => error.to_string(),
            RecoveryError::Corrupt { path, offset, seq, what } => {
                format!("{}, byte {offset}, record {seq}: {what}", path.display())
            }
            RecoveryError::Lost { path, last, synced } => {
                let proof = proof(path.parent().unwrap_or(path), *synced);
                format!("{}: the log ends with record {last}, but {proof}", path.display())
            }
        }
    }
}

fn proof(dir: &Path, synced: Seq) -> String {
    format!("{} proves that records up to {synced} were on the disk", dir.join(MARK).display())
}

impl fmt::Display for RecoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fault())?;
        match self {
            RecoveryError::Io(_) => Ok(()),
            RecoveryError::Corrupt { path, .. } => {
                let dir = path.parent().unwrap_or(path).display();
                write!(
                    f,
                    ". The log is damaged and nothing has been changed. Either restore a backup, or keep what is \
                     before the damage with 'kvstore check {dir} --repair', which first saves what it cuts off"
                )
            }
            RecoveryError::Lost { path, .. } => {
                let dir = path.parent().unwrap_or(path).display();
                write!(
                    f,
                    ". Records are lost, unless this is a copy of a directory that a server was writing; nothing \
                     has been changed. Either restore a backup of the whole directory, or accept the loss with \
                     'kvstore check {dir} --repair', which first saves the old mark"
                )
            }
        }
    }
}

impl Error for RecoveryError {}

/// Functions that return this name each error of the system by its path.
impl From<io::Error> for RecoveryError {
    fn from(error: io::Error) -> Self {
        RecoveryError::Io(error)
    }
}
