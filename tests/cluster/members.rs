//! Voters that come and go: a cluster grows and shrinks, and a disk is replaced.

use crate::common::nodes::{converge, info, wait_for};
use crate::common::resp::{Resp, Value};
use crate::common::server::{Server, lasting_port};
use crate::common::wait_until;
use crate::fixture::{Cluster, ELECTED_WITHIN};
use std::sync::Arc;

/// A node that knows this one, and is no member yet.
fn learner(port: u16, known: u16) -> Server {
    let dir = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let nodes = format!("127.0.0.1:{known},127.0.0.1:{port}");
    let own = port.to_string();
    let settings =
        [("cluster-nodes", nodes.as_str()), ("port", own.as_str()), ("election-timeout", "300")];
    Server::start_in(&dir, &settings)
}

fn error(reply: &Value) -> String {
    let Value::Error(text) = reply else { panic!("not refused: {reply:?}") };
    text.clone()
}

/// Adds a voter, as soon as it may be. On a loaded machine the answer may be in doubt, and the voter there.
fn add(leader: &mut Resp, port: u16) {
    let address = format!("127.0.0.1:{port}");
    let mut last = Value::ok();
    let added = wait_until(ELECTED_WITHIN, || {
        last = leader.call(&["MEMBERS", "ADD", &address]);
        last == Value::ok() || voters(leader).iter().any(|voter| voter.0 == port)
    });
    assert!(added, "{last:?}");
}

/// Removes a voter, as soon as it may be.
fn remove(leader: &mut Resp, id: &str) {
    let mut last = Value::ok();
    let removed = wait_until(ELECTED_WITHIN, || {
        last = leader.call(&["MEMBERS", "REMOVE", &id[..8]]);
        last == Value::ok() || voters(leader).iter().all(|voter| voter.1 != id)
    });
    assert!(removed, "{last:?}");
}

/// Writes, as soon as a majority is there.
fn set(leader: &mut Resp, value: &str) {
    let mut last = Value::ok();
    let written = wait_until(ELECTED_WITHIN, || {
        last = leader.call(&["SET", "name", value]);
        last == Value::ok()
    });
    assert!(written, "{last:?}");
}

/// The ids of the voters by port.
fn voters(node: &mut Resp) -> Vec<(u16, String)> {
    let reply = node.call(&["MEMBERS"]);
    let text = |value: &Value| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let pair = |pair: &Value| {
        let (address, id) = (text(&pair.as_array()[0]), text(&pair.as_array()[1]));
        (address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port"), id)
    };
    reply.as_array().iter().map(pair).collect()
}

#[test]
fn a_cluster_grows_from_one_and_loses_its_first_node() {
    let mut cluster = Cluster::start(1, &[("ack", "majority")]);
    let first = cluster.leader();
    let mut leader = cluster.connect(first);
    let ports = [lasting_port(), lasting_port()];
    let unknown = leader.call(&["MEMBERS", "ADD", &format!("127.0.0.1:{}", ports[0])]);
    assert!(error(&unknown).contains("start it first"), "{unknown:?}");
    set(&mut leader, "Ada");
    let others = ports.map(|port| learner(port, cluster.port(first)));
    add(&mut leader, ports[0]);
    add(&mut leader, ports[1]);
    let all = voters(&mut leader);
    assert_eq!(all.len(), 3);
    set(&mut leader, "Bob");
    let own = &all.iter().find(|(port, _)| *port == cluster.port(first)).expect("listed").1;
    assert!(error(&leader.call(&["MEMBERS", "REMOVE", own])).contains("that node leads"));
    assert!(error(&leader.call(&["MEMBERS", "REMOVE", "00000000"])).contains("no member"));
    let follower = Resp::connect(ports[0]).call(&["MEMBERS", "REMOVE", own]);
    assert!(error(&follower).starts_with("READONLY "), "{follower:?}");

    cluster.kill(first);
    let elected = || ports.iter().find(|port| info(**port, "role") == "master");
    assert!(wait_until(ELECTED_WITHIN, || elected().is_some()));
    let second = *elected().expect("just seen");
    let mut leader = Resp::connect(second);
    // The old leader's writes are shown after one of this leader's is committed.
    assert!(wait_until(ELECTED_WITHIN, || leader.call(&["GET", "name"]) == Value::bulk("Bob")));
    remove(&mut leader, own);
    assert_eq!(voters(&mut leader).len(), 2);
    set(&mut leader, "Cid");
    drop(others);
}

#[test]
fn a_replaced_disk_is_a_new_member_under_the_old_address() {
    let mut cluster = Cluster::start(3, &[("ack", "majority")]);
    let first = cluster.leader();
    let lost = (first + 1) % 3;
    let mut leader = cluster.connect(first);
    set(&mut leader, "Ada");
    let port = cluster.port(lost);
    let of = |all: &[(u16, String)]| all.iter().find(|at| at.0 == port).map(|at| at.1.clone());
    let old = of(&voters(&mut leader)).expect("listed");
    cluster.kill(lost);
    cluster.nodes[lost].dir = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    cluster.spawn(lost);
    wait_for(port, "master_link_status", |status| status == "up");
    converge(cluster.port(first), &[port]);
    let address = format!("127.0.0.1:{port}");
    let mut refused = String::new();
    let is_known = wait_until(ELECTED_WITHIN, || {
        refused = error(&leader.call(&["MEMBERS", "ADD", &address]));
        refused.contains("remove that one first")
    });
    assert!(is_known, "{refused}");
    remove(&mut leader, &old);
    add(&mut leader, port);
    let new = of(&voters(&mut leader)).expect("listed");
    assert_ne!(new, old);
    cluster.kill(first);
    let second = cluster.leader();
    let mut leader = cluster.connect(second);
    assert!(wait_until(ELECTED_WITHIN, || leader.call(&["GET", "name"]) == Value::bulk("Ada")));
}

/// Removing it would leave a leader and a dead node, of which neither is a majority, and no way back.
#[test]
fn a_living_voter_is_not_removed_while_another_one_is_dead() {
    let mut cluster = Cluster::start(3, &[("ack", "majority")]);
    let first = cluster.leader();
    let [lives, dies] = [1, 2].map(|step| (first + step) % 3);
    let mut leader = cluster.connect(first);
    set(&mut leader, "Ada");
    let all = voters(&mut leader);
    let id = |port| all.iter().find(|voter| voter.0 == port).expect("listed").1.as_str();
    let [living, dead] = [lives, dies].map(|at| id(cluster.port(at)));
    cluster.kill(dies);
    let mut quorum = || leader.call(&["SENTINEL", "CKQUORUM", "kvstore"]);
    let is_missed =
        || matches!(quorum(), Value::Simple(text) if text.starts_with("OK 2 usable Sentinels"));
    assert!(wait_until(ELECTED_WITHIN, is_missed));
    let refused = error(&leader.call(&["MEMBERS", "REMOVE", living]));
    let silent = format!("127.0.0.1:{} does not answer", cluster.port(dies));
    assert!(refused.contains("only 1 of 2 members") && refused.contains(&silent), "{refused}");
    set(&mut leader, "Bob");
    remove(&mut leader, dead);
    remove(&mut leader, living);
    set(&mut leader, "Cid");
}
