//! The grammar of a line.
//!
//! Words are separated by blanks. A word that begins with a quote ends at the same quote:
//! `"double"` knows `\"` `\\` `\n` `\r` `\t` `\xHH`, `'single'` knows `\'`. A quote in the middle of a
//! word is an ordinary character, so `it's` needs no quoting. Each word remembers where it stood, so
//! that a command whose last argument is free text can take the rest of the line as it was typed.
//!
//! [`quote`] is the inverse: what a reply prints in quotes, a line reads back to the same bytes.

use super::args::Span;
use crate::error::Failure;
use std::fmt::Write;

/// A word of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Where its bytes are.
    pub span: Span,
    /// Where it stood in the line, quotes included.
    pub typed: Span,
    /// Whether it was quoted: then it is meant literally.
    pub quoted: bool,
}

pub(super) const UNBALANCED: Failure = Failure::fixed(
    "ERR unbalanced quotes: a word that begins with a quote must end with it, followed by a blank",
);

/// Splits the line that `bytes` holds into words. The bytes of quoted words are appended to `bytes`.
pub(super) fn split(bytes: &mut Vec<u8>, words: &mut Vec<Word>) -> Result<(), Failure> {
    let line_len = bytes.len();
    let mut at = 0;
    while at < line_len {
        let byte = bytes[at];
        if byte.is_ascii_whitespace() {
            at += 1;
        } else if byte == b'"' || byte == b'\'' {
            let start = bytes.len();
            let end = unquote(bytes, at, line_len)?;
            if end < line_len && !bytes[end].is_ascii_whitespace() {
                return Err(UNBALANCED);
            }
            let span = Span { start, end: bytes.len() };
            words.push(Word { span, typed: Span { start: at, end }, quoted: true });
            at = end;
        } else {
            let rest = &bytes[at..line_len];
            let len = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
            let span = Span { start: at, end: at + len };
            words.push(Word { span, typed: span, quoted: false });
            at += len;
        }
    }
    Ok(())
}

/// Appends the meaning of the quoted word at `at` to `bytes`; returns where the word ends.
fn unquote(bytes: &mut Vec<u8>, at: usize, line_len: usize) -> Result<usize, Failure> {
    let quote = bytes[at];
    let mut at = at + 1;
    while at < line_len {
        let byte = bytes[at];
        if byte == quote {
            return Ok(at + 1);
        }
        let escaped = if byte == b'\\' && at + 1 < line_len {
            escape(quote, &bytes[at + 1..line_len])
        } else {
            None
        };
        let (meaning, len) = escaped.map_or((byte, 1), |(meaning, len)| (meaning, len + 1));
        bytes.push(meaning);
        at += len;
    }
    Err(UNBALANCED)
}

/// What the bytes behind a backslash mean, and how many of them.
fn escape(quote: u8, rest: &[u8]) -> Option<(u8, usize)> {
    if quote == b'\'' {
        return (rest[0] == b'\'').then_some((b'\'', 1));
    }
    Some(match rest[0] {
        b'n' => (b'\n', 1),
        b'r' => (b'\r', 1),
        b't' => (b'\t', 1),
        b'b' => (8, 1),
        b'a' => (7, 1),
        b'x' => match (hex_digit(rest.get(1)), hex_digit(rest.get(2))) {
            (Some(high), Some(low)) => (high << 4 | low, 3),
            _ => (b'x', 1),
        },
        other => (other, 1),
    })
}

fn hex_digit(byte: Option<&u8>) -> Option<u8> {
    char::from(*byte?).to_digit(16).map(|digit| digit as u8)
}

/// Telnet (RFC 854): the byte that begins a control sequence, and what may follow it.
const IAC: u8 = 255;
const DONT: u8 = 254;
const DO: u8 = 253;
const WONT: u8 = 252;
const WILL: u8 = 251;
const SUBNEGOTIATION: u8 = 250;
const SUBNEGOTIATION_END: u8 = 240;

/// The length of the control sequence that `input` begins with, if it is one and is whole. Ctrl-C comes
/// without a line end, and must be answered before one is typed.
pub(super) fn leading_control(input: &[u8]) -> Option<usize> {
    match *input {
        [IAC, WILL..=DONT, _, ..] => Some(3),
        [IAC, SUBNEGOTIATION, ..] => None,
        [IAC, SUBNEGOTIATION_END..=DONT, ..] if input[1] < WILL => Some(2),
        _ => None,
    }
}

/// Removes telnet's control sequences in place: without this they would be part of the next command's
/// name. What they ask for is refused, in `answers`.
///
/// Refusing is not the same as ignoring. Ctrl-C sends `IAC IP IAC DO TIMING-MARK`, and from then on
/// telnet throws away all that it receives until that is answered (RFC 860).
pub(super) fn strip_telnet(line: &mut Vec<u8>, answers: &mut Vec<u8>) {
    if !line.contains(&IAC) {
        return;
    }
    let (mut kept, mut at) = (0, 0);
    while at < line.len() {
        if line[at] != IAC {
            line[kept] = line[at];
            kept += 1;
            at += 1;
            continue;
        }
        at += match line.get(at + 1) {
            // Sent twice, it is a byte like any other.
            Some(&IAC) => {
                line[kept] = IAC;
                kept += 1;
                2
            }
            Some(&SUBNEGOTIATION) => subnegotiation_len(&line[at..]).unwrap_or(1),
            Some(&request @ WILL..=DONT) => {
                let refusal = match request {
                    DO => Some(WONT),
                    WILL => Some(DONT),
                    _ => None,
                };
                if let (Some(refusal), Some(&option)) = (refusal, line.get(at + 2)) {
                    answers.extend_from_slice(&[IAC, refusal, option]);
                }
                3
            }
            Some(SUBNEGOTIATION_END..=DONT) => 2,
            // It begins nothing, so nothing goes with it.
            _ => 1,
        };
    }
    line.truncate(kept);
}

/// The length of the subnegotiation that `rest` begins with, if its end is there.
fn subnegotiation_len(rest: &[u8]) -> Option<usize> {
    let mut at = 2;
    while at + 1 < rest.len() {
        match (rest[at], rest[at + 1]) {
            (IAC, SUBNEGOTIATION_END) => return Some(at + 2),
            // In here, too, the byte is sent twice.
            (IAC, IAC) => at += 2,
            _ => at += 1,
        }
    }
    None
}

/// Where the first line of `input` ends, and how many bytes its end has: LF (a CR before it is a blank), or
/// CR NUL, which is Enter to a telnet in character mode.
pub(super) fn line_end(input: &[u8]) -> Option<(usize, usize)> {
    let feed = input.iter().position(|&byte| byte == b'\n');
    let line = &input[..feed.unwrap_or(input.len())];
    let enter = line.windows(2).position(|pair| pair == b"\r\0");
    enter.map(|at| (at, 2)).or(feed.map(|at| (at, 1)))
}

/// Codes that begin our error replies. A value that begins with one is quoted.
const ERROR_CODES: [&str; 16] = [
    "ERR",
    "WRONGTYPE",
    "NOAUTH",
    "WRONGPASS",
    "NOPROTO",
    "NOPERM",
    "EXECABORT",
    "READONLY",
    "OOM",
    "MISCONF",
    "LOADING",
    "BUSY",
    "BUSYKEY",
    "NOREPLICAS",
    "STALE",
    "MASTERDOWN",
];

/// Whether a value, printed as it is, could be taken for something else or break the line.
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

/// The value in double quotes, on one line; characters of other scripts stay as they are.
pub fn quote(value: &[u8]) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('"');
    push_escaped(&mut quoted, value, &['"', '\\']);
    quoted.push('"');
    quoted
}

/// The text of an error, which may quote what was typed, on one line and with nothing in it that a
/// terminal would act on.
pub(super) fn printable(text: &[u8]) -> String {
    let mut printable = String::with_capacity(text.len());
    push_escaped(&mut printable, text, &[]);
    printable
}

fn push_escaped(text: &mut String, value: &[u8], special: &[char]) {
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                other if other.is_control() => {
                    other.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| push_hex(text, byte));
                }
                other => {
                    text.extend(special.contains(&other).then_some('\\'));
                    text.push(other);
                }
            }
        }
        chunk.invalid().iter().for_each(|&byte| push_hex(text, byte));
    }
}

fn push_hex(text: &mut String, byte: u8) {
    write!(text, "\\x{byte:02x}").expect("writing to a String does not fail");
}

/// An array whose elements are still being written, in text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    pub written: usize,
    pub len: usize,
    /// Blanks before each element's number but the first's.
    pub indent: usize,
    /// A push: its elements are the words of one line.
    pub is_line: bool,
}

impl Level {
    /// Numbers are right-aligned to the last one.
    pub fn digits(&self) -> usize {
        self.len.to_string().len()
    }
}

/// Whether a value would be read back from a line as one word.
pub(super) fn is_word(value: &[u8]) -> bool {
    !value.starts_with(b"'") && !value.iter().any(u8::is_ascii_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(line: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        let (mut bytes, mut words) = (line.to_vec(), Vec::new());
        split(&mut bytes, &mut words)?;
        Ok(words.iter().map(|word| bytes[word.span.start..word.span.end].to_vec()).collect())
    }

    #[test]
    fn words_and_quotes() {
        let cases: &[(&str, &[&[u8]])] = &[
            ("  GET   k ", &[b"GET", b"k"]),
            ("SET k \"a b\"", &[b"SET", b"k", b"a b"]),
            (r#""\"\\\n\r\t\x41\xff\q" ''"#, &[b"\"\\\n\r\tA\xffq", b""]),
            (r"'it\'s \n'", &[br"it's \n"]),
            ("it's 5\" wide", &[b"it's", b"5\"", b"wide"]),
            ("", &[]),
        ];
        for (line, expected) in cases {
            assert_eq!(words(line.as_bytes()).unwrap(), *expected, "{line}");
        }
        for line in ["\"", "'abc", "\"abc\\\"", "\"a\"b", "SET k \"a"] {
            assert_eq!(words(line.as_bytes()), Err(UNBALANCED), "{line}");
        }
    }

    #[test]
    fn telnet_controls_are_skipped() {
        let mut line = b"\xff\xf4\xff\xfd\x06PI\xff\xfa\x18\x00x\xff\xf0NG\xff".to_vec();
        let mut answers = vec![];
        strip_telnet(&mut line, &mut answers);
        assert_eq!(line, b"PING");
        assert_eq!(answers, b"\xff\xfc\x06");
    }

    #[test]
    fn a_byte_255_eats_nothing_but_itself() {
        let cases: &[(&[u8], &[u8])] = &[
            (b"a\xff\xffb", b"a\xffb"),
            (b"a\xff\xff\xff\xff", b"a\xff\xff"),
            (b"a\xffb", b"ab"),
            (b"\xff", b""),
            (b"a\xff\xff\xffb", b"a\xffb"),
            (b"a\xff\xefb", b"a\xefb"),
            (b"a\xff\xfab", b"a\xfab"),
            (b"a\xff\xfa\x18\xff\xff\xf0x\xff\xf0b", b"ab"),
            (b"a\xff\xf1b", b"ab"),
        ];
        for (line, expected) in cases {
            let mut line = line.to_vec();
            strip_telnet(&mut line, &mut vec![]);
            assert_eq!(line, *expected);
        }
    }

    #[test]
    fn telnet_requests_are_refused_and_refusals_are_not_answered() {
        let mut line = b"\xff\xfd\x01\xff\xfb\x1f\xff\xfc\x01\xff\xfe\x1f\xff\xfd".to_vec();
        let mut answers = vec![];
        strip_telnet(&mut line, &mut answers);
        assert_eq!((line, answers), (vec![], b"\xff\xfc\x01\xff\xfe\x1f".to_vec()));
    }

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

    proptest! {
        #[test]
        fn what_is_quoted_reads_back(value in prop::collection::vec(any::<u8>(), 0..64)) {
            let line = quote(&value);
            prop_assert!(!line.contains(['\n', '\r']));
            prop_assert_eq!(words(line.as_bytes()).unwrap(), vec![value]);
        }

        #[test]
        fn any_line_is_split_or_refused(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut line = line;
            strip_telnet(&mut line, &mut vec![]);
            let _ = words(&line);
        }
    }
}
