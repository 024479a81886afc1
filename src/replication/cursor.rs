//! A follower's read position in the leader's log files.
//!
//! A follower has no buffer on the leader. Recent records are in the kernel's page cache and older ones on the
//! disk, so a hundred followers cost a hundred file descriptors.

use crate::aof::files::{self, segment_name};
use crate::aof::log::{Log, Pin, ReadableEnd};
use crate::aof::record::Position;
use crate::aof::scan::{Found, Scanner};
use crate::store::effect::Seq;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Reads the log after some record. Segments that it has not read yet are pinned.
#[derive(Debug)]
pub struct Cursor<'l> {
    dir: &'l Path,
    pin: Pin<'l>,
    file: File,
    segment: Seq,
    offset: u64,
}

impl<'l> Cursor<'l> {
    /// Starts after `last`. `end` is a readable end of the log, which may have grown since. None if the log
    /// does not continue from `last`: its record with that seq is another one, or the records after it have
    /// been removed.
    pub fn behind(
        log: &'l Log,
        dir: &'l Path,
        end: &ReadableEnd,
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
            // The record's own segment may be gone, but the crc of the next record covers its crc.
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

    /// Reads more bytes, up to `end`, where a record ends. Returns 0 when `end` is reached.
    pub fn read(&mut self, end: &ReadableEnd, buffer: &mut [u8]) -> io::Result<usize> {
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
        // Segments are removed oldest first: while this one exists, the next one does, too.
        let at = segments.binary_search(&self.segment).ok();
        let next = at.and_then(|at| segments.get(at + 1)).copied();
        let next =
            next.ok_or_else(|| io::Error::other("the log after this position was removed"))?;
        self.file = File::open(self.dir.join(segment_name(next)))?;
        (self.segment, self.offset) = (next, 0);
        self.pin.advance(next);
        Ok(())
    }
}
