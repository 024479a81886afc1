//! Hazard: a network that is neither whole nor gone: one direction, one kind of connection, one moment.

use crate::common::nodes::last_record;
use crate::common::resp::Value;
use crate::common::wait_until;
use crate::fixture::{Cluster, ELECTED_WITHIN, TIMEOUT_MS};
use std::thread;
use std::time::Duration;

fn epoch(cluster: &Cluster, at: usize) -> u64 {
    cluster.info(at, "kvstore_cluster_epoch").parse().expect("a number")
}

/// One follower cannot be reached by the leader, and the other one can: its vote is not to be had while it hears the
/// leader.
#[test]
fn a_follower_that_only_the_leader_cannot_reach_deposes_it_not() {
    let cluster = Cluster::start(3, &[("election-timeout", "1000")]);
    let leader = cluster.converge();
    let [cut, other] = cluster.others(leader)[..] else { panic!("three nodes") };
    let (epoch_before, asked) = (epoch(&cluster, leader), |at: usize| epoch(&cluster, at));
    cluster.cut_messages(leader, cut, true);
    // It gives the leader up, and asks in vain.
    cluster.wait_for(cut, "master_link_status", |status| status != "up");
    cluster.write(leader, "x", "1");
    thread::sleep(Duration::from_millis(3000));
    let steps_down = cluster.log(leader).contains("there is a later epoch");
    assert!(!steps_down, "an election disturbed a leader that had a majority");
    if cluster.leads(leader) {
        assert_eq!([leader, cut, other].map(asked), [epoch_before; 3], "no epoch has moved");
    }
    cluster.heal();
    let leader = cluster.converge();
    assert_eq!(cluster.get(leader, "x"), Value::bulk("1"));
}

/// The replication links are cut, and the messages about who leads are not: the leader must not stay for ever.
#[test]
fn a_leader_whose_links_are_all_dead_resigns_and_service_comes_back() {
    let cluster = Cluster::start(3, &[("ack", "majority")]);
    let old = cluster.converge();
    let others = cluster.others(old);
    others.iter().for_each(|at| cluster.cut_link(*at, old, true));
    let new = cluster.leader_among(&others);
    assert!(cluster.log(old).contains("no majority has had a working replication link"));
    cluster.write(new, "x", "1");
    cluster.heal();
    let leader = cluster.converge();
    assert_eq!(cluster.get(leader, "x"), Value::bulk("1"));
}

/// Both followers lose their links without the leader's being told, and dial again. The end of the older links, which
/// the leader finds out later, says nothing about the newer ones.
#[test]
fn a_link_that_ends_late_does_not_count_against_the_one_that_replaced_it() {
    let cluster = Cluster::start(3, &[]);
    let leader = cluster.converge();
    let others = cluster.others(leader);
    others.iter().for_each(|at| cluster.path(*at, leader).link.forget());
    let ended = || cluster.log(leader).matches("it has been silent for").count() >= 2;
    assert!(wait_until(ELECTED_WITHIN, ended), "{}", cluster.log(leader));
    // By now a leader without links would have resigned.
    thread::sleep(Duration::from_millis(7 * TIMEOUT_MS));
    let resigned = "no majority has had a working replication link";
    assert!(!cluster.log(leader).contains(resigned), "{}", cluster.log(leader));
    cluster.heal();
    cluster.leader();
}

/// The network between the leader and one follower comes and goes, each time for longer than the election timeout. The
/// follower has all records, and asks the other one for its vote in vain.
#[test]
fn a_flapping_network_raises_no_epoch() {
    let cluster = Cluster::start(3, &[("election-timeout", "1000")]);
    let leader = cluster.converge();
    let flapping = cluster.others(leader)[0];
    let before = epoch(&cluster, leader);
    for _ in 0..2 {
        cluster.cut(flapping, leader, true);
        cluster.cut(leader, flapping, true);
        cluster.wait_for(flapping, "kvstore_cluster_leader", str::is_empty);
        thread::sleep(Duration::from_millis(1500));
        cluster.heal();
        cluster.leader();
    }
    assert!(!cluster.log(leader).contains("there is a later epoch"), "{}", cluster.log(leader));
    if cluster.leads(leader) && cluster.info(leader, "kvstore_cluster_stepdowns") == "0" {
        assert_eq!(epoch(&cluster, flapping), before, "no epoch has moved");
    }
}

/// A node that has been away for long asks with an old log. It finds the other follower first, and gets no vote there.
#[test]
fn a_node_that_returns_with_old_data_deposes_no_leader() {
    let mut cluster = Cluster::start(3, &[("election-timeout", "1000")]);
    let leader = cluster.converge();
    let [away, other] = cluster.others(leader)[..] else { panic!("three nodes") };
    cluster.isolate(away, true);
    (0..30).for_each(|n| cluster.write(leader, &format!("key:{n}"), "value"));
    cluster.kill(away);
    cluster.spawn(away);
    cluster.cut(away, other, false);
    cluster.cut(other, away, false);
    thread::sleep(Duration::from_millis(4000));
    cluster.heal();
    let last = cluster.converge();
    assert!(!cluster.log(leader).contains("there is a later epoch"), "{}", cluster.log(leader));
    assert_eq!(cluster.get(last, "key:29"), Value::bulk("value"));
}

/// A member takes a full copy over a slow link when the leader dies. It has its old log until the copy is whole, so it
/// may vote for the node that has everything, and gets the rest from there.
#[test]
fn a_member_votes_while_a_copy_is_on_its_way() {
    let settings = [("ack", "majority"), ("repl-backlog-size", "0"), ("segment-size", "64kb")];
    let mut cluster = Cluster::start(3, &settings);
    let old = cluster.converge();
    let [copying, other] = cluster.others(old)[..] else { panic!("three nodes") };
    cluster.wait_whole(copying);
    cluster.kill(copying);
    let value = "v".repeat(4000);
    (0..200).for_each(|n| cluster.write(old, &format!("key:{n}"), &value));
    cluster.wait_level(other, old);
    for at in [old, other] {
        assert!(!cluster.connect(at).call(&["SAVE"]).is_error());
    }
    cluster.path(copying, old).link.throttle(50_000);
    cluster.spawn(copying);
    let begun = || cluster.info(old, "kvstore_full_copies_sent") != "0";
    assert!(wait_until(ELECTED_WITHIN, begun), "no copy has begun");
    cluster.kill(old);
    let new = cluster.leader_among(&[copying, other]);
    assert_eq!(new, other, "the other one lacks most of it");
    assert_eq!(cluster.get(copying, "key:199"), Value::bulk(&value));
    assert_eq!(last_record(cluster.port(copying)), last_record(cluster.port(new)));
}
