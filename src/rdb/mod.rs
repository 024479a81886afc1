//! RDB, the binary form in which Redis moves and keeps data: DUMP, RESTORE and the file `dump.rdb`.
//!
//! A value is a byte for its type (0: a string), then its parts. A length takes as few bytes as it needs:
//!
//! | bytes | length |
//! |---|---|
//! | `00nnnnnn` | n, up to 63 |
//! | `01nnnnnn nnnnnnnn` | n, up to 16,383 |
//! | `0x80` and 4 bytes, `0x81` and 8 bytes | these, most significant first |
//! | `11000000`, `11000001`, `11000010` | no length: a string that is the decimal number in the next 1, 2 or 4 bytes |
//! | `11000011` | no length: a string in `lzf` form; its length in that form, its length, the bytes follow |
//!
//! A string is its length and its bytes, or one of the last two rows. All other numbers are least significant first.
//!
//! - `crc64` is the checksum, `lzf` the compression.
//! - `file` goes through a whole file; `other` skips values of types that this server does not have.
//!
//! Promised: a length is never trusted for an allocation. Damage is an [`Error`], never a panic.
//!
//! Out of scope: compressing, and writing files.

pub mod crc64;
pub mod file;
pub mod lzf;
pub mod other;

use crc64::crc64;
use std::fmt;
use std::io::{self, ErrorKind, Read};

/// The version that Redis 7.0 writes, and we.
pub const VERSION: u16 = 10;
/// The type of a string.
pub const STRING: u8 = 0;

/// True if strings of this version are in the form above: those of Redis up to 8 (15), and of Valkey 9 (80).
pub fn is_known(version: u16) -> bool {
    matches!(version, 1..=15 | 80)
}

/// Why data in RDB form cannot be read.
#[derive(Debug)]
pub enum Error {
    /// The file cannot be read: an error of the operating system.
    Source(io::Error),
    /// It ends within a value: it is not whole.
    Ends,
    /// It is damaged, or of no form that we know.
    Malformed(&'static str),
    /// A string exceeds the limit: raise it, or leave the key out.
    TooLong,
    /// A value of a type that cannot even be skipped.
    UnknownType(u8),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Source(error) => error.fmt(f),
            Error::Ends => f.write_str("the data ends within a value"),
            Error::Malformed(what) => f.write_str(what),
            Error::TooLong => f.write_str("a string is too long"),
            Error::UnknownType(number) => {
                write!(f, "a value of type {number}, the form of which is not known")
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        match error.kind() {
            ErrorKind::UnexpectedEof => Error::Ends,
            _ => Error::Source(error),
        }
    }
}

/// Appends a string.
pub fn append_string(out: &mut Vec<u8>, value: &[u8]) {
    if let Some(number) = as_int(value) {
        let bytes = number.to_le_bytes();
        match number {
            -0x80..=0x7f => out.extend_from_slice(&[0xc0, bytes[0]]),
            -0x8000..=0x7fff => out.extend_from_slice(&[0xc1, bytes[0], bytes[1]]),
            _ => out.extend([0xc2].into_iter().chain(bytes)),
        }
        return;
    }
    match value.len() {
        len @ 0..0x40 => out.push(len as u8),
        len @ 0x40..0x4000 => out.extend_from_slice(&[0x40 | (len >> 8) as u8, len as u8]),
        len => match u32::try_from(len) {
            Ok(len) => out.extend([0x80].into_iter().chain(len.to_be_bytes())),
            Err(_) => out.extend([0x81].into_iter().chain((len as u64).to_be_bytes())),
        },
    }
    out.extend_from_slice(value);
}

/// The number that a string is, if it has 32 bits and is written in the shortest way.
fn as_int(value: &[u8]) -> Option<i32> {
    /// `-2147483648`
    const LEN_MAX: usize = 11;
    let text = std::str::from_utf8(value).ok().filter(|text| text.len() <= LEN_MAX)?;
    text.parse().ok().filter(|number: &i32| number.to_string() == text)
}

/// The beginning of a string.
enum Head {
    Len(u64),
    Int(i32),
    Compressed,
}

/// Reads data in RDB form, and computes its checksum.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    crc: u64,
    offset: u64,
}

impl<R: Read> Reader<R> {
    /// Reads from here on.
    pub fn new(source: R) -> Reader<R> {
        Reader { source, crc: 0, offset: 0 }
    }

    /// Number of bytes read so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The checksum of the bytes read so far.
    pub fn crc(&self) -> u64 {
        self.crc
    }

    /// The bytes that have not been read.
    pub fn into_source(self) -> R {
        self.source
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.source.read_exact(bytes)?;
        self.passed(bytes);
        Ok(())
    }

    fn passed(&mut self, bytes: &[u8]) {
        self.crc = crc64(self.crc, bytes);
        self.offset += bytes.len() as u64;
    }

    /// The next byte.
    pub fn byte(&mut self) -> Result<u8, Error> {
        Ok(self.array::<1>()?[0])
    }

    /// A length, or another number in the form of one.
    pub fn length(&mut self) -> Result<u64, Error> {
        match self.head()? {
            Head::Len(len) => Ok(len),
            _ => Err(Error::Malformed("a string stands in the place of a length")),
        }
    }

    fn head(&mut self) -> Result<Head, Error> {
        let first = self.byte()?;
        Ok(match first {
            0..0x40 => Head::Len(first.into()),
            0x40..0x80 => Head::Len(u64::from(first & 0x3f) << 8 | u64::from(self.byte()?)),
            0x80 => Head::Len(u32::from_be_bytes(self.array()?).into()),
            0x81 => Head::Len(u64::from_be_bytes(self.array()?)),
            0xc0 => Head::Int(i8::from_le_bytes(self.array()?).into()),
            0xc1 => Head::Int(i16::from_le_bytes(self.array()?).into()),
            0xc2 => Head::Int(i32::from_le_bytes(self.array()?)),
            0xc3 => Head::Compressed,
            _ => return Err(Error::Malformed("a length is damaged")),
        })
    }

    /// A string of at most `len_max` bytes.
    pub fn string(&mut self, len_max: u64) -> Result<Vec<u8>, Error> {
        match self.head()? {
            Head::Len(len) => self.bytes(len, len_max),
            Head::Int(number) => Ok(number.to_string().into_bytes()),
            Head::Compressed => {
                let (packed_len, len) = (self.length()?, self.length()?);
                if len > len_max {
                    return Err(Error::TooLong);
                }
                let packed = self.bytes(packed_len, len_max)?;
                let damaged = Error::Malformed("a compressed string is damaged");
                lzf::expand(&packed, len as usize).ok_or(damaged)
            }
        }
    }

    /// The memory for them grows with the bytes that are there.
    fn bytes(&mut self, len: u64, len_max: u64) -> Result<Vec<u8>, Error> {
        if len > len_max {
            return Err(Error::TooLong);
        }
        let mut bytes = Vec::new();
        self.source.by_ref().take(len).read_to_end(&mut bytes)?;
        self.passed(&bytes);
        if bytes.len() as u64 == len { Ok(bytes) } else { Err(Error::Ends) }
    }

    /// Skips a string of any length.
    pub fn skip_string(&mut self) -> Result<(), Error> {
        let len = match self.head()? {
            Head::Len(len) => len,
            Head::Int(_) => 0,
            Head::Compressed => {
                let packed_len = self.length()?;
                self.length()?;
                packed_len
            }
        };
        self.skip(len)
    }

    /// Skips so many bytes.
    pub fn skip(&mut self, mut len: u64) -> Result<(), Error> {
        let mut scrap = [0; 4096];
        while len > 0 {
            let part = len.min(scrap.len() as u64);
            self.fill(&mut scrap[..part as usize])?;
            len -= part;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        append_string(&mut out, value);
        out
    }

    #[test]
    fn strings_as_redis_writes_them() {
        let table: [(&str, &[u8]); 14] = [
            ("", b"\0"),
            ("Oslo", b"\x04Oslo"),
            ("0", b"\xc0\0"),
            ("-128", b"\xc0\x80"),
            ("128", b"\xc1\x80\0"),
            ("-32768", b"\xc1\0\x80"),
            ("32768", b"\xc2\0\x80\0\0"),
            ("2147483647", b"\xc2\xff\xff\xff\x7f"),
            ("-2147483648", b"\xc2\0\0\0\x80"),
            ("2147483648", b"\x0a2147483648"),
            ("-0", b"\x02-0"),
            ("+1", b"\x02+1"),
            ("01", b"\x0201"),
            (" 1", b"\x02 1"),
        ];
        for (value, bytes) in table {
            assert_eq!(encoded(value.as_bytes()), bytes, "{value:?}");
        }
        assert_eq!(encoded(&[b'x'; 63])[..2], [63, b'x']);
        assert_eq!(encoded(&[b'x'; 64])[..3], [0x40, 64, b'x']);
        assert_eq!(encoded(&[b'x'; 16_383])[..3], [0x7f, 0xff, b'x']);
        assert_eq!(encoded(&[b'x'; 16_384])[..6], [0x80, 0, 0, 0x40, 0, b'x']);
    }

    #[test]
    fn strings_come_back_and_can_be_skipped() {
        let long = [7; 70_000];
        for value in [&b""[..], b"Ada", b"\0\xff\r\n", b"-7", b"300", b"-70000", &long] {
            let bytes = encoded(value);
            let mut reader = Reader::new(&bytes[..]);
            assert_eq!(reader.string(70_000).expect("a string"), value);
            assert_eq!((reader.offset(), reader.crc()), (bytes.len() as u64, crc64(0, &bytes)));
            let mut reader = Reader::new(&bytes[..]);
            reader.skip_string().expect("a string");
            assert_eq!(reader.into_source(), b"");
        }
    }

    #[test]
    fn lengths_are_not_trusted() {
        let read = |bytes: &[u8], len_max| Reader::new(bytes).string(len_max);
        assert!(matches!(
            read(b"\x81\xff\xff\xff\xff\xff\xff\xff\xff", u64::MAX),
            Err(Error::Ends)
        ));
        assert!(matches!(read(b"\x80\xff\xff\xff\xffx", 1 << 20), Err(Error::TooLong)));
        assert!(matches!(read(b"\xc3\x03\x80\xff\xff\xff\xff\0a\x20", 9), Err(Error::TooLong)));
        assert!(matches!(
            read(b"\xc3\x02\x80\xff\xff\xff\xff\0a", u64::MAX),
            Err(Error::Malformed(_))
        ));
        assert!(matches!(read(b"\xc4", 9), Err(Error::Malformed(_))));
        assert!(matches!(Reader::new(&b"\xc0\x01"[..]).length(), Err(Error::Malformed(_))));
        assert_eq!(read(b"\xc3\x05\x11\0a\xe0\x07\0", 17).expect("17 times"), [b'a'; 17]);
    }
}
