//! What can be wrong: at start, for the operator ([`ConfigError`]); later, for a client
//! ([`RequestError`]). Each is one line that says what, where, and what to do.

use crate::error::Failure;
use crate::file_error::describe;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

/// Why the server does not start. `Display` leaves it to the program to put its name in front.
#[derive(Debug)]
pub enum ConfigError {
    /// Something was written that cannot be used: change it where it stands.
    Invalid {
        /// `--port`, `KVSTORE_PORT`, `/etc/kv.conf:3: port`.
        at: String,
        /// What is wrong, without repeating a value: it may be a password.
        problem: String,
    },
    /// A file that was asked for cannot be read: see to the file.
    Unreadable {
        /// What the file is for.
        what: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Other machines could connect without a password: decide whether they may.
    OpenToOthers {
        /// The address at which they could.
        address: IpAddr,
    },
}

impl ConfigError {
    pub(super) fn invalid(at: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid { at: at.into(), problem: problem.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { at, problem } => write!(f, "{at}: {problem}"),
            Self::Unreadable { what, path, error } => {
                write!(f, "cannot read {what} {}", describe(path, error))
            }
            Self::OpenToOthers { address } => write!(
                f,
                "bind {address}: other machines could connect without a password; set one \
                 (--requirepass-file FILE), or say --no-password if all of them may read and \
                 erase everything"
            ),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Why CONFIG SET or CONFIG REWRITE changed nothing. `Display` is the reply to the client.
#[derive(Debug)]
pub enum RequestError {
    /// CONFIG SET: no setting has this name.
    UnknownOption(Vec<u8>),
    /// CONFIG SET: the setting cannot be changed, or not to this value.
    SetFailed {
        /// The setting's name.
        name: String,
        /// Redis's words for what is wrong.
        reason: String,
    },
    /// CONFIG REWRITE: the server was started without a configuration file.
    NoFile,
    /// CONFIG REWRITE: the file could not be understood, or not be replaced.
    RewriteFailed(String),
}

impl RequestError {
    pub(super) fn set(name: &str, reason: impl Into<String>) -> Self {
        Self::SetFailed { name: name.to_string(), reason: reason.into() }
    }
}

const UNKNOWN_OPTION: &str = "ERR Unknown option or number of arguments for CONFIG SET - '";

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownOption(name) => {
                write!(f, "{UNKNOWN_OPTION}{}'", String::from_utf8_lossy(name))
            }
            Self::SetFailed { name, reason } => write!(
                f,
                "ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"
            ),
            Self::NoFile => f.write_str("ERR The server is running without a config file"),
            Self::RewriteFailed(why) => write!(f, "ERR Rewriting config file: {why}"),
        }
    }
}

impl std::error::Error for RequestError {}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Failure {
        match error {
            RequestError::UnknownOption(name) => Failure::quoting(UNKNOWN_OPTION, &name, "'"),
            other => Failure::new(other.to_string()),
        }
    }
}
