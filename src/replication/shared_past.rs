//! Where two histories part, by their lists of epochs.

use crate::aof::epochs::Epochs;
use crate::aof::record::{Epoch, Position};
use crate::store::effect::Seq;

impl Epochs {
    /// The last record that this history, which ends at `end`, provably shares with another one, which ends at
    /// `their_end`: both have an epoch with the same first record, and both reach as far in it. 0 if they share
    /// none.
    pub(super) fn last_shared(&self, end: Seq, theirs: &Epochs, their_end: Seq) -> Seq {
        let common = end.min(their_end);
        let is_shared = |start: &&Position| theirs.of(start.seq) == Some(**start);
        let Some(start) = self.upto(common).iter().rev().find(is_shared) else { return Seq(0) };
        let last_of = |epochs: &Epochs| {
            let next = epochs.all().partition_point(|other| other.seq <= start.seq);
            epochs.all().get(next).map_or(common, |next| Seq(next.seq.0 - 1))
        };
        common.min(last_of(self)).min(last_of(theirs))
    }

    /// Given that the peer's record `seq` belongs to `epoch`, and not to our epoch there: the last of our records
    /// that the two histories can share. None if that is before what is known.
    pub(super) fn last_before(&self, seq: Seq, epoch: Epoch) -> Option<Seq> {
        // The same number with another first record, or an older epoch here: `epoch` itself is not shared.
        let skips = self.of(seq).is_some_and(|own| own.epoch > epoch);
        let shared = if skips { epoch.0 } else { epoch.0.saturating_sub(1) };
        self.last_within(seq, Epoch(shared))
    }

    /// The last record up to `seq` whose epoch is `epoch` or older: the furthest that a history which ends there
    /// can share. None if that is before what is known.
    pub(super) fn last_within(&self, seq: Seq, epoch: Epoch) -> Option<Seq> {
        let known = self.all().partition_point(|start| start.epoch <= epoch);
        let end = self.all().get(known).map_or(Seq(u64::MAX), |next| Seq(next.seq.0 - 1));
        let first = self.all()[..known].first()?.seq;
        Some(seq.min(end)).filter(|last| *last >= first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(starts: &[(u64, u64, u32)]) -> Epochs {
        let mut list = Epochs::default();
        for &(epoch, first, crc) in starts {
            list.note(Position { seq: Seq(first), epoch: Epoch(epoch), crc });
        }
        list
    }

    #[test]
    fn histories_can_agree_up_to_the_end_of_the_older_epoch() {
        let epochs = list(&[(2, 100, 7), (3, 151, 7), (6, 200, 7)]);
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
}
