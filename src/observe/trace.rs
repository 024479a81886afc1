//! TRACE: where the time of one command goes.
//!
//! ```text
//! > TRACE SET k v
//! OK
//! parse          1.0 µs  █
//! run            2.1 µs  █
//! append         0.9 µs  █  seq 7
//! write          6.2 µs   ██
//! fsync         81.5 µs     ██████████████████  for 3 records
//! replicas      93.0 µs                       ███████████████████  2 of 2 followers
//! reply          4.0 µs                                         █
//! total        188.7 µs
//! ```
//!
//! A reply is usually written before its batch comes to the gate. TRACE answers with the time at the gate, so it
//! passes the gate itself, with all replies of its batch so far. It sends them and the command's own reply, and then
//! writes the times.
//!
//! The command runs as if it had been sent alone: all guards apply, and its error is TRACE's error. A command that
//! changes the connection cannot be traced. TRACE SAMPLE n times one in n commands of all clients in the same way
//! and keeps the last 128.

use super::observed::{write_all, write_timeline};
use super::slowlog;
use crate::clock::Stopwatch;
use crate::cluster::progress::ReplicaProgress;
use crate::commands::Family::Server;
use crate::commands::{Flags, Shape};
use crate::engine::table::{ADMIN, Row, ServerCall, row, sub, subcommands};
use crate::engine::{Engine, Session, gate};
use crate::error::{Failure, NOT_AN_INTEGER};
use crate::metrics::timeline::{Step, Timeline};
use crate::protocol::{Args, Dialect, Reply, integer};
use crate::store::effect::Seq;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

#[rustfmt::skip]
pub const COMMANDS: &[Row] = &[
    row(Server, "trace", -2, ADMIN.and(Flags::CONNECTION).and(Flags::NO_MULTI).and(Flags::BLOCKS), run)
        .shape(Shape::Prefix)
        .help("command [argument ...]", "Runs a command and shows where its time went.",
            "TRACE SET name Ada -> (OK, and a picture)"),
    sub(Server, "trace|help", 2, ADMIN, subcommands, "", "Lists the subcommands."),
    sub(Server, "trace|list", -2, ADMIN, list, "[count]", "Returns the newest samples, 10 by default; -1 returns all."),
    sub(Server, "trace|reset", 2, ADMIN, reset, "", "Deletes the samples."),
    sub(Server, "trace|sample", 3, ADMIN, sample, "n",
        "Records the timeline of one in n commands of all clients; 0 turns it off."),
];

/// Followers that are slower than this are not waited for.
const FOLLOWERS_WAIT_MAX: Duration = Duration::from_millis(200);
const NOT_TRACEABLE: Failure = Failure::fixed(
    "ERR TRACE runs commands that work on data or the server, not those that change the connection",
);

fn run(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let ServerCall { engine, session, reply } = call;
    let args = args.skip(1);
    if engine.commands.resolve(args)?.command.flags.has(Flags::CONNECTION) {
        return Err(NOT_TRACEABLE);
    }
    let is_text = reply.dialect() == Dialect::Text;
    if !is_text {
        reply.array(2);
    }
    session.probe.begin_trace();
    let result = engine.try_execute(session, args, reply);
    let mut timeline = session.probe.end_trace();
    result?;
    pass_gate(engine, session, &mut timeline)?;
    follow(engine, session, &mut timeline)?;
    send(engine, session, reply, &mut timeline);
    if is_text {
        reply.page(&timeline.picture());
    } else {
        write_timeline(reply, &timeline);
    }
    Ok(())
}

/// Waits until all that this batch depends on so far is as safe as promised.
fn pass_gate(
    engine: &Engine,
    session: &mut Session,
    timeline: &mut Timeline,
) -> Result<(), Failure> {
    // Parked replies leave before ours.
    session.client.wait_unparked();
    let Some(persistence) = &engine.persistence else { return Ok(()) };
    // If the log fails, the batch's own gate finds it in the same state and refuses what is at stake.
    let stages = persistence
        .pass_blocking(session.depends_on, session.wrote)
        .map_err(|error| gate::misconf(&error))?;
    timeline.pass_gate(session.probe.stopwatch.nanos(), stages.write, stages.fsync);
    timeline.records = stages.records;
    let watch = Stopwatch::start();
    if engine.confirm_now(session, persistence)? {
        timeline.add(Step::Majority, watch.nanos());
    }
    let began = session.probe.stopwatch;
    session.probe.unsettled.left(engine, &session.client, began, Some(stages));
    (session.depends_on, session.uncertain_replies, session.wrote) = (Seq(0), None, false);
    engine.deliver_notices(std::mem::take(&mut session.notices), &mut session.last_message);
    Ok(())
}

/// Waits until the followers have the command's record, to show how long that takes. Without TRACE no command waits
/// for it: replication is asynchronous.
fn follow(engine: &Engine, session: &Session, timeline: &mut Timeline) -> Result<(), Failure> {
    let online = engine.followers.count(|follower| follower.online.load(Relaxed));
    if engine.persistence.is_none() || online == 0 || timeline.seq == 0 {
        return Ok(());
    }
    let (watch, seq) = (Stopwatch::start(), Seq(timeline.seq));
    let has_it =
        |follower: &ReplicaProgress| follower.online.load(Relaxed) && follower.has_applied(seq);
    let deadline = Instant::now() + FOLLOWERS_WAIT_MAX;
    engine.wait_for_followers(&session.client, online, Some(deadline), has_it)?;
    timeline.add(Step::Replicas, watch.nanos());
    timeline.followers = (engine.followers.count(has_it), online);
    Ok(())
}

/// Sends the command's reply, and all replies before it, unless the client wants none.
fn send(engine: &Engine, session: &mut Session, reply: &mut Reply, timeline: &mut Timeline) {
    if !session.reply_mode.is_on() || reply.is_over_limit() {
        return;
    }
    let watch = Stopwatch::start();
    // If it fails, so will sending the rest.
    let _ = engine.send_replies(session, reply);
    timeline.add(Step::Reply, watch.nanos());
}

fn sample(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let every = integer(&args[2]).and_then(|every| u32::try_from(every).ok());
    call.engine.instruments.sample_every.store(every.ok_or(NOT_AN_INTEGER)?, Relaxed);
    call.engine.refresh_settings(call.session);
    call.ok()
}

fn list(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let count = args.get(2).map_or(Ok(10), slowlog::count)?;
    if args.len() > 3 {
        return Err(Failure::arity("trace|list"));
    }
    let as_text = call.reply.dialect() == Dialect::Text;
    write_all(&call.engine.instruments.samples.newest(count), call.reply, true, as_text);
    Ok(())
}

fn reset(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    call.engine.instruments.samples.clear();
    call.ok()
}
