//! The hazards of Pub/Sub: a subscriber that does not read takes the server's memory or everybody's time;
//! a message comes where a client expects a reply; somebody hears of a write that a crash takes back.
//!
//! `KVSTORE_LONG=1` publishes 200,000 messages in place of 20,000 (`make soak`).

mod common;

use common::resp::{Resp, Value, encode};
use common::server::Server;
use common::{DEADLINE, long_form, note, wait_until};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread;

const READERS: usize = 49;
const PAYLOAD_BYTES: usize = 1024;
/// The lead that the publisher may have over the slowest reader: less than what the kernel and the
/// limit hold for one, so that none of them is cut off for having had no turn on a busy machine.
const WINDOW: u64 = 2_000;
const BATCH: u64 = 50;
const LIMIT: &str = "pubsub 4mb 0 0";
/// The stalled subscriber's 4 MiB, what those who read have waiting now and then, 50 threads, and noise.
const GROWTH_KIB_MAX: u64 = 48 * 1024;

fn payload(number: u64) -> String {
    format!("{number:0PAYLOAD_BYTES$}")
}

/// The message with this number as it must arrive in RESP2.
fn message(number: u64) -> Vec<u8> {
    let mut bytes = vec![];
    encode(&["message", "storm", &payload(number)], &mut bytes);
    bytes
}

fn subscribe(port: u16, channel: &str) -> Resp {
    let mut client = Resp::connect(port);
    client.call(&["SUBSCRIBE", channel]);
    client
}

/// Reads messages up to the last one, byte by byte as they must be; counts them.
fn read_all(mut stream: &TcpStream, messages: u64, progress: &AtomicU64) {
    let (mut chunk, mut expected, mut number) = (vec![0; 64 << 10], message(0), 0);
    let mut at = 0;
    while number < messages {
        let len = stream.read(&mut chunk).expect("a message");
        assert!(len > 0, "cut off at message {number}");
        let mut rest = &chunk[..len];
        while !rest.is_empty() {
            let part = rest.len().min(expected.len() - at);
            assert_eq!(rest[..part], expected[at..at + part], "in message {number}");
            (at, rest) = (at + part, &rest[part..]);
            if at == expected.len() {
                (at, number) = (0, number + 1);
                expected = message(number);
            }
        }
        progress.store(number, Relaxed);
    }
}

/// Publishes in pipelines, never too far ahead of those who read.
fn publish_all(port: u16, messages: u64, progress: &[AtomicU64]) {
    let mut publisher = Resp::connect(port);
    for first in (0..messages).step_by(BATCH as usize) {
        let slowest = || progress.iter().map(|one| one.load(Relaxed)).min().unwrap_or(first);
        let is_near = || first.saturating_sub(slowest()) < WINDOW;
        assert!(wait_until(DEADLINE, is_near), "a reader is stuck at {} of {first}", slowest());
        let mut bytes = vec![];
        let batch = first..messages.min(first + BATCH);
        batch.clone().for_each(|n| encode(&["PUBLISH", "storm", &payload(n)], &mut bytes));
        publisher.send_raw(&bytes);
        for _ in batch {
            assert!(publisher.read_reply().as_int() >= READERS as i64);
        }
    }
}

/// Comes and goes during the storm, as a client that has nothing to do with it, and as one more listener.
fn come_and_go(port: u16, is_over: &AtomicBool) -> u64 {
    let mut visits = 0;
    while !is_over.load(Relaxed) || visits == 0 {
        let key = format!("visit:{visits}");
        let mut visitor = Resp::connect(port);
        assert_eq!(visitor.call(&["SET", &key, "v"]), Value::ok());
        assert_eq!(visitor.call(&["GET", &key]), Value::bulk("v"));
        visitor.call(&["SUBSCRIBE", "storm"]);
        assert_eq!(visitor.last_raw(), b"*3\r\n$9\r\nsubscribe\r\n$5\r\nstorm\r\n:1\r\n");
        visits += 1;
    }
    visits
}

#[test]
fn a_stalled_subscriber_is_cut_off_and_the_others_get_everything() {
    let messages = if long_form() { 200_000 } else { 20_000 };
    let server = Server::start(&[("client-output-buffer-limit", LIMIT)]);
    let port = server.port();
    let readers: Vec<Resp> = (0..READERS).map(|_| subscribe(port, "storm")).collect();
    let mut stalled = subscribe(port, "storm");
    let mut operator = Resp::connect(port);
    let (before, peak) = (server.resident_kib(), AtomicU64::new(0));
    let progress: Vec<AtomicU64> = (0..READERS).map(|_| AtomicU64::new(0)).collect();
    let is_over = AtomicBool::new(false);
    let visits = thread::scope(|scope| {
        for (reader, progress) in readers.iter().zip(&progress) {
            scope.spawn(move || read_all(reader.stream(), messages, progress));
        }
        let visits = scope.spawn(|| come_and_go(port, &is_over));
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                peak.fetch_max(server.resident_kib(), Relaxed);
                thread::yield_now();
            }
        });
        let ends = Ends(&is_over);
        publish_all(port, messages, &progress);
        let all_there = || progress.iter().all(|one| one.load(Relaxed) == messages);
        assert!(wait_until(DEADLINE, all_there), "messages are missing");
        drop(ends);
        visits.join().expect("a visitor is not served")
    });
    let grown = peak.load(Relaxed).saturating_sub(before);
    note(&format!("{messages} messages, {visits} visits, memory grew by {grown} KiB at most"));
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB for one that does not read");

    // It finds what the kernel had of it, and then the end.
    assert!(stalled.read_to_end().len() < messages as usize * PAYLOAD_BYTES, "it got everything");
    let count =
        |client: &mut Resp| client.call(&["PUBSUB", "NUMSUB", "storm"]).as_array()[1].as_int();
    assert!(wait_until(DEADLINE, || count(&mut operator) == READERS as i64));
    let info = operator.call(&["INFO", "stats"]);
    let info = String::from_utf8_lossy(info.as_bytes()).into_owned();
    for line in [
        "kvstore_subscriber_limit_disconnections:1\r".to_owned(),
        "client_output_buffer_limit_disconnections:1\r".to_owned(),
        format!("kvstore_messages_published:{messages}\r"),
    ] {
        assert!(info.lines().any(|found| found == line.trim_end()), "not {line} in\n{info}");
    }
    assert!(server.stderr().contains("client-output-buffer-limit"), "it is not logged");
    let list = operator.call(&["CLIENT", "LIST", "TYPE", "pubsub"]);
    let list = String::from_utf8_lossy(list.as_bytes()).into_owned();
    assert_eq!(list.lines().filter(|line| line.contains(" flags=P ")).count(), READERS, "{list}");
}

#[test]
fn a_soft_limit_cuts_a_subscriber_off_too() {
    let server = Server::start(&[("client-output-buffer-limit", "pubsub 0 1mb 1")]);
    let _stalled = subscribe(server.port(), "storm");
    let mut publisher = Resp::connect(server.port());
    let large = "x".repeat(100_000);
    let is_alone = || publisher.call(&["PUBLISH", "storm", &large]) == Value::Int(0);
    assert!(wait_until(DEADLINE, is_alone), "it is still there");
}

/// Tells the others to stop, also when a test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Publishes numbers until told to stop.
fn chatter(port: u16, name: &str, is_over: &AtomicBool) -> u64 {
    let mut publisher = Resp::connect(port);
    let mut number = 0;
    while !is_over.load(Relaxed) {
        let mut bytes = vec![];
        (0..4).for_each(|n| {
            encode(&["PUBLISH", "ch", &format!("{name} {}", number + n)], &mut bytes)
        });
        publisher.send_raw(&bytes);
        (0..4).for_each(|_| assert!(!publisher.read_reply().is_error()));
        number += 4;
    }
    number
}

/// Writes all the time, so that under `always` replies are parked with the sync thread.
fn write_on(port: u16, is_over: &AtomicBool) {
    let mut writer = Resp::connect(port);
    while !is_over.load(Relaxed) {
        assert_eq!(writer.call(&["SET", "busy", "x"]), Value::ok());
    }
}

/// Reads whatever comes.
fn read_on(mut stream: &TcpStream, is_over: &AtomicBool) {
    let mut scrap = vec![0; 64 << 10];
    while !is_over.load(Relaxed) && stream.read(&mut scrap).is_ok_and(|n| n > 0) {}
}

fn is_message(value: &Value) -> bool {
    matches!(value, Value::Array(items) | Value::Push(items)
        if items.first() == Some(&Value::bulk("message")))
}

#[test]
fn a_confirmation_stands_behind_the_replies_before_it_and_before_any_message() {
    const ROUNDS: usize = 60;
    /// Names after the one that is published to: so it is subscribed for a while before it is confirmed.
    const OTHERS: usize = 300;
    let others = (0..OTHERS).map(|n| format!("other {n}"));
    let subscribe_to_all: Vec<String> =
        ["SUBSCRIBE".to_owned(), "ch".to_owned()].into_iter().chain(others).collect();
    for policy in ["always", "everysec"] {
        let server = Server::start(&[("appendfsync", policy)]);
        let (port, is_over) = (server.port(), AtomicBool::new(false));
        let heard = AtomicUsize::new(0);
        thread::scope(|scope| {
            scope.spawn(|| chatter(port, "one", &is_over));
            (0..3).for_each(|_| drop(scope.spawn(|| write_on(port, &is_over))));
            let _ends = Ends(&is_over);
            for round in 0..ROUNDS {
                let mut client = Resp::connect(port);
                let value = format!("v{round}");
                let mut bytes = vec![];
                encode(&["SET", "k", &value], &mut bytes);
                encode(&["GET", "k"], &mut bytes);
                encode(&subscribe_to_all, &mut bytes);
                encode(&["PING", "end"], &mut bytes);
                client.send_raw(&bytes);
                assert_eq!(client.read_reply(), Value::ok());
                assert_eq!(client.read_reply(), Value::bulk(&value));
                for (count, name) in (1..).zip(&subscribe_to_all[1..]) {
                    let confirmation =
                        [Value::bulk("subscribe"), Value::bulk(name), Value::Int(count)];
                    assert_eq!(client.read_reply(), Value::Array(confirmation.to_vec()));
                }
                let pong = Value::Array(vec![Value::bulk("pong"), Value::bulk("end")]);
                let mut is_answered = false;
                while !is_answered || heard.load(Relaxed) <= round {
                    let next = client.read_reply();
                    is_answered |= next == pong;
                    assert!(next == pong || is_message(&next), "{next:?} among messages");
                    heard.fetch_add(usize::from(is_message(&next)), Relaxed);
                }
            }
        });
    }
}

/// A late message would be taken for the reply to the next command.
#[test]
fn behind_the_confirmation_of_unsubscribe_no_message_comes() {
    const ROUNDS: usize = 400;
    const OTHERS: usize = 30;
    let server = Server::start(&[]);
    let (port, is_over) = (server.port(), AtomicBool::new(false));
    thread::scope(|scope| {
        for name in ["one", "two", "three"] {
            let is_over = &is_over;
            scope.spawn(move || chatter(port, name, is_over));
        }
        let _ends = Ends(&is_over);
        // A publisher comes to the client last, so that it has often left meanwhile.
        for _ in 0..OTHERS {
            let (other, is_over) = (subscribe(port, "ch"), &is_over);
            scope.spawn(move || read_on(other.stream(), is_over));
        }
        let mut client = Resp::connect(port);
        let gone = Value::Array(vec![Value::bulk("unsubscribe"), Value::bulk("ch"), Value::Int(0)]);
        for round in 0..ROUNDS {
            client.call(&["SUBSCRIBE", "ch"]);
            assert!(is_message(&client.read_reply()));
            client.send(&["UNSUBSCRIBE", "ch"]);
            while client.read_reply() != gone {}
            let key = format!("key {round}");
            assert_eq!(client.call(&["ECHO", &key]), Value::bulk(&key));
        }
    });
}

#[test]
fn what_one_publishes_arrives_in_its_order_also_at_those_who_write() {
    const ROUNDS: u64 = 300;
    let server = Server::start(&[("appendfsync", "always")]);
    let (port, is_over) = (server.port(), AtomicBool::new(false));
    thread::scope(|scope| {
        for name in ["one", "two"] {
            let is_over = &is_over;
            scope.spawn(move || chatter(port, name, is_over));
        }
        (0..2).for_each(|_| drop(scope.spawn(|| write_on(port, &is_over))));
        let _ends = Ends(&is_over);
        let mut client = Resp::connect(port);
        client.call(&["HELLO", "3"]);
        client.call(&["SUBSCRIBE", "ch"]);
        let mut next = [None::<u64>; 2];
        for round in 0..ROUNDS {
            client.send(&["INCR", "mine"]);
            loop {
                match client.read_reply() {
                    Value::Int(count) => break assert_eq!(count as u64, round + 1),
                    push => follow(&push, &mut next),
                }
            }
        }
        assert!(next.iter().all(Option::is_some), "somebody was not heard at all");
    });
}

/// No message of a publisher is missing, and none comes twice.
fn follow(push: &Value, next: &mut [Option<u64>; 2]) {
    assert!(matches!(push, Value::Push(_)) && is_message(push), "{push:?}");
    let text = String::from_utf8_lossy(push.as_array()[2].as_bytes()).into_owned();
    let (name, number) = text.split_once(' ').expect("a name and a number");
    let number: u64 = number.parse().expect("a number");
    let next = &mut next[usize::from(name == "two")];
    assert_eq!(number, next.unwrap_or(number), "of {name}");
    *next = Some(number + 1);
}

#[test]
fn nobody_hears_of_a_write_that_a_crash_takes_back() {
    const ROUNDS: usize = 8;
    let mut server = Server::start(&[]);
    for round in 0..ROUNDS {
        let mut listener = Resp::connect(server.port());
        listener.call(&["CONFIG", "SET", "notify-keyspace-events", "K$"]);
        listener.call(&["SUBSCRIBE", "__keyspace@0__:n"]);
        let mut writer = common::server::connect(server.port());
        let mut reader = Resp::connect(server.port());
        let before = reader.call(&["INCR", "n"]).as_int();
        let increments = b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n".repeat(64);
        let mut heard = 0;
        let stop_at = 200 + 77 * round as i64;
        let writing = thread::spawn(move || while writer.write_all(&increments).is_ok() {});
        while heard < stop_at {
            assert!(is_message(&listener.read_reply()));
            heard += 1;
        }
        server.restart("KILL");
        writing.join().expect("the writer ends with its connection");
        let after = Resp::connect(server.port()).call(&["GET", "n"]);
        let after: i64 = String::from_utf8_lossy(after.as_bytes()).parse().expect("a number");
        // The first one it heard was the increment of the reader.
        assert!(after >= before + heard - 1, "{heard} heard of, but {before} became {after}");
    }
}

#[test]
fn what_one_client_may_listen_to_is_bounded() {
    use kvstore::pubsub::NAME_BYTES_MAX;
    use kvstore::pubsub::SUBSCRIPTIONS_MAX;
    let server = Server::start(&[]);
    let mut client = Resp::connect(server.port());
    let names = |count: usize| -> Vec<String> {
        std::iter::once("SUBSCRIBE".to_owned()).chain((0..count).map(|n| n.to_string())).collect()
    };
    let refused = client.call(&names(SUBSCRIPTIONS_MAX + 1));
    assert_eq!(refused, Value::error("ERR a client may have 10000 subscriptions at most"));
    assert_eq!(client.call(&["GET", "k"]), Value::Null, "it listens all the same");
    client.send(&names(SUBSCRIPTIONS_MAX));
    (0..SUBSCRIPTIONS_MAX).for_each(|_| drop(client.read_reply()));
    assert!(client.call(&["PSUBSCRIBE", "*"]).is_error(), "patterns count, too");
    assert_eq!(client.call(&["RESET"]), Value::simple("RESET"));
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    let too_long = Value::error("ERR a channel or pattern may have 4096 bytes at most");
    for verb in ["SUBSCRIBE", "PSUBSCRIBE"] {
        assert_eq!(client.call(&[verb, "short", &long]), too_long);
    }
    // Patterns are matched with it.
    assert_eq!(client.call(&["PUBLISH", &long, "x"]), too_long);
    let mut other = Resp::connect(server.port());
    assert_eq!(other.call(&["PUBSUB", "CHANNELS"]), Value::Array(vec![]));
}
