//! Hazard: after a restart of either side the follower needs all of the data again.
//!
//! History is on disk, so a link goes on where it was: after a shutdown and after `kill -9`, of leader,
//! follower or both, with segments of a few kilobytes and compactions in between.

use crate::common::nodes::{StopOnDrop, assert_replicated, count, follower_of, load};
use crate::common::proxy::Proxy;
use crate::common::resp::Resp;
use crate::common::server::Server;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

const TINY: &[(&str, &str)] =
    &[("segment-size", "4kb"), ("auto-compact-min-size", "64kb"), ("repl-timeout", "2")];

/// Restarts some of the two, with a compaction of each in between, and fails if a copy was needed.
fn restart_both_ways(signal: &str) {
    let mut leader = Server::start(TINY);
    let link = Proxy::to(leader.port(), 1);
    let mut follower = follower_of(link.port(), TINY);
    load(leader.port(), 1, 50);
    assert_replicated(&leader, &[&follower]);
    for round in 0..6 {
        let (port, stop) = (leader.port(), AtomicBool::new(false));
        thread::scope(|scope| {
            // It ends with its server; then the next round writes on.
            let writing = scope.spawn(|| {
                let mut seed = round * 100;
                while !stop.load(SeqCst) {
                    seed += 1;
                    load(port, seed, 5);
                }
            });
            let stop = StopOnDrop(&stop);
            if round % 3 == 0 {
                follower.restart(signal);
                compact(&follower);
                drop(stop);
                writing.join().expect("the leader was there all the time");
            } else {
                compact(&leader);
                drop(stop);
                writing.join().expect("the leader was there all the time");
                leader.restart(signal);
                link.set_target(leader.port());
            }
            if round % 3 == 2 {
                follower.restart(signal);
            }
        });
        load(leader.port(), round, 20);
        assert_replicated(&leader, &[&follower]);
        assert_eq!(count(follower.port(), "kvstore_full_copies_received"), 0, "round {round}");
        assert_eq!(count(follower.port(), "kvstore_diverged_records"), 0, "round {round}");
    }
}

fn compact(server: &Server) {
    // An error says only that one is going on.
    Resp::connect(server.port()).call(&["BGREWRITEAOF"]);
}

#[test]
fn shutdowns() {
    restart_both_ways("TERM");
}

#[test]
fn kills() {
    restart_both_ways("KILL");
}

/// A chain: the node in the middle is gone for a while, and then has another epoch's records to pass on.
#[test]
fn the_middle_of_a_chain() {
    let mut leader = Server::start(TINY);
    let (near, mut nodes) = (Proxy::to(leader.port(), 1), Vec::new());
    let middle = follower_of(near.port(), TINY);
    let far = Proxy::to(middle.port(), 2);
    let end = follower_of(far.port(), TINY);
    nodes.extend([middle, end]);
    for signal in ["KILL", "TERM", "KILL"] {
        load(leader.port(), 1, 30);
        leader.restart(signal);
        near.set_target(leader.port());
        load(leader.port(), 2, 30);
        nodes[0].restart(signal);
        far.set_target(nodes[0].port());
        load(leader.port(), 3, 30);
        assert_replicated(&leader, &[&nodes[0], &nodes[1]]);
        for node in &nodes {
            assert_eq!(count(node.port(), "kvstore_full_copies_received"), 0);
        }
    }
}
