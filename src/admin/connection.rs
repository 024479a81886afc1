//! Commands about the client's own connection.

use super::client_command;
use crate::clock::Stopwatch;
use crate::commands::Family::Connection;
use crate::commands::{Flags, Secrets};
use crate::config::Id;
use crate::engine::session::{Ending, ReplyMode};
use crate::engine::table::{FAST, Row, ServerCall, row};
use crate::engine::{Engine, Session};
use crate::error::{
    DB_OUT_OF_RANGE, Failure, INT_OUT_OF_RANGE, Kind, NO_PASSWORD_SET, NOT_AN_INTEGER, SYNTAX,
};
use crate::metrics::Stat;
use crate::observe::monitor::Monitoring;
use crate::protocol::{Args, Dialect, Reply, integer};
use crate::pubsub::commands as pubsub_command;
use std::hint::black_box;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const FREE: Flags = FAST.and(Flags::NO_AUTH).and(Flags::CONNECTION);
/// Also allowed in a transaction and with subscriptions.
const ALWAYS: Flags = FREE.and(Flags::UNQUEUED).and(Flags::SUBSCRIBED);

#[rustfmt::skip]
pub const COMMANDS: &[Row] = &[
    row(Connection, "auth", -2, FREE, auth).secrets(Secrets::All)
        .help("[username] password", "Authenticates with the password.", "CONFIG SET requirepass secret; AUTH secret -> OK"),
    row(Connection, "echo", 2, FAST, echo).rest(1)
        .help("message", "Returns the message.", "ECHO hello world -> hello world"),
    row(Connection, "hello", -1, FREE, hello).secrets(Secrets::AfterAuth)
        .help("[protover [AUTH username password] [SETNAME clientname]]",
            "Chooses RESP2 or RESP3; replies are RESP from then on, until RESET.",
            "HELLO 3 -> (names and values that describe the server)"),
    row(Connection, "ping", -1, Flags::FAST.and(Flags::SUBSCRIBED), ping).rest(1)
        .help("[message]", "Returns PONG, or the message.", "PING -> PONG"),
    row(Connection, "quit", -1, ALWAYS, quit).help("", "Closes the connection.", "QUIT -> OK"),
    row(Connection, "exit", -1, ALWAYS, quit).help("", "Closes the connection, as QUIT does.", "EXIT -> OK"),
    row(Connection, "reset", 1, ALWAYS, reset)
        .help("", "Resets the connection to its initial state; one that has sent RESP still gets RESP.", "RESET -> RESET"),
    row(Connection, "select", 2, FAST.and(Flags::CONNECTION), select)
        .help("index", "Selects a database; there is only number 0.", "SELECT 0 -> OK"),
];

const WRONG_PASSWORD: Failure =
    Failure::fixed("WRONGPASS invalid username-password pair or user is disabled.");
const HELLO_NEEDS_AUTH: Failure = Failure::fixed(
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> \
     AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol \
     version at the same time",
);
/// The delay of the reply to a connection's first wrong password. It doubles with each further one.
const AUTH_DELAY_MS: u64 = 50;
const AUTH_DELAY_MAX_MS: u64 = 1600;

fn ping(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let ServerCall { session, reply, .. } = call;
    let listens = !session.subscriptions.is_empty() && reply.dialect() != Dialect::Resp3;
    match args.len() {
        1 | 2 if listens => pubsub_command::pong(args, reply),
        1 => reply.simple("PONG"),
        2 => reply.bulk(&args[1]),
        _ => return Err(Failure::arity("ping")),
    }
    Ok(())
}

fn echo(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    call.reply.bulk(&args[1]);
    Ok(())
}

fn quit(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    call.session.ending = Ending::AfterReply;
    call.ok()
}

fn select(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    match integer(&args[1]) {
        None => Err(NOT_AN_INTEGER),
        Some(0) => call.ok(),
        Some(index) if i32::try_from(index).is_err() => Err(INT_OUT_OF_RANGE),
        Some(_) => Err(DB_OUT_OF_RANGE),
    }
}

fn reset(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    let ServerCall { engine, session, reply } = call;
    session.authenticated = engine.config.text(Id::Requirepass).is_empty();
    session.subscriptions.leave_all();
    session.resp = Dialect::Resp2;
    session.asked_for_resp = false;
    session.reply_mode = ReplyMode::On;
    session.leave_transaction();
    session.monitoring = Monitoring::Off;
    session.client.record_dialect(Dialect::Resp2);
    session.client.no_evict.store(false, Relaxed);
    session.client.no_touch.store(false, Relaxed);
    session.client.labels.lock().name.clear();
    if reply.dialect() == Dialect::Resp3 {
        reply.set_dialect(Dialect::Resp2);
    }
    reply.simple("RESET");
    Ok(())
}

fn auth(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let (user, password) = match args.len() {
        2 if call.engine.config.text(Id::Requirepass).is_empty() => return Err(NO_PASSWORD_SET),
        2 => (&b"default"[..], &args[1]),
        3 => (&args[1], &args[2]),
        _ => return Err(SYNTAX),
    };
    check_password(call.engine, call.session, user, password)?;
    call.ok()
}

/// `HELLO [protover [AUTH user password] [SETNAME name]]`. Everything is checked before anything changes; but as in
/// Redis, AUTH counts even if SETNAME then fails.
fn hello(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let ServerCall { engine, session, reply } = call;
    let version = match args.get(1) {
        None => None,
        Some(digits) => Some(
            integer(digits)
                .ok_or(Failure::fixed("ERR Protocol version is not an integer or out of range"))?,
        ),
    };
    let dialect = match version {
        None => session.resp,
        Some(2) => Dialect::Resp2,
        Some(3) => Dialect::Resp3,
        Some(_) => return Err(Failure::fixed("NOPROTO unsupported protocol version")),
    };
    let (mut at, mut name) = (2, None);
    while at < args.len() {
        if args.is(at, "auth") && at + 2 < args.len() {
            check_password(engine, session, &args[at + 1], &args[at + 2])?;
            at += 3;
        } else if args.is(at, "setname") && at + 1 < args.len() {
            name = Some(client_command::valid_name(&args[at + 1])?);
            at += 2;
        } else {
            let refusal = Failure::quoting("ERR Syntax error in HELLO option '", &args[at], "'");
            return Err(refusal.of_kind(Kind::Syntax));
        }
    }
    if !session.authenticated {
        return Err(HELLO_NEEDS_AUTH);
    }
    if let Some(name) = name {
        session.client.labels.lock().name = name;
    }
    session.resp = dialect;
    session.client.record_dialect(dialect);
    if reply.dialect() != Dialect::Text {
        reply.set_dialect(dialect);
        session.client.subscriber.speak(dialect);
    }
    describe_server(engine, session, reply);
    Ok(())
}

fn describe_server(engine: &Engine, session: &Session, reply: &mut Reply) {
    reply.map(7);
    reply.bulk(b"server");
    // Clients check this name.
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(crate::observe::REDIS_VERSION.as_bytes());
    reply.bulk(b"proto");
    reply.int(if session.resp == Dialect::Resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.int(session.client.id.0 as i64);
    reply.bulk(b"mode");
    reply.bulk(b"standalone");
    reply.bulk(b"role");
    reply.bulk(if engine.role.is_follower() { b"replica" } else { b"master" });
    reply.bulk(b"modules");
    reply.array(0);
}

/// Checks a name and a password. A failure is counted, logged and delayed.
fn check_password(
    engine: &Engine,
    session: &mut Session,
    user: &[u8],
    password: &[u8],
) -> Result<(), Failure> {
    let expected = engine.config.text(Id::Requirepass);
    let known_user = user == b"default";
    // As for Redis's default user, any password is right if none is set.
    let right = expected.is_empty() | equal_in_constant_time(expected.as_bytes(), password);
    if known_user && right {
        session.authenticated = true;
        return Ok(());
    }
    session.auth_failures += 1;
    engine.metrics[Stat::AuthFailures].increment();
    log::warn!("client {}: wrong password (try {})", session.client.addr, session.auth_failures);
    let doublings = (session.auth_failures - 1).min(16);
    let delay = (AUTH_DELAY_MS << doublings).min(AUTH_DELAY_MAX_MS);
    engine.shutdown.wait_for(Duration::from_millis(delay));
    // The delay is not part of the command's duration.
    session.probe.stopwatch = Stopwatch::start();
    Err(WRONG_PASSWORD)
}

/// Compares in full, so that the duration does not show the position of the first difference.
fn equal_in_constant_time(expected: &[u8], given: &[u8]) -> bool {
    let mut difference = expected.len() ^ given.len();
    for (at, byte) in given.iter().enumerate() {
        let other = expected[at % expected.len().max(1)..].first().copied().unwrap_or_default();
        difference |= usize::from(black_box(byte ^ other));
    }
    difference == 0
}

#[cfg(test)]
mod tests {
    use crate::admin::connection::equal_in_constant_time;

    #[test]
    fn passwords_are_compared_in_full() {
        assert!(equal_in_constant_time(b"secret", b"secret"));
        for wrong in ["", "s", "secre", "secrets", "Secret", "secrex", "secretsecret"] {
            assert!(!equal_in_constant_time(b"secret", wrong.as_bytes()), "{wrong}");
        }
        assert!(!equal_in_constant_time(b"", b"x"));
    }
}
