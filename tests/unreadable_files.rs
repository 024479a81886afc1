//! Hazard: something in the data directory cannot be read, and the message does not say what.
//!
//! Each name that a start reads is replaced by a directory, by bytes that are not text, or by a file
//! without permissions. The server and `kvstore check` must name the path and say what to do; nothing that cannot
//! be read may count as "not there".

mod common;

use common::nodes::assert_replicated;
use common::resp::{Resp, Value};
use common::server::{Server, start_in_vain};
use common::{DEADLINE, wait_until};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// A directory with a base, a log, and all the rest, that no server uses.
fn healthy() -> (Arc<TempDir>, PathBuf) {
    let server = Server::start(&[("appendfsync", "always")]);
    let mut client = Resp::connect(server.port());
    assert_eq!(client.call(&["SET", "a", "1"]), Value::ok());
    assert!(!client.call(&["SAVE"]).is_error());
    assert_eq!(client.call(&["SET", "b", "2"]), Value::ok());
    let place = server.shared_dir();
    assert!(server.stop().success());
    let data = place.path().join("data");
    (place, data)
}

fn starts(data: &Path) -> String {
    let server = Server::start(&[("dir", data.to_str().expect("a plain path"))]);
    assert_eq!(Resp::connect(server.port()).call(&["DBSIZE"]).as_int(), 2);
    server.stderr()
}

/// The error of a server that does not start.
fn refusal(data: &Path) -> String {
    let dir = data.to_str().expect("a plain path");
    let output = start_in_vain(&["serve", "--port", "0", "--dir", dir]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    said
}

fn names(said: &str, path: &Path, advice: &str) {
    let path = path.display().to_string();
    assert_eq!(said.matches(&path).count(), 1, "{said:?} does not name {path} once");
    assert!(said.contains(advice), "{said:?} does not say {advice:?}");
}

fn check(data: &Path) -> (Option<i32>, String) {
    let output = Server::command().arg("check").arg(data).output().expect("it runs");
    let said = [&output.stdout[..], &output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_directory_where_a_file_should_be_is_named() {
    for name in ["node", "synced", "LOCK", "base-2.aof", "log-3.aof", "base-9.aof.tmp"] {
        let (_place, data) = healthy();
        let path = data.join(name);
        let _ = fs::remove_file(&path);
        fs::create_dir(&path).expect("a directory");
        names(&refusal(&data), &path, "move it away");
        if !["LOCK", "base-9.aof.tmp"].contains(&name) {
            let (code, said) = check(&data);
            assert!(code == Some(1) && said.contains(path.to_str().expect("a path")), "{said}");
        }
    }
}

#[test]
fn a_file_where_a_directory_should_be_is_named() {
    let (_place, data) = healthy();
    let log = data.join("log-3.aof");
    let torn = [&fs::read(&log).expect("the log")[..], b"#4 1 17"].concat();
    fs::write(&log, torn).expect("a file");
    fs::write(data.join("quarantine"), "").expect("a file");
    names(&refusal(&data), &data.join("quarantine"), "move it away");
    fs::remove_file(data.join("quarantine")).expect("a file");
    fs::write(data.join("replacement"), "").expect("a file");
    names(&refusal(&data), &data.join("replacement"), "move it away");
    fs::remove_file(data.join("replacement")).expect("a file");
    starts(&data);
    let file = data.join("node");
    names(&refusal(&file), &file, "move it away");
    let below = file.join("data");
    names(&refusal(&below), &below, "directory");
}

/// Files that a follower makes while it runs: its log names the path, and it goes on once the file is gone.
#[test]
fn a_file_where_a_follower_needs_a_directory_is_named() {
    let leader = Server::start(&[("repl-backlog-size", "0")]);
    assert_eq!(Resp::connect(leader.port()).call(&["SET", "a", "1"]), Value::ok());
    assert!(!Resp::connect(leader.port()).call(&["SAVE"]).is_error());
    let place = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let incoming = place.path().join("data/incoming");
    fs::create_dir(place.path().join("data")).expect("a directory");
    fs::write(&incoming, "").expect("a file");
    let to = format!("127.0.0.1 {}", leader.port());
    let follower = Server::start_in(&place, &[("replicaof", &to)]);
    let words = "data/incoming: Not a directory; a directory should be there: move it away";
    let said = wait_until(DEADLINE, || follower.stderr().contains(words));
    assert!(said, "{}", follower.stderr());
    fs::remove_file(&incoming).expect("the file");
    assert_replicated(&leader, &[&follower]);
}

#[test]
fn what_is_no_text_is_named() {
    let (_place, data) = healthy();
    let node = fs::read(data.join("node")).expect("the node's file");
    for damage in [&b"id \xff\xfe\nepoch 1\n"[..], b"", b"id 12\nepoch 1\n"] {
        fs::write(data.join("node"), damage).expect("a file");
        names(&refusal(&data), &data.join("node"), "backup");
        let (code, said) = check(&data);
        assert!(code == Some(1) && said.contains("node"), "{said}");
    }
    fs::write(data.join("node"), node).expect("a file");
    fs::write(data.join("LOCK"), [0xff, 0xfe]).expect("a file");
    starts(&data);
    fs::write(data.join("synced"), [0xff, 0xfe]).expect("a file");
    let log = starts(&data);
    let mark = data.join("synced").display().to_string();
    assert!(log.lines().any(|line| line.contains("WARN") && line.contains(&mark)), "{log}");
}

#[test]
fn a_file_without_permissions_is_named() {
    let (place, data) = healthy();
    // Root may read everything, so another user tries, who owns all of it.
    let is_root = fs::metadata("/proc/self").expect("this process").uid() == 0;
    if is_root {
        let all = fs::read_dir(&data).expect("a directory").flatten().map(|file| file.path());
        for path in all.chain([data.clone(), place.path().to_path_buf()]) {
            std::os::unix::fs::chown(path, Some(65_534), Some(65_534)).expect("root may");
        }
    }
    for name in ["node", "synced", "LOCK", "base-2.aof", "log-3.aof"] {
        let path = data.join(name);
        let mode = fs::metadata(&path).expect("a file").permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("the owner may");
        let mut command = Server::command();
        command.args(["serve", "--port", "0", "--dir"]).arg(&data);
        if is_root {
            command.uid(65_534).gid(65_534);
        }
        let output = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{name}: {said}");
        names(&said, &path, "permission");
        fs::set_permissions(&path, mode).expect("the owner may");
    }
}

#[test]
fn a_configuration_file_that_cannot_be_read_is_named_with_what_to_do() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let file = place.path().join("kv.conf");
    let refusal = || {
        let name = file.to_str().expect("a plain path");
        let output = start_in_vain(&["serve", "--port", "0", "--config", name]);
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    fs::write(&file, [0xff, 0xfe]).expect("a file");
    names(&refusal(), &file, "UTF-8");
    fs::remove_file(&file).expect("a file");
    fs::create_dir(&file).expect("a directory");
    names(&refusal(), &file, "move it away");
}
