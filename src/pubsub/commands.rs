//! SUBSCRIBE and its kin: who listens. What they promise is said in `pubsub.rs`.
//!
//! A confirmation is sent by itself, in the same turn in which the subscription is entered. So what was
//! answered before must have left: also what is parked with the sync thread.

use super::{Kind, NAME_BYTES_MAX, SUBSCRIPTIONS_MAX};
use crate::clients::outbox::SendError;
use crate::commands::{Builtin, Command, Run};
use crate::config::ClientClass;
use crate::engine::session::Ending;
use crate::engine::{Engine, Session};
use crate::error::Failure;
use crate::glob::{PATTERN_TOO_LONG, Pattern};
use crate::protocol::{Args, Dialect, Reply};

pub fn subscribe(
    engine: &Engine,
    session: &mut Session,
    kind: Kind,
    args: Args<'_>,
    reply: &mut Reply,
) -> Result<(), Failure> {
    if args.from(1).any(|name| name.len() > NAME_BYTES_MAX) {
        return Err(PATTERN_TOO_LONG);
    }
    if session.subscriptions.len() + args.len() - 1 > SUBSCRIPTIONS_MAX {
        let text = format!("ERR a client may have {SUBSCRIPTIONS_MAX} subscriptions at most");
        return Err(Failure::new(text));
    }
    answer_first(engine, session, reply);
    let limit = engine.config.output_limit(ClientClass::PubSub);
    let sent = session.subscriptions.subscribe(kind, args.from(1), reply.dialect(), limit);
    note_sent(engine, session, sent);
    Ok(())
}

pub fn unsubscribe(
    engine: &Engine,
    session: &mut Session,
    kind: Kind,
    args: Args<'_>,
    reply: &mut Reply,
) -> Result<(), Failure> {
    answer_first(engine, session, reply);
    let limit = engine.config.output_limit(ClientClass::PubSub);
    let sent = session.subscriptions.unsubscribe(kind, args.from(1), reply.dialect(), limit);
    note_sent(engine, session, sent);
    Ok(())
}

/// Sends what has been answered so far, and waits until it has left.
fn answer_first(engine: &Engine, session: &mut Session, reply: &mut Reply) {
    if engine.flush(session, reply).is_err() {
        session.ending = Ending::Now;
    }
    session.client.wait_unparked();
}

fn note_sent(engine: &Engine, session: &mut Session, sent: Result<usize, SendError>) {
    match sent {
        Ok(bytes) => return engine.metrics.output_bytes.add(bytes as u64),
        Err(error) => engine.record_cut(session.client.addr, &error),
    }
    session.ending = Ending::Now;
}

pub fn publish(
    engine: &Engine,
    session: &mut Session,
    args: Args<'_>,
    reply: &mut Reply,
) -> Result<(), Failure> {
    // Patterns are matched with it.
    if args[1].len() > NAME_BYTES_MAX {
        return Err(PATTERN_TOO_LONG);
    }
    reply.count(engine.publish(session, &args[1], &args[2]));
    Ok(())
}

pub fn channels(engine: &Engine, args: Args<'_>, reply: &mut Reply) -> Result<(), Failure> {
    if args.len() > 3 {
        let beginning = "ERR unknown subcommand or wrong number of arguments for '";
        return Err(Failure::quoting(beginning, &args[1], "'. Try PUBSUB HELP."));
    }
    let pattern = args.get(2).map(Pattern::parse).transpose()?;
    let mut names = engine.pubsub.channels();
    names.retain(|name| pattern.as_ref().is_none_or(|pattern| pattern.matches(name)));
    reply.array(names.len());
    names.iter().for_each(|name| reply.bulk(name));
    Ok(())
}

pub fn numsub(engine: &Engine, args: Args<'_>, reply: &mut Reply) -> Result<(), Failure> {
    reply.array(2 * (args.len() - 2));
    for channel in args.from(2) {
        reply.bulk(channel);
        reply.count(engine.pubsub.listeners(channel));
    }
    Ok(())
}

pub fn numpat(engine: &Engine, reply: &mut Reply) -> Result<(), Failure> {
    reply.count(engine.pubsub.counts().1);
    Ok(())
}

/// What a subscriber may send: in RESP2 and in text nothing tells a reply from a message but its form.
pub fn check_allowed(
    session: &Session,
    command: &Command,
    dialect: Dialect,
) -> Result<(), Failure> {
    use Builtin::{Ping, Psubscribe, Punsubscribe, Quit, Reset, Subscribe, Unsubscribe};
    if session.subscriptions.is_empty() || dialect == Dialect::Resp3 {
        return Ok(());
    }
    match command.run {
        Run::Engine(Ping | Psubscribe | Punsubscribe | Quit | Reset | Subscribe | Unsubscribe) => {
            Ok(())
        }
        _ if dialect == Dialect::Text => Err(TO_PEOPLE),
        _ => Err(Failure::quoting(
            "ERR Can't execute '",
            command.name.as_bytes(),
            "': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this \
             context",
        )),
    }
}

const TO_PEOPLE: Failure = Failure::fixed(
    "ERR this connection listens to messages: it may SUBSCRIBE, PSUBSCRIBE, UNSUBSCRIBE, PUNSUBSCRIBE, \
     PING and QUIT; RESET ends listening",
);

/// PING of a subscriber, who in RESP2 and in text gets it in the form of a message.
pub fn pong(args: Args<'_>, reply: &mut Reply) {
    let message = args.get(1);
    reply.push(if reply.dialect() == Dialect::Text && message.is_none() { 1 } else { 2 });
    reply.bulk(b"pong");
    if message.is_some() || reply.dialect() != Dialect::Text {
        reply.bulk(message.unwrap_or_default());
    }
}
