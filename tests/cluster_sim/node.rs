//! A machine: its disk, its clock, and the process that may run on it.

use kvstore::aof::record::Epoch;
use kvstore::cluster::election::Election;
use kvstore::cluster::members::{Ack, Members, Reads, Voter};
use kvstore::cluster::message::End;
use kvstore::cluster::term::{Boot, ClusterId, Millis, NodeId, Term};
use kvstore::store::effect::Seq;
use std::rc::Rc;

/// A record. `crc` seals it and all before it: two logs that agree in one have the same past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub epoch: Epoch,
    pub crc: u64,
    pub kind: RecordKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// The first one of an epoch.
    Begin,
    Write,
    Members(Ack, Rc<Vec<NodeId>>),
}

/// A log. What is in it has been written: only a power cut, or a failed fsync, takes away what is not durable.
#[derive(Clone, Debug, Default)]
pub struct Log {
    pub records: Vec<Record>,
    pub durable: usize,
}

impl Log {
    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn end(&self) -> End {
        self.end_at(self.len())
    }

    pub fn end_at(&self, len: usize) -> End {
        let epoch = if len == 0 { Epoch(0) } else { self.records[len - 1].epoch };
        End { epoch, seq: Seq(len as u64) }
    }

    /// The seal of the record with this number; 0 before the first.
    pub fn crc_at(&self, seq: usize) -> Option<u64> {
        if seq == 0 { Some(0) } else { self.records.get(seq - 1).map(|record| record.crc) }
    }

    pub fn append(&mut self, epoch: Epoch, kind: RecordKind, unique: u64) {
        let before = self.crc_at(self.len()).unwrap_or(0);
        let crc = (before ^ unique.wrapping_mul(0x9e37_79b9_7f4a_7c15)).rotate_left(23)
            ^ epoch.0.wrapping_mul(0xff51_afd7_ed55_8ccd);
        self.records.push(Record { epoch, crc, kind });
    }

    /// A durable log of the first `len` records.
    pub fn first(&self, len: usize) -> Log {
        Log { records: self.records[..len].to_vec(), durable: len }
    }

    /// Removes the records after the first `len` and returns their seals.
    pub fn cut(&mut self, len: usize) -> Vec<u64> {
        self.durable = self.durable.min(len);
        self.records.drain(len..).map(|record| record.crc).collect()
    }

    /// How many records the two have in common.
    pub fn common(&self, other: &Log) -> usize {
        let pairs = self.records.iter().zip(&other.records);
        pairs.take_while(|(a, b)| a.crc == b.crc).count()
    }

    /// The newest members record among the first `len`.
    pub fn members(&self, len: usize) -> Option<Members> {
        self.records[..len].iter().enumerate().rev().find_map(|(at, record)| match &record.kind {
            RecordKind::Members(ack, voters) => Some(Members {
                cluster: ClusterId(1),
                ack: *ack,
                reads: Reads::Index,
                voters: voters.iter().map(|&id| Voter { id, address: String::new() }).collect(),
                seq: Seq(at as u64 + 1),
            }),
            _ => None,
        })
    }
}

/// When a node's log is as safe as its acknowledgement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    Always,
    EverySecond,
}

/// A link to the leader, as its follower sees it.
#[derive(Clone, Debug)]
pub struct Link {
    pub number: u64,
    pub leader: usize,
    /// The leader's epoch, after its answer.
    pub epoch: Option<Epoch>,
    /// The leader's log ended there when the link came up; None after it was reached.
    pub catching_up: Option<usize>,
    pub heard_at: u64,
}

/// A link to a follower, as its leader sees it.
#[derive(Clone, Debug)]
pub struct Feed {
    pub number: u64,
    pub follower: usize,
    pub sent: usize,
    /// When the follower last acknowledged anything.
    pub heard_at: u64,
    /// Nothing on the link overtakes: no message is delivered earlier than this.
    pub not_before: u64,
}

/// The commands that a client sent to one node in one packet.
#[derive(Clone, Debug)]
pub struct Batch {
    pub number: u64,
    pub history: u64,
    pub epoch: Epoch,
    /// A record that it wrote.
    pub wrote: Option<(usize, u64)>,
    /// Its read, if it has one.
    pub read: Option<Read>,
    /// The last command, a read, has not run yet.
    pub reads_later: bool,
    pub at_gate: bool,
    pub since: u64,
}

/// A read of the whole state.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// The length of the log that made the state, and its last record's seal.
    pub len: usize,
    pub crc: u64,
    /// The record that must be committed before the state may be shown.
    pub needs: usize,
    /// All that had been confirmed to any client before was in it.
    pub is_recent: bool,
    /// The round begun last when it ran.
    pub round: u64,
    /// A later command of the batch wrote, or a follower reads.
    pub needs_no_round: bool,
}

/// A running process.
#[derive(Debug)]
pub struct Process {
    pub number: u64,
    pub election: Election,
    /// The epoch in memory, which the gate and the acknowledgements read.
    pub epoch: Epoch,
    /// The epoch in which it takes writes.
    pub leads: Option<Epoch>,
    pub history: u64,
    pub commit: usize,
    pub fence: Millis,
    pub confirmed: (Epoch, u64),
    pub target: Option<usize>,
    pub link: Option<Link>,
    pub feeds: Vec<Feed>,
    pub batches: Vec<Batch>,
    /// The term could not be written: nothing that depends on it may be sent.
    pub is_dirty: bool,
    /// The log's length when it was loaded.
    pub loaded: usize,
    /// Terms on their way to the disk, if the rule is broken that a vote waits for it.
    pub unsynced_term: Option<Term>,
    /// Writes are held for a handover.
    pub holds_until: u64,
    /// The log's end, as it was some time ago.
    pub cached_end: End,
}

/// A machine.
#[derive(Debug)]
pub struct Node {
    pub id: NodeId,
    pub timeout: Millis,
    pub term: Term,
    pub log: Log,
    pub process: Option<Process>,
    /// Records that were given up and kept aside.
    pub aside: Vec<u64>,
    pub fsync: Fsync,
    pub boot: u64,
    /// The clock runs at so many thousandths, from `clock_zero` on.
    pub rate: u64,
    pub clock_zero: u64,
    pub paused_until: u64,
    pub disk_full: bool,
    /// A failed fsync: the pages are gone, although the process still sees them.
    pub fsync_failed: bool,
}

impl Node {
    /// A machine without data. Nothing runs on it.
    pub fn new(at: usize, timeout: Millis, fsync: Fsync, boot: u64, rate: u64) -> Node {
        let id = NodeId(std::array::from_fn(|byte| if byte == 19 { at as u8 } else { 0 }));
        Node {
            id,
            timeout,
            term: Term::new(id),
            log: Log::default(),
            process: None,
            aside: Vec::new(),
            fsync,
            boot,
            rate,
            clock_zero: 0,
            paused_until: 0,
            disk_full: false,
            fsync_failed: false,
        }
    }

    pub fn clock(&self, now: u64) -> Millis {
        1000 + (now - self.clock_zero) * self.rate / 1000
    }

    pub fn boot_now(&self, now: u64) -> Boot {
        Boot { id: self.boot.to_string(), at: self.clock(now), device: 1 }
    }

    /// True if the log and the file `node` can be written.
    pub fn can_write(&self) -> bool {
        !self.disk_full && !self.fsync_failed
    }

    /// The last record that this node may acknowledge.
    pub fn level(&self) -> usize {
        match self.fsync {
            Fsync::Always => self.log.durable,
            Fsync::EverySecond => self.log.len(),
        }
    }

    /// The condition for an OK: a stricter record counts when it is appended, a weaker one when it is committed.
    pub fn ack(&self) -> Ack {
        let commit = self.process.as_ref().map_or(0, |process| process.commit);
        for (at, record) in self.log.records.iter().enumerate().rev() {
            if let RecordKind::Members(ack, _) = &record.kind {
                if *ack == Ack::Majority {
                    return Ack::Majority;
                }
                if at < commit {
                    break;
                }
            }
        }
        Ack::Leader
    }

    /// True if what an OK says under `ack majority` is promised: its record is committed, so a majority takes it
    /// strictly.
    pub fn promises_majority(&self) -> bool {
        let commit = self.process.as_ref().map_or(0, |process| process.commit);
        let members = self.log.members(commit.min(self.log.len()));
        members.is_some_and(|members| members.ack == Ack::Majority)
    }
}
