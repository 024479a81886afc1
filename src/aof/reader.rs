//! Reads a base and segments, record by record, and judges each.

use super::base::{self, Frame, parse_first_line, parse_last_line};
use super::epochs::{self, EpochStart, Epochs};
use super::errors::RecoveryError;
use super::files::{base_name, segment_name};
use super::record::{Epoch, Header, Position, ResumePoint};
use super::scan::{Damage, Found, Scanner};
use crate::clock::UnixMillis;
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

/// Where a segment or the log ends, and its torn tail.
pub(super) type Judged = (ResumePoint, Option<Torn>);

/// Reads the files of a directory, and gathers what it learns.
pub(super) struct Reader<'d, A> {
    dir: &'d Path,
    apply: A,
    /// The mark: records up to it were durable, later ones were never called so; None if that is unknown.
    pub synced: Option<Seq>,
    /// Is told how many bytes have been read.
    pub loading: Option<&'d Loading>,
    pub epochs: Epochs,
    /// The latest time of a record so far.
    pub at: UnixMillis,
    pub bytes: u64,
    pub records: u64,
    /// True once `apply` has chosen to stop.
    pub stopped: bool,
    reported: Instant,
}

impl<'d, A: FnMut(Record<'_>) -> Result<Then, Malformed>> Reader<'d, A> {
    pub fn new(dir: &'d Path, apply: A) -> Self {
        Reader {
            dir,
            apply,
            synced: None,
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
        scanner.expect_after(start);
        loop {
            let (offset, last) = (scanner.offset(), scanner.last());
            let what = match scanner.read_next()? {
                Found::Frame(line) if last.seq == Seq(0) && line.starts_with(b"#epoch ") => {
                    match epochs::parse_line(line).filter(|start| self.epochs.can_note(start)) {
                        Some(start) => {
                            let after = base::chain_line(last, line);
                            self.epochs.note(start);
                            scanner.expect_after(after);
                            continue;
                        }
                        None => "the line of an epoch is damaged",
                    }
                }
                Found::Record(Header { epoch, at, len, .. }, payload) => {
                    let record = Record { seq, epoch, at, payload, of_base: true };
                    match self.take(record, offset + len) {
                        Ok(_) => {
                            self.report(&scanner);
                            continue;
                        }
                        Err(Malformed(what)) => what,
                    }
                }
                Found::Frame(line) => {
                    if let Some((keys, end_seq)) = parse_last_line(line, last)
                        && scanner.offset() == scanner.file_len()
                    {
                        self.bytes += scanner.file_len();
                        return Ok(Frame { position, end_seq, keys });
                    }
                    "the last line is damaged"
                }
                Found::End => "the last line is missing",
                Found::Damaged(damage) => damage.what,
            };
            return Err(scanner.corrupt(&format!("in the base, {what}")));
        }
    }

    /// Reads the segments after `start`; only the last one may end in a torn tail.
    pub fn segments(&mut self, segments: &[Seq], start: Position) -> Result<Judged, RecoveryError> {
        let mut end = ResumePoint { last: start, segment: None };
        for &first in segments {
            let mut scanner = Scanner::open(&self.dir.join(segment_name(first)), end.last)?;
            if first <= start.seq {
                // Older than the base, and kept for followers: begin after the base's record.
                if scanner.skip_unchecked(first, start.seq)? != Some(start) {
                    return Err(RecoveryError::Corrupt {
                        path: scanner.path().into(),
                        offset: scanner.offset(),
                        seq: start.seq,
                        what: "the segment does not lead to the base's record".to_string(),
                    });
                }
            } else if first != end.last.next() {
                let upto = first.0 - 1;
                let what = format!("records up to {upto} are missing: no segment has them");
                return Err(scanner.corrupt(&what));
            }
            let torn;
            let is_last = Some(&first) == segments.last();
            (end, torn) = self.segment(&mut scanner, first, is_last)?;
            if torn.is_some() || self.stopped {
                return Ok((end, torn));
            }
        }
        Ok((end, None))
    }

    fn segment(
        &mut self,
        scanner: &mut Scanner,
        first: Seq,
        is_last: bool,
    ) -> Result<Judged, RecoveryError> {
        loop {
            let offset = scanner.offset();
            let end = ResumePoint { last: scanner.last(), segment: Some((first, offset)) };
            let damage = match scanner.read_next()? {
                Found::End => {
                    self.bytes += scanner.file_len();
                    return Ok((end, None));
                }
                Found::Record(header, payload) => {
                    let Header { seq, epoch, at, crc, len } = header;
                    if epoch > end.last.epoch {
                        self.epochs.note(EpochStart { epoch, first: seq, crc });
                    }
                    let record = Record { seq, epoch, at, payload, of_base: false };
                    match self.take(record, offset + len) {
                        Ok(Then::GoOn) => {
                            self.report(scanner);
                            continue;
                        }
                        Ok(then) => {
                            self.stopped = true;
                            let after = Some((first, scanner.offset()));
                            let after = ResumePoint { last: scanner.last(), segment: after };
                            return Ok((if then == Then::StopAfter { after } else { end }, None));
                        }
                        Err(Malformed(what)) => Damage { offset, seq, what, may_be_torn: false },
                    }
                }
                Found::Frame(_) => Damage {
                    offset,
                    seq: end.last.next(),
                    what: "a base's line in the log",
                    may_be_torn: false,
                },
                Found::Damaged(damage) => damage,
            };
            if is_last && self.is_torn(scanner, &damage)? {
                let len = scanner.file_len() - offset;
                return Ok((end, Some(Torn { segment: first, damage, len })));
            }
            let (path, what) = (scanner.path().into(), damage.what.to_string());
            return Err(RecoveryError::Corrupt { path, offset, seq: damage.seq, what });
        }
    }

    /// Passes a record on and counts it. `reached` is the offset up to which its file has been read.
    fn take(&mut self, record: Record<'_>, reached: u64) -> Result<Then, Malformed> {
        if let Some(loading) = self.loading {
            loading.reached(self.bytes + reached);
        }
        let (at, of_base) = (record.at, record.of_base);
        let then = (self.apply)(record)?;
        if of_base || then != Then::StopBefore {
            self.at = self.at.max(at);
            self.records += u64::from(!of_base);
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
        if self.records.is_multiple_of(1024) && self.reported.elapsed() >= REPORT_EVERY {
            self.reported = Instant::now();
            let percent = scanner.offset() * 100 / scanner.file_len().max(1);
            let path = scanner.path().display();
            log::info!("loading {path}: {percent} %, {} records so far", self.records);
        }
    }
}
