//! The errors of the client library, named by what the caller may do.

use super::token::Token;
use std::fmt;
use std::time::Duration;

/// Why a call returned no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// All connections of the pool stayed in use. Nothing was sent. Shed load, or use a larger pool.
    Exhausted {
        /// How long the call waited.
        waited: Duration,
        /// Calls that still wait.
        waiting: usize,
    },
    /// No node answered until the deadline, and the call changed nothing. Repeat it later.
    Unavailable(String),
    /// The command was sent, and the client does not know whether it was executed. Read the key, then decide.
    InDoubt(String),
    /// The server refused the command with this text, and did not execute it. Correct the call; see
    /// [`Error::is_retryable`] for the refusals that pass.
    Refused(String),
    /// The write of this token is not in the leader's history: a failover lost it. Write again if it is still wanted.
    Lost(Token),
    /// The reply is of another type than the one asked for. The command was executed.
    Unexpected(String),
    /// The call or a setting makes no sense. Nothing was sent.
    Invalid(String),
}

impl Error {
    /// True if the same call may succeed later, and repeating it cannot do anything twice.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Exhausted { .. } | Error::Unavailable(_) => true,
            // The server says so of itself: it cannot execute the command now.
            Error::Refused(text) => {
                matches!(code(text), "READONLY" | "LOADING" | "MASTERDOWN" | "STALE" | "NOREPLICAS")
                    || matches!(code(text), "OOM" | "MISCONF" | "INDOUBT")
            }
            // A repeated write could undo a newer value of another client.
            Error::InDoubt(_) => false,
            // The write is gone, or the call itself is wrong: a repetition has the same result.
            Error::Lost(_) | Error::Unexpected(_) | Error::Invalid(_) => false,
        }
    }

    /// True if the command may have been executed.
    pub fn may_be_executed(&self) -> bool {
        matches!(self, Error::InDoubt(_) | Error::Unexpected(_))
    }
}

/// The first word of an error reply, by which errors are told apart.
pub(super) fn code(text: &str) -> &str {
    text.split(' ').next().unwrap_or_default()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Exhausted { waited, waiting } => write!(
                f,
                "all connections of the pool were in use for {} ms; so many calls still wait for one: {waiting}",
                waited.as_millis()
            ),
            Error::Unavailable(why) => write!(f, "no node answered: {why}"),
            Error::InDoubt(why) => write!(f, "the command may have been executed: {why}"),
            Error::Refused(text) => write!(f, "the server refused: {text}"),
            Error::Lost(token) => write!(f, "a failover lost the write {token}"),
            Error::Unexpected(what) => write!(f, "unexpected reply: {what}"),
            Error::Invalid(what) => write!(f, "invalid call: {what}"),
        }
    }
}

impl std::error::Error for Error {}
