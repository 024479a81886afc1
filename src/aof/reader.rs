//! Reads a base and segments, record by record, and judges each.

use super::base::{self, Frame, parse_first_line, parse_last_line};
use super::errors::RecoveryError;
use super::files::{base_name, segment_name};
use super::outline::{self, Outline};
use super::record::{Epoch, Header, Position, ResumePoint};
use super::scan::{Damage, Found, Scanner};
use crate::clock::UnixMillis;
use crate::cluster::members::Members;
use crate::loading::Loading;
use crate::store::effect::{Malformed, Seq};
use std::path::Path;
use std::time::{Duration, Instant};

/// Interval between two progress messages.
const REPORT_EVERY: Duration = Duration::from_secs(1);

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
    /// True if it is part of the base.
    pub of_base: bool,
}

impl<'r> Record<'r> {
    /// A record of the log.
    pub fn of(header: &Header, payload: &'r [u8]) -> Record<'r> {
        let &Header { seq, epoch, at, .. } = header;
        Record { seq, epoch, at, payload, of_base: false }
    }
}

/// The next step after a record. A base is always read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Take it, and read on.
    GoOn,
    /// Take it, as the last one.
    StopAfter,
    /// The record before was the last one.
    StopBefore,
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

/// The outcome of reading a directory.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Where the log ends.
    pub end: ResumePoint,
    /// The latest time of a record.
    pub at: UnixMillis,
    /// All epochs and members that are known.
    pub outline: Outline,
    /// The base that it began with, if there is one.
    pub base: Option<Frame>,
    /// Records of the log that were read, without the base's.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// The torn tail, if there is one.
    pub torn: Option<Torn>,
    /// The segments that hold the records after the base.
    pub segments: Vec<Seq>,
    /// Bases that the newest one replaces, and unfinished files.
    pub leftovers: Vec<String>,
}

/// Reads the files of a directory.
pub(super) struct Reader<'d, A> {
    dir: &'d Path,
    apply: A,
    /// The mark: records up to it were durable, later ones were never called so; None if that is unknown.
    pub synced: Option<Seq>,
    /// Is told how many bytes have been read.
    pub loading: Option<&'d Loading>,
    /// The outcome so far.
    pub read: Recovered,
    /// True once `apply` has chosen to stop.
    pub stopped: bool,
    reported: Instant,
}

impl<'d, A: FnMut(Record<'_>) -> Result<Then, Malformed>> Reader<'d, A> {
    pub fn new(dir: &'d Path, apply: A) -> Self {
        let (read, reported) = (Recovered::default(), Instant::now());
        Reader { dir, apply, synced: None, loading: None, read, stopped: false, reported }
    }

    /// Reads a base to its last line.
    pub fn base(&mut self, seq: Seq) -> Result<Frame, RecoveryError> {
        let mut scanner = Scanner::open(&self.dir.join(base_name(seq)), Position::default())?;
        let first_line = match scanner.read_next()? {
            Found::Frame(line) => {
                parse_first_line(line).map(|at| (at, base::chain_start(at, line)))
            }
            _ => None,
        };
        let Some((position, start)) = first_line.filter(|(position, _)| position.seq == seq) else {
            return Err(scanner.corrupt("in the base, the first line is damaged"));
        };
        scanner.last = start;
        loop {
            let (offset, last) = (scanner.offset(), scanner.last);
            let what = match scanner.read_next()? {
                Found::Frame(line) if last.seq == Seq(0) && outline::is_line(line) => {
                    match self.read.outline.read_line(line, seq) {
                        Some(()) => {
                            let after = base::chain_line(last, line);
                            scanner.last = after;
                            continue;
                        }
                        None => "the line of an epoch or of members is damaged",
                    }
                }
                Found::Record(header, payload) => {
                    let record = Record { seq, of_base: true, ..Record::of(&header, payload) };
                    match self.take(record, offset + header.len) {
                        Ok(_) => {
                            self.report(&scanner);
                            continue;
                        }
                        Err(Malformed(what)) => what,
                    }
                }
                Found::Frame(line) => match parse_last_line(line, last) {
                    Some((keys, end_seq)) if scanner.offset() == scanner.file_len() => {
                        let frame = Frame { position, end_seq, keys };
                        self.read.bytes += scanner.file_len();
                        (self.read.end.last, self.read.base) = (position, Some(frame));
                        return Ok(frame);
                    }
                    _ => "the last line is damaged",
                },
                Found::End => "the last line is missing",
                Found::Damaged(damage) => damage.what,
            };
            return Err(scanner.corrupt(&format!("in the base, {what}")));
        }
    }

    /// Reads the segments after the base; only the last one may end in a torn tail.
    pub fn segments(&mut self, segments: &[Seq]) -> Result<(), RecoveryError> {
        let start = self.read.end.last;
        for &first in segments {
            let last = self.read.end.last;
            let mut scanner = Scanner::open(&self.dir.join(segment_name(first)), last)?;
            if first <= start.seq {
                // Older than the base, and kept for followers: begin after the base's record.
                if scanner.skip_unchecked(first, start.seq)? != Some(start) {
                    let (offset, seq) = (scanner.offset(), start.seq);
                    let what = "the segment does not lead to the base's record";
                    let damage = Damage { offset, seq, what, may_be_torn: false };
                    return Err(damage.of_file(scanner.path()));
                }
            } else if first != last.next() {
                let upto = first.0 - 1;
                let what = format!("records up to {upto} are missing: no segment has them");
                return Err(scanner.corrupt(&what));
            }
            self.segment(&mut scanner, first, Some(&first) == segments.last())?;
            if self.stopped {
                break;
            }
        }
        Ok(())
    }

    fn segment(
        &mut self,
        scanner: &mut Scanner,
        first: Seq,
        is_last: bool,
    ) -> Result<(), RecoveryError> {
        let end_of = |scanner: &Scanner| ResumePoint {
            last: scanner.last,
            segment: Some((first, scanner.offset())),
        };
        loop {
            let (last, offset) = (scanner.last, scanner.offset());
            self.read.end = end_of(scanner);
            let damaged = |what| Damage { offset, seq: last.next(), what, may_be_torn: false };
            let damage = match scanner.read_next()? {
                Found::End => {
                    self.read.bytes += scanner.file_len();
                    return Ok(());
                }
                Found::Record(header, payload) => {
                    if header.epoch > last.epoch {
                        self.read.outline.epochs.note(header.position());
                    }
                    match self.take(Record::of(&header, payload), offset + header.len) {
                        Ok(Then::GoOn) => {
                            self.report(scanner);
                            continue;
                        }
                        Ok(then) => {
                            self.stopped = true;
                            if then == Then::StopAfter {
                                self.read.end = end_of(scanner);
                            }
                            return Ok(());
                        }
                        Err(Malformed(what)) => damaged(what),
                    }
                }
                Found::Frame(_) => damaged("a base's line in the log"),
                Found::Damaged(damage) => damage,
            };
            if is_last && self.is_torn(scanner, &damage)? {
                let len = scanner.file_len() - offset;
                self.read.torn = Some(Torn { segment: first, damage, len });
                return Ok(());
            }
            return Err(damage.of_file(scanner.path()));
        }
    }

    /// Passes a record on and counts it. `reached` is the offset up to which its file has been read.
    fn take(&mut self, record: Record<'_>, reached: u64) -> Result<Then, Malformed> {
        if let Some(loading) = self.loading {
            loading.reached(self.read.bytes + reached);
        }
        let Record { seq, at, payload, of_base, .. } = record;
        let then = (self.apply)(record)?;
        if !of_base && then == Then::StopBefore {
            return Ok(then);
        }
        self.read.at = self.read.at.max(at);
        if !of_base {
            self.read.records += 1;
            let members = Members::of_record(seq, payload)?;
            members.into_iter().for_each(|members| self.read.outline.note_members(members));
        }
        Ok(then)
    }

    /// Tells a write that a crash cut off, or a hole that a power cut left, from damage.
    fn is_torn(&self, scanner: &mut Scanner, damage: &Damage) -> Result<bool, RecoveryError> {
        Ok(damage.may_be_torn
            && match self.synced {
                Some(synced) => damage.seq > synced,
                None => !scanner.intact_record_follows()?,
            })
    }

    fn report(&mut self, scanner: &Scanner) {
        // Reading the clock for every record would show in the profile.
        if self.read.records.is_multiple_of(1024) && self.reported.elapsed() >= REPORT_EVERY {
            self.reported = Instant::now();
            let percent = scanner.offset() * 100 / scanner.file_len().max(1);
            let path = scanner.path().display();
            log::info!("loading {path}: {percent} %, {} records so far", self.read.records);
        }
    }
}
