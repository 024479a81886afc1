//! Quotes and backslash escapes: a value on one line, and back.
//!
//! Used by text replies, by the lines that people type, by the configuration file and by MONITOR. What
//! [`quote`] writes, [`unescape`] reads back to the same bytes.

use std::fmt::Write;

/// Which characters are escaped, beside control characters and bytes that are not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escaping {
    /// None.
    Controls,
    /// `"` and `\`: for a value in double quotes.
    Quoted,
    /// Redis's way, which its clients parse: as `Quoted`, and everything that is not ASCII.
    Redis,
}

/// The value in double quotes, on one line. Letters of all scripts stay readable.
pub fn quote(value: &[u8]) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('"');
    escape(&mut quoted, value, Escaping::Quoted);
    quoted.push('"');
    quoted
}

/// Appends a value with escapes, so that it is on one line and a terminal acts on nothing in it.
pub fn escape(text: &mut String, value: &[u8], escaping: Escaping) {
    use Escaping::{Controls, Quoted, Redis};
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            match (character, escaping) {
                ('\n', _) => text.push_str("\\n"),
                ('\r', _) => text.push_str("\\r"),
                ('\t', _) => text.push_str("\\t"),
                ('\x07', Redis) => text.push_str("\\a"),
                ('\x08', Redis) => text.push_str("\\b"),
                ('"' | '\\', Quoted | Redis) => text.extend(['\\', character]),
                (' '..='~', _) => text.push(character),
                (_, Quoted | Controls) if !character.is_control() => text.push(character),
                _ => character.encode_utf8(&mut [0; 4]).bytes().for_each(|it| push_hex(text, it)),
            }
        }
        chunk.invalid().iter().for_each(|&byte| push_hex(text, byte));
    }
}

fn push_hex(text: &mut String, byte: u8) {
    write!(text, "\\x{byte:02x}").expect("writing to a String does not fail");
}

/// The byte that an escape stands for, and the escape's length without its backslash. `rest` is what
/// follows the backslash; None if that is nothing.
pub fn unescape(rest: &[u8]) -> Option<(u8, usize)> {
    let digit = |at: usize| char::from(*rest.get(at)?).to_digit(16).map(|value| value as u8);
    Some(match rest.first()? {
        b'n' => (b'\n', 1),
        b'r' => (b'\r', 1),
        b't' => (b'\t', 1),
        b'b' => (8, 1),
        b'a' => (7, 1),
        b'x' => match (digit(1), digit(2)) {
            (Some(high), Some(low)) => (high << 4 | low, 3),
            _ => (b'x', 1),
        },
        other => (*other, 1),
    })
}

/// Codes that begin our error replies.
#[rustfmt::skip]
const ERROR_CODES: [&str; 16] = [
    "ERR", "WRONGTYPE", "NOAUTH", "WRONGPASS", "NOPROTO", "NOPERM", "EXECABORT", "READONLY",
    "OOM", "MISCONF", "LOADING", "BUSY", "BUSYKEY", "NOREPLICAS", "STALE", "MASTERDOWN",
];

/// True if a value, shown as it is, could be taken for another reply or would break the line.
pub(super) fn needs_quotes(value: &[u8]) -> bool {
    let (Some(&first), Some(&last)) = (value.first(), value.last()) else { return true };
    first == b' '
        || last == b' '
        || first == b'"'
        || matches!(value, b"(nil)" | b"(empty)")
        || looks_like_an_element(value)
        || looks_like_an_error(value)
        // Not only the ASCII ones: U+009B begins a terminal's control sequence, too.
        || std::str::from_utf8(value).map_or(true, |text| text.contains(char::is_control))
}

/// `12) …`
fn looks_like_an_element(value: &[u8]) -> bool {
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
    digits > 0 && value[digits..].starts_with(b") ")
}

fn looks_like_an_error(value: &[u8]) -> bool {
    let word = value.split(|&byte| byte == b' ').next().unwrap_or_default();
    word.first().is_some_and(u8::is_ascii_uppercase)
        && ERROR_CODES.iter().any(|code| code.as_bytes() == word)
}

/// True if a line that holds the value as it is has it as one word.
pub(super) fn is_word(value: &[u8]) -> bool {
    !value.starts_with(b"'") && !value.iter().any(u8::is_ascii_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ambiguous_values_are_quoted() {
        let quoted: &[&[u8]] = &[
            b"",
            b" a",
            b"a ",
            b"a\nb",
            b"\xff",
            b"(nil)",
            b"(empty)",
            b"1) a",
            b"12) ",
            b"\"a\"",
            b"ERR no",
            b"ERR",
            b"WRONGTYPE x",
            b"tab\there",
            b"\xc2\x9b2J",
        ];
        for value in quoted {
            assert!(needs_quotes(value), "{}", quote(value));
        }
        let plain =
            ["hello big world", "OK", "7", "1)", "ERROR", "it's", "größe", "HELLO x", "1.) x"];
        for value in plain {
            assert!(!needs_quotes(value.as_bytes()), "{value}");
        }
    }
}
