//! The same comparison, while kvstore is restarted.
//!
//! The hazard: memory differs from what the log leads to. An effect that is logged differently
//! from how it was applied (a deadline rounded, an overwritten one kept, a value cut) answers
//! correctly until the next restart, and then the data is another. So kvstore is restarted in the
//! middle of the run, with SIGTERM and with SIGKILL in turn, and at its end; what it held before must
//! be what it holds after, byte for byte; and then the comparison with Redis, which was not restarted,
//! goes on. Now and then the log is compacted before, or is just being compacted; and between batches
//! `DEBUG RELOAD` reads it back in place.

use super::session::{Args, Session};
use super::{COMMANDS_SHORT, Run, oracle};
use crate::common::resp::{Resp, Value, quote};
use crate::common::rng::Rng;
use crate::common::server::{RedisServer, Server, is_stand_in};
use crate::common::{DEADLINE, skipped, wait_until};
use std::collections::BTreeMap;

const RESTARTS: u64 = 12;
const RELOADS_PERCENT: usize = 5;
/// Some dozens of segments, and a few compactions that come by themselves.
pub const SETTINGS: &[(&str, &str)] =
    &[("segment-size", "8kb"), ("auto-compact-min-size", "200kb"), ("appendfsync", "100ms")];

/// Each key with the raw replies to GET and PEXPIRETIME.
type State = BTreeMap<Vec<u8>, [Vec<u8>; 2]>;

#[test]
fn a_restart_changes_nothing_in_resp2() {
    compare_across_restarts(2);
}

#[test]
fn a_restart_changes_nothing_in_resp3() {
    compare_across_restarts(3);
}

fn compare_across_restarts(protocol: u8) {
    if is_stand_in() {
        return skipped("the stand-in has no log");
    }
    let Some(redis) = oracle() else { return };
    let mut subject = Server::start(SETTINGS);
    let mut run = Run::begin(&redis, &subject, protocol, "KVSTORE_DIFF_COMMANDS", COMMANDS_SHORT);
    let batches_per_restart = (run.batches / RESTARTS).max(1);
    for batch in 1..=run.batches {
        run.compare_batch(batch);
        if run.rng.chance(RELOADS_PERCENT) {
            reload(&mut run.session, &mut run.rng);
        }
        if batch.is_multiple_of(batches_per_restart) || batch == run.batches {
            let restart = Restart::nth(batch / batches_per_restart);
            restart.run(&mut run.session, &redis, &mut subject);
        }
        if run.session.has_enough_differences() {
            break;
        }
    }
    run.end();
}

/// The event before a restart.
#[derive(Clone, Copy, Debug)]
enum Compaction {
    None,
    Done,
    /// Asked for and most likely under way.
    Begun,
}

pub struct Restart {
    signal: &'static str,
    compaction: Compaction,
}

impl Restart {
    /// All six kinds, in turn.
    pub fn nth(n: u64) -> Restart {
        let compactions = [Compaction::None, Compaction::Begun, Compaction::Done];
        Restart {
            signal: if n.is_multiple_of(2) { "TERM" } else { "KILL" },
            compaction: compactions[(n % 3) as usize],
        }
    }

    pub fn run(&self, session: &mut Session, redis: &RedisServer, subject: &mut Server) {
        let event =
            format!("(SIG{} and a restart, compaction: {:?})", self.signal, self.compaction);
        let before = state(&mut session.subject);
        match self.compaction {
            Compaction::None => {}
            Compaction::Begun => begin_compaction(&mut session.subject),
            Compaction::Done => compact(&mut session.subject),
        }
        subject.restart(self.signal);
        session.reconnect(redis.port(), subject.port());
        let after = state(&mut session.subject);
        expect_the_same(session, event, &before, &after);
        session.compare_state();
    }
}

/// Reads the log back in place, now and then while it is being compacted.
fn reload(session: &mut Session, rng: &mut Rng) {
    let before = state(&mut session.subject);
    if rng.chance(30) {
        begin_compaction(&mut session.subject);
    }
    assert_eq!(session.subject.call(&["DEBUG", "RELOAD"]), Value::ok());
    let after = state(&mut session.subject);
    expect_the_same(session, "(DEBUG RELOAD)".to_owned(), &before, &after);
}

/// Redis has the same command and the same answers.
fn begin_compaction(subject: &mut Resp) {
    let reply = subject.call(&["BGREWRITEAOF"]);
    let already = "ERR Background append only file rewriting already in progress";
    let is_begun = !reply.is_error() || reply == Value::error(already);
    assert!(is_begun, "BGREWRITEAOF: {reply:?}");
}

/// SAVE is refused while the log is being compacted by itself.
fn compact(subject: &mut Resp) {
    let is_saved = wait_until(DEADLINE, || subject.call(&["SAVE"]) == Value::ok());
    assert!(is_saved, "SAVE: {}", quote(subject.last_raw()));
}

fn state(subject: &mut Resp) -> State {
    let keys = subject.call(&["KEYS", "*"]);
    let keys = keys.as_array().iter().map(|key| key.as_bytes().to_vec());
    let mut about = |command: &str, key: &[u8]| {
        subject.call(&[command.as_bytes(), key]);
        subject.last_raw().to_vec()
    };
    keys.map(|key| {
        let replies = [about("GET", &key), about("PEXPIRETIME", &key)];
        (key, replies)
    })
    .collect()
}

fn expect_the_same(session: &mut Session, event: String, before: &State, after: &State) {
    session.remember(vec![event.clone().into_bytes()]);
    let keys: Vec<&Vec<u8>> = before.keys().chain(after.keys()).collect();
    let Some(key) = keys.into_iter().find(|key| before.get(*key) != after.get(*key)) else {
        return;
    };
    let show = |state: &State| {
        let shown = state.get(key).map(|replies| replies.each_ref().map(|raw| quote(raw)));
        shown.map_or("no such key".to_owned(), |[value, deadline]| format!("{value} {deadline}"))
    };
    let args: Args = vec![event.into_bytes(), key.clone()];
    session.report(&args, "what it held before, in place of Redis", &show(before), &show(after));
    session.empty_both();
}
