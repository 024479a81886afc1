//! Hazard: a reply leaves that a change of leader has made untrue: an OK for a write that only a deposed leader has, or
//! an old value as if it were the newest one.

use crate::common::nodes::last_record;
use crate::common::resp::Value;
use crate::common::wait_until;
use crate::fixture::{Cluster, ELECTED_WITHIN, pipeline};

/// True for a refusal that leaves open whether a write happened.
fn in_doubt(reply: &Value) -> bool {
    matches!(reply, Value::Error(text) if text.starts_with("INDOUBT"))
}

/// Waits until a node has more records than `before`.
fn wait_appended(cluster: &Cluster, at: usize, before: u64) {
    let has_more = || last_record(cluster.port(at)) > before;
    assert!(wait_until(ELECTED_WITHIN, has_more), "node {at} has appended nothing");
}

/// A batch writes, and sleeps. Meanwhile its node is cut off, another one leads, and the node comes back and gives the
/// write up. Then the batch comes to the gate, where the commit is that of the other history and far above its record.
fn sleeps_through_a_failover(ack: &str) {
    let cluster = Cluster::start(3, &[("ack", ack)]);
    let old = cluster.converge();
    let others = cluster.others(old);
    others.iter().for_each(|at| cluster.cut_link(*at, old, true));
    let before = last_record(cluster.port(old));
    let sleeper = pipeline(cluster.connect(old), &[&["SET", "x", "1"], &["DEBUG", "SLEEP", "3"]]);
    wait_appended(&cluster, old, before);
    cluster.isolate(old, true);
    let new = cluster.leader_among(&others);
    (0..20).for_each(|n| cluster.write(new, &format!("after:{n}"), "1"));
    cluster.heal();
    cluster.wait_for(old, "kvstore_diverged_records", |count| count == "1");
    cluster.wait_level(old, new);
    let replies = sleeper.join().expect("both are answered");
    assert!(in_doubt(&replies[0]), "{ack}: {replies:?}");
    assert_eq!(cluster.get(cluster.leader(), "x"), Value::Null);
    assert!(cluster.diverged(old).contains("SET \"x\" \"1\""), "{}", cluster.diverged(old));
}

#[test]
fn a_batch_that_sleeps_through_a_failover_is_never_ok_ack_majority() {
    sleeps_through_a_failover("majority");
}

#[test]
fn a_batch_that_sleeps_through_a_failover_is_never_ok_ack_leader() {
    sleeps_through_a_failover("leader");
}

/// A write whose batch is still busy when its leader hands over by plan. The next leader has it, so its OK is true.
#[test]
fn a_batch_that_sleeps_through_a_handover_is_ok() {
    for ack in ["majority", "leader"] {
        let cluster = Cluster::start(3, &[("ack", ack), ("election-timeout", "1000")]);
        let old = cluster.converge();
        let before = last_record(cluster.port(old));
        let commands: [&[&str]; 2] = [&["SET", "x", "1"], &["DEBUG", "SLEEP", "2"]];
        let sleeper = pipeline(cluster.connect(old), &commands);
        wait_appended(&cluster, old, before);
        cluster.promote(cluster.others(old)[0]);
        let replies = sleeper.join().expect("both are answered");
        assert_eq!(replies[0], Value::ok(), "ack {ack}");
        assert_eq!(cluster.get(cluster.leader(), "x"), Value::bulk("1"));
    }
}

/// The only other node receives a record, but its acknowledgement does not come through. It dials again, and its request
/// names the record as its last one. That says where to go on, and acknowledges nothing.
#[test]
fn a_handshake_acknowledges_nothing() {
    let mut cluster = Cluster::start(3, &[("ack", "majority"), ("election-timeout", "1000")]);
    let leader = cluster.converge();
    let others = cluster.others(leader);
    cluster.kill(others[1]);
    let link = &cluster.path(others[0], leader).link;
    link.mute(true);
    link.cut();
    cluster.wait_for(others[0], "master_link_status", |status| status == "up");
    let before = last_record(cluster.port(others[0]));
    let waiting = pipeline(cluster.connect(leader), &[&["SET", "x", "1"]]);
    wait_appended(&cluster, others[0], before);
    link.cut();
    let reply = waiting.join().expect("it is answered").remove(0);
    assert!(in_doubt(&reply), "{reply:?}");
    cluster.heal();
    link.cut();
    let leader = cluster.leader();
    cluster.write(leader, "y", "1");
    assert_eq!(cluster.get(leader, "x"), Value::bulk("1"), "it was in both logs");
}

/// A leader stands still, with commands in its socket and with a write whose reply has not left yet, while another node
/// is elected and writes. When it goes on, no reply may contradict what happened meanwhile.
fn stands_still(settings: &[(&str, &str)]) {
    let cluster = Cluster::start(3, settings);
    let old = cluster.converge();
    cluster.write(old, "value", "old");
    let clients = [(); 4].map(|()| cluster.connect(old));
    let others = cluster.others(old);
    others.iter().for_each(|at| cluster.cut_link(*at, old, true));
    let before = last_record(cluster.port(old));
    let sleeper =
        pipeline(cluster.connect(old), &[&["SET", "early", "1"], &["DEBUG", "SLEEP", "0.5"]]);
    wait_appended(&cluster, old, before);
    cluster.signal(old, "STOP");
    let mut pending = Vec::new();
    for (number, client) in clients.into_iter().enumerate() {
        let (key, write) = (format!("late:{number}"), number % 2 == 0);
        let read: [&[&str]; 4] = [&["MULTI"], &["ROLE"], &["GET", "value"], &["EXEC"]];
        let set: [&[&str]; 1] = [&["SET", &key, "1"]];
        pending.push(pipeline(client, if write { &set } else { &read }));
    }
    let new = cluster.leader_among(&others);
    cluster.write(new, "value", "new");
    cluster.signal(old, "CONT");
    let replies = sleeper.join().expect("both are answered");
    assert!(in_doubt(&replies[0]), "{settings:?}: {replies:?}");
    cluster.heal();
    for (number, replies) in pending.into_iter().enumerate() {
        let replies = replies.join().expect("they are answered");
        let last = replies.last().expect("a reply");
        if number % 2 == 0 {
            assert!(last.is_error(), "{settings:?}: {replies:?}");
        } else if let Value::Array(parts) = last
            && settings.contains(&("reads", "index"))
            && parts[0].as_array()[0] == Value::bulk("master")
        {
            assert_eq!(parts[1], Value::bulk("new"), "{settings:?}: {replies:?}");
        }
    }
    let leader = cluster.converge();
    assert_eq!(cluster.get(leader, "value"), Value::bulk("new"));
}

#[test]
fn a_leader_that_stood_still_answers_no_write_with_ok() {
    stands_still(&[("ack", "leader")]);
    stands_still(&[("ack", "leader"), ("reads", "index")]);
    stands_still(&[("ack", "majority"), ("reads", "index")]);
}

/// A read runs on a leader that is then deposed and elected again, while a write was made in between: the rounds of its
/// later epoch confirm nothing about it.
#[test]
fn a_read_that_outlives_two_changes_of_leader_is_refused_or_current() {
    let cluster = Cluster::start(3, &[("reads", "index"), ("election-timeout", "1000")]);
    let first = cluster.converge();
    cluster.write(first, "value", "old");
    cluster.converge();
    let read = pipeline(cluster.connect(first), &[&["GET", "value"], &["DEBUG", "SLEEP", "3"]]);
    let second = cluster.others(first)[0];
    cluster.promote(second);
    cluster.write(second, "value", "new");
    cluster.leader();
    cluster.promote(first);
    let replies = read.join().expect("both are answered");
    assert!(replies[0].is_error() || replies[0] == Value::bulk("new"), "{replies:?}");
    assert_eq!(cluster.get(cluster.leader(), "value"), Value::bulk("new"));
}

/// The log's end is not committed after a start: until a majority has confirmed it, a reader sees nothing of it.
#[test]
fn a_node_that_starts_alone_shows_nothing_that_may_be_rolled_back() {
    let mut cluster = Cluster::start(3, &[("ack", "majority")]);
    let leader = cluster.converge();
    cluster.others(leader).into_iter().for_each(|at| cluster.cut_link(at, leader, true));
    let before = last_record(cluster.port(leader));
    let waiting = pipeline(cluster.connect(leader), &[&["SET", "x", "1"]]);
    wait_appended(&cluster, leader, before);
    cluster.kill(leader);
    drop(waiting);
    cluster.isolate(leader, true);
    cluster.spawn(leader);
    let reply = cluster.get(leader, "x");
    assert!(reply.is_error(), "{reply:?}");
    let others = cluster.others(leader);
    let new = cluster.leader_among(&others);
    cluster.write(new, "x", "2");
    cluster.heal();
    let leader = cluster.converge();
    assert_eq!(cluster.get(leader, "x"), Value::bulk("2"));
}

/// A loss of quorum is noticed by the leader itself: in one deadline it takes no writes any more.
#[test]
fn a_leader_that_hears_nothing_gives_way_although_it_is_heard() {
    let cluster = Cluster::start(3, &[]);
    let old = cluster.converge();
    cluster.deafen(old, true);
    let others = cluster.others(old);
    let new = cluster.leader_among(&others);
    cluster.wait_for(old, "role", |role| role == "slave");
    assert!(cluster.log(old).contains("no majority has answered for election-timeout"));
    assert!(cluster.set(old, "x", "1").is_error());
    cluster.write(new, "x", "2");
    cluster.deafen(old, false);
    let leader = cluster.converge();
    assert_eq!(cluster.get(leader, "x"), Value::bulk("2"));
    assert!(cluster.info(leader, "kvstore_cluster_epoch").parse::<u64>().expect("a number") >= 2);
}
