//! A command on its way to the server, and how often it may be sent.

use super::error::Error;
use super::token::Token;
use crate::resp::{array, bulk, header};
use std::time::Duration;

/// Commands that change nothing, so that a second execution does no harm. Sorted.
///
/// A test compares this list with the server's own: it must have every command that the server flags as
/// read-only, and beside them only [`HARMLESS`].
#[rustfmt::skip]
pub const READS: &[&str] = &[
    "BITCOUNT", "BITFIELD_RO", "BITPOS", "DBSIZE", "DUMP", "EXISTS", "EXPIRETIME", "GET", "GETBIT",
    "GETRANGE", "KEYS", "LCS", "MGET", "PEXPIRETIME", "PTTL", "RANDOMKEY", "SCAN", "STRLEN", "SUBSTR",
    "TOUCH", "TTL", "TYPE",
];

/// Commands about the server that change nothing and that it does not flag as read-only. Sorted.
pub const HARMLESS: &[&str] =
    &["COMMAND", "ECHO", "INFO", "LASTSEQ", "OBJECT", "PING", "ROLE", "TIME", "WAITSEQ"];

/// Commands that change their connection, which the next caller would get. Sorted.
#[rustfmt::skip]
const CONNECTION_BOUND: &[&str] = &[
    "ASKING", "AUTH", "CLIENT", "DISCARD", "EXEC", "HELLO", "MONITOR", "MULTI", "PEER", "PSUBSCRIBE",
    "PSYNC", "PUNSUBSCRIBE", "QUIT", "REPLICATE", "RESET", "SELECT", "SSUBSCRIBE", "SUBSCRIBE",
    "SUNSUBSCRIBE", "SYNC", "UNSUBSCRIBE", "UNWATCH", "WATCH",
];

/// Beyond this the server would refuse it.
const ARGS_MAX: usize = 1 << 20;

/// One command, encoded, with what the retry rules need to know.
#[derive(Clone, Debug)]
pub(super) struct Command {
    bytes: Vec<u8>,
    /// It may be executed twice: it reads, or the caller said so.
    pub is_repeatable: bool,
    /// It changes nothing.
    pub is_read: bool,
    /// Sent before it: WAITSEQ for this token. An error of WAITSEQ is the answer then.
    pub after: Option<(Token, Duration)>,
    /// Sent after it: LASTSEQ, for the token of this command's write.
    pub wants_token: bool,
}

impl Command {
    /// Encodes a command. Fails for one without words, and for one that would change the connection.
    pub fn new(args: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<Command, Error> {
        let mut words = vec![];
        let (mut name, mut count) = (String::new(), 0);
        for arg in args {
            let arg = arg.as_ref();
            if count == 0 {
                name = String::from_utf8_lossy(arg).to_ascii_uppercase();
            }
            bulk(&mut words, arg);
            count += 1;
        }
        if name.is_empty() || count > ARGS_MAX {
            return Err(Error::Invalid(format!("a command of {count} words")));
        }
        if CONNECTION_BOUND.binary_search(&name.as_str()).is_ok() {
            return Err(Error::Invalid(format!(
                "{name} changes the connection, and this one is from a pool"
            )));
        }
        let mut bytes = Vec::with_capacity(words.len() + 16);
        header(&mut bytes, b'*', count);
        bytes.append(&mut words);
        let is_read =
            [READS, HARMLESS].iter().any(|list| list.binary_search(&name.as_str()).is_ok());
        Ok(Command { bytes, is_repeatable: is_read, is_read, after: None, wants_token: false })
    }

    /// Appends the bytes to send.
    pub fn encode(&self, into: &mut Vec<u8>) {
        if let Some((token, wait)) = &self.after {
            array(
                into,
                &[b"WAITSEQ", token.text().as_bytes(), wait.as_millis().to_string().as_bytes()],
            );
        }
        into.extend_from_slice(&self.bytes);
        if self.wants_token {
            array(into, &[b"LASTSEQ"]);
        }
    }

    /// The number of replies that answer it.
    pub fn replies(&self) -> usize {
        1 + usize::from(self.after.is_some()) + usize::from(self.wants_token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_encoded_with_what_goes_along() {
        let mut command = Command::new(["SET", "k", "a\r\n"]).unwrap();
        command.wants_token = true;
        let mut bytes = vec![];
        command.encode(&mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\na\r\n\r\n*1\r\n$7\r\nLASTSEQ\r\n");
        assert_eq!((command.replies(), command.is_repeatable), (2, false));
        assert!(Command::new(["get", "k"]).unwrap().is_repeatable);
    }

    #[test]
    fn what_changes_the_connection_is_refused() {
        assert!(Command::new(["multi"]).is_err());
        assert!(Command::new([""]).is_err());
        assert!(Command::new(Vec::<String>::new()).is_err());
        for list in [READS, HARMLESS, CONNECTION_BOUND] {
            assert!(list.is_sorted(), "{list:?} is searched by halving");
        }
    }
}
