//! `kvstore log --follow`: follows a log that a server is writing, from one segment to the next.
//!
//! A damaged record at the log's end may be one that is still being written, or a torn one that the next
//! server will cut off. So it is read again and again, until it is whole or until a whole record or a newer
//! segment follows it.
//!
//! A server that compacts the log may remove a segment before it was read. Then the output continues
//! after the new base, and a message on stderr names the gap.

use super::printer::Printer;
use super::{Error, at};
use crate::aof::files::{self, segment_name};
use crate::aof::record::ResumePoint;
use crate::aof::recovery::{self, Record};
use crate::aof::scan::{Damage, Found, Scanner};
use crate::store::effect::Seq;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// Interval between reads at the end of the log.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Prints the records after `tail`. Runs until there is an error.
pub(super) fn follow(
    dir: &Path,
    tail: ResumePoint,
    printer: &mut Printer<'_>,
) -> Result<(), Error> {
    let (mut first, offset) = tail.segment.unwrap_or((Seq(tail.last.seq.0 + 1), 0));
    let mut path = dir.join(segment_name(first));
    while !path.exists() {
        // No server has run on this directory yet.
        thread::sleep(POLL_INTERVAL);
    }
    let mut scanner = Scanner::open_at(&path, tail.last, offset).map_err(at(&path))?;
    loop {
        let damage = print_all(&mut scanner, &path, printer)?;
        printer.flush()?;
        thread::sleep(POLL_INTERVAL);
        // List before looking again: a segment is complete before the next one begins.
        let files::Listing { segments, bases, .. } = files::list(dir).map_err(at(dir))?;
        if scanner.look_again().map_err(at(&path))? {
            continue;
        }
        let last = scanner.last;
        let next = Seq(last.seq.0 + 1);
        let is_last = segments.iter().all(|first| *first <= next);
        match damage {
            None if !is_last || next > first && segments.contains(&next) => {
                let base = bases.last().copied().filter(|base| *base >= next);
                let position = base.map_or(Ok(last), |base| {
                    eprintln!("records {next} to {base} were compacted away before they were read");
                    recovery::read_base(dir, base, |_| Ok(())).map(|(base, _)| base.position)
                })?;
                first = Seq(position.seq.0 + 1);
                path = dir.join(segment_name(first));
                scanner = Scanner::open_at(&path, position, 0).map_err(at(&path))?;
            }
            Some(damage)
                if !is_last
                    || !damage.may_be_torn
                    || scanner.intact_record_follows().map_err(at(&path))? =>
            {
                return Err(damage.of_file(&path).into());
            }
            _ => {}
        }
    }
}

/// Prints records up to the end of the file or up to damage, which is returned.
fn print_all(
    scanner: &mut Scanner,
    path: &Path,
    printer: &mut Printer<'_>,
) -> Result<Option<Damage>, Error> {
    loop {
        let offset = scanner.offset();
        let seq = Seq(scanner.last.seq.0 + 1);
        let damaged = |what| Some(Damage { offset, seq, what, may_be_torn: false });
        match scanner.read_next().map_err(at(path))? {
            Found::Record(header, payload) => {
                if let Err(malformed) = printer.print(&Record::of(&header, payload)) {
                    return Ok(damaged(malformed.0));
                }
            }
            Found::End => return Ok(None),
            Found::Damaged(damage) => return Ok(Some(damage)),
            Found::Frame(_) => return Ok(damaged("a base's line in the log")),
        }
    }
}
