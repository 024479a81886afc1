//! The errors of commands.
//!
//! Client libraries match on the first word of an error (`ERR`, `WRONGTYPE`, `NOAUTH`, …) and some on
//! the whole text, so the texts are Redis 7's where Redis has one.

use std::borrow::Cow;
use std::fmt;

/// The kind of an error, by what the client can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The number of arguments is wrong: correct the call.
    Arity,
    /// The arguments do not fit together: correct the call.
    Syntax,
    /// A password is needed: AUTH, then repeat the call.
    NoAuth,
    /// There is only database 0: use a prefix of keys, or another server.
    DbOutOfRange,
    /// This node follows another one: send the write to the leader.
    ReadOnly,
    /// This node cannot do it now (LOADING, MISCONF, NOREPLICAS, MASTERDOWN, STALE, OOM): repeat the call later.
    Unavailable,
    /// The write ran, and may survive or not (INDOUBT): read before it is repeated.
    InDoubt,
    /// Everything else: the same call will fail again.
    Other,
}

/// An error reply, without the leading `-`. A failed command has changed nothing. The text is bytes, because it
/// may quote what the client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    kind: Kind,
    text: Cow<'static, [u8]>,
}

impl Failure {
    /// An error with a text that is put together; line ends in it are replaced when it is sent.
    pub fn new(text: impl Into<Vec<u8>>) -> Failure {
        Failure { kind: Kind::Other, text: Cow::Owned(text.into()) }
    }

    /// An error with a fixed text.
    pub const fn fixed(text: &'static str) -> Failure {
        Failure { kind: Kind::Other, text: Cow::Borrowed(text.as_bytes()) }
    }

    /// The same text as an error of this kind.
    pub const fn of_kind(mut self, kind: Kind) -> Failure {
        self.kind = kind;
        self
    }

    /// An error that quotes what the client sent: up to a NUL, and without line ends at the error's end,
    /// as Redis does.
    pub fn quoting(before: &str, quoted: &[u8], after: &str) -> Failure {
        let quoted = quoted.split(|&byte| byte == 0).next().unwrap_or_default();
        let mut text = [before.as_bytes(), quoted, after.as_bytes()].concat();
        while text.ends_with(b"\r") || text.ends_with(b"\n") {
            text.pop();
        }
        Failure::new(text)
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// True if the same call to the same node may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.kind == Kind::Unavailable
    }

    /// The text, beginning with its code.
    pub fn bytes(&self) -> &[u8] {
        &self.text
    }

    /// The text for people, beginning with its code.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.text)
    }

    /// The first word, by which clients and `INFO errorstats` tell errors apart.
    pub fn code(&self) -> &str {
        let word = self.text.split(|&byte| byte == b' ').next().unwrap_or_default();
        std::str::from_utf8(word).unwrap_or("ERR")
    }

    /// The error for a call with too few or too many arguments; `command` is the table's name for it.
    pub fn arity(command: &str) -> Failure {
        let text = format!("ERR wrong number of arguments for '{command}' command");
        Failure::new(text).of_kind(Kind::Arity)
    }

    /// The error of subcommands that check their arguments themselves, as in Redis; `container` in upper case.
    pub fn misused(container: &str, subcommand: &[u8]) -> Failure {
        let before = "ERR unknown subcommand or wrong number of arguments for '";
        Failure::quoting(before, subcommand, &format!("'. Try {container} HELP."))
    }

    /// The error for an expiry out of range; `command` is the table's name for it.
    pub fn invalid_expire(command: &str) -> Failure {
        Failure::new(format!("ERR invalid expire time in '{command}' command"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl std::error::Error for Failure {}

/// Options that contradict each other, or unknown ones.
pub const SYNTAX: Failure = Failure::fixed("ERR syntax error").of_kind(Kind::Syntax);
/// An argument, or a stored value, that must be a 64-bit signed integer and is not.
pub const NOT_AN_INTEGER: Failure = Failure::fixed("ERR value is not an integer or out of range");
/// An argument that must be a 32-bit signed integer and is a larger one.
pub const INT_OUT_OF_RANGE: Failure =
    Failure::fixed("ERR value is out of range, value must between -2147483648 and 2147483647");
/// An argument, or a stored value, that must be a number and is not.
pub const NOT_A_FLOAT: Failure = Failure::fixed("ERR value is not a valid float");
/// A result that does not fit in 64 bits.
pub const OVERFLOW: Failure = Failure::fixed("ERR increment or decrement would overflow");
/// A value that would outgrow `proto-max-bulk-len`.
pub const TOO_LONG: Failure =
    Failure::fixed("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
/// SELECT and COPY with a database other than 0.
pub const DB_OUT_OF_RANGE: Failure =
    Failure::fixed("ERR DB index is out of range").of_kind(Kind::DbOutOfRange);
/// RENAME and OBJECT on a key that does not exist.
pub const NO_SUCH_KEY: Failure = Failure::fixed("ERR no such key");
/// A command before AUTH on a server with a password.
pub const NO_AUTH: Failure =
    Failure::fixed("NOAUTH Authentication required.").of_kind(Kind::NoAuth);
/// A client that came when there were `maxclients` already.
pub const TOO_MANY_CLIENTS: Failure = Failure::fixed("ERR max number of clients reached");
/// AUTH with a password on a server that has none.
pub const NO_PASSWORD_SET: Failure = Failure::fixed(
    "ERR AUTH <password> called without any password configured for the default user. Are you sure \
     your configuration is correct?",
);
/// A command that needs the data while it is being loaded.
pub const LOADING: Failure =
    Failure::fixed("LOADING Redis is loading the dataset in memory").of_kind(Kind::Unavailable);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_to_be_repeated() {
        assert_eq!((LOADING.code(), LOADING.is_retryable()), ("LOADING", true));
        assert_eq!((NO_AUTH.code(), NO_AUTH.is_retryable()), ("NOAUTH", false));
        assert_eq!(Failure::arity("get").kind(), Kind::Arity);
        let quoted = Failure::quoting("ERR Syntax error in '", b"a\0b", "'\r\n");
        assert_eq!(
            (quoted.text().as_ref(), quoted.kind()),
            ("ERR Syntax error in 'a'", Kind::Other)
        );
    }
}
