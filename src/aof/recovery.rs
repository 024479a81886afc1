//! Recovery: reads back what the directory holds, and judges all of it before it touches any of it.
//!
//! 1. The newest base is read to its last line.
//! 2. Every segment behind it is read; each record must follow the one before (seq, epoch, crc).
//! 3. The log must reach the record that the mark proves.
//! 4. Only then is anything changed: a torn tail is moved aside, leftovers of a crash are removed.
//!
//! A bad record with nothing intact behind it, in the last segment, is a **torn tail**: the write that a
//! crash cut off. If there is a mark (see [`mark`]), the bad record must also come after it; then it is a
//! torn tail whatever follows it, because a power cut takes what was not synced in any order. It was never
//! acknowledged, at least not as durable; it goes to `quarantine/` and the server starts.
//!
//! Anything else is **corruption**: something that was once whole is damaged or missing. So is a log that is
//! whole but ends before the mark: it has **lost** records. Then the server does not start, because the next
//! write would bury the evidence; it says which file, which byte and which record, and what to do.

use super::base::{Frame, parse_first_line, parse_last_line};
use super::epochs::{self, EpochStart, Epochs};
pub use super::failure::RecoveryError;
use super::files::{self, Listing, base_name, segment_name};
use super::mark;
use super::record::{Epoch, Header, Position, ResumePoint, seal};
use super::scan::{Damage, Found, Scanner};
pub use super::settle::{cut_off, settle};
use crate::clock::UnixMillis;
use crate::loading::Loading;
use crate::store::effect::{Malformed, Seq};
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often progress is reported.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// What was read back.
#[derive(Debug)]
pub struct Recovered {
    /// Where to go on.
    pub end: ResumePoint,
    /// The newest epoch in the log.
    pub epoch: Epoch,
    /// When the last record was written.
    pub at: UnixMillis,
    /// All epochs that are known.
    pub epochs: Epochs,
    /// The base that it began with, if there is one.
    pub base: Option<Frame>,
    /// Records of the log that were read, without the base's.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// The torn tail, if there is one.
    pub torn: Option<Torn>,
    /// The segments that were read.
    pub segments: Vec<Seq>,
    /// Bases that the newest one replaces, and unfinished files.
    pub leftovers: Vec<String>,
}

/// A tail that a crash cut off.
#[derive(Clone, Debug)]
pub struct Torn {
    /// The segment it is in.
    pub segment: Seq,
    /// Where it begins.
    pub damage: Damage,
    /// Its length in bytes.
    pub len: u64,
}

/// Reads a directory and hands over the payload of each record in order. Changes nothing.
pub fn read(
    dir: &Path,
    mut apply: impl FnMut(&[u8]) -> Result<(), Malformed>,
) -> Result<Recovered, RecoveryError> {
    read_each(dir, |record| apply(record.payload).map(|()| Then::GoOn))
}

/// As [`read`], into memory: tells `loading` how far it has come, and stops when that is given up.
pub fn load(
    dir: &Path,
    loading: &Loading,
    mut apply: impl FnMut(&[u8]) -> Result<(), Malformed>,
) -> Result<Recovered, RecoveryError> {
    let total = bytes_to_read(dir).map_err(|error| RecoveryError::Io(dir.into(), error))?;
    loading.begin(total);
    read_from(dir, Some(loading), |record| {
        if loading.is_given_up() {
            return Err(Malformed("the server is shutting down"));
        }
        apply(record.payload).map(|()| Then::GoOn)
    })
}

/// The length of the newest base and of the segments after it.
fn bytes_to_read(dir: &Path) -> io::Result<u64> {
    let listing = files::list(dir)?;
    let base = listing.bases.last().copied();
    let next = Seq(base.unwrap_or_default().0 + 1);
    let from = listing.segments.partition_point(|first| *first <= next).saturating_sub(1);
    let segments = listing.segments[from..].iter().map(|first| segment_name(*first));
    let names = base.map(base_name).into_iter().chain(segments);
    names.map(|name| Ok(fs::metadata(dir.join(name))?.len())).sum()
}

/// A record of the log or of the base, on its way to memory.
#[derive(Debug)]
pub struct Record<'r> {
    /// Its place in the history; for the base's records, that of the base.
    pub seq: Seq,
    /// Its epoch.
    pub epoch: Epoch,
    /// When it was written.
    pub at: UnixMillis,
    /// Its effects.
    pub payload: &'r [u8],
    /// Whether it is part of the base.
    pub of_base: bool,
}

/// What to do behind a look at a record. A base is always read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Take it, and read on.
    GoOn,
    /// Take it, as the last one.
    StopAfter,
    /// The record before was the last one.
    StopBefore,
}

/// As [`read`], with more about each record, and with a way to stop: what is behind the last record is
/// not looked at, damaged, lost or not. Whether the log then reaches the base's end seq is the caller's to
/// check.
pub fn read_each(
    dir: &Path,
    apply: impl FnMut(Record<'_>) -> Result<Then, Malformed>,
) -> Result<Recovered, RecoveryError> {
    read_from(dir, None, apply)
}

fn read_from(
    dir: &Path,
    loading: Option<&Loading>,
    apply: impl FnMut(Record<'_>) -> Result<Then, Malformed>,
) -> Result<Recovered, RecoveryError> {
    let listing = files::list(dir).map_err(|error| RecoveryError::Io(dir.into(), error))?;
    // A server may be writing: the mark is read first, so that it is not ahead of the log.
    let synced = read_mark(dir)?;
    let mut reader = Reader { synced, loading, ..Reader::new(dir, apply) };
    let base = match listing.bases.last() {
        Some(&seq) => Some(reader.base(seq)?),
        None => None,
    };
    let start = base.map_or(Position::default(), |base| base.position);
    let proven = |error: RecoveryError| error.with_proof(dir, synced);
    let segments = segments_behind(dir, &listing, start.seq).map_err(proven)?;
    let (tail, torn) = reader.segments(&segments, start).map_err(proven)?;
    let stopped = reader.stopped;
    if let Some(base) = base.filter(|base| tail.last.seq < base.end_seq && !stopped) {
        return Err(RecoveryError::Corrupt {
            path: dir.join(base_name(base.position.seq)),
            offset: 0,
            seq: Seq(tail.last.seq.0 + 1),
            what: format!(
                "the base was finished at record {}, but the log ends at {}",
                base.end_seq, tail.last.seq
            ),
        });
    }
    if synced.is_some_and(|synced| synced > tail.last.seq) && !stopped {
        require_synced(dir, tail)?;
    }
    let leftovers = leftovers(&listing, base.map(|base| base.position.seq));
    let Reader { records, bytes, epochs, at, .. } = reader;
    let epoch = tail.last.epoch;
    Ok(Recovered { end: tail, epoch, at, epochs, base, records, bytes, torn, segments, leftovers })
}

fn read_mark(dir: &Path) -> Result<Option<Seq>, RecoveryError> {
    mark::read(dir).map_err(|error| RecoveryError::Io(dir.into(), error))
}

/// The log ends before the mark. A follower that gives up the end of its log lowers the mark before it cuts,
/// so the mark is read again: beside such a server nothing is lost.
fn require_synced(dir: &Path, tail: ResumePoint) -> Result<(), RecoveryError> {
    let (last, next) = (tail.last.seq, Seq(tail.last.seq.0 + 1));
    let Some(synced) = read_mark(dir)?.filter(|synced| *synced > last) else { return Ok(()) };
    let path = dir.join(segment_name(tail.segment.map_or(next, |(first, _)| first)));
    Err(RecoveryError::Lost { path, last, synced })
}

/// Reads a base and tells what its frame says.
pub fn read_base(dir: &Path, seq: Seq) -> Result<Frame, RecoveryError> {
    Reader::new(dir, |_| Ok(Then::GoOn)).base(seq)
}

/// As [`read_base`], with the leaderships that it tells of; `working` is called now and then.
pub fn check_base(
    dir: &Path,
    seq: Seq,
    mut working: impl FnMut(),
) -> Result<(Frame, Epochs), RecoveryError> {
    let look = |record: Record<'_>| {
        working();
        crate::store::effect::check(record.payload).map(|_| Then::GoOn)
    };
    let mut reader = Reader::new(dir, look);
    let frame = reader.base(seq)?;
    Ok((frame, reader.epochs))
}

/// The segments that hold the records behind `seq`: the one with the next record, and all later ones.
fn segments_behind(dir: &Path, listing: &Listing, seq: Seq) -> Result<Vec<Seq>, RecoveryError> {
    let next = Seq(seq.0 + 1);
    let from = listing.segments.partition_point(|first| *first <= next);
    if from == 0 && (!listing.segments.is_empty() || seq > Seq(0)) {
        let what = match listing.segments.first() {
            Some(first) => format!(
                "the segment with this record, or a base, is missing: the first segment begins with {first}"
            ),
            None => "the segment with this record is missing".to_string(),
        };
        let path = dir.join(segment_name(next));
        return Err(RecoveryError::Corrupt { path, offset: 0, seq: next, what });
    }
    Ok(listing.segments[from.saturating_sub(1)..].to_vec())
}

/// Segments older than the base are none: they are kept for followers (`aof::compaction`).
fn leftovers(listing: &Listing, base: Option<Seq>) -> Vec<String> {
    let bases = listing.bases.iter().filter(|seq| Some(**seq) != base).map(|seq| base_name(*seq));
    bases.chain(listing.unfinished.iter().cloned()).collect()
}

struct Reader<'d, A> {
    dir: &'d Path,
    /// What is after this record was never called durable, and what is before it was; None if that is
    /// unknown.
    synced: Option<Seq>,
    apply: A,
    /// Is told how many bytes have been read.
    loading: Option<&'d Loading>,
    epochs: Epochs,
    /// The latest time of a record so far.
    at: UnixMillis,
    bytes: u64,
    records: u64,
    /// The caller has had enough.
    stopped: bool,
    reported: Instant,
}

impl<'d, A: FnMut(Record<'_>) -> Result<Then, Malformed>> Reader<'d, A> {
    fn new(dir: &'d Path, apply: A) -> Self {
        Reader {
            dir,
            synced: None,
            apply,
            loading: None,
            epochs: Epochs::default(),
            at: UnixMillis(0),
            bytes: 0,
            records: 0,
            stopped: false,
            reported: Instant::now(),
        }
    }

    /// Reads a base to its last line.
    fn base(&mut self, seq: Seq) -> Result<Frame, RecoveryError> {
        let path = self.dir.join(base_name(seq));
        let mut scanner = open(&path, Position::default())?;
        let damaged = |scanner: &Scanner, what: &str| {
            let (offset, seq) = (scanner.offset(), Seq(scanner.last().seq.0 + 1));
            RecoveryError::Corrupt {
                path: path.clone(),
                offset,
                seq,
                what: format!("in the base, {what}"),
            }
        };
        let position =
            match scanner.read_next().map_err(|error| RecoveryError::Io(path.clone(), error))? {
                Found::Frame(line) => parse_first_line(line)
                    .filter(|position| position.seq == seq)
                    .map(|position| (position, crc32fast::hash(line))),
                _ => None,
            };
        let Some((position, crc)) = position else {
            return Err(damaged(&scanner, "the first line is damaged"));
        };
        let mut last = Position { seq: Seq(0), epoch: position.epoch, crc };
        let mut starts: Vec<EpochStart> = Vec::new();
        scanner.expect_after(last);
        loop {
            let offset = scanner.offset();
            match scanner.read_next().map_err(|error| RecoveryError::Io(path.clone(), error))? {
                Found::Frame(line) if line.starts_with(b"#epoch ") && last.seq == Seq(0) => {
                    let follows = |start: &EpochStart| {
                        starts
                            .last()
                            .is_none_or(|last| last.epoch < start.epoch && last.first < start.first)
                    };
                    let Some(start) = epochs::parse_line(line).filter(follows) else {
                        return Err(damaged(&scanner, "the line of an epoch is damaged"));
                    };
                    // Damage to it shows at the next record, whose crc goes on from here.
                    last.crc = seal(last.crc, line, 0);
                    starts.push(start);
                    scanner.expect_after(last);
                }
                Found::Record(header, payload) => {
                    self.tell(offset + header.len);
                    self.at = self.at.max(header.at);
                    let record =
                        Record { seq, epoch: header.epoch, at: header.at, payload, of_base: true };
                    if let Err(Malformed(what)) = (self.apply)(record) {
                        return Err(damaged(&scanner, what));
                    }
                    last = scanner.last();
                }
                Found::Frame(line) => {
                    let frame = parse_last_line(line, last);
                    let at_end = scanner.offset() == scanner.file_len();
                    let Some((keys, end_seq)) = frame.filter(|_| at_end) else {
                        return Err(damaged(&scanner, "the last line is damaged"));
                    };
                    self.bytes += scanner.file_len();
                    starts.into_iter().for_each(|start| self.epochs.note(start));
                    return Ok(Frame { position, end_seq, keys });
                }
                Found::End => return Err(damaged(&scanner, "the last line is missing")),
                Found::Damaged(damage) => return Err(damaged(&scanner, damage.what)),
            }
            self.report(&path, &scanner);
        }
    }

    /// Reads the segments; only the last one may end in a torn tail.
    fn segments(
        &mut self,
        segments: &[Seq],
        start: Position,
    ) -> Result<(ResumePoint, Option<Torn>), RecoveryError> {
        let mut last = start;
        let mut tail = ResumePoint { last, segment: None };
        for (at, &first) in segments.iter().enumerate() {
            let is_last = at + 1 == segments.len();
            let path = self.dir.join(segment_name(first));
            let mut scanner = open(&path, last)?;
            if first.0 <= start.seq.0 {
                // Older than the base, and kept for somebody; begin at the base's record.
                self.skip_to(&mut scanner, &path, first, start)?;
            } else if first.0 != last.seq.0 + 1 {
                return Err(RecoveryError::Corrupt {
                    path,
                    offset: 0,
                    seq: Seq(last.seq.0 + 1),
                    what: format!("records up to {} are missing: no segment has them", first.0 - 1),
                });
            }
            let torn;
            (tail, torn) = self.segment(&mut scanner, &path, first, is_last)?;
            last = tail.last;
            if torn.is_some() || self.stopped {
                return Ok((tail, torn));
            }
        }
        Ok((tail, None))
    }

    fn segment(
        &mut self,
        scanner: &mut Scanner,
        path: &Path,
        first: Seq,
        is_last: bool,
    ) -> Result<(ResumePoint, Option<Torn>), RecoveryError> {
        loop {
            let offset = scanner.offset();
            let tail = ResumePoint { last: scanner.last(), segment: Some((first, offset)) };
            let damage =
                match scanner.read_next().map_err(|error| RecoveryError::Io(path.into(), error))? {
                    Found::End => {
                        self.bytes += scanner.file_len();
                        return Ok((tail, None));
                    }
                    Found::Record(header, payload) => {
                        let Header { seq, epoch, at, crc, .. } = header;
                        if epoch > tail.last.epoch {
                            self.epochs.note(EpochStart { epoch, first: seq, crc });
                        }
                        self.tell(offset + header.len);
                        let record = Record { seq, epoch, at, payload, of_base: false };
                        match (self.apply)(record) {
                            Ok(Then::StopBefore) => {
                                self.stopped = true;
                                return Ok((tail, None));
                            }
                            Ok(then) => self.stopped = then == Then::StopAfter,
                            Err(Malformed(what)) => {
                                let (path, what) = (path.into(), what.to_string());
                                return Err(RecoveryError::Corrupt { path, offset, seq, what });
                            }
                        }
                        self.at = self.at.max(at);
                        self.records += 1;
                        if self.stopped {
                            let segment = Some((first, scanner.offset()));
                            return Ok((ResumePoint { last: scanner.last(), segment }, None));
                        }
                        self.report(path, scanner);
                        continue;
                    }
                    Found::Frame(_) => {
                        let seq = Seq(scanner.last().seq.0 + 1);
                        Damage { offset, seq, what: "a base's line in the log", may_be_torn: false }
                    }
                    Found::Damaged(damage) => damage,
                };
            let torn = is_last
                && damage.may_be_torn
                && match self.synced {
                    Some(synced) => damage.seq > synced,
                    None => !scanner
                        .intact_record_follows()
                        .map_err(|error| RecoveryError::Io(path.into(), error))?,
                };
            if torn {
                let len = scanner.file_len() - offset;
                return Ok((tail, Some(Torn { segment: first, damage, len })));
            }
            let (path, what) = (path.into(), damage.what.to_string());
            return Err(RecoveryError::Corrupt { path, offset, seq: damage.seq, what });
        }
    }

    /// Goes over the records that the base covers, up to the base's own.
    fn skip_to(
        &mut self,
        scanner: &mut Scanner,
        path: &Path,
        first: Seq,
        start: Position,
    ) -> Result<(), RecoveryError> {
        let bad = |seq: Seq, offset: u64| RecoveryError::Corrupt {
            path: path.into(),
            offset,
            seq,
            what: "the segment does not lead to the base's record".to_string(),
        };
        scanner
            .skip_unchecked(first, start.seq)
            .map_err(|error| RecoveryError::Io(path.into(), error))?
            .filter(|position| *position == start)
            .ok_or_else(|| bad(start.seq, scanner.offset()))?;
        Ok(())
    }

    /// So many bytes of the present file have been read.
    fn tell(&self, bytes: u64) {
        if let Some(loading) = self.loading {
            loading.reached(self.bytes + bytes);
        }
    }

    fn report(&mut self, path: &Path, scanner: &Scanner) {
        // A look at the clock for every record would show in the profile.
        if self.records.is_multiple_of(1024) && self.reported.elapsed() >= REPORT_EVERY {
            self.reported = Instant::now();
            let percent = scanner.offset() * 100 / scanner.file_len().max(1);
            log::info!("loading {}: {percent} %, {} records so far", path.display(), self.records);
        }
    }
}

fn open(path: &Path, last: Position) -> Result<Scanner, RecoveryError> {
    Scanner::open(path, last).map_err(|error| RecoveryError::Io(path.into(), error))
}
