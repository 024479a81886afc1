//! Hazard: a log that lost records starts as if nothing were missing.
//!
//! The file `synced` proves how far the log was on the disk. Here a real server writes, ends, and then parts
//! of its log are taken away, as a full disk, a bad copy or a wrong `rm` do. Whatever ends before the mark
//! must be refused by the server and by each tool, with the file, both seqs and the two ways out, and
//! without a changed byte. What was never proven to be on the disk is still an ordinary torn tail.

mod common;

use common::resp::Resp;
use common::server::{Server, start_in_vain};
use common::{DEADLINE, wait_until};
use kvstore::aof::files;
use kvstore::aof::recovery;
use kvstore::replication::replacement;
use kvstore::replication::replacement::Purpose;
use kvstore::store::effect::Seq;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// Record 1 begins the epoch, so the last record is one more.
const WRITES: u64 = 100;

const SMALL_SEGMENTS: (&str, &str) = ("segment-size", "2kb");

/// The directory of a server that took some writes and then ended.
struct Left {
    dir: Arc<TempDir>,
    /// The last record, which the mark proves.
    last: u64,
}

impl Left {
    /// Runs a server for `writes` writes, waits until the mark has all of them, and ends it with `signal`.
    fn by(settings: &[(&str, &str)], writes: u64, save_after: Option<u64>, signal: &str) -> Left {
        let mut server = Server::start(settings);
        let dir = server.shared_dir();
        let mut client = Resp::connect(server.port());
        let mut set = |n: u64| {
            assert!(!client.call(&["SET", &format!("k{n}"), &format!("v{n}")]).is_error());
            if save_after == Some(n + 1) {
                assert!(!client.call(&["SAVE"]).is_error());
            }
        };
        (0..writes).for_each(&mut set);
        let mut left = Left { dir, last: writes + 1 };
        // A full segment is ended in the background: at the end there are several, and the last is not empty.
        while settings.contains(&SMALL_SEGMENTS) && !left.has_segments() {
            set(left.last - 1);
            left.last += 1;
            assert!(left.last < 10_000, "full segments are not ended");
        }
        let moved = wait_until(DEADLINE, || mark(&left.data()) == left.last);
        assert!(moved, "the mark is at {} and not at {}", mark(&left.data()), left.last);
        server.signal(signal);
        server.exit_status();
        left
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn has_segments(&self) -> bool {
        let files = segments(&self.data());
        let len = files.last().map_or(0, |last| fs::metadata(last).expect("a segment").len());
        files.len() >= 4 && (1..2048).contains(&len)
    }

    /// A copy to do harm to.
    fn copy(&self) -> (TempDir, PathBuf) {
        let place = tempfile::tempdir().expect("a temporary directory");
        let data = place.path().join("data");
        copy_dir(&self.data(), &data);
        (place, data)
    }
}

/// The seq in a directory's file `synced`; 0 if it cannot be read.
fn mark(data: &Path) -> u64 {
    let text = fs::read_to_string(data.join("synced")).unwrap_or_default();
    text.get(..20).and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory").flatten() {
        if entry.path().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
    }
}

/// The files of a directory with their bytes; without LOCK, which names its last holder.
fn snapshot(data: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(data).expect("a directory").flatten().map(|entry| entry.path());
    let files = files.filter(|path| path.is_file() && !path.ends_with("LOCK"));
    files.map(|path| (path.clone(), fs::read(path).expect("a file"))).collect()
}

fn segments(data: &Path) -> Vec<PathBuf> {
    let listing = files::list(data).expect("a listing");
    listing.segments.iter().map(|first| data.join(files::segment_name(*first))).collect()
}

/// Where each record of a segment begins, and where the last one ends.
fn boundaries(bytes: &[u8]) -> Vec<usize> {
    let (mut all, mut at) = (vec![0], 0);
    while at < bytes.len() {
        let (header, line) = kvstore::aof::record::Header::parse(&bytes[at..]).expect("a record");
        at += line + header.len as usize;
        all.push(at);
    }
    all
}

/// Runs a tool; returns its exit code and all that it said.
fn tool(args: &[&str]) -> (i32, String) {
    let output = Server::command().args(args).output().expect("the binary runs");
    let said = [&output.stdout[..], &output.stderr].concat();
    (output.status.code().expect("a code"), String::from_utf8_lossy(&said).into_owned())
}

/// The server and every tool must refuse this directory and say these words, and change nothing.
fn refused_by_all(data: &Path, words: &[&str]) {
    let before = snapshot(data);
    let dir = data.to_str().expect("a plain path");
    let (file, new) = (format!("{dir}.export"), format!("{dir}.new"));
    let output = start_in_vain(&["serve", "--port", "0", "--dir", dir]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut all = vec![("serve", output.status.code().unwrap_or(-1), said)];
    for args in [
        &["check", dir][..],
        &["log", dir],
        &["export", dir, &file],
        &["recover", dir, &new, "--until", "2100-01-01"],
    ] {
        let (code, said) = tool(args);
        all.push((args[0], code, said));
    }
    for (name, code, said) in all {
        assert_eq!(code, 1, "{name} of {dir}: {said}");
        for word in words.iter().chain(&["restore a backup", "--repair"]) {
            assert!(said.contains(word), "{name} does not say {word:?}: {said}");
        }
    }
    assert!(!Path::new(&file).exists() && !Path::new(&new).exists(), "nothing is half made");
    assert!(snapshot(data) == before, "{dir} has changed");
}

/// Accepts the loss: afterwards a server starts with the records up to `last`, and the old mark is kept.
fn repaired(data: &Path, last: u64) {
    let dir = data.to_str().expect("a plain path");
    let old = fs::read(data.join("synced")).expect("the mark");
    let (code, said) = tool(&["check", dir, "--repair"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("LOST") && !said.contains("nothing has been changed"), "{said}");
    let saved = fs::read_dir(data.join("quarantine")).expect("a quarantine").flatten();
    let marks = saved.filter(|file| file.file_name().to_string_lossy().starts_with("synced-"));
    let marks: Vec<_> = marks.map(|file| fs::read(file.path()).expect("a file")).collect();
    assert_eq!(marks, [old], "the old mark is saved: {said}");
    assert_eq!(mark(data), last, "{said}");
    assert_eq!(keys_in(data), last.saturating_sub(1), "after {said}");
}

/// The number of keys of a server that starts on this directory.
fn keys_in(data: &Path) -> u64 {
    let server = Server::start(&[("dir", data.to_str().expect("a plain path"))]);
    let keys = Resp::connect(server.port()).call(&["DBSIZE"]).as_int();
    assert!(server.stop().success());
    keys as u64
}

const POLICIES: [(&str, &str); 4] =
    [("always", "TERM"), ("always", "KILL"), ("everysec", "TERM"), ("everysec", "KILL")];

#[test]
fn a_log_that_is_gone_emptied_or_cut_is_refused() {
    for (policy, signal) in POLICIES {
        let left = Left::by(&[("appendfsync", policy)], WRITES, None, signal);
        let whole = fs::read(left.data().join("log-1.aof")).expect("the log");
        let places = boundaries(&whole);
        let proof = format!("up to {} were on the disk", left.last);
        let half = places.partition_point(|end| *end <= whole.len() / 2) - 1;
        let record_end = places.len() - 11;
        for (len, last) in [
            (None, 0),
            (Some(0), 0),
            (Some(whole.len() / 2), half),
            (Some(places[record_end]), record_end),
            (Some(whole.len() - 3), places.len() - 2),
        ] {
            let (_place, data) = left.copy();
            let log = data.join("log-1.aof");
            match len {
                None => fs::remove_file(&log).expect("it is there"),
                Some(len) => fs::write(&log, &whole[..len]).expect("a file"),
            }
            let named = log.display().to_string();
            let found = format!("record {last}");
            refused_by_all(&data, &[&named, &found, &proof, "synced"]);
            let dir = data.to_str().expect("a plain path");
            if last > 10 {
                let (code, said) = tool(&["export", dir, "-", "--until", "10"]);
                assert_eq!(code, 0, "a point before the loss can be read: {said}");
            }
            repaired(&data, last as u64);
        }
    }
}

#[test]
fn missing_segments_are_refused_wherever_they_were() {
    const TINY: &[(&str, &str)] = &[SMALL_SEGMENTS, ("appendfsync", "always")];
    for signal in ["TERM", "KILL"] {
        let left = Left::by(TINY, 300, None, signal);
        let all = segments(&left.data());
        let proof = format!("up to {} were on the disk", left.last);
        let (last, middle) = (all.len() - 1, all.len() / 2);
        let gone: [(&str, Vec<usize>); 5] = [
            ("the last", vec![last]),
            ("the first", vec![0]),
            ("all but the first", (1..=last).collect()),
            ("all but one in the middle", (0..=last).filter(|n| *n != middle).collect()),
            ("all but the last", (0..last).collect()),
        ];
        for (what, gone) in gone {
            let (_place, data) = left.copy();
            let files = segments(&data);
            gone.iter().for_each(|n| fs::remove_file(&files[*n]).expect(what));
            refused_by_all(&data, &[data.to_str().expect("a path"), "log-", &proof]);
            if !gone.contains(&0) {
                let kept = fs::read(&files[gone[0] - 1]).expect("a segment");
                let first = files::list(&data).expect("a listing").segments[gone[0] - 1].0;
                repaired(&data, first + boundaries(&kept).len() as u64 - 2);
            }
        }
        let (_place, data) = left.copy();
        fs::write(segments(&data).pop().expect("a segment"), "").expect("a file");
        refused_by_all(&data, &["log-", &proof]);
    }
}

#[test]
fn a_missing_base_or_what_followed_it_is_refused() {
    let settings = &[("appendfsync", "always"), ("repl-backlog-size", "0")];
    for signal in ["TERM", "KILL"] {
        let left = Left::by(settings, WRITES, Some(50), signal);
        let (base, log) = ("base-51.aof", "log-52.aof");
        assert!(left.data().join(base).exists() && left.data().join(log).exists());
        let proof = format!("up to {} were on the disk", left.last);
        for gone in [&[base][..], &[log], &[base, log]] {
            let (_place, data) = left.copy();
            gone.iter().for_each(|name| fs::remove_file(data.join(name)).expect("it is there"));
            refused_by_all(&data, &[data.to_str().expect("a path"), &proof]);
        }
        let (_place, data) = left.copy();
        fs::write(data.join(log), "").expect("a file");
        refused_by_all(&data, &[log, "record 51", &proof]);
        repaired(&data, 51);
    }
}

/// An import makes a base before any record. Without it, the log alone is not the data.
#[test]
fn a_missing_base_of_an_import_is_refused() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let data = place.path().join("data");
    let dir = data.to_str().expect("a plain path");
    let aof = place.path().join("redis.aof");
    fs::write(&aof, "*3\r\n$3\r\nSET\r\n$4\r\nkept\r\n$1\r\n1\r\n").expect("a file");
    assert_eq!(tool(&["import", aof.to_str().expect("a path"), dir]).0, 0);
    assert_eq!(keys_in(&data), 1);
    let base = files::base_name(files::list(&data).expect("a listing").bases[0]);
    fs::remove_file(data.join(base)).expect("it is there");
    refused_by_all(&data, &[dir]);
}

#[test]
fn what_was_never_proven_to_be_on_the_disk_is_a_torn_tail() {
    for policy in ["always", "everysec"] {
        let left = Left::by(&[("appendfsync", policy)], WRITES, None, "KILL");
        let data = left.data();
        let whole = fs::read(data.join("log-1.aof")).expect("the log");
        let last = *boundaries(&whole).iter().rev().nth(1).expect("records");
        // As much of a further record as a power cut may leave.
        let next = String::from_utf8_lossy(&whole[last..]).replace("#101 ", "#102 ");
        for torn in [&next.as_bytes()[..7], &next.as_bytes()[..next.len() - 3]] {
            let (_place, data) = left.copy();
            fs::write(data.join("log-1.aof"), [&whole[..], torn].concat()).expect("a file");
            let dir = data.to_str().expect("a plain path");
            let (code, said) = tool(&["check", dir]);
            assert!(code == 0 && said.contains("torn tail"), "{said}");
            assert_eq!(keys_in(&data), WRITES);
            let saved = fs::read_dir(data.join("quarantine")).expect("a quarantine").count();
            assert_eq!(saved, 1);
        }
    }
}

/// Without a mark nothing is proven: the log counts as it is.
#[test]
fn without_a_mark_the_log_counts_as_it_is() {
    let left = Left::by(&[("appendfsync", "always")], WRITES, None, "KILL");
    let whole = fs::read(left.data().join("log-1.aof")).expect("the log");
    let places = boundaries(&whole);
    for mark in [None, Some(""), Some("no mark at all")] {
        let (_place, data) = left.copy();
        match mark {
            None => fs::remove_file(data.join("synced")).expect("the mark"),
            Some(text) => fs::write(data.join("synced"), text).expect("a file"),
        }
        fs::write(data.join("log-1.aof"), &whole[..places[50]]).expect("a file");
        assert_eq!(keys_in(&data), 49);
        let (_, said) = tool(&["check", data.to_str().expect("a plain path")]);
        assert!(said.contains("OK"), "{said}");
    }
}

#[test]
fn a_directory_without_log_and_mark_but_with_an_epoch_is_warned_of() {
    let left = Left::by(&[("appendfsync", "always")], WRITES, None, "KILL");
    let (_place, data) = left.copy();
    let dir = data.to_str().expect("a plain path");
    fs::remove_file(data.join("synced")).expect("the mark");
    fs::remove_file(data.join("log-1.aof")).expect("the log");
    let mut server = Server::start(&[("dir", dir)]);
    let warned = |log: &str| log.matches("has led in epoch 1, but the log ends with").count();
    assert_eq!(warned(&server.stderr()), 1, "{}", server.stderr());
    // Both servers write to one file. The second has a mark, and nothing to warn of.
    server.restart("KILL");
    assert_eq!(warned(&server.stderr()), 1, "{}", server.stderr());
}

/// Memory is not given up for a log that is gone.
#[test]
fn a_reload_from_a_log_that_lost_records_is_refused() {
    let server = Server::start(&[("appendfsync", "always")]);
    let mut client = Resp::connect(server.port());
    (0..10).for_each(|n| drop(client.call(&["SET", &format!("k{n}"), "v"])));
    fs::remove_file(server.dir().join("data/log-1.aof")).expect("the log");
    let refused = client.call(&["DEBUG", "RELOAD"]);
    let text = String::from_utf8_lossy(refused.as_bytes()).into_owned();
    assert!(refused.is_error() && text.contains("up to 11 were on the disk"), "{refused:?}");
    assert_eq!(client.call(&["DBSIZE"]).as_int(), 10);
}

/// A full copy may be shorter than what it replaces, and a crash may come at any moment of the taking over.
#[test]
fn a_shorter_history_that_takes_this_ones_place_is_no_loss() {
    let long = Left::by(&[("appendfsync", "always")], WRITES, None, "KILL");
    let short = Left::by(&[("appendfsync", "always")], 10, None, "TERM");
    for step in ["complete", "decided", "cleared", "moved"] {
        let (_place, data) = long.copy();
        copy_dir(&short.data(), &data.join("incoming"));
        for name in ["synced", "node", "LOCK"] {
            fs::remove_file(data.join("incoming").join(name)).expect("it is there");
        }
        let replaces = recovery::read(&data, |_| Ok(())).expect("an intact log").end.last;
        let (leader, aside) = ("127.0.0.1 1".to_owned(), String::new());
        let purpose = Purpose { leader, replaces, reaches: Seq(short.last), aside };
        replacement::commit(&data, &purpose).expect("a disk that works");
        if step == "complete" {
            // Nothing is decided, and this node follows no leader: the copy is kept aside.
            assert_eq!(keys_in(&data), WRITES);
            continue;
        }
        replacement::begin(&data, &purpose).expect("a disk that works");
        match step {
            "cleared" => {
                fs::remove_file(data.join("log-1.aof")).expect("the old log");
                fs::write(data.join("replacement/moving"), "").expect("a file");
            }
            "moved" => replacement::finish(&data).expect("a disk that works"),
            _ => {}
        }
        assert_eq!(keys_in(&data), 10, "{step}");
        assert_eq!(mark(&data), 12, "it proves the new history");
    }
}

#[test]
fn a_recovered_directory_can_prove_its_records_before_its_first_start() {
    let left = Left::by(&[("appendfsync", "always")], WRITES, None, "TERM");
    let place = tempfile::tempdir().expect("a temporary directory");
    let new = place.path().join("new");
    let (dir, name) = (left.data(), new.to_str().expect("a plain path"));
    let (code, said) = tool(&["recover", dir.to_str().expect("a path"), name, "--until", "60"]);
    assert_eq!(code, 0, "{said}");
    let log = fs::read(new.join("log-1.aof")).expect("the log");
    fs::write(new.join("log-1.aof"), &log[..boundaries(&log)[40]]).expect("a file");
    refused_by_all(&new, &["log-1.aof", "record 40", "up to 60 were on the disk"]);
}
