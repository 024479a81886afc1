//! The hazard: data that moves from Redis to kvstore or back arrives changed, or not all of it, and that is noticed when
//! the old server is gone.
//!
//! Redis runs as it does by default: it compresses values, and writes its base as RDB.

mod common;

use common::nodes::{Dump, dump};
use common::resp::{Resp, Value, encode};
use common::rng::{Rng, fresh_seed};
use common::server::{RedisServer, Server};
use common::{DEADLINE, long_form, note, number_from_env, wait_until};
use kvstore::clock::UnixMillis;
use std::fs;
use std::path::Path;
use std::process::Command;

type Words = Vec<Vec<u8>>;

/// Commands sent before their replies are read, and keys in one MIGRATE.
const BATCH: usize = 500;

fn words(line: &str) -> Words {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

fn key_count() -> usize {
    if long_form() { 100_000 } else { 2_000 }
}

/// Sends commands in batches; none may fail.
fn run(port: u16, commands: &[Words]) -> Vec<Value> {
    Resp::connect(port).call_all(commands, BATCH)
}

/// Strings of every form in RDB: numbers, short and long ones, some that can be compressed.
fn any_value(rng: &mut Rng) -> Vec<u8> {
    let number = |low, high, rng: &mut Rng| rng.between(low, high).to_string().into_bytes();
    match rng.below(8) {
        0 => number(-200, 200, rng),
        1 => number(-40_000, 40_000, rng),
        2 => number(-3_000_000_000, 3_000_000_000, rng),
        3 => [&b"0"[..], &number(0, 9, rng)].concat(),
        4 => [number(0, 99, rng), b" and on".repeat(rng.below(300))].concat(),
        5 => vec![rng.next_u64() as u8; rng.below(20_000)],
        6 => rng.bytes(20),
        _ => {
            let len = rng.below(400);
            rng.bytes(len)
        }
    }
}

fn fill(port: u16, count: usize) {
    let seed = number_from_env("KVSTORE_SEED").unwrap_or_else(fresh_seed);
    note(&format!("KVSTORE_SEED={seed}"));
    let mut rng = Rng::new(seed);
    let now = UnixMillis::now().0;
    let set = |number: usize| {
        let key = [rng.bytes(3), number.to_string().into_bytes()].concat();
        let mut command = vec![b"SET".to_vec(), key, any_value(&mut rng)];
        if rng.chance(30) {
            let deadline = now + 100_000_000 + rng.below(1 << 40) as u64;
            command.extend([b"PXAT".to_vec(), deadline.to_string().into_bytes()]);
        }
        command
    };
    run(port, &(0..count).map(set).collect::<Vec<_>>());
}

/// Fails unless both hold the same keys and values, with deadlines at most `tolerance_ms` apart.
fn assert_same(ours: &Dump, theirs: &Dump, tolerance_ms: i64) {
    for (key, (value, deadline)) in ours {
        let name = common::resp::quote(key);
        let (their_value, theirs) = theirs.get(key).unwrap_or_else(|| panic!("{name} is new"));
        assert!(value == their_value, "{name} is {value:?}, and {their_value:?} in Redis");
        let apart = (deadline - theirs).abs();
        assert_eq!(*deadline == -1, *theirs == -1, "{name}: only one expires");
        assert!(apart <= tolerance_ms, "{name} expires at {deadline}, and {theirs} in Redis");
    }
    assert_eq!(ours.len(), theirs.len(), "keys are missing");
}

#[test]
fn keys_migrate_from_redis_and_are_restored_there() {
    let Some(redis) = RedisServer::start() else { return };
    let server = Server::start(&[]);
    fill(redis.port(), key_count());
    let theirs = dump(redis.port());
    let keys: Vec<&Vec<u8>> = theirs.keys().collect();
    let port = server.port().to_string();
    let head = words(&format!("MIGRATE 127.0.0.1 {port} EMPTY 0 10000 COPY KEYS"));
    let migrate = |keys: &[&Vec<u8>]| {
        let mut command = head.clone();
        command[3].clear();
        command.extend(keys.iter().map(|key| (*key).clone()));
        command
    };
    run(redis.port(), &keys.chunks(BATCH).map(migrate).collect::<Vec<_>>());
    let ours = dump(server.port());
    assert_eq!(ours.len(), key_count());
    // MIGRATE sends what is left of the time, so the deadline moves by as long as that takes.
    assert_same(&ours, &theirs, DEADLINE.as_millis() as i64);

    run(redis.port(), &[words("FLUSHALL")]);
    let dumps: Vec<Words> = ours.keys().map(|key| vec![b"DUMP".to_vec(), key.clone()]).collect();
    let payloads = run(server.port(), &dumps);
    let restore = |(key, payload): (&Vec<u8>, &Value)| {
        let (_, deadline) = &ours[key];
        let time = (*deadline).max(0).to_string().into_bytes();
        vec![
            b"RESTORE".to_vec(),
            key.clone(),
            time,
            payload.as_bytes().to_vec(),
            b"ABSTTL".to_vec(),
        ]
    };
    run(redis.port(), &ours.keys().zip(&payloads).map(restore).collect::<Vec<_>>());
    assert_same(&ours, &dump(redis.port()), 0);
}

/// Runs `kvstore import`; returns whether it succeeded, and what it said.
fn import(sources: &[&Path], options: &[&str], dir: &Path) -> (bool, String) {
    let mut command = Server::command();
    let output = command.arg("import").args(sources).arg(dir).args(options).output();
    let output = output.expect("the binary runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// What a server has that starts on an import; what the import said.
fn imported(sources: &[&Path], options: &[&str]) -> (Dump, String) {
    let place = tempfile::tempdir().expect("a temporary directory");
    let dir = place.path().join("data");
    let (succeeded, said) = import(sources, options, &dir);
    assert!(succeeded, "{said}");
    let server = Server::start(&[("dir", &dir.display().to_string())]);
    (dump(server.port()), said)
}

/// Fails unless the import is refused with these words, and has made nothing.
fn refused(sources: &[&Path], options: &[&str], expected: &str) {
    let place = tempfile::tempdir().expect("a temporary directory");
    let (succeeded, said) = import(sources, options, &place.path().join("data"));
    assert!(!succeeded && said.contains(expected), "{said}");
    assert_eq!(fs::read_dir(place.path()).expect("a directory").count(), 0, "{said}");
}

fn wait_for_the_rewrite(port: u16) {
    let mut client = Resp::connect(port);
    client.call(&["BGREWRITEAOF"]);
    let is_over = wait_until(DEADLINE, || {
        let info = client.call(&["INFO", "persistence"]);
        let info = String::from_utf8_lossy(info.as_bytes()).into_owned();
        info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
    });
    assert!(is_over, "Redis has not rewritten its file");
}

#[test]
fn what_redis_leaves_on_its_disk_is_imported() {
    let Some(redis) = RedisServer::start_with(&[("appendonly", "yes")]) else { return };
    let count = key_count();
    fill(redis.port(), count / 2);
    wait_for_the_rewrite(redis.port());
    fill(redis.port(), count / 2);
    run(redis.port(), &[words("MULTI"), words("INCR n"), words("APPEND n 0"), words("EXEC")]);
    run(redis.port(), &[words("SAVE")]);
    let theirs = dump(redis.port());
    let (rdb, appendonly) = (redis.dir().join("dump.rdb"), redis.dir().join("appendonlydir"));

    let (ours, said) = imported(&[&rdb], &[]);
    assert_same(&ours, &theirs, 0);
    assert!(said.contains(&format!("{} values and 0 commands", ours.len())), "{said}");
    let (ours, said) = imported(&[&appendonly], &[]);
    assert_same(&ours, &theirs, 0);
    assert!(!said.contains(" 0 commands") && said.contains(" values and "), "{said}");

    // As Redis 6 wrote it: the RDB file and the commands after it are one file.
    let place = tempfile::tempdir().expect("a temporary directory");
    let mut joined = fs::read(&rdb).expect("dump.rdb");
    encode(&["APPEND", "n", "1"], &mut joined);
    let path = place.path().join("appendonly.aof");
    fs::write(&path, &joined).expect("a file");
    assert_eq!(imported(&[&path], &[]).0[&b"n"[..]], (b"101".to_vec(), -1));

    let mut spoiled = fs::read(&rdb).expect("dump.rdb");
    let end = spoiled.len() - 1;
    fs::write(&path, &spoiled[..end]).expect("a file");
    refused(&[&path], &[], "the data ends within a value");
    spoiled[end / 2] ^= 1;
    fs::write(&path, &spoiled).expect("a file");
    refused(&[&path], &[], &format!("{}, byte ", path.display()));
}

/// One or more values of each type, in the forms for few elements and for many.
const OTHERS: &[&str] = &[
    "RPUSH list a b 3",
    "SADD numbers 1 2 3",
    "SADD set a b c",
    "HSET hash f v g 7",
    "ZADD zset 1.5 a 2 b",
    "XADD stream 1-1 f v",
    "XADD stream 2-1 g v",
    "XGROUP CREATE stream group 0",
    "XREADGROUP GROUP group reader COUNT 1 STREAMS stream >",
    "CONFIG SET hash-max-listpack-entries 1",
    "CONFIG SET zset-max-listpack-entries 1",
    "CONFIG SET set-max-intset-entries 1",
    "CONFIG SET list-max-listpack-size 1",
    "RPUSH list:many a b 3",
    "SADD set:many 1 2 3",
    "HSET hash:many f v g 7",
    "ZADD zset:many 1.5 a 2 b",
    "PEXPIREAT zset:many 4102444800000",
];

/// The files of a directory as they are now.
fn copy_of(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a temporary directory");
    for entry in fs::read_dir(dir).expect("Redis's files") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, copy.path().join(path.file_name().expect("a name"))).expect("a copy");
    }
    copy
}

/// Replaces strings in the base by what other types become in the log after it. Leaves the strings alone in Redis; returns
/// its log before that.
fn replace_strings(redis: &RedisServer) -> tempfile::TempDir {
    run(redis.port(), &["SET replaced x", "SET renamed x", "SET copied x"].map(words));
    wait_for_the_rewrite(redis.port());
    fill(redis.port(), 300);
    run(redis.port(), &OTHERS.iter().map(|line| words(line)).collect::<Vec<_>>());
    let library = b"#!lua name=lib\nredis.register_function('f', function() return 1 end)";
    let changes = [
        vec![b"RPUSH".to_vec(), b"list:long".to_vec(), vec![b'x'; 10_000]],
        vec![b"FUNCTION".to_vec(), b"LOAD".to_vec(), library.to_vec()],
        words("SUNIONSTORE replaced set numbers"),
        words("COPY list copied REPLACE"),
        words("COPY list moving"),
        words("RENAME moving renamed"),
        words("SAVE"),
    ];
    run(redis.port(), &changes);
    let log = copy_of(&redis.dir().join("appendonlydir"));
    let delete = "DEL list list:many list:long numbers set set:many hash hash:many zset zset:many \
                  stream replaced copied renamed";
    assert_eq!(run(redis.port(), &[words(delete)]), [Value::Int(14)]);
    log
}

#[test]
fn other_types_are_refused_or_left_out_by_name() {
    let Some(redis) = RedisServer::start_with(&[("appendonly", "yes")]) else { return };
    let log = replace_strings(&redis);
    let strings = dump(redis.port());
    assert_eq!(strings.len(), 300);
    // In the log, `moving` was one for a moment.
    for (source, lists) in [(redis.dir().join("dump.rdb"), 5), (log.path().to_owned(), 6)] {
        refused(&[&source], &[], "; --skip-other-types leaves it out");
        let (ours, said) = imported(&[&source], &["--skip-other-types"]);
        assert_same(&ours, &strings, 0);
        for line in [
            "keys with a hash: 2 (\"hash\", \"hash:many\")\n".to_string(),
            "keys with a set: 4 (\"numbers\", \"replaced\", \"set\", …)\n".into(),
            "keys with a sorted set: 2 (\"zset\", \"zset:many\")\n".into(),
            "keys with a stream: 1 (\"stream\")\n".into(),
            format!("keys with a list: {lists} (\"copied\", "),
            "libraries of functions: 1\n".into(),
        ] {
            assert!(said.contains(&format!("left out: {line}")), "{line}: {said}");
        }
    }
}

#[test]
fn one_database_is_taken_by_its_number() {
    let Some(redis) = RedisServer::start_with(&[("appendonly", "yes"), ("databases", "4")]) else {
        return;
    };
    run(redis.port(), &["SET a 0", "SELECT 3", "SET a 3", "SET b 3", "SAVE"].map(words));
    let (rdb, appendonly) = (redis.dir().join("dump.rdb"), redis.dir().join("appendonlydir"));
    let held = |pairs: &[(&str, &str)]| -> Dump {
        pairs
            .iter()
            .map(|(key, value)| (key.as_bytes().into(), (value.as_bytes().into(), -1)))
            .collect()
    };
    for source in [&rdb, &appendonly] {
        refused(&[source], &[], "only database 0 is taken; --db 3 takes this one instead");
        let (ours, said) = imported(&[source], &["--db", "3"]);
        assert_eq!(ours, held(&[("a", "3"), ("b", "3")]));
        assert!(said.contains("left out: values and commands of other databases: 1\n"), "{said}");
        assert_eq!(imported(&[source], &["--db", "0"]).0, held(&[("a", "0")]));
    }
    run(redis.port(), &["SET c 0", "MOVE c 3"].map(words));
    refused(&[&appendonly], &["--db", "3"], "a command on two databases");
    refused(&[&rdb], &["--db", "x"], "--db x: not the number of a database");
}

/// A file as Redis 7.0.15 saved it: `SET city Oslo`, and a list.
const SAVED: &[u8] = b"REDIS0010\xfa\x09redis-ver\x067.0.15\xfe\0\xfb\x02\0\0\x04city\x04Oslo\
    \x12\x05queue\x01\x02\x0c\x0c\0\0\0\x02\0\x81a\x02\x05\x01\xff\xff";

#[test]
fn without_a_redis_a_recorded_file_is_taken_and_a_spoiled_one_is_not() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let path = place.path().join("dump.rdb");
    let mut file = SAVED.to_vec();
    file.extend(kvstore::rdb::crc64::crc64(0, SAVED).to_le_bytes());
    fs::write(&path, &file).expect("a file");
    let (ours, said) = imported(&[&path], &["--skip-other-types"]);
    assert_eq!(ours, Dump::from([(b"city".to_vec(), (b"Oslo".to_vec(), -1))]));
    assert!(said.contains("left out: keys with a list: 1 (\"queue\")\n"), "{said}");
    refused(&[&path], &[], "\"queue\" is a list; --skip-other-types leaves it out");
    for at in (0..file.len()).step_by(7) {
        let mut spoiled = file.clone();
        spoiled[at] ^= 4;
        fs::write(&path, &spoiled).expect("a file");
        refused(&[&path], &["--skip-other-types"], "kvstore import: ");
    }
    refused(&[place.path()], &[], "no manifest is in it; name dump.rdb, or appendonlydir");
}

#[test]
fn redis_check_rdb_agrees_that_our_recorded_file_is_whole() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let path = place.path().join("dump.rdb");
    let file = [SAVED, &kvstore::rdb::crc64::crc64(0, SAVED).to_le_bytes()].concat();
    fs::write(&path, file).expect("a file");
    let Ok(output) = Command::new("redis-check-rdb").arg(&path).output() else {
        return common::skipped("redis-check-rdb is not installed (apt-get install redis-server)");
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("Checksum OK"), "{said}");
}
