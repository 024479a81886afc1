//! Lines, headers and requests that do not end. The memory held for them is bounded. A line is skipped; the
//! client of any other is cut off.

use super::Scene;
use super::common::resp::{Resp, Value};
use super::common::server::{RedisServer, connect};
use super::common::text::Text;
use std::io::Write;

const LINE_LEN_MAX: usize = 64 * 1024;
const MIB: usize = 1024 * 1024;

#[test]
fn an_endless_line_gets_one_error_and_the_connection_lives_on() {
    const GROWTH_KIB_MAX: u64 = 2 * 1024;
    let mut scene = Scene::new(&[]);
    let mut typist = Text::connect(scene.port());
    assert_eq!(typist.line("PING"), "PONG");
    let before = scene.server.resident_kib();
    for _ in 0..64 {
        typist.send_raw(&b"x".repeat(MIB));
    }
    let error = typist.read_line();
    assert!(error.starts_with("ERR line too long"), "{error}");
    let grown = scene.server.resident_kib().saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB held of a line of 64 MiB");
    assert_eq!(typist.line("\r\nPING"), "PONG");
    scene.assert_unharmed("an endless line");
}

#[test]
fn a_line_may_be_as_long_as_stated_and_no_longer() {
    let mut scene = Scene::new(&[]);
    let mut typist = Text::connect(scene.port());
    let longest = "v".repeat(LINE_LEN_MAX - "ECHO ".len());
    assert_eq!(typist.line(&format!("ECHO {longest}")), longest);
    // One more byte is too many only together with the line end that is not counted.
    let error = typist.line(&format!("ECHO {longest}vv"));
    assert!(error.starts_with("ERR line too long"), "{error}");
    assert_eq!(typist.line("PING"), "PONG");
    scene.assert_unharmed("long lines");
}

#[test]
fn an_overlong_line_does_not_run_its_end() {
    let mut scene = Scene::new(&[]);
    let mut typist = Text::connect(scene.port());
    let line = format!("{} SET hacked 1", "x".repeat(3 * LINE_LEN_MAX));
    let error = typist.line(&line);
    assert!(error.starts_with("ERR line too long"), "{error}");
    assert_eq!(typist.line("PING"), "PONG");
    scene.assert_is_nil("hacked");
}

/// Sends without end; returns how much the server took before it closed.
fn pour(port: u16, head: &[u8], bytes: &[u8], bytes_max: usize) -> Option<usize> {
    let mut socket = connect(port);
    socket.write_all(head).expect("the head is in order");
    let pieces = bytes_max / bytes.len();
    (0..pieces).find(|_| socket.write_all(bytes).is_err()).map(|sent| sent * bytes.len())
}

#[test]
fn an_endless_header_is_cut_off() {
    let mut scene = Scene::new(&[]);
    let digits = b"1".repeat(LINE_LEN_MAX);
    for head in [&b"*"[..], b"*1\r\n$"] {
        let taken = pour(scene.port(), head, &digits, 256 * MIB);
        assert!(taken.is_some(), "256 MiB of digits are taken");
        scene.assert_unharmed("an endless header");
    }
    assert_eq!(scene.info("protocol_errors"), 2);
}

#[test]
fn an_endless_headers_error_is_that_of_redis() {
    let Some(redis) = RedisServer::start() else { return };
    let scene = Scene::new(&[]);
    for head in [&b"*"[..], b"*1\r\n$"] {
        let answer = |port| {
            let mut client = Resp::connect(port);
            client.send_raw(&[head, &b"1".repeat(LINE_LEN_MAX + 1)].concat());
            client.read_to_end()
        };
        let (actual, expected) = (answer(scene.port()), answer(redis.port()));
        assert_eq!(String::from_utf8_lossy(&actual), String::from_utf8_lossy(&expected));
    }
}

#[test]
fn an_endless_request_is_cut_off_at_the_query_limit() {
    const GROWTH_KIB_MAX: u64 = 32 * 1024;
    let element = b"$1\r\na\r\n".repeat(10_000);
    let cases: [(&[u8], &[u8]); 3] = [
        (b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\n", &[b'v'; 65_536]),
        (b"*2147483647\r\n", &element),
        // Arguments of nothing: each costs the server more than it costs the client.
        (b"*2147483647\r\n", b"$0\r\n\r\n"),
    ];
    for (index, (head, bytes)) in cases.into_iter().enumerate() {
        let mut scene = Scene::new(&[("client-query-buffer-limit", "4mb")]);
        scene.assert_unharmed("nothing");
        let before = scene.server.resident_kib();
        let piece = bytes.repeat((65_536 / bytes.len()).max(1));
        assert!(pour(scene.port(), head, &piece, 256 * MIB).is_some(), "case {index}: never cut");
        let grown = scene.server.resident_kib().saturating_sub(before);
        assert!(grown < GROWTH_KIB_MAX, "case {index}: {grown} KiB");
        scene.wait_for_info("client_query_buffer_limit_disconnections", 1);
        scene.assert_unharmed("an endless request");
    }
}

/// The memory of this client, as CLIENT INFO shows it.
fn bytes_held(line: &str) -> usize {
    let field = line.split(' ').find_map(|field| field.strip_prefix("tot-mem="));
    field.and_then(|bytes| bytes.parse().ok()).unwrap_or_else(|| panic!("no tot-mem in {line}"))
}

#[test]
fn a_large_requests_memory_is_given_back() {
    const KEYS: usize = 200_000;
    // Buffers of the usual size remain.
    const HELD_MAX: usize = 100 * 1024;
    let mut scene = Scene::new(&[]);
    let mut client = Resp::connect(scene.port());
    let mut request = vec!["DEL".to_owned()];
    request.extend((0..KEYS).map(|n| n.to_string()));
    assert_eq!(client.call(&request), Value::Int(0));
    assert_eq!(client.call(&["PING"]), Value::simple("PONG"));
    let line = client.call(&["CLIENT", "INFO"]);
    let held = bytes_held(&String::from_utf8_lossy(line.as_bytes()));
    assert!(held < HELD_MAX, "{held} bytes are still held: {line:?}");

    let mut typist = Text::connect(scene.port());
    // Each word of a line takes forty bytes beside its own.
    assert_eq!(typist.line(&format!("DEL {}", "k ".repeat(32_000))), "0");
    assert_eq!(typist.line("PING"), "PONG");
    let held = bytes_held(&typist.line("CLIENT INFO"));
    assert!(held < HELD_MAX, "{held} bytes are still held for a line");
    scene.assert_unharmed("large requests");
}
