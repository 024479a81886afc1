//! Two nodes: replication is asynchronous, so a follower's reads and a failover are not linearizable, and the
//! checker must find that. A planned handover is, for writes.

use crate::client::{Client, Load, Mix, Stop};
use crate::common::linear::{Op, check};
use crate::common::nodes::{StopOnDrop, converge, follower_of, lead, wait_for};
use crate::common::proxy::Proxy;
use crate::common::resp::{Resp, Value};
use crate::common::server::Server;
use crate::common::{long_form, note};
use crate::{CLIENTS, MIXED, REGISTERS, Round, SINGLE, seed};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

/// Rounds in which a fault that is there must have been found.
const ROUNDS_MAX: u64 = 20;

/// A leader, and a follower at the other end of a network that can be disturbed.
fn pair() -> (Server, Proxy, Server) {
    let leader = Server::start(&[]);
    let link = Proxy::to(leader.port(), 1);
    let follower = follower_of(link.port(), &[]);
    wait_for(follower.port(), "master_link_status", |status| status == "up");
    (leader, link, follower)
}

/// Half of the clients use the leader, the others read from a follower that is some milliseconds late. All
/// together are not linearizable; those of the leader are.
#[test]
fn a_followers_stale_read_is_found() {
    let (leader, link, follower) = pair();
    link.delay(20);
    let (seed, on_leader) = (seed(), |id: usize| id <= CLIENTS / 2);
    let violation = (0..ROUNDS_MAX).find_map(|number| {
        let mut round = Round::new(number, seed, 1, SINGLE);
        let (clients, load) = round.parts();
        thread::scope(|scope| {
            for client in clients {
                let is_on_leader = on_leader(client.id);
                client.mix = if is_on_leader { Mix::All } else { Mix::Reads };
                let node = if is_on_leader { &leader } else { &follower };
                scope.spawn(move || client.run(node.port(), load, 200).expect("both stay up"));
            }
        });
        for register in 0..REGISTERS {
            let calls = round.calls(register, |client| on_leader(client.id));
            check(&calls).unwrap_or_else(|violation| panic!("on the leader: {violation}"));
        }
        round.violation()
    });
    let violation = violation.expect("a follower that is late gives stale reads");
    note(&format!("a stale read on a follower: {violation}"));
    let readers = violation.calls.iter().filter(|call| !on_leader(call.client));
    assert!(readers.count() > 0, "only a reader on the follower can see it: {violation}");
    assert!(violation.calls.iter().all(|call| on_leader(call.client) || call.op == Op::Get));
}

/// The leader dies with writes that it has acknowledged and not sent. Then the follower leads, without them.
fn fail_over(is_stalled: bool) -> Round {
    let (mut leader, link, follower) = pair();
    let mut round = Round::new(0, seed(), 1, MIXED);
    round.load(leader.port(), 50);
    converge(leader.port(), &[follower.port()]);
    link.stall(is_stalled);
    round.load(leader.port(), 50);
    if !is_stalled {
        converge(leader.port(), &[follower.port()]);
    }
    leader.kill();
    lead(follower.port());
    round.clients.iter_mut().for_each(|client| client.mix = Mix::Reads);
    round.load(follower.port(), 20);
    round
}

#[test]
fn a_write_that_a_failover_lost_is_found() {
    let violation = fail_over(true).violation().expect("acknowledged writes are lost");
    note(&format!("a write that a failover lost: {violation}"));
    let culprit = violation.culprit().expect("an answer without explanation");
    assert_eq!(culprit.op, Op::Get, "the new leader's first reads show it: {violation}");
}

#[test]
fn a_failover_to_a_follower_that_has_everything_is_not_seen() {
    fail_over(false).expect_linearizable("nothing was lost");
}

/// Writes to the node that leads, until it is told to stop.
fn write(client: &mut Client, ports: [u16; 2], load: Load<'_>, stop: &AtomicBool) {
    let mut at = 0;
    while !stop.load(SeqCst) {
        match client.run(ports[at], load, 20) {
            Ok(()) => {}
            Err(Stop::Refused) => at = 1 - at,
            Err(Stop::Gone) => panic!("a node has ended"),
        }
    }
}

/// Under load, the second of these nodes takes over from the first.
fn hand_over(nodes: [&Server; 2], round: &mut Round) {
    wait_for(nodes[1].port(), "master_link_status", |status| status == "up");
    let (ports, stop) = (nodes.map(|node| node.port()), AtomicBool::new(false));
    let (clients, load) = round.parts();
    thread::scope(|scope| {
        for client in clients {
            client.mix = Mix::Writes;
            scope.spawn(|| write(client, ports, load, &stop));
        }
        let _stop = StopOnDrop(&stop);
        // Some commands before and after it.
        thread::sleep(Duration::from_millis(30));
        assert_eq!(Resp::connect(ports[1]).call(&["PROMOTE"]), Value::ok());
        thread::sleep(Duration::from_millis(30));
    });
}

/// PROMOTE under load: each write is answered by the node that leads, or refused. A former leader goes on to
/// answer reads, as any follower does, so these clients only write until the end.
#[test]
fn a_planned_handover_is_linearizable_for_writes() {
    let (rounds, seed) = (if long_form() { 30 } else { 3 }, seed());
    let one = Server::start(&[]);
    let other = follower_of(one.port(), &[]);
    let (mut calls, mut nodes) = (0, [&one, &other]);
    for number in 0..rounds {
        let mut round = Round::new(number, seed, 1, MIXED);
        hand_over(nodes, &mut round);
        nodes.swap(0, 1);
        round.clients.iter_mut().for_each(|client| client.mix = Mix::Reads);
        round.load(nodes[0].port(), 50);
        let (sent, in_doubt) = round.expect_linearizable(&format!("KVSTORE_SEED={seed}"));
        assert_eq!(in_doubt, 0, "every write is answered or refused");
        calls += sent;
    }
    note(&format!("{rounds} handovers: {calls} calls, linearizable"));
}
