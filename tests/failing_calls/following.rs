//! A follower whose disk is full: it says so, acknowledges nothing that it cannot keep, goes on answering
//! reads, and catches up by itself when there is space again.

use crate::common::injection::Injection;
use crate::common::nodes::{
    assert_replicated, assert_same_state, converge, follower_of, info, replicaof, wait_for,
};
use crate::common::resp::{Resp, Value};
use crate::common::server::Server;
use crate::{SmallDisk, settings};
use std::fs;
use std::path::Path;

#[test]
fn a_follower_whose_disk_is_full() {
    let leader = Server::start(&[]);
    let follower = follower_of(leader.port(), &[]);
    let mut client = Resp::connect(leader.port());
    assert_eq!(client.call(&["SET", "before", "value"]), Value::ok());
    assert_eq!(client.call(&["WAIT", "1", "10000"]), Value::Int(1));
    let Some(injection) = Injection::begin(&follower, "pwrite64:error=ENOSPC") else { return };
    assert_eq!(client.call(&["SET", "meanwhile", "value"]), Value::ok());
    wait_for(follower.port(), "kvstore_link_error", |error| error.contains("No space left"));
    wait_for(follower.port(), "master_link_status", |status| status == "down");
    // Data that it has in memory only does not count, whatever link it comes with next.
    assert_eq!(client.call(&["WAIT", "1", "300"]), Value::Int(0));
    let mut reader = Resp::connect(follower.port());
    assert_eq!(reader.call(&["GET", "before"]), Value::bulk("value"));
    // It does not dial all the time: that would be useless.
    let links: u64 = info(follower.port(), "kvstore_links").parse().expect("a number");
    assert!(links < 5, "{links} links");
    drop(injection);
    assert_eq!(client.call(&["SET", "later", "value"]), Value::ok());
    assert_replicated(&leader, &[&follower]);
    assert_eq!(client.call(&["WAIT", "1", "10000"]), Value::Int(1));
    assert_eq!(info(follower.port(), "kvstore_full_copies_received"), "0");
    assert_eq!(info(follower.port(), "kvstore_diverged_records"), "0");
}

/// There is no space for a copy: the present data stays until there is.
#[test]
fn a_copy_that_does_not_fit() {
    let Some(disk) = SmallDisk::mount(1700) else { return };
    let leader = Server::start(&[("repl-backlog-size", "0")]);
    let mut client = Resp::connect(leader.port());
    let value = vec![b'x'; 50_000];
    for n in 0..10 {
        assert_eq!(client.call(&[b"SET", format!("key:{n}").as_bytes(), &value]), Value::ok());
    }
    assert_eq!(client.call(&["SAVE"]), Value::ok());
    let data = disk.data();
    let follower = Server::start(&settings(&data, "always"));
    let mut reader = Resp::connect(follower.port());
    assert_eq!(reader.call(&["SET", "old", "value"]), Value::ok());
    replicaof(follower.port(), leader.port());
    wait_for(follower.port(), "kvstore_link_error", |error| error.contains("No space left"));
    assert_eq!(reader.call(&["GET", "old"]), Value::bulk("value"));
    disk.free();
    converge(leader.port(), &[follower.port()]);
    assert_eq!(assert_same_state(leader.port(), follower.port()), 10);
}

/// The disk fails just when a copy takes effect. The node goes on, leads, and takes writes: never does that copy
/// come back and replace them. While it cannot be put away for good, the node does not lead.
#[test]
fn a_copy_whose_last_sync_fails() {
    for goes_to_another in [false, true] {
        let leader = Server::start(&[]);
        let mut client = Resp::connect(leader.port());
        assert_eq!(client.call(&["SET", "leaders", "value"]), Value::ok());
        let mut node = Server::start(&[("appendfsync", "always")]);
        let mut own = Resp::connect(node.port());
        assert_eq!(own.call(&["SET", "before", "value"]), Value::ok());
        let data = node.dir().join("data");
        let what = "fsync:error=EIO";
        let Some(injection) = Injection::begin_on(&node, what, Some(&data)) else { return };
        replicaof(node.port(), leader.port());
        wait_for(node.port(), "kvstore_link_error", |error| error.contains("Input/output error"));
        assert!(data.join("replacement").exists(), "{} injected", injection.injected());
        let reply = own.call(&["REPLICAOF", "NO", "ONE"]);
        assert!(matches!(&reply, Value::Error(text) if text.contains("cannot lead")), "{reply:?}");
        assert_eq!(own.call(&["GET", "before"]), Value::bulk("value"));
        drop(injection);
        if goes_to_another {
            // Nothing answers there, so the copy waits on.
            assert!(!own.call(&["REPLICAOF", "127.0.0.1", "1"]).is_error());
        }
        assert_eq!(own.call(&["REPLICAOF", "NO", "ONE"]), Value::ok());
        let led_on = own.call(&["GET", "before"]);
        for n in 0..20 {
            assert_eq!(own.call(&["SET", &format!("after:{n}"), "value"]), Value::ok());
        }
        for signal in ["KILL", "TERM"] {
            node.restart(signal);
            let mut own = Resp::connect(node.port());
            assert_eq!(own.call(&["GET", "before"]), led_on);
            for n in 0..20 {
                assert_eq!(own.call(&["GET", &format!("after:{n}")]), Value::bulk("value"), "{n}");
            }
        }
        // And in the end it follows in the usual way.
        replicaof(node.port(), leader.port());
        converge(leader.port(), &[node.port()]);
        assert_same_state(leader.port(), node.port());
        assert!(diverged(&node).contains("after:19"));
    }
}

/// All that was kept aside, as text.
fn diverged(server: &Server) -> String {
    text_of(&server.dir().join("data/diverged"))
}

fn text_of(path: &Path) -> String {
    if path.is_dir() {
        let entries = fs::read_dir(path).expect("a directory").flatten();
        return entries.map(|entry| text_of(&entry.path())).collect();
    }
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// There is no space to save records that only this node has: none is given up until there is.
#[test]
fn records_that_cannot_be_kept_aside_are_not_given_up() {
    let Some(disk) = SmallDisk::mount(900) else { return };
    let data = disk.data();
    let old = Server::start(&settings(&data, "always"));
    let new = follower_of(old.port(), &[]);
    let mut client = Resp::connect(old.port());
    assert_eq!(client.call(&["SET", "common", "value"]), Value::ok());
    converge(old.port(), &[new.port()]);
    crate::common::nodes::lead(new.port());
    assert_eq!(Resp::connect(new.port()).call(&["SET", "new", "value"]), Value::ok());
    let value = vec![b'x'; 50_000];
    for n in 0..14 {
        assert_eq!(client.call(&[b"SET", format!("lost:{n}").as_bytes(), &value]), Value::ok());
    }
    replicaof(old.port(), new.port());
    wait_for(old.port(), "kvstore_link_error", |error| error.contains("No space left"));
    for n in 0..14 {
        assert_eq!(client.call(&[b"GET", format!("lost:{n}").as_bytes()]), Value::bulk(&value));
    }
    let kept = Path::new(&data).join("diverged");
    let left: Vec<_> = fs::read_dir(&kept).into_iter().flatten().flatten().collect();
    assert!(left.is_empty(), "{left:?} takes the space that is waited for");
    disk.free();
    converge(new.port(), &[old.port()]);
    assert_eq!(assert_same_state(new.port(), old.port()), 2);
    assert!((0..14).all(|n| text_of(&kept).contains(&format!("lost:{n}"))));
    assert_eq!(info(old.port(), "kvstore_diverged_records"), "14");
}
