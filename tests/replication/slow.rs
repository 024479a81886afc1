//! Hazard: a follower that is slow, stalled or out of reach is counted as if it kept up; a slow link is taken
//! for a dead one, or a dead one for a slow one.

use crate::common::nodes::{assert_replicated, count, follower_of, info, replicaof, wait_for};
use crate::common::proxy::Proxy;
use crate::common::resp::{Resp, Value};
use crate::common::server::Server;
use crate::common::{DEADLINE, wait_until};

fn refused_as(reply: &Value, code: &str) -> bool {
    matches!(reply, Value::Error(text) if text.starts_with(code))
}

fn linked(server: &Server) {
    wait_for(server.port(), "master_link_status", |status| status == "up");
}

#[test]
fn a_stalled_follower_does_not_count() {
    let settings =
        [("min-replicas-max-lag", "1"), ("repl-timeout", "30"), ("appendfsync", "always")];
    let leader = Server::start(&settings);
    let followers = [follower_of(leader.port(), &settings), follower_of(leader.port(), &settings)];
    followers.iter().for_each(linked);
    let mut client = Resp::connect(leader.port());
    let wait = |client: &mut Resp, wanted: &str, millis: &str| {
        assert_eq!(client.call(&["SET", "key", "value"]), Value::ok());
        let waited = client.call(&["WAIT", wanted, millis]).as_int();
        let aof = client.call(&["WAITAOF", "1", wanted, millis]);
        (waited, aof.as_array().iter().map(Value::as_int).collect::<Vec<_>>())
    };
    assert_eq!(wait(&mut client, "2", "10000"), (2, vec![1, 2]));
    followers[0].signal("STOP");
    assert_eq!(wait(&mut client, "2", "100"), (1, vec![1, 1]));
    client.call(&["CONFIG", "SET", "min-replicas-to-write", "2"]);
    let refused =
        wait_until(DEADLINE, || refused_as(&client.call(&["SET", "key", "value"]), "NOREPLICAS"));
    assert!(refused, "a follower that says nothing for a second keeps up no more");
    assert_eq!(client.call(&["GET", "key"]), Value::bulk("value"));
    client.call(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    assert_eq!(client.call(&["SET", "key", "value"]), Value::ok());
    followers[0].signal("CONT");
    client.call(&["CONFIG", "SET", "min-replicas-to-write", "2"]);
    assert!(wait_until(DEADLINE, || client.call(&["SET", "key", "value"]) == Value::ok()));
    assert_eq!(wait(&mut client, "2", "10000"), (2, vec![1, 2]));
}

/// The first bytes of a link are sent a second time over another one: that makes no second follower.
#[test]
fn a_replayed_link_does_not_count() {
    let leader = Server::start(&[]);
    let link = Proxy::to(leader.port(), 1);
    link.replay();
    let follower = follower_of(link.port(), &[]);
    linked(&follower);
    wait_for(leader.port(), "connected_slaves", |links| links == "2");
    let mut client = Resp::connect(leader.port());
    client.call(&["CONFIG", "SET", "min-replicas-to-write", "2"]);
    assert!(refused_as(&client.call(&["SET", "key", "value"]), "NOREPLICAS"));
    client.call(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    assert_eq!(client.call(&["SET", "key", "value"]), Value::ok());
    assert_eq!(client.call(&["WAIT", "2", "50"]), Value::Int(1));
    assert_replicated(&leader, &[&follower]);
}

#[test]
fn a_follower_that_is_too_far_behind_answers_no_reads() {
    let leader = Server::start(&[("repl-timeout", "2")]);
    let link = Proxy::to(leader.port(), 1);
    let follower =
        follower_of(link.port(), &[("replica-max-staleness", "700"), ("repl-timeout", "2")]);
    let mut client = Resp::connect(follower.port());
    Resp::connect(leader.port()).call(&["SET", "key", "value"]);
    let reads = |client: &mut Resp| client.call(&["GET", "key"]) == Value::bulk("value");
    assert!(wait_until(DEADLINE, || reads(&mut client)));
    link.stall(true);
    let mut is_stale = || refused_as(&client.call(&["GET", "key"]), "STALE");
    assert!(wait_until(DEADLINE, &mut is_stale));
    // The link is given up and dialled again; that alone makes nothing fresh.
    wait_for(follower.port(), "master_link_status", |status| status == "down");
    assert!(is_stale());
    link.heal();
    assert!(wait_until(DEADLINE, || reads(&mut client)));
}

/// All that comes is seconds old, the heartbeats as well: a follower must not take them for news.
#[test]
fn a_link_on_which_everything_is_late() {
    let leader = Server::start(&[]);
    let link = Proxy::to(leader.port(), 1);
    let follower = follower_of(link.port(), &[("replica-max-staleness", "1000")]);
    linked(&follower);
    let mut client = Resp::connect(leader.port());
    let (mut written, mut reader) = (0, Resp::connect(follower.port()));
    let mut write = || {
        written += 1;
        assert_eq!(client.call(&["SET", "n", &written.to_string()]), Value::ok());
        written
    };
    write();
    assert!(wait_until(DEADLINE, || reader.call(&["GET", "n"]) == Value::bulk("1")));
    link.delay(1500);
    let since = std::time::Instant::now();
    // These writes are late by more than the follower is allowed to be.
    while since.elapsed() < std::time::Duration::from_secs(4) {
        let before = (write(), std::time::Instant::now());
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let reply = reader.call(&["GET", "n"]);
        // The machine may have slept between the two, but never the other way round.
        if before.1.elapsed().as_millis() >= 1100 && reply != Value::bulk(before.0.to_string()) {
            assert!(refused_as(&reply, "STALE"), "it answers {reply:?} in place of {}", before.0);
        }
    }
    link.heal();
    let last = write().to_string();
    assert!(wait_until(2 * DEADLINE, || reader.call(&["GET", "n"]) == Value::bulk(&last)));
}

/// It takes three times `repl-timeout` on its way, and nothing else can pass meanwhile.
#[test]
fn a_large_record_on_a_slow_link() {
    let leader = Server::start(&[("repl-timeout", "1")]);
    let link = Proxy::to(leader.port(), 1);
    let follower = follower_of(link.port(), &[("repl-timeout", "1")]);
    linked(&follower);
    link.throttle(2_000_000);
    let mut client = Resp::connect(leader.port());
    let value = vec![b'x'; 6_000_000];
    assert_eq!(client.call(&[&b"SET"[..], b"large", &value]), Value::ok());
    assert_replicated(&leader, &[&follower]);
    assert_eq!(count(follower.port(), "kvstore_links"), 1, "the link was taken for dead");
    assert_eq!(Resp::connect(follower.port()).call(&["STRLEN", "large"]), Value::Int(6_000_000));
}

/// A bit that flips in a length makes the follower wait for bytes that are never sent: nothing wrong is
/// applied, and somebody must notice.
#[test]
fn a_length_that_is_damaged_on_its_way() {
    let settings = [("repl-timeout", "2")];
    let leader = Server::start(&settings);
    let link = Proxy::to(leader.port(), 1);
    let follower = follower_of(link.port(), &settings);
    linked(&follower);
    // The header says the payload's length, which is 100033.
    link.forge(b" 10003", b" 90003");
    let mut client = Resp::connect(leader.port());
    let value = vec![b'x'; 100_000];
    assert_eq!(client.call(&[&b"SET"[..], b"key", &value]), Value::ok());
    assert!(wait_until(DEADLINE, || link.flipped() == 1));
    assert_replicated(&leader, &[&follower]);
    assert!(leader.stderr().contains("what it has received is not what was sent"));
    assert_eq!(info(follower.port(), "kvstore_full_copies_received"), "0");
}

/// Followers that come and go, and one that never reads, cost the leader nothing in the long run.
#[test]
fn links_leave_nothing_behind() {
    // A worker that has served a link soon ends, or its thread would still be counted.
    let leader = Server::start(&[("repl-timeout", "1"), ("worker-idle-timeout", "1")]);
    let link = Proxy::to(leader.port(), 1);
    let follower = follower_of(link.port(), &[("repl-timeout", "1")]);
    linked(&follower);
    let (threads, descriptors) = (leader.threads(), leader.descriptors());
    for _ in 0..20 {
        link.cut();
        replicaof(follower.port(), 1);
        replicaof(follower.port(), link.port());
        linked(&follower);
    }
    link.stall(true);
    wait_for(leader.port(), "connected_slaves", |followers| followers == "0");
    link.heal();
    linked(&follower);
    let is_small = || leader.threads() <= threads + 2 && leader.descriptors() <= descriptors + 6;
    assert!(wait_until(DEADLINE, is_small), "{} {}", leader.threads(), leader.descriptors());
}
