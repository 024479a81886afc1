//! Hazard: a node acknowledges a record that is not on its disk yet, and forgets it. Its vote must not bring about a
//! leader that lacks what a majority had. And a leader whose disk takes nothing any more must not stay.

use crate::common::injection::Injection;
use crate::common::resp::Value;
use crate::common::wait_until;
use crate::fixture::{Cluster, ELECTED_WITHIN};
use std::thread;
use std::time::Duration;

/// A cluster in which a majority, `leader` and `forgetful`, has acknowledged `x`, and `behind` has not got it.
struct Story {
    cluster: Cluster,
    leader: usize,
    forgetful: usize,
    behind: usize,
}

/// `before` happens before the write.
fn acknowledged_by_two(settings: &[(&str, &str)], before: impl FnOnce(&Cluster, usize)) -> Story {
    let settings = [settings, &[("ack", "majority")]].concat();
    let cluster = Cluster::start(3, &settings);
    let leader = cluster.converge();
    let [forgetful, behind] = cluster.others(leader)[..] else { panic!("three nodes") };
    cluster.wait_all_whole();
    before(&cluster, forgetful);
    cluster.cut_link(behind, leader, true);
    assert_eq!(cluster.set(leader, "x", "1"), Value::ok());
    cluster.wait_level(forgetful, leader);
    Story { cluster, leader, forgetful, behind }
}

impl Story {
    /// The leader dies, and the one that forgot meets the one that never knew. They must wait for the leader's node.
    fn must_not_lose_it(mut self) {
        let Story { leader, forgetful, behind, .. } = self;
        self.cluster.kill(leader);
        self.cluster.spawn(forgetful);
        self.cluster.heal();
        let memory = self.cluster.info(forgetful, "kvstore_cluster_memory");
        assert_eq!(memory, "recovering");
        self.cluster.expect_no_leader(&[forgetful, behind], "no majority remembers x");
        self.cluster.spawn(leader);
        let leader = self.cluster.converge();
        assert_eq!(self.cluster.get(leader, "x"), Value::bulk("1"));
        self.cluster.wait_whole(forgetful);
    }
}

#[test]
fn the_vote_of_a_node_that_lost_power_does_not_count() {
    for policy in ["everysec", "no"] {
        let mut story = acknowledged_by_two(&[("appendfsync", policy)], |_, _| ());
        let lost = story.cluster.cut_power(story.forgetful);
        assert!(policy == "everysec" || lost > 0, "the power cut has taken nothing");
        story.must_not_lose_it();
    }
}

#[test]
fn a_policy_weakened_before_a_power_cut_is_remembered() {
    let weaken = |cluster: &Cluster, at: usize| {
        let reply = cluster.connect(at).call(&["CONFIG", "SET", "appendfsync", "no"]);
        assert_eq!(reply, Value::ok());
    };
    let mut story = acknowledged_by_two(&[("appendfsync", "always")], weaken);
    assert!(story.cluster.cut_power(story.forgetful) > 0, "the power cut has taken nothing");
    story.must_not_lose_it();
}

/// Under `always`, everything acknowledged is there after a power cut, so the node's vote counts at once.
#[test]
fn a_node_that_syncs_each_record_may_vote_after_a_power_cut() {
    let mut story = acknowledged_by_two(&[("appendfsync", "always")], |_, _| ());
    let Story { leader, forgetful, behind, .. } = story;
    story.cluster.cut_power(forgetful);
    story.cluster.kill(leader);
    story.cluster.spawn(forgetful);
    story.cluster.heal();
    let new = story.cluster.leader_among(&[forgetful, behind]);
    assert_eq!(story.cluster.get(new, "x"), Value::bulk("1"));
}

/// After a failed fsync the kernel may have dropped what was acknowledged. That is remembered across a restart on the
/// same boot.
#[test]
fn a_failed_fsync_is_remembered_across_a_restart() {
    let settings = [("appendfsync", "100ms"), ("ack", "majority")];
    let mut cluster = Cluster::start(3, &settings);
    let leader = cluster.converge();
    let at = cluster.others(leader)[0];
    cluster.wait_whole(at);
    let server = cluster.nodes[at].server.as_ref().expect("it runs");
    // The file `node` is synced by `fsync`, and so still works.
    let Some(injection) = Injection::begin(server, "fdatasync:error=EIO") else { return };
    cluster.write(leader, "x", "1");
    let is_noted = || cluster.info(at, "kvstore_cluster_memory") == "recovering";
    assert!(wait_until(ELECTED_WITHIN, is_noted), "the failed fsync is not noted");
    injection.kill();
    cluster.kill(at);
    cluster.isolate(at, true);
    cluster.spawn(at);
    assert_eq!(cluster.info(at, "kvstore_cluster_memory"), "recovering");
    cluster.heal();
    cluster.wait_whole(at);
    let leader = cluster.converge();
    assert_eq!(cluster.get(leader, "x"), Value::bulk("1"));
}

/// A leader that cannot write gives way to a node that can. What it could not write is lost nowhere, since none of it
/// was answered with OK.
#[test]
fn a_leader_whose_disk_is_full_gives_way() {
    let cluster = Cluster::start(3, &[("ack", "majority")]);
    let old = cluster.converge();
    cluster.write(old, "x", "1");
    let server = cluster.nodes[old].server.as_ref().expect("it runs");
    let Some(injection) = Injection::begin(server, "pwrite64:error=ENOSPC") else { return };
    let others = cluster.others(old);
    assert!(cluster.set(old, "y", "1").is_error());
    let leads = || others.iter().copied().find(|at| cluster.leads(*at));
    assert!(wait_until(ELECTED_WITHIN, || leads().is_some()), "the node with the full disk stays");
    let new = leads().expect("just found");
    cluster.write(new, "z", "1");
    drop(injection);
    let leader = cluster.converge();
    assert_eq!(cluster.get(leader, "x"), Value::bulk("1"));
    assert_eq!(cluster.get(leader, "z"), Value::bulk("1"));
}

/// Three nodes on one disk that stalls for longer than the election timeout. Heartbeats do not wait for it, so no other
/// leader is elected; what is written is late, and not lost.
#[test]
fn a_disk_that_stalls_under_all_nodes_moves_no_epoch() {
    let cluster = Cluster::start(3, &[("ack", "majority"), ("election-timeout", "1000")]);
    let leader = cluster.converge();
    let epoch = cluster.info(leader, "kvstore_cluster_epoch");
    let stall = |at: usize| {
        let server = cluster.nodes[at].server.as_ref().expect("it runs");
        Injection::begin(server, "fdatasync:delay_enter=2500000")
    };
    let stalls: Vec<_> = (0..3).map(stall).collect();
    if stalls.iter().any(Option::is_none) {
        return;
    }
    for number in 0..20 {
        cluster.write(leader, "x", &number.to_string());
        thread::sleep(Duration::from_millis(250));
    }
    assert!(stalls.iter().flatten().all(Injection::has_traced), "no disk has stalled");
    assert_eq!(cluster.info(leader, "kvstore_cluster_epoch"), epoch);
    drop(stalls);
    let leader = cluster.converge();
    assert_eq!(cluster.get(leader, "x"), Value::bulk("19"));
}
