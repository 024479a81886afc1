//! Errors: of the start, for the operator ([`ConfigError`]); of CONFIG, for a client (a [`Failure`] in Redis's
//! words). None repeats a value, which may be a password.

use crate::error::Failure;
use std::fmt;

/// The reason why the server does not start, in one line: where, what is wrong, and what to do.
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

/// CONFIG SET: this setting cannot be changed, or not to this value.
pub(crate) fn not_set(name: &str, reason: impl fmt::Display) -> Failure {
    Failure::new(format!(
        "ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"
    ))
}

/// CONFIG REWRITE: the file could not be understood or replaced.
pub(super) fn not_rewritten(reason: impl fmt::Display) -> Failure {
    Failure::new(format!("ERR Rewriting config file: {reason}"))
}
