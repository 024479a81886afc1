//! Hazard: a planned change of the leader loses a write, or leaves two leaders, or none.

use crate::common::nodes::{StopOnDrop, assert_replicated, count, follower_of, info, wait_for};
use crate::common::proxy::Proxy;
use crate::common::resp::{Resp, Value};
use crate::common::rng::{Rng, fresh_seed};
use crate::common::server::Server;
use crate::common::{DEADLINE, long_form, note, number_from_env, wait_until};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

const WRITERS: usize = 4;

/// Counts up on whichever node takes it, and says how many were acknowledged.
fn count_up(name: &str, ports: [u16; 2], stop: &AtomicBool) -> u64 {
    let mut clients = ports.map(Resp::connect);
    let (mut at, mut acknowledged) = (0, 0);
    while !stop.load(SeqCst) {
        match clients[at].call(&["INCR", name]) {
            Value::Int(_) => acknowledged += 1,
            Value::Error(text) if text.starts_with("READONLY") => {
                at = 1 - at;
                thread::sleep(Duration::from_millis(1));
            }
            other => panic!("{other:?}"),
        }
    }
    acknowledged
}

fn leads(port: u16) -> bool {
    info(port, "role") == "master"
}

/// The two nodes, the one that leads first; waits until exactly one does.
fn by_role<'s>(one: &'s Server, other: &'s Server) -> (&'s Server, &'s Server) {
    let roles = || (leads(one.port()), leads(other.port()));
    let is_one = wait_until(3 * DEADLINE, || roles().0 != roles().1);
    assert!(is_one, "who leads: {:?}", roles());
    if roles().0 { (one, other) } else { (other, one) }
}

/// Runs `change` under load; then all that was acknowledged must be there, and one node leads.
fn under_load(one: &Server, other: &Server, mut change: impl FnMut()) {
    let ports = [one.port(), other.port()];
    let (stop, acknowledged) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; WRITERS]);
    thread::scope(|scope| {
        for (writer, acknowledged) in acknowledged.iter().enumerate() {
            let stop = &stop;
            scope.spawn(move || {
                acknowledged.store(count_up(&format!("n:{writer}"), ports, stop), SeqCst);
            });
        }
        let stop = StopOnDrop(&stop);
        change();
        drop(stop);
    });
    let (leader, follower) = by_role(one, other);
    assert_replicated(leader, &[follower]);
    let mut client = Resp::connect(leader.port());
    for (writer, acknowledged) in acknowledged.iter().enumerate() {
        let value = client.call(&["GETDEL", &format!("n:{writer}")]);
        let value: u64 = String::from_utf8_lossy(value.as_bytes()).parse().expect("a count");
        assert_eq!(value, acknowledged.load(SeqCst), "writes of {writer}: there, acknowledged");
    }
    for node in [one, other] {
        assert_eq!(count(node.port(), "kvstore_diverged_records"), 0, "two took writes");
        assert_eq!(count(node.port(), "kvstore_full_copies_received"), 0);
    }
}

#[test]
fn promotions_under_load_lose_nothing() {
    let one = Server::start(&[]);
    let other = follower_of(one.port(), &[]);
    wait_for(other.port(), "master_link_status", |status| status == "up");
    under_load(&one, &other, || {
        for round in 0..6 {
            thread::sleep(Duration::from_millis(30));
            let next = if round % 2 == 0 { &other } else { &one };
            assert_eq!(Resp::connect(next.port()).call(&["PROMOTE"]), Value::ok(), "round {round}");
            assert!(leads(next.port()));
            let last = if round % 2 == 0 { &one } else { &other };
            wait_for(last.port(), "role", |role| role == "slave");
            wait_for(last.port(), "master_link_status", |status| status == "up");
        }
    });
    assert_eq!(
        Resp::connect(one.port()).call(&["PROMOTE"]),
        Value::simple("OK this node leads already")
    );
}

/// The link breaks at some moment of the handing over. Either it does not happen, or it does; the old leader
/// says it again over the next link if it might not have been heard.
#[test]
fn the_link_dies_in_the_middle() {
    let seed = number_from_env("KVSTORE_SEED").unwrap_or_else(fresh_seed);
    let mut rng = Rng::new(seed);
    let (rounds, mut handed_over, mut cut_off) = (if long_form() { 40 } else { 6 }, 0, 0);
    for round in 0..rounds {
        let one = Server::start(&[]);
        let link = Proxy::to(one.port(), seed);
        let other = follower_of(link.port(), &[]);
        wait_for(other.port(), "master_link_status", |status| status == "up");
        under_load(&one, &other, || {
            thread::sleep(Duration::from_millis(20));
            link.delay(rng.pick(&[0, 1, 5]));
            let reply = thread::scope(|scope| {
                let promoting =
                    scope.spawn(|| Resp::connect(other.port()).call(&["PROMOTE", "3000"]));
                // Twice: the link that comes next is cut as well.
                for _ in 0..2 {
                    thread::sleep(Duration::from_millis(rng.between(0, 60) as u64));
                    link.cut();
                }
                thread::sleep(Duration::from_millis(20));
                link.heal();
                promoting.join().expect("an answer")
            });
            if reply == Value::ok() {
                handed_over += 1
            } else {
                cut_off += 1
            }
            let (leader, _) = by_role(&one, &other);
            assert!(reply != Value::ok() || leader.port() == other.port(), "round {round}");
        });
    }
    note(&format!(
        "{rounds} handovers over a breaking link (KVSTORE_SEED={seed}): {handed_over} done, {cut_off} not"
    ));
}

/// Of two clients that wait for the lead, one gives up.
#[test]
fn a_promote_that_gives_up_leaves_another_its_wish() {
    let one = Server::start(&[]);
    let link = Proxy::to(one.port(), 1);
    let other = follower_of(link.port(), &[]);
    wait_for(other.port(), "master_link_status", |status| status == "up");
    link.stall(true);
    let (first, second) = thread::scope(|scope| {
        let port = other.port();
        let promote = |ms| move || Resp::connect(port).call(&["PROMOTE", ms]);
        let second = scope.spawn(promote("8000"));
        let first = scope.spawn(promote("500")).join().expect("an answer");
        link.heal();
        (first, second.join().expect("an answer"))
    });
    assert_eq!(first, Value::error("ERR the leader has not handed over in time"));
    assert_eq!(second, Value::ok());
    assert!(leads(other.port()));
    wait_for(one.port(), "role", |role| role == "slave");
}

/// The link is slow: the leader hears of the wish, or this node of the lead, after the answer. Then the leader
/// goes on leading, and takes writes again.
#[test]
fn nothing_is_handed_over_after_promote_has_said_no() {
    let (mut done, mut not) = (0, 0);
    for timeout in ["200", "400", "600", "700", "800", "900", "1000", "1400", "8000"] {
        let one = Server::start(&[]);
        let link = Proxy::to(one.port(), 1);
        let other = follower_of(link.port(), &[]);
        wait_for(other.port(), "master_link_status", |status| status == "up");
        link.delay(300);
        let reply = Resp::connect(other.port()).call(&["PROMOTE", timeout]);
        if reply == Value::ok() {
            done += 1;
            assert!(leads(other.port()));
            wait_for(one.port(), "role", |role| role == "slave");
            continue;
        }
        not += 1;
        assert_eq!(reply, Value::error("ERR the leader has not handed over in time"));
        let late = wait_until(Duration::from_secs(2), || leads(other.port()));
        assert!(!late, "PROMOTE {timeout}: handed over after the answer");
        link.heal();
        let is_back = wait_until(DEADLINE, || leads(one.port()));
        assert!(is_back, "PROMOTE {timeout}: nobody leads");
        let mut client = Resp::connect(one.port());
        assert_eq!(client.call(&["SET", "after", timeout]), Value::ok());
        assert_replicated(&one, &[&other]);
        // And the next one is heard.
        assert_eq!(Resp::connect(other.port()).call(&["PROMOTE"]), Value::ok());
    }
    note(&format!("{done} late handovers done, {not} not"));
    assert!(done > 0 && not > 0);
}
