//! Clients that ask for much and read none of it.
//!
//! The story: a limit that counted only what was waiting *before* a reply was added let one reply of any
//! size through. Three clients that asked for a hundred values each and read none of them made a server
//! with a limit of 8 MB take 290 MB, and evict every key that it had.

use super::Scene;
use super::common::resp::{Resp, Value, encode};
use super::common::server::connect;
use super::common::{DEADLINE, long_form, note, wait_until};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use std::io::Write;
use std::net::TcpStream;

const MB: usize = 1 << 20;
/// The `client-output-buffer-limit` of these tests.
const LIMIT_BYTES: usize = 256 << 10;
const LIMITS: (&str, &str) = ("client-output-buffer-limit", "normal 256kb 0 0 pubsub 256kb 0 0");
const VALUE_BYTES: usize = 32 << 10;
/// Keys whose names alone make an answer of some MB.
const KEYS: usize = 4_000;
const KEY_BYTES: usize = 1000;

/// A server in which every sort of reply can be long.
fn with_much_to_read(settings: &[(&str, &str)]) -> Scene {
    let mut all = vec![LIMITS, ("slowlog-log-slower-than", "0"), ("slowlog-max-len", "1000")];
    all.extend_from_slice(settings);
    let mut scene = Scene::new(&all);
    assert_eq!(scene.bystander.call(&["SET", "big", &"v".repeat(VALUE_BYTES)]), Value::ok());
    let word = "w".repeat(128);
    for chunk in (0..KEYS).collect::<Vec<_>>().chunks(100) {
        let mut words = vec!["MSET".to_owned()];
        for n in chunk {
            words.extend([format!("{n:0KEY_BYTES$}"), word.clone()]);
        }
        assert_eq!(scene.bystander.call(&words), Value::ok());
    }
    // Commands for SLOWLOG to show: 32 words of 128 bytes each.
    let mut slow = vec![word.as_str(); 31];
    slow.insert(0, "EXISTS");
    let mut requests = Vec::new();
    (0..1000).for_each(|_| encode(&slow, &mut requests));
    scene.bystander.send_raw(&requests);
    (0..1000).for_each(|_| assert_eq!(scene.bystander.read_reply(), Value::Int(0)));
    scene
}

/// One way to ask for more than the limit.
fn request(sort: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mget = |times: usize| [&["MGET"][..], &vec!["big"; times]].concat();
    match sort {
        "MGET" => encode(&mget(300), &mut bytes),
        "KEYS" => encode(&["KEYS", "*"], &mut bytes),
        "SCAN" => encode(&["SCAN", "0", "COUNT", "1000000"], &mut bytes),
        "SLOWLOG" => encode(&["SLOWLOG", "GET", "-1"], &mut bytes),
        "EXEC" => {
            encode(&["MULTI"], &mut bytes);
            (0..300).for_each(|_| encode(&["GET", "big"], &mut bytes));
            encode(&["EXEC"], &mut bytes);
        }
        "EXEC of COMMAND" => {
            encode(&["MULTI"], &mut bytes);
            (0..100).for_each(|_| encode(&["COMMAND"], &mut bytes));
            encode(&["EXEC"], &mut bytes);
        }
        "GET" => (0..300).for_each(|_| encode(&["GET", "big"], &mut bytes)),
        "COMMAND" => (0..100).for_each(|_| encode(&["COMMAND"], &mut bytes)),
        "MONITOR" => encode(&["MONITOR"], &mut bytes),
        "messages" => encode(&["SUBSCRIBE", "news"], &mut bytes),
        other => panic!("{other}?"),
    }
    bytes
}

const REPLIES: [&str; 8] =
    ["MGET", "KEYS", "SCAN", "SLOWLOG", "EXEC", "EXEC of COMMAND", "GET", "COMMAND"];

#[test]
fn no_sort_of_reply_outgrows_the_limit() {
    for sort in REPLIES {
        let mut scene = with_much_to_read(&[]);
        let mut greedy = connect(scene.port());
        let request = request(sort);
        // The kernel's buffers take some, so once more.
        let is_cut = wait_until(DEADLINE, || {
            let _ = greedy.write_all(&request);
            scene.info("client_output_buffer_limit_disconnections") == 1
        });
        assert!(is_cut, "{sort}: never cut off");
        scene.assert_unharmed(sort);
    }
}

#[test]
fn one_reply_of_many_values_counts_while_it_is_made() {
    /// Three replies up to their limit, the same once more in the allocator's hands, and noise.
    const GROWTH_KIB_MAX: u64 = 64 * 1024;
    let settings = [("client-output-buffer-limit", "normal 8mb 4mb 1")];
    let mut scene = Scene::new(&settings);
    assert_eq!(scene.bystander.call(&["SET", "big", &"v".repeat(MB)]), Value::ok());
    scene.assert_unharmed("nothing");
    let before = scene.server.resident_kib();
    let mut greedy: Vec<TcpStream> = (0..3).map(|_| connect(scene.port())).collect();
    let request = {
        let mut bytes = Vec::new();
        encode(&[&["MGET"][..], &["big"; 100]].concat(), &mut bytes);
        bytes
    };
    greedy.iter_mut().for_each(|client| client.write_all(&request).expect("a request"));
    scene.wait_for_info("client_output_buffer_limit_disconnections", 3);
    let grown = scene.server.resident_kib().saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB for three clients with a limit of 8 MB");
    scene.wait_for_info("connected_clients", 1);
}

#[test]
fn a_client_that_does_not_read_does_not_cost_all_keys() {
    let settings = [
        ("client-output-buffer-limit", "normal 8mb 4mb 1"),
        ("maxmemory", "64mb"),
        ("maxmemory-policy", "allkeys-lru"),
    ];
    let mut scene = Scene::new(&settings);
    for n in 0..20 {
        let stored = scene.bystander.call(&["SET", &format!("big{n}"), &"v".repeat(MB)]);
        assert_eq!(stored, Value::ok());
    }
    let mut greedy = connect(scene.port());
    let mut bytes = Vec::new();
    encode(&[&["MGET"][..], &["big7"; 100]].concat(), &mut bytes);
    greedy.write_all(&bytes).expect("a request");
    scene.wait_for_info("client_output_buffer_limit_disconnections", 1);
    assert_eq!(scene.info("evicted_keys"), 0);
    scene.assert_unharmed("100 MB that nobody reads");
}

#[test]
fn the_soft_limit_acts_on_a_client_that_asks_for_nothing_more() {
    let soft = ("client-output-buffer-limit", "normal 0 1mb 1 pubsub 0 1mb 1");
    let mut scene = Scene::new(&[soft]);
    assert_eq!(scene.bystander.call(&["SET", "big", &"v".repeat(MB)]), Value::ok());
    let mut greedy = connect(scene.port());
    let mut requests = Vec::new();
    (0..20).for_each(|_| encode(&["GET", "big"], &mut requests));
    greedy.write_all(&requests).expect("sending");
    scene.wait_for_info("client_output_buffer_limit_disconnections", 1);

    let mut subscriber = connect(scene.port());
    subscriber.write_all(b"SUBSCRIBE news\n").expect("sending");
    let listens = wait_until(DEADLINE, || scene.info("pubsub_channels") == 1);
    assert!(listens, "SUBSCRIBE is not seen");
    for _ in 0..20 {
        scene.bystander.call(&["PUBLISH", "news", &"m".repeat(MB)]);
    }
    scene.wait_for_info("client_output_buffer_limit_disconnections", 2);
    scene.assert_unharmed("soft limits");
}

#[test]
fn a_lower_limit_acts_on_what_waits_already() {
    let mut scene = Scene::new(&[]);
    assert_eq!(scene.bystander.call(&["SET", "big", &"v".repeat(MB)]), Value::ok());
    let mut greedy = connect(scene.port());
    let mut requests = Vec::new();
    (0..40).for_each(|_| encode(&["GET", "big"], &mut requests));
    greedy.write_all(&requests).expect("sending");
    let limit = ["CONFIG", "SET", "client-output-buffer-limit", "normal 1mb 0 0"];
    assert_eq!(scene.bystander.call(&limit), Value::ok());
    scene.wait_for_info("client_output_buffer_limit_disconnections", 1);
}

#[test]
fn a_slow_reader_of_one_huge_value_is_left_to_read_it() {
    let limit = ("client-output-buffer-limit", "normal 1mb 0 0");
    let scene = &mut Scene::new(&[limit]);
    let huge = "v".repeat(40 * MB);
    assert_eq!(scene.bystander.call(&["SET", "huge", &huge]), Value::ok());
    for dialect in ["2", "3"] {
        let mut slow = Resp::connect(scene.port());
        slow.send(&["HELLO", dialect]);
        slow.read_reply();
        slow.send(&["GET", "huge"]);
        // The PING after it in the pipeline must not get the client cut off.
        slow.send(&["PING"]);
        scene.assert_bystander_is_served("40 MB that are read later");
        assert_eq!(slow.read_reply().as_bytes().len(), huge.len());
        assert_eq!(slow.read_reply(), Value::simple("PONG"));
    }
    assert_eq!(scene.info("client_output_buffer_limit_disconnections"), 0);
}

#[test]
fn six_hundred_clients_that_never_read_stay_within_their_limits() {
    /// The memory that a client may cost: its limit, one value, its thread's stacks and input.
    const CLIENT_BYTES: usize = LIMIT_BYTES + VALUE_BYTES + (96 << 10);
    /// Feeds of monitors have a limit of their own, however high that of their class is.
    const NOISE_BYTES: usize = 48 * MB;
    const CLIENTS: usize = 600;
    let rounds = if long_form() { 20 } else { 1 };
    let mut scene = with_much_to_read(&[("maxclients", "1000")]);
    scene.assert_unharmed("nothing");
    let before = scene.server.resident_kib();
    let sorts: Vec<&str> = REPLIES.into_iter().chain(["MONITOR", "messages"]).collect();
    let mut most = 0;
    for round in 0..rounds {
        let mut clients: Vec<TcpStream> = Vec::new();
        for n in 0..CLIENTS {
            let mut client = connect(scene.port());
            // Memory that the kernel would keep for it is not the server's.
            set_socket_recv_buffer_size(&client, 8 << 10).expect("a socket option");
            // Cut off already, some of them: that is what the limit is for.
            let _ = client.write_all(&request(sorts[n % sorts.len()]));
            clients.push(client);
            if n % 20 == 0 {
                most = most.max(scene.server.resident_kib());
            }
        }
        for _ in 0..50 {
            scene.bystander.call(&["PUBLISH", "news", &"m".repeat(VALUE_BYTES)]);
            most = most.max(scene.server.resident_kib());
        }
        let (grown, bound) = ((most.saturating_sub(before) as usize) << 10, CLIENTS * CLIENT_BYTES);
        assert!(grown < bound + NOISE_BYTES, "{grown} bytes, {bound} by the limits");
        let cut = scene.info("client_output_buffer_limit_disconnections");
        assert!(cut as usize > (round + 1) * CLIENTS / 4, "only {cut} were cut off");
        scene.assert_bystander_is_served("600 clients that do not read");
        drop(clients);
        scene.wait_for_info("connected_clients", 1);
    }
    let grown = most.saturating_sub(before) as usize >> 10;
    let bound = CLIENTS * CLIENT_BYTES;
    note(&format!("{CLIENTS} clients that never read: {grown} of {} MB", bound / MB));
    scene.assert_unharmed("600 clients that never read");
}
