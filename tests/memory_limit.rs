//! The hazard: a limit that holds in INFO, and not in the kernel's books.
//!
//! Many pipelining connections write values of 10 bytes to 64 KiB, of which nine in ten must go again.
//! Meanwhile the process's resident memory is watched from outside. Whatever can be read must be right,
//! and a restart must find the very same keys: an eviction is in the log like any deletion.
//!
//! `KVSTORE_LONG=1` writes 10 GB in place of 300 MB (`make soak`).

mod common;

use common::nodes::{converge, follower_of};
use common::resp::{Resp, Value, encode};
use common::rng::{Rng, fresh_seed};
use common::server::Server;
use common::{DEADLINE, long_form, note, number_from_env, wait_until};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

const MB: u64 = 1 << 20;
const LIMIT: u64 = 100 * MB;
/// Memory that the allocator, stacks and everything else that is not counted may take.
const RESIDENT_MAX: u64 = 130 * MB;
const CLIENTS: usize = 32;
const PIPELINE: usize = 16;
const KEYS: usize = 1_000_000;
const VALUE_BYTES_MAX: usize = 64 << 10;
const OUT_OF_MEMORY: &str = "OOM command not allowed when used memory > 'maxmemory'.";

/// Values that tell whose they are, so that every one that is read can be checked.
struct Values(Vec<u8>);

impl Values {
    fn new(rng: &mut Rng) -> Values {
        Values(rng.bytes(2 * VALUE_BYTES_MAX))
    }

    fn of(&self, key: usize, len: usize) -> Vec<u8> {
        let mut value = format!("{key}:{len}:").into_bytes();
        let start = key % VALUE_BYTES_MAX;
        value.extend_from_slice(&self.0[start..start + len]);
        value.truncate(len);
        value
    }

    fn assert_right(&self, key: usize, value: &[u8]) {
        assert!(value == self.of(key, value.len()), "key {key} has another's value, or a torn one");
    }
}

/// As many values of 10 to 20 bytes as of 32 to 64 KiB, and of all between.
fn random_len(rng: &mut Rng) -> usize {
    let octaves = (VALUE_BYTES_MAX as f64 / 10.0).log2();
    (10.0 * (rng.below(1 << 20) as f64 / (1 << 20) as f64 * octaves).exp2()) as usize
}

fn name(key: usize) -> String {
    format!("key:{key}")
}

/// Writes its share, some of it with a deadline, and reads some of it back.
fn write(port: u16, seed: u64, values: &Values, written: &AtomicU64, total: u64) {
    let (mut client, mut rng) = (Resp::connect(port), Rng::new(seed));
    while written.load(Relaxed) < total {
        let (mut batch, mut read) = (Vec::new(), Vec::new());
        for _ in 0..PIPELINE {
            let (key, len) = (rng.below(KEYS), random_len(&mut rng));
            let value = values.of(key, len);
            if rng.chance(10) {
                encode(&[b"GET", name(key).as_bytes()], &mut batch);
                read.push(Some(key));
                continue;
            }
            let key = name(key);
            match rng.below(3) {
                0 => encode(&[b"SET", key.as_bytes(), &value, b"EX", b"1000"], &mut batch),
                _ => encode(&[b"SET", key.as_bytes(), &value], &mut batch),
            }
            read.push(None);
        }
        client.send_raw(&batch);
        for key in read {
            match (key, client.read_reply()) {
                (Some(key), Value::Bulk(value)) => values.assert_right(key, &value),
                (Some(_), reply) => assert_eq!(reply, Value::Null),
                (None, reply) => assert_eq!(reply, Value::ok()),
            }
        }
        written.fetch_add(batch.len() as u64, Relaxed);
    }
}

/// Writes `total` bytes on many connections; returns the most memory that the kernel has shown.
fn flood(server: &Server, seed: u64, values: &Values, total: u64) -> u64 {
    let (written, done) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Relaxed) {
                most = most.max(server.resident_kib() * 1024);
                thread::sleep(Duration::from_millis(10));
            }
            most
        });
        let written = &written;
        let writer =
            |n| scope.spawn(move || write(server.port(), seed + n, values, written, total));
        let writers: Vec<_> = (0..CLIENTS as u64).map(writer).collect();
        writers.into_iter().for_each(|writer| writer.join().expect("a writer"));
        done.store(true, Relaxed);
        watching.join().expect("the watcher")
    })
}

/// All keys and values, each of which must be right.
fn contents(port: u16, values: &Values) -> BTreeMap<usize, usize> {
    let (mut client, mut cursor, mut found) = (Resp::connect(port), b"0".to_vec(), BTreeMap::new());
    loop {
        let reply = client.call(&[b"SCAN", &cursor[..], b"COUNT", b"500"]);
        let [next, keys] = reply.as_array() else { panic!("SCAN replied {reply:?}") };
        for key in keys.as_array().iter().map(Value::as_bytes) {
            let number = String::from_utf8_lossy(key)[4..].parse().expect("key:<n>");
            let value = client.call(&[b"GET", key]);
            values.assert_right(number, value.as_bytes());
            found.insert(number, value.as_bytes().len());
        }
        cursor = next.as_bytes().to_vec();
        if cursor == b"0" {
            return found;
        }
    }
}

fn info(client: &mut Resp, field: &str) -> u64 {
    let page = client.call(&["INFO"]);
    let page = String::from_utf8_lossy(page.as_bytes()).into_owned();
    let value = page.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{field} in\n{page}"))
}

fn assert_memory_is_bounded(policy: &str) {
    let seed = number_from_env("KVSTORE_SEED").unwrap_or_else(fresh_seed);
    let values = Values::new(&mut Rng::new(seed));
    let total = if long_form() { 10_000 * MB } else { 300 * MB };
    let limit = LIMIT.to_string();
    let settings = [("maxmemory", &limit[..]), ("maxmemory-policy", policy)];
    let mut server = Server::start(&settings);
    let most = flood(&server, seed, &values, total);
    let mut client = Resp::connect(server.port());
    note(&format!(
        "{policy}: KVSTORE_SEED={seed}, at most {} MiB resident, {} evictions",
        most / MB,
        info(&mut client, "evicted_keys")
    ));
    assert!(most < RESIDENT_MAX, "{} MiB were resident", most / MB);
    let is_under = wait_until(DEADLINE, || info(&mut client, "used_memory") <= LIMIT);
    assert!(is_under, "{} are in use", info(&mut client, "used_memory"));
    assert!(info(&mut client, "used_memory_dataset") > LIMIT / 2, "far more has gone than had to");

    // Nothing more is to go, so that what is there can be compared with what the log says.
    client.call(&["CONFIG", "SET", "maxmemory", "0"]);
    let before = contents(server.port(), &values);
    let dir = server.shared_dir();
    server.kill();
    let server = Server::start_in(&dir, &[]);
    assert_eq!(contents(server.port(), &values), before, "after a restart");
}

#[test]
fn lru_holds_resident_memory_under_a_flood_of_writes() {
    assert_memory_is_bounded("allkeys-lru");
}

#[test]
fn without_a_policy_a_full_server_refuses_writes_and_goes_on_reading() {
    let seed = number_from_env("KVSTORE_SEED").unwrap_or_else(fresh_seed);
    let mut rng = Rng::new(seed);
    let values = Values::new(&mut rng);
    let limit = 20 * MB;
    let server = Server::start(&[("maxmemory", &limit.to_string())]);
    let mut client = Resp::connect(server.port());
    let mut kept = Vec::new();
    let refused = (0..20_000).find(|&key| {
        let value = values.of(key, random_len(&mut rng));
        let reply = client.call(&[b"SET", name(key).as_bytes(), &value]);
        if reply == Value::ok() {
            kept.push(key);
        }
        reply == Value::error(OUT_OF_MEMORY)
    });
    assert!(refused.is_some() && kept.len() > 100, "{refused:?} behind {} keys", kept.len());
    // Nobody gets in by trying harder, and nothing grows by it.
    for _ in 0..5_000 {
        let reply = client.call(&[b"APPEND", name(kept[0]).as_bytes(), &[b'x'; 5_000]]);
        assert_eq!(reply, Value::error(OUT_OF_MEMORY));
    }
    assert!(info(&mut client, "used_memory") < limit + MB);
    assert!(server.resident_kib() / 1024 < limit / MB + 20, "{} KiB", server.resident_kib());
    for &key in &kept {
        let value = client.call(&["GET", &name(key)]);
        values.assert_right(key, value.as_bytes());
    }
    // Memory that is given back can be used.
    for key in kept.drain(..100) {
        assert_eq!(client.call(&["DEL", &name(key)]), Value::Int(1));
    }
    assert_eq!(client.call(&["SET", "key:1", "1:10:"]), Value::ok());
}

/// Waits until clients hold so much, or so little, by INFO.
fn wait_for_clients_memory(client: &mut Resp, what: &str, holds: impl Fn(u64) -> bool) {
    let mut bytes = 0;
    let reached = wait_until(DEADLINE, || {
        bytes = info(client, "mem_clients_normal");
        holds(bytes)
    });
    assert!(reached, "{what}: {bytes} bytes");
}

#[test]
fn names_of_subscriptions_count() {
    const NAMES: usize = 5000;
    let server = Server::start(&[]);
    let mut looker = Resp::connect(server.port());
    for verb in ["SUBSCRIBE", "PSUBSCRIBE"] {
        let before = info(&mut looker, "mem_clients_normal");
        let mut subscriber = Resp::connect(server.port());
        for chunk in 0..NAMES / 100 {
            let names = (0..100).map(|n| format!("{verb}:{:03996}", 100 * chunk + n));
            let words: Vec<String> = std::iter::once(verb.to_owned()).chain(names).collect();
            subscriber.send(&words);
            (0..100).for_each(|_| drop(subscriber.read_reply()));
        }
        let names_bytes = (NAMES * 4000) as u64;
        wait_for_clients_memory(&mut looker, verb, |bytes| bytes > before + names_bytes);
        drop(subscriber);
        wait_for_clients_memory(&mut looker, "all have left", |bytes| bytes < before + MB);
    }
}

#[test]
fn the_feed_of_a_monitor_counts() {
    let server = Server::start(&[]);
    let mut looker = Resp::connect(server.port());
    let before = info(&mut looker, "mem_clients_normal");
    let mut monitor = Resp::connect(server.port());
    assert_eq!(monitor.call(&["MONITOR"]), Value::ok());
    // Its thread takes nothing from the feed meanwhile.
    monitor.send(&["DEBUG", "SLEEP", "60"]);
    let word = "w".repeat(1000);
    wait_for_clients_memory(&mut looker, "a feed", |bytes| {
        (0..100).for_each(|_| drop(Resp::connect(server.port()).call(&["ECHO", &word])));
        bytes > before + MB / 2
    });
}

#[test]
fn messages_that_wait_for_a_follower_count() {
    let leader = Server::start(&[]);
    let follower = follower_of(leader.port(), &[("repl-timeout", "60")]);
    converge(leader.port(), &[follower.port()]);
    let mut client = Resp::connect(leader.port());
    let before = info(&mut client, "mem_clients_normal");
    follower.signal("STOP");
    let message = "m".repeat(100_000);
    wait_for_clients_memory(&mut client, "messages", |bytes| {
        (0..20).for_each(|_| drop(Resp::connect(leader.port()).call(&["PUBLISH", "ch", &message])));
        bytes > before + 8 * MB
    });
    follower.signal("CONT");
    wait_for_clients_memory(&mut client, "they are sent", |bytes| bytes < before + MB);
}
