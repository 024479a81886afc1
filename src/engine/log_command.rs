//! Commands about the log: compaction, waiting for the disk, reading back.

use super::session::Mode;
use super::{Engine, Persistence, Session, persistence};
use crate::config::Fsync;
use crate::error::{Failure, NOT_AN_INTEGER, SYNTAX};
use crate::protocol::{Args, Reply, integer};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const NO_LOG: Failure =
    Failure::fixed("ERR there is no log: the server was started with appendonly no");

fn log_of(engine: &Engine) -> Result<&Persistence, Failure> {
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

/// `WAITAOF numlocal numreplicas timeout`: whether this connection's last write is on this node's disk,
/// and on how many replicas' (none: there are none yet).
pub fn waitaof(
    engine: &Engine,
    session: &Session,
    args: Args<'_>,
    reply: &mut Reply,
) -> Result<(), Failure> {
    let number = |at: usize| integer(&args[at]).ok_or(NOT_AN_INTEGER);
    let (local, replicas) = (number(1)?, number(2)?);
    if !(0..=1).contains(&local) || replicas < 0 {
        return Err(Failure::fixed("ERR value is out of range, must be between 0 and 1"));
    }
    let timeout =
        integer(&args[3]).ok_or(Failure::fixed("ERR timeout is not an integer or out of range"))?;
    let timeout = u64::try_from(timeout).map_err(|_| Failure::fixed("ERR timeout is negative"))?;
    let persistence = match &engine.persistence {
        Some(persistence) => persistence,
        None if local > 0 => {
            let text =
                "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";
            return Err(Failure::fixed(text));
        }
        None => {
            reply.array(2);
            reply.int(0);
            reply.int(0);
            return Ok(());
        }
    };
    let timeout = match session.mode {
        // As whatever would wait, it looks once.
        Mode::Executing => Some(Duration::ZERO),
        _ => (timeout > 0).then(|| Duration::from_millis(timeout)),
    };
    let log = &persistence.log;
    if local > 0 {
        // At an interval the sync thread will; else nobody might.
        if !matches!(persistence.policy(), Fsync::Every(_)) {
            log.sync().map_err(|error| persistence::misconf(&error))?;
        }
        log.wait_durable(session.last_write, timeout, &engine.shutdown);
    }
    let durable = log.durable() >= session.last_write;
    reply.array(2);
    reply.flag(durable);
    reply.int(0);
    Ok(())
}
