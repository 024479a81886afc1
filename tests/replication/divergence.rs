//! Hazard: a leader dies with writes that no other node has, another node leads on, and the old one comes back.
//!
//! The writes that only it had belong to another history: they are saved under `diverged/`, counted, and
//! given up. The node joins without a full copy, as long as it still knows its own past. No write is lost
//! silently, at whichever point of this the machine dies.

use crate::common::history::recover;
use crate::common::nodes::{
    assert_replicated, count, follower_of, info, last_record, lead, load, replicaof, wait_for,
};
use crate::common::proxy::Proxy;
use crate::common::resp::{Resp, Value};
use crate::common::rng::{Rng, fresh_seed};
use crate::common::server::Server;
use crate::common::{long_form, note, number_from_env, wait_until};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const KEEPS_NOTHING: &[(&str, &str)] = &[("repl-backlog-size", "0"), ("segment-size", "4kb")];

/// A leader, a follower, and the link between them.
struct Pair {
    leader: Server,
    follower: Server,
    link: Proxy,
    settings: &'static [(&'static str, &'static str)],
}

impl Pair {
    fn start(settings: &'static [(&'static str, &'static str)]) -> Pair {
        let leader = Server::start(settings);
        let link = Proxy::to(leader.port(), 1);
        let follower = follower_of(link.port(), settings);
        // Nothing that expires: what is counted here must not depend on the sweeper.
        write(leader.port(), "common", 30);
        assert_replicated(&leader, &[&follower]);
        Pair { leader, follower, link, settings }
    }

    /// The leader writes `writes` keys that the follower never hears of, and dies; the follower leads. Returns
    /// the dead one's directory.
    fn part(
        &mut self,
        writes: usize,
        before_it_dies: impl FnOnce(&Server),
    ) -> Arc<tempfile::TempDir> {
        self.link.refuse(true);
        wait_for(self.follower.port(), "master_link_status", |status| status == "down");
        write(self.leader.port(), "lost", writes);
        before_it_dies(&self.leader);
        self.leader.kill();
        lead(self.follower.port());
        write(self.follower.port(), "new", 3);
        self.leader.shared_dir()
    }

    /// The dead one comes back as a follower of the one that leads now.
    fn rejoin(&mut self) {
        let dir = self.leader.shared_dir();
        let leader = format!("127.0.0.1 {}", self.follower.port());
        let settings = [self.settings, &[("replicaof", leader.as_str())]].concat();
        self.leader = Server::start_in(&dir, &settings);
        assert_replicated(&self.follower, &[&self.leader]);
    }
}

fn write(port: u16, name: &str, keys: usize) {
    let mut client = Resp::connect(port);
    for n in 0..keys {
        assert_eq!(client.call(&["SET", &format!("{name}:{n}"), name]), Value::ok());
    }
}

fn diverged(server: &Server) -> Vec<PathBuf> {
    let dir = server.dir().join("data/diverged");
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// The output of `kvstore log` for a file.
fn shown(path: &Path) -> String {
    let output = Server::command().arg("log").arg(path).output().expect("kvstore log runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn assert_no_copy(server: &Server) {
    assert_eq!(info(server.port(), "kvstore_full_copies_received"), "0");
}

#[test]
fn lost_writes_are_kept_aside_and_the_node_joins_without_a_copy() {
    let mut pair = Pair::start(&[("segment-size", "4kb")]);
    pair.part(50, |_| ());
    pair.rejoin();
    assert_no_copy(&pair.leader);
    assert_eq!(info(pair.leader.port(), "kvstore_diverged_records"), "50");
    let files = diverged(&pair.leader);
    assert_eq!(files.len(), 1, "{files:?}");
    let text = shown(&files[0]);
    assert!((0..50).all(|n| text.contains(&format!("lost:{n}"))), "{text}");
    assert!(!text.contains("new:"), "{text}");
    assert!(info(pair.leader.port(), "kvstore_diverged_file").ends_with(".aof"));
    let log = pair.leader.stderr();
    assert!(log.contains("50 writes that only this node had") && log.contains("lost:0"), "{log}");
    // Removed records are gone for readers too.
    assert_eq!(Resp::connect(pair.leader.port()).call(&["GET", "lost:1"]), Value::Null);
}

#[test]
fn generation_after_generation() {
    let mut pair = Pair::start(&[]);
    for generation in 1..=5 {
        pair.part(generation, |_| ());
        pair.rejoin();
        assert_no_copy(&pair.leader);
        assert_eq!(count(pair.leader.port(), "kvstore_diverged_records"), generation as u64);
        // The one that joined is to lead next: the link is the other way round.
        let Pair { leader, follower, link, settings } = pair;
        link.heal();
        link.set_target(follower.port());
        replicaof(leader.port(), link.port());
        write(follower.port(), "more", 5);
        assert_replicated(&follower, &[&leader]);
        pair = Pair { leader: follower, follower: leader, link, settings };
    }
}

/// Both nodes count on to the same epoch, and to the same record in it. Only the crcs tell them apart.
#[test]
fn two_leaders_of_one_epoch() {
    let mut pair = Pair::start(&[]);
    pair.link.refuse(true);
    pair.leader.restart("KILL");
    pair.part(4, |_| ());
    let epochs = |server: &Server| info(server.port(), "master_replid")[..16].to_owned();
    let mut client = Resp::connect(pair.follower.port());
    client.call(&["SET", "new:3", "new"]);
    let new = (epochs(&pair.follower), last_record(pair.follower.port()));
    let dir = pair.leader.shared_dir();
    let (recovered, _) = recover(&dir.path().join("data")).expect("an intact log");
    let old = (format!("{:016x}", recovered.end.last.epoch.0), recovered.end.last.seq.0);
    assert_eq!(old, new, "both are of one epoch, and as long");
    pair.rejoin();
    assert_no_copy(&pair.leader);
    assert_eq!(info(pair.leader.port(), "kvstore_diverged_records"), "4");
}

/// The base was made at the very record that is the last common one, and nothing older is kept.
#[test]
fn a_base_at_the_parting_of_the_ways() {
    let mut pair = Pair::start(KEEPS_NOTHING);
    pair.link.refuse(true);
    assert_eq!(Resp::connect(pair.leader.port()).call(&["SAVE"]), Value::ok());
    pair.part(10, |_| ());
    pair.rejoin();
    assert_no_copy(&pair.leader);
    assert_eq!(info(pair.leader.port(), "kvstore_diverged_records"), "10");
    pair.leader.restart("KILL");
    assert_replicated(&pair.follower, &[&pair.leader]);
}

/// The old leader has forgotten its past: it needs a full copy, and all that it has is kept aside.
#[test]
fn a_node_that_compacted_beyond_the_parting_keeps_all_of_it_aside() {
    compacted_beyond_the_parting(KEEPS_NOTHING);
}

/// It still has the old records, but no base that leads back to them: knowing where the histories part is of no
/// use to it.
#[test]
fn a_node_that_compacted_beyond_the_parting_and_keeps_old_records() {
    compacted_beyond_the_parting(&[]);
}

fn compacted_beyond_the_parting(settings: &'static [(&'static str, &'static str)]) {
    let mut pair = Pair::start(settings);
    // So that it has led more often than the next leader knows of: where they part is asked for in two rounds.
    pair.link.refuse(true);
    pair.leader.restart("TERM");
    pair.leader.restart("TERM");
    pair.part(10, |leader| {
        assert_eq!(Resp::connect(leader.port()).call(&["SAVE"]), Value::ok());
        write(leader.port(), "later", 2);
    });
    pair.rejoin();
    assert_eq!(info(pair.leader.port(), "kvstore_full_copies_received"), "1");
    let aside = diverged(&pair.leader);
    assert_eq!(aside.len(), 1, "{aside:?}");
    let (_, state) = recover(&aside[0]).expect("a log as any other");
    for key in ["lost:0", "lost:9", "later:1"] {
        assert!(state.contains_key(key.as_bytes()), "{key} is not in {}", aside[0].display());
    }
}

/// Not only those who led have something to lose: a follower may be the last to hold what was written.
#[test]
fn a_follower_that_knew_more_than_the_next_leader() {
    for settings in [&[][..], KEEPS_NOTHING] {
        let mut pair = Pair::start(settings);
        let mut witness = follower_of(pair.leader.port(), settings);
        let leader = &pair.leader;
        assert_replicated(leader, &[&pair.follower, &witness]);
        pair.part(10, |leader| {
            assert_replicated(leader, &[&witness]);
            if settings == KEEPS_NOTHING {
                assert_eq!(Resp::connect(witness.port()).call(&["SAVE"]), Value::ok());
                write(leader.port(), "later", 1);
                assert_replicated(leader, &[&witness]);
            }
        });
        replicaof(witness.port(), pair.follower.port());
        assert_replicated(&pair.follower, &[&witness]);
        let aside = diverged(&witness);
        assert_eq!(aside.len(), 1, "{aside:?}");
        if settings == KEEPS_NOTHING {
            let (_, state) = recover(&aside[0]).expect("a log as any other");
            assert!(state.contains_key(&b"lost:0"[..]));
        } else {
            assert_no_copy(&witness);
            assert!(shown(&aside[0]).contains("lost:9"));
        }
        witness.restart("TERM");
    }
}

/// The end of a chain has records that the leader never had, and only a follower to ask about them. That
/// follower must not judge before it knows what its own leader has; but then it must.
#[test]
fn the_end_of_a_chain_knows_more_than_the_leader() {
    let leader = Server::start(&[]);
    let middle = follower_of(leader.port(), &[]);
    let end = follower_of(middle.port(), &[]);
    write(leader.port(), "common", 5);
    assert_replicated(&leader, &[&middle, &end]);
    lead(end.port());
    write(end.port(), "lost", 3);
    replicaof(end.port(), middle.port());
    assert_replicated(&leader, &[&middle, &end]);
    assert_no_copy(&end);
    let aside = diverged(&end);
    assert!(aside.len() == 1 && shown(&aside[0]).contains("lost:2"), "{aside:?}");
}

/// The old leader is killed again and again while it gives up its writes, or while it takes over a copy.
#[test]
fn killed_in_the_middle_of_giving_up() {
    let seed = number_from_env("KVSTORE_SEED").unwrap_or_else(fresh_seed);
    let mut rng = Rng::new(seed);
    let (rounds, mut kills) = (if long_form() { 25 } else { 4 }, 0);
    for round in 0..rounds {
        let needs_copy = round % 2 == 1;
        let mut pair =
            Pair::start(if needs_copy { KEEPS_NOTHING } else { &[("segment-size", "16kb")] });
        load(pair.leader.port(), seed + round, 100);
        let dir = pair.part(30, |leader| {
            if needs_copy {
                assert_eq!(Resp::connect(leader.port()).call(&["SAVE"]), Value::ok());
            }
        });
        load(pair.follower.port(), seed + round, 100);
        let leader = format!("127.0.0.1 {}", pair.follower.port());
        let settings = [pair.settings, &[("replicaof", leader.as_str())]].concat();
        for _ in 0..rng.between(3, 10) {
            let mut server = Server::spawn_in(&dir, &settings);
            // The moment of the kill is left to chance, mostly about when the link comes up.
            let reads_log = || !server.stdout().is_empty();
            let began = wait_until(Duration::from_secs(5), reads_log);
            assert!(began || server.is_alive(), "KVSTORE_SEED={seed}: {}", server.stderr());
            thread::sleep(Duration::from_micros(rng.between(0, 20_000) as u64));
            server.kill();
            kills += 1;
        }
        pair.rejoin();
        let kept: usize = diverged(&pair.leader).iter().filter(|path| keeps_lost(path)).count();
        assert!(kept >= 1, "KVSTORE_SEED={seed}, round {round}: {:?}", diverged(&pair.leader));
    }
    note(&format!(
        "{kills} kills while giving up a history; always started again (KVSTORE_SEED={seed})"
    ));
}

/// True if all the lost keys are in what was kept.
fn keeps_lost(path: &Path) -> bool {
    let is_lost = |n| format!("lost:{n}");
    if path.is_dir() {
        return recover(path)
            .is_ok_and(|(_, state)| (0..30).all(|n| state.contains_key(is_lost(n).as_bytes())));
    }
    path.extension().is_some_and(|end| end == "aof") && {
        let text = shown(path);
        (0..30).all(|n| text.contains(&is_lost(n)))
    }
}
