//! The hazard: an instrument that lies, or that breaks what it measures.
//!
//! TRACE must show the very sync that its record waited for. The slow log must show a slow disk although no
//! command was slow. A monitor that stops reading must not delay other clients.

mod common;

use common::resp::{Resp, Value};
use common::server::Server;
use common::{DEADLINE, wait_until};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

/// The pairs of a map, which is an array in RESP2.
fn pairs(map: &Value) -> BTreeMap<String, f64> {
    let text = |value: &Value| match value {
        Value::Int(n) => n.to_string(),
        other => String::from_utf8_lossy(other.as_bytes()).into_owned(),
    };
    let (pairs, []) = map.as_array().as_chunks::<2>() else { panic!("not a map: {map:?}") };
    pairs.iter().map(|[k, v]| (text(k), text(v).parse().expect("a number"))).collect()
}

/// Runs TRACE; returns the command's own reply, and what each step took.
fn trace(client: &mut Resp, command: &[&str]) -> (Value, BTreeMap<String, f64>) {
    let reply = client.call(&[&["TRACE"], command].concat());
    let [own, timeline] = reply.as_array() else { panic!("TRACE answers {reply:?}") };
    (own.clone(), pairs(timeline))
}

fn info(client: &mut Resp, name: &str) -> u64 {
    let page = client.call(&["INFO", "persistence", "stats"]);
    let page = String::from_utf8_lossy(page.as_bytes()).into_owned();
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.unwrap_or_else(|| panic!("INFO has no {name}")).trim().parse().expect("a number")
}

/// Runs `work` while so many clients write as fast as they can.
fn under_load<T>(server: &Server, writers: usize, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for number in 0..writers {
            let (over, port) = (&over, server.port());
            scope.spawn(move || {
                let mut client = Resp::connect(port);
                while !over.load(Relaxed) {
                    assert_eq!(client.call(&["SET", &format!("w{number}"), "v"]), Value::ok());
                }
            });
        }
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn a_traced_write_tells_of_its_record_and_its_sync() {
    let server = Server::start(&[("appendfsync", "always")]);
    let mut client = Resp::connect(server.port());
    for n in 0..20 {
        let (reply, steps) = trace(&mut client, &["SET", "k", &n.to_string()]);
        assert_eq!(reply, Value::ok());
        let seq = steps["seq"] as u64;
        assert_eq!(seq, info(&mut client, "kvstore_appended_seq"), "{steps:?}");
        assert!(info(&mut client, "kvstore_durable_seq") >= seq, "{steps:?}");
        assert!(steps["fsync"] > 0.0 && steps["records"] >= 1.0, "{steps:?}");
        let parts: f64 = steps
            .iter()
            .filter(|(k, _)| !["total", "seq", "records"].contains(&k.as_str()))
            .map(|(_, v)| v)
            .sum();
        assert!((parts - steps["total"]).abs() < 1.0, "the steps are not the whole: {steps:?}");
    }
    let (_, steps) = trace(&mut client, &["GET", "k"]);
    assert_eq!((steps["seq"], steps["fsync"]), (0.0, 0.0), "a read of what is safe: {steps:?}");

    // The tool that reads the log finds the record under that number, and none after it.
    let (_, steps) = trace(&mut client, &["SET", "traced", "value"]);
    let (seq, dir) = (steps["seq"].to_string(), server.dir().join("data"));
    let output = Server::command().args(["log", &dir.to_string_lossy(), "--from", &seq]).output();
    let text = String::from_utf8_lossy(&output.expect("the tool runs").stdout).into_owned();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains(&seq) && text.contains("traced"), "record {seq}: {text}");
}

#[test]
fn writers_share_a_sync_and_trace_says_how_many() {
    let server = Server::start(&[("appendfsync", "always")]);
    let mut client = Resp::connect(server.port());
    let shared = under_load(&server, 8, || {
        wait_until(DEADLINE, || trace(&mut client, &["SET", "k", "v"]).1["records"] > 1.0)
    });
    assert!(shared, "each sync made but one record durable");
}

/// A traced command stands in a pipeline: what was answered before it comes before it.
#[test]
fn trace_keeps_its_place_in_a_pipeline() {
    let server = Server::start(&[("appendfsync", "always")]);
    let mut client = Resp::connect(server.port());
    under_load(&server, 4, || {
        for n in 0..200 {
            let n = n.to_string();
            let calls: [&[&str]; 4] =
                [&["SET", "k", &n], &["TRACE", "ECHO", &n], &["GET", "k"], &["TRACE", "NOPE"]];
            // At once, or one by one: then what comes before TRACE may be parked when it runs.
            for part in calls.chunks(if n.len() % 2 == 0 { 4 } else { 1 }) {
                let mut bytes = vec![];
                part.iter().for_each(|call| common::resp::encode(call, &mut bytes));
                client.send_raw(&bytes);
            }
            assert_eq!(client.read_reply(), Value::ok());
            assert_eq!(client.read_reply().as_array()[0], Value::bulk(&n));
            assert_eq!(client.read_reply(), Value::bulk(&n));
            assert!(client.read_reply().is_error());
        }
    });
    assert_eq!(client.call(&["CLIENT", "REPLY", "ON"]), Value::ok());
    client.send(&["CLIENT", "REPLY", "SKIP"]);
    client.send(&["TRACE", "SET", "k", "silent"]);
    assert_eq!(client.call(&["GET", "k"]), Value::bulk("silent"));
}

/// No command takes long here; the disk does. Parked replies too: their entry is made by the sync thread.
#[test]
fn a_slow_gate_is_in_the_slow_log() {
    let server = Server::start(&[
        ("appendfsync", "always"),
        ("slowlog-log-slower-than", "1"),
        ("slowlog-max-len", "1000"),
    ]);
    let mut client = Resp::connect(server.port());
    let found = under_load(&server, 8, || {
        wait_until(DEADLINE, || {
            let entries = client.call(&["SLOWLOG", "GET", "-1", "TIMELINE"]);
            entries.as_array().iter().any(|entry| {
                let [_, _, micros, words, _, _, steps] = entry.as_array() else {
                    panic!("{entry:?}")
                };
                let steps = pairs(steps);
                let disk = steps["queue"] + steps["write"] + steps["fsync"];
                let is_set = words.as_array()[0] == Value::bulk("SET");
                is_set && steps["records"] > 1.0 && micros.as_int() as f64 > disk && disk > 0.0
            })
        })
    });
    assert!(found, "no SET whose time went to the disk");
}

#[test]
fn a_monitor_that_sleeps_is_cut_and_nobody_else_notices() {
    let server = Server::start(&[]);
    let (mut asleep, mut awake) = (Resp::connect(server.port()), Resp::connect(server.port()));
    assert_eq!(asleep.call(&["MONITOR"]), Value::ok());
    assert_eq!(awake.call(&["MONITOR"]), Value::ok());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut lines = 0_u64;
            while !over.load(Relaxed) {
                let line = awake.read_reply();
                let text = format!("{line:?}");
                lines += u64::from(text.contains("SET"));
                if text.contains("the last one") {
                    break;
                }
            }
            lines
        });
        let mut client = Resp::connect(server.port());
        let value = "x".repeat(900);
        let mut sent = 0;
        let cut = wait_until(DEADLINE, || {
            for _ in 0..200 {
                assert_eq!(client.call(&["SET", "k", &value]), Value::ok());
                sent += 1;
            }
            info(&mut client, "client_output_buffer_limit_disconnections") == 1
        });
        assert!(cut, "the monitor that sleeps is still there");
        assert_eq!(client.call(&["SET", "k", "the last one"]), Value::ok());
        let lines = reading.join().expect("the reader does not panic");
        assert_eq!(lines, sent + 1, "the monitor that reads has missed some");
        over.store(true, Relaxed);
    });
    let log = server.stderr();
    assert!(log.contains("a monitor that cannot keep up is cut off"), "{log}");
    let mut client = Resp::connect(server.port());
    let list = client.call(&["CLIENT", "LIST"]);
    let list = String::from_utf8_lossy(list.as_bytes()).into_owned();
    assert_eq!(list.matches("flags=O").count(), 1, "{list}");
}

/// With a sample of one in n, that many are kept, and none once it is off.
#[test]
fn one_in_n_commands_is_sampled() {
    let server = Server::start(&[]);
    let mut client = Resp::connect(server.port());
    client.call(&["TRACE", "SAMPLE", "10"]);
    (0..200).for_each(|_| _ = client.call(&["INCR", "n"]));
    client.call(&["TRACE", "SAMPLE", "0"]);
    (0..200).for_each(|_| _ = client.call(&["INCR", "n"]));
    let samples = client.call(&["TRACE", "LIST", "-1"]);
    assert_eq!(samples.as_array().len(), 20);
    let ids: Vec<i64> =
        samples.as_array().iter().map(|entry| entry.as_array()[0].as_int()).collect();
    assert!(ids.is_sorted_by(|a, b| a == &(b + 1)), "newest first, without a gap: {ids:?}");
}
