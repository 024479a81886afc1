//! Takes requests, one at a time, from the bytes received so far.
//!
//! The decoder keeps its place in an unfinished request, so a request that arrives in pieces is not read
//! again from its start for each piece: a million arguments in pieces of 64 KiB would take minutes.

use super::args::{Args, Span};
use super::line::{self, Word};
use crate::error::Failure;

/// The longest line of text, without its end.
pub const LINE_LEN_MAX: usize = 64 << 10;
/// The longest line that announces a length.
const HEADER_LEN_MAX: usize = 64 << 10;
/// Before AUTH. No command that is allowed then needs more.
const UNAUTHENTICATED_ARGS_MAX: i64 = 10;
const UNAUTHENTICATED_BULK_MAX: i64 = 16 << 10;

/// Limits on a client's requests.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest argument, in bytes.
    pub bulk_len_max: u64,
    /// True if the client still has to authenticate: then requests must be small.
    pub unauthenticated: bool,
}

/// The next thing in the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// No whole request yet.
    NeedMore,
    /// A RESP request of this many bytes; see [`Decoder::args`].
    Resp(usize),
    /// A line of this many bytes with at least one word; see [`Decoder::words`].
    Text(usize),
    /// This many bytes without a request.
    Skip(usize),
    /// A line of this many bytes that cannot be parsed. The connection goes on.
    BadLine(usize, Failure),
    /// The framing is lost: answer this and close.
    Fatal(Failure),
}

/// Where in a request the decoder is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before its first byte.
    #[default]
    Start,
    /// In an array; so many arguments are missing.
    Array(i64),
    /// In an array; so many arguments are missing, and the next has this length.
    Bulk(i64, usize),
    /// In a line that is too long, up to its end.
    Overlong,
}

/// The decoder of one connection.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    /// Bytes of the unfinished request that have been parsed.
    at: usize,
    spans: Vec<Span>,
    words: Vec<Word>,
    /// A line and after it the meaning of its quoted words. The words' spans point here.
    line: Vec<u8>,
    /// Refusals that telnet waits for before it shows anything again.
    telnet_answers: Vec<u8>,
}

impl Decoder {
    /// Parses `input`, which begins where the last request ended. After [`Step::NeedMore`] it is the same
    /// input, grown.
    pub fn step(&mut self, input: &[u8], limits: Limits) -> Step {
        if self.state == State::Start {
            self.spans.clear();
            self.at = 0;
            match input.first() {
                None => return Step::NeedMore,
                Some(b'*') => {}
                Some(_) => return self.take_line(input),
            }
        }
        if self.state == State::Overlong {
            return self.skip_line(input);
        }
        match self.array(input, limits) {
            Ok(Some(step)) => {
                self.state = State::Start;
                step
            }
            Ok(None) => Step::NeedMore,
            Err(failure) => Step::Fatal(failure),
        }
    }

    /// The arguments of the RESP request just found at the start of `input`.
    pub fn args<'a>(&'a self, input: &'a [u8]) -> Args<'a> {
        Args::new(input, &self.spans)
    }

    /// The bytes that the words of the line just found point into.
    pub fn line(&self) -> &[u8] {
        &self.line
    }

    /// The words of the line just found.
    pub fn words(&self) -> &[Word] {
        &self.words
    }

    /// The arguments of the line just found: one for each of `spans`, which point into the line.
    pub fn line_args<'a>(&'a self, spans: &'a [Span]) -> Args<'a> {
        Args::new(&self.line, spans)
    }

    /// Bytes to send before the reply to what was just found, if it held telnet's control sequences.
    pub fn take_telnet_answers(&mut self) -> Option<Vec<u8>> {
        (!self.telnet_answers.is_empty()).then(|| std::mem::take(&mut self.telnet_answers))
    }

    /// Bytes that the decoder holds beside the input. They count as the client's memory.
    pub fn allocated_bytes(&self) -> usize {
        self.spans.capacity() * size_of::<Span>()
            + self.words.capacity() * size_of::<Word>()
            + self.line.capacity()
            + self.telnet_answers.capacity()
    }

    /// Frees what an unusually large request needed. Called between requests: the last one's arguments are
    /// gone afterwards.
    pub fn shrink(&mut self) {
        const KEEP_MAX: usize = 16 << 10;
        if self.allocated_bytes() <= KEEP_MAX {
            return;
        }
        if self.state == State::Start {
            self.spans = Vec::new();
        }
        self.words = Vec::new();
        self.line = Vec::new();
    }

    /// `*<n>␍␊` and then n times `$<len>␍␊<bytes>␍␊`. As in Redis 7, the line end after the bytes is not
    /// checked, and n ≤ 0 is not a request.
    fn array(&mut self, input: &[u8], limits: Limits) -> Result<Option<Step>, Failure> {
        loop {
            match self.state {
                State::Start | State::Overlong => {
                    let Some(line) = header(&input[self.at..], "mbulk")? else { return Ok(None) };
                    let count = integer(&line[1..])
                        .filter(|count| *count <= i64::from(i32::MAX))
                        .ok_or(INVALID_MULTIBULK)?;
                    if limits.unauthenticated && count > UNAUTHENTICATED_ARGS_MAX {
                        return Err(UNAUTHENTICATED_MULTIBULK);
                    }
                    self.at += line.len() + 2;
                    self.state = State::Array(count);
                    if count <= 0 {
                        return Ok(Some(Step::Skip(self.at)));
                    }
                }
                State::Array(0) => return Ok(Some(Step::Resp(self.at))),
                State::Array(missing) => {
                    let Some(line) = header(&input[self.at..], "bulk")? else { return Ok(None) };
                    if line.first() != Some(&b'$') {
                        return Err(expected_dollar(line));
                    }
                    let len = integer(&line[1..])
                        .filter(|len| *len >= 0 && *len as u64 <= limits.bulk_len_max)
                        .ok_or(INVALID_BULK)?;
                    if limits.unauthenticated && len > UNAUTHENTICATED_BULK_MAX {
                        return Err(UNAUTHENTICATED_BULK);
                    }
                    self.at += line.len() + 2;
                    self.state = State::Bulk(missing, len as usize);
                }
                State::Bulk(missing, len) => {
                    if input.len() - self.at < len + 2 {
                        return Ok(None);
                    }
                    self.spans.push(Span { start: self.at, end: self.at + len });
                    self.at += len + 2;
                    self.state = State::Array(missing - 1);
                }
            }
        }
    }

    fn take_line(&mut self, input: &[u8]) -> Step {
        if let Some(len) = line::leading_control(input) {
            line::strip_telnet(&mut input[..len].to_vec(), &mut self.telnet_answers);
            return Step::Skip(len);
        }
        let searched = &input[..input.len().min(LINE_LEN_MAX + 2)];
        let Some((len, end)) = line::line_end(searched) else {
            if input.len() <= LINE_LEN_MAX + 1 {
                return Step::NeedMore;
            }
            self.state = State::Overlong;
            let text = "ERR line too long: at most 65536 bytes; longer values need a RESP client";
            return Step::BadLine(without_last_cr(searched), Failure::fixed(text));
        };
        self.line.clear();
        self.line.extend_from_slice(&input[..len]);
        line::strip_telnet(&mut self.line, &mut self.telnet_answers);
        self.words.clear();
        match line::split(&mut self.line, &mut self.words) {
            Err(failure) => Step::BadLine(len + end, failure),
            Ok(()) if self.words.is_empty() => Step::Skip(len + end),
            Ok(()) => Step::Text(len + end),
        }
    }

    fn skip_line(&mut self, input: &[u8]) -> Step {
        if let Some((len, end)) = line::line_end(input) {
            self.state = State::Start;
            return Step::Skip(len + end);
        }
        match without_last_cr(input) {
            0 => Step::NeedMore,
            len => Step::Skip(len),
        }
    }
}

/// The length without a CR at the end: a NUL may follow it, and then the two are the end of the line.
fn without_last_cr(line: &[u8]) -> usize {
    line.len() - usize::from(line.ends_with(b"\r"))
}

const INVALID_MULTIBULK: Failure = Failure::fixed("ERR Protocol error: invalid multibulk length");
const INVALID_BULK: Failure = Failure::fixed("ERR Protocol error: invalid bulk length");
const UNAUTHENTICATED_MULTIBULK: Failure =
    Failure::fixed("ERR Protocol error: unauthenticated multibulk length");
const UNAUTHENTICATED_BULK: Failure =
    Failure::fixed("ERR Protocol error: unauthenticated bulk length");

fn expected_dollar(line: &[u8]) -> Failure {
    let got = char::from(line.first().copied().unwrap_or(b'\r'));
    Failure::new(format!("ERR Protocol error: expected '$', got '{got}'"))
}

/// The line at the start of `input` without its end, if all of it is there.
fn header<'a>(input: &'a [u8], what: &str) -> Result<Option<&'a [u8]>, Failure> {
    // As in Redis, the line ends at the first CR, and the byte after it is not checked.
    let searched = &input[..input.len().min(HEADER_LEN_MAX)];
    match searched.iter().position(|&byte| byte == b'\r') {
        Some(len) if len + 1 < input.len() => Ok(Some(&input[..len])),
        None if input.len() >= HEADER_LEN_MAX => {
            Err(Failure::new(format!("ERR Protocol error: too big {what} count string")))
        }
        _ => Ok(None),
    }
}

/// A decimal number as Redis reads it: no plus sign, no leading zeros, no blanks, within 64 bits.
pub fn integer(digits: &[u8]) -> Option<i64> {
    let (negative, magnitude) = match digits {
        [b'-', rest @ ..] => (true, rest),
        all => (false, all),
    };
    match magnitude {
        [b'0'] => return (!negative).then_some(0),
        [b'1'..=b'9', ..] if magnitude.len() <= 19 => {}
        _ => return None,
    }
    let mut value: u64 = 0;
    for byte in magnitude {
        if !byte.is_ascii_digit() {
            return None;
        }
        // Nineteen digits fit in 64 bits without a sign.
        value = value * 10 + u64::from(byte - b'0');
    }
    if negative { 0i64.checked_sub_unsigned(value) } else { i64::try_from(value).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { bulk_len_max: 1 << 20, unauthenticated: false };

    /// Decodes all of `input`, given in pieces of `piece` bytes, to a list of what was found.
    fn decode(input: &[u8], piece: usize, limits: Limits) -> Vec<String> {
        let (mut decoder, mut buffer, mut found) = (Decoder::default(), Vec::new(), Vec::new());
        for bytes in input.chunks(piece.max(1)) {
            buffer.extend_from_slice(bytes);
            loop {
                let step = decoder.step(&buffer, limits);
                let used = match step {
                    Step::NeedMore => break,
                    Step::Fatal(failure) => {
                        found.push(failure.to_string());
                        return found;
                    }
                    Step::Resp(used) => {
                        let args = decoder.args(&buffer);
                        found.push(
                            args.from(0).map(crate::protocol::quote).collect::<Vec<_>>().join(" "),
                        );
                        used
                    }
                    Step::Text(used) => {
                        let spans: Vec<Span> = decoder.words().iter().map(|w| w.span).collect();
                        let args = decoder.line_args(&spans);
                        found.push(
                            args.from(0).map(crate::protocol::quote).collect::<Vec<_>>().join(" "),
                        );
                        used
                    }
                    Step::BadLine(used, failure) => {
                        found.push(failure.to_string());
                        used
                    }
                    Step::Skip(used) => used,
                };
                buffer.drain(..used);
            }
        }
        found
    }

    #[test]
    fn requests_of_both_kinds_follow_one_another() {
        let input = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n\r\nSET k \"a b\"\r\n*0\r\n*-1\r\nPING\n*1\r\n$0\r\n\r\n";
        let expected = ["\"GET\" \"k\"", "\"SET\" \"k\" \"a b\"", "\"PING\"", "\"\""];
        for piece in 1..input.len() {
            assert_eq!(decode(input, piece, LIMITS), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn bad_framing_is_fatal() {
        let cases = [
            ("*1000000000000000000\r\n", "ERR Protocol error: invalid multibulk length"),
            ("*abc\r\n", "ERR Protocol error: invalid multibulk length"),
            ("*1\r\n$-2\r\n", "ERR Protocol error: invalid bulk length"),
            ("*1\r\n$1000000000000000000\r\n", "ERR Protocol error: invalid bulk length"),
            ("*1\r\n*1\r\n", "ERR Protocol error: expected '$', got '*'"),
        ];
        for (input, error) in cases {
            assert_eq!(decode(input.as_bytes(), 1, LIMITS), [error], "{input:?}");
        }
        let endless = vec![b'1'; HEADER_LEN_MAX + 1];
        let input = [b"*", &endless[..]].concat();
        assert_eq!(
            decode(&input, 4096, LIMITS),
            ["ERR Protocol error: too big mbulk count string"]
        );
    }

    #[test]
    fn before_auth_requests_must_be_small() {
        let limits = Limits { unauthenticated: true, ..LIMITS };
        assert_eq!(decode(b"*11\r\n", 9, limits), [UNAUTHENTICATED_MULTIBULK.text()]);
        assert_eq!(decode(b"*1\r\n$16385\r\n", 99, limits), [UNAUTHENTICATED_BULK.text()]);
    }

    #[test]
    fn an_overlong_line_is_skipped_to_its_end() {
        let mut input = vec![b'x'; 3 * LINE_LEN_MAX];
        input.extend_from_slice(b"\nPING\n");
        for piece in [1000, 70_000, input.len()] {
            let found = decode(&input, piece, LIMITS);
            assert!(found[0].starts_with("ERR line too long"), "{found:?}");
            assert_eq!(found[1..], ["\"PING\""]);
        }
    }

    #[test]
    fn cr_nul_is_enter_wherever_a_read_ends() {
        let input = b"SET k \"a b\"\r\0GET k\r\0\r\0PING\r\nSET k a\xff\xffb\r\0";
        let expected =
            ["\"SET\" \"k\" \"a b\"", "\"GET\" \"k\"", "\"PING\"", "\"SET\" \"k\" \"a\\xffb\""];
        for piece in 1..input.len() {
            assert_eq!(decode(input, piece, LIMITS), expected, "in pieces of {piece}");
        }
        let overlong = [&vec![b'x'; LINE_LEN_MAX + 1][..], b"\r\0PING\r\0"].concat();
        for piece in [1000, LINE_LEN_MAX + 1, LINE_LEN_MAX + 2, overlong.len()] {
            assert_eq!(decode(&overlong, piece, LIMITS)[1..], ["\"PING\""], "in pieces of {piece}");
        }
    }

    #[test]
    fn integers_as_redis_reads_them() {
        assert_eq!(integer(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(integer(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(integer(b"0"), Some(0));
        let bad = ["", "-", "+1", "01", "-0", " 1", "1 ", "1.0", "9223372036854775808", "0x1"];
        for digits in bad {
            assert_eq!(integer(digits.as_bytes()), None, "{digits:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            input in prop::collection::vec(
                prop::sample::select(b"*$-0123\r\n\0\"'\\x ab\xff\xfd\xfa\xf0".to_vec()), 0..120),
            piece in 1usize..9,
        ) {
            prop_assert_eq!(decode(&input, piece, LIMITS), decode(&input, input.len(), LIMITS));
        }
    }
}
