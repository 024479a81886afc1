//! Hazard: everything at once. Writers with values of their own, and in each round a few faults: connections cut in one
//! direction or both, of one kind or of both; nodes killed, stopped, without power.
//!
//! After each round the network is honest and all nodes run. Then, without help
//!
//! - all nodes have one log and one state;
//! - no two records anywhere, also among those that were given up, have one epoch and one number: no epoch had two
//!   leaders that took writes;
//! - under `ack majority`, each write that was answered with OK is there;
//! - under `ack leader`, each of them is there or in some node's `diverged/`.

use crate::common::nodes::{StopOnDrop, assert_same_state};
use crate::common::resp::{Value, encode};
use crate::common::rng::fresh_seed;
use crate::common::{long_form, note, number_from_env};
use crate::faults::Faults;
use crate::fixture::{Cluster, log_files};
use kvstore::aof::record::Header;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

const WRITERS: usize = 4;
/// A node that does not answer for so long is left for another one.
const PATIENCE: Duration = Duration::from_secs(1);

/// Keys, each with its only value, whose SET was answered with OK.
pub type Acknowledged = Mutex<BTreeMap<String, String>>;

pub fn seed() -> u64 {
    number_from_env("KVSTORE_SEED").unwrap_or_else(fresh_seed)
}

/// The rounds of one of the three tests.
fn rounds() -> u64 {
    number_from_env("KVSTORE_ROUNDS").unwrap_or(if long_form() { 67 } else { 2 })
}

#[test]
fn three_nodes_ack_leader() {
    survives(3, "leader", 0);
}

#[test]
fn three_nodes_ack_majority() {
    survives(3, "majority", 1);
}

#[test]
fn five_nodes_ack_majority() {
    survives(5, "majority", 2);
}

fn survives(nodes: usize, ack: &str, power_cuts_max: usize) {
    let (rounds, seed) = (rounds(), seed());
    let name = format!("{nodes} nodes, ack {ack}, KVSTORE_SEED={seed}");
    let cluster = Cluster::start(nodes, &[("ack", ack)]);
    let mut faults = Faults::new(cluster, seed, power_cuts_max);
    faults.end();
    let (acknowledged, mut given_up) = (Acknowledged::default(), 0);
    for round in 1..=rounds {
        one_round(&mut faults, round, &acknowledged, |_| ());
        let leader = faults.end();
        let cluster = &faults.cluster;
        for at in cluster.others(leader) {
            assert_same_state(cluster.port(leader), cluster.port(at));
        }
        assert_one_leader_per_epoch(cluster, &name);
        let mut acknowledged = acknowledged.lock().expect("not poisoned");
        let lost = lost(cluster, leader, &acknowledged);
        assert!(ack == "leader" || lost.is_empty(), "{name}, round {round}: {lost:?} are lost");
        expect_set_aside(cluster, &lost, &name);
        lost.iter().for_each(|key| drop(acknowledged.remove(key)));
        given_up += lost.len();
    }
    let acknowledged = acknowledged.lock().expect("not poisoned");
    assert!(acknowledged.len() as u64 > rounds, "{name}: the writers came to nothing");
    note(&format!(
        "{name}: {rounds} rounds, {} acknowledged writes are there, {given_up} in diverged/; {:?}",
        acknowledged.len(),
        faults.counts
    ));
}

/// Writers write, and `others` do what they do until they are told to stop, while faults happen.
pub fn one_round(
    faults: &mut Faults,
    round: u64,
    acknowledged: &Acknowledged,
    others: impl FnOnce(&AtomicBool) + Send,
) {
    let stop = AtomicBool::new(false);
    let ports: Vec<u16> = faults.cluster.nodes.iter().map(|node| node.port).collect();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (stop, ports) = (&stop, &ports);
            let name = format!("{round}:{writer}");
            scope.spawn(move || write(&name, ports, stop, acknowledged));
        }
        scope.spawn(|| others(&stop));
        let _stop = StopOnDrop(&stop);
        faults.some();
    });
}

/// Writes to the node that leads, wherever it is, until it is told to stop.
pub fn write(name: &str, ports: &[u16], stop: &AtomicBool, acknowledged: &Acknowledged) {
    let mut number = 0;
    for port in ports.iter().cycle() {
        if stop.load(SeqCst) {
            return;
        }
        // An error, or a node that does not lead: the next one is asked.
        let _ = write_there(name, &mut number, *port, stop, acknowledged);
        thread::sleep(Duration::from_millis(5));
    }
}

fn write_there(
    name: &str,
    number: &mut u64,
    port: u16,
    stop: &AtomicBool,
    acknowledged: &Acknowledged,
) -> std::io::Result<()> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while !stop.load(SeqCst) {
        *number += 1;
        let (key, value) = (format!("{name}:{number}"), format!("value:{number}"));
        let mut bytes = Vec::new();
        encode(&["SET", &key, &value], &mut bytes);
        stream.get_mut().write_all(&bytes)?;
        let mut line = String::new();
        stream.read_line(&mut line)?;
        if line != "+OK\r\n" {
            assert!(line.is_empty() || line.starts_with('-'), "{line:?} in answer to SET");
            return Ok(());
        }
        acknowledged.lock().expect("not poisoned").insert(key, value);
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The keys of acknowledged writes that a node does not have.
pub fn lost(cluster: &Cluster, at: usize, acknowledged: &BTreeMap<String, String>) -> Vec<String> {
    let mut client = cluster.connect(at);
    let mut is_lost = |(key, value): &(&String, &String)| {
        client.call(&["GET", key]) != Value::bulk(value.as_str())
    };
    let lost = acknowledged.iter().filter(|entry| is_lost(entry));
    lost.map(|(key, _)| key.clone()).collect()
}

fn expect_set_aside(cluster: &Cluster, lost: &[String], name: &str) {
    if lost.is_empty() {
        return;
    }
    let aside: String = (0..cluster.nodes.len()).map(|at| cluster.diverged(at)).collect();
    for key in lost {
        assert!(aside.contains(&format!("SET \"{key}\" ")), "{name}: {key} is nowhere");
    }
}

/// Reads all logs, also those that were set aside.
pub fn assert_one_leader_per_epoch(cluster: &Cluster, name: &str) {
    let mut known: BTreeMap<(u64, u64), (u32, usize)> = BTreeMap::new();
    for at in 0..cluster.nodes.len() {
        let is_base = |path: &Path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("base-"))
        };
        for path in log_files(&cluster.data(at)).into_iter().filter(|path| !is_base(path)) {
            let bytes = fs::read(&path).unwrap_or_default();
            let mut rest = &bytes[..];
            while let Some((header, line_len)) = Header::parse(rest) {
                let first = (header.crc, at);
                let (crc, other) = *known.entry((header.epoch.0, header.seq.0)).or_insert(first);
                assert_eq!(
                    crc, header.crc,
                    "{name}: nodes {other} and {at} have different records {} of epoch {}",
                    header.seq, header.epoch.0
                );
                rest = rest.get(line_len + header.len as usize..).unwrap_or_default();
            }
        }
    }
}
