//! Hazard: two servers on one directory, of which each overwrites what the other has acknowledged.
//!
//! The file LOCK is only a name: it can be removed, replaced or reached by another path while a server
//! runs. The directory itself is locked as well.

mod common;

use common::nodes::StopOnDrop;
use common::resp::{Resp, Value};
use common::server::{Server, start_in_vain};
use common::{DEADLINE, wait_until};
use kvstore::aof::dir_lock;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

fn data(server: &Server) -> PathBuf {
    server.dir().join("data")
}

/// A second server must not start on this path, and must name the process that holds it.
fn is_refused(path: &Path, holder: &Server, what: &str) {
    let dir = path.to_str().expect("a plain path");
    let output = start_in_vain(&["serve", "--port", "0", "--dir", dir]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{what}: {said}");
    for word in ["another kvstore", &format!("process {}", holder.pid()), dir, "stop it"] {
        assert!(said.contains(word), "{what}: {said:?} does not say {word:?}");
    }
    let output = Server::command().args(["check", dir, "--repair"]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("another kvstore"), "{what}: {said}");
}

fn set(server: &Server, key: &str) {
    assert_eq!(Resp::connect(server.port()).call(&["SET", key, "value"]), Value::ok());
}

#[test]
fn a_lock_file_that_is_gone_or_replaced_lets_nobody_else_in() {
    let mut server = Server::start(&[("appendfsync", "always")]);
    let dir = data(&server);
    let lock = dir.join("LOCK");
    let link = server.dir().join("link");
    symlink(&dir, &link).expect("a link");
    set(&server, "a");
    is_refused(&dir, &server, "as it is");
    is_refused(&link, &server, "by a link");
    fs::remove_file(&lock).expect("the lock's file");
    is_refused(&dir, &server, "removed");
    is_refused(&link, &server, "removed, by a link");
    fs::write(&lock, "1\n").expect("a file");
    is_refused(&dir, &server, "replaced by a file");
    fs::remove_file(&lock).expect("the lock's file");
    fs::create_dir(&lock).expect("a directory");
    is_refused(&dir, &server, "replaced by a directory");
    fs::remove_dir(&lock).expect("the directory");
    fs::write(&lock, [0xff, 0xfe]).expect("a file");
    is_refused(&dir, &server, "replaced by what is not text");
    set(&server, "b");
    server.restart("KILL");
    assert_eq!(Resp::connect(server.port()).call(&["DBSIZE"]).as_int(), 2);
}

#[test]
fn of_many_starts_at_one_moment_one_succeeds() {
    let first = Server::start(&[]);
    let dir = first.shared_dir();
    let path = data(&first);
    for round in 0..5 {
        // A start that is refused does not make it again.
        let _ = fs::remove_file(path.join("LOCK"));
        let name = path.to_str().expect("a plain path").to_string();
        let starts = (0..3).map(|_| {
            let own = std::sync::Arc::new(tempfile::tempdir().expect("a temporary directory"));
            Server::spawn_in(&own, &[("dir", &name)])
        });
        let mut starts: Vec<Server> = starts.collect();
        let ended = wait_until(DEADLINE, || starts.iter_mut().all(|start| !start.is_alive()));
        assert!(ended, "round {round}: a second server runs on {}", dir.path().display());
    }
    drop(first);
    for round in 0..5 {
        let name = path.to_str().expect("a plain path").to_string();
        let starts = (0..3).map(|_| {
            let own = std::sync::Arc::new(tempfile::tempdir().expect("a temporary directory"));
            Server::spawn_in(&own, &[("dir", &name)])
        });
        let mut starts: Vec<Server> = starts.collect();
        let one = wait_until(DEADLINE, || {
            starts.iter().filter(|start| start.stdout().contains(" ready on ")).count() == 1
                && starts.iter_mut().filter_map(|s| s.is_alive().then_some(())).count() == 1
        });
        assert!(one, "round {round}");
    }
}

/// A tool that looks whether a server runs must not keep one from starting.
#[test]
fn a_look_beside_a_start_does_no_harm() {
    let mut server = Server::start(&[]);
    let (dir, stop) = (data(&server), AtomicBool::new(false));
    thread::scope(|scope| {
        let stop = StopOnDrop(&stop);
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.0.load(SeqCst) {
                    dir_lock::holder(&dir).expect("a look");
                }
            });
        }
        (0..10).for_each(|_| server.restart("TERM"));
    });
}

/// A server whose directory was moved away must not write into the one that took its place.
#[test]
fn a_server_never_writes_into_a_directory_that_took_the_place_of_its_own() {
    let mut first = Server::start(&[("segment-size", "1kb"), ("appendfsync", "always")]);
    let (dir, moved) = (data(&first), first.dir().join("moved"));
    set(&first, "a");
    fs::rename(&dir, &moved).expect("another name");
    is_refused(&moved, &first, "by its new name");
    let second = Server::start_in(&first.shared_dir(), &[]);
    set(&second, "b");
    let before = names(&dir);
    // Enough for new segments, and for a base and a new epoch.
    let mut client = Resp::connect(first.port());
    (0..100).for_each(|n| drop(client.call(&["SET", &format!("k{n}"), "value"])));
    assert!(client.call(&["SAVE"]).is_error(), "its base has no place to go");
    client.call(&["REPLICAOF", "127.0.0.1", "1"]);
    assert!(client.call(&["REPLICAOF", "NO", "ONE"]).is_error(), "nor has its epoch");
    assert_eq!(names(&dir), before);
    assert!(first.stderr().contains("no longer the directory"), "{}", first.stderr());
    first.kill();
    drop(second);
    let second = Server::start_in(&first.shared_dir(), &[]);
    assert_eq!(Resp::connect(second.port()).call(&["DBSIZE"]).as_int(), 1);
}

fn names(dir: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> =
        fs::read_dir(dir).expect("it is there").flatten().map(|file| file.path()).collect();
    names.sort();
    names
}

#[test]
fn a_copy_of_the_directory_is_another_directory() {
    let server = Server::start(&[]);
    let copy = server.dir().join("copy");
    fs::create_dir(&copy).expect("a directory");
    for file in names(&data(&server)) {
        fs::copy(&file, copy.join(file.file_name().expect("a name"))).expect("a copy");
    }
    let other = Server::start(&[("dir", copy.to_str().expect("a plain path"))]);
    assert!(other.stop().success());
}

/// Such a copy has its own names, but the files are those that the server writes.
#[test]
fn a_copy_by_hard_links_is_no_other_directory() {
    let server = Server::start(&[("appendfsync", "always")]);
    let copy = server.dir().join("copy");
    fs::create_dir(&copy).expect("a directory");
    for file in names(&data(&server)).iter().filter(|file| !file.ends_with("LOCK")) {
        fs::hard_link(file, copy.join(file.file_name().expect("a name"))).expect("a link");
    }
    let dir = copy.to_str().expect("a plain path");
    let output = start_in_vain(&["serve", "--port", "0", "--dir", dir]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("another kvstore"), "{said}");
}

#[test]
fn import_and_recover_leave_the_directory_of_a_running_server_alone() {
    let server = Server::start(&[]);
    let dir = data(&server);
    let source = server.dir().join("redis.aof");
    fs::write(&source, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n1\r\n").expect("a file");
    let (dir, source) = (dir.to_str().expect("a path"), source.to_str().expect("a path"));
    let import = || {
        let output = Server::command().args(["import", source, dir]).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(import().0, Some(1));
    for file in names(Path::new(dir)) {
        fs::remove_file(file).expect("a file");
    }
    let (code, said) = import();
    assert!(code == Some(1) && said.contains("another kvstore"), "{said}");
}
