//! Commands about the log: compaction, waiting for the disk, reading back.

use crate::engine::{Engine, Persistence};
use crate::error::{Failure, SYNTAX};
use crate::protocol::{Args, Reply};
use std::sync::atomic::Ordering::Relaxed;

const NO_LOG: Failure =
    Failure::fixed("ERR there is no log: the server was started with appendonly no");

/// The log that a command is about.
pub(crate) fn log_of(engine: &Engine) -> Result<&Persistence, Failure> {
    engine.persistence.as_ref().ok_or(NO_LOG)
}

pub fn bgrewriteaof(engine: &Engine, reply: &mut Reply) -> Result<(), Failure> {
    log_of(engine)?;
    if !engine.compactor.request() {
        let text = "ERR Background append only file rewriting already in progress";
        return Err(Failure::fixed(text));
    }
    reply.simple("Background append only file rewriting started");
    Ok(())
}

pub fn bgsave(engine: &Engine, args: Args<'_>, reply: &mut Reply) -> Result<(), Failure> {
    let scheduled = args.len() == 2 && args.is(1, "schedule");
    if args.len() > 1 && !scheduled {
        return Err(SYNTAX);
    }
    log_of(engine)?;
    if !engine.compactor.request() && !scheduled {
        return Err(Failure::fixed("ERR Background save already in progress"));
    }
    reply.simple("Background saving started");
    Ok(())
}

pub fn save(engine: &Engine, reply: &mut Reply) -> Result<(), Failure> {
    log_of(engine)?;
    let saved = engine.compactor.request_and_wait(&engine.shutdown);
    saved.map_err(|why| Failure::new(format!("ERR {why}")))?;
    reply.ok();
    Ok(())
}

pub fn lastsave(engine: &Engine, reply: &mut Reply) -> Result<(), Failure> {
    reply.int(engine.compactor.last_success.load(Relaxed) as i64);
    Ok(())
}

/// Redis's options are about what it does and we do not: forget what is in memory and not on disk, keep
/// keys that are on disk and not in memory. Here both hold the same.
pub fn debug_reload(engine: &Engine, args: Args<'_>, reply: &mut Reply) -> Result<(), Failure> {
    let known = ["merge", "noflush", "nosave"];
    if !(2..args.len()).all(|at| known.iter().any(|option| args.is(at, option))) {
        let text = "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.";
        return Err(Failure::fixed(text));
    }
    log_of(engine)?.reload(&engine.store)?;
    reply.ok();
    Ok(())
}
