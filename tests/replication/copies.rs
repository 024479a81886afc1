//! Hazard: a full copy takes so long that the log it needs is compacted away meanwhile; a copy that is
//! damaged or cut off is taken for the data.

use crate::common::history::recover;
use crate::common::nodes::{
    StopOnDrop, assert_replicated, count, follower_of, info, load, wait_for,
};
use crate::common::proxy::{Proxy, Way};
use crate::common::resp::{Resp, Value, encode};
use crate::common::server::Server;
use crate::common::{long_form, note, wait_until};
use kvstore::aof::files;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

/// A copy takes longer than `repl-timeout`, and a large one to check and to load as well.
const SETTINGS: &[(&str, &str)] = &[
    ("repl-backlog-size", "0"),
    ("segment-size", "256kb"),
    ("compact-rate", "0"),
    ("repl-timeout", "1"),
];

fn fill(port: u16, keys: usize) {
    let mut client = Resp::connect(port);
    for start in (0..keys).step_by(1000) {
        let mut bytes = Vec::new();
        for n in start..(start + 1000).min(keys) {
            encode(&["SET", &format!("key:{n}"), &format!("value of {n:050}")], &mut bytes);
        }
        client.send_raw(&bytes);
        (start..(start + 1000).min(keys)).for_each(|_| drop(client.read_reply()));
    }
}

fn compact(port: u16) {
    assert_eq!(Resp::connect(port).call(&["SAVE"]), Value::ok());
}

/// A leader whose log begins with a base.
fn leader_with(keys: usize) -> Server {
    let leader = Server::start(SETTINGS);
    fill(leader.port(), keys);
    compact(leader.port());
    leader
}

/// Imported data is in a base and in no record, so a follower without any record needs a full copy.
#[test]
fn a_follower_of_imported_data_has_all_of_it() {
    let import = |key: &str| {
        let place = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        let (file, dir) = (place.path().join("redis.aof"), place.path().join("data"));
        let set = format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n$1\r\n1\r\n", key.len());
        std::fs::write(&file, set).expect("a file");
        let status = Server::command().arg("import").args([&file, &dir]).status();
        assert!(status.expect("it runs").success());
        place
    };
    let leader = Server::start_in(&import("imported"), &[]);
    let fresh = follower_of(leader.port(), &[]);
    // It has imported something else, which is not in its leader's history.
    let to = format!("127.0.0.1 {}", leader.port());
    let other = Server::start_in(&import("other"), &[("replicaof", &to)]);
    load(leader.port(), 1, 20);
    assert_replicated(&leader, &[&fresh, &other]);
    for follower in [&fresh, &other] {
        let mut client = Resp::connect(follower.port());
        assert_eq!(client.call(&["EXISTS", "imported", "other"]).as_int(), 1);
    }
    assert!(other.dir().join("data/diverged").is_dir(), "what only it had is saved");
}

#[test]
fn ten_compactions_during_a_copy() {
    let keys = if long_form() { 1_000_000 } else { 50_000 };
    let leader = leader_with(keys);
    let link = Proxy::to(leader.port(), 1);
    // A second or two in the short form, half a minute in the long one, where a compaction takes longer.
    link.throttle(keys as u64 * if long_form() { 5 } else { 60 });
    let follower = follower_of(link.port(), SETTINGS);
    wait_for(leader.port(), "kvstore_full_copies_sent", |sent| sent == "1");
    let (port, stop) = (leader.port(), AtomicBool::new(false));
    let is_copying = || info(follower.port(), "master_sync_in_progress") == "1";
    let during = thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                load(port, 3, 1);
                thread::sleep(Duration::from_millis(2));
            }
        });
        let stop = StopOnDrop(&stop);
        let mut during = 0;
        for _ in 0..10 {
            compact(port);
            during += usize::from(is_copying());
        }
        drop(stop);
        during
    });
    assert!(during == 10, "the copy was over behind {during} compactions: it shows nothing");
    link.heal();
    assert_replicated(&leader, &[&follower]);
    assert_eq!(count(leader.port(), "kvstore_full_copies_sent"), 1);
    assert_eq!(count(follower.port(), "kvstore_full_copies_received"), 1);
    assert_eq!(count(follower.port(), "kvstore_links"), 1, "who loads was taken for dead");
    note(&format!(
        "a copy of {keys} keys, {during} compactions meanwhile: complete the first time"
    ));
}

#[test]
fn a_copy_that_is_cut_off_or_damaged_is_taken_again() {
    let leader = leader_with(3000);
    let link = Proxy::to(leader.port(), 7);
    link.cut_in(100_000);
    let follower = follower_of(link.port(), SETTINGS);
    assert_replicated(&leader, &[&follower]);
    assert_eq!(count(follower.port(), "kvstore_full_copies_received"), 2);
    drop(follower);
    // A bit that flips on the way, in the base or wherever it happens.
    let follower = Server::start(SETTINGS);
    link.throttle(200_000);
    crate::common::nodes::replicaof(follower.port(), link.port());
    wait_for(follower.port(), "master_sync_in_progress", |copying| copying == "1");
    link.flip(Way::Down);
    assert!(wait_until(Duration::from_secs(10), || link.flipped() == 1));
    link.throttle(0);
    assert_replicated(&leader, &[&follower]);
    assert_eq!(count(follower.port(), "kvstore_rejected"), 1);
    assert_eq!(count(follower.port(), "kvstore_full_copies_received"), 2);
}

/// Until a copy is whole, what was here before can be read.
#[test]
fn the_old_data_is_there_until_the_copy_is() {
    let leader = leader_with(3000);
    let link = Proxy::to(leader.port(), 1);
    let mut follower = Server::start(SETTINGS);
    let mut client = Resp::connect(follower.port());
    client.call(&["SET", "old", "data"]);
    link.throttle(20_000);
    crate::common::nodes::replicaof(follower.port(), link.port());
    wait_for(follower.port(), "master_sync_in_progress", |copying| copying == "1");
    assert_eq!(client.call(&["GET", "old"]), Value::bulk("data"));
    follower.restart("KILL");
    assert_eq!(Resp::connect(follower.port()).call(&["GET", "old"]), Value::bulk("data"));
    link.heal();
    crate::common::nodes::replicaof(follower.port(), leader.port());
    assert_replicated(&leader, &[&follower]);
    assert_eq!(Resp::connect(follower.port()).call(&["GET", "old"]), Value::Null);
}

/// A compaction holds the files for as long as it takes; until it is over, nothing is loaded, and the old data
/// can be read.
#[test]
fn a_copy_that_waits_for_a_compaction_is_not_being_loaded() {
    let leader = leader_with(3000);
    let follower = Server::start(&[SETTINGS, &[("compact-rate", "64kb")]].concat());
    fill(follower.port(), 6000);
    let mut client = Resp::connect(follower.port());
    assert!(!client.call(&["BGREWRITEAOF"]).is_error());
    wait_for(follower.port(), "aof_rewrite_in_progress", |running| running == "1");
    crate::common::nodes::replicaof(follower.port(), leader.port());
    wait_for(leader.port(), "kvstore_full_copies_sent", |sent| sent == "1");
    let mut reads = 0;
    loop {
        let reply = client.call(&["GET", "key:5000"]);
        if info(follower.port(), "aof_rewrite_in_progress") == "0" {
            break;
        }
        assert!(!reply.is_error(), "{reply:?} after {reads} reads");
        reads += 1;
        thread::sleep(Duration::from_millis(10));
    }
    assert!(reads > 20, "{reads} reads: it shows nothing");
    assert_replicated(&leader, &[&follower]);
}

/// A directory in which a full copy of another node's data is complete, and was not taken over. It is for a
/// follower of `leader`, whose log ends `before` so many records.
fn forgotten_copy(leader: &str, before: u64) -> (Server, std::path::PathBuf) {
    let donor = Server::start(&[]);
    Resp::connect(donor.port()).call(&["SET", "donor", "value"]);
    let from = donor.dir().join("data/log-1.aof");
    let mut node = Server::start(&[]);
    let mut client = Resp::connect(node.port());
    for n in 0..40 {
        assert_eq!(client.call(&["SET", &format!("own:{n}"), "value"]), Value::ok());
    }
    node.kill();
    let data = node.dir().join("data");
    let last = recover(&data).expect("an intact log").0.end.last;
    let copy = data.join("replacement");
    fs::create_dir(&copy).expect("an empty directory");
    fs::copy(from, copy.join("log-1.aof")).expect("a copy");
    let (seq, epoch, crc) = (last.seq.0 - before, last.epoch.0, last.crc);
    let purpose = format!("{leader}\n{seq} {epoch} {crc:08x}\n2\n\n");
    fs::write(copy.join("replaces"), purpose).expect("a file");
    (node, data)
}

/// The node has gone on without a copy that was complete: the copy never replaces what it wrote since.
#[test]
fn a_forgotten_copy_replaces_nothing() {
    // It leads; it follows another; its log does not end any more where it did.
    for (leader, follows, before) in [
        ("127.0.0.1 1", None, 0),
        ("127.0.0.1 1", Some("127.0.0.1 2"), 0),
        ("127.0.0.1 1", Some("127.0.0.1 1"), 1),
    ] {
        let (node, data) = forgotten_copy(leader, before);
        let settings: Vec<_> = follows.map(|leader| ("replicaof", leader)).into_iter().collect();
        let node = Server::start_in(&node.shared_dir(), &settings);
        let mut client = Resp::connect(node.port());
        for n in 0..40 {
            assert_eq!(client.call(&["GET", &format!("own:{n}")]), Value::bulk("value"));
        }
        let aside = fs::read_dir(data.join("diverged")).expect("diverged/").flatten().next();
        let (_, state) = recover(&aside.expect("the copy").path()).expect("an intact log");
        assert!(state.contains_key(&b"donor"[..]));
        assert!(node.stderr().contains("gone on without it"), "{}", node.stderr());
    }
}

/// The node was killed before it could take the copy over, and nothing has happened since.
#[test]
fn a_copy_that_is_still_wanted_is_taken_over_at_the_start() {
    let (node, data) = forgotten_copy("127.0.0.1 1", 0);
    let node = Server::start_in(&node.shared_dir(), &[("replicaof", "127.0.0.1 1")]);
    let mut client = Resp::connect(node.port());
    assert_eq!(client.call(&["GET", "donor"]), Value::bulk("value"));
    assert_eq!(client.call(&["GET", "own:0"]), Value::Null);
    assert!(!data.join("replacement").exists() && !data.join("diverged").exists());
}

/// Segments before the base are kept for followers, and recovery does not need them. If one of them is gone, what
/// is before the hole is of no use: a follower that is sent it would never come past the hole.
#[test]
fn a_hole_in_what_is_kept_for_followers() {
    let mut leader = Server::start(&[("segment-size", "4kb"), ("auto-compact-percentage", "0")]);
    let data = leader.dir().join("data");
    let segments = || files::list(&data).expect("a directory").segments;
    while segments().len() < 5 {
        load(leader.port(), 1, 5);
    }
    assert_eq!(Resp::connect(leader.port()).call(&["SAVE"]), Value::ok());
    let kept = segments();
    leader.signal("TERM");
    leader.exit_status();
    fs::remove_file(data.join(files::segment_name(kept[2]))).expect("removed");
    leader = Server::start_in(&leader.shared_dir(), &[]);
    assert!(leader.stderr().contains("does not lead to the base"), "{}", leader.stderr());
    assert_eq!(segments()[0], kept[3], "what leads to the base is kept");
    let follower = follower_of(leader.port(), &[]);
    assert_replicated(&leader, &[&follower]);
}
