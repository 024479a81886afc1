//! Commands about the log: compaction and reloading.

use crate::aof::recovery;
use crate::clock::UnixMillis;
use crate::commands::Family::Server;
use crate::commands::Flags;
use crate::engine::table::{FAST, Row, ServerCall, row};
use crate::engine::{Engine, Persistence};
use crate::error::{Failure, SYNTAX};
use crate::protocol::Args;
use crate::store::Store;
use crate::store::effect::{self, Effect};
use std::fmt::Display;

#[rustfmt::skip]
pub const COMMANDS: &[Row] = &[
    row(Server, "bgrewriteaof", 1, Flags::ADMIN, bgrewriteaof)
        .help("", "Compacts the log in the background.",
            "BGREWRITEAOF -> Background append only file rewriting started"),
    row(Server, "bgsave", -1, Flags::ADMIN, bgsave)
        .help("[SCHEDULE]", "The same as BGREWRITEAOF, for tools that expect snapshots.",
            "BGSAVE -> Background saving started"),
    row(Server, "save", 1, Flags::ADMIN.and(Flags::NO_MULTI), save)
        .help("", "Compacts the log and replies when that is done; other clients are not blocked.", "SAVE -> OK"),
    row(Server, "lastsave", 1, FAST, lastsave)
        .help("", "Returns the Unix time in seconds of the last compaction.", "LASTSAVE -> (a number)"),
];

const NO_LOG: Failure =
    Failure::fixed("ERR there is no log: the server was started with appendonly no");

/// The log that a command is about.
pub(crate) fn log_of(engine: &Engine) -> Result<&Persistence, Failure> {
    engine.persistence.as_ref().ok_or(NO_LOG)
}

fn bgrewriteaof(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    log_of(call.engine)?;
    if !call.engine.compactor.request() {
        let text = "ERR Background append only file rewriting already in progress";
        return Err(Failure::fixed(text));
    }
    call.reply.simple("Background append only file rewriting started");
    Ok(())
}

fn bgsave(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let scheduled = args.len() == 2 && args.is(1, "schedule");
    if args.len() > 1 && !scheduled {
        return Err(SYNTAX);
    }
    log_of(call.engine)?;
    if !call.engine.compactor.request() && !scheduled {
        return Err(Failure::fixed("ERR Background save already in progress"));
    }
    call.reply.simple("Background saving started");
    Ok(())
}

fn save(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    log_of(call.engine)?;
    let saved = call.engine.compactor.request_and_wait(&call.engine.shutdown);
    saved.map_err(|why| Failure::new(format!("ERR {why}")))?;
    call.ok()
}

fn lastsave(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    call.reply.int(call.engine.compactor.state.lock().last_success as i64);
    Ok(())
}

/// The options are accepted and change nothing: in Redis they are for data that is only in memory or only on
/// disk, but here both hold the same.
pub(super) fn debug_reload(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let known = ["merge", "noflush", "nosave"];
    if !(2..args.len()).all(|at| known.iter().any(|option| args.is(at, option))) {
        let text = "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.";
        return Err(Failure::fixed(text));
    }
    let persistence = log_of(call.engine)?;
    let _steady = persistence.files.lock();
    persistence.loading.set_active(true);
    let result = reload(persistence, &call.engine.store);
    persistence.loading.set_active(false);
    result?;
    call.ok()
}

/// Reads everything back from disk, as a restart would, while all shards are locked. Commands that need data get
/// `-LOADING` meanwhile, as in Redis.
///
/// # Panics
/// If the disk fails between the two readings: only a restart helps then.
fn reload(persistence: &Persistence, store: &Store) -> Result<(), Failure> {
    let Persistence { log, dir, loading, .. } = persistence;
    let failed = |error: &dyn Display| Failure::new(format!("ERR reload: {error}"));
    // Before the shards are locked, because a sync may not start after that.
    log.sync().map_err(|error| failed(&error))?;
    let mut tx = store.begin_all(true, UnixMillis::now);
    log.ensure_written(log.appended()).map_err(|error| failed(&error))?;
    // All of the log is checked before memory is given up for it.
    recovery::load(dir, loading, |payload| effect::check(payload).map(drop))
        .map_err(|error| failed(&error))?;
    tx.unwatched(|tx| {
        tx.apply(Effect::FlushAll);
        let apply = |payload: &[u8]| effect::decode(payload, |effect| tx.apply(effect)).map(drop);
        match recovery::load(dir, loading, apply) {
            Err(error) if loading.is_given_up() => return Err(failed(&error)),
            read => drop(read.expect("what could be read a moment ago")),
        }
        tx.forget_changes();
        Ok(())
    })
}
