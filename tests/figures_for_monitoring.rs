//! The hazard: monitoring made for Redis reads a field of INFO that is missing, or that always says 0; or a page that
//! contradicts itself, since its figures were read at different moments.

mod common;

use common::http::{body, get, page_port};
use common::nodes::{StopOnDrop, count, info};
use common::resp::{Resp, Value};
use common::server::Server;
use common::{DEADLINE, wait_until};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

fn changes(server: &Server) -> u64 {
    count(server.port(), "rdb_changes_since_last_save")
}

fn run(server: &Server, commands: &[&str]) {
    let mut client = Resp::connect(server.port());
    for command in commands {
        let reply = client.call(&command.split(' ').collect::<Vec<_>>());
        assert!(!matches!(reply, Value::Error(_)), "{command}: {reply:?}");
    }
}

/// They are what a restart would have to apply again, as Redis counts them.
#[test]
fn changes_since_the_last_base_are_counted() {
    for settings in [&[][..], &[("appendonly", "no")]] {
        let server = Server::start(settings);
        run(&server, &["SET a 1", "MSET b 1 c 2", "GET a", "DEL a b nothing", "DEL nothing"]);
        assert_eq!(changes(&server), 5);
        run(&server, &["MULTI", "INCR c", "EXPIRE c 100", "PERSIST c", "EXEC"]);
        assert_eq!(changes(&server), 8);
        run(&server, &["SET x 1", "FLUSHALL"]);
        assert_eq!(changes(&server), 11);
        run(&server, &["SET short 1 PX 1"]);
        assert!(wait_until(DEADLINE, || changes(&server) == 13), "an expiry is a change");
    }
}

#[test]
fn a_base_begins_the_count_of_changes_anew() {
    let server = Server::start(&[]);
    run(&server, &["SET a 1", "SET b 1", "SAVE"]);
    assert_eq!(changes(&server), 0);
    run(&server, &["SET c 1", "DEBUG RELOAD"]);
    assert_eq!(changes(&server), 1, "reading the data back is no change");
    let mut server = server;
    server.restart("TERM");
    assert!((1..=3).contains(&changes(&server)), "{} after a restart", changes(&server));
    run(&server, &["SAVE"]);
    assert_eq!(changes(&server), 0);
}

#[test]
fn a_compaction_has_a_duration_during_and_after_it() {
    let server = Server::start(&[]);
    let field = |name| info(server.port(), name);
    for name in ["rdb_last_bgsave_time_sec", "aof_last_rewrite_time_sec"] {
        assert_eq!(field(name), "-1", "{name}: there was none");
    }
    assert_eq!(field("rdb_current_bgsave_time_sec"), "-1");
    let keys: Vec<String> = (0..20).map(|n| format!("SETRANGE k:{n} 50000 x")).collect();
    run(&server, &keys.iter().map(String::as_str).collect::<Vec<_>>());
    run(&server, &["CONFIG SET compact-rate 300000", "BGSAVE"]);
    let runs = || count(server.port(), "aof_current_rewrite_time_sec") >= 1;
    assert!(wait_until(DEADLINE, runs), "{}", field("aof_current_rewrite_time_sec"));
    assert_eq!(field("rdb_bgsave_in_progress"), "1");
    assert!(wait_until(3 * DEADLINE, || field("rdb_last_bgsave_time_sec") != "-1"));
    assert!(count(server.port(), "aof_last_rewrite_time_sec") >= 1);
    assert_eq!(field("aof_current_rewrite_time_sec"), "-1");
    assert_eq!(field("rdb_saves"), "1");
}

#[test]
fn the_history_kept_for_followers_has_a_length() {
    let server = Server::start(&[]);
    run(&server, &["SET a 1", "SET b 1"]);
    let field = |name| count(server.port(), name);
    let is_consistent = || {
        let last = field("repl_backlog_first_byte_offset") + field("repl_backlog_histlen") - 1;
        assert_eq!(last, field("master_repl_offset"));
    };
    assert_eq!(field("repl_backlog_histlen"), 3, "with the record that begins the epoch");
    is_consistent();
    run(&server, &["CONFIG SET repl-backlog-size 1", "SAVE", "SET c 1"]);
    assert_eq!(field("repl_backlog_histlen"), 1);
    is_consistent();
}

/// The fields that redis_exporter, telegraf and Datadog read from Redis 7.0 and that mean something here.
#[test]
fn what_exporters_read_is_there() {
    let server = Server::start(&[]);
    for name in [
        "rdb_current_bgsave_time_sec",
        "aof_pending_rewrite",
        "sync_full",
        "sync_partial_ok",
        "evicted_clients",
        "total_forks",
        "pubsubshard_channels",
        "used_cpu_sys_children",
        "used_cpu_user_children",
        "mem_replication_backlog",
        "number_of_cached_scripts",
        "number_of_functions",
        "slave_expires_tracked_keys",
    ] {
        let value = info(server.port(), name);
        assert!(value.parse::<f64>().is_ok(), "{name}:{value}");
    }
}

/// While the role and the loading change all the time, each page tells of one moment.
#[test]
fn the_figures_of_a_page_fit_together() {
    let server = Server::start(&[]);
    let (port, page, stop) = (server.port(), page_port(&server), AtomicBool::new(false));
    let all_or_none = |page: &str, marks: &[&str]| {
        let there = marks.iter().filter(|mark| page.contains(*mark)).count();
        assert!(there == 0 || there == marks.len(), "{there} of {marks:?}\n{page}");
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                run(&server, &["DEBUG RELOAD", "REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"]);
            }
        });
        let _stop = StopOnDrop(&stop);
        let mut client = Resp::connect(port);
        for _ in 0..1500 {
            let info = client.call(&["INFO", "persistence", "replication"]);
            let info = String::from_utf8_lossy(info.as_bytes());
            all_or_none(&info, &["\nloading:1", "\nloading_start_time:", "\nloading_eta"]);
            all_or_none(&info, &["\nrole:slave", "\nmaster_host:", "\nslave_read_only:"]);
        }
        for _ in 0..300 {
            let metrics = get(page, "/metrics");
            all_or_none(&metrics, &["\nkvstore_loading 1", "\nkvstore_loading_total_bytes"]);
            all_or_none(&metrics, &["\nkvstore_leader 0", "\nkvstore_leader_hops"]);
            let status = get(page, "/status.json");
            all_or_none(body(&status), &["\"state\":\"loading\"", "\"loading\":{"]);
            all_or_none(body(&status), &["\"leader\":{", "\"lag_records\":"]);
        }
    });
}
