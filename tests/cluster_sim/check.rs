//! The conditions that hold after every step.

use crate::node::{Batch, Log, Node};
use kvstore::aof::record::Epoch;
use kvstore::cluster::members::{Ack, majority};
use kvstore::cluster::term::Memory;
use std::collections::{HashMap, HashSet};

/// The promises so far, to any client and node.
#[derive(Debug, Default)]
pub struct Checks {
    pub violation: Option<String>,
    leaders: HashMap<u64, usize>,
    votes: HashMap<(u64, usize), usize>,
    /// The newest epoch that a leader began.
    newest: Epoch,
    /// The seals of its log then.
    newest_log: Vec<u64>,
    /// The seals of all records up to the newest one that a client saw confirmed under `ack majority`.
    confirmed: Vec<u64>,
    /// The same of what some leader knew to be committed.
    committed: Vec<u64>,
    /// Records confirmed by a leader alone.
    by_leader: Vec<u64>,
    /// Records that a power cut or a failed fsync took.
    pub lost: HashSet<u64>,
    /// False once `ack leader` was in force: a commit promises less then.
    pub is_strict: bool,
    /// True if operators change `ack` in this run.
    pub changes_ack: bool,
    pub oks: u64,
}

impl Checks {
    pub fn new(ack: Ack, changes_ack: bool) -> Checks {
        let is_strict = ack == Ack::Majority && !changes_ack;
        Checks { is_strict, changes_ack, ..Checks::default() }
    }

    pub fn fail(&mut self, what: &str) {
        self.violation.get_or_insert_with(|| what.to_string());
    }

    /// How many leaders began an epoch.
    pub fn leaders(&self) -> usize {
        self.leaders.len()
    }

    pub fn voted(&mut self, epoch: Epoch, voter: usize, candidate: usize) {
        let before = *self.votes.entry((epoch.0, voter)).or_insert(candidate);
        if before != candidate {
            self.fail(&format!(
                "n{voter} voted for n{before} and n{candidate} in epoch {}",
                epoch.0
            ));
        }
    }

    pub fn begun(&mut self, epoch: Epoch, leader: usize, log: &Log) {
        let before = *self.leaders.entry(epoch.0).or_insert(leader);
        if before != leader {
            self.fail(&format!("n{before} and n{leader} lead epoch {}", epoch.0));
        }
        if epoch < self.newest {
            return; // It was elected before a newer leader, and will learn of that one.
        }
        self.newest = epoch;
        self.newest_log = log.records.iter().map(|record| record.crc).collect();
        if !covers(log, &self.confirmed) {
            let len = self.confirmed.len();
            self.fail(&format!(
                "n{leader} leads without record {len}, which a client saw confirmed"
            ));
        }
        if self.is_strict && !covers(log, &self.committed) {
            let len = self.committed.len();
            self.fail(&format!("n{leader} leads without record {len}, which was committed"));
        }
    }

    /// A leader knows that a majority has all records up to this one.
    pub fn committed(&mut self, nodes: &[Node], leader: usize, commit: usize) {
        // Under `ack leader`, a minority's power cut may take what was committed.
        if !self.is_strict {
            return;
        }
        let log = &nodes[leader].log;
        if !extend(&mut self.committed, log, commit) {
            self.fail(&format!("record {commit} was committed twice, differently"));
        }
        // A node that is down or recovering may have lost it since it acknowledged it, and counts for less then.
        let crc = log.crc_at(commit);
        let counts = |node: &&Node| {
            node.process.is_none()
                || node.term.memory == Memory::Recovering
                || node.log.crc_at(commit) == crc && node.level() >= commit
        };
        let members = log.members(log.len());
        let votes = |node: &&Node| members.as_ref().is_none_or(|members| members.names(node.id));
        let voters = members.as_ref().map_or(nodes.len(), |members| members.voters.len());
        if nodes.iter().filter(votes).filter(counts).count() < majority(voters) {
            self.fail(&format!("n{leader} committed record {commit}, which no majority has"));
        }
    }

    /// A node has the votes. No leader of an earlier epoch may still rely on a promise.
    pub fn won(&mut self, nodes: &[Node], winner: usize, epoch: Epoch, now: u64) {
        for (at, node) in nodes.iter().enumerate() {
            let Some(process) = &node.process else { continue };
            let is_earlier = process.election.leads().is_some_and(|leads| leads < epoch);
            if is_earlier && process.fence > node.clock(now) {
                self.fail(&format!("n{winner} won epoch {} within the fence of n{at}", epoch.0));
            }
        }
    }

    /// True if the log has all that any client saw confirmed.
    pub fn is_recent(&self, log: &Log) -> bool {
        covers(log, &self.confirmed)
    }

    /// A node gives up all records after the first `len`.
    pub fn gave_up(&mut self, node: usize, log: &Log, len: usize) {
        let is_committed =
            |at: usize| log.crc_at(at + 1).is_some_and(|crc| self.committed.get(at) == Some(&crc));
        if self.is_strict && len < log.len() && is_committed(len) {
            self.fail(&format!("n{node} gave up record {}, which was committed", len + 1));
        }
    }

    /// A client has its answer.
    pub fn answered(&mut self, at: usize, node: &Node, batch: &Batch, ack: Ack) {
        self.oks += 1;
        let log = &node.log;
        if ack == Ack::Leader {
            // A majority has it, and so had the later leader.
            let commit = node.process.as_ref().map_or(0, |process| process.commit);
            let is_there = |(seq, crc): (usize, u64)| {
                let is_kept = self.newest_log.get(seq - 1) == Some(&crc);
                commit >= seq && (is_kept || self.lost.contains(&crc))
            };
            if batch.epoch < self.newest && !batch.wrote.is_some_and(is_there) {
                let newest = self.newest.0;
                self.fail(&format!(
                    "n{at} answered OK in epoch {} during epoch {newest}",
                    batch.epoch.0
                ));
            }
            self.by_leader.extend(batch.wrote.map(|(_, crc)| crc));
            return;
        }
        if !self.is_strict && !node.promises_majority() {
            return;
        }
        for (seq, crc) in batch.wrote.into_iter().chain(batch.read.map(|read| (read.len, read.crc)))
        {
            if log.crc_at(seq) != Some(crc) || !extend(&mut self.confirmed, log, seq) {
                self.fail(&format!("n{at} confirmed record {seq}, which is not in the history"));
            }
        }
        if batch.read.is_some_and(|read| !read.is_recent) {
            self.fail(&format!("n{at} answered a read that lacks what was confirmed before it"));
        }
    }

    /// Excuses what no machine has any more after power was lost.
    pub fn forget_lost(&mut self, nodes: &[Node]) {
        for chain in [&mut self.confirmed, &mut self.committed] {
            let kept = |node: &Node| {
                let pairs = node.log.records.iter().zip(chain.iter());
                pairs.take_while(|(record, crc)| record.crc == **crc).count()
            };
            let kept = nodes.iter().map(kept).max().unwrap_or(0);
            chain.truncate(kept);
        }
    }

    /// At the end, when all nodes have recovered.
    pub fn end(&mut self, nodes: &[Node]) {
        for (at, node) in nodes.iter().enumerate() {
            if !covers(&node.log, &self.confirmed) {
                self.fail(&format!("n{at} lacks in the end what a client saw confirmed"));
            }
        }
        let kept: HashSet<u64> = nodes
            .iter()
            .flat_map(|node| {
                node.log.records.iter().map(|record| record.crc).chain(node.aside.clone())
            })
            .collect();
        let gone =
            self.by_leader.iter().filter(|crc| !kept.contains(crc) && !self.lost.contains(crc));
        if gone.count() > 0 {
            self.fail(
                "a write that was confirmed by a leader is in no log, and in no file kept aside",
            );
        }
    }
}

/// True if the log begins with this history.
fn covers(log: &Log, history: &[u64]) -> bool {
    history.last().is_none_or(|last| log.crc_at(history.len()) == Some(*last))
}

/// The history reaches to record `len` of this log. False if the two contradict each other.
fn extend(history: &mut Vec<u64>, log: &Log, len: usize) -> bool {
    if len <= history.len() {
        return len == 0 || log.crc_at(len) == Some(history[len - 1]);
    }
    if len > log.len() || !covers(log, history) {
        return false;
    }
    history.extend(log.records[history.len()..len].iter().map(|record| record.crc));
    true
}
