//! Hazard: voters come and go while nodes die and the network breaks. Five nodes, of which three to five vote. In each
//! round a disk may be replaced under the same address; then writers write, faults happen, and an operator adds and
//! removes voters, and gives wrong addresses.
//!
//! After each round the network is honest and all nodes run. Then, under `ack majority`,
//!
//! - there is a leader, so no order has cost the quorum, and all nodes have one log and one state;
//! - no two records anywhere have one epoch and one number: no epoch had two leaders;
//! - each write that was answered with OK is there;
//! - no wrong address has been taken.

use crate::chaos::{Acknowledged, assert_one_leader_per_epoch, lost, one_round, seed};
use crate::common::nodes::assert_same_state;
use crate::common::rng::Rng;
use crate::common::server::{Server, lasting_port};
use crate::common::{long_form, note, number_from_env, wait_until};
use crate::faults::Faults;
use crate::fixture::{Cluster, ELECTED_WITHIN};
use redis::{RedisResult, cmd};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

const NODES: usize = 5;
const VOTERS_MIN: usize = 3;
/// An order that is not answered within this time may have been carried out, or be carried out later.
const PATIENCE: Duration = Duration::from_secs(1);

/// Address and id.
type Voter = (String, String);

/// How often each order was answered in which way.
type Counts = BTreeMap<String, u64>;

fn rounds() -> u64 {
    number_from_env("KVSTORE_ROUNDS").unwrap_or(if long_form() { 50 } else { 3 })
}

#[test]
fn voters_come_and_go() {
    let (rounds, seed) = (rounds(), seed());
    let name = format!("voters come and go, KVSTORE_SEED={seed}");
    let cluster = Cluster::start(NODES, &[("ack", "majority")]);
    let mut operator = Operator::new(&cluster, seed);
    let mut faults = Faults::new(cluster, seed, 0);
    faults.end();
    let acknowledged = Acknowledged::default();
    for round in 1..=rounds {
        replace_a_disk(&mut faults, &mut operator.counts);
        one_round(&mut faults, round, &acknowledged, |stop| operator.work(stop));
        let leader = faults.end();
        let cluster = &faults.cluster;
        operator.repair(cluster);
        cluster.converge();
        for at in cluster.others(leader) {
            assert_same_state(cluster.port(leader), cluster.port(at));
        }
        assert_one_leader_per_epoch(cluster, &name);
        let acknowledged = acknowledged.lock().expect("not poisoned");
        let lost = lost(cluster, leader, &acknowledged);
        assert!(lost.is_empty(), "{name}, round {round}: {lost:?} are lost");
    }
    let written = acknowledged.lock().expect("not poisoned").len();
    assert!(written as u64 > rounds, "{name}: the writers came to nothing");
    let Operator { counts, .. } = operator;
    note(&format!(
        "{name}: {rounds} rounds, {written} acknowledged writes are there; {counts:?}; {:?}",
        faults.counts
    ));
}

/// In every other round a node loses its disk, and comes back with an empty one. It may be one that votes.
fn replace_a_disk(faults: &mut Faults, counts: &mut Counts) {
    if faults.rng.below(2) == 0 {
        return;
    }
    let at = faults.rng.below(NODES);
    faults.cluster.kill(at);
    faults.cluster.empty(at);
    faults.cluster.spawn(at);
    *counts.entry("disk replaced".to_owned()).or_default() += 1;
}

/// Gives orders to the node that leads, whichever it is.
struct Operator {
    ports: Vec<u16>,
    rng: Rng,
    counts: Counts,
    /// A server that belongs to no cluster, and one that is a cluster alone.
    strangers: [Server; 2],
}

impl Operator {
    fn new(cluster: &Cluster, seed: u64) -> Operator {
        let (alone, port) = (Server::start(&[]), lasting_port());
        let (nodes, port) = (format!("127.0.0.1:{port}"), port.to_string());
        let other = Server::start(&[("cluster-nodes", &nodes), ("port", &port)]);
        let ports = cluster.nodes.iter().map(|node| node.port).collect();
        let (rng, counts) = (Rng::new(seed ^ 1), Counts::new());
        Operator { ports, rng, counts, strangers: [alone, other] }
    }

    /// Gives orders until it is told to stop.
    fn work(&mut self, stop: &AtomicBool) {
        while !stop.load(SeqCst) {
            if let Some((mut leader, voters)) = self.leader() {
                self.one(&mut leader, &voters);
            }
            thread::sleep(Duration::from_millis(self.rng.between(20, 150) as u64));
        }
    }

    /// A connection to a node that says it leads, and who votes there.
    fn leader(&self) -> Option<(redis::Connection, Vec<Voter>)> {
        self.ports.iter().find_map(|port| {
            let mut node = connect(*port).ok()?;
            let info: String = cmd("INFO").arg("replication").query(&mut node).ok()?;
            let voters: Vec<Voter> = cmd("MEMBERS").query(&mut node).ok()?;
            info.contains("role:master").then_some((node, voters))
        })
    }

    fn one(&mut self, leader: &mut redis::Connection, voters: &[Voter]) {
        let port = self.ports[self.rng.below(NODES)];
        let (_, id) = &voters[self.rng.below(voters.len())];
        match self.rng.below(10) {
            0..4 => drop(self.order(leader, "ADD", &address(port))),
            4..7 if voters.len() > VOTERS_MIN => drop(self.order(leader, "REMOVE", id)),
            4..7 => {}
            _ => {
                let wrong = self.wrong_address(port);
                let answer = self.order(leader, "ADD", &wrong);
                assert!(answer.is_err(), "{wrong} has been taken: {answer:?}");
            }
        }
    }

    fn wrong_address(&mut self, port: u16) -> String {
        match self.rng.below(5) {
            0 => address(1),
            1 => format!("localhost:{port}"),
            2 => format!("127.0.0.1:{port}0"),
            other => address(self.strangers[other - 3].port()),
        }
    }

    fn order(&mut self, leader: &mut redis::Connection, what: &str, whom: &str) -> RedisResult<()> {
        let answer = cmd("MEMBERS").arg(what).arg(whom).query(leader);
        let how = if answer.is_ok() { "done" } else { "refused or in doubt" };
        *self.counts.entry(format!("{what} {how}")).or_default() += 1;
        answer
    }

    /// All nodes run and follow one leader: removes the ids of disks that are gone, and adds voters up to three.
    fn repair(&mut self, cluster: &Cluster) {
        let ids: Vec<String> = (0..NODES).map(|at| cluster.term(at).id.to_string()).collect();
        let mut last = None;
        let repaired = wait_until(ELECTED_WITHIN, || {
            let Some((mut leader, voters)) = self.leader() else { return false };
            let is_gone = |(_, id): &&Voter| !ids.contains(id);
            let order = match voters.iter().find(is_gone) {
                Some((_, id)) => Some(("REMOVE", id.clone())),
                None if voters.len() < VOTERS_MIN => {
                    let votes = |port: &&u16| voters.iter().any(|voter| voter.0 == address(**port));
                    self.ports.iter().find(|port| !votes(port)).map(|port| ("ADD", address(*port)))
                }
                None => None,
            };
            last = order.map(|(what, whom)| self.order(&mut leader, what, &whom));
            last.is_none()
        });
        assert!(repaired, "{last:?}");
    }
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn connect(port: u16) -> RedisResult<redis::Connection> {
    let client = redis::Client::open(format!("redis://{}/", address(port)))?;
    let node = client.get_connection_with_timeout(PATIENCE)?;
    node.set_read_timeout(Some(PATIENCE))?;
    node.set_write_timeout(Some(PATIENCE))?;
    Ok(node)
}
