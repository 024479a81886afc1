//! Hazard: a node is told to follow something that is no leader: itself, its own follower, a node with another
//! password, another kind of server, nothing at all. It says what is wrong, in the log and in INFO, goes on
//! answering, and obeys the next order.

use crate::common::nodes::{
    assert_replicated, count, follower_of, info, lead, load, replicaof, wait_for,
};
use crate::common::resp::{Resp, Value};
use crate::common::server::{RedisServer, Server, number_behind};
use crate::common::{DEADLINE, wait_until};
use std::net::TcpListener;

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

#[test]
fn its_own_follower() {
    let one = Server::start(&[]);
    let other = follower_of(one.port(), &[]);
    load(one.port(), 1, 10);
    assert_replicated(&one, &[&other]);
    replicaof(one.port(), other.port());
    // Two followers of each other, and nobody leads: neither loses anything, and neither is fresh for long.
    wait_for(one.port(), "master_link_status", |status| status == "up");
    for node in [&one, &other] {
        wait_for(node.port(), "kvstore_lag_ms", |ms| {
            ms == "-1" || ms.parse::<i64>().is_ok_and(|ms| ms > 500)
        });
        let reply = Resp::connect(node.port()).call(&["SET", "key", "value"]);
        assert!(reply.is_error(), "{reply:?}");
    }
    recovers(&one);
    assert_replicated(&one, &[&other]);
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
