//! Sessions read their own writes, and say when a failover lost one.

use super::{builder, client};
use crate::common::nodes::{count, follower_of, lead, quick_and_slow, wait_for};
use crate::common::proxy::Proxy;
use crate::common::server::Server;
use crate::common::{DEADLINE, long_form, note};
use kvstore::client::{Error, Reads};
use std::thread;
use std::time::Duration;

const WAIT: Duration = Duration::from_millis(50);
/// Of the slow follower's link: some thousand records a second, fewer than the sessions write.
const BYTES_PER_SECOND: u64 = 256 << 10;

/// Sessions that write and read pairs. Returns how many reads were stale.
fn stale_reads(ports: &[u16], reads: Reads, pairs: usize) -> usize {
    const SESSIONS: usize = 8;
    let client = client(ports);
    thread::scope(|scope| {
        let sessions: Vec<_> = (0..SESSIONS)
            .map(|session| {
                let mut own = client.session(reads);
                scope.spawn(move || {
                    let is_stale = |n: &usize| {
                        let (key, value) = (format!("pair:{session}:{}", n % 10), n.to_string());
                        own.set(&key, &value).expect("an answer");
                        let read: Option<String> = own.get(&key).expect("an answer");
                        read != Some(value)
                    };
                    (0..pairs / SESSIONS).filter(is_stale).count()
                })
            })
            .collect();
        sessions.into_iter().map(|session| session.join().expect("no panic")).sum()
    })
}

#[test]
fn no_read_is_stale() {
    let pairs = if long_form() { 100_000 } else { 3000 };
    let leader = Server::start(&[]);
    let (slow, followers) = quick_and_slow(&leader);
    slow.throttle(BYTES_PER_SECOND);
    let ports = [leader.port(), followers[0].port(), followers[1].port()];
    let served = || -> u64 {
        followers.iter().map(|node| count(node.port(), "total_commands_processed")).sum()
    };
    let before = served();
    let with = stale_reads(&ports, Reads::Followers { wait: WAIT }, pairs);
    let by_followers = served() - before;
    let without = stale_reads(&ports, Reads::Local, pairs);
    note(&format!(
        "{pairs} pairs: {with} stale with tokens ({by_followers} commands on followers), {without} without"
    ));
    assert_eq!(with, 0);
    assert!(without > 0, "the test could not have failed");
    assert!(by_followers as usize > pairs / 2, "{by_followers} commands on followers");
}

/// A follower that is behind, and one that does not answer, cost time and no answer.
#[test]
fn the_leader_answers_for_a_follower_that_cannot() {
    let leader = Server::start(&[]);
    let link = Proxy::to(leader.port(), 1);
    let follower = follower_of(link.port(), &[]);
    wait_for(follower.port(), "master_link_status", |status| status == "up");
    let mut session = client(&[leader.port(), follower.port()])
        .session(Reads::Followers { wait: Duration::from_millis(1) });
    link.stall(true);
    assert_eq!(session.set("k", "new"), Ok(()));
    assert_eq!(session.get("k"), Ok(Some("new".to_owned())), "the follower is behind");
    drop(follower);
    assert_eq!(session.get("k"), Ok(Some("new".to_owned())), "the follower is gone");
    let token = session.token().expect("it wrote").clone();
    let mut other = client(&[leader.port()]).session(Reads::Leader);
    other.observe(token.clone());
    assert_eq!((other.get("k"), other.token()), (Ok(Some("new".to_owned())), Some(&token)));
}

#[test]
fn a_lost_write_is_reported_once() {
    let mut old = Server::start(&[]);
    let link = Proxy::to(old.port(), 1);
    let new = follower_of(link.port(), &[]);
    wait_for(new.port(), "master_link_status", |status| status == "up");
    let client = builder(&[old.port(), new.port()]).deadline(DEADLINE).build().expect("valid");
    let mut session = client.session(Reads::Leader);
    link.refuse(true);
    wait_for(new.port(), "master_link_status", |status| status == "down");
    assert_eq!(session.set("lost", "v"), Ok(()));
    let token = session.token().expect("it wrote").clone();
    old.kill();
    lead(new.port());
    // The new leader's first record begins another history.
    assert_eq!(client.command(["SET", "new", "v"]).may_repeat().query(), Ok(()));
    assert_eq!(session.get::<Option<String>>("lost"), Err(Error::Lost(token)));
    assert_eq!(session.get::<Option<String>>("lost"), Ok(None), "the session goes on");
}

/// Without a log there are no tokens: the session reads where it wrote.
#[test]
fn a_server_without_a_log() {
    let leader = Server::start(&[("appendonly", "no")]);
    let mut session = client(&[leader.port()]).session(Reads::Followers { wait: WAIT });
    assert_eq!(session.incr("n"), Ok(1));
    assert_eq!(session.token(), None);
    assert_eq!(session.get("n"), Ok(1));
}
