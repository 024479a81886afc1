//! Hazard: a subscriber on a follower gets no events about keys, or gets them too early, or gets `del` for a
//! key that expired.

use crate::common::nodes::{converge, count, follower_of, info, replicaof, wait_for};
use crate::common::resp::{Resp, Value};
use crate::common::server::Server;
use crate::common::{DEADLINE, wait_until};

/// A client that listens to events about keys, and to the channel `news`.
fn listener(port: u16) -> Resp {
    let mut listener = Resp::connect(port);
    listener.call(&["PSUBSCRIBE", "__keyevent@0__:*"]);
    listener.call(&["SUBSCRIBE", "news"]);
    listener
}

/// The events that it hears, as `set key`, up to the message `end`, which the leader publishes after its writes.
fn heard(listener: &mut Resp) -> Vec<String> {
    let mut events = Vec::new();
    loop {
        let message = listener.read_reply();
        let words = message.as_array().iter().map(|word| String::from_utf8_lossy(word.as_bytes()));
        let words: Vec<_> = words.collect();
        match &words[..] {
            [_, _, channel, key] => {
                events.push(format!("{} {key}", channel.trim_start_matches("__keyevent@0__:")));
            }
            [_, _, payload] if payload == "end" => return events,
            [_, channel, payload] => events.push(format!("{channel} {payload}")),
            other => panic!("{other:?}"),
        }
    }
}

fn run(client: &mut Resp, commands: &str) {
    for command in commands.split("; ").chain(["PUBLISH news end"]) {
        let reply = client.call(&command.split(' ').collect::<Vec<_>>());
        assert!(!matches!(reply, Value::Error(_)), "{command}: {reply:?}");
    }
}

/// The leader says nothing, and each follower what it was asked for.
#[test]
fn each_effect_is_told_on_each_follower_with_its_own_setting() {
    let leader = Server::start(&[]);
    let first = follower_of(leader.port(), &[("notify-keyspace-events", "Eg")]);
    let second = follower_of(first.port(), &[("notify-keyspace-events", "KEAn")]);
    converge(leader.port(), &[first.port(), second.port()]);
    let mut listeners = [&leader, &first, &second].map(|node| listener(node.port()));
    let mut client = Resp::connect(leader.port());
    for (commands, expected) in [
        ("SET k 1", "new k, set k"),
        ("SET k 1 EX 100", "set k, expire k"),
        ("INCR k", "set k"),
        ("SET k 2 KEEPTTL", "set k"),
        ("APPEND k x", "setrange k"),
        ("EXPIRE k 200", "expire k"),
        ("GETEX k EX 300", "expire k"),
        ("PERSIST k", "persist k"),
        ("MSET a 1 b 2", "new a, set a, new b, set b"),
        ("DEL a b nothing", "del a, del b"),
        ("SETBIT k 1 1; SETBIT k 1 0; GETDEL k", "setrange k, setrange k, del k"),
        ("SET e 1 EX 100; EXPIRE e -1", "new e, set e, expire e, del e"),
        ("MULTI; SET t 1; INCR u; DEL t; EXEC", "new t, set t, new u, set u, del t"),
        ("RENAME u v; COPY v w", "new v, set v, del u, new w, set w"),
        ("FLUSHALL", ""),
        // A message comes after what was written before it. What is written later may overtake it.
        ("SET k 1; PUBLISH news one", "new k, set k, news one"),
    ] {
        run(&mut client, commands);
        let expected: Vec<&str> = expected.split(", ").filter(|event| !event.is_empty()).collect();
        let of = |names: &[&str]| {
            let is_one = |event: &&&str| names.iter().any(|name| event.starts_with(name));
            expected.iter().filter(is_one).copied().collect::<Vec<_>>()
        };
        assert_eq!(heard(&mut listeners[0]), of(&["news"]), "{commands} on the leader");
        let generic = of(&["news", "del", "expire", "persist"]);
        assert_eq!(heard(&mut listeners[1]), generic, "{commands} on the first");
        assert_eq!(heard(&mut listeners[2]), expected, "{commands} on the second");
    }
}

#[test]
fn an_expiry_is_told_from_a_deletion() {
    let leader = Server::start(&[]);
    let follower = follower_of(leader.port(), &[("notify-keyspace-events", "KEA")]);
    converge(leader.port(), &[follower.port()]);
    let mut listener = listener(follower.port());
    let mut client = Resp::connect(leader.port());
    let is_empty = || count(leader.port(), "expired_keys") > 0;
    run(&mut client, "SET swept 1 PX 1");
    assert!(wait_until(DEADLINE, is_empty), "the sweeper comes by");
    run(&mut client, "PING");
    let mut events = heard(&mut listener);
    events.extend(heard(&mut listener));
    assert_eq!(events, ["set swept", "expire swept", "expired swept"]);

    // The sweeper sleeps, and a write finds the key expired.
    run(&mut client, "DEBUG SET-ACTIVE-EXPIRE 0; SET a 1 PX 1; SET b 1 PX 1; DEBUG SLEEP 0.01");
    heard(&mut listener);
    run(&mut client, "DEL a; SET b 2; DEL b");
    assert_eq!(heard(&mut listener), ["expired a", "expired b", "set b", "del b"]);
}

/// Only the leader knows that memory was short: the log holds the deletion and not why.
#[test]
fn an_eviction_is_told_as_a_deletion() {
    let leader = Server::start(&[("maxmemory-policy", "allkeys-random")]);
    let follower = follower_of(leader.port(), &[("notify-keyspace-events", "KEA")]);
    converge(leader.port(), &[follower.port()]);
    let mut client = Resp::connect(leader.port());
    run(&mut client, "SET k 1");
    converge(leader.port(), &[follower.port()]);
    let mut listener = listener(follower.port());
    run(&mut client, "CONFIG SET maxmemory 1");
    assert!(client.call(&["SET", "other", "1"]).is_error());
    run(&mut client, "PING");
    let mut events = heard(&mut listener);
    events.extend(heard(&mut listener));
    assert_eq!(events, ["del k"]);
}

/// A copy's keys were not set while anybody listened.
#[test]
fn a_full_copy_is_no_event_and_what_comes_after_it_is() {
    let leader = Server::start(&[("repl-backlog-size", "0")]);
    let mut client = Resp::connect(leader.port());
    run(&mut client, "MSET a 1 b 2 c 3; SAVE");
    let follower = Server::start(&[("notify-keyspace-events", "KEA")]);
    let mut listener = listener(follower.port());
    replicaof(follower.port(), leader.port());
    wait_for(follower.port(), "kvstore_full_copies_received", |copies| copies == "1");
    converge(leader.port(), &[follower.port()]);
    assert_eq!(info(follower.port(), "db0"), "keys=3,expires=0,avg_ttl=0");
    run(&mut client, "SET a 2");
    assert_eq!(heard(&mut listener), ["set a"]);
    // Off and on again while it follows.
    let mut own = Resp::connect(follower.port());
    assert_eq!(own.call(&["CONFIG", "SET", "notify-keyspace-events", ""]), Value::ok());
    run(&mut client, "SET a 3");
    assert_eq!(heard(&mut listener), Vec::<String>::new());
    assert_eq!(own.call(&["CONFIG", "SET", "notify-keyspace-events", "EA"]), Value::ok());
    run(&mut client, "SET a 4");
    assert_eq!(heard(&mut listener), ["set a"]);
}
