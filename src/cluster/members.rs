//! The members of a cluster, as the log's newest members record names them.
//!
//! The record's payload is one line, and no effect. To stock Redis it is a comment, so it is short enough for one:
//!
//! ```text
//! #members 0000000000009c01 ack=majority reads=index 2 a:8080=3fa9…,b:8080=81bc…␍␊
//! ```
//!
//! 1. the cluster: 16 hex digits, drawn by its first leader
//! 2. `ack`: what an OK waits for
//! 3. `reads`: how the leader makes sure that it still leads before it answers a read
//! 4. the number of voters
//! 5. for each voter its address and its id (40 hex digits); a replaced disk keeps the address and has another id

use super::term::{ClusterId, Memory, NodeId};
use crate::aof::numbers::{LINE_BYTES_MAX, Words};
use crate::store::effect::{MEMBERS, Malformed, Seq};
use std::collections::BTreeSet;
use std::fmt;

/// The longest text of a record. A base has it in a line of its own, with the seq.
const TEXT_BYTES_MAX: usize = LINE_BYTES_MAX - "#members 18446744073709551615 \r\n".len();

/// What an OK waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// The leader's own log, and the certainty that no other node leads yet.
    #[default]
    Leader,
    /// A majority of the members.
    Majority,
}

impl Ack {
    /// As it stands in the record and in the settings.
    pub fn word(self) -> &'static str {
        match self {
            Ack::Leader => "leader",
            Ack::Majority => "majority",
        }
    }

    /// Reads what [`Ack::word`] wrote.
    pub fn parse(word: &[u8]) -> Option<Ack> {
        [Ack::Leader, Ack::Majority].into_iter().find(|ack| ack.word().as_bytes() == word)
    }
}

/// How the leader makes sure that it still leads before it answers a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reads {
    /// Not at all: another node may lead by now, so a value may be old.
    #[default]
    Local,
    /// With a round of heartbeats that a majority hears after the read [Ongaro 6.4].
    Index,
}

impl Reads {
    /// As it stands in the record and in the settings.
    pub fn word(self) -> &'static str {
        match self {
            Reads::Local => "local",
            Reads::Index => "index",
        }
    }

    /// Reads what [`Reads::word`] wrote.
    pub fn parse(word: &[u8]) -> Option<Reads> {
        [Reads::Local, Reads::Index].into_iter().find(|reads| reads.word().as_bytes() == word)
    }
}

/// A node that votes and counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    /// The node.
    pub id: NodeId,
    /// Where the others reach it: `host:port`.
    pub address: String,
}

impl Voter {
    /// Reads `<address>=<id>`.
    fn parse(text: &[u8]) -> Option<Voter> {
        let (address, id) = std::str::from_utf8(text).ok()?.split_once('=')?;
        let is_address = !address.is_empty() && address.bytes().all(is_of_address);
        let (id, address) = (NodeId::parse(id)?, address.to_string());
        is_address.then_some(Voter { id, address })
    }
}

/// True for a byte that an address may have: a name, an IPv4 address, or an IPv6 address in brackets, with a port.
pub fn is_of_address(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".:-_%[]".contains(&byte)
}

/// A members record. It is in force from the moment in which it is appended [Ongaro 4.1].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// The cluster.
    pub cluster: ClusterId,
    /// What an OK waits for.
    pub ack: Ack,
    /// How the leader makes sure that it still leads before it answers a read.
    pub reads: Reads,
    /// The nodes that vote and count, each once.
    pub voters: Vec<Voter>,
    /// The record's number; 0 before it is appended.
    pub seq: Seq,
}

/// The record's text: the payload without its first word and its line end.
impl fmt::Display for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Members { cluster, ack, reads, voters, .. } = self;
        let (ack, reads, count) = (ack.word(), reads.word(), voters.len());
        write!(f, "{:016x} ack={ack} reads={reads} {count} ", cluster.0)?;
        for (at, Voter { id, address }) in voters.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{address}={id}")?;
        }
        Ok(())
    }
}

impl Members {
    /// True if this node votes.
    pub fn names(&self, id: NodeId) -> bool {
        self.ids().any(|voter| voter == id)
    }

    /// The voters' ids.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> {
        self.voters.iter().map(|voter| voter.id)
    }

    /// The winning rule: a majority of voters that have forgotten nothing, or all voters. If all voters agree, either
    /// none has a newer record or no node has it any more.
    pub fn elect(&self, yes: &[(NodeId, Memory)]) -> bool {
        let votes = yes.iter().filter(|(id, _)| self.names(*id));
        let whole = votes.clone().filter(|(_, memory)| *memory == Memory::Whole).count();
        whole >= majority(self.voters.len()) || votes.count() == self.voters.len()
    }

    /// The address of this node, if it votes.
    pub fn address_of(&self, id: NodeId) -> Option<&str> {
        let voter = self.voters.iter().find(|voter| voter.id == id)?;
        Some(&voter.address)
    }

    /// The record's payload. None if it would not read back: no voters, one of them twice, more than fit into a line,
    /// or an address with other bytes than [`is_of_address`] allows.
    pub fn payload(&self) -> Option<Vec<u8>> {
        let text = self.to_string();
        Members::read(text.as_bytes(), self.seq)?;
        Some([MEMBERS, text.as_bytes(), b"\r\n"].concat())
    }

    /// Reads the payload of the record with this number. None if that is not a members record.
    pub fn of_record(seq: Seq, payload: &[u8]) -> Result<Option<Members>, Malformed> {
        let Some(line) = payload.strip_prefix(MEMBERS) else { return Ok(None) };
        let members = line.strip_suffix(b"\r\n").and_then(|text| Members::read(text, seq));
        members.map(Some).ok_or(Malformed("a members record is damaged"))
    }

    /// The line of a base, without its end: `#members <seq> <text>`.
    pub fn base_line(&self) -> Vec<u8> {
        [MEMBERS, format!("{} {self}", self.seq).as_bytes()].concat()
    }

    /// Reads what [`Members::base_line`] wrote.
    pub fn of_base(line: &[u8]) -> Option<Members> {
        let mut words = Words::after(MEMBERS, line)?;
        let seq = Seq(words.number()?);
        Members::read(words.rest()?, seq)
    }

    fn read(text: &[u8], seq: Seq) -> Option<Members> {
        let mut words = Words::of(text);
        let cluster = std::str::from_utf8(words.word()?).ok()?;
        let cluster = ClusterId(u64::from_str_radix(cluster, 16).ok()?);
        let ack = Ack::parse(words.word()?.strip_prefix(b"ack=")?)?;
        let reads = Reads::parse(words.word()?.strip_prefix(b"reads=")?)?;
        let _count = words.number()?;
        let voters = words.word()?.split(|&byte| byte == b',').map(Voter::parse);
        let members = Members { cluster, ack, reads, voters: voters.collect::<Option<_>>()?, seq };
        let distinct = members.ids().collect::<BTreeSet<_>>().len();
        let is_sound = text.len() <= TEXT_BYTES_MAX && distinct == members.voters.len();
        // Each record has one spelling, so this checks the count, too.
        (is_sound && members.to_string().as_bytes() == text).then_some(members)
    }
}

/// The smallest number of voters that any other majority meets.
pub fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The highest value that a majority of the voters has reached. A voter that is missing in `values` has reached none.
pub fn reached_by_majority<T: Ord + Copy>(mut values: Vec<T>, voters: usize) -> Option<T> {
    values.sort_unstable_by(|a, b| b.cmp(a));
    values.get(majority(voters) - 1).copied()
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A cluster of two, as the record with this number names it.
    pub fn members(seq: u64) -> Members {
        let voter = |byte, address: &str| Voter { id: NodeId([byte; 20]), address: address.into() };
        Members {
            cluster: ClusterId(0x9c01 + seq),
            ack: Ack::Majority,
            reads: Reads::Index,
            voters: vec![voter(0x3f, "a.example:8080"), voter(0x81, "[fe80::1%eth0]:8081")],
            seq: Seq(seq),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::members;
    use super::*;

    #[test]
    fn a_majority_reaches_what_its_last_member_reaches() {
        assert_eq!([1, 2, 3, 4, 5].map(majority), [1, 2, 2, 3, 3]);
        assert_eq!(reached_by_majority(vec![3, 9, 5], 3), Some(5));
        assert_eq!(reached_by_majority(vec![9, 3], 3), Some(3));
        assert_eq!(reached_by_majority(vec![9], 3), None);
        assert_eq!(reached_by_majority(vec![7], 1), Some(7));
        assert_eq!(reached_by_majority(vec![1, 2, 3, 4], 4), Some(2));
    }

    #[test]
    fn voters_are_found_by_id() {
        let members = members(7);
        let [first, other] = [0x3f, 0x82].map(|byte| NodeId([byte; 20]));
        assert!(members.names(first) && !members.names(other));
        assert_eq!(members.address_of(first), Some("a.example:8080"));
        assert_eq!(members.address_of(other), None);
        assert_eq!(members.ids().count(), 2);
    }

    #[test]
    fn a_record_is_one_readable_line() {
        let payload = members(0).payload().expect("it fits");
        let (first, second) = ("3f".repeat(20), "81".repeat(20));
        let expected = format!(
            "#members 0000000000009c01 ack=majority reads=index 2 \
             a.example:8080={first},[fe80::1%eth0]:8081={second}\r\n"
        );
        assert_eq!(String::from_utf8(payload).as_deref(), Ok(&*expected));
        assert_eq!(Members::of_record(Seq(0), b"*1\r\n$8\r\nFLUSHALL\r\n"), Ok(None));
    }

    #[test]
    fn records_and_lines_read_back() {
        for seq in [0, 7, u64::MAX - 0x9c01] {
            let mut members = members(seq);
            for (ack, reads) in [(Ack::Leader, Reads::Local), (Ack::Majority, Reads::Index)] {
                (members.ack, members.reads) = (ack, reads);
                let payload = members.payload().expect("it fits");
                assert_eq!(Members::of_record(Seq(seq), &payload), Ok(Some(members.clone())));
                assert_eq!(Members::of_base(&members.base_line()), Some(members.clone()));
            }
        }
    }

    /// A flipped bit may lead to other members, which the crc of the record shows, but not to another spelling.
    #[test]
    fn each_flipped_bit_and_each_cut_is_another_record_or_none() {
        let whole = members(7);
        let payload = whole.payload().expect("it fits");
        let mut refused = 0;
        for bit in 0..payload.len() * 8 {
            let mut flipped = payload.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match Members::of_record(Seq(7), &flipped) {
                Ok(Some(other)) => assert_eq!(other.payload(), Some(flipped)),
                Ok(None) => assert!(bit / 8 < MEMBERS.len()),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > payload.len() * 4, "only {refused} of {} are refused", payload.len() * 8);
        for len in MEMBERS.len()..payload.len() {
            assert!(Members::of_record(Seq(7), &payload[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn members_that_would_not_read_back_have_no_payload() {
        let with_voters = |voters| Members { voters, ..members(7) };
        let named = |number: u16, address: &str| {
            let id = NodeId(std::array::from_fn(|at| number.to_be_bytes()[at % 2]));
            Voter { id, address: address.to_string() }
        };
        assert!(with_voters(vec![named(1, "a:1"), named(2, "b:1")]).payload().is_some());
        assert_eq!(with_voters(Vec::new()).payload(), None);
        assert_eq!(with_voters(vec![named(1, "a:1"), named(1, "b:1")]).payload(), None, "twice");
        for address in ["", "a b:1", "a,b:1", "a=b:1", "a\r\n:1", "é:1"] {
            assert_eq!(with_voters(vec![named(1, address)]).payload(), None, "{address:?}");
        }
        let fits = |count| with_voters((1..=count).map(|n| named(n, "host:8080")).collect());
        let longest = (1..100).rfind(|count| fits(*count).payload().is_some()).expect("some fit");
        let line = Members { seq: Seq(u64::MAX), ..fits(longest) }.base_line();
        assert!(longest > 10 && line.len() + 2 <= LINE_BYTES_MAX, "{longest} voters");
    }
}
