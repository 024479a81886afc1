//! Replies of the server: a decoder of RESP2 and RESP3.
//!
//! ```text
//! *2␍␊$1␍␊a␍␊:7␍␊      Array([Bytes("a"), Int(7)])
//! ```
//!
//! The decoder keeps its place in an unfinished reply, so a long array that arrives in pieces is decoded once.
//! An announced length is never trusted: memory grows with the bytes received. Replies beyond the limits below end
//! the connection.

use crate::protocol::{Input, integer};
use std::io::{self, Read};

/// The longest line: a status, an error or a length.
const LINE_LEN_MAX: usize = 64 << 10;
/// The longest string, the server's own limit.
const STRING_LEN_MAX: usize = 512 << 20;
/// Strings and lines of one reply together.
const REPLY_BYTES_MAX: usize = 1 << 30;
/// Arrays within arrays.
const DEPTH_MAX: usize = 32;
/// The read buffer's first size, and the size up to which it grows for speed only.
const BUFFER_BYTES: (usize, usize) = (4 << 10, 64 << 10);

/// A reply. Types that differ only in their spelling are one variant.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value: any null of RESP2 or RESP3.
    Nil,
    /// An integer.
    Int(i64),
    /// A boolean, only in RESP3.
    Bool(bool),
    /// A floating-point number, only in RESP3.
    Double(f64),
    /// A short text such as `OK`, or a number beyond 64 bits.
    Text(String),
    /// A string of any bytes.
    Bytes(Vec<u8>),
    /// An error. The text begins with its code.
    Error(String),
    /// An array or a set.
    Array(Vec<Value>),
    /// Pairs of key and value, only in RESP3.
    Map(Vec<(Value, Value)>),
    /// A message that answers no command, only in RESP3.
    Push(Vec<Value>),
}

/// The bytes are not RESP, or beyond a limit: the connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(&'static str);

impl From<Malformed> for io::Error {
    fn from(malformed: Malformed) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, malformed.0)
    }
}

/// Decodes the replies of one connection.
#[derive(Debug)]
pub struct Decoder {
    input: Input,
    /// Arrays that are not complete, outermost first.
    open: Vec<Open>,
    /// Bytes of the current reply that have been decoded.
    decoded: usize,
}

/// An array whose elements are still arriving.
#[derive(Debug)]
struct Open {
    kind: u8,
    missing: usize,
    items: Vec<Value>,
}

/// One element at the start of the input.
enum Element {
    Whole(Value),
    /// The beginning of an array of this type and number of elements.
    Begin(u8, usize),
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { input: Input::new(BUFFER_BYTES.0, BUFFER_BYTES.1), open: vec![], decoded: 0 }
    }
}

impl Decoder {
    /// Reads once. Returns the number of bytes; 0 is the end of the stream.
    pub fn read_from(&mut self, stream: &mut impl Read) -> io::Result<usize> {
        let len = stream.read(self.input.room())?;
        self.input.filled(len);
        Ok(len)
    }

    /// True if no byte waits, neither of a whole reply nor of a part.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.input.waiting().is_empty()
    }

    /// The next reply; None if it is not complete yet.
    pub fn next_reply(&mut self) -> Result<Option<Value>, Malformed> {
        while let Some((element, len)) = element(self.input.waiting())? {
            self.input.consume(len);
            self.decoded += len;
            if self.decoded > REPLY_BYTES_MAX {
                return Err(Malformed("a reply is too long"));
            }
            if let Some(reply) = self.place(element)? {
                self.decoded = 0;
                return Ok(Some(reply));
            }
        }
        Ok(None)
    }

    /// Puts an element where it belongs. Returns the reply that it completes.
    fn place(&mut self, element: Element) -> Result<Option<Value>, Malformed> {
        let mut value = match element {
            Element::Begin(_, _) if self.open.len() == DEPTH_MAX => {
                return Err(Malformed("too many arrays within arrays"));
            }
            Element::Begin(kind, missing) if missing > 0 => {
                self.open.push(Open { kind, missing, items: vec![] });
                return Ok(None);
            }
            Element::Begin(b'|', _) => return Ok(None),
            Element::Begin(kind, _) => aggregate(kind, vec![]),
            Element::Whole(value) => value,
        };
        while let Some(top) = self.open.last_mut() {
            top.items.push(value);
            top.missing -= 1;
            if top.missing > 0 {
                return Ok(None);
            }
            let Some(complete) = self.open.pop() else { return Ok(None) };
            // An attribute stands before the value that it is about, and is left out.
            if complete.kind == b'|' {
                return Ok(None);
            }
            value = aggregate(complete.kind, complete.items);
        }
        Ok(Some(value))
    }
}

fn aggregate(kind: u8, items: Vec<Value>) -> Value {
    match kind {
        b'%' => {
            let mut items = items.into_iter();
            Value::Map(std::iter::from_fn(|| items.next().zip(items.next())).collect())
        }
        b'>' => Value::Push(items),
        _ => Value::Array(items),
    }
}

/// The element at the start of `input` and its length in bytes; None if it is not complete.
fn element(input: &[u8]) -> Result<Option<(Element, usize)>, Malformed> {
    let Some(end) = input.iter().take(LINE_LEN_MAX).position(|byte| *byte == b'\n') else {
        let is_over = input.len() >= LINE_LEN_MAX;
        return if is_over { Err(Malformed("a line is too long")) } else { Ok(None) };
    };
    let Some([kind, line @ ..]) = input[..end].strip_suffix(b"\r") else {
        return Err(Malformed("a line has no type or no end"));
    };
    let after = end + 1;
    match kind {
        b'$' | b'!' | b'=' if line != b"-1" => string(*kind, input, after, length(line)?),
        b'*' | b'~' | b'>' | b'%' | b'|' if line != b"-1" => {
            let per_item = if matches!(kind, b'%' | b'|') { 2 } else { 1 };
            let items = length(line)?.checked_mul(per_item);
            // Each element takes more than a byte.
            let items = items.filter(|items| *items <= REPLY_BYTES_MAX).ok_or(BAD_LENGTH)?;
            Ok(Some((Element::Begin(*kind, items), after)))
        }
        _ => Ok(Some((Element::Whole(scalar(*kind, line)?), after))),
    }
}

const BAD_LENGTH: Malformed = Malformed("a length is not a number, or too large");

fn length(digits: &[u8]) -> Result<usize, Malformed> {
    integer(digits).and_then(|len| usize::try_from(len).ok()).ok_or(BAD_LENGTH)
}

/// A string of `len` bytes that begins at `start`.
fn string(
    kind: u8,
    input: &[u8],
    start: usize,
    len: usize,
) -> Result<Option<(Element, usize)>, Malformed> {
    if len > STRING_LEN_MAX {
        return Err(BAD_LENGTH);
    }
    let Some(bytes) = input.get(start..start + len + 2) else { return Ok(None) };
    let bytes = bytes.strip_suffix(b"\r\n").ok_or(Malformed("a string has no end"))?;
    let value = match kind {
        b'!' => Value::Error(lossy(bytes)),
        // `txt:` stands before the text.
        b'=' => Value::Bytes(bytes.get(4..).unwrap_or_default().to_vec()),
        _ => Value::Bytes(bytes.to_vec()),
    };
    Ok(Some((Element::Whole(value), start + len + 2)))
}

/// A reply that is one line.
fn scalar(kind: u8, line: &[u8]) -> Result<Value, Malformed> {
    let text = || lossy(line);
    Ok(match kind {
        b'+' | b'(' => Value::Text(text()),
        b'-' => Value::Error(text()),
        b':' => Value::Int(integer(line).ok_or(Malformed("an integer is not a number"))?),
        b',' => Value::Double(text().parse().map_err(|_| Malformed("a double is not a number"))?),
        b'#' => Value::Bool(line == b"t"),
        b'_' | b'$' | b'*' | b'!' | b'=' | b'~' | b'>' | b'%' | b'|' => Value::Nil,
        _ => return Err(Malformed("a type is unknown")),
    })
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pieces: &[&[u8]]) -> Result<Vec<Value>, Malformed> {
        let (mut decoder, mut replies) = (Decoder::default(), vec![]);
        for piece in pieces {
            let mut rest = *piece;
            while decoder.read_from(&mut rest).expect("a slice can be read") > 0 {}
            while let Some(reply) = decoder.next_reply()? {
                replies.push(reply);
            }
        }
        Ok(replies)
    }

    const ALL_TYPES: &[u8] = b"+OK\r\n-ERR no\r\n:-7\r\n$3\r\na\r\n\r\n$-1\r\n*-1\r\n_\r\n#t\r\n,1.5\r\n\
        (12345678901234567890\r\n=7\r\ntxt:abc\r\n!6\r\nERR no\r\n*0\r\n*2\r\n*1\r\n:1\r\n~1\r\n:2\r\n\
        |1\r\n+a\r\n+b\r\n%1\r\n+k\r\n*1\r\n$0\r\n\r\n>1\r\n+x\r\n";

    fn all_types() -> Vec<Value> {
        let text = |text: &str| Value::Text(text.to_owned());
        let (error, empty) = (Value::Error("ERR no".to_owned()), Value::Bytes(vec![]));
        vec![
            text("OK"),
            error.clone(),
            Value::Int(-7),
            Value::Bytes(b"a\r\n".to_vec()),
            Value::Nil,
            Value::Nil,
            Value::Nil,
            Value::Bool(true),
            Value::Double(1.5),
            text("12345678901234567890"),
            Value::Bytes(b"abc".to_vec()),
            error,
            Value::Array(vec![]),
            Value::Array(vec![
                Value::Array(vec![Value::Int(1)]),
                Value::Array(vec![Value::Int(2)]),
            ]),
            Value::Map(vec![(text("k"), Value::Array(vec![empty]))]),
            Value::Push(vec![text("x")]),
        ]
    }

    #[test]
    fn every_type_is_decoded_wherever_the_bytes_are_cut() {
        for cut in 0..=ALL_TYPES.len() {
            let (head, tail) = ALL_TYPES.split_at(cut);
            assert_eq!(decode(&[head, tail]), Ok(all_types()), "cut at {cut}");
        }
        let single: Vec<&[u8]> = ALL_TYPES.chunks(1).collect();
        assert_eq!(decode(&single), Ok(all_types()));
    }

    #[test]
    fn what_is_no_reply_ends_the_connection() {
        let deep = b"*1\r\n".repeat(DEPTH_MAX + 1);
        let long = [b"+".to_vec(), vec![b'x'; LINE_LEN_MAX]].concat();
        let bad: &[&[u8]] = &[
            b"HTTP/1.1 200 OK\r\n",
            b"\r\n",
            b"+OK\n",
            b":1.5\r\n",
            b"$x\r\n",
            b"$-2\r\n",
            b"$999999999999\r\n",
            b"$1\r\nabc",
            b"%9223372036854775807\r\n",
            &deep,
            &long,
        ];
        for bytes in bad {
            assert!(decode(&[bytes]).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn an_announced_length_takes_no_memory() {
        let mut decoder = Decoder::default();
        let mut bytes: &[u8] = b"*1000000000\r\n$500000000\r\n";
        decoder.read_from(&mut bytes).unwrap();
        assert_eq!(decoder.next_reply(), Ok(None));
        assert_eq!(decoder.open[0].items.capacity(), 0);
        assert!(decoder.input.capacity() <= BUFFER_BYTES.1);
    }
}
