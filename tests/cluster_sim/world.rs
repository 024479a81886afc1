//! The world: machines, paths between them, and what happens next.

use crate::check::Checks;
use crate::event::{Event, Timed};
use crate::mix::{Fault, Mix};
use crate::node::{Fsync, Node, Process};
use fastrand::Rng;
use kvstore::cluster::members::Ack;
use kvstore::cluster::message::{Input, Output};
use kvstore::cluster::mutant::Mutant;
use kvstore::store::effect::Seq;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A path between two nodes, in one direction.
#[derive(Clone, Copy, Default, Debug)]
pub struct Path {
    pub peers_cut: bool,
    pub links_cut: bool,
}

pub struct World {
    pub now: u64,
    pub rng: Rng,
    pub nodes: Vec<Node>,
    pub paths: Vec<Vec<Path>>,
    pub checks: Checks,
    pub mutant: Option<Mutant>,
    /// The policy of the first members record.
    pub ack: Ack,
    /// False near the end, when all must recover.
    pub has_faults: bool,
    pub has_clients: bool,
    pub steps: u64,
    pub last_number: u64,
    pub mix: Mix,
    /// The next batch takes so long to the gate.
    pub nap: Option<u64>,
    pub trace: Option<Vec<String>>,
    /// The longest timeout of all.
    pub timeout: u64,
    events: BinaryHeap<Reverse<Timed>>,
    pub outputs: Vec<Output>,
}

impl World {
    pub fn new(seed: u64, mutant: Option<Mutant>) -> World {
        let mut rng = Rng::with_seed(seed);
        let len = if rng.u8(0..3) == 0 { 5 } else { 3 };
        let same_timeout = rng.bool();
        let base = rng.u64(100..=300);
        let weak_fsync = rng.u8(0..3) > 0;
        let fsync = if weak_fsync { Fsync::EverySecond } else { Fsync::Always };
        let nodes: Vec<Node> = (0..len)
            .map(|at| {
                let timeout = if same_timeout { base } else { rng.u64(100..=300) };
                Node::new(at, timeout, fsync, rng.u64(..), rng.u64(955..=1045))
            })
            .collect();
        let ack = if rng.u8(0..5) < 2 { Ack::Leader } else { Ack::Majority };
        let changes_ack = rng.u8(0..3) == 0;
        let mix = Mix::new(&mut rng);
        let mut world = World::of(nodes, rng, mix, ack, mutant);
        world.checks = Checks::new(ack, changes_ack);
        for at in 0..len {
            world.after(1, 50, Event::Start(at));
        }
        world.after(100, 200, Event::Client);
        world.after(200, 2000, Event::Fault);
        // A record that no voter has any more may still be on a node that does not vote. So where members change, no
        // record is acknowledged before it is durable.
        let loses_nothing = !weak_fsync && !world.mix.faults.contains(&Fault::ChangeFsync);
        if loses_nothing && !changes_ack {
            world.after(1000, 4000, Event::ChangeMembers);
        }
        world
    }

    /// A world in which nothing happens by itself but the election: no fault, no client. Under `ack majority`.
    pub fn calm(len: usize, timeout: u64, mutant: Option<Mutant>) -> World {
        let node = |at| Node::new(at, timeout, Fsync::EverySecond, at as u64, 1000);
        let nodes = (0..len).map(node).collect();
        let mut world = World::of(nodes, Rng::with_seed(1), Mix::calm(), Ack::Majority, mutant);
        (world.has_faults, world.has_clients) = (false, false);
        (0..len).for_each(|at| world.after(1, 50, Event::Start(at)));
        world
    }

    fn of(nodes: Vec<Node>, rng: Rng, mix: Mix, ack: Ack, mutant: Option<Mutant>) -> World {
        World {
            now: 0,
            rng,
            paths: vec![vec![Path::default(); nodes.len()]; nodes.len()],
            timeout: nodes.iter().map(|node| node.timeout).max().unwrap_or(0),
            nodes,
            checks: Checks::new(ack, false),
            mutant,
            ack,
            has_faults: true,
            has_clients: true,
            steps: 0,
            last_number: 0,
            mix,
            nap: None,
            trace: None,
            events: BinaryHeap::new(),
            outputs: Vec::new(),
        }
    }

    pub fn breaks(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    pub fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// True with this chance in a thousand.
    pub fn chance(&mut self, in_thousand: u32) -> bool {
        self.rng.u32(0..1000) < in_thousand
    }

    /// Something happens after a time between the two.
    pub fn after(&mut self, from: u64, to: u64, event: Event) {
        let at = self.now + self.rng.u64(from..=to);
        self.at(at, event);
    }

    pub fn at(&mut self, at: u64, event: Event) {
        let number = self.number();
        self.events.push(Reverse(Timed(at, number, event)));
    }

    /// The time that a message takes.
    pub fn delay(&mut self) -> u64 {
        let usual = self.rng.u64(0..=3);
        if self.has_faults && self.chance(self.mix.late) {
            self.rng.u64(0..=2 * self.timeout)
        } else {
            usual
        }
    }

    /// The time that an input waits for the election's thread: rarely very long.
    pub fn long_delay(&mut self) -> u64 {
        if self.has_faults && self.chance(self.mix.slow_thread) {
            self.rng.u64(0..=40 * self.timeout)
        } else {
            self.delay()
        }
    }

    /// The time that an fsync takes.
    fn fsync_delay(&mut self) -> u64 {
        if self.has_faults && self.chance(self.mix.slow_fsyncs) {
            self.rng.u64(0..=2 * self.timeout)
        } else {
            self.rng.u64(1..=8)
        }
    }

    /// The log of a node that syncs each record is synced soon.
    pub fn sync_soon(&mut self, node: usize, process: u64) {
        let at = self.now + self.fsync_delay();
        self.at(at, Event::Fsync(node, process));
    }

    pub fn trace(&mut self, text: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{now:>7} {}", text()));
        }
    }

    pub fn is_running(&self, at: usize, process: u64) -> bool {
        self.nodes[at].process.as_ref().is_some_and(|running| running.number == process)
    }

    pub fn process(&mut self, at: usize) -> Option<&mut Process> {
        self.nodes[at].process.as_mut()
    }

    /// The next event. False if none is left before `until`.
    pub fn step(&mut self, until: u64) -> bool {
        if self.events.peek().is_none_or(|next| next.0.0 > until) {
            self.now = until;
            return false;
        }
        let Some(Reverse(Timed(at, _, event))) = self.events.pop() else { return false };
        self.now = at;
        if let Some(node) = event.node() {
            let paused_until = self.nodes[node].paused_until;
            if paused_until > at {
                // It waits in the socket; the order stays.
                self.at(paused_until, event);
                return true;
            }
            if event.process().is_some_and(|process| !self.is_running(node, process)) {
                return true;
            }
        }
        self.steps += 1;
        self.handle(event);
        true
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Start(at) => self.start(at),
            Event::Tick(at, process) => self.tick(at, process),
            Event::Line { from, to, message, commit } => self.line(from, to, message, commit),
            Event::Synced(at, _) => self.synced(at),
            Event::Begin(at, _, epoch, founders) => self.begin_epoch(at, epoch, founders),
            Event::TermSynced(at, _) => {
                let term = self.process(at).and_then(|process| process.unsynced_term.take());
                if let Some(term) = term {
                    self.nodes[at].term = term;
                }
            }
            Event::LateLog(at, _) => {
                let end = self.nodes[at].log.end();
                if let Some(process) = self.process(at) {
                    process.cached_end = end;
                }
                self.input(at, Input::Log(end));
            }
            Event::Fsync(at, _) => self.fsync(at),
            Event::Link { from, to, number, message } => {
                self.link_message(from, to, number, message);
            }
            Event::Acknowledge { follower, number, level } => {
                self.acknowledge(follower, number, level);
            }
            Event::Acked { node, from, epoch, level, .. } => {
                self.input(node, Input::Acked(from, epoch, Seq(level as u64)));
            }
            Event::Client if self.has_clients => self.client(),
            Event::Client => {}
            Event::Read { node, batch, .. } => self.late_read(node, batch),
            Event::Gate { node, batch, .. } => self.reach_gate(node, batch),
            Event::Confirm(at, _) => self.input(at, Input::Confirm),
            Event::Promote(at) => self.input(at, Input::Promote),
            Event::Restart(at) => {
                self.kill(at);
            }
            Event::Hit(at) => self.hit(at),
            Event::CutPower(at) => self.cut_power(at),
            Event::StaleRead(at) => self.stale_read(at),
            Event::Fault => self.fault(),
            Event::ChangeMembers => self.change_members(),
            Event::DiskWorks(at) => {
                self.nodes[at].disk_full = false;
                self.input(at, Input::Disk(false));
            }
            Event::Heal(from, to) => self.paths[from][to] = Path::default(),
        }
    }
}
