//! Hazard: a follower's log or state is not quite the leader's.
//!
//! All kinds of effects go through: values, deadlines, parts of values, transactions, removal of everything,
//! keys that expire by themselves. A follower's log must then be the leader's byte for byte, and its state
//! the same key for key, for a follower of a follower as well.

use crate::common::nodes::{assert_replicated, follower_of, load, wait_for};
use crate::common::resp::{Resp, Value};
use crate::common::server::Server;
use std::io::Read;

const SMALL_SEGMENTS: (&str, &str) = ("segment-size", "16kb");

#[test]
fn after_mixed_load_log_and_state_are_the_leaders() {
    // Segments end elsewhere on each node: what is compared is the records.
    let leader = Server::start(&[SMALL_SEGMENTS]);
    let first = follower_of(leader.port(), &[("segment-size", "7kb")]);
    let second = follower_of(first.port(), &[]);
    let port = leader.port();
    std::thread::scope(|scope| {
        for seed in 0..4 {
            scope.spawn(move || load(port, seed, 250));
        }
    });
    let (records, keys) = assert_replicated(&leader, &[&first, &second]);
    assert!(records > 4000 && keys > 400, "only {records} records and {keys} keys were compared");
    let mut client = Resp::connect(leader.port());
    assert_eq!(client.call(&["FLUSHALL"]), Value::ok());
    assert_eq!(client.call(&["SET", "behind it", "all"]), Value::ok());
    load(leader.port(), 5, 50);
    assert_replicated(&leader, &[&first, &second]);
    assert_eq!(Resp::connect(second.port()).call(&["GET", "behind it"]), Value::bulk("all"));
}

#[test]
fn keys_expire_on_followers_by_the_leaders_word() {
    let leader = Server::start(&[]);
    let follower = follower_of(leader.port(), &[]);
    let mut client = Resp::connect(leader.port());
    for n in 0..500 {
        client.call(&["SET", &format!("brief:{n}"), "v", "PX", "50"]);
    }
    // Nobody asks for them: the leader's sweeper removes them, and the follower hears of it.
    let keys = |port| Resp::connect(port).call(&["DBSIZE"]).as_int();
    for port in [leader.port(), follower.port()] {
        assert!(crate::common::wait_until(crate::common::DEADLINE, || keys(port) == 0));
    }
    assert_replicated(&leader, &[&follower]);
}

#[test]
fn a_follower_that_comes_late_gets_a_copy_and_then_the_log() {
    let leader = Server::start(&[SMALL_SEGMENTS, ("repl-backlog-size", "0")]);
    load(leader.port(), 1, 200);
    let mut client = Resp::connect(leader.port());
    client.call(&["SET", "old", "1", "EX", "1000"]);
    client.call(&["SAVE"]);
    load(leader.port(), 2, 100);
    let first = follower_of(leader.port(), &[]);
    load(leader.port(), 3, 100);
    assert_replicated(&leader, &[&first]);
    wait_for(first.port(), "kvstore_full_copies_received", |copies| copies == "1");
    // The data of a copy is passed on.
    let second = follower_of(first.port(), &[]);
    assert_replicated(&leader, &[&first, &second]);
}

/// Messages that a connection subscribed to before it became a follower's link do not come over the link.
#[test]
fn a_subscriber_that_becomes_a_followers_link_gets_the_log_and_nothing_else() {
    for listens in [&["SUBSCRIBE", "news"][..], &["PSUBSCRIBE", "n*"], &["MONITOR"]] {
        let leader = Server::start(&[]);
        let mut link = Resp::connect(leader.port());
        link.call(&["HELLO", "3"]);
        link.call(listens);
        let id = "0f".repeat(20);
        link.send(&["REPLICATE", &id, "0", "0", "00000000", "1"]);
        wait_for(leader.port(), "connected_slaves", |followers| followers == "1");
        let mut client = Resp::connect(leader.port());
        client.call(&["SET", "first", "value"]);
        client.call(&["PUBLISH", "news", "one"]);
        client.call(&["PUBLISH", "news", "two"]);
        client.call(&["SET", "last-of-all", "value"]);
        let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
        while !contains(&bytes, b"last-of-all") || !contains(&bytes, b"newstwo") {
            let n = link.stream().read(&mut chunk).expect("more of the log");
            assert!(n > 0, "{}", String::from_utf8_lossy(&bytes));
            bytes.extend_from_slice(&chunk[..n]);
        }
        let answer = b"CONTINUE ";
        let begins = bytes.windows(answer.len()).position(|window| window == answer);
        let bytes = &bytes[begins.expect("the leader's answer")..];
        for alien in [&b"\n>"[..], b"message\r\n", b"[0 127.0.0.1"] {
            assert!(!contains(bytes, alien), "{}", String::from_utf8_lossy(bytes));
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
