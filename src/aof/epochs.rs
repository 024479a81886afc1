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

use super::numbers::{Words, hex};
use super::record::Epoch;
use crate::store::effect::Seq;

/// Older epochs are forgotten: their tokens are refused, and a node that missed so many gets a full copy.
pub const EPOCHS_MAX: usize = 1024;

/// An epoch, by its first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch's number.
    pub epoch: Epoch,
    /// Its first record.
    pub first: Seq,
    /// That record's crc.
    pub crc: u32,
}

/// The epochs of a history, ascending by number and by first record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Epochs(Vec<EpochStart>);

impl Epochs {
    /// Adds the newest one.
    ///
    /// # Panics
    /// If it is not newer than the others.
    pub fn note(&mut self, start: EpochStart) {
        assert!(self.can_note(&start), "an epoch must follow the ones before it");
        self.0.push(start);
        if self.0.len() > EPOCHS_MAX {
            self.0.remove(0);
        }
    }

    /// True if it is newer than the others.
    pub fn can_note(&self, start: &EpochStart) -> bool {
        self.last().is_none_or(|last| last.epoch < start.epoch && last.first < start.first)
    }

    /// The epoch of this record, if it is still known.
    pub fn of(&self, seq: Seq) -> Option<EpochStart> {
        self.upto(seq).last().copied()
    }

    /// The epochs that had begun when this record was written.
    pub fn upto(&self, seq: Seq) -> &[EpochStart] {
        &self.0[..self.0.partition_point(|start| start.first <= seq)]
    }

    /// The newest one.
    pub fn last(&self) -> Option<EpochStart> {
        self.0.last().copied()
    }

    /// The last record that this history, which ends at `end`, provably shares with another one, which ends at
    /// `their_end`: both have an epoch with the same first record, and both reach as far in it. 0 if they share
    /// none.
    pub fn last_shared(&self, end: Seq, theirs: &Epochs, their_end: Seq) -> Seq {
        let common = end.min(their_end);
        let is_shared = |start: &&EpochStart| theirs.of(start.first) == Some(**start);
        let Some(start) = self.upto(common).iter().rev().find(is_shared) else { return Seq(0) };
        let last_of = |epochs: &Epochs| {
            let next = epochs.0.partition_point(|other| other.first <= start.first);
            epochs.0.get(next).map_or(common, |next| Seq(next.first.0 - 1))
        };
        common.min(last_of(self)).min(last_of(theirs))
    }

    /// Given that the peer's record `seq` belongs to `epoch`, and not to our epoch there: the last of our records
    /// that the two histories can share. None if that is before what is known.
    pub fn last_before(&self, seq: Seq, epoch: Epoch) -> Option<Seq> {
        // The same number with another first record, or an older epoch here: `epoch` itself is not shared.
        let skips = self.of(seq).is_some_and(|own| own.epoch > epoch);
        let shared = if skips { epoch.0 } else { epoch.0.saturating_sub(1) };
        self.last_within(seq, Epoch(shared))
    }

    /// The last record up to `seq` whose epoch is `epoch` or older: the furthest that a history which ends there
    /// can share. None if that is before what is known.
    pub fn last_within(&self, seq: Seq, epoch: Epoch) -> Option<Seq> {
        let known = self.0.partition_point(|start| start.epoch <= epoch);
        let end = self.0.get(known).map_or(Seq(u64::MAX), |next| Seq(next.first.0 - 1));
        let first = self.0[..known].first()?.first;
        Some(seq.min(end)).filter(|last| *last >= first)
    }
}

/// `#epoch <epoch> <first seq> <crc>`, as a base holds it, without the line end.
pub fn line(start: &EpochStart) -> Vec<u8> {
    let mut line = format!("#epoch {} {} ", start.epoch.0, start.first).into_bytes();
    line.extend_from_slice(&hex(start.crc));
    line
}

/// Reads what [`line()`] wrote.
pub fn parse_line(line: &[u8]) -> Option<EpochStart> {
    let mut words = Words::after(b"#epoch ", line)?;
    let start = EpochStart {
        epoch: Epoch(words.number()?),
        first: Seq(words.number()?),
        crc: words.crc()?,
    };
    words.end(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(starts: &[(u64, u64, u32)]) -> Epochs {
        let mut list = Epochs::default();
        for &(epoch, first, crc) in starts {
            list.note(EpochStart { epoch: Epoch(epoch), first: Seq(first), crc });
        }
        list
    }

    fn epochs(starts: &[(u64, u64)]) -> Epochs {
        list(&starts.iter().map(|&(epoch, first)| (epoch, first, 7)).collect::<Vec<_>>())
    }

    #[test]
    fn a_record_is_of_the_epoch_that_began_last() {
        let epochs = epochs(&[(1, 1), (2, 151), (4, 9000)]);
        let of = |seq| epochs.of(Seq(seq)).map(|start| start.epoch.0);
        assert_eq!([of(0), of(1), of(150), of(151)], [None, Some(1), Some(1), Some(2)]);
        assert_eq!([of(8999), of(9000), of(1 << 40)], [Some(2), Some(4), Some(4)]);
    }

    #[test]
    fn histories_can_agree_up_to_the_end_of_the_older_epoch() {
        let epochs = epochs(&[(2, 100), (3, 151), (6, 200)]);
        let within = |seq, epoch| epochs.last_within(Seq(seq), Epoch(epoch)).map(|seq| seq.0);
        assert_eq!(within(180, 3), Some(180));
        assert_eq!(within(180, 2), Some(150));
        assert_eq!(within(500, 5), Some(199));
        assert_eq!(within(500, 9), Some(500));
        assert_eq!(within(500, 1), None);
        assert_eq!(within(99, 2), None);
    }

    /// Looks for the last common record of two histories as a follower and its leader do, over the link.
    fn negotiate(
        own: &[(u64, u64, u32)],
        own_end: u64,
        their: &[(u64, u64, u32)],
        end: u64,
    ) -> u64 {
        let (own, their) = (list(own), list(their));
        let epoch_at = |list: &Epochs, seq: Seq| list.of(seq).map_or(Epoch(0), |start| start.epoch);
        let mut ask = Seq(own_end);
        for _ in 0..20 {
            if ask == Seq(0) || ask.0 <= end && own.of(ask) == their.of(ask) {
                return ask.0;
            }
            let furthest = their.last_within(ask.min(Seq(end)), epoch_at(&own, ask));
            let Some(seq) = furthest else { return 0 };
            let theirs = their.of(seq).expect("it is known");
            if own.of(seq) == Some(theirs) {
                return seq.0;
            }
            ask = own.last_before(seq, theirs.epoch).unwrap_or_default();
        }
        panic!("they do not come to an end")
    }

    #[test]
    fn the_last_common_record_is_found_whatever_the_epochs() {
        let common = [(1, 1, 11), (4, 100, 44)];
        let with = |more: &[(u64, u64, u32)]| [&common[..], more].concat();
        // One led on alone, the other was promoted, with higher, equal and lower numbers.
        for (own, their) in [(5, 6), (6, 5), (5, 5), (9, 5)] {
            let (own, their) = (with(&[(own, 151, 1)]), with(&[(their, 181, 2)]));
            assert_eq!(negotiate(&own, 200, &their, 300), 150, "{own:?} {their:?}");
        }
        // Several restarts on either side.
        let many = with(&[(5, 151, 1), (6, 160, 2), (7, 170, 3), (8, 180, 4)]);
        assert_eq!(negotiate(&many, 200, &with(&[(5, 181, 9), (7, 182, 8)]), 190), 150);
        assert_eq!(negotiate(&with(&[(5, 181, 9), (7, 182, 8)]), 190, &many, 200), 150);
        // One is simply longer.
        assert_eq!(negotiate(&common, 200, &common, 150), 150);
        assert_eq!(negotiate(&common, 150, &many, 200), 150);
        // Nothing in common.
        assert_eq!(negotiate(&[(1, 1, 7)], 10, &common, 200), 0);
    }

    #[test]
    fn only_an_epoch_that_began_with_the_same_record_is_shared_and_only_as_far_as_both_go() {
        let own = list(&[(1, 1, 11), (4, 100, 44)]);
        let shared = |end, theirs: &[(u64, u64, u32)], their_end| {
            let theirs = list(theirs);
            let seq = own.last_shared(Seq(end), &theirs, Seq(their_end));
            assert_eq!(theirs.last_shared(Seq(their_end), &own, Seq(end)), seq, "either way");
            seq.0
        };
        // The same history, and one of the two is longer.
        assert_eq!(shared(150, &[(1, 1, 11), (4, 100, 44)], 200), 150);
        assert_eq!(shared(150, &[(1, 1, 11), (4, 100, 44)], 120), 120);
        assert_eq!(shared(150, &[(1, 1, 11), (4, 100, 44), (5, 151, 5)], 200), 150);
        // Another leader went on earlier, or with an epoch of the same number or place.
        assert_eq!(shared(150, &[(1, 1, 11), (4, 100, 44), (5, 131, 5)], 200), 130);
        assert_eq!(shared(150, &[(1, 1, 11), (4, 100, 45)], 200), 99);
        assert_eq!(shared(150, &[(1, 1, 11), (3, 50, 3), (5, 60, 5)], 200), 49);
        // The older epochs are forgotten, or there was never anything in common.
        assert_eq!(shared(150, &[(4, 100, 44)], 200), 150);
        assert_eq!(shared(150, &[(5, 151, 5)], 200), 0);
        assert_eq!(shared(150, &[(1, 1, 12), (4, 100, 45)], 200), 0);
        assert_eq!(shared(150, &[], 0), 0);
        assert_eq!(shared(0, &[(1, 1, 11)], 10), 0);
    }

    #[test]
    fn a_rewound_list_goes_on_with_other_epochs() {
        let mut list = epochs(&[(1, 1), (2, 151), (4, 9000)]);
        list = Epochs(list.upto(Seq(151)).to_vec());
        assert_eq!(list, epochs(&[(1, 1), (2, 151)]));
        list.note(EpochStart { epoch: Epoch(3), first: Seq(152), crc: 0 });
        assert_eq!(list.last().map(|start| start.epoch), Some(Epoch(3)));
    }

    #[test]
    fn lines_read_back() {
        let start = EpochStart { epoch: Epoch(3), first: Seq(151), crc: 0xabc };
        assert_eq!(line(&start), b"#epoch 3 151 00000abc");
        assert_eq!(parse_line(&line(&start)), Some(start));
        for bad in ["#epoch 3 151", "#epoch 3 151 abc", "#epoch 3 151 00000abc 1", "#base 1 1 1"] {
            assert_eq!(parse_line(bad.as_bytes()), None, "{bad}");
        }
    }
}
