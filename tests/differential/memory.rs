//! The memory limit and the statistics of uses: which commands a full server refuses, in which words, and
//! how settings go in and come out. Everything here is exact, so chance is kept out: no key is evicted,
//! and counters grow with each use (`lfu-log-factor 0`) and never shrink.

use super::oracle;
use super::session::words;
use crate::common::resp::Resp;
use crate::common::server::Server;

const SCRIPT: &[&str] = &[
    // Settings.
    "CONFIG GET maxmemory",
    "CONFIG GET maxmemory-policy",
    "CONFIG GET maxmemory-samples",
    "CONFIG GET lfu-log-factor",
    "CONFIG GET lfu-decay-time",
    "CONFIG SET maxmemory 1gb",
    "CONFIG GET maxmemory",
    "CONFIG SET maxmemory 100MB",
    "CONFIG GET maxmemory",
    "CONFIG SET maxmemory 1.5gb",
    "CONFIG SET maxmemory -1",
    "CONFIG SET maxmemory lots",
    "CONFIG SET maxmemory-policy oldest",
    "CONFIG SET maxmemory-policy ALLKEYS-LRU",
    "CONFIG GET maxmemory-policy",
    "CONFIG SET maxmemory-samples 0",
    "CONFIG SET maxmemory-samples 2147483648",
    "CONFIG SET maxmemory-samples 10",
    "CONFIG GET maxmemory-samples",
    "CONFIG SET lfu-log-factor -1",
    "CONFIG SET lfu-decay-time x",
    "CONFIG SET lfu-log-factor 0 lfu-decay-time 0",
    "CONFIG SET maxmemory 0 maxmemory-policy noeviction",
    // By time.
    "SET k v",
    "OBJECT IDLETIME k",
    "OBJECT FREQ k",
    "OBJECT FREQ nothing",
    "CONFIG SET maxmemory-policy volatile-ttl",
    "OBJECT FREQ k",
    // By frequency. The key is made anew: in Redis its old bits would be misread. And small numbers are
    // shared there, with their counters.
    "CONFIG SET maxmemory-policy allkeys-lfu",
    "DEL k",
    "SET k 12345",
    "OBJECT IDLETIME k",
    "OBJECT IDLETIME nothing",
    "OBJECT FREQ k",
    "GET k",
    "OBJECT FREQ k",
    "INCR k",
    "OBJECT FREQ k",
    "APPEND k 0",
    "OBJECT FREQ k",
    "SET k 23456",
    "OBJECT FREQ k",
    "EXPIRE k 1000",
    "OBJECT FREQ k",
    "PERSIST k",
    "OBJECT FREQ k",
    "TTL k",
    "TYPE k",
    "EXISTS k",
    "STRLEN k",
    "OBJECT FREQ k",
    "TOUCH k",
    "OBJECT FREQ k",
    "MGET k k",
    "OBJECT FREQ k",
    "SETRANGE k 0 3",
    "OBJECT FREQ k",
    "GETRANGE k 0 1",
    "OBJECT FREQ k",
    "GETEX k EX 100",
    "OBJECT FREQ k",
    "GETEX k",
    "OBJECT FREQ k",
    "GETSET k 34567",
    "OBJECT FREQ k",
    "INCRBYFLOAT k 1",
    "OBJECT FREQ k",
    "BITCOUNT k",
    "OBJECT FREQ k",
    "SETBIT k 1 1",
    "OBJECT FREQ k",
    // A full server.
    "CONFIG SET maxmemory-policy noeviction",
    "MSET k 1 gone x old y",
    "CONFIG SET maxmemory 1",
    "GET k",
    "SET k 2",
    "SETNX k 2",
    "SET",
    "NOSUCH",
    "MSET a 1",
    "MSETNX a 1",
    "APPEND k x",
    "INCR k",
    "DECRBY k 2",
    "INCRBYFLOAT k 1",
    "SETRANGE k 0 x",
    "SETBIT k 1 1",
    "GETBIT k 1",
    "BITOP NOT a k",
    "BITFIELD k GET u8 0",
    "BITFIELD_RO k GET u8 0",
    "BITCOUNT k",
    "GETSET k 1",
    "GETDEL gone",
    "GETEX k EX 100",
    "PERSIST k",
    "EXPIRE k 100",
    "COPY k a",
    "RENAME old new",
    "RESTORE a 0 x",
    "DEL new",
    "TOUCH k",
    "SCAN 0 COUNT 1000",
    "PUBLISH c m",
    "PING",
    "MULTI",
    "GET k",
    "EXEC",
    "MULTI",
    "DISCARD",
    "WATCH k",
    "MULTI",
    "SET k 3",
    "PING",
    "EXEC",
    "UNWATCH",
    "CONFIG SET maxmemory 0",
    "SET k 4",
    "FLUSHALL",
];

#[test]
fn a_full_server_refuses_what_redis_refuses() {
    let Some(redis) = oracle() else { return };
    let subject = Server::start(&[]);
    let (mut redis, mut subject) = (Resp::connect(redis.port()), Resp::connect(subject.port()));
    let mut differences = Vec::new();
    for command in SCRIPT {
        let [theirs, ours] = [&mut redis, &mut subject].map(|side| side.call(&words(command)));
        if theirs != ours {
            differences.push(format!("{command}\n    redis: {theirs:?}\n    ours:  {ours:?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
