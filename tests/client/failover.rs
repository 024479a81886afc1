//! The client finds the node that leads.

use super::client;
use crate::common::nodes::{StopOnDrop, follower_of, lead, wait_for};
use crate::common::resp::{Resp, Value};
use crate::common::server::Server;
use crate::common::{DEADLINE, note, wait_until};
use kvstore::client::Error;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::thread;

fn pair() -> (Server, Server) {
    let one = Server::start(&[]);
    let other = follower_of(one.port(), &[]);
    wait_for(other.port(), "master_link_status", |status| status == "up");
    (one, other)
}

fn addr(server: &Server) -> Option<String> {
    Some(format!("127.0.0.1:{}", server.port()))
}

/// Threads count up while the lead goes back and forth. No call fails, and each is counted once.
#[test]
fn a_planned_change_of_the_leader_is_not_noticed() {
    let (one, other) = pair();
    let client = client(&[one.port(), other.port()]);
    let (stop, counted) = (AtomicBool::new(false), AtomicI64::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            let (client, stop, counted) = (&client, &stop, &counted);
            scope.spawn(move || {
                while !stop.load(SeqCst) {
                    client.incr("n").expect("an answer");
                    counted.fetch_add(1, SeqCst);
                }
            });
        }
        let _stop = StopOnDrop(&stop);
        for node in [&other, &one, &other] {
            let seen = counted.load(SeqCst);
            assert!(wait_until(DEADLINE, || counted.load(SeqCst) > seen + 20), "it goes on");
            assert_eq!(Resp::connect(node.port()).call(&["PROMOTE"]), Value::ok());
            assert!(wait_until(DEADLINE, || client.leader() == addr(node)), "it is found");
            let last = if node.port() == one.port() { &other } else { &one };
            wait_for(last.port(), "master_link_status", |status| status == "up");
        }
    });
    note(&format!("{counted:?} increments through three changes of the leader"));
    assert_eq!(client.get("n"), Ok(counted.into_inner()));
}

/// The only address that the client knows is a follower's.
#[test]
fn a_follower_names_its_leader() {
    let (one, other) = pair();
    let client = client(&[other.port()]);
    assert_eq!(client.set("k", "v"), Ok(()));
    assert_eq!(client.leader(), addr(&one));
}

#[test]
fn a_killed_leader_is_replaced() {
    let (mut one, other) = pair();
    let client = client(&[one.port(), other.port()]);
    assert_eq!(client.set("k", "v"), Ok(()));
    let mut follower = Resp::connect(other.port());
    assert!(wait_until(DEADLINE, || follower.call(&["GET", "k"]) == Value::bulk("v")));
    one.kill();
    let (read, written) = thread::scope(|scope| {
        // Nothing leads for a while: both wait.
        let reading = scope.spawn(|| client.get::<Option<String>>("k"));
        let writing = scope.spawn(|| client.set("after", "v"));
        wait_for(other.port(), "master_link_status", |status| status == "down");
        lead(other.port());
        (reading.join().expect("no panic"), writing.join().expect("no panic"))
    });
    assert_eq!(read, Ok(Some("v".to_owned())));
    // It may have gone to the connection that the kill ended.
    assert!(matches!(written, Ok(()) | Err(Error::InDoubt(_))), "{written:?}");
    assert_eq!((client.set("last", "v"), client.leader()), (Ok(()), addr(&other)));
}
