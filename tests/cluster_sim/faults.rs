//! The faults, one function each.

use crate::event::Event;
use crate::mix::Fault;
use crate::node::Fsync;
use crate::world::{Path, World};
use kvstore::cluster::message::Input;
use kvstore::cluster::mutant::Mutant;

impl World {
    /// Something goes wrong.
    pub fn fault(&mut self) {
        if !self.has_faults {
            return;
        }
        let (timeout, len) = (self.timeout, self.nodes.len());
        self.after(timeout / 4, self.mix.quarters * timeout / 4, Event::Fault);
        let at = if self.chance(500) { self.leader() } else { None };
        let at = at.unwrap_or_else(|| self.rng.usize(0..len));
        match self.mix.faults[self.rng.usize(0..self.mix.faults.len())] {
            Fault::Cut => self.cut(at),
            Fault::CutHeartbeats => self.cut_heartbeats(),
            Fault::Isolate => self.isolate(at),
            Fault::Split => self.split(),
            Fault::Flap => self.flap(at),
            Fault::Kill => self.kill(at),
            Fault::Power => self.cut_power(at),
            Fault::PowerOfTwo => {
                self.cut_power(at);
                self.cut_power((at + 1) % len);
            }
            Fault::Pause => {
                let pause = self.rng.u64(0..=5 * timeout);
                self.pause(at, pause);
            }
            Fault::FullDisk => {
                self.trace(|| format!("n{at}: the disk is full"));
                self.nodes[at].disk_full = true;
                self.after(1, 6 * timeout, Event::DiskWorks(at));
            }
            Fault::FailedFsync => self.fail_fsync(at),
            Fault::Stop => self.stop(at),
            Fault::ChangeFsync => self.change_fsync(at),
            Fault::HandOver => self.hand_over(),
            Fault::ChangeAck => self.change_policy(),
        }
    }

    /// The operator changes `ack`, and soon after it power fails.
    fn change_policy(&mut self) {
        let Some(leader) = self.leader().filter(|_| self.checks.changes_ack) else { return };
        self.change_ack(leader);
        let other = (leader + 1) % self.nodes.len();
        self.after(0, 40, Event::CutPower(other));
        self.after(0, self.timeout, Event::Hit(leader));
    }

    /// Something happens to a node that has just won.
    pub fn hit(&mut self, at: usize) {
        match self.rng.u8(0..4) {
            0 => self.kill(at),
            1 => self.cut_power(at),
            2 => self.isolate(at),
            _ => self.pause(at, 4 * self.timeout),
        }
    }

    /// A process stands still. On waking, a client's request comes before all else.
    fn pause(&mut self, at: usize, pause: u64) {
        self.trace(|| format!("n{at} stands still for {pause} ms"));
        let until = self.now + pause;
        self.nodes[at].paused_until = until;
        self.at(until, Event::StaleRead(at));
        let Some(process) = &self.nodes[at].process else { return };
        let number = process.number;
        let unfinished = process.batches.iter().filter(|batch| batch.reads_later);
        for batch in unfinished.map(|batch| batch.number).collect::<Vec<_>>() {
            self.at(until, Event::Read { node: at, process: number, batch });
        }
    }

    /// A link breaks, and its follower dials again. Then more may happen to both ends.
    fn flap(&mut self, at: usize) {
        let Some(process) = self.process(at) else { return };
        let Some(link) = process.link.take() else { return };
        self.trace(|| format!("the link from n{} to n{at} breaks", link.leader));
        if self.chance(500) {
            self.after(0, self.timeout / 4, Event::CutPower(at));
            self.after(0, self.timeout / 2, Event::Hit(link.leader));
        }
    }

    /// Two groups do not reach each other.
    fn split(&mut self) {
        let len = self.nodes.len();
        let side: Vec<bool> = (0..len).map(|_| self.rng.bool()).collect();
        let path = Path { peers_cut: true, links_cut: true };
        self.trace(|| format!("the nodes fall apart: {side:?}"));
        let until = self.now + self.rng.u64(1..=12 * self.timeout);
        for from in 0..len {
            for to in (0..len).filter(|to| side[*to] != side[from]) {
                self.paths[from][to] = path;
                self.at(until, Event::Heal(from, to));
            }
        }
    }

    /// One follower hears its leader no longer, while the log goes on to it.
    fn cut_heartbeats(&mut self) {
        let Some(leader) = self.leader() else { return };
        let other = (leader + self.rng.usize(1..self.nodes.len())) % self.nodes.len();
        self.trace(|| format!("n{other} hears n{leader} no longer"));
        self.cut_path(leader, other, Path { peers_cut: true, links_cut: false });
        if self.chance(500) {
            // And a third node restarts, maybe within its promise.
            let third = self.rng.usize(0..self.nodes.len());
            if third != leader && third != other {
                let at = self.now + self.rng.u64(self.timeout / 2..=2 * self.timeout);
                self.at(at, Event::Restart(third));
            }
        }
    }

    /// A node that takes writes, if there is one.
    pub fn leader(&self) -> Option<usize> {
        let leads = |at: &usize| {
            self.nodes[*at].process.as_ref().is_some_and(|process| process.leads.is_some())
        };
        (0..self.nodes.len()).find(leads)
    }

    /// Cuts some of the paths to and from a node.
    fn cut(&mut self, at: usize) {
        let other = (at + self.rng.usize(1..self.nodes.len())) % self.nodes.len();
        let path = Path { peers_cut: self.rng.bool(), links_cut: self.rng.bool() };
        let both = self.rng.bool();
        self.trace(|| format!("n{at} -> n{other}: {path:?}, both ways {both}"));
        self.cut_path(at, other, path);
        if both {
            self.cut_path(other, at, path);
        }
    }

    fn isolate(&mut self, at: usize) {
        let path = Path { peers_cut: true, links_cut: self.rng.bool() };
        let hears = self.rng.u8(0..4) == 0;
        self.trace(|| format!("n{at} is cut off, {path:?}, still hears {hears}"));
        for other in (0..self.nodes.len()).filter(|other| *other != at) {
            self.cut_path(at, other, path);
            if !hears {
                self.cut_path(other, at, path);
            }
        }
    }

    fn cut_path(&mut self, from: usize, to: usize, path: Path) {
        self.paths[from][to] = path;
        self.after(1, 8 * self.timeout, Event::Heal(from, to));
    }

    pub fn kill(&mut self, at: usize) {
        self.trace(|| format!("n{at} is killed"));
        self.nodes[at].process = None;
        self.nodes[at].paused_until = 0;
        let longest = if self.chance(400) { 30 } else { 4 * self.timeout };
        self.after(1, longest, Event::Start(at));
    }

    pub fn cut_power(&mut self, at: usize) {
        self.trace(|| format!("n{at} loses power"));
        let boot = self.rng.u64(..);
        let now = self.now;
        let node = &mut self.nodes[at];
        // Of what was not synced, some may have reached the disk.
        let kept = self.rng.usize(node.log.durable..=node.log.len());
        let lost = node.log.cut(kept);
        node.log.durable = kept;
        node.boot = boot;
        node.clock_zero = now;
        self.checks.lost.extend(lost);
        self.kill(at);
        self.forget_lost();
    }

    fn fail_fsync(&mut self, at: usize) {
        if self.nodes[at].process.is_none() || self.nodes[at].disk_full {
            return;
        }
        self.trace(|| format!("n{at}: an fsync fails"));
        // Noted before anything else is said.
        self.input(at, Input::Forgets);
        self.nodes[at].fsync_failed = true;
        self.input(at, Input::Disk(true));
        // The operator, or the process itself, starts again.
        self.after(1, 6 * self.timeout, Event::Restart(at));
    }

    /// A clean stop: the log is synced, and that is written down as the last act.
    fn stop(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.process.is_some() && node.can_write() && node.paused_until <= self.now {
            node.log.durable = node.log.len();
            node.term.boot = None;
            self.kill(at);
        }
    }

    fn change_fsync(&mut self, at: usize) {
        let now = self.now;
        let boot = self.nodes[at].boot_now(now);
        if self.nodes[at].process.is_none() || !self.nodes[at].can_write() {
            return;
        }
        if self.nodes[at].fsync == Fsync::EverySecond {
            self.nodes[at].fsync = Fsync::Always;
            self.fsync(at);
            return;
        }
        if !self.breaks(Mutant::PolicyWeakenedWithoutBoot) {
            self.input(at, Input::Boot(boot));
        }
        self.nodes[at].fsync = Fsync::EverySecond;
    }

    /// The leader hands over to a node that has all of its records.
    fn hand_over(&mut self) {
        let Some(leader) = self.leader() else { return };
        let len = self.nodes.len();
        let target = (leader + self.rng.usize(1..len)) % len;
        let until = self.now + 2 * self.nodes[leader].timeout;
        let ours = self.nodes[leader].log.len();
        let has_all = self.nodes[target].log.len() == ours
            && self.nodes[target].log.common(&self.nodes[leader].log) == ours;
        if let Some(process) = self.process(leader).filter(|_| has_all) {
            process.holds_until = until;
            self.trace(|| format!("n{leader} hands over to n{target}"));
            self.input(leader, Input::HandOver);
            let longest = if self.chance(300) { 3 * self.timeout } else { 10 };
            self.after(0, longest, Event::Promote(target));
        }
    }

    /// All faults end.
    pub fn heal(&mut self) {
        self.trace(|| "all faults end".to_string());
        self.has_faults = false;
        self.paths.iter_mut().flatten().for_each(|path| *path = Path::default());
        for at in 0..self.nodes.len() {
            self.nodes[at].disk_full = false;
            self.nodes[at].paused_until = self.nodes[at].paused_until.min(self.now);
            if self.nodes[at].fsync_failed {
                self.nodes[at].process = None;
            }
            self.input(at, Input::Disk(false));
            self.start(at);
        }
    }
}
