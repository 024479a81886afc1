//! The hazard: bytes that make the server panic. In release mode a panic ends the process, so one that
//! a client can cause is a way to shoot the server down.
//!
//! - `parser`: mutated requests and noise, in random pieces, through the decoder. It must not panic,
//!   must find the same however its input is cut, and must hold no more than it was given.
//! - `sessions`: random calls of every command, made of the command table's own grammars
//!   (`grammar`) and of awkward arguments (`words`), through decoder and engine in this process.
//!   Nothing may panic, and each request gets exactly one whole reply (`replies`), in RESP2, RESP3 and
//!   text.
//!
//! `KVSTORE_FUZZ_CASES=2000000` is the long form (`make fuzz`), with a new seed each time;
//! `KVSTORE_FUZZ_SEED` replays a seed that a failure printed. The short form always has the same seeds,
//! so that a red test is due to the change under test.

#[path = "../common/mod.rs"]
mod common;

mod grammar;
mod parser;
mod replies;
mod sessions;
mod words;

use common::number_from_env;
use common::rng::fresh_seed;

const CASES_SHORT: u64 = 20_000;
const SEED_SHORT: u64 = 1;

/// The number of cases to try.
fn cases() -> u64 {
    number_from_env("KVSTORE_FUZZ_CASES").unwrap_or(CASES_SHORT)
}

/// The seed of the first round; the next ones count up from it, so that a failing round can be replayed
/// alone.
fn first_seed() -> u64 {
    let default =
        if std::env::var_os("KVSTORE_FUZZ_CASES").is_some() { fresh_seed() } else { SEED_SHORT };
    number_from_env("KVSTORE_FUZZ_SEED").unwrap_or(default)
}

/// Says, if the test fails while this lives, how to repeat it.
struct Replay {
    seed: u64,
    /// The last steps, oldest first.
    history: Vec<String>,
}

impl Replay {
    const SHOWN_MAX: usize = 40;

    fn new(seed: u64) -> Replay {
        Replay { seed, history: vec![] }
    }

    fn note(&mut self, what: String) {
        if self.history.len() >= 2 * Replay::SHOWN_MAX {
            self.history.drain(..Replay::SHOWN_MAX);
        }
        self.history.push(what);
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let shown = self.history.len().min(Replay::SHOWN_MAX);
            let last = self.history[self.history.len() - shown..].join("\n");
            eprintln!("KVSTORE_FUZZ_SEED={} fails at the last of these:\n{last}", self.seed);
        }
    }
}
