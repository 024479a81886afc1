//! The hazard: the log "can be loaded by stock Redis", until somebody has to.
//!
//! A hundred thousand random keys go one way and the other; both servers must then have the same keys,
//! values and expiry times. Redis also runs with `aof-load-truncated no`, so that it takes no file that it
//! finds anything wrong with.

mod common;

use common::history::{log_members, members};
use common::resp::{Resp, Value};
use common::rng::{Rng, fresh_seed};
use common::server::{RedisServer, Server};
use common::{DEADLINE, note, number_from_env, wait_until};
use kvstore::aof::files;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

const KEYS: usize = 100_000;
/// Commands sent before their replies are read.
const BATCH: usize = 500;

/// The keys of a server: value and expiry time (-1: none) of each key.
type State = BTreeMap<Vec<u8>, (Vec<u8>, i64)>;

type Words = Vec<Vec<u8>>;

/// Keys and values of any bytes, some empty, some long; deadlines far off and some just ahead, which
/// pass meanwhile.
struct Load {
    rng: Rng,
    now: u64,
}

impl Load {
    fn new() -> Load {
        let seed = number_from_env("KVSTORE_SEED").unwrap_or_else(fresh_seed);
        note(&format!("KVSTORE_SEED={seed}"));
        Load { rng: Rng::new(seed), now: kvstore::clock::UnixMillis::now().0 }
    }

    fn value(&mut self) -> Vec<u8> {
        let len = match self.rng.below(100) {
            0..10 => 0,
            99 => self.rng.below(20_000),
            _ => self.rng.below(100),
        };
        self.rng.bytes(len)
    }

    fn deadline(&mut self) -> Vec<u8> {
        let ahead = if self.rng.chance(5) { 50 } else { 100_000_000 + self.rng.below(1 << 40) };
        (self.now + ahead as u64).to_string().into_bytes()
    }

    /// The first write of the key with this number.
    fn set(&mut self, number: usize) -> Words {
        let len = self.rng.below(20);
        let key = [self.rng.bytes(len), number.to_string().into_bytes()].concat();
        let mut command = vec![b"SET".to_vec(), key, self.value()];
        if self.rng.chance(30) {
            command.extend([b"PXAT".to_vec(), self.deadline()]);
        }
        command
    }

    /// A possible change of a key.
    fn change(&mut self, key: &[u8], other: &[u8]) -> Words {
        let (key, other) = (key.to_vec(), other.to_vec());
        let word = |text: &str| text.as_bytes().to_vec();
        match self.rng.below(9) {
            0 | 1 => vec![word("APPEND"), key, self.value()],
            2 => {
                let offset = self.rng.below(200).to_string().into_bytes();
                vec![word("SETRANGE"), key, offset, self.value()]
            }
            3 => vec![word("DEL"), key, other],
            4 => vec![word("PEXPIREAT"), key, self.deadline()],
            5 => vec![word("PERSIST"), key],
            6 => vec![word("MSET"), key, self.value(), other, self.value()],
            7 => vec![word("GETEX"), key, word("EX"), word("1000000")],
            _ => vec![word("SET"), key, self.value(), word("KEEPTTL")],
        }
    }

    fn commands(&mut self, with_multi: bool) -> Vec<Words> {
        let mut commands = vec![vec![b"SET".to_vec(), vec![], b"the empty key".to_vec()]];
        commands.extend((0..KEYS).map(|number| self.set(number)));
        let keys: Vec<Vec<u8>> = commands.iter().map(|command| command[1].clone()).collect();
        for _ in 0..KEYS / 4 {
            let at = |rng: &mut Rng| rng.below(KEYS);
            let (key, other) = (at(&mut self.rng), at(&mut self.rng));
            let change = self.change(&keys[key], &keys[other]);
            if with_multi && self.rng.chance(10) {
                let again = self.change(&keys[other], &keys[key]);
                let frame = |text: &str| vec![text.as_bytes().to_vec()];
                commands.extend([frame("MULTI"), change, again, frame("EXEC")]);
            } else {
                commands.push(change);
            }
        }
        commands
    }
}

/// Fills a server; the soon expiring keys have expired when this returns.
fn fill(port: u16) {
    let mut client = Resp::connect(port);
    let with_multi = client.call(&["COMMAND", "INFO", "MULTI"]).as_array() != [Value::Null];
    let mut load = Load::new();
    let commands = load.commands(with_multi);
    client.call_all(&commands, BATCH);
    let soon = load.now + 100;
    assert!(wait_until(DEADLINE, || kvstore::clock::UnixMillis::now().0 > soon));
}

fn state(port: u16) -> State {
    let mut client = Resp::connect(port);
    let keys = client.call(&["KEYS", "*"]);
    let of = |name: &str| -> Vec<Words> {
        let keys = keys.as_array().iter();
        keys.map(|key| vec![name.as_bytes().to_vec(), key.as_bytes().to_vec()]).collect()
    };
    let values = client.call_all(&of("GET"), BATCH);
    let times = client.call_all(&of("PEXPIRETIME"), BATCH);
    let entry = |((key, value), time): ((&Value, Value), Value)| {
        (key.as_bytes().to_vec(), (value.as_bytes().to_vec(), time.as_int()))
    };
    keys.as_array().iter().zip(values).zip(times).map(entry).collect()
}

fn assert_same(ours: &State, theirs: &State) {
    assert!(ours.len() > KEYS / 2, "only {} keys", ours.len());
    let differs = |(key, value): &(&Vec<u8>, &(Vec<u8>, i64))| theirs.get(*key) != Some(*value);
    if let Some((key, value)) = ours.iter().find(differs) {
        let key_text = common::resp::quote(key);
        panic!("{key_text}: {value:?} in kvstore, {:?} in Redis", theirs.get(key));
    }
    assert_eq!(ours.len(), theirs.len(), "Redis has keys that kvstore does not have");
}

fn redis_on(dir: &Path) -> Option<RedisServer> {
    let dir = dir.display().to_string();
    RedisServer::start_with(&[
        ("dir", &dir),
        ("appendonly", "yes"),
        ("aof-use-rdb-preamble", "no"),
        ("aof-load-truncated", "no"),
        ("auto-aof-rewrite-percentage", "0"),
    ])
}

fn tool(args: &[&str]) {
    let output = Server::command().args(args).output().expect("the binary runs");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn redis_is_here() -> bool {
    let found = Command::new("redis-server").arg("--version").output().is_ok();
    if !found {
        common::skipped("redis-server is not installed (apt-get install redis-server)");
    }
    found
}

/// kvstore's data: filled before a compaction and after it, in several segments.
fn filled_kvstore(dir: &str) -> (Server, State) {
    let server = Server::start(&[("dir", dir), ("segment-size", "1mb")]);
    fill(server.port());
    Resp::connect(server.port()).call(&["SAVE"]);
    fill(server.port());
    let state = state(server.port());
    (server, state)
}

#[test]
fn redis_loads_an_export() {
    if !redis_is_here() {
        return;
    }
    let place = tempfile::tempdir().expect("a temporary directory");
    let data = place.path().join("data").display().to_string();
    let (_server, ours) = filled_kvstore(&data);
    let redis_dir = place.path().join("redis");
    fs::create_dir(&redis_dir).expect("a directory");
    tool(&["export", &data, &redis_dir.join("appendonly.aof").display().to_string()]);
    let redis = redis_on(&redis_dir).expect("Redis");
    assert_same(&ours, &state(redis.port()));
}

#[test]
fn redis_loads_a_closed_directory_as_it_is() {
    if !redis_is_here() {
        return;
    }
    let place = tempfile::tempdir().expect("a temporary directory");
    let data = place.path().join("data");
    // Of a cluster that is as large as a record can tell.
    let mut largest = members(1);
    while largest.payload().is_some() {
        let mut next = largest.voters[0].clone();
        next.id.0[0] = largest.voters.len() as u8 + 100;
        largest.voters.push(next);
    }
    largest.voters.pop();
    assert!(Server::start(&[("dir", &data.display().to_string())]).stop().success());
    log_members(&data, largest.clone());
    let (server, ours) = filled_kvstore(&data.display().to_string());
    assert!(server.stop().success());
    log_members(&data, largest);

    let redis_dir = place.path().join("redis");
    let appendonly = redis_dir.join("appendonlydir");
    fs::create_dir_all(&appendonly).expect("a directory");
    let listing = files::list(&data).expect("a listing");
    let base = listing.bases.iter().map(|seq| (files::base_name(*seq), 'b'));
    let segments = listing.segments.iter().map(|first| (files::segment_name(*first), 'i'));
    let (mut manifest, mut incr) = (String::new(), 0);
    for (name, kind) in base.chain(segments) {
        fs::copy(data.join(&name), appendonly.join(&name)).expect("a copy");
        if kind == 'b' {
            let base = fs::read(data.join(&name)).expect("a base");
            assert!(base.windows(10).any(|bytes| bytes == b"\n#members "), "it has the members");
        }
        let check = Command::new("redis-check-aof").arg(appendonly.join(&name)).output();
        let check = check.expect("it is installed with redis-server");
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
        incr += u64::from(kind == 'i');
        manifest += &format!("file {name} seq {} type {kind}\n", incr.max(1));
    }
    assert!(incr > 3, "{manifest}");
    fs::write(appendonly.join("appendonly.aof.manifest"), manifest).expect("the manifest");
    let redis = redis_on(&redis_dir).expect("Redis");
    assert_same(&ours, &state(redis.port()));
}

#[test]
fn kvstore_imports_what_redis_wrote() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let Some(redis) = redis_on(place.path()) else { return };
    let appendonly = place.path().join("appendonlydir");
    let imports_the_same = |name: &str| {
        let theirs = state(redis.port());
        let mut files: Vec<String> = fs::read_dir(&appendonly)
            .expect("Redis's files")
            .map(|entry| entry.expect("an entry").path().display().to_string())
            .filter(|path| path.ends_with(".aof"))
            .collect();
        // `….base.aof` before `….incr.aof`.
        files.sort();
        let data = place.path().join(name).display().to_string();
        let mut args = vec!["import"];
        args.extend(files.iter().map(String::as_str));
        tool(&[&args[..], &[&data]].concat());
        let server = Server::start(&[("dir", &data)]);
        assert_same(&state(server.port()), &theirs);
    };
    fill(redis.port());
    imports_the_same("first");
    let mut client = Resp::connect(redis.port());
    client.call(&["BGREWRITEAOF"]);
    assert!(wait_until(DEADLINE, || {
        let info = client.call(&["INFO", "persistence"]);
        let info = String::from_utf8_lossy(info.as_bytes()).into_owned();
        info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
    }));
    fill(redis.port());
    imports_the_same("rewritten");
}
