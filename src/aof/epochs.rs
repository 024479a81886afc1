//! Epochs: which leadership wrote which part of the history. The records of one epoch stand together in the log, so
//! a short list tells the epoch of every record:
//!
//! ```text
//! epoch 1 from record 1     epoch 2 from record 151     epoch 4 from record 9000
//! ```
//!
//! Two nodes that are cut off from each other may both begin an epoch of the same number. The crc of its first
//! record, which seals all that came before, tells them apart. So nodes find the place where their histories part,
//! and a client's token is never taken for a record of another history. The list is rebuilt from the log at each
//! start; a base holds the part that compaction takes away.

use super::numbers::Words;
use super::record::{Epoch, Position};
use crate::store::effect::Seq;

/// Older epochs are forgotten: their tokens are refused, and a node that missed so many gets a full copy.
pub const EPOCHS_MAX: usize = 1024;

/// The epochs of a history, ascending, each by the position of its first record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Epochs(Vec<Position>);

impl Epochs {
    /// Adds the newest one.
    ///
    /// # Panics
    /// If it is not newer than the others.
    pub fn note(&mut self, start: Position) {
        assert!(self.can_note(&start), "an epoch must follow the ones before it");
        self.0.push(start);
        if self.0.len() > EPOCHS_MAX {
            self.0.remove(0);
        }
    }

    /// True if it is newer than the others.
    pub fn can_note(&self, start: &Position) -> bool {
        self.last().is_none_or(|last| last.epoch < start.epoch && last.seq < start.seq)
    }

    /// The epoch of this record, by its first one, if it is still known.
    pub fn of(&self, seq: Seq) -> Option<Position> {
        self.upto(seq).last().copied()
    }

    /// The epochs that had begun when this record was written.
    pub fn upto(&self, seq: Seq) -> &[Position] {
        &self.0[..self.0.partition_point(|start| start.seq <= seq)]
    }

    /// All of them.
    pub fn all(&self) -> &[Position] {
        &self.0
    }

    /// The newest one.
    pub fn last(&self) -> Option<Position> {
        self.0.last().copied()
    }
}

/// `#epoch <epoch> <first seq> <crc>`, as a base holds it, without the line end.
pub fn line(start: &Position) -> Vec<u8> {
    format!("#epoch {} {} {:08x}", start.epoch.0, start.seq, start.crc).into_bytes()
}

/// Reads what [`line()`] wrote.
pub fn parse_line(line: &[u8]) -> Option<Position> {
    let mut words = Words::after(b"#epoch ", line)?;
    let (epoch, seq) = (Epoch(words.number()?), Seq(words.number()?));
    let start = Position { seq, epoch, crc: words.crc()? };
    words.end(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(starts: &[(u64, u64)]) -> Epochs {
        let mut list = Epochs::default();
        for &(epoch, first) in starts {
            list.note(Position { seq: Seq(first), epoch: Epoch(epoch), crc: 7 });
        }
        list
    }

    #[test]
    fn a_record_is_of_the_epoch_that_began_last() {
        let epochs = epochs(&[(1, 1), (2, 151), (4, 9000)]);
        let of = |seq| epochs.of(Seq(seq)).map(|start| start.epoch.0);
        assert_eq!([of(0), of(1), of(150), of(151)], [None, Some(1), Some(1), Some(2)]);
        assert_eq!([of(8999), of(9000), of(1 << 40)], [Some(2), Some(4), Some(4)]);
    }

    #[test]
    fn a_rewound_list_goes_on_with_other_epochs() {
        let mut list = epochs(&[(1, 1), (2, 151), (4, 9000)]);
        list = Epochs(list.upto(Seq(151)).to_vec());
        assert_eq!(list, epochs(&[(1, 1), (2, 151)]));
        list.note(Position { seq: Seq(152), epoch: Epoch(3), crc: 0 });
        assert_eq!(list.last().map(|start| start.epoch), Some(Epoch(3)));
    }

    #[test]
    fn lines_read_back() {
        let start = Position { seq: Seq(151), epoch: Epoch(3), crc: 0xabc };
        assert_eq!(line(&start), b"#epoch 3 151 00000abc");
        assert_eq!(parse_line(&line(&start)), Some(start));
        for bad in ["#epoch 3 151", "#epoch 3 151 abc", "#epoch 3 151 00000abc 1", "#base 1 1 1"] {
            assert_eq!(parse_line(bad.as_bytes()), None, "{bad}");
        }
    }
}
