//! Recovery: reads back what the directory holds, and judges all of it before it touches any of it.
//!
//! 1. The newest base is read to its last line.
//! 2. Every segment behind it is read; each record must follow the one before (seq, epoch, crc).
//! 3. Only then is anything changed: a torn tail is moved aside, leftovers of a crash are removed.
//!
//! A bad record with nothing intact behind it, in the last segment, is a **torn tail**: the write that a
//! crash cut off. So is a bad record behind the last sync (see [`mark`]), whatever follows: a power cut
//! takes what was not synced in any order. It was never acknowledged, at least not as durable; it goes to
//! `quarantine/` and the server starts. Anything else is **corruption**: something that was once whole is damaged or missing.
//! Then the server does not start, because the next write would bury the evidence; it says which file,
//! which byte and which record, and what to do.

use super::base::{Frame, parse_first_line, parse_last_line};
use super::epochs::{self, EpochStart, Epochs};
use super::files::{self, Listing, QUARANTINE, base_name, segment_name};
use super::mark;
use super::record::{Epoch, Header, Position, Tail, seal};
use super::scan::{Damage, Found, Scanner};
use crate::clock::UnixMillis;
use crate::effect::{Malformed, Seq};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often progress is reported.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Why a directory cannot be recovered.
#[derive(Debug)]
pub enum RecoveryError {
    /// The operating system says no.
    Io(PathBuf, io::Error),
    /// The files are not what was written.
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// Which record should be there.
        seq: Seq,
        /// What is wrong.
        what: String,
    },
}

impl fmt::Display for RecoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoveryError::Io(path, error) => write!(f, "{}: {error}", path.display()),
            RecoveryError::Corrupt { path, offset, seq, what } => {
                let dir = path.parent().unwrap_or(path).display();
                write!(
                    f,
                    "{}, byte {offset}, record {seq}: {what}. The log is damaged and nothing has been \
                     changed. Either restore a backup, or keep what is before the damage with \
                     'kvstore check {dir} --repair', which first saves what it cuts off",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for RecoveryError {}

/// What was read back.
#[derive(Debug)]
pub struct Recovered {
    /// Where to go on.
    pub tail: Tail,
    /// The newest epoch in the log.
    pub epoch: Epoch,
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
    StopBehind,
    /// The record before was the last one.
    StopBefore,
}

/// As [`read`], with more about each record, and with a way to stop: what is behind the last record is
/// not looked at, damaged or not. Whether the log then reaches the base's end seq is the caller's to
/// check.
pub fn read_each(
    dir: &Path,
    apply: impl FnMut(Record<'_>) -> Result<Then, Malformed>,
) -> Result<Recovered, RecoveryError> {
    let listing = files::list(dir).map_err(|error| RecoveryError::Io(dir.into(), error))?;
    let mut reader = Reader::new(dir, apply);
    let base = match listing.bases.last() {
        Some(&seq) => Some(reader.base(seq)?),
        None => None,
    };
    let start = base.map_or(Position::default(), |base| base.position);
    let segments = segments_behind(dir, &listing, start.seq)?;
    let (tail, torn) = reader.segments(&segments, start)?;
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
    let leftovers = leftovers(&listing, base.map(|base| base.position.seq));
    let Reader { records, bytes, epochs, .. } = reader;
    let epoch = tail.last.epoch;
    Ok(Recovered { tail, epoch, epochs, base, records, bytes, torn, segments, leftovers })
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
        crate::effect::check(record.payload).map(|_| Then::GoOn)
    };
    let mut reader = Reader::new(dir, look);
    let frame = reader.base(seq)?;
    Ok((frame, reader.epochs))
}

/// Makes the directory as recovery read it: moves the torn tail aside and removes leftovers.
pub fn settle(dir: &Path, recovered: &Recovered) -> Result<(), RecoveryError> {
    let io_error = |error| RecoveryError::Io(dir.into(), error);
    if let Some(torn) = &recovered.torn {
        let saved = cut_off(dir, torn.segment, torn.damage.offset).map_err(io_error)?;
        log::warn!(
            "{}: the last {} bytes, from record {} on, were cut off by a crash ({}); moved to {}",
            dir.join(segment_name(torn.segment)).display(),
            torn.len,
            torn.damage.seq,
            torn.damage.what,
            saved.display()
        );
    }
    // After kill -9 the kernel still holds what it had; from here on all of it counts as durable.
    for first in &recovered.segments {
        let file = File::open(dir.join(segment_name(*first))).map_err(io_error)?;
        file.sync_all().map_err(io_error)?;
    }
    // The base's name, too, before what it replaces goes.
    super::disk::sync_dir(dir).map_err(io_error)?;
    for name in &recovered.leftovers {
        fs::remove_file(dir.join(name)).map_err(io_error)?;
        log::info!("removed {name}, left by a crash or replaced by a base");
    }
    super::disk::sync_dir(dir).map_err(io_error)
}

/// Saves a segment's end in the quarantine, durably, and only then cuts it off.
pub fn cut_off(dir: &Path, segment: Seq, offset: u64) -> io::Result<PathBuf> {
    let quarantine = dir.join(QUARANTINE);
    fs::create_dir_all(&quarantine)?;
    let path = dir.join(segment_name(segment));
    let mut file = File::options().read(true).write(true).open(&path)?;
    file.seek(SeekFrom::Start(offset))?;
    let saved = quarantine.join(format!("log-{segment}-{offset}-{}.aof", UnixMillis::now()));
    let mut copy = File::create_new(&saved)?;
    io::copy(&mut Read::by_ref(&mut file), &mut copy)?;
    copy.sync_all()?;
    super::disk::sync_dir(&quarantine)?;
    super::disk::sync_dir(dir)?;
    file.set_len(offset)?;
    file.sync_all()?;
    Ok(saved)
}

/// The segments that hold the records behind `seq`: the one with the next record, and all later ones.
fn segments_behind(dir: &Path, listing: &Listing, seq: Seq) -> Result<Vec<Seq>, RecoveryError> {
    let next = Seq(seq.0 + 1);
    let from = listing.segments.partition_point(|first| *first <= next);
    if from == 0 && (!listing.segments.is_empty() || seq > Seq(0)) {
        let what = match listing.segments.first() {
            Some(first) => format!("the segment with this record is missing: the first is {first}"),
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
    /// What is behind this record was never called durable.
    synced: Seq,
    apply: A,
    epochs: Epochs,
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
            synced: mark::read(dir),
            apply,
            epochs: Epochs::default(),
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
    ) -> Result<(Tail, Option<Torn>), RecoveryError> {
        let mut last = start;
        let mut tail = Tail { last, segment: None };
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
    ) -> Result<(Tail, Option<Torn>), RecoveryError> {
        loop {
            let offset = scanner.offset();
            let tail = Tail { last: scanner.last(), segment: Some((first, offset)) };
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
                        let record = Record { seq, epoch, at, payload, of_base: false };
                        match (self.apply)(record) {
                            Ok(Then::StopBefore) => {
                                self.stopped = true;
                                return Ok((tail, None));
                            }
                            Ok(then) => self.stopped = then == Then::StopBehind,
                            Err(Malformed(what)) => {
                                let (path, what) = (path.into(), what.to_string());
                                return Err(RecoveryError::Corrupt { path, offset, seq, what });
                            }
                        }
                        self.records += 1;
                        if self.stopped {
                            let segment = Some((first, scanner.offset()));
                            return Ok((Tail { last: scanner.last(), segment }, None));
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
                && (damage.seq > self.synced
                    || !scanner
                        .intact_record_follows()
                        .map_err(|error| RecoveryError::Io(path.into(), error))?);
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
