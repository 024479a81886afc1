//! A follower whose disk is full: it says so, acknowledges nothing that it cannot keep, goes on answering
//! reads, and catches up by itself when there is space again.

use crate::common::nodes::{
    assert_replicated, assert_same_state, converge, follower_of, info, replicaof, wait_for,
};
use crate::common::resp::{Resp, Value};
use crate::common::server::Server;
use crate::injected::Injection;
use crate::{SmallDisk, settings};

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
    // What it has in memory only does not count, whatever link it comes with next.
    assert_eq!(client.call(&["WAIT", "1", "300"]), Value::Int(0));
    let mut reader = Resp::connect(follower.port());
    assert_eq!(reader.call(&["GET", "before"]), Value::bulk("value"));
    // It does not dial all the time: there is no use for it.
    let links: u64 = info(follower.port(), "kvstore_links").parse().expect("a number");
    assert!(links < 5, "{links} links");
    drop(injection);
    assert_eq!(client.call(&["SET", "later", "value"]), Value::ok());
    assert_replicated(&leader, &[&follower]);
    assert_eq!(client.call(&["WAIT", "1", "10000"]), Value::Int(1));
    assert_eq!(info(follower.port(), "kvstore_full_copies_received"), "0");
    assert_eq!(info(follower.port(), "kvstore_diverged_records"), "0");
}

/// There is no space for a copy: the data that is here stays, until there is.
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
