//! The mark: how far the log has been synced. A small file, written after each sync and never synced itself.
//!
//! A power cut may take any block that was not synced and leave a later one: damage with intact records after it,
//! for which recovery would refuse to start. But a record after the mark was never called durable, so a hole there
//! is a torn tail. The mark may be older than the truth, and is never newer. So it is also evidence: a log that ends
//! before it has lost records. Wherever a log becomes shorter on purpose, the mark is lowered first, durably.
//! Without a readable mark, any damage may be to synced records, and any end of the log may be its end.

use super::disk::{Disk, LogFile, write_all_at};
use crate::file_error::{if_there, named};
use crate::replace::replace;
use crate::store::effect::Seq;
use std::fs;
use std::io;
use std::path::Path;

/// The mark's file.
pub const MARK: &str = "synced";
const SEQ_DIGITS: usize = 20;

/// The mark of a log that is being written.
#[derive(Debug)]
pub struct Mark(Box<dyn LogFile>);

impl Mark {
    /// Opens the file and sets the mark, durably, to the place where a log begins or resumes.
    pub fn begin(disk: &dyn Disk, synced: Seq) -> io::Result<Mark> {
        let file = if_there(disk.open(MARK))?.map_or_else(|| disk.create(MARK), Ok)?;
        let mark = Mark(file);
        mark.set(synced)?;
        Ok(mark)
    }

    /// Sets the mark, durably: the log resumes at another place.
    pub fn set(&self, synced: Seq) -> io::Result<()> {
        write_all_at(&*self.0, &line(synced), 0)?;
        self.0.sync()
    }

    /// Moves the mark. Failures are ignored: an old mark only makes recovery more forgiving.
    pub fn note(&self, synced: Seq) {
        let _ = self.0.write_at(&line(synced), 0);
    }
}

/// The mark in a directory; None if there is none, or if it is damaged, as a power cut may leave it.
pub fn read(dir: &Path) -> io::Result<Option<Seq>> {
    let path = dir.join(MARK);
    let Some(text) = if_there(fs::read(&path)).map_err(named(&path))? else { return Ok(None) };
    let seq = parse(&text);
    if seq.is_none() && !text.is_empty() {
        let path = path.display();
        log::warn!("{path} is damaged: it cannot tell whether the log has lost records");
    }
    Ok(seq)
}

/// Sets the mark of a directory that no server uses.
pub fn write(dir: &Path, synced: Seq) -> io::Result<()> {
    replace(&dir.join(MARK), &line(synced))
}

/// One length always, so that a newer mark covers an older one whole: `00000000000000005120 8f3a1c02␊`.
fn line(synced: Seq) -> Vec<u8> {
    let seq = format!("{:0SEQ_DIGITS$} ", synced.0);
    format!("{seq}{:08x}\n", crc32fast::hash(seq.as_bytes())).into_bytes()
}

fn parse(text: &[u8]) -> Option<Seq> {
    let digits = std::str::from_utf8(text.get(..SEQ_DIGITS)?).ok()?;
    let seq = Seq(digits.parse().ok()?);
    if line(seq) == text { Some(seq) } else { None }
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
