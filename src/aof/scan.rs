//! Reading a log file record by record, trusting nothing.
//!
//! One scanner reads segments and bases, for recovery, `kvstore check`, `kvstore log` and followers that catch
//! up. A length in a header is checked against the file's length before memory is allocated for it. Errors of the
//! system name the file.

use super::errors::RecoveryError;
use super::numbers::{LINE_BYTES_MAX, parse_crc};
use super::record::{
    HEADER_LEN_MAX, Header, Position, SEAL_AND_LINE_END, line_len, seal, sealed_part,
};
use crate::file_error::named;
use crate::store::effect::Seq;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// The words that begin the lines of a base's frame.
const FRAME_WORDS: [&[u8]; 4] = [b"#base ", b"#epoch ", b"#members ", b"#end "];

/// Crcs at ends of lines that are tried: only the nearest ones are likely to match.
const NEAREST_MAX: usize = 8;
/// Limit on hashing while looking for records in a damaged end, as a multiple of its length.
const WORK_MAX: usize = 8;

/// A record that is not intact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Offset in the file at which the record begins.
    pub offset: u64,
    /// The record that should be here.
    pub seq: Seq,
    /// The reason, for the operator.
    pub what: &'static str,
    /// True if a torn write can look like this; false for a whole record in the wrong place.
    pub may_be_torn: bool,
}

impl Damage {
    /// The error for damage in this file.
    pub fn of_file(self, path: &Path) -> RecoveryError {
        let Damage { offset, seq, what, .. } = self;
        RecoveryError::Corrupt { path: path.into(), offset, seq, what: what.to_string() }
    }
}

/// The result of reading one record.
#[derive(Debug)]
pub enum Found<'f> {
    /// An intact record: its header and its payload.
    Record(Header, &'f [u8]),
    /// A line of the file's frame (`#base`, `#epoch`, `#members`, `#end`), without its line end.
    Frame(&'f [u8]),
    /// The file ends after a whole record.
    End,
    /// There is something here, but not an intact record.
    Damaged(Damage),
}

/// Reads one file from front to back.
#[derive(Debug)]
pub struct Scanner {
    path: PathBuf,
    file: File,
    file_len: u64,
    /// A window of the file; the next record begins at `start` in it.
    window: Vec<u8>,
    start: usize,
    /// Offset in the file of the window's first byte.
    window_offset: u64,
    /// The last intact record, which the next one must follow. Set by readers of files that state it themselves.
    pub last: Position,
}

impl Scanner {
    /// Starts at the beginning of a file whose first record follows `last`.
    pub fn open(path: &Path, last: Position) -> io::Result<Scanner> {
        Scanner::open_at(path, last, 0)
    }

    /// Starts within a file, at the offset of the record after `last`.
    pub fn open_at(path: &Path, last: Position, offset: u64) -> io::Result<Scanner> {
        let file = File::open(path).map_err(named(path))?;
        let (path, window) = (path.to_path_buf(), Vec::new());
        let mut scanner =
            Scanner { path, file, file_len: 0, window, start: 0, window_offset: offset, last };
        scanner.look_again()?;
        Ok(scanner)
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Offset in the file at which the next record begins.
    pub fn offset(&self) -> u64 {
        self.window_offset + self.start as u64
    }

    /// The file's length when it was opened or last looked at.
    pub fn file_len(&self) -> u64 {
        self.file_len
    }

    /// The error for damage at the next record.
    pub fn corrupt(&self, what: &str) -> RecoveryError {
        let (path, offset, seq) = (self.path.clone(), self.offset(), self.last.next());
        RecoveryError::Corrupt { path, offset, seq, what: what.to_string() }
    }

    /// Rereads the length of a file that is being written, and drops what was read after the last record. Returns
    /// true if the length has changed.
    pub fn look_again(&mut self) -> io::Result<bool> {
        let offset = self.offset();
        let file_len = self.file.metadata().map_err(named(&self.path))?.len();
        if file_len < offset {
            return Err(io::Error::other("the file has become shorter while it was read"));
        }
        self.window.clear();
        (self.start, self.window_offset) = (0, offset);
        self.file.seek(SeekFrom::Start(offset)).map_err(named(&self.path))?;
        Ok(std::mem::replace(&mut self.file_len, file_len) != file_len)
    }

    /// Reads the next record.
    pub fn read_next(&mut self) -> io::Result<Found<'_>> {
        self.fill(HEADER_LEN_MAX)?;
        let rest = &self.window[self.start..];
        if rest.is_empty() {
            return Ok(Found::End);
        }
        if FRAME_WORDS.iter().any(|word| rest.starts_with(word)) {
            return self.frame();
        }
        let Some((header, line_len)) = Header::parse(rest) else {
            return Ok(self.damage("its header is damaged or cut off", true));
        };
        if header.seq != self.last.next() {
            return Ok(
                self.damage("its seq does not follow the one before: records are missing", false)
            );
        }
        if header.epoch < self.last.epoch {
            return Ok(self.damage("its epoch is older than the one before", false));
        }
        if !self.fill_record(&header, line_len)? {
            return Ok(self.damage("its payload is cut off", true));
        }
        let record = &self.window[self.start..self.start + line_len + header.len as usize];
        let (line, payload) = record.split_at(line_len);
        if !header.is_intact(line, payload, self.last.crc) {
            return Ok(self.damage("its checksum is wrong", true));
        }
        Ok(Found::Record(header, self.step_over(&header, line_len)))
    }

    /// Reads the next record without checking its crc; None if it is not whole.
    pub fn read_unchecked(&mut self) -> io::Result<Option<(Header, &[u8])>> {
        self.fill(HEADER_LEN_MAX)?;
        let Some((header, line_len)) = Header::parse(&self.window[self.start..]) else {
            return Ok(None);
        };
        if !self.fill_record(&header, line_len)? {
            return Ok(None);
        }
        Ok(Some((header, self.step_over(&header, line_len))))
    }

    /// Skips the records `first..=upto`, and returns the last one's position; None if one is missing. Their crcs
    /// are not checked, since the record before `first` may be gone.
    pub fn skip_unchecked(&mut self, first: Seq, upto: Seq) -> io::Result<Option<Position>> {
        for expected in first.0..=upto.0 {
            let record = self.read_unchecked()?;
            if record.is_none_or(|(header, _)| header.seq.0 != expected) {
                return Ok(None);
            }
        }
        Ok(Some(self.last))
    }

    /// True if an intact record follows anywhere after the damage, which is then not a torn tail. Reads the rest
    /// of the file into memory.
    pub fn intact_record_follows(&mut self) -> io::Result<bool> {
        let left = usize::try_from(self.file_len - self.offset()).unwrap_or(usize::MAX);
        self.fill(left)?;
        Ok(intact_record_in(&self.window[self.start..], self.last))
    }

    fn frame(&mut self) -> io::Result<Found<'_>> {
        self.fill(LINE_BYTES_MAX)?;
        let rest = &self.window[self.start..];
        let end = rest.iter().take(LINE_BYTES_MAX).position(|&byte| byte == b'\n');
        let Some(end) = end else {
            return Ok(self.damage("a line is cut off", true));
        };
        if !rest[..end].ends_with(b"\r") {
            return Ok(self.damage("a line end is damaged", true));
        }
        let start = self.start;
        self.start += end + 1;
        Ok(Found::Frame(&self.window[start..self.start - 2]))
    }

    fn damage(&self, what: &'static str, may_be_torn: bool) -> Found<'static> {
        Found::Damaged(Damage { offset: self.offset(), seq: self.last.next(), what, may_be_torn })
    }

    /// Fills the window with a whole record; false if the file ends before it does.
    fn fill_record(&mut self, header: &Header, line_len: usize) -> io::Result<bool> {
        if header.len > self.file_len - self.offset() - line_len as u64 {
            return Ok(false);
        }
        self.fill(line_len + header.len as usize)?;
        Ok(true)
    }

    /// Moves on to the next record; returns the payload of the one that was passed.
    fn step_over(&mut self, header: &Header, line_len: usize) -> &[u8] {
        let len = header.len as usize;
        self.last = header.position();
        self.start += line_len + len;
        &self.window[self.start - len..self.start]
    }

    /// Fills the window to `len` bytes from `start` on, or up to the end of the file.
    fn fill(&mut self, len: usize) -> io::Result<()> {
        if self.window.len() - self.start >= len {
            return Ok(());
        }
        self.window_offset += self.start as u64;
        self.window.drain(..self.start);
        self.start = 0;
        let have = self.window.len();
        let left = self.file_len - self.window_offset - have as u64;
        let want = (len.max(CHUNK_BYTES) - have).min(usize::try_from(left).unwrap_or(usize::MAX));
        self.window.resize(have + want, 0);
        self.file.read_exact(&mut self.window[have..]).map_err(named(&self.path))
    }
}

/// True if there is an intact record anywhere in `rest`, which begins with the damaged record after `after`.
///
/// A record can be verified if the crc of the one before it is known. A damaged record's crc is known if its digits
/// survived, and can be computed if only they are damaged; both are tried. Several records may be damaged, so the
/// digits at the ends of the nearest lines are tried, too.
fn intact_record_in(rest: &[u8], after: Position) -> bool {
    let first = crcs_of_first(rest, after.crc);
    let mut nearest: VecDeque<u32> = VecDeque::new();
    // Offset at which a record should begin → crc of its predecessor.
    let mut due: HashMap<usize, u32> = HashMap::new();
    let mut work_left = rest.len().saturating_mul(WORK_MAX);
    for (at, byte) in rest.iter().enumerate().skip(1) {
        match byte {
            // Not only at the start of a line: the line end before it may be damaged.
            b'#' => {
                let record = parse_record(&rest[at..]);
                let Some((header, line, payload)) =
                    record.filter(|(header, ..)| header.seq > after.seq)
                else {
                    continue;
                };
                // A client may have stored data that makes this slow. `true` is the safe answer.
                let Some(left) = work_left.checked_sub(payload.len()) else { return true };
                work_left = left;
                let (sealed, crc) = (sealed_part(line), crc32fast::hash(payload));
                let mut known = first.iter().chain(&nearest).chain(due.get(&at));
                if known.any(|before| seal(*before, sealed, crc) == header.crc) {
                    return true;
                }
                due.insert(at + line.len() + payload.len(), header.crc);
            }
            b'\n' => {
                nearest.extend(crc_at_end(&rest[..=at]));
                nearest.drain(..nearest.len().saturating_sub(NEAREST_MAX));
            }
            _ => {}
        }
    }
    false
}

/// Candidates for the crc of the damaged record at the start of `rest`: any eight digits where its header
/// should be, and the crc computed from its header and payload, in case only its digits are damaged.
fn crcs_of_first(rest: &[u8], before: u32) -> Vec<u32> {
    let head = &rest[..rest.len().min(HEADER_LEN_MAX)];
    let mut crcs: Vec<u32> = head.windows(8).filter_map(parse_crc).collect();
    if let Some(len) = line_len(rest).filter(|len| *len > SEAL_AND_LINE_END) {
        let sealed = sealed_part(&rest[..len]);
        let repaired = Header::parse(&[sealed, b"00000000\r\n"].concat());
        let payload_len = repaired.and_then(|(header, _)| usize::try_from(header.len).ok());
        if let Some(payload) = payload_len.and_then(|payload| rest[len..].get(..payload)) {
            crcs.push(seal(before, sealed, crc32fast::hash(payload)));
        }
    }
    crcs
}

/// The whole record at the start of `bytes`, intact or not: its header, its line and its payload.
fn parse_record(bytes: &[u8]) -> Option<(Header, &[u8], &[u8])> {
    let (header, line_len) = Header::parse(bytes)?;
    let (line, rest) = bytes.split_at(line_len);
    Some((header, line, rest.get(..usize::try_from(header.len).ok()?)?))
}

/// The crc at the end of a line. The rest of the line may be damaged.
fn crc_at_end(line: &[u8]) -> Option<u32> {
    let start = line.len().checked_sub(SEAL_AND_LINE_END)?;
    parse_crc(&line[start..start + 8])
}
