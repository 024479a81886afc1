//! The times of records: a record is dated when its command ran, and never earlier than the one before it.
//! Else `--until TIME` stops at the wrong record.

use crate::common::history::open_log;
use crate::common::nodes::{self, converge, follower_of, lead};
use crate::common::resp::{Resp, Value};
use crate::common::server::Server;
use crate::common::{DEADLINE, wait_until};
use crate::{call, now_ms};
use kvstore::aof::disk::Directory;
use kvstore::aof::record::Epoch;
use kvstore::aof::record::Header;
use kvstore::aof::record::Position;
use kvstore::aof::record::ResumePoint;
use kvstore::clock::UnixMillis;
use std::fs;
use std::path::Path;
use std::sync::Arc;

const HOUR_MS: i64 = 3_600_000;

/// The records' times, by seq.
fn times(dir: &Path) -> Vec<i64> {
    let records = nodes::records(&dir.join("data"));
    records.values().map(|record| Header::parse(record).expect("a record").0.at.0 as i64).collect()
}

#[test]
fn a_record_is_dated_after_what_its_command_waited_for() {
    let server = Server::start(&[]);
    let mut clients = [(); 2].map(|()| Resp::connect(server.port()));
    call(&mut clients[0], "SET before v");
    call(&mut clients[0], "CLIENT PAUSE 600000 WRITE");
    clients[1].send(&["SET", "after", "v"]);
    let sent = now_ms();
    assert!(wait_until(DEADLINE, || now_ms() > sent + 500));
    let until = now_ms();
    call(&mut clients[0], "CLIENT UNPAUSE");
    assert_eq!(clients[1].read_reply(), Value::ok());
    let last = *times(server.dir()).last().expect("a record");
    assert!(last >= until, "the record is {} ms too early", until - last);
    let dir = server.shared_dir();
    assert_eq!(server.stop().code(), Some(0));
    let mut export = Server::command();
    export.arg("export").arg(dir.path().join("data")).args(["-", "--until"]);
    let exported = export.arg((until - 1).to_string()).output().expect("kvstore export");
    let text = String::from_utf8_lossy(&exported.stdout).into_owned();
    assert!(text.contains("before") && !text.contains("after"), "{text}");
}

/// The clock is not set back here; instead a log is made that says that it was an hour later.
#[test]
fn a_clock_that_was_set_back_makes_no_record_earlier_than_the_one_before() {
    let dir = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let later = now_ms() + HOUR_MS;
    let data = dir.path().join("data");
    fs::create_dir(&data).expect("a directory");
    let disk = Box::new(Directory::open(&data).expect("a directory"));
    let (tail, now) =
        (ResumePoint { last: Position::default(), segment: None }, UnixMillis(later as u64));
    let log = open_log(disk, tail, Epoch(1), 64 << 20, now).expect("a log");
    log.append(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n", now);
    log.append(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nw\r\n", UnixMillis(now.0 - 5));
    log.sync().expect("a sync");
    drop(log);
    let all_later = |dir: &Path| {
        let times = times(dir);
        assert!(!times.is_empty() && times.iter().all(|at| *at >= later), "{times:?}, not {later}");
    };
    all_later(dir.path());
    // Keys expire by the clock, not by the log.
    let write = |port| {
        let mut client = Resp::connect(port);
        call(&mut client, "SET short v PX 1");
        call(&mut client, "SET long v PX 100000");
        assert!(wait_until(DEADLINE, || call(&mut client, "GET short") == Value::Null));
        let at = call(&mut client, "PEXPIRETIME long").as_int();
        assert!(at < later, "a deadline that counts from {later}");
    };
    // A restart's epoch, another, one after a base that holds all of it, and a follower's own.
    let mut server = Server::start_in(&dir, &[]);
    write(server.port());
    server.restart("TERM");
    write(server.port());
    assert_eq!(call(&mut Resp::connect(server.port()), "SAVE"), Value::ok());
    server.restart("TERM");
    write(server.port());
    all_later(server.dir());
    let follower = follower_of(server.port(), &[]);
    converge(server.port(), &[follower.port()]);
    write(server.port());
    converge(server.port(), &[follower.port()]);
    lead(follower.port());
    write(follower.port());
    all_later(follower.dir());
}
