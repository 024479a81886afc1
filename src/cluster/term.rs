//! A node's promises, which it must remember across a power cut.
//!
//! It is written to the file `node` and fsynced before any answer that depends on it. A node that cannot write it
//! stays silent. The file is text:
//!
//! ```text
//! id 3fa9…                    40 hex digits
//! cluster 9c01…               16 hex digits, or -
//! left 77aa…                  only in a directory that was taken out of a cluster (`kvstore cluster forget`)
//! epoch 7                     the highest epoch promised
//! vote 81bc…                  to which node in that epoch, or -
//! led 5                       the last epoch that this node led
//! memory whole                or recovering
//! boot 5c1f… 81023 2049       of the kernel, or ?; milliseconds; device of the directory; or -
//! strict yes                  or no
//! promise 1000                milliseconds
//! floor 5 41                  epoch and number of a record: a log that ends before it lacks what was acknowledged; may be left out
//! sealed 8f3a1c02             the CRC-32 of the lines before
//! ```

use crate::aof::record::Epoch;
use crate::store::effect::Seq;
use std::fmt;

/// Milliseconds on a clock that goes on while the machine sleeps and that nobody can set.
pub type Millis = u64;

/// A node's identity: 40 hex digits, drawn once for a directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 20]);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl NodeId {
    /// Reads 40 hex digits.
    pub fn parse(digits: &str) -> Option<NodeId> {
        let mut id = NodeId([0; 20]);
        for (at, byte) in id.0.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        (id.to_string() == digits).then_some(id)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}{:02x}", self.0[18], self.0[19])
    }
}

/// A cluster's identity, made by its first leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClusterId(pub u64);

/// 16 hex digits.
impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl ClusterId {
    /// Reads 16 hex digits.
    pub fn parse(digits: &[u8]) -> Option<ClusterId> {
        let text = str::from_utf8(digits).ok()?;
        let cluster = u64::from_str_radix(text, 16).ok().map(ClusterId)?;
        (cluster.to_string() == text).then_some(cluster)
    }

    /// As it stands on lines: `-` is none.
    pub fn word(cluster: Option<ClusterId>) -> String {
        cluster.map_or("-".to_string(), |cluster| cluster.to_string())
    }

    /// Reads what [`ClusterId::word`] wrote.
    pub fn parse_word(word: &[u8]) -> Option<Option<ClusterId>> {
        if word == b"-" { Some(None) } else { ClusterId::parse(word).map(Some) }
    }
}

/// Tells whether a node can have forgotten what it acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// It has every record that it acknowledged.
    #[default]
    Whole,
    /// It may lack some. It follows and acknowledges, but its vote alone makes no majority.
    Recovering,
}

impl Memory {
    /// As it stands in the file and in answers.
    pub fn word(self) -> &'static str {
        match self {
            Memory::Whole => "whole",
            Memory::Recovering => "recovering",
        }
    }

    pub(super) fn parse(word: &[u8]) -> Option<Memory> {
        let all = [Memory::Whole, Memory::Recovering];
        all.into_iter().find(|memory| memory.word().as_bytes() == word)
    }
}

/// When and where this process could last have acknowledged a record that was not durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// The kernel's id of this boot, one word. Empty if it cannot be read.
    pub id: String,
    /// The clock when the line was written.
    pub at: Millis,
    /// The device of the directory.
    pub device: u64,
}

impl Boot {
    fn words(&self) -> String {
        let id = if self.id.is_empty() { "?" } else { &self.id };
        format!("{id} {} {}", self.at, self.device)
    }

    fn parse(words: &str) -> Option<Boot> {
        let mut words = words.split(' ');
        let id = words.next().filter(|id| *id != "?").unwrap_or_default().to_string();
        Some(Boot { id, at: words.next()?.parse().ok()?, device: words.next()?.parse().ok()? })
    }

    /// True if all that was written before `self` is still in the page cache `now`: the same boot of the machine,
    /// the same disk. An unreadable id equals nothing.
    pub fn is_still(&self, now: &Boot) -> bool {
        !self.id.is_empty() && self.id == now.id && self.device == now.device && self.at <= now.at
    }
}

/// The end of a log. The later epoch wins, then the longer log [Raft 5.4.1].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// The epoch of the last record.
    pub epoch: Epoch,
    /// Its number.
    pub seq: Seq,
}

/// The promises of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// This node.
    pub id: NodeId,
    /// Its cluster, from the first members record on.
    pub cluster: Option<ClusterId>,
    /// Until the next cluster is known: the one that this directory was taken out of. Its members records, which the log
    /// still has, count for nothing.
    pub left: Option<ClusterId>,
    /// The highest epoch promised: nothing older is answered, acknowledged or followed.
    pub epoch: Epoch,
    /// The node that has this node's vote in that epoch.
    pub vote: Option<NodeId>,
    /// The last epoch that this node led.
    pub led: Epoch,
    /// Tells whether this node may have forgotten records.
    pub memory: Memory,
    /// None after a clean stop: the log was synced as the very last act.
    pub boot: Option<Boot>,
    /// True if it may have acknowledged a record under `ack majority`.
    pub strict: bool,
    /// The longest promise, in milliseconds, that may have been given in this epoch or an earlier one.
    pub promise: Millis,
    /// No log that ends before this may lead: the newest members record that this node may have acknowledged.
    pub floor: End,
}

impl Term {
    /// A node without a history.
    pub fn new(id: NodeId) -> Term {
        Term {
            id,
            cluster: None,
            left: None,
            epoch: Epoch(0),
            vote: None,
            led: Epoch(0),
            memory: Memory::Recovering,
            boot: None,
            strict: false,
            promise: 0,
            floor: End::default(),
        }
    }

    /// This node has every record that it acknowledged in its cluster, or its leader does not count on them. The newest
    /// members record stands at `floor`.
    pub fn become_whole(&mut self, floor: End) {
        (self.memory, self.floor) = (Memory::Whole, floor);
    }

    /// True if a members record of this cluster counts here. A node belongs to one cluster: after `PROMOTE FORCE` and
    /// `kvstore cluster forget`, the log still has records of the one before.
    pub fn counts(&self, cluster: ClusterId) -> bool {
        self.cluster.map_or(self.left != Some(cluster), |own| own == cluster)
    }

    /// A process starts. `damaged` is true if records were cut off, a copy was interrupted or an fsync failed.
    pub fn start(&mut self, now: &Boot, damaged: bool) {
        let is_still = self.boot.as_ref().is_none_or(|boot| boot.is_still(now));
        if self.strict && (damaged || !is_still) {
            self.memory = Memory::Recovering;
        }
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let or_none = |text: Option<String>| text.unwrap_or("-".to_string());
        let left = self.left.map_or(String::new(), |left| format!("left {left}\n"));
        let floor = match self.floor {
            End { seq: Seq(0), .. } => String::new(),
            End { epoch, seq } => format!("floor {} {seq}\n", epoch.0),
        };
        let text = format!(
            "id {}\ncluster {}\n{left}epoch {}\nvote {}\nled {}\nmemory {}\nboot {}\nstrict {}\npromise {}\n{floor}",
            self.id,
            or_none(self.cluster.map(|cluster| cluster.to_string())),
            self.epoch.0,
            or_none(self.vote.map(|vote| vote.to_string())),
            self.led.0,
            self.memory.word(),
            or_none(self.boot.as_ref().map(Boot::words)),
            if self.strict { "yes" } else { "no" },
            self.promise,
        );
        let seal = crc32fast::hash(text.as_bytes());
        format!("{text}sealed {seal:08x}\n")
    }

    /// Reads the file's text; None if it is damaged. A file from before there were votes has an id and an epoch only.
    pub fn parse(text: &str) -> Option<Term> {
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let number = |name: &str| field(name)?.parse::<u64>().ok();
        let id = NodeId::parse(field("id")?)?;
        let epoch = Epoch(number("epoch")?);
        if field("sealed").is_none() {
            let is_old = text == format!("id {id}\nepoch {}\n", epoch.0);
            let term =
                Term { epoch, vote: Some(id), led: epoch, memory: Memory::Whole, ..Term::new(id) };
            return is_old.then_some(term);
        }
        let term = Term {
            id,
            cluster: optional(field("cluster")?, |word| ClusterId::parse(word.as_bytes()))?,
            left: optional(field("left").unwrap_or("-"), |word| ClusterId::parse(word.as_bytes()))?,
            epoch,
            vote: optional(field("vote")?, NodeId::parse)?,
            led: Epoch(number("led")?),
            memory: Memory::parse(field("memory")?.as_bytes())?,
            boot: optional(field("boot")?, Boot::parse)?,
            strict: field("strict")? == "yes",
            promise: number("promise")?,
            floor: field("floor").map_or(Some(End::default()), position)?,
        };
        // Each value has one spelling, so this checks the seal, too.
        (term.text() == text).then_some(term)
    }
}

/// An epoch and the number of a record.
fn position(words: &str) -> Option<End> {
    let (epoch, seq) = words.split_once(' ')?;
    Some(End { epoch: Epoch(epoch.parse().ok()?), seq: Seq(seq.parse().ok()?) })
}

/// `-` is none.
fn optional<T>(word: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    if word == "-" { Some(None) } else { read(word).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> NodeId {
        NodeId([byte; 20])
    }

    #[test]
    fn the_file_reads_back_and_each_flipped_bit_shows() {
        let new = Term::new(id(0x3f));
        let boot = Boot { id: "5c1f-44".to_string(), at: 81_023, device: 2049 };
        let used = Term {
            cluster: Some(ClusterId(0x9c01)),
            epoch: Epoch(7),
            vote: Some(id(0x81)),
            led: Epoch(5),
            memory: Memory::Whole,
            boot: Some(boot.clone()),
            strict: true,
            promise: 1000,
            floor: End { epoch: Epoch(5), seq: Seq(41) },
            ..new.clone()
        };
        let nameless = Term { boot: Some(Boot { id: String::new(), ..boot }), ..used.clone() };
        let forgotten = Term { cluster: None, left: Some(ClusterId(0x9c01)), ..used.clone() };
        for term in [new, used, nameless, forgotten] {
            let text = term.text();
            assert_eq!(Term::parse(&text), Some(term), "{text}");
            for bit in 0..text.len() * 8 {
                let mut flipped = text.clone().into_bytes();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let read = String::from_utf8(flipped).ok().and_then(|text| Term::parse(&text));
                assert_eq!(read, None, "bit {bit} of {text}");
            }
            assert_eq!(Term::parse(&text[..text.len() - 1]), None);
        }
    }

    #[test]
    fn a_file_from_before_votes_has_voted_for_itself() {
        let term = Term::parse(&format!("id {}\nepoch 5\n", id(0xaa))).expect("it is valid");
        assert_eq!((term.epoch, term.led, term.vote), (Epoch(5), Epoch(5), Some(id(0xaa))));
        assert_eq!((term.memory, term.cluster), (Memory::Whole, None));
        assert_eq!(Term::parse(&format!("id {}\nepoch 05\n", id(0xaa))), None);
    }

    #[test]
    fn only_records_of_the_own_cluster_count() {
        let (one, other) = (ClusterId(1), ClusterId(2));
        let term = |cluster, left| Term { cluster, left, ..Term::new(id(1)) };
        let counts = |term: Term| [one, other].map(|cluster| term.counts(cluster));
        assert_eq!(counts(term(None, None)), [true, true], "a node that joins");
        assert_eq!(counts(term(Some(one), None)), [true, false]);
        assert_eq!(counts(term(None, Some(one))), [false, true], "forgotten, and joins another");
    }

    #[test]
    fn a_strict_node_that_lost_power_may_have_forgotten() {
        let boot = |id: &str, at, device| Boot { id: id.to_string(), at, device };
        let noted = boot("one", 100, 1);
        let after = |now: &Boot, strict, damaged| {
            let boot = Some(noted.clone());
            let mut term = Term { boot, strict, memory: Memory::Whole, ..Term::new(id(1)) };
            term.start(now, damaged);
            term.memory
        };
        assert_eq!(
            after(&boot("one", 100, 1), true, false),
            Memory::Whole,
            "killed, or out of memory"
        );
        for now in [boot("two", 200, 1), boot("one", 99, 1), boot("one", 200, 2), boot("", 200, 1)]
        {
            assert_eq!(after(&now, true, false), Memory::Recovering, "{now:?}");
            assert_eq!(after(&now, false, false), Memory::Whole, "it promised nothing");
        }
        assert_eq!(
            after(&boot("one", 200, 1), true, true),
            Memory::Recovering,
            "the log is damaged"
        );
        let mut clean = Term { strict: true, memory: Memory::Whole, ..Term::new(id(1)) };
        clean.start(&boot("two", 0, 1), false);
        assert_eq!(clean.memory, Memory::Whole, "a clean stop");
    }
}
