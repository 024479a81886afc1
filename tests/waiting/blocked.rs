//! Clients that wait in WAIT, WAITAOF and WAITSEQ: they are counted, and CLIENT UNBLOCK, CLIENT KILL, their
//! own going and the end of the server free them.

use crate::call;
use crate::common::nodes::{count, follower_of, lead, replicaof};
use crate::common::resp::{Resp, Value};
use crate::common::server::Server;
use crate::common::{DEADLINE, http, wait_until};
use crate::paused::wait_for_blocked;

/// Commands that wait, and how their answer begins as if their time were over.
const WAITS: [(&str, &str); 4] = [
    ("WAIT 1 0", ":0\r\n"),
    ("WAIT 1 600000", ":0\r\n"),
    ("WAITAOF 0 1 0", "*2\r\n:1\r\n:0\r\n"),
    ("WAITSEQ 99.00000000:5 600000", "-STALE "),
];

/// A client that waits, and its number.
fn waiting(server: &Server, line: &str) -> (Resp, i64) {
    let mut client = Resp::connect(server.port());
    let id = call(&mut client, "CLIENT ID").as_int();
    call(&mut client, "SET k v");
    client.send(&line.split(' ').collect::<Vec<_>>());
    wait_for_blocked(server.port(), 1);
    (client, id)
}

#[test]
fn client_unblock_frees_whoever_has_asked_to_wait() {
    let server = Server::start(&[("appendfsync", "always")]);
    let mut operator = Resp::connect(server.port());
    for (line, timed_out) in WAITS {
        for how in ["", " TIMEOUT", " ERROR"] {
            let (mut client, id) = waiting(&server, line);
            let unblock = format!("CLIENT UNBLOCK {id}{how}");
            assert_eq!(call(&mut operator, &unblock), Value::Int(1), "{line}, {unblock}");
            let reply = client.read_reply();
            if how == " ERROR" {
                let error = Value::error("UNBLOCKED client unblocked via CLIENT UNBLOCK");
                assert_eq!(reply, error, "{line}");
            } else {
                let raw = String::from_utf8_lossy(client.last_raw()).into_owned();
                assert!(raw.starts_with(timed_out), "{line}: {raw:?}");
            }
            wait_for_blocked(server.port(), 0);
            assert_eq!(call(&mut operator, &unblock), Value::Int(0), "it waits no more");
            assert_eq!(call(&mut client, "PING"), Value::simple("PONG"), "and goes on");
        }
    }
    assert_eq!(call(&mut operator, "CLIENT UNBLOCK 1000000"), Value::Int(0));
}

#[test]
fn a_waiting_and_a_paused_client_count_as_blocked() {
    let server = Server::start(&[]);
    let mut operator = Resp::connect(server.port());
    let shows = |operator: &mut Resp, id: i64| {
        let line = call(operator, &format!("CLIENT LIST ID {id}"));
        let line = String::from_utf8_lossy(line.as_bytes()).into_owned();
        line.split(' ').find_map(|word| word.strip_prefix("flags=")).unwrap_or_default().to_owned()
    };
    let metrics_port = http::page_port(&server);
    let (mut waits, id) = waiting(&server, "WAIT 1 0");
    assert_eq!(shows(&mut operator, id), "b");
    let mut paused = Resp::connect(server.port());
    let paused_id = call(&mut paused, "CLIENT ID").as_int();
    call(&mut operator, "CLIENT PAUSE 600000 WRITE");
    paused.send(&["SET", "k", "v"]);
    wait_for_blocked(server.port(), 2);
    assert_eq!(shows(&mut operator, paused_id), "b");
    let page = http::get(metrics_port, "/metrics");
    assert!(page.contains("kvstore_blocked_clients 2"), "{page}");
    // It has not asked to wait: as in Redis, only CLIENT UNPAUSE lets it go on.
    assert_eq!(call(&mut operator, &format!("CLIENT UNBLOCK {paused_id}")), Value::Int(0));
    assert_eq!(call(&mut operator, &format!("CLIENT UNBLOCK {paused_id} ERROR")), Value::Int(0));
    call(&mut operator, "CLIENT UNPAUSE");
    assert_eq!(paused.read_reply(), Value::ok());
    assert_eq!(call(&mut operator, &format!("CLIENT UNBLOCK {id}")), Value::Int(1));
    assert_eq!(waits.read_reply(), Value::Int(0));
    wait_for_blocked(server.port(), 0);
    assert_eq!(shows(&mut operator, paused_id), "N");
}

#[test]
fn in_an_exec_nothing_waits() {
    let server = Server::start(&[]);
    let mut client = Resp::connect(server.port());
    call(&mut client, "MULTI");
    WAITS.iter().for_each(|(line, _)| assert!(!call(&mut client, line).is_error()));
    assert_eq!(call(&mut client, "EXEC").as_array().len(), WAITS.len());
}

#[test]
fn a_killed_client_waits_no_more() {
    let server = Server::start(&[]);
    let mut operator = Resp::connect(server.port());
    for (line, _) in WAITS {
        let (_client, id) = waiting(&server, line);
        assert_eq!(call(&mut operator, &format!("CLIENT KILL ID {id}")), Value::Int(1));
        wait_for_blocked(server.port(), 0);
        // The operator, and whoever asks for INFO.
        let gone = wait_until(DEADLINE, || count(server.port(), "connected_clients") == 2);
        assert!(gone, "after {line} its thread is held");
    }
}

#[test]
fn a_client_that_leaves_does_not_hold_its_thread_for_ever() {
    let server = Server::start(&[]);
    for line in ["WAIT 1 0", "WAITAOF 0 1 0"] {
        drop(waiting(&server, line));
        let gone = wait_until(DEADLINE, || count(server.port(), "connected_clients") == 1);
        assert!(gone, "after {line} its thread is held");
    }
}

#[test]
fn a_client_that_has_said_all_is_still_answered() {
    let server = Server::start(&[]);
    let (mut client, _) = waiting(&server, "WAIT 1 0");
    client.finish_sending();
    assert_eq!(client.read_reply(), Value::Int(0));
}

#[test]
fn the_end_of_the_server_ends_all_waits() {
    let server = Server::start(&[("shutdown-timeout", "1000")]);
    let clients: Vec<Resp> = WAITS
        .iter()
        .map(|(line, _)| {
            let mut client = Resp::connect(server.port());
            client.send(&line.split(' ').collect::<Vec<_>>());
            client
        })
        .collect();
    wait_for_blocked(server.port(), WAITS.len() as u64);
    assert_eq!(server.stop().code(), Some(0));
    drop(clients);
}

#[test]
fn a_leader_that_comes_to_follow_lets_wait_go() {
    let (one, other) = (Server::start(&[]), Server::start(&[]));
    let (mut client, _) = waiting(&one, "WAIT 1 0");
    replicaof(one.port(), other.port());
    assert_eq!(client.read_reply(), Value::Int(0));
    lead(one.port());
}

#[test]
fn wait_is_over_when_a_follower_comes() {
    let leader = Server::start(&[]);
    let (mut client, _) = waiting(&leader, "WAIT 1 0");
    let _follower = follower_of(leader.port(), &[]);
    assert_eq!(client.read_reply(), Value::Int(1));
    let (mut client, _) = waiting(&leader, "WAIT 2 0");
    let _second = follower_of(leader.port(), &[]);
    assert_eq!(client.read_reply(), Value::Int(2));
}

/// Refused are commands that would end the traced connection, make it something else or change how it goes on.
#[test]
fn trace_refuses_what_would_take_the_connection_over() {
    let server = Server::start(&[]);
    let refused = "AUTH x,HELLO,HELLO 3,QUIT,EXIT,SELECT 0,CLIENT REPLY OFF,MULTI,EXEC,DISCARD,\
                   WATCH k,UNWATCH,SUBSCRIBE c,PSUBSCRIBE c,UNSUBSCRIBE,PUNSUBSCRIBE,MONITOR,SHUTDOWN,\
                   TRACE GET k,REPLICATE 0123456789abcdef0123456789abcdef01234567 0 0 00000000 0";
    let mut client = Resp::connect(server.port());
    for line in refused.split(',') {
        let reply = call(&mut client, &format!("TRACE {line}"));
        let error = Value::error(
            "ERR TRACE runs commands that work on data or the server, not those that change the \
             connection",
        );
        assert_eq!(reply, error, "{line}");
        assert_eq!(call(&mut client, "PING"), Value::simple("PONG"), "after TRACE {line}");
    }
    for line in ["SET k v", "PING", "CLIENT ID", "INFO clients", "WAIT 0 1", "ROLE"] {
        assert_eq!(call(&mut client, &format!("TRACE {line}")).as_array().len(), 2, "{line}");
    }
    // A monitor would be sent this.
    call(&mut Resp::connect(server.port()), "SET seen v");
    assert_eq!(call(&mut client, "PING"), Value::simple("PONG"));
    assert_eq!(client.last_raw(), b"+PONG\r\n");
}
