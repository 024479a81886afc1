//! CLIENT PAUSE: nothing changes the data, not even the server itself, and followers are not held up.

use crate::call;
use crate::common::nodes::{self, converge, count, follower_of};
use crate::common::resp::{Resp, Value};
use crate::common::server::Server;
use crate::common::{DEADLINE, wait_until};
use crate::now_ms;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

/// Waits long enough for several sweeps.
fn let_it_sweep(from: i64) {
    assert!(wait_until(DEADLINE, || now_ms() > from + 600));
}

pub fn wait_for_blocked(port: u16, blocked: u64) {
    let reached = wait_until(DEADLINE, || count(port, "blocked_clients") == blocked);
    assert!(reached, "{} clients are blocked, not {blocked}", count(port, "blocked_clients"));
}

fn nothing_expires(kind: &str) {
    let server = Server::start(&[]);
    let mut client = Resp::connect(server.port());
    let dies_at = now_ms() + 1000;
    for n in 0..20 {
        call(&mut client, &format!("SET dies:{n} v PXAT {dies_at}"));
    }
    call(&mut client, &format!("CLIENT PAUSE 600000 {kind}"));
    let before = nodes::records(&server.dir().join("data")).len();
    let_it_sweep(dies_at);
    let after = nodes::records(&server.dir().join("data")).len();
    assert_eq!(before, after, "something was written during the pause");
    if kind == "WRITE" {
        assert_eq!(call(&mut client, "GET dies:1"), Value::Null, "what has expired is not seen");
        assert_eq!(count(server.port(), "expired_keys"), 0);
        assert_eq!(call(&mut client, "DBSIZE"), Value::Int(20));
    }
    call(&mut client, "CLIENT UNPAUSE");
    let swept = wait_until(DEADLINE, || count(server.port(), "expired_keys") == 20);
    assert!(swept, "the sweeper does not go on after the pause");
}

#[test]
fn nothing_expires_while_writes_are_paused() {
    nothing_expires("WRITE");
}

#[test]
fn nothing_expires_while_all_is_paused() {
    nothing_expires("ALL");
}

#[test]
fn nothing_is_evicted_during_a_pause() {
    let server = Server::start(&[("maxmemory-policy", "allkeys-lru")]);
    let mut client = Resp::connect(server.port());
    for n in 0..500 {
        call(&mut client, &format!("SET k{n} {}", "x".repeat(10_000)));
    }
    call(&mut client, "CLIENT PAUSE 600000 WRITE");
    assert_eq!(call(&mut client, "CONFIG SET maxmemory 4mb"), Value::ok());
    let mut queues = Resp::connect(server.port());
    for line in ["MULTI", "GET k1", "EXEC"] {
        assert!(!call(&mut queues, line).is_error(), "{line}");
    }
    let_it_sweep(now_ms());
    assert_eq!(count(server.port(), "evicted_keys"), 0);
    assert_eq!(call(&mut client, "DBSIZE"), Value::Int(500));
    call(&mut client, "CLIENT UNPAUSE");
    let evicts = wait_until(DEADLINE, || count(server.port(), "evicted_keys") > 0);
    assert!(evicts, "eviction does not go on after the pause");
}

#[test]
fn followers_get_during_a_pause_what_was_written_before() {
    let leader = Server::start(&[]);
    let followers = [(); 2].map(|()| follower_of(leader.port(), &[]));
    converge(leader.port(), &[followers[0].port()]);
    let mut client = Resp::connect(leader.port());
    followers[0].signal("STOP");
    call(&mut client, "SET k v");
    call(&mut client, "CLIENT PAUSE 600000 WRITE");
    followers[0].signal("CONT");
    converge(leader.port(), &followers.each_ref().map(|follower| follower.port()));
    assert_eq!(call(&mut Resp::connect(followers[0].port()), "GET k"), Value::bulk("v"));
}

#[test]
fn a_pause_in_a_multi_begins_at_the_end_of_its_exec() {
    let server = Server::start(&[]);
    let (mut pauser, mut other) = (Resp::connect(server.port()), Resp::connect(server.port()));
    for line in ["MULTI", "SET own v", "CLIENT PAUSE 600000 WRITE", "DEBUG SLEEP 5", "INCR n"] {
        call(&mut pauser, line);
    }
    pauser.send(&["EXEC"]);
    assert!(wait_until(DEADLINE, || call(&mut other, "EXISTS own") == Value::Int(1)));
    assert_eq!(call(&mut other, "SET early v"), Value::ok(), "it has begun before the end of EXEC");
    let replies = pauser.read_reply();
    assert_eq!(replies.as_array()[1..], [Value::ok(), Value::ok(), Value::Int(1)]);
    other.send(&["SET", "late", "v"]);
    wait_for_blocked(server.port(), 1);
    call(&mut pauser, "CLIENT UNPAUSE");
    assert_eq!(other.read_reply(), Value::ok());
}

#[test]
fn a_pause_that_its_own_exec_ends_never_begins() {
    let server = Server::start(&[]);
    let mut client = Resp::connect(server.port());
    for line in ["MULTI", "CLIENT PAUSE 600000 WRITE", "CLIENT UNPAUSE", "EXEC", "SET k v"] {
        assert!(!call(&mut client, line).is_error(), "{line}");
    }
}

#[test]
fn a_write_of_a_client_that_is_killed_during_the_pause_does_not_run() {
    let server = Server::start(&[]);
    let (mut operator, mut client) = (Resp::connect(server.port()), Resp::connect(server.port()));
    let id = call(&mut client, "CLIENT ID").as_int();
    call(&mut operator, "CLIENT PAUSE 600000 WRITE");
    client.send(&["SET", "k", "v"]);
    wait_for_blocked(server.port(), 1);
    assert_eq!(call(&mut operator, &format!("CLIENT KILL ID {id}")), Value::Int(1));
    wait_for_blocked(server.port(), 0);
    call(&mut operator, "CLIENT UNPAUSE");
    assert_eq!(call(&mut operator, "GET k"), Value::Null);
}

#[test]
fn a_paused_write_does_not_run_at_shutdown() {
    let mut server = Server::start(&[("shutdown-timeout", "1000")]);
    let (mut operator, mut client) = (Resp::connect(server.port()), Resp::connect(server.port()));
    call(&mut operator, "CLIENT PAUSE 600000 WRITE");
    client.send(&["SET", "k", "v"]);
    wait_for_blocked(server.port(), 1);
    server.restart("TERM");
    assert_eq!(call(&mut Resp::connect(server.port()), "GET k"), Value::Null);
}

/// A write that was let through just before the pause must be in the log when CLIENT PAUSE answers.
#[test]
fn no_write_is_under_way_when_client_pause_answers() {
    const ROUNDS: usize = 40;
    let server = Server::start(&[]);
    let (port, over) = (server.port(), AtomicBool::new(false));
    thread::scope(|scope| {
        for writer in 0..4 {
            let over = &over;
            scope.spawn(move || {
                let mut client = Resp::connect(port);
                while !over.load(SeqCst) {
                    call(&mut client, &format!("INCR n{writer}"));
                    call(&mut client, "MULTI");
                    call(&mut client, &format!("INCR n{writer}"));
                    call(&mut client, "EXEC");
                }
            });
        }
        let _stop = nodes::StopOnDrop(&over);
        let mut operator = Resp::connect(port);
        let total = |client: &mut Resp| {
            (0..4).map(|n| format!("GET n{n}")).map(|line| call(client, &line)).collect::<Vec<_>>()
        };
        for _ in 0..ROUNDS {
            call(&mut operator, "CLIENT PAUSE 600000 WRITE");
            let before = total(&mut operator);
            // All of them have come to the pause.
            let all_wait = wait_until(DEADLINE, || count(port, "blocked_clients") == 4);
            let after = total(&mut operator);
            call(&mut operator, "CLIENT UNPAUSE");
            assert!(all_wait, "{} clients wait", count(port, "blocked_clients"));
            assert_eq!(before, after);
        }
    });
}
