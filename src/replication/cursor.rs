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
        let offset = if next > end.last.seq {
            let len = if segment > last.seq { 0 } else { end.len };
            (end.last == last).then_some(len)
        } else if segment <= last.seq {
            let known = log.waypoint(segment, last.seq);
            let (from, offset) = known.unwrap_or((last, 0));
            let first = known.map_or(segment, |(before, _)| before.next());
            let mut scanner = Scanner::open_at(&path, from, offset)?;
            (scanner.skip_unchecked(first, last.seq)? == Some(last)).then(|| scanner.offset())
        } else {
            // The record's own segment may be gone, but the crc of the next record covers its crc.
            let mut scanner = Scanner::open(&path, last)?;
            matches!(scanner.read_next()?, Found::Record(..)).then_some(0)
        };
        let Some(offset) = offset else { return Ok(None) };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aof::disk::Directory;
    use crate::aof::outline::Outline;
    use crate::aof::record::{Epoch, Header, ResumePoint};
    use crate::clock::UnixMillis;

    const PAYLOAD: &[u8] = &[b'x'; 1000];
    const SEGMENT_BYTES: u64 = 1 << 20;
    /// A waypoint for each of so many bytes, and the record that reached it.
    const NEAR_BYTES: u64 = (256 << 10) + 1100;

    #[test]
    fn a_place_is_found_near_a_waypoint_and_only_if_the_record_before_it_is_that_one() {
        let dir = tempfile::tempdir().unwrap();
        let start = ResumePoint { last: Position::default(), segment: None };
        let disk = Box::new(Directory::open(dir.path()).unwrap());
        let log = Log::resume(disk, start, Outline::default(), SEGMENT_BYTES, 0).unwrap();
        log.begin_epoch(Epoch(1), UnixMillis(1)).unwrap();
        let mut records = Vec::new();
        for _ in 0..3000 {
            log.append(PAYLOAD, UnixMillis(1));
            records.push(log.last());
            log.ensure_written(log.appended()).unwrap();
            log.rotate_if_full();
        }
        let end = log.readable_end();
        assert!(end.segment > Seq(1000), "there are several segments");
        for last in records {
            let behind = |last| Cursor::behind(&log, dir.path(), &end, last).unwrap();
            let mut cursor = behind(last).expect("it is this history's");
            assert!(behind(Position { crc: !last.crc, ..last }).is_none(), "{last:?}");
            if let Some((before, offset)) = log.waypoint(cursor.segment, last.seq) {
                assert!(before.seq <= last.seq && cursor.offset - offset <= NEAR_BYTES, "{last:?}");
            } else {
                let is_first = cursor.segment > last.seq || cursor.offset <= NEAR_BYTES;
                assert!(is_first, "{last:?} is far from the beginning of its segment");
            }
            let mut bytes = [0; 64];
            let n = cursor.read(&end, &mut bytes).unwrap();
            let next = Header::parse(&bytes[..n]).map(|(header, _)| header.seq);
            assert_eq!(next, (last.seq < end.last.seq).then(|| last.next()), "{last:?}");
        }
    }
}
