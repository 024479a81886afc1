//! MULTI, EXEC, DISCARD, WATCH and UNWATCH; see `engine::transaction` for what they do.

use crate::commands::Family::Transactions;
use crate::commands::{Flags, Keys};
use crate::engine::queue::Queue;
use crate::engine::session::Mode;
use crate::engine::table::{FAST, Row, ServerCall, row};
use crate::error::Failure;
use crate::protocol::Args;
use crate::store::Watches;

const LATER: Flags = FAST.and(Flags::CONNECTION);
const AT_ONCE: Flags = LATER.and(Flags::UNQUEUED);

#[rustfmt::skip]
pub const COMMANDS: &[Row] = &[
    row(Transactions, "multi", 1, AT_ONCE, multi)
        .help("", "Begins a transaction: commands are queued until EXEC.", "MULTI -> OK"),
    row(Transactions, "exec", 1, Flags::LOADING.and(Flags::CONNECTION).and(Flags::UNQUEUED), exec)
        .help("", "Runs the queued commands atomically, unless a watched key has changed.",
            "MULTI; SET a 1; INCR a; EXEC -> 1) OK\n2) 2"),
    row(Transactions, "discard", 1, AT_ONCE, discard)
        .help("", "Discards the queued commands and unwatches all keys.", "MULTI; SET a 1; DISCARD -> OK"),
    row(Transactions, "watch", -2, AT_ONCE, watch).keys(Keys::ALL).on_keys(&["RO"])
        .help("key [key ...]", "Watches keys: if one changes, the next EXEC does nothing.",
            "SET stock 1; WATCH stock -> OK"),
    row(Transactions, "unwatch", 1, LATER, unwatch)
        .help("", "Unwatches all keys.", "WATCH stock; UNWATCH -> OK"),
];

const WATCHES_FULL: Failure = Failure::fixed("ERR watched keys exceed client-query-buffer-limit");

fn multi(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    if !matches!(call.session.mode, Mode::Direct) {
        return Err(Failure::fixed("ERR MULTI calls can not be nested"));
    }
    call.session.mode = Mode::Queueing(Queue::default());
    call.session.record_transaction();
    call.ok()
}

fn exec(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    call.engine.exec(call.session, call.reply)
}

fn discard(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    if !matches!(call.session.mode, Mode::Queueing(_)) {
        return Err(Failure::fixed("ERR DISCARD without MULTI"));
    }
    call.session.leave_transaction();
    call.ok()
}

fn watch(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let ServerCall { engine, session, .. } = call;
    if !matches!(session.mode, Mode::Direct) {
        return Err(Failure::fixed("ERR WATCH inside MULTI is not allowed"));
    }
    let needed: usize = args.from(1).map(Watches::bytes_for).sum();
    if session.watches.bytes() + needed > session.config.query_bytes_max {
        return Err(WATCHES_FULL);
    }
    if engine.loading.is_active() {
        session.watches.lose();
    }
    // The next EXEC will run nothing, so more keys need not be watched.
    if !session.watches.is_flagged() {
        args.from(1).for_each(|key| session.watches.add(key, || engine.clock.now()));
    }
    session.record_transaction();
    call.ok()
}

fn unwatch(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    call.session.watches.clear();
    call.session.record_transaction();
    call.ok()
}
