//! Random faults of nodes and of the network between them.

use crate::common::rng::Rng;
use crate::fixture::Cluster;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::Duration;

/// A cluster to which things happen.
pub struct Faults {
    pub cluster: Cluster,
    pub rng: Rng,
    /// How often each happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// Power cuts that a round may have. Of more nodes than a minority, nothing is promised.
    power_cuts_max: usize,
    power_cuts: usize,
    down: BTreeSet<usize>,
    stopped: BTreeSet<usize>,
}

impl Faults {
    pub fn new(cluster: Cluster, seed: u64, power_cuts_max: usize) -> Faults {
        let (down, stopped) = Default::default();
        let (rng, counts) = (Rng::new(seed), BTreeMap::new());
        Faults { cluster, rng, counts, power_cuts_max, power_cuts: 0, down, stopped }
    }

    /// A few faults, some of which end again, over a second or two.
    pub fn some(&mut self) {
        for _ in 0..self.rng.between(2, 5) {
            thread::sleep(Duration::from_millis(self.rng.between(20, 500) as u64));
            let name = self.one();
            *self.counts.entry(name).or_default() += 1;
        }
        thread::sleep(Duration::from_millis(self.rng.between(20, 500) as u64));
    }

    fn one(&mut self) -> &'static str {
        let nodes = self.cluster.nodes.len();
        let at = self.rng.below(nodes);
        let to = (at + 1 + self.rng.below(nodes - 1)) % nodes;
        let runs = !self.down.contains(&at) && !self.stopped.contains(&at);
        match self.rng.below(14) {
            0 => (self.cluster.cut(at, to, true), "cut one way").1,
            1 => (self.cluster.cut_messages(at, to, true), "messages cut").1,
            2 => (self.cluster.cut_link(at, to, true), "link cut").1,
            3 | 4 => (self.cluster.isolate(at, true), "isolated").1,
            5 => (self.cluster.deafen(at, true), "deaf").1,
            6 | 7 if runs => {
                self.down.insert(at);
                (self.cluster.kill(at), "kill -9").1
            }
            8 if runs => {
                self.stopped.insert(at);
                (self.cluster.signal(at, "STOP"), "STOP").1
            }
            9 if runs && self.power_cuts < self.power_cuts_max => {
                self.power_cuts += 1;
                self.down.insert(at);
                (self.cluster.cut_power(at), "power cut").1
            }
            10 => (self.cluster.heal(), "healed").1,
            11 if runs => (self.promote(at), "PROMOTE").1,
            12 if runs => (self.cluster.restart(at), "TERM").1,
            _ => self.revive(),
        }
    }

    /// Asks for a handover, without waiting for it.
    fn promote(&self, at: usize) {
        if let Ok(mut socket) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.cluster.port(at))) {
            let _ = socket.write_all(b"PROMOTE 500\r\n");
        }
    }

    /// One node goes on.
    fn revive(&mut self) -> &'static str {
        if let Some(at) = self.stopped.pop_first() {
            return (self.cluster.signal(at, "CONT"), "CONT").1;
        }
        match self.down.pop_first() {
            Some(at) => (self.cluster.spawn(at), "restart").1,
            None => "nothing",
        }
    }

    /// Everything works again. Waits until all nodes agree and remember; returns the leader.
    pub fn end(&mut self) -> usize {
        while !self.stopped.is_empty() || !self.down.is_empty() {
            self.revive();
        }
        self.cluster.heal();
        let leader = self.cluster.converge();
        self.cluster.wait_all_whole();
        self.power_cuts = 0;
        leader
    }
}
