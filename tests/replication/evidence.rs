//! Hazard: a follower gives up what it has for a history that was never shown to contain it.
//!
//! A leader may have lost its disk; the node that leads next may have lagged. No matter which node wrote a
//! record once, it is replaced only when the new history is proven to hold it, and kept in `diverged/`
//! otherwise. A follower all of whose records are proven keeps nothing aside.

use crate::common::history::{State, apply, recover};
use crate::common::nodes::{
    assert_replicated, count, follower_of, info, last_record, lead, replicaof, wait_for,
};
use crate::common::proxy::Proxy;
use crate::common::resp::{Resp, Value};
use crate::common::rng::{Rng, fresh_seed};
use crate::common::server::{Server, lasting_port};
use crate::common::{DEADLINE, long_form, note, number_from_env, wait_until};
use kvstore::aof::record::Header;
use kvstore::store::effect;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const KEEPS_NOTHING: &[(&str, &str)] = &[("repl-backlog-size", "0"), ("segment-size", "4kb")];

fn write(port: u16, name: &str, keys: usize) {
    let mut client = Resp::connect(port);
    for n in 0..keys {
        assert_eq!(client.call(&["SET", &format!("{name}:{n}"), name]), Value::ok());
    }
}

fn save(port: u16) {
    assert_eq!(Resp::connect(port).call(&["SAVE"]), Value::ok());
}

fn diverged(server: &Server) -> Vec<PathBuf> {
    let entries = fs::read_dir(server.dir().join("data/diverged")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The state that all that was kept aside leads to.
fn kept(server: &Server) -> State {
    let mut state = State::new();
    for path in diverged(server) {
        if path.is_dir() {
            state.extend(recover(&path).expect("a log as any other").1);
            continue;
        }
        let bytes = fs::read(&path).expect("a file in diverged/");
        let mut rest = &bytes[..];
        while let Some((header, len)) = Header::parse(rest) {
            let (payload, next) = rest[len..].split_at(header.len as usize);
            effect::decode(payload, |effect| apply(&mut state, effect)).expect("intact records");
            rest = next;
        }
    }
    state
}

/// Fails unless these keys were kept aside, and said and counted.
fn assert_kept(server: &Server, name: &str, keys: usize) {
    let state = kept(server);
    for n in 0..keys {
        let key = format!("{name}:{n}");
        assert!(state.contains_key(key.as_bytes()), "{key} is lost: {:?}", diverged(server));
    }
    assert!(count(server.port(), "kvstore_diverged_records") >= keys as u64);
    assert_ne!(info(server.port(), "kvstore_diverged_file"), "");
    let log = server.stderr();
    assert!(log.lines().any(|line| line.contains("WARN") && line.contains("diverged/")), "{log}");
}

fn assert_nothing_kept(server: &Server) {
    assert_eq!(diverged(server), Vec::<PathBuf>::new(), "{}", server.stderr());
    assert_eq!(count(server.port(), "kvstore_diverged_records"), 0);
}

/// Removes what is in a data directory, but for these names.
fn empty(data: &Path, except: &[&str]) {
    for entry in fs::read_dir(data).expect("a data directory").flatten() {
        if except.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        let path = entry.path();
        let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        removed.expect("something in the data directory");
    }
}

/// A leader on a port that it comes back on, a follower, and the follower's follower.
fn chain(settings: &[(&str, &str)]) -> (Server, Server, Server, String) {
    let port = lasting_port().to_string();
    let leader = Server::start(&[settings, &[("port", port.as_str())]].concat());
    let follower = follower_of(leader.port(), settings);
    let second = follower_of(follower.port(), settings);
    write(leader.port(), "k", 100);
    assert_replicated(&leader, &[&follower, &second]);
    (leader, follower, second, port)
}

fn says(server: &Server, words: &[&str]) {
    let is_said = || {
        let log = server.stderr();
        let said = |line: &str| line.contains("WARN") && words.iter().all(|w| line.contains(w));
        log.lines().any(said)
    };
    assert!(wait_until(DEADLINE, is_said), "{words:?} is not in:\n{}", server.stderr());
}

/// The leader's disk is lost, whole or but for the file with its name, and it starts again on its port.
#[test]
fn a_leader_that_lost_its_log_takes_nothing_from_its_followers() {
    for except in [&[][..], &["node"]] {
        for compacted in [false, true] {
            let settings = if compacted { KEEPS_NOTHING } else { &[] };
            let (mut leader, follower, second, port) = chain(settings);
            if compacted {
                save(follower.port());
                save(second.port());
            }
            let last = last_record(follower.port());
            leader.kill();
            empty(&leader.dir().join("data"), except);
            let settings = [settings, &[("port", port.as_str())]].concat();
            let leader = Server::start_in(&leader.shared_dir(), &settings);
            assert_replicated(&leader, &[&follower, &second]);
            for node in [&follower, &second] {
                assert_kept(node, "k", 100);
                assert_eq!(Resp::connect(node.port()).call(&["DBSIZE"]), Value::Int(0));
            }
            assert_eq!(count(follower.port(), "kvstore_diverged_records"), 100);
            let (end, last) = (format!("record {}", last_record(leader.port())), last.to_string());
            says(&follower, &[&end, &last]);
            says(&leader, &[&end, &last]);
        }
    }
}

/// Writes that WAIT has confirmed, and only a third node holds, outlive a leader that never had them: through
/// its own link, through another node's, and after compactions on either side.
#[test]
fn what_only_a_third_node_holds_is_kept() {
    for (compacted, through_another) in [(false, false), (false, true), (true, false), (true, true)]
    {
        let mut old = Server::start(KEEPS_NOTHING);
        let link = Proxy::to(old.port(), 1);
        let first = follower_of(link.port(), KEEPS_NOTHING);
        let second = follower_of(old.port(), KEEPS_NOTHING);
        write(old.port(), "common", 20);
        assert_replicated(&old, &[&first, &second]);
        link.refuse(true);
        let mut client = Resp::connect(old.port());
        for n in 0..30 {
            assert_eq!(client.call(&["SET", &format!("k:{n}"), "v"]), Value::ok());
            assert_eq!(client.call(&["WAIT", "1", "10000"]), Value::Int(1));
        }
        if compacted {
            save(second.port());
        }
        old.kill();
        let dir = second.shared_dir();
        second.stop();
        lead(first.port());
        write(first.port(), "new", 5);
        save(first.port());
        let between = through_another.then(|| {
            let between = follower_of(first.port(), KEEPS_NOTHING);
            assert_replicated(&first, &[&between]);
            between
        });
        let leader = format!("127.0.0.1 {}", between.as_ref().unwrap_or(&first).port());
        let settings = [KEEPS_NOTHING, &[("replicaof", leader.as_str())]].concat();
        let second = Server::start_in(&dir, &settings);
        assert_replicated(&first, &[&second]);
        assert_kept(&second, "k", 30);
        assert_eq!(Resp::connect(second.port()).call(&["GET", "k:0"]), Value::Null);
    }
}

/// A full copy for a follower that was merely away: the copy itself proves that all is in it.
#[test]
fn a_follower_that_was_away_for_too_long_keeps_nothing_aside() {
    for restarts in [false, true] {
        let mut leader = Server::start(KEEPS_NOTHING);
        let mut follower = follower_of(leader.port(), KEEPS_NOTHING);
        write(leader.port(), "k", 100);
        assert_replicated(&leader, &[&follower]);
        save(follower.port());
        let dir = follower.shared_dir();
        follower.kill();
        if restarts {
            // The follower's last record is the last one of its epoch.
            leader.restart("KILL");
        }
        write(leader.port(), "more", 100);
        save(leader.port());
        let address = format!("127.0.0.1 {}", leader.port());
        let settings = [KEEPS_NOTHING, &[("replicaof", address.as_str())]].concat();
        follower = Server::start_in(&dir, &settings);
        assert_replicated(&leader, &[&follower]);
        assert_eq!(count(follower.port(), "kvstore_full_copies_received"), 1);
        assert_nothing_kept(&follower);
        // Nor one whose log can only be told from the base's list.
        leader.kill();
    }
}

/// The node has led and handed over: its last records are its own, and in its follower's history.
#[test]
fn a_leader_that_handed_over_and_was_away_keeps_nothing_aside() {
    let mut old = Server::start(KEEPS_NOTHING);
    let new = follower_of(old.port(), KEEPS_NOTHING);
    write(old.port(), "k", 50);
    assert_replicated(&old, &[&new]);
    let dir = old.shared_dir();
    old.kill();
    lead(new.port());
    write(new.port(), "more", 50);
    save(new.port());
    let leader = format!("127.0.0.1 {}", new.port());
    old = Server::start_in(&dir, &[KEEPS_NOTHING, &[("replicaof", leader.as_str())]].concat());
    assert_replicated(&new, &[&old]);
    assert_eq!(count(old.port(), "kvstore_full_copies_received"), 1);
    assert_nothing_kept(&old);
}

/// The follower of a leader that lost its disk is killed again and again while it keeps its records aside.
#[test]
fn killed_while_it_keeps_its_records_aside() {
    let seed = number_from_env("KVSTORE_SEED").unwrap_or_else(fresh_seed);
    let (mut rng, rounds) = (Rng::new(seed), if long_form() { 20 } else { 2 });
    for round in 0..rounds {
        let settings = if round % 2 == 0 { KEEPS_NOTHING } else { &[("segment-size", "16kb")] };
        let mut leader = Server::start(settings);
        let mut follower = follower_of(leader.port(), settings);
        write(leader.port(), "k", 300);
        assert_replicated(&leader, &[&follower]);
        if round % 2 == 0 {
            save(follower.port());
        }
        let dir = follower.shared_dir();
        follower.kill();
        leader.kill();
        let leader = Server::start(settings);
        write(leader.port(), "new", 10);
        let address = format!("127.0.0.1 {}", leader.port());
        let settings = [settings, &[("replicaof", address.as_str())]].concat();
        for _ in 0..rng.between(3, 8) {
            let mut server = Server::spawn_in(&dir, &settings);
            let began = wait_until(DEADLINE, || !server.stdout().is_empty());
            assert!(began && server.is_alive(), "KVSTORE_SEED={seed}: {}", server.stderr());
            std::thread::sleep(Duration::from_micros(rng.between(0, 20_000) as u64));
            server.kill();
        }
        let follower = Server::start_in(&dir, &settings);
        assert_replicated(&leader, &[&follower]);
        let state = kept(&follower);
        let lost = (0..300).find(|n| !state.contains_key(format!("k:{n}").as_bytes()));
        assert_eq!(lost, None, "KVSTORE_SEED={seed}, round {round}: {:?}", diverged(&follower));
    }
    note(&format!("{rounds} rounds of kills while keeping records aside (KVSTORE_SEED={seed})"));
}

/// A node that lags says so with both numbers, and the link waits.
#[test]
fn a_follower_that_is_behind_its_own_follower_says_so() {
    let top = Server::start(&[]);
    let link = Proxy::to(top.port(), 1);
    let middle = follower_of(link.port(), &[]);
    let bottom = follower_of(top.port(), &[]);
    write(top.port(), "k", 10);
    assert_replicated(&top, &[&middle, &bottom]);
    link.refuse(true);
    wait_for(middle.port(), "master_link_status", |status| status == "down");
    write(top.port(), "more", 10);
    assert_replicated(&top, &[&bottom]);
    let (end, last) = (last_record(middle.port()), last_record(bottom.port()));
    replicaof(bottom.port(), middle.port());
    let (end, last) = (format!("record {end}"), last.to_string());
    says(&bottom, &[&end, &last]);
    says(&middle, &[&end, &last]);
    link.heal();
    assert_replicated(&top, &[&middle, &bottom]);
    assert_nothing_kept(&bottom);
}
