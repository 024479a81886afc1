//! Errors: at start, for the operator ([`ConfigError`]); later, for a client ([`RequestError`]). Each is
//! one line that says where, what is wrong, and what to do.

use crate::error::Failure;
use std::fmt;

/// Why the server does not start. No value is repeated in it: that may be a password.
#[derive(Debug)]
pub struct ConfigError(String);

impl ConfigError {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    /// `at` is the place to change: `--port`, `KVSTORE_PORT`, `/etc/kv.conf:3: port`.
    pub(super) fn at(at: impl fmt::Display, problem: impl fmt::Display) -> Self {
        Self(format!("{at}: {problem}"))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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
