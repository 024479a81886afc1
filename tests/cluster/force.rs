//! Hazard: a majority is gone for good. PROMOTE FORCE on a survivor begins a new cluster; what is left of the old one
//! must not mix with it, and can be taken in after `kvstore cluster forget`, without a write that is lost unseen.

use crate::common::nodes::assert_same_state;
use crate::common::resp::Value;
use crate::common::server::Server;
use crate::common::wait_until;
use crate::fixture::{Cluster, ELECTED_WITHIN};
use kvstore::aof::record::Epoch;
use kvstore::cluster::term::ClusterId;
use std::path::Path;
use std::sync::Arc;

/// A cluster of three. Two of them, `leader` and `other`, have acknowledged the write of `only` and are down. The third
/// one runs and has not got it.
struct Story {
    cluster: Cluster,
    leader: usize,
    other: usize,
    survivor: usize,
    /// The token of that write.
    token: String,
}

fn two_are_gone() -> Story {
    let mut cluster = Cluster::start(3, &[("ack", "majority")]);
    let leader = cluster.converge();
    let [survivor, other] = cluster.others(leader)[..] else { panic!("three nodes") };
    cluster.write(leader, "x", "1");
    cluster.wait_level(survivor, leader);
    cluster.cut_link(survivor, leader, true);
    let mut client = cluster.connect(leader);
    assert_eq!(client.call(&["SET", "only", "theirs"]), Value::ok());
    let token = String::from_utf8_lossy(client.call(&["LASTSEQ"]).as_bytes()).into_owned();
    cluster.wait_level(other, leader);
    cluster.kill(leader);
    cluster.kill(other);
    cluster.heal();
    Story { cluster, leader, other, survivor, token }
}

fn text(reply: &Value) -> &str {
    match reply {
        Value::Simple(text) | Value::Error(text) => text,
        other => panic!("{other:?}"),
    }
}

/// Forces a node to lead, as soon as it may be. Returns the answer.
fn force(cluster: &Cluster, at: usize) -> String {
    let mut last = Value::Null;
    let forced = wait_until(ELECTED_WITHIN, || {
        last = cluster.connect(at).call(&["PROMOTE", "FORCE"]);
        let waits = [
            "the link to it is up",
            "a leader was heard a moment ago",
            "a majority of the members answers",
        ];
        let may_wait = waits.iter().any(|why| text(&last).contains(why));
        assert!(!last.is_error() || may_wait, "{last:?}");
        !last.is_error()
    });
    assert!(forced, "{last:?}");
    text(&last).to_owned()
}

/// Runs `kvstore cluster forget`: its exit code, and what it printed.
fn forget(dir: &Path) -> (i32, String) {
    let output = Server::command().args(["cluster", "forget"]).arg(dir).output().expect("it runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().expect("an exit code"), String::from_utf8_lossy(&text).into_owned())
}

fn add(cluster: &Cluster, leader: usize, at: usize) {
    let address = format!("127.0.0.1:{}", cluster.port(at));
    let mut last = Value::Null;
    let added = wait_until(ELECTED_WITHIN, || {
        last = cluster.connect(leader).call(&["MEMBERS", "ADD", &address]);
        last == Value::ok() || text(&last).contains("that node is a member")
    });
    assert!(added, "{last:?}");
}

fn id(cluster: &Cluster, at: usize) -> Option<ClusterId> {
    cluster.term(at).cluster
}

#[test]
fn a_survivor_goes_on_alone_and_takes_another_one_in() {
    let Story { mut cluster, other, survivor, token, .. } = two_are_gone();
    let (old, old_node) = (id(&cluster, survivor), cluster.term(other).id);
    let answer = force(&cluster, survivor);
    assert!(answer.starts_with("OK this node is all of cluster ") && !answer.contains("forgotten"));
    assert_ne!(id(&cluster, survivor), old);
    assert_eq!(cluster.set(survivor, "y", "2"), Value::ok());
    assert_eq!(cluster.get(survivor, "only"), Value::Null);
    let seen = cluster.connect(survivor).call(&["WAITSEQ", &token, "100"]);
    assert!(text(&seen).starts_with("DIVERGED "), "{seen:?}");
    let again = cluster.connect(survivor).call(&["PROMOTE", "FORCE"]);
    assert!(text(&again).contains("this node leads already"), "{again:?}");
    assert!(cluster.log(survivor).contains("PROMOTE FORCE: this node leaves cluster "));

    let (code, said) = forget(&cluster.data(survivor));
    assert!(code == 1 && said.contains("is using this directory"), "{said}");
    let (code, said) = forget(&cluster.data(other));
    assert!(code == 0 && said.contains("has left cluster"), "{said}");
    let (code, said) = forget(&cluster.data(other));
    assert!(code == 1 && said.contains("already"), "{said}");
    cluster.spawn(other);
    cluster.wait_level(other, survivor);
    add(&cluster, survivor, other);
    assert_eq!(cluster.converge(), survivor);
    assert_same_state(cluster.port(survivor), cluster.port(other));
    assert!(cluster.diverged(other).contains("SET \"only\" \"theirs\""));
    assert_eq!(cluster.get(other, "y"), Value::bulk("2"));
    assert_eq!(id(&cluster, other), id(&cluster, survivor));
    assert_ne!(cluster.term(other).id, old_node, "its old promises must not count");
    // Both of them vote: neither leads without the other.
    cluster.kill(survivor);
    cluster.expect_no_leader(&[other], "it is one of two");
    cluster.spawn(survivor);
    cluster.converge();
}

/// The danger that the answer to PROMOTE FORCE names: the others were not gone.
#[test]
fn the_old_cluster_and_the_new_one_do_not_mix() {
    let Story { mut cluster, leader, other, survivor, .. } = two_are_gone();
    let answer = force(&cluster, survivor);
    assert!(answer.contains("there are two clusters that both take writes"), "{answer}");
    let epoch = cluster.term(survivor).epoch;
    cluster.spawn(leader);
    cluster.expect_no_leader(&[leader], "the forced node must not vote for it");
    cluster.spawn(other);
    let old = cluster.leader_among(&[leader, other]);
    assert_eq!(cluster.set(old, "x", "old"), Value::ok());
    assert_eq!(cluster.set(survivor, "x", "new"), Value::ok());
    assert_eq!(cluster.get(old, "x"), Value::bulk("old"));
    assert_eq!(cluster.get(old, "only"), Value::bulk("theirs"));
    assert_eq!(cluster.get(survivor, "x"), Value::bulk("new"));
    assert_eq!(cluster.get(survivor, "only"), Value::Null);
    assert_ne!(id(&cluster, old), id(&cluster, survivor));
    assert_eq!(cluster.term(survivor).epoch, epoch, "nothing of the old cluster counts");
    assert!(cluster.term(old).epoch < Epoch(1000), "nothing of the new cluster counts");
    let refuses = |at: usize| cluster.log(at).contains("this node belongs to cluster");
    assert!(wait_until(ELECTED_WITHIN, || refuses(survivor)), "{}", cluster.log(survivor));
}

/// A cluster whose nodes ask for votes three timeouts after a leader was heard: so long there is time to force one.
fn slow_to_ask() -> Cluster {
    Cluster::start(3, &[("ack", "majority"), ("replica-priority", "0")])
}

/// The leader dies. Until one of the two others leads, neither of them can be forced.
fn nothing_is_forced_between(cluster: &mut Cluster, leader: usize) {
    let survivors = cluster.others(leader);
    cluster.kill(leader);
    let elected = || {
        for at in &survivors {
            let refused = cluster.connect(*at).call(&["PROMOTE", "FORCE"]);
            assert!(refused.is_error(), "node {at}: {refused:?}");
        }
        survivors.iter().any(|at| cluster.leads(*at))
    };
    assert!(wait_until(ELECTED_WITHIN, elected), "no leader");
    let new = cluster.leader_among(&survivors);
    cluster.spawn(leader);
    cluster.converge();
    assert_eq!(id(cluster, leader), id(cluster, new));
}

/// As long as the others can elect a leader, nothing is forced.
#[test]
fn nothing_is_forced_while_a_majority_is_there() {
    let mut cluster = slow_to_ask();
    let leader = cluster.converge();
    cluster.wait_all_whole();
    let follower = cluster.others(leader)[0];
    let refused = cluster.connect(follower).call(&["PROMOTE", "FORCE"]);
    assert!(text(&refused).contains("the link to it is up"), "{refused:?}");
    nothing_is_forced_between(&mut cluster, leader);
}

/// A node that may have forgotten records, and said so, has caught up since.
#[test]
fn what_a_node_said_before_it_caught_up_forces_nothing() {
    let mut cluster = slow_to_ask();
    let leader = cluster.converge();
    cluster.wait_all_whole();
    let [first, second] = cluster.others(leader)[..] else { panic!("three nodes") };
    cluster.kill(leader);
    cluster.kill(first);
    cluster.cut_power(second);
    cluster.spawn(first);
    cluster.spawn(second);
    let says = || text(&cluster.set(first, "x", "1")).contains("may have forgotten records");
    assert!(wait_until(ELECTED_WITHIN, says), "{:?}", cluster.set(first, "x", "1"));
    cluster.spawn(leader);
    cluster.converge();
    cluster.wait_all_whole();
    cluster.promote(leader);
    cluster.converge();
    nothing_is_forced_between(&mut cluster, leader);
}

/// A node that lost power may have forgotten what it acknowledged. It can be forced, and the answer says what that costs.
#[test]
fn a_node_that_may_have_forgotten_can_be_forced() {
    let Story { mut cluster, survivor, .. } = two_are_gone();
    cluster.cut_power(survivor);
    cluster.spawn(survivor);
    assert_eq!(cluster.info(survivor, "kvstore_cluster_memory"), "recovering");
    let answer = force(&cluster, survivor);
    assert!(answer.contains("has forgotten"), "{answer}");
    cluster.wait_whole(survivor);
    assert_eq!(cluster.set(survivor, "y", "2"), Value::ok());
    let forced = id(&cluster, survivor);
    cluster.kill(survivor);
    cluster.spawn(survivor);
    assert_eq!(cluster.leader_among(&[survivor]), survivor, "it is a majority of one");
    assert_eq!((id(&cluster, survivor), cluster.get(survivor, "y")), (forced, Value::bulk("2")));
}

/// A crash after the new cluster's id was written, and before its members record was.
#[test]
fn a_node_that_died_while_it_was_forced_waits_for_the_next_order() {
    let Story { mut cluster, leader, survivor, .. } = two_are_gone();
    cluster.kill(survivor);
    let mut term = cluster.term(survivor);
    (term.cluster, term.epoch) = (Some(ClusterId(7)), Epoch(term.epoch.0 + 1000));
    std::fs::write(cluster.data(survivor).join("node"), term.text()).expect("a file");
    cluster.spawn(survivor);
    cluster.spawn(leader);
    cluster.expect_no_leader(&[survivor, leader], "one has left, and the other is one of three");
    let says = "its members record is of another cluster";
    assert!(cluster.log(survivor).contains(says), "{}", cluster.log(survivor));
    cluster.kill(leader);
    force(&cluster, survivor);
    assert_eq!(cluster.set(survivor, "y", "2"), Value::ok());
}

#[test]
fn a_directory_that_cannot_leave_a_cluster_is_refused() {
    let nowhere = tempfile::tempdir().expect("a temporary directory");
    for dir in [nowhere.path(), &nowhere.path().join("missing")] {
        let (code, said) = forget(dir);
        assert!(code == 1 && said.contains("it has no file 'node'"), "{said}");
    }
    assert_eq!(
        std::fs::read_dir(nowhere.path()).expect("it is there").count(),
        0,
        "nothing is made"
    );
    let alone = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    assert!(Server::start_in(&alone, &[]).stop().success());
    let (code, said) = forget(&alone.path().join("data"));
    assert!(code == 1 && said.contains("it belongs to no cluster"), "{said}");
}
