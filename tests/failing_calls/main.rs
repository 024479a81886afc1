//! Hazard: a call that the log depends on fails in a running server: the disk is full, or broken.
//!
//! Writes must be refused with `-MISCONF` and reads go on. When there is space again, service must resume
//! by itself; after a failed sync it must not, until a restart. In the end everything acknowledged is
//! there and nothing is there twice.
//!
//! Here the disk is a small tmpfs that really fills up, for which the test must be root; `injected` lets
//! `strace` make single calls fail. Where one or the other is not possible, the test says so and passes.

#[path = "../common/mod.rs"]
mod common;
mod following;
mod injected;
mod ledger;

use common::http::{body, get, page_port, status};
use common::resp::{Resp, Value};
use common::server::Server;
use common::{DEADLINE, skipped, wait_until};
use ledger::{Ledger, info};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

const VALUE_LEN: usize = 5000;

/// A small disk, mounted as long as this lives, in which a file takes up space that can be freed.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(ballast_kib: usize) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(dir.path());
        match mount.output() {
            Ok(output) if output.status.success() => {}
            _ => {
                skipped("cannot mount a tmpfs: not root, or not allowed to");
                return None;
            }
        }
        let disk = SmallDisk { dir };
        fs::write(disk.ballast(), vec![0; ballast_kib << 10]).expect("an empty disk");
        Some(disk)
    }

    fn ballast(&self) -> PathBuf {
        self.dir.path().join("ballast")
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).expect("the ballast");
    }

    fn data(&self) -> String {
        self.dir.path().join("data").into_os_string().into_string().expect("UTF-8")
    }

    fn files(&self) -> Vec<String> {
        let files = fs::read_dir(self.data()).expect("the data directory").flatten();
        files.filter_map(|file| file.file_name().into_string().ok()).collect()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.dir.path()).status();
    }
}

fn settings<'a>(data: &'a str, policy: &'a str) -> [(&'a str, &'a str); 4] {
    let never = ("auto-compact-percentage", "0");
    [("dir", data), ("appendfsync", policy), ("segment-size", "64kb"), never]
}

/// Fills the disk from several connections, frees it, goes on, restarts, and compares.
fn fills_up_and_is_freed(policy: &str) {
    let Some(disk) = SmallDisk::mount(1000) else { return };
    let data = disk.data();
    let mut server = Server::start(&settings(&data, policy));
    let port = server.port();
    let mut ledgers: Vec<_> = (0..4).map(|n| Ledger::new(&format!("c{n}"), VALUE_LEN)).collect();
    thread::scope(|scope| {
        for ledger in &mut ledgers {
            scope.spawn(move || ledger.write_until_refused(&mut Resp::connect(port)));
        }
    });
    assert!(ledgers.iter().map(Ledger::acked).sum::<usize>() > 50);

    // Full: writes are refused, reads go on, and INFO tells.
    let mut client = Resp::connect(port);
    for ledger in &mut ledgers {
        let error = ledger.write(&mut client).expect_err("the disk is full");
        assert!(error.contains("No space left"), "{error}");
        ledger.check(&mut client);
    }
    assert_eq!(info(&mut client, "aof_last_write_status"), "err");
    let ready = get(page_port(&server), "/readyz");
    assert!(body(&ready).starts_with("ready, for reads only: "), "{ready}");
    assert!(status(&ready) == "200" && ready.contains("No space left"), "{ready}");
    assert!(get(page_port(&server), "/metrics").contains("\nkvstore_log_up 0\n"));
    assert!(server.stderr().contains("No space left"), "{}", server.stderr());

    disk.free();
    let resumed = wait_until(DEADLINE, || ledgers[0].write(&mut client).is_ok());
    assert!(resumed, "service does not resume: {:?}", ledgers[0].write(&mut client));
    assert_eq!(info(&mut client, "aof_last_write_status"), "ok");
    assert_eq!(body(&get(page_port(&server), "/readyz")), "ready\n");
    for ledger in &mut ledgers {
        (0..5).for_each(|_| ledger.write(&mut client).expect("there is space"));
    }
    server.kill();
    restart_and_check(&server, &data, policy, &ledgers);
}

fn restart_and_check(server: &Server, data: &str, policy: &str, ledgers: &[Ledger]) {
    let server = Server::start_in(&server.shared_dir(), &settings(data, policy));
    let mut client = Resp::connect(server.port());
    ledgers.iter().for_each(|ledger| ledger.check(&mut client));
    assert_eq!(client.call(&["SET", "after", "restart"]), Value::ok());
}

#[test]
fn a_full_disk_under_always() {
    fills_up_and_is_freed("always");
}

#[test]
fn a_full_disk_under_an_interval() {
    fills_up_and_is_freed("100ms");
}

#[test]
fn a_full_disk_under_no() {
    fills_up_and_is_freed("no");
}

#[test]
fn killed_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount(1000) else { return };
    let data = disk.data();
    let mut server = Server::start(&settings(&data, "everysec"));
    let mut ledger = Ledger::new("c", VALUE_LEN);
    ledger.write_until_refused(&mut Resp::connect(server.port()));
    server.kill();

    // It may start or say why not; the disk is as full as before.
    let mut starting = Server::spawn_in(&server.shared_dir(), &settings(&data, "everysec"));
    let ready = || starting.stdout().contains("ready on") || !starting.is_alive();
    assert!(wait_until(DEADLINE, ready), "neither ready nor ended");
    if !starting.is_alive() {
        assert!(!starting.exit_status().success());
        assert!(starting.stderr().contains("No space left"), "{}", starting.stderr());
    }
    starting.kill();

    disk.free();
    restart_and_check(&server, &data, "everysec", &[ledger]);
}

#[test]
fn a_compaction_fills_the_disk() {
    let Some(disk) = SmallDisk::mount(600) else { return };
    let data = disk.data();
    let mut server = Server::start(&settings(&data, "everysec"));
    let mut client = Resp::connect(server.port());
    let mut ledger = Ledger::new("c", VALUE_LEN);
    // More than half of what there is: no room for a base beside it.
    (0..180).for_each(|_| ledger.write(&mut client).expect("there is space"));
    let reply = client.call(&["BGREWRITEAOF"]);
    assert!(!reply.is_error(), "{reply:?}");
    let failed = wait_until(DEADLINE, || info(&mut client, "aof_last_bgrewrite_status") == "err");
    assert!(failed, "the compaction finds space: {:?}", disk.files());
    assert!(server.stderr().contains("cannot compact"), "{}", server.stderr());

    // Its unfinished file is removed: there is space again without anyone's help.
    assert!(!disk.files().iter().any(|name| name.ends_with(".tmp")), "{:?}", disk.files());
    let resumed = wait_until(DEADLINE, || ledger.write(&mut client).is_ok());
    assert!(resumed, "service does not resume: {:?}", ledger.write(&mut client));
    ledger.check(&mut client);

    disk.free();
    assert_eq!(client.call(&["SAVE"]), Value::ok());
    assert_eq!(info(&mut client, "aof_last_bgrewrite_status"), "ok");
    server.kill();
    restart_and_check(&server, &data, "everysec", &[ledger]);
}
