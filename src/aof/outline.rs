//! The outline of a history: what its records say about the history itself. Its epochs tell which leadership wrote
//! which part ([`super::epochs`]), its members records which nodes vote ([`crate::cluster::members`]).
//!
//! It is rebuilt from the log at each start and after each rewind. A base holds the part that compaction takes away:
//!
//! ```text
//! #epoch 3 4007 0c1199aa                                                        epoch, first record, its crc
//! #members 4008 0000000000009c01 ack=majority reads=index 1 a:8080=3fa9…        record, and its contents
//! ```

use super::epochs::{self, Epochs};
use crate::cluster::members::Members;
use crate::store::effect::{self, MEMBERS, Malformed, Seq};

/// Older members records are forgotten. A compaction needs the newest one before it; one or two may have followed.
const MEMBERS_MAX: usize = 8;

/// The epochs and the members of a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// Its epochs.
    pub epochs: Epochs,
    /// Its members records, ascending.
    members: Vec<Members>,
}

impl Outline {
    /// The newest members record.
    pub fn members(&self) -> Option<&Members> {
        self.members.last()
    }

    /// The members record in force at this record.
    pub fn members_at(&self, seq: Seq) -> Option<&Members> {
        self.members.iter().rfind(|members| members.seq <= seq)
    }

    /// Adds the newest members record.
    ///
    /// # Panics
    /// If it is not newer than the others.
    pub fn note_members(&mut self, members: Members) {
        let is_new = self.members().is_none_or(|last| last.seq < members.seq);
        assert!(is_new, "a members record must follow the ones before it");
        self.members.push(members);
        if self.members.len() > MEMBERS_MAX {
            self.members.remove(0);
        }
    }

    /// The lines of a base at `seq`, without line ends.
    pub fn lines(&self, seq: Seq) -> impl Iterator<Item = Vec<u8>> {
        let members = self.members_at(seq).map(Members::base_line);
        self.epochs.upto(seq).iter().map(epochs::line).chain(members)
    }

    /// Takes in a line of a base at `seq`. None if it is damaged or in the wrong place.
    pub fn read_line(&mut self, line: &[u8], seq: Seq) -> Option<()> {
        if line.starts_with(MEMBERS) {
            let members = Members::of_base(line).filter(|members| members.seq <= seq)?;
            let is_first = self.members.is_empty();
            self.members.push(members);
            return is_first.then_some(());
        }
        let start = epochs::parse_line(line).filter(|start| self.epochs.can_note(start))?;
        self.epochs.note(start);
        Some(())
    }
}

/// True if this line of a base belongs to the outline, damaged or not.
pub fn is_line(line: &[u8]) -> bool {
    line.starts_with(b"#epoch ") || line.starts_with(MEMBERS)
}

/// Checks a record's payload: a list of effects, or the members of a cluster. Returns the number of effects.
pub fn check(payload: &[u8]) -> Result<usize, Malformed> {
    Members::of_record(Seq(0), payload)?;
    effect::check(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aof::record::{Epoch, Position};
    use crate::cluster::members::testing::members;

    fn outline(members_at: &[u64]) -> Outline {
        let mut outline = Outline::default();
        for epoch in 1..=3 {
            outline.epochs.note(Position { seq: Seq(epoch * 10), epoch: Epoch(epoch), crc: 7 });
        }
        members_at.iter().for_each(|seq| outline.note_members(members(*seq)));
        outline
    }

    #[test]
    fn a_base_has_the_epochs_and_the_members_before_it() {
        let whole = outline(&[11, 12, 25]);
        for (seq, newest) in [(9, None), (10, None), (11, Some(11)), (24, Some(12)), (25, Some(25))]
        {
            let mut read = Outline::default();
            for line in whole.lines(Seq(seq)) {
                assert!(is_line(&line));
                read.read_line(&line, Seq(seq)).expect("it was just written");
            }
            assert_eq!(read.members(), newest.map(members).as_ref(), "{seq}");
            assert_eq!(read.epochs.all(), whole.epochs.upto(Seq(seq)));
        }
    }

    #[test]
    fn a_line_in_the_wrong_place_is_refused() {
        let line = members(12).base_line();
        let mut read = Outline::default();
        assert_eq!(read.read_line(&line, Seq(11)), None, "of a record after the base");
        assert_eq!(read.read_line(&line, Seq(12)), Some(()));
        assert_eq!(read.members(), Some(&members(12)));
        assert_eq!(read.read_line(&line, Seq(12)), None, "a second one");
        assert_eq!(read.read_line(b"#epoch 1 1", Seq(12)), None);
    }

    #[test]
    fn the_newest_members_are_kept() {
        let seqs: Vec<u64> = (1..=MEMBERS_MAX as u64 + 1).collect();
        let outline = outline(&seqs);
        assert_eq!(outline.members(), Some(&members(MEMBERS_MAX as u64 + 1)));
        assert_eq!((outline.members_at(Seq(1)), outline.members.len()), (None, MEMBERS_MAX));
    }

    #[test]
    fn a_damaged_members_record_is_no_payload() {
        let payload = members(0).payload().expect("it fits");
        assert_eq!(check(&payload), Ok(0));
        assert!(check(b"#members 1\r\n").is_err());
        assert!(check(&payload[..payload.len() - 2]).is_err());
        assert_eq!(check(b""), Ok(0), "the first record of an epoch");
    }
}
