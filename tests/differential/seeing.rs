//! An operator's instruments, compared with Redis: the slow log's entries, MONITOR's lines, the names of the
//! statistics. Times and addresses differ; all else is the same.

use super::oracle;
use super::session::words;
use crate::common::resp::{Resp, Value};
use crate::common::server::Server;
use std::collections::BTreeSet;

/// Good and bad, long and secret.
fn calls() -> Vec<Vec<Vec<u8>>> {
    let lines = [
        "SET k v",
        "get k",
        "INCR k",
        "APPEND n 1",
        "AUTH default secret",
        "HELLO 2 AUTH default secret SETNAME me",
        "CONFIG SET requirepass x requirepass y",
        "CONFIG SET timeout 0",
        "CLIENT SETNAME somebody",
        "MULTI",
        "SET k 1",
        "INCR k",
        "EXEC",
        "PING",
        "NOSUCH a",
        "GET",
    ];
    let mut calls: Vec<_> = lines.iter().map(|line| words(line)).collect();
    calls.push(vec![
        b"SET".to_vec(),
        b"\x00\x07\x08\"\\\n\r\t\xff \xc3\xbc".to_vec(),
        vec![b'x'; 200],
    ]);
    calls.push(std::iter::once(b"DEL".to_vec()).chain(vec![b"key".to_vec(); 40]).collect());
    calls
}

/// Entries as they were: time, duration and port left out.
fn slow_log(client: &mut Resp) -> Vec<(Value, Value)> {
    client.call(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]);
    client.call(&["SLOWLOG", "RESET"]);
    calls().iter().for_each(|call| _ = client.call(call));
    let entries = client.call(&["SLOWLOG", "GET", "-1"]);
    let entry = |entry: &Value| {
        let [id, at, micros, words, addr, name] = entry.as_array() else { panic!("{entry:?}") };
        assert!(id.as_int() >= 0 && at.as_int() > 1_000_000_000 && micros.as_int() >= 0);
        assert!(addr.as_bytes().starts_with(b"127.0.0.1:"));
        (words.clone(), name.clone())
    };
    entries.as_array().iter().map(entry).collect()
}

#[test]
fn the_slow_log_keeps_what_redis_keeps() {
    let Some(redis) = oracle() else { return };
    let subject = Server::start(&[]);
    let [theirs, ours] =
        [redis.port(), subject.port()].map(|port| slow_log(&mut Resp::connect(port)));
    // In Redis EXEC is never there; here it is, with the time that it waited for locks and the disk.
    let is_exec = |(words, _): &(Value, Value)| words.as_array()[0] == Value::bulk("EXEC");
    let ours: Vec<_> = ours.into_iter().filter(|entry| !is_exec(entry)).collect();
    assert_eq!(ours, theirs);
}

/// Lines of a monitor without time and port, up to the last command.
fn monitored(port: u16) -> Vec<String> {
    let (mut monitor, mut client) = (Resp::connect(port), Resp::connect(port));
    assert_eq!(monitor.call(&["MONITOR"]), Value::ok());
    calls().iter().for_each(|call| _ = client.call(call));
    client.call(&["ECHO", "the end"]);
    let mut lines = vec![];
    loop {
        let line = monitor.read_reply();
        assert!(monitor.last_raw().starts_with(b"+"));
        let line = format!("{line:?}");
        let (head, words) = line.split_once("] ").expect("an address in brackets");
        assert!(head.contains(" [0 127.0.0.1:"), "{line}");
        lines.push(words.to_owned());
        if words.contains("the end") {
            return lines;
        }
    }
}

#[test]
fn a_monitor_sees_what_it_sees_in_redis() {
    let Some(redis) = oracle() else { return };
    let subject = Server::start(&[]);
    assert_eq!(monitored(subject.port()), monitored(redis.port()));
}

/// `cmdstat_get:calls=,usec=,…`: the lines of these sections with their figures left out, but for those
/// that count calls.
fn statistics(port: u16) -> BTreeSet<String> {
    let mut client = Resp::connect(port);
    client.call(&["CONFIG", "RESETSTAT"]);
    // DEL and the like: in Redis a container's call is counted for its subcommand, too.
    calls().iter().for_each(|call| _ = client.call(call));
    let page = client.call(&["INFO", "commandstats", "errorstats", "latencystats"]);
    let page = String::from_utf8_lossy(page.as_bytes()).into_owned();
    page.lines().map(blank).collect()
}

/// Only counts of calls are the same in two servers.
fn blank(line: &str) -> String {
    let keep = |part: &&str| {
        ["calls=", "rejected_calls=", "failed_calls=", "count="].iter().any(|p| part.starts_with(p))
    };
    let (name, values) = line.split_once(':').unwrap_or((line, ""));
    let shown = values.split(',').map(|part| match keep(&part) {
        true => part.to_owned(),
        false => part.split('=').next().unwrap_or_default().to_owned(),
    });
    format!("{name}:{}", shown.collect::<Vec<_>>().join(","))
}

#[test]
fn statistics_count_what_redis_counts() {
    let Some(redis) = oracle() else { return };
    let subject = Server::start(&[]);
    assert_eq!(statistics(subject.port()), statistics(redis.port()));
}
