//! Clients that stop in the middle: of a command, or of reading what they asked for.

use super::Scene;
use super::common::resp::{Resp, Value, encode};
use super::common::server::connect;
use super::common::text::Text;
use super::common::{DEADLINE, wait_until};
use std::io::Write;

#[test]
fn half_a_command_and_then_silence_holds_up_nobody() {
    let halves: [&[u8]; 8] = [
        b"*",
        b"*2\r",
        b"*2\r\n$3\r\nGET\r\n",
        b"*2\r\n$3\r\nGET\r\n$100\r\nabc",
        b"*1\r\n$4\r\nPING\r",
        b"SET k val",
        b"SET k \"unclosed",
        b"\xff\xfa",
    ];
    let mut scene = Scene::new(&[]);
    let clients: Vec<Resp> = halves
        .iter()
        .map(|half| {
            let mut client = Resp::connect(scene.port());
            client.send_raw(half);
            scene.wait_for_unfinished(1, half.len());
            scene.assert_unharmed("half a command");
            client.finish_sending();
            // Half a command is never run, not even if nothing follows it.
            assert!(client.read_to_end().is_empty(), "half a command is answered");
            client
        })
        .collect();
    drop(clients);
    scene.assert_is_nil("k");
    scene.assert_unharmed("half commands");
}

#[test]
fn a_command_in_single_bytes_is_a_command() {
    let scene = Scene::new(&[]);
    let mut client = Resp::connect(scene.port());
    for byte in b"*2\r\n$4\r\nECHO\r\n$5\r\nhe\r\no\r\n" {
        client.send_raw(&[*byte]);
    }
    assert_eq!(client.read_reply(), Value::bulk("he\r\no"));
    let mut typist = Text::connect(scene.port());
    for byte in b"ECHO \"a \\x41\"\r\n" {
        typist.send_raw(&[*byte]);
    }
    assert_eq!(typist.read_line(), "a A");
}

#[test]
fn a_silent_client_is_closed_after_timeout() {
    let mut scene = Scene::new(&[("timeout", "1")]);
    let mut silent = Resp::connect(scene.port());
    assert_eq!(silent.call(&["PING"]), Value::simple("PONG"));
    let silence = std::thread::spawn(move || silent.read_to_end());
    let is_closed = wait_until(DEADLINE, || {
        // The bystander would be closed as well if it were silent.
        scene.assert_bystander_is_served("a silent client");
        silence.is_finished()
    });
    assert!(is_closed, "it is still connected");
    assert!(silence.join().expect("read to the end").is_empty(), "it is told nothing, as by Redis");
}

const VALUE_BYTES: usize = 100_000;

fn with_large_value(settings: &[(&str, &str)]) -> Scene {
    let mut scene = Scene::new(settings);
    let stored = scene.bystander.call(&["SET", "large", &"v".repeat(VALUE_BYTES)]);
    assert_eq!(stored, Value::ok());
    scene
}

#[test]
fn a_client_that_never_reads_is_cut_off_at_its_limit() {
    /// The limit of 4 MiB, pieces not yet full, the kernel's own buffers not counted, and noise.
    const GROWTH_KIB_MAX: u64 = 32 * 1024;
    let mut scene = with_large_value(&[("client-output-buffer-limit", "normal 4mb 0 0")]);
    scene.assert_unharmed("nothing");
    let before = scene.server.resident_kib();
    let mut greedy = connect(scene.port());
    let requests = b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n".repeat(100);
    let is_cut = wait_until(DEADLINE, || greedy.write_all(&requests).is_err());
    assert!(is_cut, "it may go on asking");
    scene.wait_for_info("client_output_buffer_limit_disconnections", 1);
    let grown = scene.server.resident_kib().saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB for a client over its limit of 4 MiB");
    assert!(scene.server.stderr().contains("client-output-buffer-limit"), "it is not logged");
    scene.assert_unharmed("a client that never reads");
    scene.wait_for_info("connected_clients", 1);
}

#[test]
fn soft_limits_cut_off_too() {
    let mut scene = with_large_value(&[("client-output-buffer-limit", "normal 0 1mb 1")]);
    let mut greedy = connect(scene.port());
    let requests = b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n".repeat(100);
    greedy.write_all(&requests).expect("the soft limit does not act at once");
    // The limit is looked at when something is sent: a client that also asks for nothing costs no more.
    let is_cut = wait_until(DEADLINE, || greedy.write_all(b"PING\r\n").is_err());
    assert!(is_cut, "over the soft limit for ten seconds");
    scene.wait_for_info("client_output_buffer_limit_disconnections", 1);
    scene.assert_unharmed("a client over its soft limit");
}

#[test]
fn one_request_for_more_than_memory_holds_is_cut_off() {
    const GROWTH_KIB_MAX: u64 = 64 * 1024;
    let limits = [("client-output-buffer-limit", "normal 4mb 0 0"), ("proto-max-bulk-len", "1mb")];
    for dialect in [2, 3] {
        let mut scene = with_large_value(&limits);
        scene.assert_unharmed("nothing");
        let before = scene.server.resident_kib();
        let mut greedy = Resp::connect(scene.port());
        greedy.send(&["HELLO", &dialect.to_string()]);
        greedy.read_reply();
        let mut request = vec!["MGET"];
        request.resize(20_000, "large");
        greedy.send(&request);
        assert!(greedy.read_to_end().len() < 8 << 20, "2 GB are answered");
        let grown = scene.server.resident_kib().saturating_sub(before);
        assert!(grown < GROWTH_KIB_MAX, "{grown} KiB for a reply of 2 GB");
        assert_eq!(scene.info("client_output_buffer_limit_disconnections"), 1);
        scene.assert_unharmed("a request for 2 GB");
    }
}

#[test]
fn a_value_longer_than_the_output_limit_can_be_read() {
    let mut scene = Scene::new(&[("client-output-buffer-limit", "normal 1mb 0 0")]);
    let large = "v".repeat(30_000_000);
    assert_eq!(scene.bystander.call(&["SET", "huge", &large]), Value::ok());
    for _ in 0..3 {
        assert_eq!(scene.bystander.call(&["GET", "huge"]), Value::bulk(&large));
    }
    assert_eq!(scene.info("client_output_buffer_limit_disconnections"), 0);
}

#[test]
fn clients_that_do_not_read_hold_up_nobody_and_lose_nothing() {
    const CLIENTS: usize = 4;
    const REQUESTS: usize = 150;
    let mut scene = with_large_value(&[]);
    let mut slow: Vec<Resp> = (0..CLIENTS)
        .map(|_| {
            let mut client = Resp::connect(scene.port());
            let mut requests = vec![];
            for n in 0..REQUESTS {
                let n = n.to_string();
                encode(&["GET", "large"], &mut requests);
                encode(&["ECHO", &n], &mut requests);
            }
            client.send_raw(&requests);
            client
        })
        .collect();
    for n in 0..100 {
        scene.assert_bystander_is_served(&format!("{n} requests beside clients that do not read"));
    }
    scene.assert_unharmed("clients that do not read");
    // They were only slow: everything is there, in order.
    for client in &mut slow {
        for n in 0..REQUESTS {
            assert_eq!(client.read_reply().as_bytes().len(), VALUE_BYTES);
            assert_eq!(client.read_reply(), Value::bulk(n.to_string()));
        }
    }
    assert_eq!(scene.info("client_output_buffer_limit_disconnections"), 0);
}

#[test]
fn a_client_that_leaves_without_reading_leaves_nothing_behind() {
    let mut scene = with_large_value(&[("worker-idle-timeout", "1")]);
    let threads = scene.server.threads();
    let descriptors = scene.server.descriptors();
    for _ in 0..20 {
        let mut client = Resp::connect(scene.port());
        client.send_raw(&b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n".repeat(100));
    }
    scene.wait_for_info("connected_clients", 1);
    let is_back = || scene.server.threads() <= threads && scene.server.descriptors() <= descriptors;
    let is_back = wait_until(DEADLINE, is_back);
    assert!(is_back, "{} threads were {threads}", scene.server.threads());
    scene.assert_unharmed("clients that left without reading");
}
