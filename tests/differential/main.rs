//! Redis is the specification; this test is how we read it.
//!
//! The hazard: a client library that works with Redis meets one reply of ours that is worded, typed
//! or rounded differently, and fails in production, in a path that no hand-written test thought of.
//! So tens of thousands of random commands, valid and invalid, go to a real Redis 7.0 and to
//! kvstore, and the replies must be the same **byte for byte**.
//!
//! ```text
//! generate ──batch of 50──┬──> redis-server ──> replies ──┐
//!                         └──> kvstore ───────> replies ──┴──> compare ──> first difference of the batch, if any
//! ```
//!
//! - `vocabulary` has one template per form of a command, and the words that fill it.
//! - `generate` makes random commands of it, and spoils some.
//! - `deviations` lists each intended difference with its reason. All other replies are compared
//!   exactly.
//! - `compare` has the ways in which two replies can agree without being the same bytes.
//! - `session` sends, compares, remembers, and reports; `dialogues` has exchanges that cannot be
//!   sent in batches.
//! - `memory` compares full servers, and the statistics of uses.
//! - `messages` compares the messages that subscribers get.
//! - `restarts` restarts kvstore now and then: the data compared after that was read back from its
//!   log.
//! - `transactions` has several connections take turns, with MULTI, EXEC and WATCH.
//! - `seeing` compares an operator's instruments.
//!
//! `make diff` runs it. `KVSTORE_DIFF_COMMANDS=1000000` is the long form, with a new seed each
//! time; `KVSTORE_DIFF_SEED` replays a seed that a failure printed. The short form always has the
//! same seed, so that a red test is due to the change under test. `KVSTORE_DIFF_SUBJECT=redis` lets
//! a second Redis stand in for kvstore: then any difference is a fault of the test.

#[path = "../common/mod.rs"]
mod common;

mod compare;
mod deviations;
mod dialogues;
mod generate;
mod memory;
mod messages;
mod restarts;
mod seeing;
mod session;
mod transactions;
mod vocabulary;

#[path = "../fuzz/replies.rs"]
mod replies;

use common::resp::{Resp, Value};
use common::rng::{Rng, fresh_seed};
use common::server::{RedisServer, Server, is_stand_in};
use common::{number_from_env, skipped};
use generate::Generator;
use session::{Session, words};

const COMMANDS_SHORT: u64 = 40_000;
const SEED_SHORT: u64 = 1;
const BATCH_LEN: usize = 50;
/// The number of batches between two comparisons of the whole state.
const BATCHES_PER_CHECKPOINT: u64 = 20;

#[test]
fn random_commands_get_the_replies_of_redis_in_resp2() {
    compare_random_commands(2);
}

#[test]
fn random_commands_get_the_replies_of_redis_in_resp3() {
    compare_random_commands(3);
}

fn compare_random_commands(protocol: u8) {
    let Some(redis) = oracle() else { return };
    let subject = Server::start(&[]);
    let mut run = Run::begin(&redis, &subject, protocol, "KVSTORE_DIFF_COMMANDS", COMMANDS_SHORT);
    for batch in 1..=run.batches {
        run.compare_batch(batch);
        if run.session.has_enough_differences() {
            break;
        }
    }
    run.end();
}

/// Random commands on two servers.
struct Run {
    session: Session,
    generator: Generator,
    rng: Rng,
    seed: u64,
    batches: u64,
    is_short: bool,
}

impl Run {
    /// `long` is the variable that may ask for another number of commands than `short`.
    fn begin(redis: &RedisServer, subject: &Server, protocol: u8, long: &str, short: u64) -> Run {
        let commands = number_from_env(long);
        let default_seed = if commands.is_some() { fresh_seed() } else { SEED_SHORT };
        let seed = number_from_env("KVSTORE_DIFF_SEED").unwrap_or(default_seed);
        println!("KVSTORE_DIFF_SEED={seed} RESP{protocol}");
        Run {
            session: Session::new(redis.port(), subject.port(), protocol),
            generator: Generator::new(Rng::new(seed), protocol),
            rng: Rng::new(!seed),
            seed,
            batches: commands.unwrap_or(short).div_ceil(BATCH_LEN as u64),
            is_short: commands.is_none(),
        }
    }

    fn compare_batch(&mut self, batch: u64) {
        self.session.compare((0..BATCH_LEN).map(|_| self.generator.command()).collect());
        self.session.compare_a_dialogue(&mut self.rng);
        if batch.is_multiple_of(BATCHES_PER_CHECKPOINT) || batch == self.batches {
            self.session.compare_state();
        }
    }

    fn end(mut self) {
        self.session.assert_no_difference(self.seed);
        if self.is_short {
            self.session.assert_each_deviation_was_met();
        }
    }
}

/// `OBJECT ENCODING` may differ once a value has been edited in place; for a value just set it may
/// not.
#[test]
fn a_value_just_set_has_the_encoding_of_redis() {
    let Some(redis) = oracle() else { return };
    let subject = Server::start(&[]);
    let (mut redis, mut subject) = (Resp::connect(redis.port()), Resp::connect(subject.port()));
    let (embstr_longest, raw_shortest) = ("x".repeat(44), "x".repeat(45));
    let fixed =
        ["", "0", "-0", "+1", "007", " 1", "1.0", "9223372036854775807", "9223372036854775808"];
    for value in fixed.into_iter().chain([embstr_longest.as_str(), raw_shortest.as_str()]) {
        let encoding = |client: &mut Resp| {
            assert_eq!(client.call(&["SET", "k", value]), Value::ok());
            client.call(&["OBJECT", "ENCODING", "k"])
        };
        assert_eq!(encoding(&mut redis), encoding(&mut subject), "the encoding of {value:?}");
    }
}

/// Without this, a new command of ours could be missing above unnoticed.
#[test]
fn each_command_is_compared_or_listed_as_not_sent() {
    if is_stand_in() {
        return skipped("the stand-in has more commands than kvstore");
    }
    let server = Server::start(&[]);
    let reply = Resp::connect(server.port()).call(&["COMMAND", "LIST"]);
    let names =
        reply.as_array().iter().map(|name| String::from_utf8_lossy(name.as_bytes()).to_uppercase());
    // Subcommands are listed beside their containers.
    let missing: Vec<_> = names
        .filter(|name| !name.contains('|'))
        .filter(|name| !vocabulary::knows(name) && !deviations::is_not_sent(name))
        .collect();
    assert!(missing.is_empty(), "neither in vocabulary.rs nor in deviations.rs: {missing:?}");
}

/// A comparison that cannot fail proves nothing: a subject that has been tampered with must be
/// found out.
#[test]
fn a_tampered_reply_and_a_tampered_state_are_reported() {
    let (Some(redis), Some(subject)) = (oracle(), oracle()) else { return };
    let mut session = Session::new(redis.port(), subject.port(), 2);
    session.compare(vec![words("SET k0 honest"), words("SET k1 honest"), words("GET k0")]);
    session.compare_state();
    session.assert_no_difference(0);

    let mut tamperer = Resp::connect(subject.port());
    tamperer.call(&["SET", "k0", "tampered"]);
    session.compare(vec![words("PING"), words("GET k0")]);
    let reports = session.take_differences();
    assert_eq!(reports.len(), 1, "{reports:?}");
    for part in ["GET k0", "honest", "tampered", "SET k0 honest"] {
        assert!(reports[0].contains(part), "{part} is not in the report:\n{}", reports[0]);
    }
    assert!(
        !reports[0].contains("k1"),
        "a command on another key is in the report:\n{}",
        reports[0]
    );

    session.compare(vec![words("SET k0 honest EX 10000")]);
    tamperer.call(&["PERSIST", "k0"]);
    session.compare_state();
    assert!(
        session.take_differences()[0].contains("PEXPIRETIME k0"),
        "a lost deadline goes unnoticed"
    );
}

/// The Redis to compare with; another version than 7.0 has other error texts and other commands. It dumps values
/// uncompressed, as we do.
fn oracle() -> Option<RedisServer> {
    let redis = RedisServer::start_with(&[("rdbcompression", "no")])?;
    let info = Resp::connect(redis.port()).call(&["INFO", "server"]);
    if String::from_utf8_lossy(info.as_bytes()).contains("redis_version:7.0.") {
        return Some(redis);
    }
    skipped(
        "the redis-server on PATH is not a Redis 7.0 (apt-get install redis-server on Debian 12)",
    );
    None
}
