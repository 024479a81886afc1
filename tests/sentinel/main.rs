//! The hazard: the leader's death goes unnoticed, or two nodes think that they lead, or the writes that a
//! failover gave up are gone without a trace.
//!
//! A stock Redis Sentinel looks after kvstore as it does after Redis. Here three of them do; the leader dies,
//! or stalls and goes on as if it led. What is held against them afterwards: every write that two followers had
//! acknowledged is there, on all nodes; every other acknowledged write is there too, or in `diverged/`.
//!
//! `orders` types what a Sentinel sends, without one.

#[path = "../common/mod.rs"]
mod common;

mod cluster;
mod orders;

use cluster::{Cluster, Fate, connect};
use redis::{Commands, RedisResult};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

fn is_installed() -> bool {
    let installed = Command::new("redis-sentinel").arg("--version").output().is_ok();
    if !installed {
        common::skipped("redis-sentinel is not installed (apt-get install redis-sentinel)");
    }
    installed
}

/// Writes until the node dies; returns the keys of the writes that were acknowledged.
fn write_until_dead(port: u16, password: &str, round: &str, began: &AtomicBool) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let mut connection = connect(port, password).expect("a node that lives");
    connection.set_read_timeout(Some(Duration::from_secs(1))).expect("a socket option");
    for number in 0.. {
        let key = format!("{round}:{number}");
        if connection.set::<_, _, ()>(&key, &key).is_err() {
            break;
        }
        acknowledged.push(key);
        began.store(number > 100, Relaxed);
    }
    acknowledged
}

/// Ends the leader while clients write; returns who leads then, and what was acknowledged before. What two
/// followers had by then must be there.
fn fail_over(cluster: &mut Cluster, round: &str, fate: Fate) -> (usize, Vec<String>) {
    let old = cluster.leader().expect("a leader");
    let (port, password) = (cluster.nodes[old].port, cluster.password.clone());
    let safe: Vec<String> = (0..500).map(|number| format!("safe:{round}:{number}")).collect();
    let mut connection = connect(port, &password).expect("a leader that lives");
    safe.iter().for_each(|key| connection.set(key, key).expect("a write"));
    let have: usize =
        redis::cmd("WAIT").arg(2).arg(30_000).query(&mut connection).expect("an answer");
    assert_eq!(have, 2, "two followers have them");

    let began = AtomicBool::new(false);
    let acknowledged = thread::scope(|scope| {
        let writer = scope.spawn(|| write_until_dead(port, &password, round, &began));
        cluster.wait_for("some writes", || began.load(Relaxed));
        cluster.nodes[old].meets(fate);
        writer.join().expect("the writer")
    });
    let new = cluster.wait_settled();
    assert_ne!(new, old);
    assert!(!cluster.nodes[new].config_file().contains("replicaof"), "CONFIG REWRITE keeps it");
    let there: Vec<String> = keys(cluster, new).into_iter().collect();
    let lost: Vec<&String> = safe.iter().filter(|key| !there.contains(key)).collect();
    assert!(lost.is_empty(), "acknowledged by two followers, and gone: {lost:?}");
    (new, acknowledged)
}

fn keys(cluster: &Cluster, node: usize) -> BTreeSet<String> {
    cluster.ask(node, &["KEYS", "*"]).expect("the keys")
}

/// True if the bytes are in one of the files of a directory.
fn is_in_files(dir: &Path, text: &str) -> bool {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let holds = |bytes: Vec<u8>| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    files.into_iter().any(|file| fs::read(file.path()).is_ok_and(holds))
}

/// The old leader comes back, takes writes from clients who have not heard the news, and is set right by
/// Sentinel. Nothing that it had acknowledged is gone without a trace.
fn come_back(cluster: &mut Cluster, old: usize, acknowledged: &[String], round: &str) {
    cluster.nodes[old].comes_back();
    let late: Vec<String> = (0..20).map(|number| format!("late:{round}:{number}")).collect();
    let mut connection = connect(cluster.nodes[old].port, &cluster.password).expect("it lives");
    let taken: Vec<&String> =
        late.iter().filter(|key| connection.set::<_, _, ()>(*key, *key).is_ok()).collect();
    drop(connection);
    assert!(!taken.is_empty(), "Sentinel leaves it alone for some seconds");
    let new = cluster.wait_settled();
    assert_ne!(new, old, "who has come back does not lead");
    let kept = format!("replicaof 127.0.0.1 {}", cluster.nodes[new].port);
    assert!(cluster.nodes[old].config_file().contains(&kept), "CONFIG REWRITE keeps it");

    let there = keys(cluster, new);
    let diverged = cluster.nodes[old].dir.path().join("data/diverged");
    for key in acknowledged.iter().chain(taken.iter().copied()) {
        assert!(
            there.contains(key) || is_in_files(&diverged, key),
            "{key} is gone without a trace"
        );
    }
    assert!(taken.iter().all(|key| !there.contains(*key)), "the new leader never heard of these");
    let counted: usize = cluster.info(old, "kvstore_diverged_records").parse().expect("a number");
    assert!(counted >= taken.len(), "{counted} diverged records");
}

/// All nodes have the same keys, once the followers have caught up.
fn assert_same_everywhere(cluster: &Cluster) {
    let leader = cluster.leader().expect("a leader");
    let wanted = keys(cluster, leader);
    for node in 0..cluster.nodes.len() {
        cluster.wait_for("the same keys on all nodes", || keys(cluster, node) == wanted);
    }
}

#[test]
fn two_failovers_lose_nothing_that_followers_had() {
    if !is_installed() {
        return;
    }
    let mut cluster = Cluster::start("", [100, 100], "appendfsync everysec");
    for (round, fate) in [("first", Fate::Dies), ("second", Fate::Stalls)] {
        let old = cluster.leader().expect("a leader");
        let (_, acknowledged) = fail_over(&mut cluster, round, fate);
        come_back(&mut cluster, old, &acknowledged, round);
        assert_same_everywhere(&cluster);
    }
}

#[test]
fn with_a_password_one_that_never_leads_and_a_minimum_of_followers() {
    if !is_installed() {
        return;
    }
    let mut cluster = Cluster::start("open-sesame", [0, 100], "min-replicas-to-write 1");
    let (new, _) = fail_over(&mut cluster, "only", Fate::Dies);
    assert_eq!(new, 2, "the node of priority 0 is never promoted");
    // The roles outlive a restart, without an order from Sentinel.
    for node in [1, 2] {
        cluster.wait_heard();
        cluster.nodes[node].kill();
        cluster.nodes[node].start_again();
        let role = if node == new { "master" } else { "slave" };
        assert_eq!(cluster.info(node, "role"), role);
    }
    // One that still thinks so would make a leader of the old one as soon as that is back.
    cluster.wait_heard();
    // A leader that has lost its followers takes no writes, so none are lost, whichever client sends them.
    cluster.nodes[0].comes_back();
    let refused: RedisResult<()> = cluster.ask(0, &["SET", "late", "v"]);
    assert_eq!(refused.expect_err("nobody follows it").code(), Some("NOREPLICAS"));
    assert_eq!(cluster.wait_settled(), new);
    let written: RedisResult<()> = cluster.ask(new, &["SET", "k", "v"]);
    written.expect("the new leader takes writes");
    assert_same_everywhere(&cluster);
}
