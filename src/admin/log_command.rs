//! Commands about the log: compaction, waiting for the disk, reading back.

use crate::commands::Family::Server;
use crate::commands::Flags;
use crate::engine::table::{FAST, Row, ServerCall, row};
use crate::engine::{Engine, Persistence};
use crate::error::{Failure, SYNTAX};
use crate::protocol::Args;
use std::sync::atomic::Ordering::Relaxed;

/// The rows of these commands.
#[rustfmt::skip]
pub const COMMANDS: &[Row] = &[
    row(Server, "bgrewriteaof", 1, Flags::ADMIN, bgrewriteaof)
        .help("", "Compacts the log in the background: replaces it by the state it leads to.",
            "BGREWRITEAOF -> Background append only file rewriting started"),
    row(Server, "bgsave", -1, Flags::ADMIN, bgsave)
        .help("[SCHEDULE]", "The same as BGREWRITEAOF, for tools that ask for a snapshot.",
            "BGSAVE -> Background saving started"),
    row(Server, "save", 1, Flags::ADMIN.and(Flags::NO_MULTI), save)
        .help("", "Compacts the log and answers when it is done; other connections go on.", "SAVE -> OK"),
    row(Server, "lastsave", 1, FAST, lastsave)
        .help("", "When the log was last compacted, in Unix seconds.", "LASTSAVE -> (a number)"),
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
    call.reply.ok();
    Ok(())
}

fn lastsave(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    call.reply.int(call.engine.compactor.last_success.load(Relaxed) as i64);
    Ok(())
}

/// Redis's options are about what it does and we do not: forget what is in memory and not on disk, keep
/// keys that are on disk and not in memory. Here both hold the same.
pub(super) fn debug_reload(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let known = ["merge", "noflush", "nosave"];
    if !(2..args.len()).all(|at| known.iter().any(|option| args.is(at, option))) {
        let text = "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.";
        return Err(Failure::fixed(text));
    }
    log_of(call.engine)?.reload(&call.engine.store)?;
    call.reply.ok();
    Ok(())
}
