//! The hazards of publishers that send for each other: a message overtakes another one of its publisher, is
//! lost, or comes after a reply that it should come before.

mod common;

use common::resp::{Resp, Value, encode};
use common::server::Server;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

/// Those with the same subscribers may have different lanes.
const CHANNELS: [&str; 4] = ["ch:a", "ch:b", "ch:c", "ch:d"];
const PUBLISHERS: usize = 6;
/// More than may be left with another publisher at once.
const LARGE_BYTES: usize = 300 << 10;

/// Publishes numbers to all channels in turn, in batches of different lengths.
fn publish(port: u16, name: usize, messages: usize, receivers: i64) {
    let mut publisher = Resp::connect(port);
    let mut next = 0;
    for batch_len in [1, 1, 2, 7, 40].into_iter().cycle() {
        let batch = next..messages.min(next + batch_len);
        let mut bytes = vec![];
        for number in batch.clone() {
            let padding = " ".repeat(if number % 200 == 199 { LARGE_BYTES } else { 0 });
            let payload = format!("{name} {number} {padding}");
            encode(&["PUBLISH", CHANNELS[number % CHANNELS.len()], &payload], &mut bytes);
        }
        publisher.send_raw(&bytes);
        batch.for_each(|_| assert_eq!(publisher.read_reply().as_int(), receivers));
        next += batch_len;
        if next >= messages {
            return;
        }
    }
}

/// Reads all messages of all publishers; those of each come in order, and to the channel they were sent to.
fn read_all(client: &mut Resp, messages: usize) {
    let mut next = [0; PUBLISHERS];
    while next != [messages; PUBLISHERS] {
        let message = client.read_reply();
        let [.., channel, payload] = message.as_array() else { panic!("{message:?}") };
        let text = String::from_utf8_lossy(payload.as_bytes()).into_owned();
        let mut words = text.split(' ').map_while(|word| word.parse::<usize>().ok());
        let name = words.next().expect("its publisher");
        let number = words.next().expect("its number");
        assert_eq!(number, next[name], "of {name}");
        assert_eq!(*channel, Value::bulk(CHANNELS[number % CHANNELS.len()]));
        next[name] += 1;
    }
}

fn subscribe(port: u16, verb: &str, names: &[&str]) -> Resp {
    let mut client = Resp::connect(port);
    client.send(&[&[verb], names].concat());
    names.iter().for_each(|_| drop(client.read_reply()));
    client
}

#[test]
fn what_each_publishes_arrives_in_its_order_on_all_channels() {
    const MESSAGES: usize = 2_000;
    let server = Server::start(&[]);
    let port = server.port();
    let mut subscribers: Vec<Resp> =
        (0..3).map(|_| subscribe(port, "SUBSCRIBE", &CHANNELS)).collect();
    subscribers.push(subscribe(port, "PSUBSCRIBE", &["ch:*"]));
    let receivers = subscribers.len() as i64;
    thread::scope(|scope| {
        (0..PUBLISHERS)
            .for_each(|name| drop(scope.spawn(move || publish(port, name, MESSAGES, receivers))));
        for client in &mut subscribers {
            scope.spawn(|| read_all(client, MESSAGES));
        }
    });
    let info = Resp::connect(port).call(&["INFO", "stats"]);
    let delivered = format!("kvstore_messages_delivered:{}\r", 4 * PUBLISHERS * MESSAGES);
    let info = String::from_utf8_lossy(info.as_bytes()).into_owned();
    assert!(info.contains(&delivered), "not {delivered} in\n{info}");
}

/// Publishes to the same channel, so that messages of others are left with this client's thread.
fn chatter(port: u16, is_over: &AtomicBool) {
    let mut publisher = Resp::connect(port);
    let mut bytes = vec![];
    (0..8).for_each(|_| encode(&["PUBLISH", "ch", "noise"], &mut bytes));
    while !is_over.load(Relaxed) {
        publisher.send_raw(&bytes);
        (0..8).for_each(|_| assert!(!publisher.read_reply().is_error()));
    }
}

/// Ends the chatter, also when a test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn among_chatter(run: impl FnOnce(u16)) {
    let server = Server::start(&[]);
    let (port, is_over) = (server.port(), AtomicBool::new(false));
    thread::scope(|scope| {
        (0..4).for_each(|_| drop(scope.spawn(|| chatter(port, &is_over))));
        let _ends = Ends(&is_over);
        run(port);
    });
}

/// Reads up to this reply; returns how often the payload came before it.
fn count_before(client: &mut Resp, reply: impl Fn(&Value) -> bool, payload: &str) -> usize {
    let message = |value: &Value| match value {
        Value::Array(items) | Value::Push(items) => items.get(2) == Some(&Value::bulk(payload)),
        _ => false,
    };
    let mut count = 0;
    loop {
        let next = client.read_reply();
        if reply(&next) {
            return count;
        }
        count += usize::from(message(&next));
    }
}

#[test]
fn a_subscribers_own_message_comes_before_the_reply_to_its_publish() {
    const ROUNDS: usize = 500;
    among_chatter(|port| {
        let mut client = Resp::connect(port);
        client.call(&["HELLO", "3"]);
        client.call(&["SUBSCRIBE", "ch"]);
        for round in 0..ROUNDS {
            let payload = round.to_string();
            client.send(&["PUBLISH", "ch", &payload]);
            let is_reply = |value: &Value| *value == Value::Int(1);
            assert_eq!(count_before(&mut client, is_reply, &payload), 1, "round {round}");
        }
    });
}

/// As in Redis, where a message is in the subscriber's output when its publisher is answered.
#[test]
fn a_message_whose_publisher_was_answered_comes_before_the_subscribers_next_reply() {
    const ROUNDS: usize = 300;
    among_chatter(|port| {
        let (mut client, mut publisher) = (Resp::connect(port), Resp::connect(port));
        for round in 0..ROUNDS {
            client.call(&["SUBSCRIBE", "ch"]);
            let payloads = [format!("{round} ping"), format!("{round} unsubscribe")];
            assert_eq!(publisher.call(&["PUBLISH", "ch", &payloads[0]]), Value::Int(1));
            client.send(&["PING"]);
            let pong = Value::Array(vec![Value::bulk("pong"), Value::bulk("")]);
            assert_eq!(count_before(&mut client, |value| *value == pong, &payloads[0]), 1);
            assert_eq!(publisher.call(&["PUBLISH", "ch", &payloads[1]]), Value::Int(1));
            client.send(&["UNSUBSCRIBE", "ch"]);
            let gone = [Value::bulk("unsubscribe"), Value::bulk("ch"), Value::Int(0)];
            let gone = Value::Array(gone.to_vec());
            assert_eq!(count_before(&mut client, |value| *value == gone, &payloads[1]), 1);
        }
    });
}
