//! Hazard: a cluster that is described wrongly, which then elects nobody, or has two leaders.
//!
//! A node refuses to start on settings that contradict each other, in one line that says what to do. What belongs to
//! the cluster cannot be changed on one node.

mod common;

use common::nodes::{info, wait_for};
use common::resp::{Resp, Value};
use common::server::{Server, start_in_vain};
use std::fs;
use std::sync::Arc;

/// A cluster of this node alone, at an address that others could not dial.
const ALONE: [(&str, &str); 2] =
    [("cluster-nodes", "127.0.0.1:1"), ("cluster-announce", "127.0.0.1:1")];

fn error(reply: &Value) -> String {
    let Value::Error(text) = reply else { panic!("not refused: {reply:?}") };
    text.clone()
}

#[test]
fn settings_that_contradict_each_other_keep_it_from_starting() {
    let nodes = ["serve", "--port", "7001", "--cluster-nodes", "127.0.0.1:7001,127.0.0.1:7002"];
    let cases: [(&[&str], &str); 6] = [
        (&["--appendonly", "no"], "cannot run with appendonly no"),
        (&["--replicaof", "127.0.0.1:7002"], "remove replicaof, or cluster-nodes"),
        (&["--port", "7003"], "name it with --cluster-announce HOST:PORT"),
        (&["--cluster-nodes", "a:1,b:2,A:1"], "must be different addresses"),
        (&["--election-timeout", "49"], "must be between 50 and 60000"),
        (&["--cluster-nodes", "", "--ack", "majority"], "give cluster-nodes, too"),
    ];
    for (more, expected) in cases {
        let output = start_in_vain(&[&nodes[..], more].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expected), "{more:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn what_belongs_to_the_cluster_is_not_one_nodes_to_change() {
    let server = Server::start(&ALONE);
    let mut client = Resp::connect(server.port());
    let reply = client.call(&["REPLICAOF", "127.0.0.1", "1"]);
    assert_eq!(error(&reply), "ERR the cluster decides who leads");
    wait_for(server.port(), "role", |role| role == "master");
    for [name, wrong, value] in [["ack", "two", "majority"], ["reads", "quick", "index"]] {
        let reply = client.call(&["CONFIG", "SET", name, wrong, "hz", "20"]);
        assert!(error(&reply).starts_with("ERR CONFIG SET failed"), "{reply:?}");
        assert_eq!(client.call(&["CONFIG", "SET", name, value]), Value::ok());
        let shown = client.call(&["CONFIG", "GET", name]);
        assert_eq!(shown.as_array()[1].as_bytes(), value.as_bytes());
        assert_eq!(info(server.port(), &format!("kvstore_cluster_{name}")), value);
    }
    let shown = client.call(&["CONFIG", "GET", "hz"]);
    assert_eq!(shown.as_array()[1].as_bytes(), b"10", "all settings or none");
    let reply = client.call(&["CONFIG", "SET", "cluster-nodes", "a:1"]);
    assert!(error(&reply).contains("immutable"), "{reply:?}");

    let alone = Server::start(&[]);
    let mut client = Resp::connect(alone.port());
    let reply = client.call(&["CONFIG", "SET", "reads", "index"]);
    assert_eq!(
        error(&reply),
        "ERR reads is a setting of a cluster; this node has no cluster-nodes"
    );
    let reply = client.call(&["PEER", "-", &"0".repeat(40), "a:1", "1", "-", "00000000"]);
    assert_eq!(error(&reply), "ERR this node has no cluster-nodes");
}

#[test]
fn a_rewritten_file_names_no_leader() {
    let dir = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let file = dir.path().join("kv.conf");
    fs::write(&file, "cluster-nodes 127.0.0.1:1\ncluster-announce 127.0.0.1:1\n")
        .expect("to write");
    let server = Server::start_in(&dir, &[("config", file.to_str().expect("a plain path"))]);
    // Someone writes a line that the next start would refuse.
    let text = fs::read_to_string(&file).expect("to read") + "replicaof 127.0.0.1 1\n";
    fs::write(&file, text).expect("to write");
    assert_eq!(Resp::connect(server.port()).call(&["CONFIG", "REWRITE"]), Value::ok());
    let text = fs::read_to_string(&file).expect("to read");
    assert!(text.contains("cluster-nodes 127.0.0.1:1\n") && !text.contains("replicaof"), "{text}");
}

#[test]
fn a_test_may_put_a_proxy_on_the_way_to_a_node() {
    let [named, reached] = [0; 2].map(|_| Server::start(&[]));
    assert_eq!(Resp::connect(reached.port()).call(&["SET", "key", "value"]), Value::ok());
    let route = format!("peer:{0}=1,link:{0}={1}", named.port(), reached.port());
    let leader = format!("127.0.0.1 {}", named.port());
    let dir = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let follower =
        Server::start_with(&dir, &[("replicaof", &leader)], &[("KVSTORE_ROUTE", &route)]);
    wait_for(follower.port(), "master_link_status", |status| status == "up");
    assert_eq!(info(follower.port(), "master_port"), named.port().to_string());
    let history = info(reached.port(), "master_replid");
    wait_for(follower.port(), "master_replid", |id| id == history);
}
