//! The commands: SUBSCRIBE, PUBLISH and others. The module's header says what they promise.

use super::glob::{PATTERN_TOO_LONG, Pattern};
use super::{Kind, NAME_BYTES_MAX, SUBSCRIPTIONS_MAX, Subscriptions};
use crate::clients::outbox::SendError;
use crate::commands::Family::PubSub;
use crate::commands::{Flags, Spec};
use crate::config::{ClientClass, OutputLimit};
use crate::engine::Session;
use crate::engine::session::Ending;
use crate::engine::table::{FAST, Row, ServerCall, container, row, sub, subcommands};
use crate::error::Failure;
use crate::metrics::Stat;
use crate::observe::cut::record_cut;
use crate::protocol::{Args, Dialect, Reply};

/// A confirmation is sent by itself, so it cannot be an element of the answer to EXEC.
const LISTEN: Flags =
    Flags::LOADING.and(Flags::NO_MULTI).and(Flags::CONNECTION).and(Flags::SUBSCRIBED);

#[rustfmt::skip]
pub const COMMANDS: &[Row] = &[
    row(PubSub, "publish", 3, FAST.and(Flags::MAY_REPLICATE), publish).rest(2)
        .help("channel message", "Sends a message to a channel's subscribers; answers how many there are.",
            "PUBLISH news hello world -> 0"),
    row(PubSub, "subscribe", -2, LISTEN, |call, args| subscribe(call, Kind::Channel, args))
        .help("channel [channel ...]", "Subscribes to channels; RESET ends it.",
            "SUBSCRIBE news -> subscribe news 1"),
    row(PubSub, "unsubscribe", -1, LISTEN, |call, args| unsubscribe(call, Kind::Channel, args))
        .help("[channel [channel ...]]", "Unsubscribes from these channels, or from all.",
            "SUBSCRIBE news; UNSUBSCRIBE news -> unsubscribe news 0"),
    row(PubSub, "psubscribe", -2, LISTEN, |call, args| subscribe(call, Kind::Pattern, args))
        .help("pattern [pattern ...]", "Subscribes to all channels whose names match glob patterns.",
            "PSUBSCRIBE news.* -> psubscribe news.* 1"),
    row(PubSub, "punsubscribe", -1, LISTEN, |call, args| unsubscribe(call, Kind::Pattern, args))
        .help("[pattern [pattern ...]]", "Unsubscribes from these patterns, or from all.",
            "PUNSUBSCRIBE -> punsubscribe (nil) 0"),
    container(PubSub, "pubsub", FAST, subcommands, "Shows channels and their subscribers.", "PUBSUB NUMSUB news -> 1) news\n2) 0"),
    sub(PubSub, "pubsub|channels", -2, FAST, channels, "[pattern]",
        "Channels with subscribers by name."),
    sub(PubSub, "pubsub|help", 2, FAST, subcommands, "", "Lists the subcommands."),
    sub(PubSub, "pubsub|numpat", 2, FAST, numpat, "", "Number of patterns with subscribers."),
    sub(PubSub, "pubsub|numsub", -2, FAST, numsub, "[channel [channel ...]]",
        "Numbers of subscribers to channels by name."),
];

fn subscribe(call: &mut ServerCall<'_>, kind: Kind, args: Args<'_>) -> Result<(), Failure> {
    if args.from(1).any(|name| name.len() > NAME_BYTES_MAX) {
        return Err(PATTERN_TOO_LONG);
    }
    if call.session.subscriptions.len() + args.len() - 1 > SUBSCRIPTIONS_MAX {
        let text = format!("ERR a client may have {SUBSCRIPTIONS_MAX} subscriptions at most");
        return Err(Failure::new(text));
    }
    change(call, |own, dialect, limit| own.subscribe(kind, args.from(1), dialect, limit));
    Ok(())
}

fn unsubscribe(call: &mut ServerCall<'_>, kind: Kind, args: Args<'_>) -> Result<(), Failure> {
    change(call, |own, dialect, limit| own.unsubscribe(kind, args.from(1), dialect, limit));
    Ok(())
}

/// Changes the client's subscriptions. The confirmation is sent in the same turn, so all earlier replies
/// must have left before, including those that are parked until a sync.
fn change(
    call: &mut ServerCall<'_>,
    change: impl FnOnce(&mut Subscriptions, Dialect, OutputLimit) -> Result<usize, SendError>,
) {
    let ServerCall { engine, session, reply, .. } = call;
    if engine.flush(session, reply).is_err() {
        session.ending = Ending::Now;
    }
    session.client.wait_unparked();
    let limit = engine.config.output_limit(ClientClass::PubSub);
    match change(&mut session.subscriptions, reply.dialect(), limit) {
        Ok(bytes) => engine.metrics[Stat::OutputBytes].add(bytes as u64),
        Err(error) => {
            record_cut(&engine.metrics, session.client.addr, &error);
            session.ending = Ending::Now;
        }
    }
}

fn publish(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    // Patterns are matched with it.
    if args[1].len() > NAME_BYTES_MAX {
        return Err(PATTERN_TOO_LONG);
    }
    call.reply.count(call.engine.publish(call.session, &args[1], &args[2]));
    Ok(())
}

fn channels(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    if args.len() > 3 {
        return Err(Failure::misused("PUBSUB", &args[1]));
    }
    let pattern = args.get(2).map(Pattern::parse).transpose()?;
    let mut names = call.engine.pubsub.channels();
    names.retain(|name| pattern.as_ref().is_none_or(|pattern| pattern.matches(name)));
    call.reply.array(names.len());
    names.iter().for_each(|name| call.reply.bulk(name));
    Ok(())
}

fn numsub(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    call.reply.array(2 * (args.len() - 2));
    for channel in args.from(2) {
        call.reply.bulk(channel);
        call.reply.count(call.engine.pubsub.listeners(channel));
    }
    Ok(())
}

fn numpat(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    call.reply.count(call.engine.pubsub.counts().1);
    Ok(())
}

/// Checks that a subscriber may send a command. In RESP2 and in text, a reply and a message differ only in
/// their form, so it may send few.
pub fn check_subscriber(
    session: &Session,
    command: &Spec,
    dialect: Dialect,
) -> Result<(), Failure> {
    if session.subscriptions.is_empty()
        || dialect == Dialect::Resp3
        || command.flags.has(Flags::SUBSCRIBED)
    {
        return Ok(());
    }
    if dialect == Dialect::Text {
        return Err(TO_PEOPLE);
    }
    Err(Failure::quoting(
        "ERR Can't execute '",
        command.name.as_bytes(),
        "': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
    ))
}

const TO_PEOPLE: Failure = Failure::fixed(
    "ERR this connection listens to messages: it may SUBSCRIBE, PSUBSCRIBE, UNSUBSCRIBE, PUNSUBSCRIBE, \
     PING and QUIT; RESET ends listening",
);

/// Answers a subscriber's PING, which in RESP2 and in text takes the form of a message.
pub fn pong(args: Args<'_>, reply: &mut Reply) {
    let message = args.get(1);
    reply.push(if reply.dialect() == Dialect::Text && message.is_none() { 1 } else { 2 });
    reply.bulk(b"pong");
    if message.is_some() || reply.dialect() != Dialect::Text {
        reply.bulk(message.unwrap_or_default());
    }
}
