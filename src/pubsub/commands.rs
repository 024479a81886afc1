//! SUBSCRIBE and its kin: who listens. What they promise is said in `pubsub.rs`.
//!
//! A confirmation is sent by itself, in the same turn in which the subscription is entered. So what was
//! answered before must have left: also what is parked with the sync thread.

use super::{Kind, NAME_BYTES_MAX, SUBSCRIPTIONS_MAX};
use crate::clients::outbox::SendError;
use crate::commands::Family::PubSub;
use crate::commands::{Flags, Spec};
use crate::config::ClientClass;
use crate::engine::Session;
use crate::engine::session::Ending;
use crate::engine::table::{FAST, Row, ServerCall, container, row, sub, subcommands};
use crate::error::Failure;
use crate::glob::{PATTERN_TOO_LONG, Pattern};
use crate::protocol::{Args, Dialect, Reply};

/// A confirmation is sent by itself, so it cannot be an element of the answer to EXEC.
const LISTEN: Flags =
    Flags::LOADING.and(Flags::NO_MULTI).and(Flags::CONNECTION).and(Flags::SUBSCRIBED);

/// The rows of these commands.
#[rustfmt::skip]
pub const COMMANDS: &[Row] = &[
    row(PubSub, "publish", 3, FAST.and(Flags::MAY_REPLICATE), publish).rest(2)
        .help("channel message", "Sends a message to all who listen to a channel now; answers how many.",
            "PUBLISH news hello world -> 0"),
    row(PubSub, "subscribe", -2, LISTEN, subscribe)
        .help("channel [channel ...]", "Listens to channels; RESET ends it.",
            "SUBSCRIBE news -> subscribe news 1"),
    row(PubSub, "unsubscribe", -1, LISTEN, unsubscribe)
        .help("[channel [channel ...]]", "Stops listening to these channels, or to all.",
            "SUBSCRIBE news; UNSUBSCRIBE news -> unsubscribe news 0"),
    row(PubSub, "psubscribe", -2, LISTEN, psubscribe)
        .help("pattern [pattern ...]", "Listens to all channels whose names match glob patterns.",
            "PSUBSCRIBE news.* -> psubscribe news.* 1"),
    row(PubSub, "punsubscribe", -1, LISTEN, punsubscribe)
        .help("[pattern [pattern ...]]", "Stops listening to these patterns, or to all.",
            "PUNSUBSCRIBE -> punsubscribe (nil) 0"),
    container(PubSub, "pubsub", FAST, subcommands, "Tells who listens.", "PUBSUB NUMSUB news -> 1) news\n2) 0"),
    sub(PubSub, "pubsub|channels", -2, FAST, channels, "[pattern]",
        "The channels that somebody listens to by name."),
    sub(PubSub, "pubsub|help", 2, FAST, subcommands, "", "Lists the subcommands."),
    sub(PubSub, "pubsub|numpat", 2, FAST, numpat, "", "How many patterns are listened to."),
    sub(PubSub, "pubsub|numsub", -2, FAST, numsub, "[channel [channel ...]]",
        "How many listen to channels by name."),
];

fn subscribe(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    subscribe_to(call, Kind::Channel, args)
}

fn psubscribe(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    subscribe_to(call, Kind::Pattern, args)
}

fn subscribe_to(call: &mut ServerCall<'_>, kind: Kind, args: Args<'_>) -> Result<(), Failure> {
    if args.from(1).any(|name| name.len() > NAME_BYTES_MAX) {
        return Err(PATTERN_TOO_LONG);
    }
    if call.session.subscriptions.len() + args.len() - 1 > SUBSCRIPTIONS_MAX {
        let text = format!("ERR a client may have {SUBSCRIPTIONS_MAX} subscriptions at most");
        return Err(Failure::new(text));
    }
    answer_first(call);
    let limit = call.engine.config.output_limit(ClientClass::PubSub);
    let dialect = call.reply.dialect();
    let sent = call.session.subscriptions.subscribe(kind, args.from(1), dialect, limit);
    note_sent(call, sent);
    Ok(())
}

fn unsubscribe(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    unsubscribe_from(call, Kind::Channel, args)
}

fn punsubscribe(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    unsubscribe_from(call, Kind::Pattern, args)
}

fn unsubscribe_from(call: &mut ServerCall<'_>, kind: Kind, args: Args<'_>) -> Result<(), Failure> {
    answer_first(call);
    let limit = call.engine.config.output_limit(ClientClass::PubSub);
    let dialect = call.reply.dialect();
    let sent = call.session.subscriptions.unsubscribe(kind, args.from(1), dialect, limit);
    note_sent(call, sent);
    Ok(())
}

/// Sends what has been answered so far, and waits until it has left.
fn answer_first(call: &mut ServerCall<'_>) {
    if call.engine.flush(call.session, call.reply).is_err() {
        call.session.ending = Ending::Now;
    }
    call.session.client.wait_unparked();
}

fn note_sent(call: &mut ServerCall<'_>, sent: Result<usize, SendError>) {
    match sent {
        Ok(bytes) => return call.engine.metrics.output_bytes.add(bytes as u64),
        Err(error) => call.engine.record_cut(call.session.client.addr, &error),
    }
    call.session.ending = Ending::Now;
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
        let beginning = "ERR unknown subcommand or wrong number of arguments for '";
        return Err(Failure::quoting(beginning, &args[1], "'. Try PUBSUB HELP."));
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

/// What a subscriber may send: in RESP2 and in text nothing tells a reply from a message but its form.
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

/// PING of a subscriber, who in RESP2 and in text gets it in the form of a message.
pub fn pong(args: Args<'_>, reply: &mut Reply) {
    let message = args.get(1);
    reply.push(if reply.dialect() == Dialect::Text && message.is_none() { 1 } else { 2 });
    reply.bulk(b"pong");
    if message.is_some() || reply.dialect() != Dialect::Text {
        reply.bulk(message.unwrap_or_default());
    }
}
