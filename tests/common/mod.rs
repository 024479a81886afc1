//! Tools that every integration test shares: real servers as child processes, raw clients, polling,
//! randomness.
//!
//! The rules that keep these tests from failing by chance:
//!
//! - Each server is the real binary on a free port in its own temporary directory, and is killed on
//!   drop.
//! - Nothing sleeps for a guessed time: [`wait_until`] polls a condition, up to a deadline that
//!   only a hang reaches.
//! - Each read and each write of a client has a deadline too, so a lost reply is a failed test and
//!   not a stuck one.
//! - A failure shows what is needed to understand it without a second run: the command, what the
//!   server's directory holds, what the server logged, and the seed where there was randomness.
//!
//! `server` has the processes, `injection` makes their system calls fail, `resp`, `text` and `http` the ways to talk to them, `rng` the seeded
//! generator; `linear` judges what concurrent clients were answered.
#![allow(dead_code, reason = "each test file is a program of its own and uses only a part of this")]

pub mod diagram;
pub mod history;
pub mod http;
pub mod injection;
pub mod linear;
pub mod memory_disk;
pub mod nodes;
pub mod proxy;
pub mod resp;
pub mod rng;
pub mod server;
pub mod text;

use std::io::Write;
use std::time::{Duration, Instant};

/// Far longer than any answer takes, even on a loaded machine: whoever waits this long has found a
/// hang.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Polls `condition` until it holds, and says whether it did before the deadline.
#[must_use]
pub fn wait_until(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Says, visibly also in a run that passes, what was left out.
pub fn skipped(why: &str) {
    note(&format!("skipped: {why}"));
}

/// Writes a line past the test runner, which captures what `println!` and `eprintln!` print.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// True if the long form of a test was asked for with `KVSTORE_LONG=1`.
pub fn long_form() -> bool {
    std::env::var("KVSTORE_LONG").is_ok_and(|value| value == "1")
}

/// A number from the environment; anything else there is a mistake of whoever set it.
pub fn number_from_env(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number")))
}
