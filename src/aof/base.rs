//! The base: the state at one record, so that the log before it can be deleted.
//!
//! ```text
//! #base 5120 3 8f3a1c02␍␊                  the log continues after this record: seq, epoch, crc
//! #epoch 1 1 5d1a77c0␍␊                    the epochs so far, one line each           (epochs)
//! #epoch 3 4007 0c1199aa␍␊
//! #members 4008 00000000000…␍␊             the newest record of a cluster's members    (outline)
//! #1 3 1767225600123 65510 11aa22bb␍␊      records as in the log, counted from 1: SET, SET, SET …
//! *3␍␊$3␍␊SET…
//! #end 16 1000000 5377 99ccdd00␍␊          records, keys, seq at the end of the walk, seal
//! ```
//!
//! The walk over the store is fuzzy on purpose: writers continue meanwhile, so a part visited later holds later
//! effects. Since effects are idempotent under in-order replay, the base and the log from 5121 up to at least 5377
//! give the exact state. A log that ends before 5377 is corrupt. The crc chain begins with the `#base` line and
//! includes the lines up to the first record, so damage to those shows too.

use super::disk::{Disk, LogFile, write_all_at};
use super::files::base_name;
use super::numbers::Words;
use super::outline::Outline;
use super::record::{Position, append_header, seal};
use crate::clock::UnixMillis;
use crate::file_error::if_there;
use crate::replace::UNFINISHED;
use crate::store::effect::Seq;
use std::io;

/// A base is synced after each so many bytes: one long sync at the end would delay the log's syncs.
const SYNC_EVERY_BYTES: u64 = 4 << 20;

/// The contents of a base's first and last lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The record after which the log continues.
    pub position: Position,
    /// The log must reach at least this record.
    pub end_seq: Seq,
    /// Number of keys in the base.
    pub keys: u64,
}

/// Writes a base.
#[derive(Debug)]
pub struct BaseWriter<'d> {
    disk: &'d dyn Disk,
    file: Box<dyn LogFile>,
    position: Position,
    last: Position,
    keys: u64,
    /// Bytes written so far.
    pub len: u64,
    synced: u64,
    buffer: Vec<u8>,
}

impl<'d> BaseWriter<'d> {
    /// Creates the base of the state at `position`, under its unfinished name.
    pub fn begin(
        disk: &'d dyn Disk,
        position: Position,
        outline: &Outline,
    ) -> io::Result<BaseWriter<'d>> {
        BaseWriter::discard(disk, position.seq)?;
        let file = disk.create(&unfinished_name(position.seq))?;
        let mut buffer = first_line(position);
        let mut last = chain_start(position, &buffer);
        buffer.extend_from_slice(b"\r\n");
        for line in outline.lines(position.seq) {
            last = chain_line(last, &line);
            buffer.extend_from_slice(&line);
            buffer.extend_from_slice(b"\r\n");
        }
        Ok(BaseWriter { disk, file, position, last, keys: 0, len: 0, synced: 0, buffer })
    }

    /// Adds a record whose effects set `keys` keys.
    pub fn add(&mut self, payload: &[u8], keys: u64, now: UnixMillis) -> io::Result<()> {
        let crc = crc32fast::hash(payload);
        let epoch = self.last.epoch;
        self.last = append_header(&mut self.buffer, self.last, epoch, now, payload.len(), crc);
        self.buffer.extend_from_slice(payload);
        self.keys += keys;
        self.flush()?;
        if self.len - self.synced >= SYNC_EVERY_BYTES {
            self.file.sync()?;
            self.synced = self.len;
        }
        Ok(())
    }

    /// Writes the last line and makes the file durable, still under its unfinished name.
    pub fn finish(&mut self, end_seq: Seq) -> io::Result<()> {
        let line = last_line(self.last, self.keys, end_seq);
        self.buffer.extend_from_slice(&line);
        self.flush()?;
        self.file.sync()
    }

    /// Gives the finished base its final name. From then on, recovery begins with it.
    pub fn publish(self) -> io::Result<()> {
        let seq = self.position.seq;
        self.disk.rename(&unfinished_name(seq), &base_name(seq))?;
        self.disk.sync_dir()
    }

    /// Removes the file of a failed attempt: on a full disk, writes cannot resume without that space.
    pub fn discard(disk: &dyn Disk, seq: Seq) -> io::Result<()> {
        if_there(disk.remove(&unfinished_name(seq))).map(drop)
    }

    fn flush(&mut self) -> io::Result<()> {
        write_all_at(&*self.file, &self.buffer, self.len)?;
        self.len += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

fn unfinished_name(seq: Seq) -> String {
    base_name(seq) + UNFINISHED
}

/// The chain of a base's records begins with its first line.
pub(super) fn chain_start(position: Position, first_line: &[u8]) -> Position {
    Position { seq: Seq(0), epoch: position.epoch, crc: crc32fast::hash(first_line) }
}

/// A line of the outline is part of the chain: damage to it shows at the next record or at the last line.
pub(super) fn chain_line(last: Position, line: &[u8]) -> Position {
    Position { crc: seal(last.crc, line, 0), ..last }
}

/// `#base <seq> <epoch> <crc>`, without the line end.
fn first_line(position: Position) -> Vec<u8> {
    let Position { seq, epoch, crc } = position;
    format!("#base {seq} {} {crc:08x}", epoch.0).into_bytes()
}

/// Reads what `first_line` wrote.
pub fn parse_first_line(line: &[u8]) -> Option<Position> {
    let mut words = Words::after(b"#base ", line)?;
    let position = Position::read(&mut words)?;
    words.end(position)
}

/// `#end <records> <keys> <end seq> <crc>␍␊`
fn last_line(last: Position, keys: u64, end_seq: Seq) -> Vec<u8> {
    let line = format!("#end {} {keys} {end_seq} ", last.seq);
    format!("{line}{:08x}\r\n", seal(last.crc, line.as_bytes(), 0)).into_bytes()
}

/// Reads what `last_line` wrote, without its line end. Returns keys and end seq, or None if the line does
/// not belong to a base whose last record is `last`.
pub(super) fn parse_last_line(line: &[u8], last: Position) -> Option<(u64, Seq)> {
    let mut words = Words::after(b"#end ", line)?;
    let (_records, keys, end_seq) = (words.number()?, words.number()?, Seq(words.number()?));
    let expected = last_line(last, keys, end_seq);
    if expected.strip_suffix(b"\r\n")? == line { Some((keys, end_seq)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aof::record::Epoch;

    #[test]
    fn frame_lines_read_back_and_show_damage() {
        let position = Position { seq: Seq(5120), epoch: Epoch(3), crc: 0x0a };
        let line = first_line(position);
        assert_eq!(line, b"#base 5120 3 0000000a");
        assert_eq!(parse_first_line(&line), Some(position));
        let last = last_line(position, 7, Seq(5377));
        let line = last.strip_suffix(b"\r\n").unwrap();
        assert_eq!(parse_last_line(line, position), Some((7, Seq(5377))));
        for bit in 0..line.len() * 8 {
            let mut bad = line.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse_last_line(&bad, position), None);
        }
    }
}
