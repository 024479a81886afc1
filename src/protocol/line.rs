//! The grammar of a line that a person types.
//!
//! Words are separated by blanks. A word that begins with a quote ends at the same quote:
//! `"double"` knows `\"` `\\` `\n` `\r` `\t` `\xHH`, `'single'` knows `\'`. A quote in the middle of a
//! word is an ordinary character, so `it's` needs no quoting. Each word remembers where it stood, so
//! that a command whose last argument is free text can take the rest of the line as it was typed.
//!
//! Telnet's control sequences (RFC 854) are removed, or they would be part of the next command's name.

use super::args::Span;
use super::quoting::unescape;
use crate::error::Failure;

/// A word of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Where its bytes are.
    pub span: Span,
    /// Where it stood in the line, quotes included.
    pub typed: Span,
    /// True if it was quoted: then it is meant literally.
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

/// Appends the meaning of the quoted word at `at` to `bytes`. Returns where the word ends.
fn unquote(bytes: &mut Vec<u8>, at: usize, line_len: usize) -> Result<usize, Failure> {
    let quote = bytes[at];
    let mut at = at + 1;
    while at < line_len {
        let (meaning, len) = match (&bytes[at..line_len], quote) {
            ([byte, ..], _) if *byte == quote => return Ok(at + 1),
            ([b'\\', b'\'', ..], b'\'') => (b'\'', 2),
            ([b'\\', rest @ ..], b'"') => {
                unescape(rest).map_or((b'\\', 1), |(meaning, len)| (meaning, len + 1))
            }
            (rest, _) => (rest[0], 1),
        };
        bytes.push(meaning);
        at += len;
    }
    Err(UNBALANCED)
}

/// The byte that begins a control sequence, and what may follow it.
const IAC: u8 = 255;
const DONT: u8 = 254;
const DO: u8 = 253;
const WONT: u8 = 252;
const WILL: u8 = 251;
const SUBNEGOTIATION: u8 = 250;
const SUBNEGOTIATION_END: u8 = 240;

/// The length of the control sequence that `input` begins with, if all of it is there. Ctrl-C comes
/// without a line end, and must be answered before one is typed.
pub(super) fn leading_control(input: &[u8]) -> Option<usize> {
    match *input {
        [IAC, WILL..=DONT, _, ..] => Some(3),
        [IAC, SUBNEGOTIATION, ..] => None,
        [IAC, SUBNEGOTIATION_END..=DONT, ..] if input[1] < WILL => Some(2),
        _ => None,
    }
}

/// Removes control sequences in place. The options that they ask for are refused, in `answers`.
///
/// To ignore them is not enough: Ctrl-C sends `IAC IP IAC DO TIMING-MARK`, and then telnet discards all
/// that it receives until that is answered (RFC 860).
pub(super) fn strip_telnet(line: &mut Vec<u8>, answers: &mut Vec<u8>) {
    if !line.contains(&IAC) {
        return;
    }
    let (mut kept, mut rest) = (Vec::new(), &line[..]);
    while let Some(at) = rest.iter().position(|&byte| byte == IAC) {
        kept.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let len = match *rest {
            // Sent twice, it is a byte like any other.
            [_, IAC, ..] => {
                kept.push(IAC);
                2
            }
            [_, SUBNEGOTIATION, ..] => subnegotiation_len(rest).unwrap_or(1),
            [_, request @ WILL..=DONT, option, ..] => {
                match request {
                    DO => answers.extend_from_slice(&[IAC, WONT, option]),
                    WILL => answers.extend_from_slice(&[IAC, DONT, option]),
                    _ => {}
                }
                3
            }
            [_, SUBNEGOTIATION_END..=DONT, ..] => 2,
            // It begins no sequence, so only the byte itself is removed.
            _ => 1,
        };
        rest = &rest[len..];
    }
    kept.extend_from_slice(rest);
    *line = kept;
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

/// The length of the first line of `input`, and the length of its end: LF (a CR before it is a blank), or
/// CR NUL, which is Enter to a telnet in character mode.
pub(super) fn line_end(input: &[u8]) -> Option<(usize, usize)> {
    let feed = input.iter().position(|&byte| byte == b'\n');
    let line = &input[..feed.unwrap_or(input.len())];
    let enter = line.windows(2).position(|pair| pair == b"\r\0");
    enter.map(|at| (at, 2)).or(feed.map(|at| (at, 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::quote;
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
