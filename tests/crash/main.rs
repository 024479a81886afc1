//! Hazard: the server is killed (`kill -9`) at any moment: under load, while it compacts, while it
//! recovers.
//!
//! Many connections write; the server is killed, started again in the same directory, and asked for
//! everything. Each acknowledged write must be there, under every policy, since the kernel has it; of
//! each connection's unanswered writes a front part; of a write to several keys all or nothing. Then the
//! load goes on from there.
//!
//! `make crash` kills more than 200 times.

#[path = "../common/mod.rs"]
mod common;
mod model;
mod worker;

use common::resp::{Resp, Value};
use common::rng::{Rng, fresh_seed};
use common::server::Server;
use common::{long_form, note, number_from_env};
use model::Model;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;
use worker::{SHARED_COUNTERS, Shared, Worker};

const CONNECTIONS: usize = 8;

struct Round<'a> {
    server: Server,
    settings: &'a [(&'a str, &'a str)],
    workers: Vec<Worker>,
    shared: Shared,
    rng: Rng,
    context: String,
}

/// Kills a server with this policy again and again.
fn crash(policy: &str, kills: u64) {
    let seed = number_from_env("KVSTORE_SEED").unwrap_or_else(fresh_seed);
    // Small, so that segments end and compactions begin all the time; slow, so that kills meet them.
    let settings = [
        ("appendfsync", policy),
        ("segment-size", "64kb"),
        ("auto-compact-min-size", "128kb"),
        ("compact-rate", "1mb"),
    ];
    let mut round = Round {
        server: Server::start(&settings),
        settings: &settings,
        workers: (0..CONNECTIONS).map(|id| Worker::new(id, seed)).collect(),
        shared: Shared::default(),
        rng: Rng::new(seed),
        context: String::new(),
    };
    let (mut recoveries_killed, mut compacting) = (0, 0);
    for kill in 1..=kills {
        round.context = format!("KVSTORE_SEED={seed}, appendfsync {policy}, kill {kill}");
        round.load_and_kill();
        let unfinished = |name: &str| name.starts_with("base-") && name.ends_with(".tmp");
        compacting += usize::from(round.files().iter().any(|name| unfinished(name)));
        recoveries_killed += round.restart();
        round.check();
    }
    note(&format!(
        "appendfsync {policy}: {kills} kills under load, {compacting} of them while compacting, and \
         {recoveries_killed} while recovering; {} acknowledged writes checked, 0 lost \
         (KVSTORE_SEED={seed})",
        round.shared.acked_writes.load(SeqCst)
    ));
}

impl Round<'_> {
    fn load_and_kill(&mut self) {
        let load = Duration::from_millis(self.rng.between(10, 250) as u64);
        let Round { server, workers, shared, .. } = self;
        let (port, shared) = (server.port(), &*shared);
        thread::scope(|scope| {
            for worker in workers {
                scope.spawn(move || worker.run(port, shared));
            }
            // The moment of the kill is the one thing here that is left to chance.
            thread::sleep(load);
            server.kill();
        });
        let wrong = self.shared.wrong.lock().expect("no worker panics with it");
        assert!(wrong.is_empty(), "{}: wrong before the kill: {wrong:#?}", self.context);
    }

    fn files(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.server.dir().join("data")).expect("it is there");
        files.flatten().filter_map(|file| file.file_name().into_string().ok()).collect()
    }

    /// Starts the server again, now and then after some starts that do not end well either.
    fn restart(&mut self) -> usize {
        let dir = self.server.shared_dir();
        let attempts = if self.rng.chance(40) { self.rng.between(1, 3) } else { 0 };
        for _ in 0..attempts {
            let mut server = Server::spawn_in(&dir, self.settings);
            thread::sleep(Duration::from_micros(self.rng.between(0, 30_000) as u64));
            server.kill();
        }
        self.server = Server::start_in(&dir, self.settings);
        attempts as usize
    }

    /// Compares what is there with what was acknowledged; what is there is then what counts.
    fn check(&mut self) {
        let mut client = Resp::connect(self.server.port());
        let flushed = self.flush_happened(&mut client);
        for worker in &mut self.workers {
            worker.settle(&self.shared, flushed);
            let actual = read_back(&mut client, &worker.model);
            let mut model = worker.model.clone();
            let mut happened = worker.pending.drain(..);
            while model != actual {
                let Some(op) = happened.next() else {
                    panic!("{}: {}", self.context, difference(&worker.model, &actual));
                };
                model.apply(&op);
            }
            drop(happened);
            worker.model = actual;
        }
        self.check_shared(&mut client);
    }

    /// A FLUSHALL without an answer happened or not; the answer is the same for everything.
    fn flush_happened(&mut self, client: &mut Resp) -> bool {
        let flush = self.shared.flush.get_mut().expect("no worker panics with it");
        if !std::mem::take(&mut flush.unknown) {
            return false;
        }
        let happened = client.call(&["DBSIZE"]) == Value::Int(0);
        if happened {
            flush.count += 1;
            self.shared.acked.iter().for_each(|acked| acked.store(0, SeqCst));
        }
        happened
    }

    fn check_shared(&self, client: &mut Resp) {
        for counter in 0..SHARED_COUNTERS {
            let value = client.call(&["GET", &format!("shared:{counter}")]);
            let value = if value == Value::Null { 0 } else { number(&value) };
            let acked = self.shared.acked[counter].swap(value, SeqCst);
            let unknown = self.shared.unknown[counter].swap(0, SeqCst);
            assert!(
                (acked..=acked + unknown).contains(&value),
                "{}: shared:{counter} is {value}; {acked} INCRs were acknowledged, {unknown} not answered",
                self.context
            );
        }
        let all = client.call(&["MGET", "all:a", "all:b", "all:c"]);
        let all = all.as_array();
        assert!(all.iter().all(|one| *one == all[0]), "{}: in part: {all:?}", self.context);
    }
}

fn number(value: &Value) -> u64 {
    String::from_utf8_lossy(value.as_bytes()).parse().expect("a counter")
}

/// The present values of a connection's keys.
fn read_back(client: &mut Resp, like: &Model) -> Model {
    let (mut actual, mut bytes, keys) = (like.clone(), Vec::new(), like.keys());
    actual.held.clear();
    for key in &keys {
        common::resp::encode(&["GET", key], &mut bytes);
        common::resp::encode(&["TTL", key], &mut bytes);
    }
    client.send_raw(&bytes);
    for key in keys {
        let (value, ttl) = (client.read_reply(), client.read_reply().as_int());
        if value != Value::Null {
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            actual.held.insert(key, (text, ttl >= 0));
        }
    }
    actual
}

fn difference(acknowledged: &Model, actual: &Model) -> String {
    let mut lines = vec!["acknowledged writes are lost, or others are there in part:".to_owned()];
    for key in acknowledged.keys() {
        let (expected, found) = (acknowledged.held.get(&key), actual.held.get(&key));
        if expected != found {
            lines.push(format!("{key}: acknowledged {expected:?}, there {found:?}"));
        }
    }
    lines.join("\n")
}

#[test]
fn kill_under_load_always() {
    crash("always", if long_form() { 70 } else { 7 });
}

#[test]
fn kill_under_load_everysec() {
    crash("everysec", if long_form() { 70 } else { 7 });
}

#[test]
fn kill_under_load_no() {
    crash("no", if long_form() { 70 } else { 6 });
}
