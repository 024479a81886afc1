//! The model of what stands around an election: it hands inputs in, and does what the outputs say, in order.

use crate::event::Event;
use crate::node::{Fsync, Process, RecordKind};
use crate::world::World;
use kvstore::aof::record::Epoch;
use kvstore::cluster::election::{Election, List, Timing};
use kvstore::cluster::members::{Ack, Members};
use kvstore::cluster::message::{Input, Message, Output, Round};
use kvstore::cluster::mutant::Mutant;
use kvstore::cluster::term::{NodeId, Term};
use kvstore::store::effect::Seq;
use std::rc::Rc;

impl World {
    /// Starts a process, if none runs.
    pub fn start(&mut self, at: usize) {
        if self.nodes[at].process.is_some() {
            return;
        }
        let number = self.number();
        let seed = self.rng.u64(..);
        if self.chance(self.mix.new_timeouts) {
            self.nodes[at].timeout = self.rng.u64(100..=300).min(self.timeout);
        }
        let (now, len, mutant) = (self.now, self.nodes.len(), self.mutant);
        let node = &mut self.nodes[at];
        let boot = node.boot_now(now);
        let damaged = std::mem::take(&mut node.fsync_failed);
        if damaged {
            // The pages that the disk did not take are gone.
            self.checks.lost.extend(node.log.cut(node.log.durable));
        }
        let mut term = node.term.clone();
        if mutant != Some(Mutant::BootIgnored) {
            term.start(&boot, damaged);
        }
        if node.fsync == Fsync::EverySecond {
            term.boot = Some(boot);
        }
        node.term = term.clone();
        let members = node.log.members(node.log.len());
        let timing = Timing { timeout: node.timeout, is_reluctant: false };
        let list = Some(List { hash: 7, len });
        let clock = node.clock(now);
        let mut election = Election::new(term.clone(), timing, members, list, clock, seed);
        if let Some(mutant) = mutant {
            election.break_rule(mutant);
        }
        let loaded = node.log.len();
        let cached_end = node.log.end();
        node.process = Some(Process {
            number,
            election,
            epoch: term.epoch,
            leads: None,
            history: 0,
            commit: 0,
            fence: 0,
            confirmed: (Epoch(0), 0),
            target: None,
            link: None,
            feeds: Vec::new(),
            batches: Vec::new(),
            is_dirty: false,
            loaded,
            unsynced_term: None,
            holds_until: 0,
            cached_end,
        });
        if damaged {
            self.forget_lost();
        }
        self.trace(|| format!("n{at} starts with {loaded} records, {term:?}"));
        self.after(1, 5, Event::LateLog(at, number));
        self.after(1, 20, Event::Tick(at, number));
    }

    pub fn tick(&mut self, at: usize, process: u64) {
        let now = self.now;
        let interval = self.nodes[at].timeout / 20;
        let node = &mut self.nodes[at];
        if let Some(process) = &mut node.process
            && process.is_dirty
            && !node.disk_full
        {
            node.term = process.election.term().clone();
            process.is_dirty = false;
        }
        self.input(at, Input::Tick);
        self.after(interval, interval + 2, Event::Tick(at, process));
        if self.chance(200) {
            self.after(0, 3 * interval, Event::LateLog(at, process));
        }
        let sync = if self.nodes[at].fsync == Fsync::Always { 10 } else { 15 };
        if self.chance(sync) {
            self.fsync(at);
        }
        self.end_strictness(at);
        self.tick_links(at, now);
        self.look_at_batches(at);
    }

    pub fn line(&mut self, from: usize, to: usize, message: Message, commit: usize) {
        self.trace(|| format!("n{from} -> n{to}: {message:?}"));
        let id = self.nodes[from].id;
        self.input(to, Input::Line(id, message));
        let is_answer = matches!(message, Message::Give { .. } | Message::Heard { .. });
        let next = (from + 1) % self.nodes.len();
        if self.breaks(Mutant::HeardByAddress) && is_answer && next != to {
            // The address of the next node leads to this one, too.
            let other = self.nodes[next].id;
            self.input(to, Input::Line(other, message));
        }
        if self.breaks(Mutant::CommitFromBeat) && matches!(message, Message::Beat { .. }) {
            let len = self.nodes[to].log.len();
            if let Some(process) = self.process(to) {
                process.commit = process.commit.max(commit.min(len));
            }
        }
    }

    /// Lets a node's election take a step, and does what it says.
    pub fn input(&mut self, at: usize, input: Input) {
        let clock = self.nodes[at].clock(self.now);
        let Some(process) = &mut self.nodes[at].process else { return };
        let is_ask = matches!(&input, Input::Line(_, Message::Ask(_)) | Input::Ballot { .. });
        let leads_well = is_ask && process.election.has_live_quorum(clock);
        let mut outputs = std::mem::take(&mut self.outputs);
        process.election.step(clock, input, &mut outputs);
        for output in outputs.drain(..) {
            if leads_well && matches!(output, Output::StepDown(_) | Output::Adopt { .. }) {
                self.checks.fail("a leader with a live quorum answered to an election");
            }
            self.output(at, output);
        }
        self.outputs = outputs;
    }

    fn output(&mut self, at: usize, output: Output) {
        if !matches!(output, Output::Send(..) | Output::Broadcast(_) | Output::Fence(_)) {
            self.trace(|| format!("n{at}: {output:?}"));
        }
        let Some(process) = &mut self.nodes[at].process else { return };
        let number = process.number;
        match output {
            Output::Persist(term) => self.persist(at, term),
            Output::Sync => self.after(0, 20, Event::Synced(at, number)),
            Output::Adopt { from, ask } => {
                process.epoch = process.epoch.max(ask.epoch);
                if process.leads.is_some_and(|leads| leads < ask.epoch) {
                    process.leads = None;
                }
                let cached = process.cached_end;
                let is_cached = self.breaks(Mutant::CachedLogEnd);
                let last = if is_cached { cached } else { self.nodes[at].log.end() };
                self.input(at, Input::Ballot { from, ask, last });
            }
            Output::Send(to, message) => {
                let to = index_of(to);
                self.send(at, to, message);
            }
            Output::Broadcast(message) => {
                (0..self.nodes.len())
                    .filter(|to| *to != at)
                    .for_each(|to| self.send(at, to, message));
                let is_dirty = self.process(at).is_some_and(|process| process.is_dirty);
                if let Message::Ask(ask) = message
                    && ask.round == Round::Vote
                    && !is_dirty
                {
                    self.checks.voted(ask.epoch, at, at);
                }
            }
            Output::Follow(target) => {
                process.target = target.map(index_of);
                let survives = self.mutant == Some(Mutant::LinkSurvivesEpoch);
                if !survives && process.link.as_ref().map(|link| link.leader) != process.target {
                    process.link = None;
                }
            }
            Output::Lead(epoch, founders) => {
                self.checks.won(&self.nodes, at, epoch, self.now);
                let longest = if self.has_faults { self.timeout } else { 10 };
                let longest = if self.chance(100) { longest } else { 10 };
                self.after(1, longest, Event::Begin(at, number, epoch, founders));
            }
            Output::StepDown(_) => {
                process.leads = None;
                process.feeds.clear();
                process.fence = 0;
                process.holds_until = 0;
            }
            Output::Commit(seq) => {
                process.commit = process.commit.max(seq.0 as usize);
                let commit = process.commit;
                self.checks.committed(&self.nodes, at, commit);
            }
            Output::Fence(until) => process.fence = until,
            Output::Confirmed(round) => {
                process.confirmed = (process.election.leads().unwrap_or_default(), round);
            }
        }
    }

    fn persist(&mut self, at: usize, term: Term) {
        let later = self.breaks(Mutant::VoteNotSynced);
        let node = &mut self.nodes[at];
        let Some(process) = &mut node.process else { return };
        process.epoch = process.epoch.max(term.epoch);
        let number = process.number;
        process.is_dirty = node.disk_full;
        if later {
            process.unsynced_term = Some(term);
            self.after(1, self.timeout, Event::TermSynced(at, number));
        } else if !node.disk_full {
            node.term = term;
        }
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        let Some(process) = &self.nodes[from].process else { return };
        if process.is_dirty {
            return;
        }
        let commit = process.commit;
        if let Message::Give { round: Round::Vote, epoch, yes: true, .. } = message {
            self.checks.voted(epoch, from, to);
        }
        if self.paths[from][to].peers_cut || self.has_faults && self.chance(self.mix.lost) {
            return;
        }
        let copies = if self.has_faults && self.chance(self.mix.doubled) { 2 } else { 1 };
        for _ in 0..copies {
            let at = self.now + self.delay();
            self.at(at, Event::Line { from, to, message, commit });
        }
    }

    // --- the log ---

    pub fn synced(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.can_write() {
            node.log.durable = node.log.len();
            let end = node.log.end();
            self.input(at, Input::Synced(end));
        }
    }

    pub fn fsync(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if !node.can_write() {
            return self.input(at, Input::Disk(true));
        }
        if node.log.durable < node.log.len() {
            node.log.durable = node.log.len();
            if node.fsync == Fsync::Always {
                self.level_moved(at);
            }
        }
    }

    /// The own level has moved: it is reported to the leader, or to the own election.
    pub fn level_moved(&mut self, at: usize) {
        let level = self.nodes[at].level();
        let id = self.nodes[at].id;
        let Some(process) = &self.nodes[at].process else { return };
        let (number, epoch, is_dirty) = (process.number, process.epoch, process.is_dirty);
        let link = process.link.as_ref().map(|link| link.number);
        if process.leads.is_some() && !is_dirty {
            let at_time = self.now + self.long_delay();
            let acked = Event::Acked { node: at, process: number, from: id, epoch, level };
            self.at(at_time, acked);
        } else if let Some(link) = link {
            self.after(0, 2, Event::Acknowledge { follower: at, number: link, level });
        }
    }

    pub fn begin_epoch(&mut self, at: usize, epoch: Epoch, founders: Option<Vec<NodeId>>) {
        let unique = self.number();
        let ack = self.ack;
        let node = &mut self.nodes[at];
        let can_write = node.can_write();
        let Some(process) = &mut node.process else { return };
        let is_mine = process.epoch == epoch && process.election.leads() == Some(epoch);
        if !can_write || !is_mine {
            return self.input(at, Input::Void(epoch));
        }
        node.log.append(epoch, RecordKind::Begin, unique);
        let first = node.log.len();
        process.leads = Some(epoch);
        if let Some(founders) = founders {
            node.log.append(epoch, RecordKind::Members(ack, Rc::new(founders)), unique);
        }
        node.log.durable = node.log.len();
        self.trace(|| format!("n{at} begins epoch {} with record {first}", epoch.0));
        self.checks.begun(epoch, at, &self.nodes[at].log);
        if self.has_faults && self.chance(self.mix.hit) {
            let longest = if self.rng.bool() { self.timeout / 8 } else { self.timeout };
            self.after(0, longest, Event::Hit(at));
        }
        self.members_changed(at);
        self.input(at, Input::Begun(epoch, Seq(first as u64)));
        self.level_moved(at);
    }

    /// Another members record is the newest one.
    pub fn members_changed(&mut self, at: usize) {
        let members: Option<Members> = self.nodes[at].log.members(self.nodes[at].log.len());
        match members.as_ref().map(|members| members.ack) {
            Some(Ack::Majority) => self.input(at, Input::Strict(true)),
            Some(Ack::Leader) if self.breaks(Mutant::StrictClearedOnAppend) => {
                self.input(at, Input::Strict(false));
            }
            _ => {}
        }
        let epoch = members
            .as_ref()
            .map_or(Epoch(0), |it| self.nodes[at].log.records[it.seq.0 as usize - 1].epoch);
        self.input(at, Input::Members(members, epoch));
    }

    /// A weaker policy is committed and durable here: nothing more is promised.
    fn end_strictness(&mut self, at: usize) {
        let node = &self.nodes[at];
        let Some(process) = &node.process else { return };
        let Some(members) = node.log.members(node.log.len()) else { return };
        let seq = members.seq.0 as usize;
        let is_weak = members.ack == Ack::Leader && process.commit >= seq;
        if is_weak && node.log.durable >= seq && process.election.term().strict {
            self.input(at, Input::Strict(false));
        }
    }

    /// Lets all nodes catch up, without clients.
    pub fn settle(&mut self, from: u64) {
        self.has_clients = false;
        let until = from + 10 * self.timeout;
        while self.step(until) && self.checks.violation.is_none() {}
    }

    /// Records were lost to a power cut. If no machine has a record any more, it is excused that it is gone.
    pub fn forget_lost(&mut self) {
        self.checks.forget_lost(&self.nodes);
    }
}

/// The place of a node, which its id tells.
pub fn index_of(id: NodeId) -> usize {
    id.0[19] as usize
}
