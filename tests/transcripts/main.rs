//! Golden transcripts: lines typed, and the lines that come back. They are the front door of the tests and
//! the examples of the documentation; the file names state what is promised.
//!
//! ```text
//! # Why this is so, in a sentence or two.
//!
//! > SET greeting hello big world      typed by the one client, with Enter
//! OK                                  what comes back, line by line
//! a> GET greeting                     typed by client a: as many clients as there are letters
//! hello big world
//! b>                                  nothing is typed: what client b has received by now
//! ```
//!
//! Besides typing:
//!
//! - `!send "raw \xff bytes\r\n" "x"*70000` sends just these bytes; `a!send` does it as client a.
//! - `!half-close` says that no more comes, as `nc -N` does; `!close` leaves.
//! - `!until-it-leads` waits until the server leads and the first record of its epoch is durable.
//! - `!server --requirepass secret` before the first step gives the server settings.
//!
//! Unpredictable text: `<number>` and `<any>` in a line, `<lines>` for any lines up to one that
//! matches the next. `<closed>` is where the server closed. A line of a reply that would read as
//! something else begins with a backslash. To wait, type `DEBUG SLEEP 0.05`.
//!
//! Each file has a fresh server, so its first client has the id 1.
//!
//! - `UPDATE=1 cargo test --test transcripts` rewrites what comes back; read the diff.
//! - `TRANSCRIPT=expire/ cargo test --test transcripts` plays only the files whose path contains it.

#[path = "../common/mod.rs"]
mod common;
mod play;
mod script;

use common::server::Server;
use kvstore::admin::commands;
use play::play;
use script::{Action, Script, Step, matches};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

/// Transcripts wait more than they work.
const THREADS: usize = 4;

#[test]
fn what_is_typed_gets_the_reply_that_is_written() {
    let updating = std::env::var("UPDATE").is_ok_and(|value| value == "1");
    let wanted = std::env::var("TRANSCRIPT").unwrap_or_default();
    let files = Mutex::new(files(&root()));
    let failures = Mutex::new(vec![]);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(file) = { files.lock().expect("no panic").pop() } {
                    if file.to_string_lossy().contains(&wanted) {
                        let failure = check(&Script::read(&file), updating);
                        failures.lock().expect("no panic").extend(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic");
    assert!(
        failures.is_empty(),
        "\n{}\n{} transcripts differ; UPDATE=1 rewrites them",
        failures.join("\n"),
        failures.len()
    );
}

/// Plays a file; what differs is returned, or written if the file is to be updated.
fn check(script: &Script, updating: bool) -> Option<String> {
    let settings: Vec<(&str, &str)> =
        script.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let server = Server::start(&settings);
    let mut replies = play(script, server.port(), updating);
    let unasked = replies.pop().expect("the last is what nobody asked for");
    let differs = |(step, came): &(&Step, &Vec<String>)| !matches(&step.reply, came);
    let mut report = String::new();
    for (step, came) in script.steps().zip(&replies).filter(differs) {
        write_difference(&mut report, &script.path, step, came);
    }
    if !unasked.is_empty() {
        let _ = writeln!(report, "{}: and at the end: {unasked:#?}", script.path.display());
    }
    if updating {
        fs::write(&script.path, script.with_replies(&replies)).expect("a writable transcript");
        if !report.is_empty() {
            common::note(&report);
        }
        return None;
    }
    (!report.is_empty()).then(|| format!("{report}--- the server's log\n{}", server.stderr()))
}

fn write_difference(report: &mut String, path: &Path, step: &Step, came: &[String]) {
    let shown = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(path);
    let _ = writeln!(report, "{}:{}\n  {}", shown.display(), step.line, step.written);
    let expected = &step.reply;
    let same = expected.iter().zip(came).take_while(|(a, b)| a == b).count();
    let (expected, came, before) = (&expected[same..], &came[same..], &expected[..same]);
    let same = expected.iter().rev().zip(came.iter().rev()).take_while(|(a, b)| a == b).count();
    let after = &expected[expected.len() - same..];
    let mut write = |sign: &str, lines: &[String]| {
        lines.iter().for_each(|line| _ = writeln!(report, "{sign} {line}"));
    };
    write(" ", before);
    write("-", &expected[..expected.len() - same]);
    write("+", &came[..came.len() - same]);
    write(" ", after);
}

#[test]
fn each_command_of_the_table_is_typed_in_a_transcript() {
    let scripts: Vec<Script> = files(&root()).iter().map(|path| Script::read(path)).collect();
    let typed: BTreeSet<String> =
        scripts.iter().flat_map(Script::steps).flat_map(names_typed).collect();
    let commands = commands();
    let missing: Vec<&str> =
        commands.rows().iter().map(|row| row.name).filter(|name| !typed.contains(*name)).collect();
    assert!(missing.is_empty(), "no transcript types {missing:?}");
}

/// The names, as in the command table, that a step may be a call of: `client` and `client|id`.
fn names_typed(step: &Step) -> Vec<String> {
    let Action::Type(line) = &step.action else { return vec![] };
    let mut words = line.split_whitespace().map(str::to_lowercase);
    let name = words.next().unwrap_or_default();
    let subcommand = words.next().map(|word| format!("{name}|{word}"));
    [Some(name), subcommand].into_iter().flatten().collect()
}

#[test]
fn each_transcript_says_why() {
    for path in files(&root()) {
        let text = fs::read_to_string(&path).expect("a readable transcript");
        assert!(text.starts_with("# "), "{} does not begin with a comment", path.display());
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    let entries = fs::read_dir(directory).expect("the transcripts").map(|entry| entry.expect("it"));
    for path in entries.map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "txt") {
            found.push(path);
        }
    }
    found.sort();
    found
}
