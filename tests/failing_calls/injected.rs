//! Single system calls of a running server that fail.

use crate::common::injection::Injection;
use crate::common::resp::{Resp, Value};
use crate::common::server::{Server, connect};
use crate::common::{DEADLINE, wait_until};
use crate::ledger::{Ledger, info};
use std::fs;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

fn start(policy: &str) -> (Server, Resp, Ledger) {
    let server = Server::start(&[("appendfsync", policy), ("auto-compact-percentage", "0")]);
    let mut client = Resp::connect(server.port());
    let mut ledger = Ledger::new("c", 100);
    (0..10).for_each(|_| ledger.write(&mut client).expect("a healthy server"));
    (server, client, ledger)
}

fn restart_and_check(mut server: Server, ledger: &mut Ledger) {
    server.kill();
    let server = Server::start_in(&server.shared_dir(), &[]);
    let mut client = Resp::connect(server.port());
    ledger.check(&mut client);
    ledger.write(&mut client).expect("a healthy server");
}

/// One failed sync is enough, even if later ones would succeed.
fn a_failed_sync(policy: &str) {
    let (server, mut client, mut ledger) = start(policy);
    let Some(injection) = Injection::begin(&server, "fdatasync:error=EIO:when=1") else { return };
    let refused = wait_until(DEADLINE, || ledger.write(&mut client).is_err());
    assert!(refused, "a failed sync goes unnoticed; {} injected", injection.injected());
    drop(injection);

    // A reader beside others, who all look at what was not made durable: none is cut off.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut reader = Resp::connect(server.port());
                (0..200).for_each(|_| ledger.check_some(&mut reader));
            });
        }
    });
    for _ in 0..5 {
        let error = ledger.write(&mut client).expect_err("a sync has failed");
        assert!(error.contains("cannot sync the log"), "{error}");
    }
    ledger.check(&mut client);
    assert_eq!(info(&mut client, "aof_last_write_status"), "err");
    assert!(server.stderr().contains("cannot sync the log"), "{}", server.stderr());
    restart_and_check(server, &mut ledger);
}

#[test]
fn a_failed_sync_under_always() {
    a_failed_sync("always");
}

#[test]
fn a_failed_sync_at_an_interval() {
    a_failed_sync("100ms");
}

#[test]
fn failed_writes() {
    for (policy, error) in [("always", "ENOSPC"), ("100ms", "EIO"), ("no", "EDQUOT")] {
        let (server, mut client, mut ledger) = start(policy);
        let mut queueing = Resp::connect(server.port());
        queueing.call(&["MULTI"]);
        queueing.call(&["SET", "queued", "v"]);
        let what = format!("pwrite64:error={error}");
        let Some(injection) = Injection::begin(&server, &what) else { return };
        ledger.write_until_refused(&mut client);
        transactions_are_refused_if_they_write(&mut queueing);
        for _ in 0..5 {
            ledger.write(&mut client).expect_err("writes fail");
            ledger.check(&mut client);
        }
        assert!(injection.injected() > 0);
        drop(injection);
        let resumed = wait_until(DEADLINE, || ledger.write(&mut client).is_ok());
        assert!(resumed, "{policy}: service does not resume");
        (0..10).for_each(|_| ledger.write(&mut client).expect("a healthy server"));
        ledger.check(&mut client);
        restart_and_check(server, &mut ledger);
    }
}

/// When it is executed, if it was queued before the failure; otherwise when it is queued.
fn transactions_are_refused_if_they_write(queueing: &mut Resp) {
    let refusal = |reply: Value| match reply {
        Value::Error(text) => text,
        reply => panic!("{reply:?} is no refusal"),
    };
    let text = refusal(queueing.call(&["EXEC"]));
    assert!(text.starts_with("EXECABORT Transaction discarded because of: MISCONF "), "{text}");
    queueing.call(&["MULTI"]);
    assert!(refusal(queueing.call(&["SET", "queued", "v"])).starts_with("MISCONF "));
    assert!(refusal(queueing.call(&["EXEC"])).starts_with("EXECABORT "));
    queueing.call(&["MULTI"]);
    queueing.call(&["GET", "queued"]);
    assert_eq!(queueing.call(&["EXEC"]), Value::Array(vec![Value::Null]), "reads go on");
}

/// Makes a compaction fail at a call; the server must go on as if nothing had been, and the next one work.
fn a_failed_compaction(what: &str) {
    let (server, mut client, mut ledger) = start("everysec");
    // Else what a base replaces would be kept for followers, and nothing be removed.
    assert_eq!(client.call(&["CONFIG", "SET", "repl-backlog-size", "0"]), Value::ok());
    let Some(injection) = Injection::begin(&server, what) else { return };
    let reply = client.call(&["BGREWRITEAOF"]);
    assert!(!reply.is_error(), "{what}: {reply:?}");
    let failed = wait_until(DEADLINE, || info(&mut client, "aof_last_bgrewrite_status") == "err");
    assert!(failed, "{what}: it succeeds all the same; {} injected", injection.injected());
    assert!(server.stderr().contains("cannot compact the log"), "{what}: {}", server.stderr());
    ledger.write(&mut client).unwrap_or_else(|error| panic!("{what}: {error}"));
    drop(injection);

    ledger.check(&mut client);
    let files = fs::read_dir(server.dir().join("data")).expect("the data directory");
    let names: Vec<_> = files.flatten().map(|file| file.file_name()).collect();
    let is_unfinished = |name: &std::ffi::OsString| name.to_string_lossy().ends_with(".tmp");
    assert!(!names.iter().any(is_unfinished), "{what}: {names:?}");
    assert_eq!(client.call(&["SAVE"]), Value::ok(), "{what}");
    assert_eq!(info(&mut client, "aof_last_bgrewrite_status"), "ok");
    restart_and_check(server, &mut ledger);
}

#[test]
fn a_failed_rename() {
    a_failed_compaction("?rename,?renameat,?renameat2:error=EIO");
}

#[test]
fn a_file_that_cannot_be_made() {
    a_failed_compaction("openat:error=EMFILE");
    a_failed_compaction("openat:error=ENOSPC:when=2+");
}

#[test]
fn a_file_that_cannot_be_removed() {
    a_failed_compaction("?unlink,?unlinkat:error=EIO");
}

/// The name of a new segment could not be made durable: as a failed sync of the file itself.
#[test]
fn a_failed_sync_of_the_directory() {
    let (server, mut client, mut ledger) = start("always");
    let Some(injection) = Injection::begin(&server, "fsync:error=EIO") else { return };
    let reply = client.call(&["BGREWRITEAOF"]);
    assert!(!reply.is_error(), "{reply:?}");
    let refused = wait_until(DEADLINE, || ledger.write(&mut client).is_err());
    assert!(refused, "a failed sync goes unnoticed; {} injected", injection.injected());
    drop(injection);
    ledger.write(&mut client).expect_err("a sync has failed");
    ledger.check(&mut client);
    restart_and_check(server, &mut ledger);
}

/// The disk hangs under a compaction when the server is told to end: the compaction is left behind, and
/// the log gets its last sync all the same.
#[test]
fn a_compaction_that_hangs_does_not_hold_up_the_end() {
    let settings = [("appendfsync", "everysec"), ("shutdown-timeout", "1")];
    let mut server = Server::start(&settings);
    let (mut client, mut ledger) = (Resp::connect(server.port()), Ledger::new("c", 100));
    (0..10).for_each(|_| ledger.write(&mut client).expect("a healthy server"));
    let synced = wait_until(DEADLINE, || {
        info(&mut client, "kvstore_durable_seq") == info(&mut client, "kvstore_appended_seq")
    });
    assert!(synced, "the log is not synced");
    let Some(injection) = Injection::begin(&server, "fsync:delay_enter=60000000") else { return };
    assert!(!client.call(&["BGREWRITEAOF"]).is_error());
    let hangs = wait_until(DEADLINE, || injection.has_traced());
    assert!(hangs, "the compaction syncs nothing");
    server.signal("TERM");
    let ended = wait_until(DEADLINE, || server.stderr().contains("[main] bye"));
    // strace sits out the delay, and until it has let go the process counts as there.
    injection.kill();
    assert!(ended, "{}", server.stderr());
    let status = server.exit_status();
    assert_eq!(status.code(), Some(0), "it ends in order");
    let log = server.stderr();
    assert!(log.contains("the thread compactor has not ended within shutdown-timeout"), "{log}");
    restart_and_check(server, &mut ledger);
}

/// Replies that wait for the disk are sent by the sync thread. If the client is slow and no thread can be
/// had for it, nothing else would ever send them: it is cut off, and that is counted and logged.
#[test]
fn a_client_is_cut_off_when_there_is_no_thread_to_send_it_what_was_parked() {
    let server = Server::start(&[("appendfsync", "always")]);
    let mut client = Resp::connect(server.port());
    assert_eq!(client.call(&["SET", "large", &"v".repeat(1 << 20)]), Value::ok());
    let mut slow = connect(server.port());
    let mut writers: Vec<Resp> = (0..8).map(|_| Resp::connect(server.port())).collect();
    writers.iter_mut().for_each(|writer| assert_eq!(writer.call(&["PING"]), Value::simple("PONG")));
    let what = "?clone,?clone3:error=EAGAIN";
    let Some(injection) = Injection::begin(&server, what) else { return };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in &mut writers {
            let over = &over;
            scope.spawn(move || {
                while !over.load(Relaxed) {
                    assert_eq!(writer.call(&["SET", "w", "v"]), Value::ok());
                }
            });
        }
        let _over = crate::common::nodes::StopOnDrop(&over);
        let crowded = wait_until(DEADLINE, || {
            info(&mut client, "kvstore_records_per_fsync").parse::<f64>().is_ok_and(|n| n > 1.5)
        });
        assert!(crowded, "each writer syncs alone");
        // A write, and more than its socket holds.
        slow.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\ns\r\n$1\r\nv\r\n").expect("sending");
        slow.write_all(&b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n".repeat(40)).expect("sending");
        let address = slow.local_addr().expect("its address").to_string();
        let gone = wait_until(DEADLINE, || {
            let list = client.call(&["CLIENT", "LIST"]);
            !String::from_utf8_lossy(list.as_bytes()).contains(&address)
        });
        assert!(gone, "it waits for ever; {} injected", injection.injected());
        let stats = client.call(&["INFO", "stats"]);
        let stats = String::from_utf8_lossy(stats.as_bytes()).into_owned();
        assert!(stats.contains("\nkvstore_push_thread_failures:1\r\n"), "{stats}");
    });
    assert!(server.stderr().contains("there is no thread to send"), "{}", server.stderr());
}
