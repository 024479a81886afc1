//! The same comparison, over several connections at once, with MULTI, EXEC, DISCARD and WATCH between
//! the random commands.
//!
//! The hazard: a transaction that Redis would have run is refused, or one that it would have refused
//! runs, because some way of changing a key goes unnoticed by those who watch it, or is noticed though
//! it changed nothing. So each of a few connections says a few words at a time, both servers see them
//! in the same order, and each answer is compared, those within EXEC's answer each in its own way. Now
//! and then kvstore is restarted, and must hold what Redis holds.

use super::deviations::is_word;
use super::generate::sees_expired_keys;
use super::restarts::{Restart, SETTINGS};
use super::session::{Args, Session, words};
use super::vocabulary::KEYS;
use super::{BATCH_LEN, COMMANDS_SHORT, Run, oracle};
use crate::common::note;
use crate::common::resp::{Resp, Value};
use crate::common::rng::Rng;
use crate::common::server::{Server, is_stand_in};

/// Commands that only this part sends.
pub const COMMANDS: [&str; 5] = ["MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH"];

const CONNECTIONS: usize = 4;
const RESTARTS: u64 = 6;

#[test]
fn interleaved_transactions_get_the_replies_of_redis_in_resp2() {
    compare_transactions(2);
}

#[test]
fn interleaved_transactions_get_the_replies_of_redis_in_resp3() {
    compare_transactions(3);
}

fn compare_transactions(protocol: u8) {
    let Some(redis) = oracle() else { return };
    let mut subject = Server::start(if is_stand_in() { &[] } else { SETTINGS });
    let mut run = Run::begin(&redis, &subject, protocol, "KVSTORE_DIFF_COMMANDS", COMMANDS_SHORT);
    let connect = |subject: &Server| -> Vec<Link> {
        let link = |_| Link::connect(redis.port(), subject.port(), protocol);
        (0..CONNECTIONS).map(link).collect()
    };
    let mut links = connect(&subject);
    let batches_per_restart = (run.batches / RESTARTS).max(1);
    for batch in 1..=run.batches {
        for _ in 0..BATCH_LEN / 4 {
            let at = run.rng.below(CONNECTIONS);
            let said = say(&mut run, links[at].is_open);
            links[at].take_part(at, &mut run.session, said);
        }
        if batch.is_multiple_of(batches_per_restart) && !is_stand_in() {
            Restart::nth(batch / batches_per_restart).run(&mut run.session, &redis, &mut subject);
            links = connect(&subject);
        }
        if run.session.has_enough_differences() {
            break;
        }
    }
    run.session.compare_state();
    run.session.assert_no_difference(run.seed);
    let [ran, refused, aborted] = run.session.transactions;
    assert!(ran > 100 && refused > 100 && aborted > 100, "{ran} {refused} {aborted}");
    note(&format!(
        "RESP{protocol}: {ran} transactions ran, {refused} were refused for a watched key, {aborted} \
         for an error"
    ));
}

/// The next command of a connection, which may have an open MULTI.
fn say(run: &mut Run, is_open: bool) -> Vec<Args> {
    let mut said = vec![];
    for _ in 0..=run.rng.below(6) {
        let word = match (run.rng.below(100), is_open) {
            (0..12, true) | (0, false) => "EXEC",
            (12..15, true) | (1, false) => "DISCARD",
            (15, true) | (2..20, false) => "MULTI",
            (16, true) | (20..40, false) => "WATCH",
            (17, _) | (40..42, false) => "UNWATCH",
            (18, true) => "EXEC now",
            _ => "",
        };
        if word.is_empty() {
            said.extend(run.generator.whole_command_sequence());
        } else {
            said.push(words(word));
        }
        if word == "WATCH" {
            let keys = 1 + run.rng.below(2);
            said.last_mut().expect("WATCH").extend(watched(&mut run.rng, keys));
        }
    }
    said.retain(|args| !is_left_out(args));
    said
}

fn watched(rng: &mut Rng, keys: usize) -> Args {
    (0..keys).map(|_| rng.pick(KEYS).to_vec()).collect()
}

/// For DEBUG, BITFIELD and listening see the list of deviations. What sees expired keys needs the right commands
/// before it, and in a transaction that is not run it does not get them.
fn is_left_out(args: &Args) -> bool {
    let may_fail = |args: &Args| args.iter().any(|arg| is_word(arg, "FAIL"));
    sees_expired_keys(args)
        || args[0].to_ascii_uppercase().ends_with(b"SUBSCRIBE")
        || is_word(&args[0], "DEBUG")
        || is_word(&args[0], "BITFIELD") && may_fail(args)
}

/// A connection to each of the two servers.
struct Link {
    redis: Resp,
    subject: Resp,
    queued: Vec<Args>,
    is_open: bool,
}

impl Link {
    fn connect(redis_port: u16, subject_port: u16, protocol: u8) -> Link {
        let [redis, subject] = [redis_port, subject_port].map(|port| {
            let mut side = Resp::connect(port);
            assert!(!side.call(&["HELLO", &protocol.to_string()]).is_error());
            side
        });
        Link { redis, subject, queued: vec![], is_open: false }
    }

    /// Says something in the place of the session's own connections.
    fn take_part(&mut self, number: usize, session: &mut Session, said: Vec<Args>) {
        self.swap(session);
        session.speaker = format!("{number}>");
        let opened = said.iter().rposition(|args| args[0] == b"MULTI");
        let closed = said.iter().rposition(|args| args[0] == b"EXEC" || args[0] == b"DISCARD");
        session.compare(said);
        session.speaker.clear();
        self.swap(session);
        // As far as it can be known without the answers; it only steers what is said next.
        self.is_open = (self.is_open && closed.is_none()) || opened > closed;
    }

    fn swap(&mut self, session: &mut Session) {
        std::mem::swap(&mut self.redis, &mut session.redis);
        std::mem::swap(&mut self.subject, &mut session.subject);
        std::mem::swap(&mut self.queued, &mut session.queued);
    }
}

/// A transaction's answer hides nothing: a wrong element in it is found.
#[test]
fn a_wrong_element_of_exec_is_reported() {
    let (Some(redis), Some(subject)) = (oracle(), oracle()) else { return };
    let mut session = Session::new(redis.port(), subject.port(), 2);
    Resp::connect(subject.port()).call(&["SET", "k0", "tampered"]);
    let said = ["MULTI", "PING", "GET k0", "TIME", "EXEC"].map(words).to_vec();
    session.compare(said);
    let reports = session.take_differences();
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert!(reports[0].contains("GET k0") && reports[0].contains("tampered"), "{}", reports[0]);
    session.compare(["MULTI", "PING", "TIME", "TTL k0", "EXEC"].map(words).to_vec());
    session.assert_no_difference(0);
    assert_eq!(session.subject.call(&["PING"]), Value::simple("PONG"));
}
