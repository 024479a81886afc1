//! The hazard: a tool that is there for the worst day, and on that day judges otherwise than the server,
//! cuts more than it says, or leaves half a directory.
//!
//! So every directory here is made by the real server, with segments of some kilobytes, and what a
//! tool made is given to a real server again.

mod common;

use common::history::{log_members, members, members_in};
use common::resp::Resp;
use common::server::Server;
use common::{DEADLINE, wait_until};
use kvstore::aof::recovery;
use kvstore::cluster::members::Members;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use tempfile::TempDir;

/// The result of running a tool.
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

fn tool(args: &[&str]) -> Ran {
    let output = Server::command().args(args).output().expect("the binary runs");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ran {
        code: output.status.code().expect("an exit code"),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

/// Runs a tool that must succeed; returns what it printed.
fn succeeds(args: &[&str]) -> String {
    let ran = tool(args);
    assert_eq!(ran.code, 0, "{args:?}: {}{}", ran.stdout, ran.stderr);
    ran.stdout
}

/// Runs a tool that must refuse, with this exit code; returns what it said.
fn refuses(args: &[&str], code: i32) -> String {
    let ran = tool(args);
    assert_eq!(ran.code, code, "{args:?}: {}{}", ran.stdout, ran.stderr);
    ran.stdout + &ran.stderr
}

fn server(dir: &str) -> Server {
    Server::start(&[("dir", dir), ("segment-size", "4kb")])
}

/// A place for directories and files of one test.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().expect("a temporary directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The data of a server that ran `SET k0 v0` to `SET k<n-1> v<n-1>`, which are records 2 to n + 1,
    /// in a segment for about every 80 of them.
    fn data(&self, name: &str, n: usize) -> String {
        let dir = self.name(name);
        let server = server(&dir);
        fill_segments(&server, &dir, 0..n);
        assert!(server.stop().success());
        dir
    }
}

fn fill(server: &Server, numbers: std::ops::Range<usize>) {
    let mut client = Resp::connect(server.port());
    for n in numbers {
        let (key, value) = (format!("k{n}"), format!("v{n}"));
        assert!(!client.call(&["SET", &key, &value]).is_error());
    }
}

/// As [`fill`], in a segment for about every 80: a full one is ended in the background.
fn fill_segments(server: &Server, dir: &str, numbers: std::ops::Range<usize>) {
    const ENOUGH_FOR_4KB: usize = 80;
    for start in numbers.clone().step_by(ENOUGH_FOR_4KB) {
        let before = segments(dir).len();
        fill(server, start..numbers.end.min(start + ENOUGH_FOR_4KB));
        if start + ENOUGH_FOR_4KB <= numbers.end {
            assert!(wait_until(DEADLINE, || segments(dir).len() > before), "no new segment");
        }
    }
}

/// The keys that a server has which starts on this directory.
fn keys_in(dir: &str) -> usize {
    let server = server(dir);
    let keys = Resp::connect(server.port()).call(&["DBSIZE"]).as_int();
    assert!(server.stop().success());
    keys as usize
}

/// All files in a directory, and below it, with their bytes; but LOCK, which names its last holder.
fn snapshot(dir: impl AsRef<Path>) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        if entry.path().is_dir() {
            files.extend(snapshot(entry.path()));
        } else if entry.file_name() != "LOCK" {
            files.insert(entry.path(), fs::read(entry.path()).expect("a file"));
        }
    }
    files
}

/// The segments' files, in order.
fn segments(dir: &str) -> Vec<PathBuf> {
    let listing = kvstore::aof::files::list(Path::new(dir)).expect("a listing");
    let name = |first: &_| Path::new(dir).join(kvstore::aof::files::segment_name(*first));
    listing.segments.iter().map(name).collect()
}

fn copy_dir(from: &str, to: &str) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory").flatten() {
        if entry.path().is_file() {
            fs::copy(entry.path(), Path::new(to).join(entry.file_name())).expect("a copy");
        }
    }
}

/// Flips a bit in the payload of this record; returns the file and where the record begins.
fn damage(dir: &str, seq: usize) -> (PathBuf, usize) {
    for path in segments(dir) {
        let mut bytes = fs::read(&path).expect("a segment");
        let header = format!("#{seq} ");
        let Some(at) = bytes.windows(header.len()).position(|w| w == header.as_bytes()) else {
            continue;
        };
        let payload = at + bytes[at..].iter().position(|byte| *byte == b'\n').expect("a line") + 1;
        bytes[payload + 10] ^= 4;
        fs::write(&path, bytes).expect("a segment");
        return (path, at);
    }
    panic!("no record {seq} in {dir}");
}

#[test]
fn help_usage_and_exit_codes() {
    for name in ["check", "log", "export", "import", "recover", "cluster"] {
        let help = succeeds(&[name, "--help"]);
        assert!(help.starts_with(&format!("kvstore {name} ")), "{help}");
        assert!(succeeds(&["--help"]).contains(&format!("kvstore {name} ")));
        assert!(refuses(&[name], 2).contains("too few arguments"));
        assert!(refuses(&[name, "a", "b", "--frobnicate"], 2).contains("--frobnicate"));
    }
    refuses(&["check", "a", "b"], 2);
    assert!(refuses(&["completions", "tcsh"], 2).contains("tcsh: not bash, zsh or fish"));
    refuses(&["log", "a", "--from", "x"], 2);
    refuses(&["log", "a", "--from"], 2);
    refuses(&["recover", "a", "b"], 2);
    refuses(&["export", "a", "b", "--until", "yesterday"], 2);
    let place = Place::new();
    for args in [&["check"][..], &["check", "--repair"], &["log"], &["export", "-"]] {
        let name = place.name("none");
        let said = refuses(&[&args[..1], &[&name], &args[1..]].concat(), 1);
        assert!(said.contains("No such file"), "{said}");
    }
    assert!(!place.path("none").exists());
}

#[test]
fn check_tells_what_is_there_and_changes_nothing() {
    let place = Place::new();
    let dir = place.name("data");
    let running = server(&dir);
    fill(&running, 0..300);
    Resp::connect(running.port()).call(&["SAVE"]);
    fill(&running, 300..500);
    let said = succeeds(&["check", &dir]);
    assert!(said.contains("the state at record 301: 300 keys"), "{said}");
    assert!(said.contains("records    302 to 501: 200, which change data 200 times"), "{said}");
    assert!(running.stop().success());
    let before = snapshot(&dir);
    assert!(succeeds(&["check", &dir]).contains("OK "));
    assert!(snapshot(&dir) == before, "{dir} has changed");
}

#[test]
fn repair_keeps_what_is_before_the_damage_and_saves_the_rest() {
    let place = Place::new();
    let dir = place.data("data", 300);
    assert!(segments(&dir).len() > 3);
    let (path, offset) = damage(&dir, 150);
    let before = snapshot(&dir);
    let said = refuses(&["check", &dir], 1);
    let place_of_it = format!("{}, byte {offset}, record 150: ", path.display());
    assert!(said.contains(&place_of_it) && said.contains("--repair"), "{said}");
    assert!(snapshot(&dir) == before, "{dir} has changed");

    let running = Place::new();
    let other = server(&running.name("data"));
    assert!(refuses(&["check", &running.name("data"), "--repair"], 1).contains("another kvstore"));
    drop(other);

    let repaired = tool(&["check", &dir, "--repair"]);
    assert_eq!(repaired.code, 0, "{}", repaired.stderr);
    let said = repaired.stderr;
    assert!(said.starts_with(&place_of_it) && !said.contains("changed"), "{said}");
    let said = repaired.stdout;
    assert!(said.contains("LOST       record 150 and all after it"), "{said}");
    assert!(said.contains("up to record 301, written 2"), "{said}");
    // Nothing of what there was is gone: kept and saved files together have every byte.
    let size = |files: &BTreeMap<PathBuf, Vec<u8>>| {
        files
            .iter()
            .filter(|(path, _)| path.to_string_lossy().ends_with(".aof"))
            .map(|(_, bytes)| bytes.len())
            .sum::<usize>()
    };
    assert_eq!(size(&snapshot(&dir)), size(&before));
    let cut = fs::read(&path).expect("the segment");
    assert_eq!(cut, before[&path][..offset]);
    assert!(
        succeeds(&["check", &dir]).contains("OK         a server would start after record 149")
    );
    assert_eq!(keys_in(&dir), 148);
}

/// Whatever is damaged, repair either keeps each record before it or says that it cannot.
#[test]
fn repair_works_wherever_the_damage_is() {
    let place = Place::new();
    let whole = place.data("data", 120);
    for (number, path) in segments(&whole).into_iter().enumerate() {
        let len = fs::metadata(&path).expect("a segment").len() as usize;
        for at in (0..len).step_by(531) {
            let dir = place.name(&format!("damaged-{number}-{at}"));
            copy_dir(&whole, &dir);
            let name = Path::new(&dir).join(path.file_name().expect("a name"));
            let mut bytes = fs::read(&name).expect("a segment");
            bytes[at] ^= 1;
            fs::write(&name, bytes).expect("a segment");
            if refuses(&["check", &dir], 1).contains("record 1: ") {
                assert!(refuses(&["check", &dir, "--repair"], 1).contains("cannot be repaired"));
                continue;
            }
            succeeds(&["check", &dir, "--repair"]);
            let recovered = recovery::read(Path::new(&dir), |_| Ok(())).expect("a repaired log");
            assert!(recovered.torn.is_none());
        }
    }
}

#[test]
fn repair_closes_gaps_and_refuses_what_a_backup_is_needed_for() {
    let place = Place::new();
    let whole = place.data("data", 300);
    let files = segments(&whole);
    let without = |name: &str, missing: &Path| {
        let dir = place.name(name);
        copy_dir(&whole, &dir);
        fs::remove_file(Path::new(&dir).join(missing.file_name().expect("a name"))).expect("gone");
        dir
    };
    let gap = without("gap", &files[1]);
    assert!(refuses(&["check", &gap], 1).contains("are missing: no segment has them"));
    succeeds(&["check", &gap, "--repair"]);
    assert!(keys_in(&gap) > 10);
    let headless = without("headless", &files[0]);
    let before = snapshot(&headless);
    assert!(refuses(&["check", &headless, "--repair"], 1).contains("nothing intact is before"));
    assert!(snapshot(&headless) == before, "{headless} has changed");

    // With a base.
    let running = server(&whole);
    Resp::connect(running.port()).call(&["SAVE"]);
    fill_segments(&running, &whole, 300..400);
    assert!(running.stop().success());
    let (base, behind) = ("base-302.aof", "log-303.aof");
    let exists = |name| Path::new(&whole).join(name).exists();
    assert!(exists(base) && exists(behind), "{:?}", snapshot(&whole).keys());
    let lost_log = without("lost-log", Path::new(behind));
    succeeds(&["check", &lost_log, "--repair"]);
    assert_eq!(keys_in(&lost_log), 300);
    let bad_base = place.name("bad-base");
    copy_dir(&whole, &bad_base);
    let path = Path::new(&bad_base).join("base-302.aof");
    let mut bytes = fs::read(&path).expect("the base");
    bytes[100] ^= 1;
    fs::write(&path, bytes).expect("the base");
    let before = snapshot(&bad_base);
    assert!(refuses(&["check", &bad_base, "--repair"], 1).contains("restore a backup"));
    assert!(snapshot(&bad_base) == before, "{bad_base} has changed");
}

#[test]
fn a_torn_tail_is_no_damage() {
    let place = Place::new();
    let dir = place.data("data", 10);
    let path = segments(&dir).pop().expect("a segment");
    // A record that was never synced, and of which a crash left a part.
    let torn = [&fs::read(&path).expect("a segment")[..], b"#12 1 17"].concat();
    fs::write(&path, torn).expect("a segment");
    let said = succeeds(&["check", &dir]);
    assert!(said.contains("torn tail") && said.contains("not record 12"), "{said}");
    let ran = tool(&["log", &dir]);
    assert_eq!((ran.code, ran.stdout.lines().count()), (0, 11));
    assert!(ran.stderr.contains("no whole record"), "{}", ran.stderr);
    assert!(succeeds(&["export", &dir, "-"]).contains("k9"));
}

#[test]
fn log_prints_effects_for_people() {
    let place = Place::new();
    let dir = place.name("data");
    let running = server(&dir);
    let mut client = Resp::connect(running.port());
    client.call(&["SET", "old", "x", "PXAT", "4102444800000"]);
    client.call(&["SAVE"]);
    client.call(&[&b"SET"[..], b"a b\0", b"line\r\nend \xff"]);
    client.call(&["SET", "long", &"x".repeat(1000)]);
    client.call(&["MSET", "one", "1", "two", "2"]);
    client.call(&["PEXPIREAT", "one", "4102444800123"]);
    client.call(&["PERSIST", "one"]);
    client.call(&["DEL", "one", "two"]);
    client.call(&["FLUSHALL"]);
    let printed = succeeds(&["log", &dir]);
    let effects: Vec<&str> =
        printed.lines().map(|line| line.splitn(4, ' ').last().expect("four parts")).collect();
    let long = format!("SET \"long\" \"{}\"… (1000 bytes)", "x".repeat(80));
    let expected = [
        "SET \"old\" \"x\" PXAT 2100-01-01T00:00:00.000Z",
        "SET \"a b\\x00\" \"line\\r\\nend \\xff\"",
        &long,
        "SET \"one\" \"1\"",
        "SET \"two\" \"2\"",
        "PEXPIREAT \"one\" 2100-01-01T00:00:00.123Z",
        "PERSIST \"one\"",
        "DEL \"one\" \"two\"",
        "FLUSHALL",
    ];
    assert_eq!(effects, expected);
    assert!(printed.starts_with("base 1 2"), "{printed}");
    assert!(printed.lines().nth(1).expect("a line").starts_with("3 1 2"), "{printed}");

    let of_one = succeeds(&["log", &dir, "--key", "one", "--from=3"]);
    assert!(of_one.contains("DEL \"one\"\n") && of_one.contains("FLUSHALL"), "{of_one}");
    assert_eq!(of_one.lines().count(), 5);
    assert_eq!(succeeds(&["log", &dir, "--key", "\"a b\\x00\""]).lines().count(), 2);
    assert_eq!(succeeds(&["log", &dir, "--from", "9"]).lines().count(), 1);
}

#[test]
fn a_record_of_members_is_shown_and_is_no_data() {
    let place = Place::new();
    let dir = place.data("data", 3);
    let last = log_members(Path::new(&dir), members(7)).seq;
    let printed = succeeds(&["log", &dir]);
    let line = printed.lines().last().expect("a line");
    assert!(line.starts_with(&format!("{last} 1 2")), "{line}");
    assert!(line.contains(" members 0000000000000007 ack=majority reads=index 3 a.example:8080="));
    assert!(!succeeds(&["log", &dir, "--key", "k1"]).contains("members"));
    assert!(succeeds(&["check", &dir]).contains("which change data 3 times"));

    let exported = place.name("exported");
    succeeds(&["export", &dir, &exported]);
    assert!(!fs::read_to_string(&exported).expect("a file").contains("members"));
    succeeds(&["recover", &dir, &place.name("whole"), "--until", &last.to_string()]);
    succeeds(&["recover", &dir, &place.name("before"), "--until", &(last.0 - 1).to_string()]);
    assert_eq!(members_in(&place.path("whole")), Some(Members { seq: last, ..members(7) }));
    assert_eq!(members_in(&place.path("before")), None);
    assert_eq!((keys_in(&place.name("whole")), keys_in(&place.name("before"))), (3, 3));
}

#[test]
fn log_stops_at_damage() {
    let place = Place::new();
    let dir = place.data("data", 200);
    damage(&dir, 100);
    let ran = tool(&["log", &dir]);
    assert_eq!((ran.code, ran.stdout.lines().count()), (1, 99));
    assert!(ran.stderr.contains("record 100: its checksum is wrong"), "{}", ran.stderr);
}

/// A tool that runs on, printing into a file; killed on drop.
struct Following {
    child: Child,
    printed: PathBuf,
}

impl Following {
    fn start(place: &Place, args: &[&str]) -> Following {
        let printed = place.path("followed");
        let file = fs::File::create(&printed).expect("a file");
        let child = Server::command().args(args).stdout(file).stderr(Stdio::null()).spawn();
        Following { child: child.expect("the binary runs"), printed }
    }

    fn printed(&self) -> String {
        fs::read_to_string(&self.printed).expect("what was printed")
    }

    fn waits_for(&self, text: &str) {
        assert!(wait_until(DEADLINE, || self.printed().contains(text)), "{}", self.printed());
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn log_follows_a_server_through_segments_crashes_and_compactions() {
    let place = Place::new();
    let dir = place.name("data");
    let running = server(&dir);
    fill(&running, 0..5);
    let following = Following::start(&place, &["log", &dir, "--follow", "--from", "3"]);
    following.waits_for("\"k4\"");
    for n in (5..305).step_by(100) {
        fill(&running, n..n + 100);
        following.waits_for(&format!("\"k{}\"", n + 99));
    }
    running.signal("KILL");
    running.wait();
    // As if the crash had cut off a write.
    let path = segments(&dir).pop().expect("a segment");
    let torn = [&fs::read(&path).expect("a segment")[..], b"#307 1 17"].concat();
    fs::write(&path, torn).expect("a segment");
    let running = server(&dir);
    fill(&running, 305..310);
    following.waits_for("\"k309\"");
    Resp::connect(running.port()).call(&["SAVE"]);
    fill(&running, 310..320);
    following.waits_for("\"k319\"");
    let printed = following.printed();
    let seqs: Vec<u64> = printed
        .lines()
        .map(|line| line.split(' ').next().and_then(|seq| seq.parse().ok()).expect("a seq"))
        .collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "{printed}");
    assert_eq!(seqs[..305], (3..308).collect::<Vec<_>>());
}

#[test]
fn recover_and_export_stop_at_a_record_or_a_time() {
    let place = Place::new();
    let dir = place.data("data", 100);
    let time = |seq: usize| {
        let printed = succeeds(&["log", &dir, "--from", &seq.to_string()]);
        printed.split(' ').nth(2).expect("a time").to_string()
    };
    let between = time(101);
    let running = server(&dir);
    assert!(wait_until(DEADLINE, || { kvstore::clock::UnixMillis::now().utc() > between }));
    fill(&running, 100..200);
    assert!(running.stop().success());

    for (name, until, keys) in
        [("seq", "50", 49), ("time", between.as_str(), 100), ("all", "202", 200)]
    {
        let new = place.name(name);
        let said = succeeds(&["recover", &dir, &new, "--until", until]);
        assert!(said.contains("up to record"), "{said}");
        assert_eq!(keys_in(&new), keys, "{said}");
        let exported = succeeds(&["export", &dir, "-", "--until", until]);
        assert_eq!(exported.matches("SET").count(), keys);
    }
    assert!(
        refuses(&["recover", &dir, &place.name("seq"), "--until", "50"], 1).contains("not empty")
    );
    let new = place.name("new");
    let beyond = refuses(&["recover", &dir, &new, "--until", "1000"], 1);
    assert!(beyond.contains("ends at record 202"), "{beyond}");
    assert!(!place.path("new").exists() && !place.path("new.unfinished").exists());
    // Damage after the point does no harm; damage before it does.
    damage(&dir, 150);
    succeeds(&["recover", &dir, &new, "--until", "149"]);
    assert_eq!(keys_in(&new), 147);
    assert!(refuses(&["export", &dir, "-", "--until", "150"], 1).contains("record 150"));
    assert!(refuses(&["export", &dir, "-"], 1).contains("record 150"));
}

#[test]
fn the_history_begins_with_the_base() {
    let place = Place::new();
    let dir = place.name("data");
    let running = server(&dir);
    fill(&running, 0..100);
    let early = kvstore::clock::UnixMillis::now().utc();
    assert!(wait_until(DEADLINE, || kvstore::clock::UnixMillis::now().utc() > early));
    Resp::connect(running.port()).call(&["SAVE"]);
    fill(&running, 100..200);
    for until in ["50", "100", &early] {
        let said = refuses(&["recover", &dir, &place.name("new"), "--until", until], 1);
        assert!(said.contains("the earliest possible point is record 101, 2"), "{said}");
    }
    succeeds(&["recover", &dir, &place.name("new"), "--until", "101"]);
    assert_eq!(keys_in(&place.name("new")), 100);
}

/// Two keys are set in turns, so the state is one of two at any moment; the log is compacted all the time.
#[test]
fn an_export_beside_a_running_server_is_a_prefix_of_its_history() {
    let place = Place::new();
    let dir = place.name("data");
    let running = server(&dir);
    let mut client = Resp::connect(running.port());
    client.call(&["MSET", "a", "0", "b", "0"]);
    for round in 0..20 {
        let exporting = Server::command()
            .args(["export", &dir, "-"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        for n in round * 100..round * 100 + 100 {
            let value = n.to_string();
            client.call(&["SET", "a", &value]);
            client.call(&["SET", "b", &value]);
            if n % 25 == 0 {
                client.call(&["BGREWRITEAOF"]);
            }
        }
        let output = exporting.wait_with_output().expect("the export's output");
        let text = String::from_utf8(output.stdout).expect("text");
        let value = |key: &str| -> Option<u64> {
            let mut lines = text.lines();
            lines.by_ref().find(|line| *line == key)?;
            lines.nth(1)?.parse().ok()
        };
        let (a, b) = (value("a").expect("a"), value("b").expect("b"));
        assert!(a == b || a == b + 1, "a is {a}, b is {b}");
    }
}

#[test]
fn import_understands_what_redis_writes() {
    let place = Place::new();
    let aof = b"#TS:1767225600\r\n\
        *2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n\
        *5\r\n$3\r\nset\r\n$1\r\na\r\n$1\r\n1\r\n$4\r\nPXAT\r\n$13\r\n4102444800000\r\n\
        *1\r\n$5\r\nMULTI\r\n\
        *3\r\n$6\r\nAPPEND\r\n$1\r\na\r\n$1\r\n2\r\n\
        *5\r\n$4\r\nMSET\r\n$1\r\nb\r\n$1\r\n5\r\n$1\r\nc\r\n$0\r\n\r\n\
        *1\r\n$4\r\nEXEC\r\n\
        *3\r\n$6\r\nINCRBY\r\n$1\r\nb\r\n$2\r\n-7\r\n\
        *5\r\n$3\r\nSET\r\n$4\r\ngone\r\n$1\r\nx\r\n$4\r\nPXAT\r\n$1\r\n1\r\n\
        *3\r\n$6\r\nAPPEND\r\n$4\r\ngone\r\n$1\r\ny\r\n";
    fs::write(place.path("redis.aof"), aof).expect("a file");
    let more = b"*4\r\n$8\r\nSETRANGE\r\n$1\r\nc\r\n$1\r\n2\r\n$1\r\nz\r\n";
    fs::write(place.path("incr.aof"), more).expect("a file");
    let dir = place.name("data");
    succeeds(&["import", &place.name("redis.aof"), &place.name("incr.aof"), &dir]);
    let running = server(&dir);
    let mut client = Resp::connect(running.port());
    let got = client.call(&["MGET", "a", "b", "c", "gone"]);
    assert_eq!(format!("{got:?}"), "[12, -2, \"\\x00\\x00z\", (nil)]");
    assert_eq!(client.call(&["PEXPIRETIME", "a"]).as_int(), 4_102_444_800_000);
    assert!(running.stop().success());
    assert_eq!(succeeds(&["log", &dir]).lines().filter(|line| line.starts_with("base")).count(), 4);
}

#[test]
fn import_names_what_it_cannot_take_and_makes_nothing() {
    let place = Place::new();
    let set = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";
    let cases = [
        ("*2\r\n$6\r\nSELECT\r\n$1\r\n1\r\n", 27, "\"SELECT\" \"1\": only database 0"),
        (
            "*3\r\n$5\r\nLPUSH\r\n$1\r\nl\r\n$1\r\nx\r\n",
            27,
            "\"LPUSH\" \"l\" \"x\": \"l\" is a list; --skip-other-types leaves it out",
        ),
        ("*1\r\n$4\r\nPING\r\n", 27, "\"PING\": a command that changes no data"),
        ("*3\r\n$6\r\nINCRBY\r\n$1\r\nk\r\n$1\r\n1\r\n", 27, "not an integer"),
        ("*1\r\n$5\r\nMULTI\r\n", 42, "ends within"),
        ("*3\r\n$3\r\nSET\r\n$1\r\nk", 27, "ends within"),
        ("set k v\r\n", 27, "no command in RESP form"),
        ("*0\r\n", 27, "no command in RESP form"),
        ("*2\r\n$4\r\nEVAL\r\n$1\r\nx\r\n", 27, "\"EVAL\" \"x\": ERR unknown command"),
        ("REDIS0010\u{fa}", 27, "no command in RESP form"),
    ];
    for (text, offset, expected) in cases {
        fs::write(place.path("aof"), format!("{set}{text}")).expect("a file");
        let said = refuses(&["import", &place.name("aof"), &place.name("data")], 1);
        assert!(said.contains(expected), "{said}");
        assert!(said.contains(&format!("byte {offset}: ")), "{said}");
        assert!(!place.path("data").exists() && !place.path("data.unfinished").exists());
    }
}
