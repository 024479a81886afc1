//! Hazard: a client that reads from a follower misses its own write; a token of a write that a failover lost is taken
//! for another write with the same number.

use crate::common::nodes::{
    assert_replicated, follower_of, info, last_record, lead, load, quick_and_slow, replicaof,
    wait_for,
};
use crate::common::proxy::Proxy;
use crate::common::resp::{Resp, Value};
use crate::common::rng::Rng;
use crate::common::server::Server;
use crate::common::{DEADLINE, long_form, note, wait_until};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;

fn token(client: &mut Resp) -> String {
    String::from_utf8_lossy(client.call(&["LASTSEQ"]).as_bytes()).into_owned()
}

/// Writes, and returns the write's token.
fn write(port: u16, key: &str) -> String {
    let mut client = Resp::connect(port);
    assert_eq!(client.call(&["SET", key, "v"]), Value::ok());
    token(&mut client)
}

fn accepts(port: u16, token: &str) {
    let reply = Resp::connect(port).call(&["WAITSEQ", token, "10000"]);
    assert_eq!(reply, Value::ok(), "token {token}, {}", info(port, "role"));
}

fn refuses(port: u16, token: &str) {
    let reply = Resp::connect(port).call(&["WAITSEQ", token, "0"]);
    let is_refusal = |text: &str| ["DIVERGED", "STALE"].iter().any(|start| text.starts_with(start));
    assert!(matches!(&reply, Value::Error(text) if is_refusal(text)), "token {token}: {reply:?}");
}

fn diverged(port: u16, token: &str) {
    let reply = Resp::connect(port).call(&["WAITSEQ", token, "0"]);
    let is_it = matches!(&reply, Value::Error(text) if text.starts_with("DIVERGED"));
    assert!(is_it, "token {token}: {reply:?}");
}

/// Writes and reads pairs, each read from a random node. Returns how many reads were stale.
fn pairs(nodes: &[u16], writer: u64, count: u64, with_token: bool) -> u64 {
    let (mut rng, mut stale) = (Rng::new(writer), 0);
    let mut clients: Vec<Resp> = nodes.iter().map(|port| Resp::connect(*port)).collect();
    for n in 0..count {
        let (key, value) = (format!("pair:{writer}:{}", n % 10), n.to_string());
        assert_eq!(clients[0].call(&["SET", &key, &value]), Value::ok());
        let reader = rng.below(nodes.len());
        if with_token {
            let token = token(&mut clients[0]);
            assert_eq!(clients[reader].call(&["WAITSEQ", &token, "30000"]), Value::ok());
        }
        stale += u64::from(clients[reader].call(&["GET", &key]) != Value::bulk(&value));
    }
    stale
}

#[test]
fn with_a_token_no_read_is_stale() {
    const WRITERS: u64 = 8;
    let all = if long_form() { 100_000 } else { 3000 };
    let leader = Server::start(&[]);
    let (_slow, followers) = quick_and_slow(&leader);
    let nodes = [leader.port(), followers[0].port(), followers[1].port()];
    let run = |count: u64, with_token| {
        let stale = AtomicU64::new(0);
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let stale = &stale;
                scope.spawn(move || {
                    stale.fetch_add(pairs(&nodes, writer, count / WRITERS, with_token), SeqCst);
                });
            }
        });
        stale.into_inner()
    };
    let (with, without) = (run(all, true), run(all / 10, false));
    note(&format!("{all} pairs with tokens: {with} stale reads; {} without: {without}", all / 10));
    assert_eq!(with, 0);
    assert!(without > 0, "the test could not have failed");
}

#[test]
fn tokens_outlive_restarts_promotions_and_compactions() {
    let settings = &[("repl-backlog-size", "0"), ("segment-size", "2kb")];
    let mut leader = Server::start(settings);
    let link = Proxy::to(leader.port(), 1);
    let mut follower = follower_of(link.port(), settings);
    let mut tokens = vec![write(leader.port(), "first")];
    let check = |leader: &Server, follower: &Server, tokens: &[String]| {
        assert_replicated(leader, &[follower]);
        for token in tokens {
            accepts(leader.port(), token);
            accepts(follower.port(), token);
        }
    };
    for signal in ["TERM", "KILL"] {
        leader.restart(signal);
        link.set_target(leader.port());
        tokens.push(write(leader.port(), signal));
        follower.restart(signal);
        check(&leader, &follower, &tokens);
    }
    for node in [&leader, &follower] {
        assert_eq!(Resp::connect(node.port()).call(&["SAVE"]), Value::ok());
    }
    check(&leader, &follower, &tokens);
    // By agreement, and back by force.
    assert_eq!(Resp::connect(follower.port()).call(&["PROMOTE"]), Value::ok());
    tokens.push(write(follower.port(), "promoted"));
    check(&follower, &leader, &tokens);
    lead(leader.port());
    replicaof(follower.port(), link.port());
    tokens.push(write(leader.port(), "forced"));
    check(&leader, &follower, &tokens);
    // A node that gets a full copy knows them too.
    let late = follower_of(leader.port(), settings);
    check(&leader, &late, &tokens);
}

#[test]
fn tokens_of_lost_writes_are_never_accepted() {
    let mut old = Server::start(&[]);
    let link = Proxy::to(old.port(), 1);
    let new = follower_of(link.port(), &[]);
    let kept = write(old.port(), "kept");
    assert_replicated(&old, &[&new]);
    link.refuse(true);
    wait_for(new.port(), "master_link_status", |status| status == "down");
    let mut lost = vec![write(old.port(), "lost")];
    // Not known to the other yet is not the same as lost.
    refuses(new.port(), &lost[0]);
    old.restart("KILL");
    lead(new.port());
    // Both are in epoch 2 now, and write the same records.
    let mut client = Resp::connect(old.port());
    let mut found = String::new();
    while last_record(new.port()) < last_record(old.port()) + 2 {
        found = write(new.port(), "new");
    }
    while last_record(old.port()) < last_record(new.port()) {
        client.call(&["SET", "lost", "too"]);
        lost.push(token(&mut client));
    }
    let number = |token: &str| token.split(':').next_back().map(str::to_owned);
    let epoch = |token: &str| token.split('.').next().map(str::to_owned);
    let last = lost.last().expect("there are some");
    assert_eq!(
        (number(last), epoch(last)),
        (number(&found), epoch(&found)),
        "they differ in the crc"
    );
    lost[1..].iter().for_each(|token| diverged(new.port(), token));
    // The old leader joins while a client of it is connected, and asks for its token only then.
    replicaof(old.port(), new.port());
    assert_replicated(&new, &[&old]);
    lost.push(token(&mut client));
    for port in [old.port(), new.port()] {
        lost.iter().for_each(|token| diverged(port, token));
        accepts(port, &kept);
        accepts(port, &found);
    }
}

/// A connection's last write was given up; then its node leads again, and another record has the number.
#[test]
fn wait_does_not_confirm_a_lost_write_by_another_record() {
    let node = Server::start(&[]);
    let mut client = Resp::connect(node.port());
    assert_eq!(client.call(&["SET", "lost", "value"]), Value::ok());
    let elsewhere = Server::start(&[]);
    load(elsewhere.port(), 1, 50);
    replicaof(node.port(), elsewhere.port());
    assert_replicated(&elsewhere, &[&node]);
    lead(node.port());
    let follower = follower_of(node.port(), &[]);
    assert_replicated(&node, &[&follower]);
    assert_eq!(client.call(&["WAIT", "1", "1000"]), Value::Int(0));
    let none = Value::Array(vec![Value::Int(0), Value::Int(0)]);
    assert_eq!(client.call(&["WAITAOF", "1", "1", "1000"]), none);
    // Nor in a transaction, where no command waits.
    client.call(&["MULTI"]);
    client.call(&["WAIT", "1", "1000"]);
    assert_eq!(client.call(&["EXEC"]), Value::Array(vec![Value::Int(0)]));
    // The next write counts as ever, also when the lead has gone over to the follower and come back.
    assert_eq!(client.call(&["SET", "new", "value"]), Value::ok());
    assert_eq!(client.call(&["WAIT", "1", "10000"]), Value::Int(1));
    for next in [&follower, &node] {
        assert_eq!(Resp::connect(next.port()).call(&["PROMOTE"]), Value::ok());
    }
    let up = || info(follower.port(), "master_link_status") == "up";
    assert!(wait_until(DEADLINE, up));
    assert_eq!(client.call(&["WAIT", "1", "10000"]), Value::Int(1));
    let both = Value::Array(vec![Value::Int(1), Value::Int(1)]);
    assert_eq!(client.call(&["WAITAOF", "1", "1", "10000"]), both);
}
