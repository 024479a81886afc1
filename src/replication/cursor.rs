//! A place in the log from which a follower is fed: the log's own files, read from a record on.
//!
//! There is no buffer per follower. History is on the disk, and what was written a moment ago is in the
//! kernel's cache, so a hundred followers cost a hundred file descriptors.

use crate::aof::files::{self, segment_name};
use crate::aof::log::{End, Log, Pin};
use crate::aof::record::Position;
use crate::aof::scan::{Found, Scanner};
use crate::effect::Seq;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Reads the log behind some record. What it has not read yet is kept.
#[derive(Debug)]
pub struct Cursor<'l> {
    dir: &'l Path,
    pin: Pin<'l>,
    file: File,
    segment: Seq,
    offset: u64,
}

impl<'l> Cursor<'l> {
    /// Starts behind `last` in a log that ends, as far as it can be read, at `end` or later. None if the log
    /// does not go on behind that very record: it has another one in its place, or what follows is no longer
    /// kept.
    pub fn behind(
        log: &'l Log,
        dir: &'l Path,
        end: &End,
        last: Position,
    ) -> io::Result<Option<Cursor<'l>>> {
        let next = Seq(last.seq.0 + 1);
        let pin = log.pin(next);
        let segments = files::list(dir)?.segments;
        let Some(segment) = segments.into_iter().rev().find(|first| *first <= next) else {
            return Ok(None);
        };
        let path = dir.join(segment_name(segment));
        let mut scanner = Scanner::open(&path, last)?;
        let agrees = if next > end.last.seq {
            end.last == last
        } else if segment <= last.seq {
            scanner.skip_unchecked(segment, last.seq)? == Some(last)
        } else {
            // The record itself is in a file that may be gone; the crc of the next one seals it.
            matches!(scanner.read_next()?, Found::Record(..))
        };
        if !agrees {
            return Ok(None);
        }
        let offset = if segment > last.seq {
            0
        } else if next > end.last.seq {
            end.len
        } else {
            scanner.offset()
        };
        let file = File::open(&path)?;
        Ok(Some(Cursor { dir, pin, file, segment, offset }))
    }

    /// Reads on, up to `end`; 0 means that the end is reached. At the end stands a whole record.
    pub fn read(&mut self, end: &End, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let is_last = self.segment >= end.segment;
            // A segment is complete before the next one begins.
            let limit = if is_last { end.len } else { self.file.metadata()?.len() };
            let left = limit.saturating_sub(self.offset).min(buffer.len() as u64) as usize;
            if left > 0 {
                let n = self.file.read_at(&mut buffer[..left], self.offset)?;
                self.offset += n as u64;
                return if n > 0 { Ok(n) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            if is_last {
                return Ok(0);
            }
            self.open_next()?;
        }
    }

    fn open_next(&mut self) -> io::Result<()> {
        let segments = files::list(self.dir)?.segments;
        // Segments go oldest first, so as long as this one is there, the next one is.
        let at = segments.binary_search(&self.segment).ok();
        let next = at.and_then(|at| segments.get(at + 1)).copied();
        let next = next.ok_or_else(|| io::Error::other("the log behind its place is not kept"))?;
        self.file = File::open(self.dir.join(segment_name(next)))?;
        (self.segment, self.offset) = (next, 0);
        self.pin.advance(next);
        Ok(())
    }
}
