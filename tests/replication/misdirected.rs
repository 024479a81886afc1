//! Hazard: a node is told to follow something that is not a leader: itself, its own follower, a node with another
//! password, a copy of itself, another kind of server, nothing at all. It says what is wrong, in the log and in INFO, goes on
//! answering, and obeys the next order.

use crate::common::http::{get, page_port};
use crate::common::nodes::{
    assert_replicated, count, follower_of, info, lead, load, replicaof, wait_for,
};
use crate::common::proxy::Proxy;
use crate::common::resp::{Resp, Value};
use crate::common::server::{RedisServer, Server, number_behind};
use crate::common::{DEADLINE, wait_until};
use std::fs;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

/// Waits until INFO tells of this error, then until the log does; the node must be well otherwise.
fn complains(server: &Server, of: &str) {
    wait_for(server.port(), "kvstore_link_error", |error| error.contains(of));
    assert!(wait_until(DEADLINE, || server.stderr().contains(of)), "{}", server.stderr());
    assert_eq!(info(server.port(), "master_link_status"), "down");
    assert_eq!(Resp::connect(server.port()).call(&["PING"]), Value::simple("PONG"));
}

/// It leads again, and has lost nothing.
fn recovers(server: &Server) {
    lead(server.port());
    let mut client = Resp::connect(server.port());
    assert_eq!(client.call(&["SET", "key", "value"]), Value::ok());
    assert_eq!(info(server.port(), "kvstore_link_error"), "");
    assert_eq!(info(server.port(), "kvstore_diverged_records"), "0");
}

#[test]
fn itself() {
    let server = Server::start(&[]);
    replicaof(server.port(), server.port());
    complains(&server, "this is the node that wants to follow");
    recovers(&server);
}

/// Nodes of which each follows the next: none leads, none loses anything, and all say so.
fn circle(len: usize) {
    let first = Server::start(&[]);
    let mut nodes = vec![first];
    for _ in 1..len {
        let last = nodes.last().expect("the first node").port();
        nodes.push(follower_of(last, &[]));
    }
    load(nodes[0].port(), 1, 10);
    let followers: Vec<&Server> = nodes[1..].iter().collect();
    assert_replicated(&nodes[0], &followers);
    replicaof(nodes[0].port(), nodes[len - 1].port());
    for node in &nodes {
        complains(node, "follow each other in a circle");
        wait_for(node.port(), "kvstore_lag_ms", |ms| {
            ms == "-1" || ms.parse::<i64>().is_ok_and(|ms| ms > 500)
        });
        let metrics = get(page_port(node), "/metrics");
        assert!(metrics.contains("\nkvstore_leader_link_up 0\n"), "{metrics}");
        let reply = Resp::connect(node.port()).call(&["SET", "key", "value"]);
        assert!(reply.is_error(), "{reply:?}");
        let reply = Resp::connect(node.port()).call(&["ROLE"]);
        assert_ne!(reply.as_array()[3], Value::bulk("connected"));
    }
    recovers(&nodes[0]);
    let followers: Vec<&Server> = nodes[1..].iter().collect();
    assert_replicated(&nodes[0], &followers);
    for node in followers {
        assert_eq!(info(node.port(), "kvstore_link_error"), "");
        assert!(node.stderr().contains("there is a node that leads again"));
    }
}

#[test]
fn its_own_follower() {
    circle(2);
}

#[test]
fn a_circle_of_three() {
    circle(3);
}

/// A chain is not a circle, however long it takes to tell, and neither is one whose leader is gone.
#[test]
fn a_chain_is_not_taken_for_a_circle() {
    let mut nodes = vec![Server::start(&[])];
    for _ in 0..4 {
        let last = nodes.last().expect("the first node").port();
        nodes.push(follower_of(last, &[]));
    }
    load(nodes[0].port(), 1, 10);
    let followers: Vec<&Server> = nodes[1..].iter().collect();
    assert_replicated(&nodes[0], &followers);
    nodes[0].kill();
    wait_for(nodes[1].port(), "master_link_status", |status| status == "down");
    // Far longer than it takes to find a circle.
    assert!(!wait_until(Duration::from_secs(6), || {
        nodes[2..].iter().any(|node| info(node.port(), "master_link_status") != "up")
    }));
    assert!(nodes.iter().all(|node| !node.stderr().contains("circle")));
}

/// A copy of this server's data directory, for another server.
fn copied_directory(server: &Server) -> Arc<tempfile::TempDir> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let from = server.dir().join("data");
    fs::create_dir(dir.path().join("data")).expect("an empty directory");
    for entry in fs::read_dir(from).expect("a data directory").flatten() {
        if entry.path().is_file() {
            let to = dir.path().join("data").join(entry.file_name());
            fs::copy(entry.path(), to).expect("a copy");
        }
    }
    Arc::new(dir)
}

/// Two followers with one node id: the second is told what to do, and the first does not notice.
#[test]
fn a_copy_of_a_followers_directory() {
    let leader = Server::start(&[]);
    let first = follower_of(leader.port(), &[]);
    load(leader.port(), 1, 10);
    assert_replicated(&leader, &[&first]);
    let dir = copied_directory(&first);
    let address = format!("127.0.0.1 {}", leader.port());
    let settings = [("replicaof", address.as_str())];
    let mut second = Server::start_in(&dir, &settings);
    complains(&second, "remove the file 'node'");
    assert!(leader.stderr().contains("remove the file 'node'"), "{}", leader.stderr());
    assert_eq!(info(leader.port(), "connected_slaves"), "1");
    assert_eq!(info(first.port(), "master_link_status"), "up");
    // Nor does it get in when the leader comes back and both ask at once, or while it asks again and again.
    let links = count(first.port(), "kvstore_links");
    assert!(!wait_until(Duration::from_secs(3), || {
        info(second.port(), "master_link_status") == "up"
            || count(first.port(), "kvstore_links") != links
    }));
    second.kill();
    fs::remove_file(dir.path().join("data/node")).expect("the file 'node'");
    let second = Server::start_in(&dir, &settings);
    load(leader.port(), 2, 10);
    assert_replicated(&leader, &[&first, &second]);
    assert_eq!(info(leader.port(), "connected_slaves"), "2");
}

/// Of two that ask at the same time, one gets in.
#[test]
fn two_copies_that_come_at_once() {
    let mut leader = Server::start(&[]);
    let link = Proxy::to(leader.port(), 1);
    let first = follower_of(link.port(), &[]);
    load(leader.port(), 1, 10);
    assert_replicated(&leader, &[&first]);
    let dir = copied_directory(&first);
    let address = format!("127.0.0.1 {}", link.port());
    let second = Server::start_in(&dir, &[("replicaof", address.as_str())]);
    for _ in 0..3 {
        leader.restart("KILL");
        link.set_target(leader.port());
        let nodes = [&first, &second];
        let up = || {
            let is_up = |node: &&&Server| info(node.port(), "master_link_status") == "up";
            nodes.iter().filter(is_up).count()
        };
        assert!(wait_until(DEADLINE, || up() == 1), "{} are up", up());
        let refused = || {
            nodes.iter().any(|node| {
                info(node.port(), "kvstore_link_error").contains("remove the file 'node'")
            })
        };
        assert!(wait_until(DEADLINE, refused));
        assert_eq!(up(), 1);
    }
}

/// A process that slept through the coming of its copy is refused when it wakes up: it is never counted as one
/// with the copy.
#[test]
fn a_sleeper_whose_copy_has_come() {
    let leader = Server::start(&[]);
    let first = follower_of(leader.port(), &[]);
    load(leader.port(), 1, 10);
    assert_replicated(&leader, &[&first]);
    let dir = copied_directory(&first);
    first.signal("STOP");
    let address = format!("127.0.0.1 {}", leader.port());
    let second = Server::start_in(&dir, &[("replicaof", address.as_str())]);
    assert_replicated(&leader, &[&second]);
    first.signal("CONT");
    complains(&first, "remove the file 'node'");
    assert_eq!(info(leader.port(), "connected_slaves"), "1");
    assert_eq!(info(second.port(), "master_link_status"), "up");
}

/// A follower that was restarted, or whose link broke, is not taken for a copy of itself, although its old link
/// still looks alive.
#[test]
fn a_node_that_comes_back_is_no_copy_of_itself() {
    let leader = Server::start(&[]);
    let link = Proxy::to(leader.port(), 1);
    let mut follower = follower_of(link.port(), &[]);
    load(leader.port(), 1, 10);
    assert_replicated(&leader, &[&follower]);
    // The old link is silent, and stays: the leader does not hear of the follower's end.
    link.stall(true);
    let dir = follower.shared_dir();
    follower.kill();
    let address = format!("127.0.0.1 {}", leader.port());
    let mut follower = Server::start_in(&dir, &[("replicaof", address.as_str())]);
    load(leader.port(), 2, 10);
    assert_replicated(&leader, &[&follower]);
    // Nor is one that was restarted at once.
    follower.restart("KILL");
    assert_replicated(&leader, &[&follower]);
    assert_eq!(info(follower.port(), "kvstore_link_error"), "");
}

/// A leader's directory, copied and started as its follower.
#[test]
fn a_copy_of_the_leaders_directory() {
    let leader = Server::start(&[]);
    load(leader.port(), 1, 10);
    let dir = copied_directory(&leader);
    let address = format!("127.0.0.1 {}", leader.port());
    let follower = Server::start_in(&dir, &[("replicaof", address.as_str())]);
    complains(&follower, "remove the file 'node' from one of the two");
    let warned = || leader.stderr().contains("is refused");
    assert!(wait_until(DEADLINE, warned), "{}", leader.stderr());
}

#[test]
fn a_wrong_password() {
    let leader = Server::start(&[("requirepass", "right")]);
    let follower = follower_of(leader.port(), &[("masterauth", "wrong")]);
    complains(&follower, "WRONGPASS");
    let none = follower_of(leader.port(), &[]);
    complains(&none, "NOAUTH");
    let mut client = Resp::connect(follower.port());
    assert_eq!(client.call(&["CONFIG", "SET", "masterauth", "right"]), Value::ok());
    wait_for(follower.port(), "master_link_status", |status| status == "up");
    assert_eq!(info(follower.port(), "kvstore_link_error"), "");
}

#[test]
fn a_redis() {
    let Some(redis) = RedisServer::start() else { return };
    let server = Server::start(&[]);
    replicaof(server.port(), redis.port());
    complains(&server, "unknown command");
    recovers(&server);
}

#[test]
fn a_status_page_and_a_port_where_nobody_answers() {
    let other = Server::start(&[]);
    let page = number_behind(&other.stdout(), "status page on http://127.0.0.1:").expect("a page");
    let server = Server::start(&[("repl-timeout", "1")]);
    replicaof(server.port(), page);
    complains(&server, "");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    replicaof(server.port(), silent.local_addr().expect("bound").port());
    wait_for(server.port(), "kvstore_link_error", |error| error.contains("unavailable"));
    recovers(&server);
}

#[test]
fn orders_that_change_quickly() {
    let leaders = [Server::start(&[]), Server::start(&[])];
    let server = Server::start(&[]);
    for (leader, seed) in leaders.iter().zip(1..) {
        load(leader.port(), seed, 100);
    }
    let descriptors = server.descriptors();
    for round in 0..30 {
        replicaof(server.port(), leaders[round % 2].port());
        if round % 5 == 4 {
            lead(server.port());
            Resp::connect(server.port()).call(&["SET", "own", "value"]);
        }
    }
    replicaof(server.port(), leaders[1].port());
    assert_replicated(&leaders[1], &[&server]);
    let is_small = || server.descriptors() <= descriptors + 6;
    assert!(wait_until(DEADLINE, is_small), "{} descriptors", server.descriptors());
    assert_eq!(count(leaders[0].port(), "connected_slaves"), 0);
}
