//! Hazard: a node forgets who votes in its cluster, or remembers what was never agreed.
//!
//! The newest record of members must survive a restart, compactions, a full copy to a follower; and a record that is
//! given up with the end of a log must be forgotten, by the running server too.

mod common;

use common::history::{NOW, log_members, members, members_in, open_log, recover};
use common::memory_disk::memory_backed;
use common::nodes::{assert_replicated, count, follower_of};
use common::resp::{Resp, Value};
use common::server::Server;
use kvstore::aof::base::BaseWriter;
use kvstore::aof::compaction::compact;
use kvstore::aof::disk::Directory;
use kvstore::aof::files::segment_name;
use kvstore::aof::log::Log;
use kvstore::aof::outline::Outline;
use kvstore::aof::record::{Epoch, Header, ResumePoint};
use kvstore::cluster::members::Members;
use kvstore::store::effect::{Effect, Seq};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// No segment is kept after a compaction: a base alone has what is before it.
const KEEPS_NOTHING: &[(&str, &str)] = &[("repl-backlog-size", "0"), ("segment-size", "4kb")];

fn new_log(dir: &Path) -> Log {
    let disk = Box::new(Directory::open(dir).expect("it is there"));
    open_log(disk, ResumePoint::default(), Epoch(1), 1 << 20, NOW).expect("a new log")
}

fn resumed(dir: &Path) -> Log {
    let (recovered, _) = recover(dir).expect("a healthy log");
    let disk = Box::new(Directory::open(dir).expect("it is there"));
    Log::resume(disk, recovered.end, recovered.outline, 1 << 20, 0).expect("a log")
}

fn append_members(log: &Log, number: u64) -> Members {
    log.append_members(members(number), log.epoch(), NOW).expect("the present epoch")
}

fn append_set(log: &Log) -> Seq {
    let mut payload = Vec::new();
    Effect::Set { key: b"key", value: b"value", deadline: None }.encode(&mut payload);
    log.append(&payload, NOW)
}

#[test]
fn restarts_and_compactions() {
    let dir = memory_backed();
    let log = new_log(dir.path());
    assert_eq!(log.members(), None);
    append_members(&log, 1);
    let second = append_members(&log, 2);
    append_set(&log);
    log.sync().expect("a disk");
    drop(log);

    let log = resumed(dir.path());
    assert_eq!(log.members(), Some(second));
    let mut third = None;
    let appends = |_: &mut BaseWriter<'_>| {
        // The base is of an earlier record, and has the second.
        third = Some(append_members(&log, 3));
        Ok(())
    };
    compact(&log, appends).expect("a compaction");
    assert_eq!((log.members(), members_in(dir.path())), (third.clone(), third.clone()));
    drop(log);
    // Of this compaction's base it is the last record, and no segment has it.
    compact(&resumed(dir.path()), |_| Ok(())).expect("a compaction");
    assert_eq!((members_in(dir.path()), resumed(dir.path()).members()), (third.clone(), third));
}

#[test]
fn members_are_appended_only_in_the_epoch_that_they_were_chosen_in() {
    let dir = memory_backed();
    let log = new_log(dir.path());
    let first = append_members(&log, 1);
    log.begin_epoch(Epoch(2), NOW).expect("a disk");
    assert_eq!(log.append_members(members(2), Epoch(1), NOW), None);
    assert_eq!(log.append_members(members(2), Epoch(3), NOW), None);
    let nobody = Members { voters: Vec::new(), ..members(2) };
    assert_eq!(log.append_members(nobody, Epoch(2), NOW), None);
    assert_eq!((log.appended(), log.members()), (Seq(3), Some(first)));
}

/// A follower's log takes the records byte for byte; then their end is cut off.
#[test]
fn records_of_a_leader_and_a_rewind() {
    let (leaders, followers) = (memory_backed(), memory_backed());
    let leader = new_log(leaders.path());
    let first = append_members(&leader, 1);
    append_set(&leader);
    leader.sync().expect("a disk");
    let kept = leader.readable_end().len;
    let second = append_members(&leader, 2);
    leader.sync().expect("a disk");
    let bytes = fs::read(leaders.path().join(segment_name(Seq(1)))).expect("a segment");

    let disk = Box::new(Directory::open(followers.path()).expect("it is there"));
    let log = Log::resume(disk, ResumePoint::default(), Outline::default(), 1 << 20, 0);
    let log = log.expect("a new log");
    let mut rest = &bytes[..];
    while let Some((header, line_len)) = Header::parse(rest) {
        let (record, after) = rest.split_at(line_len + header.len as usize);
        log.append_record(&header, record);
        rest = after;
    }
    assert_eq!(log.members(), Some(second));
    log.sync().expect("a disk");

    let frozen = log.freeze();
    frozen.set_mark(Seq(3)).expect("a disk");
    let segment = File::options().write(true).open(followers.path().join(segment_name(Seq(1))));
    segment.expect("a segment").set_len(kept).expect("a disk");
    let (recovered, _) = recover(followers.path()).expect("a healthy log");
    frozen.resume_at(recovered.end, recovered.outline, recovered.bytes).expect("a disk");
    assert_eq!(log.members(), Some(first));
    assert_eq!((log.appended(), log.outline().members_at(Seq(1))), (Seq(3), None));
}

fn data_of(server: &Server) -> PathBuf {
    server.dir().join("data")
}

fn set(server: &Server, key: &str) {
    assert_eq!(Resp::connect(server.port()).call(&["SET", key, "value"]), Value::ok());
}

fn compact_now(server: &Server) {
    assert_eq!(Resp::connect(server.port()).call(&["SAVE"]), Value::ok());
}

/// The leader's record reaches a follower in a full copy. Then the follower has another record that no other node
/// has, and gives it up.
#[test]
fn a_full_copy_and_a_node_that_rejoins() {
    let mut first = Server::start(KEEPS_NOTHING);
    first.kill();
    let agreed = log_members(&data_of(&first), members(1));
    let mut leader = Server::start_in(&first.shared_dir(), KEEPS_NOTHING);
    set(&leader, "before");
    compact_now(&leader);
    let mut follower = follower_of(leader.port(), KEEPS_NOTHING);
    set(&leader, "after");
    assert_replicated(&leader, &[&follower]);
    assert_eq!(count(follower.port(), "kvstore_full_copies_received"), 1);
    follower.kill();
    assert_eq!(members_in(&data_of(&follower)), Some(agreed.clone()));

    // Each of the two leads now, in epochs of the same number.
    leader.restart("KILL");
    Server::start_in(&follower.shared_dir(), KEEPS_NOTHING).kill();
    let lost = log_members(&data_of(&follower), members(2));
    assert_eq!(members_in(&data_of(&follower)), Some(lost));
    for key in ["a", "b", "c"] {
        set(&leader, key);
    }
    let address = format!("127.0.0.1 {}", leader.port());
    let settings = [KEEPS_NOTHING, &[("replicaof", address.as_str())]].concat();
    let follower = Server::start_in(&follower.shared_dir(), &settings);
    assert_replicated(&leader, &[&follower]);
    assert_eq!(count(follower.port(), "kvstore_full_copies_received"), 0);
    assert_eq!(count(follower.port(), "kvstore_diverged_records"), 0, "it was no write");
    assert_eq!(members_in(&data_of(&follower)), Some(agreed.clone()));
    // The base is made of what the running server knows.
    compact_now(&follower);
    assert_eq!(members_in(&data_of(&follower)), Some(agreed));
}
