//! The model of the gate: clients write and read, are slow to reach it, and get an OK or none.

use crate::event::Event;
use crate::node::{Batch, Fsync, Read, RecordKind};
use crate::world::World;
use kvstore::cluster::members::{Ack, Voter};
use kvstore::cluster::membership::{Change, Situation};
use kvstore::cluster::mutant::Mutant;
use kvstore::store::effect::Seq;
use std::rc::Rc;

/// A kind of batch that only reads.
const READ: u8 = 5;

impl World {
    /// A client sends a batch to some node.
    pub fn client(&mut self) {
        let longest = self.timeout / 8;
        self.after(1, longest, Event::Client);
        let at = self.rng.usize(0..self.nodes.len());
        let kind = self.rng.u8(0..10);
        self.send_batch(at, kind);
    }

    /// A node that stood still reads before it learns what has happened, and its batch is slow.
    pub fn stale_read(&mut self, at: usize) {
        self.send_batch(at, READ);
    }

    /// A batch is sent to a node: kinds up to 4 write, 5 and 6 read, 7 does both, the others write and read later.
    pub fn send_batch(&mut self, at: usize, kind: u8) {
        let (now, history_of) = (self.now, self.number());
        let node = &self.nodes[at];
        let Some(process) = &node.process else { return };
        if node.paused_until > now || process.is_dirty {
            return;
        }
        let (number, history, epoch) = (process.number, process.history, process.epoch);
        let takes_writes = process.leads == Some(epoch)
            && process.holds_until <= now
            && node.can_write()
            && node.log.len() > 0;
        let mut batch = Batch {
            number: history_of,
            history,
            epoch,
            wrote: None,
            read: None,
            reads_later: false,
            at_gate: false,
            since: now,
        };
        if process.leads.is_none() {
            // A follower's read: old, but never of what is rolled back.
            batch.read = Some(self.read(at, true));
        } else if takes_writes {
            if matches!(kind, 5..=7) {
                batch.read = Some(self.read(at, kind == 7));
            }
            if kind != 5 && kind != 6 {
                batch.wrote = Some(self.write(at, RecordKind::Write));
            }
            batch.reads_later = kind > 7;
        } else {
            return;
        }
        let next = if batch.reads_later {
            Event::Read { node: at, process: number, batch: batch.number }
        } else {
            Event::Gate { node: at, process: number, batch: batch.number }
        };
        let delay = self.slowness();
        self.at(now + delay, next);
        if let Some(process) = self.process(at) {
            process.batches.push(batch);
        }
    }

    /// The time that a batch takes to its next step: rarely very long.
    fn slowness(&mut self) -> u64 {
        if let Some(nap) = self.nap.take() {
            return nap;
        }
        if self.has_faults && self.chance(self.mix.slow_gate) {
            self.rng.u64(0..=12 * self.timeout)
        } else {
            self.rng.u64(0..=3)
        }
    }

    pub fn write(&mut self, at: usize, kind: RecordKind) -> (usize, u64) {
        let unique = self.number();
        let node = &mut self.nodes[at];
        let epoch = node.process.as_ref().and_then(|process| process.leads).unwrap_or_default();
        let is_durable = matches!(kind, RecordKind::Members(..));
        node.log.append(epoch, kind, unique);
        let seq = node.log.len();
        if is_durable {
            node.log.durable = seq;
        }
        let crc = node.log.crc_at(seq).unwrap_or_default();
        let process = node.process.as_ref().map_or(0, |process| process.number);
        if node.fsync == Fsync::Always {
            self.sync_soon(at, process);
        } else {
            self.level_moved(at);
        }
        (seq, crc)
    }

    fn read(&self, at: usize, needs_no_round: bool) -> Read {
        let node = &self.nodes[at];
        let len = node.log.len();
        let loaded = node.process.as_ref().map_or(0, |process| process.loaded);
        let is_unmarked = self.breaks(Mutant::LoadWithoutLastSeq) && len == loaded;
        let leads = node.process.as_ref().is_some_and(|process| process.leads.is_some());
        Read {
            len,
            crc: node.log.crc_at(len).unwrap_or_default(),
            needs: if is_unmarked { 0 } else { len },
            // A follower promises nothing about age.
            is_recent: !leads || self.checks.is_recent(&node.log),
            round: node.process.as_ref().map_or(0, |process| process.election.rounds_begun()),
            needs_no_round,
        }
    }

    pub fn late_read(&mut self, at: usize, number: u64) {
        let read = self.read(at, false);
        let Some(process) = self.process(at) else { return };
        let (leads, history) = (process.leads, process.history);
        let Some(batch) = process.batches.iter_mut().find(|batch| batch.number == number) else {
            return;
        };
        // A read in another epoch or history than the rest of its batch is refused.
        if leads == Some(batch.epoch) && history == batch.history {
            batch.read = Some(read);
        }
        self.reach_gate(at, number);
    }

    pub fn reach_gate(&mut self, at: usize, number: u64) {
        let now = self.now;
        let Some(process) = self.process(at) else { return };
        let process_number = process.number;
        let Some(batch) = process.batches.iter_mut().find(|batch| batch.number == number) else {
            return;
        };
        batch.at_gate = true;
        batch.since = now;
        if batch.read.is_some_and(|read| !read.needs_no_round) {
            self.after(0, 5, Event::Confirm(at, process_number));
        }
        self.look_at_batches(at);
    }

    /// Lets through what may leave.
    pub fn look_at_batches(&mut self, at: usize) {
        let (now, ack) = (self.now, self.nodes[at].ack());
        let Some(process) = self.process(at) else { return };
        if process.batches.iter().all(|batch| !batch.at_gate) {
            return;
        }
        let batches = std::mem::take(&mut process.batches);
        let mut waiting = Vec::new();
        for batch in batches {
            let timeout = self.nodes[at].timeout;
            if !batch.at_gate {
                waiting.push(batch);
            } else if self.may_leave(at, &batch, ack) {
                self.trace(|| format!("n{at} answers {batch:?}"));
                self.checks.answered(at, &self.nodes[at], &batch, ack);
            } else if batch.since + 4 * timeout > now {
                waiting.push(batch);
            } // else INDOUBT, or refused
        }
        if let Some(process) = self.process(at) {
            process.batches = waiting;
        }
    }

    fn may_leave(&self, at: usize, batch: &Batch, ack: Ack) -> bool {
        let node = &self.nodes[at];
        let Some(process) = &node.process else { return false };
        if process.history != batch.history && !self.breaks(Mutant::GateWithoutHistory) {
            return false;
        }
        let is_old = batch.since + node.timeout < self.now;
        if self.breaks(Mutant::ReadersLetThrough)
            && is_old
            && batch.wrote.is_none()
            && ack == Ack::Majority
        {
            return true;
        }
        let safe = match ack {
            Ack::Majority => node.level().min(process.commit),
            Ack::Leader => node.level(),
        };
        let needs = batch.wrote.map_or(0, |(seq, _)| seq);
        let needs = needs.max(batch.read.map_or(0, |read| read.needs));
        if safe < needs {
            return false;
        }
        if ack == Ack::Leader {
            if batch.wrote.is_some_and(|(seq, _)| process.commit >= seq) {
                return true;
            }
            let leads = process.leads == Some(batch.epoch) && process.epoch == batch.epoch;
            return leads && process.fence > node.clock(self.now);
        }
        let Some(read) = batch.read.filter(|read| !read.needs_no_round) else { return true };
        if self.breaks(Mutant::AnyWriteConfirmsRead) && batch.wrote.is_some() {
            return true;
        }
        let same_epoch =
            process.confirmed.0 == batch.epoch || self.breaks(Mutant::RoundOfAnotherEpoch);
        same_epoch && process.confirmed.1 > read.round
    }

    /// The operator adds a voter or removes one, if the rules allow it.
    pub fn change_members(&mut self) {
        if !self.has_faults {
            return;
        }
        self.after(self.timeout / 2, 8 * self.timeout, Event::ChangeMembers);
        let other = self.rng.usize(0..self.nodes.len());
        let Some(at) = self.leader().filter(|at| self.nodes[*at].can_write()) else { return };
        let (leader, log) = (self.nodes[at].id, &self.nodes[at].log);
        let Some(members) = log.members(log.len()) else { return };
        let Some(process) = self.nodes[at].process.as_ref() else { return };
        if process.leads != Some(process.epoch) || process.holds_until > self.now {
            return;
        }
        let first = log.records.iter().position(|record| Some(record.epoch) == process.leads);
        let is_linked = process.feeds.iter().any(|feed| feed.follower == other);
        let lag = log.len().saturating_sub(self.nodes[other].log.len()) as u64;
        let is_hasty = self.breaks(Mutant::TwoMembersChanges);
        // Here all nodes are taken to answer: safety must not depend on it.
        let all: Vec<_> = self.nodes.iter().map(|node| node.id).collect();
        let situation = Situation {
            leader,
            answering: &all,
            commit: Seq(if is_hasty { u64::MAX } else { process.commit as u64 }),
            first: Seq(first.map_or(u64::MAX, |first| first as u64 + 1)),
            lag: is_linked.then_some(lag),
        };
        let id = self.nodes[other].id;
        let change = if members.names(id) {
            Change::Remove(id)
        } else {
            Change::Add(Voter { id, address: String::new() })
        };
        let Ok(next) = members.change(change, &situation) else { return };
        self.trace(|| format!("n{at} changes the voters to {:?}", next.ids().collect::<Vec<_>>()));
        self.write(at, RecordKind::Members(next.ack, Rc::new(next.ids().collect())));
        self.members_changed(at);
    }

    /// The operator changes what an OK waits for.
    pub fn change_ack(&mut self, at: usize) {
        let node = &self.nodes[at];
        let Some(members) = node.log.members(node.log.len()) else { return };
        let can = node.process.as_ref().is_some_and(|process| {
            process.leads == Some(process.epoch) && process.holds_until <= self.now
        });
        if can && node.can_write() {
            let ack = if members.ack == Ack::Leader { Ack::Majority } else { Ack::Leader };
            self.write(at, RecordKind::Members(ack, Rc::new(members.ids().collect())));
            self.members_changed(at);
        }
    }
}
