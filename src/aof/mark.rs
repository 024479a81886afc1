//! How far the log has been synced: a small file, written behind each sync and never synced itself.
//!
//! A power cut may take any block that was not synced and leave one behind it. Such a hole looks like a
//! damaged record with intact ones after it, for which recovery refuses to start. The mark tells the two
//! apart: what is behind it was never called durable, so a hole there is a torn tail.
//!
//! It may be older than the truth, by what the kernel had not yet written of it, and never newer. Without
//! a readable mark everything counts as synced.

use super::disk::{Disk, LogFile, write_all_at};
use super::record::{canonical_number, hex, parse_crc};
use crate::effect::Seq;
use std::fs;
use std::io;
use std::path::Path;

const MARK: &str = "synced";
const SEQ_DIGITS: usize = 20;

/// The mark of a log that is being written.
#[derive(Debug)]
pub struct Mark(Box<dyn LogFile>);

impl Mark {
    /// Sets the mark, durably, to where a log begins or goes on.
    pub fn begin(disk: &dyn Disk, synced: Seq) -> io::Result<Mark> {
        let file = match disk.open(MARK) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(MARK)?,
            result => result?,
        };
        let mark = Mark(file);
        mark.set(synced)?;
        Ok(mark)
    }

    /// Sets the mark, durably, to another history's end.
    pub fn set(&self, synced: Seq) -> io::Result<()> {
        write_all_at(&*self.0, &line(synced), 0)?;
        self.0.sync()
    }

    /// Moves the mark. An old one only makes recovery more forgiving, so a failure is no matter.
    pub fn note(&self, synced: Seq) {
        let _ = self.0.write_at(&line(synced), 0);
    }
}

/// The mark in a directory; if there is none that can be read, everything was synced.
pub fn read(dir: &Path) -> Seq {
    let text = fs::read(dir.join(MARK)).unwrap_or_default();
    parse(&text).unwrap_or(Seq(u64::MAX))
}

/// One length always, so that a newer mark covers an older one whole: `00000000000000005120 8f3a1c02␊`.
fn line(synced: Seq) -> Vec<u8> {
    let mut line = format!("{:0SEQ_DIGITS$} ", synced.0).into_bytes();
    let crc = crc32fast::hash(&line);
    line.extend_from_slice(&hex(crc));
    line.push(b'\n');
    line
}

fn parse(text: &[u8]) -> Option<Seq> {
    let digits = text.get(..SEQ_DIGITS)?;
    let crc = parse_crc(text.get(SEQ_DIGITS + 1..SEQ_DIGITS + 9)?)?;
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    let seq = Seq(canonical_number(&digits[zeros.min(SEQ_DIGITS - 1)..])?);
    (crc == crc32fast::hash(&text[..=SEQ_DIGITS]) && line(seq) == text).then_some(seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote_and_nothing_else() {
        for seq in [0, 1, 5120, u64::MAX] {
            let good = line(Seq(seq));
            assert_eq!(parse(&good), Some(Seq(seq)));
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(parse(&bad), None);
            }
            (0..good.len()).for_each(|len| assert_eq!(parse(&good[..len]), None));
        }
    }
}
