//! Bytes that are not requests. The framing is lost, so the client gets an error and is cut off. Requests
//! that are odd but readable are carried out, as in Redis.

use super::Scene;
use super::common::resp::{Resp, quote};
use super::common::rng::Rng;
use super::common::server::RedisServer;
use super::common::text::Text;

/// Each gets an error and a close.
const BROKEN: &[&[u8]] = &[
    b"*1000000000000000000\r\n",
    b"*2147483648\r\n",
    b"*99999999999999999999\r\n",
    b"*abc\r\n",
    b"*\r\n",
    b"* 1\r\n",
    b"*1 \r\n",
    b"*+1\r\n",
    b"*01\r\n",
    b"*-0\r\n",
    b"*1\r\n$-1\r\n",
    b"*1\r\n$-2\r\n",
    b"*1\r\n$1000000000000000000\r\n",
    b"*1\r\n$536870913\r\n",
    b"*1\r\n$99999999999999999999\r\n",
    b"*1\r\n$abc\r\n",
    b"*1\r\n$\r\n",
    b"*1\r\n$ 4\r\nPING\r\n",
    b"*1\r\n\r\n",
    b"*1\r\n:5\r\n",
    b"*1\r\nPING\r\n",
    b"*1\r\n*1\r\n$4\r\nPING\r\n",
    b"*2\r\n$4\r\nECHO\r\n+x\r\n",
    b"*1\r\n$4\r\nPING\r\n*1\r\n$x\r\n",
];

/// Each is carried out, or asks for nothing; a PING after it is answered.
const ODD: &[&[u8]] = &[
    b"*0\r\n",
    b"*-1\r\n",
    b"*-2\r\n",
    b"*-1000000000000000000\r\n",
    b"\r\n",
    b"*1\r\n$4\r\nPINGxx",
    b"*1\rx$4\rxPING\r\n",
    b"*1\r\n$0\r\n\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\n\xff\r\n$4\r\n\0\r\n*\r\n",
];

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// All that a server answers to these bytes before it closes.
fn answer(port: u16, bytes: &[u8], is_broken: bool) -> Vec<u8> {
    let mut client = Resp::connect(port);
    client.send_raw(bytes);
    if !is_broken {
        // A client that breaks the protocol is closed without having asked for it.
        client.finish_sending();
    }
    client.read_to_end()
}

#[test]
fn broken_framing_is_told_and_closed() {
    let mut scene = Scene::new(&[]);
    for (index, bytes) in BROKEN.iter().enumerate() {
        let answer = answer(scene.port(), bytes, true);
        let text = String::from_utf8_lossy(&answer);
        let last = text.trim_end().rsplit('\n').next().unwrap_or_default();
        assert!(last.starts_with("-ERR Protocol error: "), "{} gets {text:?}", quote(bytes));
        assert_eq!(scene.info("protocol_errors"), index as u64 + 1);
        scene.assert_unharmed(&quote(bytes));
    }
}

#[test]
fn odd_framing_is_carried_out() {
    let mut scene = Scene::new(&[]);
    for bytes in ODD {
        let answer = answer(scene.port(), &[bytes, PING].concat(), false);
        assert!(answer.ends_with(b"+PONG\r\n"), "{} gets {}", quote(bytes), quote(&answer));
        scene.assert_unharmed(&quote(bytes));
    }
}

#[test]
fn the_error_texts_are_those_of_redis() {
    let Some(redis) = RedisServer::start() else { return };
    let scene = Scene::new(&[]);
    let cases = BROKEN.iter().map(|bytes| (bytes.to_vec(), true));
    let cases = cases.chain(ODD.iter().map(|bytes| ([bytes, PING].concat(), false)));
    for (bytes, is_broken) in cases {
        let expected = answer(redis.port(), &bytes, is_broken);
        let actual = answer(scene.port(), &bytes, is_broken);
        assert_eq!(quote(&actual), quote(&expected), "in answer to {}", quote(&bytes));
    }
}

#[test]
fn what_is_announced_costs_nothing_until_it_comes() {
    const CLIENTS: usize = 50;
    /// For all of them: their threads and buffers, and some noise.
    const GROWTH_KIB_MAX: u64 = 10 * 1024;
    let few_elements = [&b"*1000000000\r\n"[..], &b"$3\r\nabc\r\n".repeat(100)].concat();
    let announcements: [&[u8]; 4] = [
        b"*1000000000\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\n",
        b"*2147483647\r\n$536870912\r\nhello",
        &few_elements,
    ];
    for announced in announcements {
        let mut scene = Scene::new(&[]);
        scene.assert_unharmed("nothing");
        let before = scene.server.resident_kib();
        let clients: Vec<Resp> = (0..CLIENTS)
            .map(|_| {
                let mut client = Resp::connect(scene.port());
                client.send_raw(announced);
                client
            })
            .collect();
        scene.wait_for_unfinished(CLIENTS, announced.len());
        let grown = scene.server.resident_kib().saturating_sub(before);
        assert!(grown < GROWTH_KIB_MAX, "{CLIENTS} times {}: {grown} KiB", quote(announced));
        scene.assert_unharmed("announcements followed by silence");
        drop(clients);
        scene.wait_for_info("connected_clients", 1);
    }
}

#[test]
fn nested_garbage_is_refused_at_its_first_level() {
    let mut scene = Scene::new(&[]);
    for nested in [b"*1\r\n".repeat(100_000), b"*2\r\n$1\r\na\r\n".repeat(30_000)] {
        // The server closes long before it has read all of this, so sending it may fail.
        let mut client = Resp::connect(scene.port());
        let _ = std::io::Write::write_all(&mut client.stream(), &nested);
        let answer = client.read_to_end();
        let error = b"-ERR Protocol error: expected '$', got '*'\r\n";
        assert!(answer.is_empty() || answer == error, "{}", quote(&answer));
        scene.assert_unharmed("nested arrays");
    }
    assert_eq!(scene.info("protocol_errors"), 2);
}

/// Bytes that get further into the server than mere noise does. None of them ends the server, waits
/// or silences the bystander.
const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"*",
    b"$",
    b"*1\r\n",
    b"*3\r\n",
    b"$3\r\n",
    b"$-1\r\n",
    b"$0\r\n",
    b"SET",
    b"GET",
    b"k",
    b"\"",
    b"'",
    b"\\x",
    b"\xff\xf4\xff\xfd\x06",
    b"\xff\xfa",
    b"\0",
    b"PING",
    b"HELLO 3",
    b"HELP",
    b"CLIENT",
    b"LIST",
    b"COMMAND",
    b"EX",
    b"-1",
    b"9223372036854775807",
    b"INFO",
    b"*1\r\n$4\r\nPING\r\n",
    b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
    b"MSET",
    b"APPEND",
    b"DEL",
];

fn noise(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![];
    for _ in 0..rng.below(300) {
        if rng.chance(70) {
            bytes.extend_from_slice(rng.pick(PIECES));
        } else {
            let len = rng.below(20);
            bytes.extend(rng.bytes(len));
        }
    }
    bytes
}

#[test]
fn noise_harms_nobody_but_its_sender() {
    const SEED: u64 = 7;
    let mut scene = Scene::new(&[]);
    let mut rng = Rng::new(SEED);
    for round in 0..300 {
        let bytes = noise(&mut rng);
        let client = std::cell::RefCell::new(Resp::connect(scene.port()));
        // A server that has had enough closes, and then sending fails; both are in order.
        let sent = std::io::Write::write_all(&mut client.borrow().stream(), &bytes);
        if sent.is_ok() {
            let _ = client.borrow().stream().shutdown(std::net::Shutdown::Write);
        }
        client.borrow_mut().read_to_end();
        scene.assert_bystander_is_served(&format!("round {round} of seed {SEED}"));
    }
    scene.assert_unharmed("noise");
}

#[test]
fn a_browsers_request_is_closed_and_what_it_carries_is_not_run() {
    let attacks = [
        "POST / HTTP/1.1\r\nHost: localhost\r\n\r\nSET hacked 1\r\n",
        "post / HTTP/1.1\r\nSET hacked 1\r\n",
        "Host: x\r\nSET hacked 1\r\n",
        "*1\r\n$4\r\nPOST\r\n*3\r\n$3\r\nSET\r\n$6\r\nhacked\r\n$1\r\n1\r\n",
    ];
    let mut scene = Scene::new(&[]);
    for attack in attacks {
        let mut browser = Text::connect(scene.port());
        browser.send_raw(attack.as_bytes());
        assert_eq!(browser.read_to_end(), "", "{attack:?} is answered");
        scene.assert_is_nil("hacked");
        scene.assert_unharmed(attack);
    }
    let mut browser = Text::connect(scene.port());
    browser.send_raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nSET hacked 1\r\n");
    assert!(!browser.read_to_end().contains("OK"), "what follows Host: is run");
    scene.assert_is_nil("hacked");
    let warnings = scene.server.stderr().matches("HTTP").count();
    assert_eq!(warnings, attacks.len() + 1, "each is logged:\n{}", scene.server.stderr());
}
