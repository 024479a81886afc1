//! Clients that send everything before they read anything, as libraries do.
//!
//! The story: a server that stops reading requests while it cannot send replies, and a client that does
//! not read replies before it has sent its requests, wait for each other for ever.

use super::Scene;
use super::common::resp::{Resp, Value, encode};
use super::common::text::Text;
use std::io::Write;

const PAIRS: usize = 200_000;
const KEYS: usize = 1000;
/// Long enough that the replies fit into no buffer of the kernel's.
const PADDING: usize = 100;

fn value(n: usize) -> String {
    format!("{n:0PADDING$}")
}

#[test]
fn two_hundred_thousand_pairs_before_the_first_reply_is_read_in_resp() {
    let mut scene = Scene::new(&[]);
    let mut client = Resp::connect(scene.port());
    let mut requests = vec![];
    for n in 0..PAIRS {
        let key = (n % KEYS).to_string();
        encode(&["SET", &key, &value(n)], &mut requests);
        encode(&["GET", &key], &mut requests);
    }
    client.send_raw(&requests);
    scene.assert_bystander_is_served("a long pipeline");
    for n in 0..PAIRS {
        assert_eq!(client.read_reply(), Value::ok(), "SET number {n}");
        assert_eq!(client.read_reply(), Value::bulk(value(n)), "GET number {n}");
    }
    scene.assert_unharmed("a long pipeline");
}

#[test]
fn two_hundred_thousand_pairs_before_the_first_reply_is_read_in_text() {
    let mut scene = Scene::new(&[]);
    let mut typist = Text::connect(scene.port());
    let mut lines = vec![];
    for n in 0..PAIRS {
        let (key, value) = (n % KEYS, value(n));
        write!(lines, "SET {key} {value}\nGET {key}\n").expect("writing to a Vec");
    }
    typist.send_raw(&lines);
    scene.assert_bystander_is_served("a long script");
    for n in 0..PAIRS {
        assert_eq!(typist.read_line(), "OK", "SET number {n}");
        assert_eq!(typist.read_line(), value(n), "GET number {n}");
    }
    scene.assert_unharmed("a long script");
}

#[test]
fn lines_in_one_pipeline_are_text_before_resp_and_resp_after_it() {
    let scene = Scene::new(&[]);
    let mut client = Resp::connect(scene.port());
    let mixed =
        b"SET k a b\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n\r\nGET k\n*1\r\n$4\r\nPING\r\nPING\r\n";
    client.send_raw(mixed);
    client.finish_sending();
    let answers = client.read_to_end();
    assert_eq!(
        String::from_utf8_lossy(&answers),
        "OK\n$3\r\na b\r\n$3\r\na b\r\n+PONG\r\n+PONG\r\n"
    );
}

#[test]
fn half_close_gets_everything_answered() {
    const REQUESTS: usize = 50_000;
    let mut scene = Scene::new(&[]);
    let mut client = Resp::connect(scene.port());
    client.send_raw(&b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n".repeat(REQUESTS));
    client.finish_sending();
    for n in 1..=REQUESTS {
        assert_eq!(client.read_reply(), Value::Int(n as i64));
    }
    assert!(client.read_to_end().is_empty(), "more replies than requests");

    let mut typist = Text::connect(scene.port());
    typist.send_raw(&b"INCR m\n".repeat(REQUESTS));
    typist.finish_sending();
    let numbers: Vec<usize> =
        typist.read_to_end().lines().map(|line| line.parse().expect("a number")).collect();
    assert!(numbers.into_iter().eq(1..=REQUESTS), "in order, none missing");
    scene.wait_for_info("connected_clients", 1);
}

#[test]
fn half_close_with_replies_that_no_buffer_holds() {
    const REQUESTS: usize = 500;
    let mut scene = Scene::new(&[]);
    let large = "v".repeat(100_000);
    assert_eq!(scene.bystander.call(&["SET", "large", &large]), Value::ok());
    let mut client = Resp::connect(scene.port());
    client.send_raw(&b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n".repeat(REQUESTS));
    client.finish_sending();
    scene.assert_bystander_is_served("50 MB that nobody reads");
    for n in 0..REQUESTS {
        assert_eq!(client.read_reply().as_bytes().len(), large.len(), "GET number {n}");
    }
    assert!(client.read_to_end().is_empty());
}

#[test]
fn nothing_behind_quit_is_run() {
    let mut scene = Scene::new(&[]);
    for quit in ["QUIT", "EXIT", "quit"] {
        let mut client = Resp::connect(scene.port());
        let mut requests = vec![];
        encode(&["SET", "before", quit], &mut requests);
        encode(&[quit], &mut requests);
        encode(&["SET", "behind", quit], &mut requests);
        client.send_raw(&requests);
        assert_eq!(client.read_to_end(), b"+OK\r\n+OK\r\n");
        assert_eq!(scene.bystander.call(&["GET", "before"]), Value::bulk(quit));
        scene.assert_is_nil("behind");

        let mut typist = Text::connect(scene.port());
        typist.send_raw(format!("PING\n{quit}\nSET behind 1\n").as_bytes());
        assert_eq!(typist.read_to_end(), "PONG\nOK\n");
        scene.assert_is_nil("behind");
    }
    scene.assert_unharmed("QUIT in the middle");
}

#[test]
fn quit_behind_a_long_pipeline_comes_last() {
    let scene = Scene::new(&[]);
    let mut client = Resp::connect(scene.port());
    let large = "v".repeat(1000);
    let mut requests = vec![];
    for _ in 0..20_000 {
        encode(&["ECHO", &large], &mut requests);
    }
    encode(&["QUIT"], &mut requests);
    client.send_raw(&requests);
    for _ in 0..20_000 {
        assert_eq!(client.read_reply().as_bytes().len(), large.len());
    }
    assert_eq!(client.read_reply(), Value::ok());
    assert!(client.read_to_end().is_empty());
}
