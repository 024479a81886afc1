//! The hazard: a server with nothing to do keeps a processor awake, because some thread sleeps and looks
//! again instead of waiting for what it wants.
//!
//! Each time that a thread of the process has gone to sleep is counted by the kernel. The sweeper wakes
//! `hz` times a second, a link to a follower sends ten heartbeats; all other threads wake about once.

mod common;

use common::nodes::{assert_replicated, follower_of};
use common::resp::{Resp, Value};
use common::server::{Process, Server};
use common::wait_until;
use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

/// More than any server here needs, and a tenth of what one poll of a few milliseconds costs.
const WAKE_UPS_MAX: f64 = 30.0;
const MEASURED: Duration = Duration::from_secs(4);

/// The number of times that each thread of a process has gone to sleep so far, by number and name.
fn sleeps(process: &Process) -> BTreeMap<String, u64> {
    let tasks = fs::read_dir(format!("/proc/{}/task", process.pid())).expect("it runs");
    let of_task = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        let key = format!("{} {}", task.file_name().to_string_lossy(), field("Name:"));
        Some((key, field("voluntary_ctxt_switches:").parse().ok()?))
    };
    tasks.flatten().filter_map(of_task).collect()
}

/// Measures servers that have nothing to do, all at one time.
fn assert_asleep(what: &str, servers: &[&Server]) {
    // Until the last of what was done before is over, such as a sync.
    let _ = wait_until(Duration::from_secs(2), || false);
    let before: Vec<_> = servers.iter().map(|server| sleeps(server)).collect();
    let began = Instant::now();
    let _ = wait_until(MEASURED, || false);
    let seconds = began.elapsed().as_secs_f64();
    for (server, before) in servers.iter().zip(before) {
        let after = sleeps(server);
        let rates: BTreeMap<&String, f64> = after
            .iter()
            .map(|(thread, count)| {
                let earlier = before.get(thread).copied().unwrap_or(*count);
                (thread, (count - earlier) as f64 / seconds)
            })
            .collect();
        let all: f64 = rates.values().sum();
        assert!(all < WAKE_UPS_MAX, "{what}: {all:.0} wake-ups per second: {rates:.1?}");
    }
}

#[test]
fn a_server_alone_sleeps_under_every_policy() {
    let settings: [&[(&str, &str)]; 6] = [
        &[("appendfsync", "always")],
        &[("appendfsync", "everysec")],
        &[("appendfsync", "no")],
        &[("appendfsync", "1ms")],
        &[("appendonly", "no")],
        &[("maxmemory", "100mb"), ("maxmemory-policy", "allkeys-lru")],
    ];
    let servers: Vec<Server> = settings.iter().map(|settings| Server::start(settings)).collect();
    for (server, settings) in servers.iter().zip(settings) {
        let mut client = Resp::connect(server.port());
        assert_eq!(client.call(&["SET", "k", "v"]), Value::ok(), "{settings:?}");
    }
    let all: Vec<&Server> = servers.iter().collect();
    assert_asleep("alone", &all);
}

#[test]
fn a_leader_and_its_follower_sleep_under_every_policy() {
    for policy in ["always", "everysec", "no"] {
        let leader = Server::start(&[("appendfsync", policy)]);
        let follower = follower_of(leader.port(), &[("appendfsync", policy)]);
        assert_eq!(Resp::connect(leader.port()).call(&["SET", "k", "v"]), Value::ok());
        assert_replicated(&leader, &[&follower]);
        assert_asleep(policy, &[&leader, &follower]);
    }
}

/// A follower that cannot reach its leader tries again and again, but not all the time.
#[test]
fn a_follower_without_a_leader_sleeps() {
    let port = common::server::lasting_port();
    let follower = follower_of(port, &[]);
    assert_asleep("no leader", &[&follower]);
}

/// The promise of an interval also holds for the first write after a long rest.
#[test]
fn a_write_after_a_rest_is_synced_at_the_policys_pace() {
    let server = Server::start(&[("appendfsync", "100ms")]);
    let mut client = Resp::connect(server.port());
    let durable = |client: &mut Resp| {
        let page = client.call(&["INFO", "persistence"]);
        let page = String::from_utf8_lossy(page.as_bytes()).into_owned();
        let field = |name: &str| page.lines().find_map(|l| l.strip_prefix(name)).map(str::to_owned);
        field("kvstore_durable_seq:") == field("kvstore_appended_seq:")
    };
    for n in 0..3 {
        assert!(wait_until(common::DEADLINE, || durable(&mut client)), "round {n}");
        let _ = wait_until(Duration::from_millis(1500), || false);
        assert_eq!(client.call(&["SET", "k", &n.to_string()]), Value::ok());
    }
    assert!(wait_until(common::DEADLINE, || durable(&mut client)), "the last write is not synced");
    // A longer pace, and a shorter one that must not wait for the longer one to end.
    assert_eq!(client.call(&["CONFIG", "SET", "appendfsync", "3600s"]), Value::ok());
    assert_eq!(client.call(&["SET", "k", "slow"]), Value::ok());
    assert_eq!(client.call(&["CONFIG", "SET", "appendfsync", "100ms"]), Value::ok());
    assert!(wait_until(common::DEADLINE, || durable(&mut client)), "it waits for an hour");
}
