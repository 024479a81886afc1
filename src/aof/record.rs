//! The record: a header line and a payload.
//!
//! ```text
//! #1024 3 1767225600123 33 8f3a1c02␍␊      header
//! *3␍␊$3␍␊SET␍␊$4␍␊name␍␊$3␍␊Ada␍␊         payload
//! ```
//!
//! 1. `#`, which makes the line an annotation to Redis
//! 2. seq: counts records from 1, without gaps
//! 3. epoch: grows by one each time a node becomes leader
//! 4. time: Unix milliseconds, never earlier than the record before
//! 5. length of the payload in bytes; 0 for an epoch's first record
//! 6. crc: 8 hex digits, CRC-32 as zlib's, over three parts: the crc digits of the record before, this header
//!    from `#` up to and with the blank before the crc, and the payload's own CRC-32 as 8 hex digits
//!
//! The payload is a list of effects, or one line about the members of a cluster ([`super::outline`]).
//!
//! So the records form a chain: a flipped bit, a missing record and a swapped record all show, and two logs
//! that agree in one (seq, epoch, crc) have the same past. The payload's own CRC-32, the long part, is computed
//! before the log's mutex is taken. The first record follows the crc 0.

use super::numbers::{Words, hex};
use crate::clock::UnixMillis;
use crate::digits::decimal;
use crate::store::effect::Seq;

/// Grows by one each time a node becomes leader, a restart included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// A place in a history: the last record before it. Two logs can compare theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// That record's number; 0 before the first.
    pub seq: Seq,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its crc, which the next record's crc covers.
    pub crc: u32,
}

impl Position {
    /// The number of the record after it.
    pub fn next(&self) -> Seq {
        Seq(self.seq.0 + 1)
    }

    /// Reads seq, epoch and crc.
    pub fn read(words: &mut Words<'_>) -> Option<Position> {
        let (seq, epoch) = (Seq(words.number()?), Epoch(words.number()?));
        Some(Position { seq, epoch, crc: words.crc()? })
    }
}

/// The place at which writing resumes.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResumePoint {
    /// The last record of the log.
    pub last: Position,
    /// The newest segment's first seq and length; None if writing begins a new segment.
    pub segment: Option<(Seq, u64)>,
}

/// A record's header line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Number of the record.
    pub seq: Seq,
    /// The epoch in which it was written.
    pub epoch: Epoch,
    /// When it was written.
    pub at: UnixMillis,
    /// Bytes of the payload.
    pub len: u64,
    /// Seals this record and all before it.
    pub crc: u32,
}

/// Five numbers of at most 20 digits, blanks, a sign and a line end.
pub const HEADER_LEN_MAX: usize = 112;
/// The longest payload. The settings allow none that is longer, and a follower takes one for damage.
pub const PAYLOAD_BYTES_MAX: u64 = 4 << 30;
/// Eight hex digits and the line end, at the end of a header.
pub const SEAL_AND_LINE_END: usize = 10;

impl Header {
    /// Reads the header at the start of `bytes`; returns it with its line's length, line end included.
    pub fn parse(bytes: &[u8]) -> Option<(Header, usize)> {
        let line_len = line_len(bytes)?;
        let mut words = Words::after(b"#", bytes[..line_len].strip_suffix(b"\r\n")?)?;
        let header = Header {
            seq: Seq(words.number()?),
            epoch: Epoch(words.number()?),
            at: UnixMillis(words.number()?),
            len: words.number()?,
            crc: words.crc()?,
        };
        words.end((header, line_len))
    }

    /// The place after this record.
    pub fn position(&self) -> Position {
        Position { seq: self.seq, epoch: self.epoch, crc: self.crc }
    }

    /// True if the record's line and payload are what was sealed after a record with the crc `before`.
    pub fn is_intact(&self, line: &[u8], payload: &[u8], before: u32) -> bool {
        seal(before, sealed_part(line), crc32fast::hash(payload)) == self.crc
    }
}

/// Appends a header for the record after `last`; returns the new last position. `payload_crc` is the CRC-32 of
/// the payload, which the caller appends next.
pub fn append_header(
    out: &mut Vec<u8>,
    last: Position,
    epoch: Epoch,
    at: UnixMillis,
    len: usize,
    payload_crc: u32,
) -> Position {
    let start = out.len();
    let seq = last.next();
    out.push(b'#');
    for number in [seq.0, epoch.0, at.0, len as u64] {
        out.extend_from_slice(decimal(number, &mut [0; 20]));
        out.push(b' ');
    }
    let crc = seal(last.crc, &out[start..], payload_crc);
    out.extend_from_slice(&hex(crc));
    out.extend_from_slice(b"\r\n");
    Position { seq, epoch, crc }
}

/// A header line without its crc and line end.
pub fn sealed_part(line: &[u8]) -> &[u8] {
    &line[..line.len() - SEAL_AND_LINE_END]
}

/// The crc of `text` between something with the crc `before` and something with the crc `after`.
pub fn seal(before: u32, text: &[u8], after: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&hex(before));
    hasher.update(text);
    hasher.update(&hex(after));
    hasher.finalize()
}

/// The length of the first line with its end, if it is short enough to be a header.
pub fn line_len(bytes: &[u8]) -> Option<usize> {
    let searched = &bytes[..bytes.len().min(HEADER_LEN_MAX)];
    searched.iter().position(|&byte| byte == b'\n').map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: Position = Position { seq: Seq(1023), epoch: Epoch(3), crc: 0xdead_beef };

    fn record(payload: &[u8]) -> (Vec<u8>, Position) {
        let mut bytes = Vec::new();
        let crc = crc32fast::hash(payload);
        let at = UnixMillis(1_767_225_600_123);
        let next = append_header(&mut bytes, LAST, Epoch(3), at, payload.len(), crc);
        bytes.extend_from_slice(payload);
        (bytes, next)
    }

    #[test]
    fn reads_what_it_wrote() {
        let (bytes, next) = record(b"payload");
        let (header, line_len) = Header::parse(&bytes).unwrap();
        assert_eq!((header.seq, header.epoch, header.crc), (next.seq, next.epoch, next.crc));
        assert_eq!((header.seq, header.len), (Seq(1024), 7));
        assert!(header.is_intact(&bytes[..line_len], b"payload", LAST.crc));
        assert!(bytes.starts_with(b"#1024 3 1767225600123 7 "));
    }

    #[test]
    fn every_flipped_bit_shows() {
        let (good, _) = record(b"payload");
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let intact = Header::parse(&bytes).is_some_and(|(header, line_len)| {
                let payload = &bytes[line_len..];
                header.len == payload.len() as u64
                    && header.is_intact(&bytes[..line_len], payload, LAST.crc)
            });
            assert!(!intact, "bit {bit} of {}", String::from_utf8_lossy(&good));
        }
    }

    #[test]
    fn a_record_out_of_its_place_shows() {
        let (bytes, _) = record(b"");
        let (header, line_len) = Header::parse(&bytes).unwrap();
        assert!(!header.is_intact(&bytes[..line_len], b"", LAST.crc ^ 1));
    }
}
