//! The model of replication: a follower asks for the log, is told where the two part, takes records and acknowledges.

use crate::event::Event;
use crate::node::{Feed, Fsync, Link, Log, Node, Record, RecordKind};
use crate::world::World;
use kvstore::aof::record::Epoch;
use kvstore::cluster::message::Input;
use kvstore::cluster::mutant::Mutant;
use kvstore::store::effect::Seq;
use std::rc::Rc;

#[derive(Clone, Debug)]
pub enum LinkMessage {
    Request(Rc<Log>),
    Answer { epoch: Epoch, common: usize, copy: Option<Rc<Log>>, end: usize },
    Records { epoch: Epoch, at: usize, records: Vec<Record>, commit: usize },
    Ack { epoch: Epoch, level: usize },
}

impl World {
    /// Redials, or sends what is new.
    pub fn tick_links(&mut self, at: usize, now: u64) {
        let timeout = self.nodes[at].timeout;
        let Some(process) = self.process(at) else { return };
        if process.link.as_ref().is_some_and(|link| link.heard_at + timeout < now) {
            process.link = None;
        }
        if let (Some(leader), None) = (process.target, &process.link) {
            self.dial(at, leader);
        }
        self.end_silent_feeds(at, now, timeout);
        self.pump(at);
    }

    fn end_silent_feeds(&mut self, at: usize, now: u64, timeout: u64) {
        let Some(process) = self.process(at) else { return };
        let is_silent = |feed: &Feed| feed.heard_at + 2 * timeout < now;
        let silent: Vec<usize> =
            process.feeds.iter().filter(|feed| is_silent(feed)).map(|feed| feed.follower).collect();
        process.feeds.retain(|feed| !is_silent(feed));
        for follower in silent {
            let id = self.nodes[follower].id;
            self.input(at, Input::Linked(id, false));
        }
    }

    fn dial(&mut self, at: usize, leader: usize) {
        let (number, heard_at) = (self.number(), self.now);
        let log = Rc::new(self.nodes[at].log.clone());
        let can_write = self.nodes[at].can_write();
        let Some(process) = self.process(at).filter(|_| can_write) else { return };
        process.link = Some(Link { number, leader, epoch: None, catching_up: None, heard_at });
        self.send_on_link(at, leader, number, 0, LinkMessage::Request(log));
    }

    /// Sends on a link; returns when it will arrive, which is not before `not_before`.
    fn send_on_link(
        &mut self,
        from: usize,
        to: usize,
        number: u64,
        not_before: u64,
        message: LinkMessage,
    ) -> u64 {
        let at = not_before.max(self.now + self.delay());
        self.at(at, Event::Link { from, to, number, message });
        at
    }

    pub fn link_message(&mut self, from: usize, to: usize, number: u64, message: LinkMessage) {
        if self.paths[from][to].links_cut {
            return;
        }
        match message {
            LinkMessage::Request(log) => self.serve(to, from, number, &log),
            LinkMessage::Answer { epoch, common, copy, end } => {
                self.answer(to, number, epoch, common, copy, end);
            }
            LinkMessage::Records { epoch, at, records, commit } => {
                self.records(to, number, epoch, at, records, commit);
            }
            LinkMessage::Ack { epoch, level } => {
                let (id, now) = (self.nodes[from].id, self.now);
                let Some(process) = self.process(to) else { return };
                if let Some(feed) = process.feeds.iter_mut().find(|feed| feed.number == number) {
                    feed.heard_at = now;
                    let process = process.number;
                    let at = self.now + self.long_delay();
                    self.at(at, Event::Acked { node: to, process, from: id, epoch, level });
                }
            }
        }
    }

    // --- the leader's side ---

    fn serve(&mut self, at: usize, follower: usize, number: u64, theirs: &Log) {
        let anybody = self.breaks(Mutant::WholeFromNonLeader);
        let (copies, now) = (self.chance(self.mix.copies), self.now);
        let Node { id, log, .. } = &self.nodes[at];
        let (common, end) = (log.common(theirs), log.len());
        // A leader that does not vote sends none.
        let copies = copies && log.members(end).is_none_or(|members| members.names(*id));
        // A copy begins with a base, which is older than the end of the log.
        let base = if copies { self.rng.usize(end / 2..=end) } else { 0 };
        let copy = copies.then(|| Rc::new(self.nodes[at].log.first(base)));
        let Some(process) = self.process(at) else { return };
        let Some(epoch) = process.leads.or(anybody.then_some(process.epoch)) else { return };
        let sent = if copy.is_some() { base } else { common };
        process.feeds.retain(|feed| feed.follower != follower);
        process.feeds.push(Feed { number, follower, sent, heard_at: now, not_before: 0 });
        let id = self.nodes[follower].id;
        self.input(at, Input::Linked(id, true));
        if self.breaks(Mutant::HandshakeAsAck) && common == theirs.len() {
            self.input(at, Input::Acked(id, epoch, Seq(common as u64)));
        }
        let answer = LinkMessage::Answer { epoch, common, copy, end };
        let arrives = self.send_on_link(at, follower, number, 0, answer);
        if let Some(feed) = self
            .process(at)
            .and_then(|process| process.feeds.iter_mut().find(|feed| feed.number == number))
        {
            feed.not_before = arrives;
        }
    }

    /// Sends each follower what it lacks, or a sign of life.
    fn pump(&mut self, at: usize) {
        let anybody = self.breaks(Mutant::WholeFromNonLeader);
        let Some(process) = self.process(at) else { return };
        let Some(epoch) = process.leads.or(anybody.then_some(process.epoch)) else { return };
        let commit = process.commit;
        for place in 0..process.feeds.len() {
            if self.has_faults && !self.chance(self.mix.pump) {
                continue;
            }
            let Some(feed) = self.process(at).and_then(|process| process.feeds.get(place).cloned())
            else {
                return;
            };
            let log = &self.nodes[at].log;
            let end = log.len().min(feed.sent + self.mix.records_max);
            let records = log.records.get(feed.sent..end).unwrap_or_default().to_vec();
            let message = LinkMessage::Records { epoch, at: feed.sent, records, commit };
            let arrives =
                self.send_on_link(at, feed.follower, feed.number, feed.not_before, message);
            if let Some(feed) = self.process(at).and_then(|process| process.feeds.get_mut(place)) {
                feed.sent = end.max(feed.sent);
                feed.not_before = arrives;
            }
        }
    }

    // --- the follower's side ---

    fn end_link(&mut self, at: usize) {
        if let Some(process) = self.process(at) {
            process.link = None;
        }
    }

    fn answer(
        &mut self,
        at: usize,
        number: u64,
        epoch: Epoch,
        common: usize,
        copy: Option<Rc<Log>>,
        end: usize,
    ) {
        let survives = self.breaks(Mutant::LinkSurvivesEpoch);
        let now = self.now;
        let Some(process) = self.process(at) else { return };
        let Some(link) = process.link.as_mut().filter(|link| link.number == number) else { return };
        if process.epoch != epoch && !survives || process.leads.is_some() {
            return self.end_link(at);
        }
        link.epoch = Some(epoch);
        link.catching_up = Some(end);
        link.heard_at = now;
        if !self.nodes[at].can_write() {
            return self.end_link(at);
        }
        if let Some(copy) = copy {
            self.take_copy(at, &copy);
        } else if common < self.nodes[at].log.len() {
            self.rewind(at, common);
        }
        self.records(at, number, epoch, self.nodes[at].log.len(), Vec::new(), 0);
    }

    fn rewind(&mut self, at: usize, common: usize) {
        self.checks.gave_up(at, &self.nodes[at].log, common);
        self.trace(|| format!("n{at} gives up what follows record {common}"));
        let node = &mut self.nodes[at];
        node.aside.extend(node.log.cut(common));
        self.history_changed(at);
    }

    fn take_copy(&mut self, at: usize, copy: &Log) {
        if !self.breaks(Mutant::CopyWithoutFlag) {
            self.input(at, Input::Copies);
        }
        if self.process(at).is_some_and(|process| process.is_dirty) {
            return self.end_link(at);
        }
        let common = self.nodes[at].log.common(copy);
        if common < copy.len() {
            self.checks.gave_up(at, &self.nodes[at].log, common);
        }
        self.trace(|| format!("n{at} takes a copy of {} records", copy.len()));
        let node = &mut self.nodes[at];
        node.aside.extend(node.log.cut(0));
        node.log = copy.clone();
        node.log.durable = node.log.len();
        self.history_changed(at);
    }

    fn history_changed(&mut self, at: usize) {
        let len = self.nodes[at].log.len();
        if let Some(process) = self.process(at) {
            process.history += 1;
            process.commit = process.commit.min(len);
        }
        self.members_changed(at);
    }

    fn records(
        &mut self,
        at: usize,
        number: u64,
        epoch: Epoch,
        first: usize,
        records: Vec<Record>,
        commit: usize,
    ) {
        let survives = self.breaks(Mutant::LinkSurvivesEpoch);
        let (now, can_write) = (self.now, self.nodes[at].can_write());
        let node = &mut self.nodes[at];
        let Some(process) = &mut node.process else { return };
        let Some(link) = process.link.as_mut().filter(|link| link.number == number) else { return };
        let is_bound = link.epoch == Some(epoch) && (process.epoch == epoch || survives);
        if !is_bound || first != node.log.len() || !can_write || process.leads.is_some() {
            return self.end_link(at);
        }
        link.heard_at = now;
        let has_members =
            records.iter().any(|record| matches!(record.kind, RecordKind::Members(..)));
        let has_records = !records.is_empty();
        node.log.records.extend(records);
        let len = node.log.len();
        process.commit = process.commit.max(commit.min(len));
        let process_number = process.number;
        let has_caught_up = link.catching_up.is_some_and(|end| len >= end);
        if has_caught_up {
            link.catching_up = None;
        }
        if has_caught_up || has_members {
            node.log.durable = len;
        }
        if has_members {
            self.members_changed(at);
        }
        if has_caught_up {
            self.input(at, Input::CaughtUp(epoch));
        }
        if self.nodes[at].fsync == Fsync::Always && has_records {
            self.sync_soon(at, process_number);
        }
        self.level_moved(at);
    }

    pub fn acknowledge(&mut self, at: usize, number: u64, level: usize) {
        let survives = self.breaks(Mutant::LinkSurvivesEpoch);
        let Some(process) = self.process(at) else { return };
        let Some(link) = process.link.as_ref().filter(|link| link.number == number) else { return };
        if !process.is_dirty && link.epoch.is_some() {
            let leader = link.leader;
            let bound = link.epoch.filter(|_| survives);
            let epoch = bound.unwrap_or(process.epoch);
            self.send_on_link(at, leader, number, 0, LinkMessage::Ack { epoch, level });
        }
    }
}
