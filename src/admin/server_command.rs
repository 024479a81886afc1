//! Commands about the server: INFO, CONFIG, DEBUG, SHUTDOWN, TIME, LOLWUT.

use crate::clock;
use crate::config::Id;
use crate::engine::session::Ending;
use crate::engine::{Engine, Session};
use crate::error::{Failure, NOT_A_FLOAT, SYNTAX};
use crate::observe::info;
use crate::protocol::{Args, Reply};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

pub fn time(reply: &mut Reply) -> Result<(), Failure> {
    let micros = clock::unix_micros();
    reply.array(2);
    reply.bulk((micros / 1_000_000).to_string().as_bytes());
    reply.bulk((micros % 1_000_000).to_string().as_bytes());
    Ok(())
}

pub fn info(engine: &Engine, args: Args<'_>, reply: &mut Reply) -> Result<(), Failure> {
    let sections: Vec<String> =
        args.from(1).map(|name| String::from_utf8_lossy(name).to_lowercase()).collect();
    reply.page(&info::page(engine, &sections));
    Ok(())
}

pub fn config_get(engine: &Engine, args: Args<'_>, reply: &mut Reply) -> Result<(), Failure> {
    let patterns: Vec<&[u8]> = args.from(2).collect();
    let found = engine.config.get(&patterns)?;
    reply.map(found.len());
    for (name, value) in found {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    Ok(())
}

pub fn config_set(
    engine: &Engine,
    session: &mut Session,
    args: Args<'_>,
    reply: &mut Reply,
) -> Result<(), Failure> {
    if !args.len().is_multiple_of(2) {
        return Err(Failure::arity("config|set"));
    }
    let words: Vec<&[u8]> = args.from(2).collect();
    let pairs: Vec<(&[u8], &[u8])> = words.chunks(2).map(|pair| (pair[0], pair[1])).collect();
    let changed = engine.config.set_many(&pairs)?;
    for &id in &changed {
        log::info!("CONFIG SET changed {}", id.setting().name);
        if id == Id::Loglevel {
            log::set_max_level(log_level(engine.config.choice(Id::Loglevel)));
        }
    }
    if let Some(persistence) = &engine.persistence {
        persistence.reconfigure(&engine.config);
    }
    engine.read_limits(session);
    engine.advise(|id| changed.contains(&id));
    reply.ok();
    Ok(())
}

/// Redis's names for how much is logged.
pub fn log_level(name: &str) -> log::LevelFilter {
    match name {
        "debug" => log::LevelFilter::Trace,
        "verbose" => log::LevelFilter::Debug,
        "warning" => log::LevelFilter::Warn,
        _ => log::LevelFilter::Info,
    }
}

pub fn config_resetstat(engine: &Engine, reply: &mut Reply) -> Result<(), Failure> {
    engine.metrics.reset();
    if let Some(persistence) = &engine.persistence {
        persistence.log.stats.reset();
    }
    reply.ok();
    Ok(())
}

/// The lines begin behind this answer: see [`Engine::flush`].
pub fn monitor(session: &mut Session, reply: &mut Reply) -> Result<(), Failure> {
    if session.monitoring.is_none() {
        session.begins_monitoring = Some(reply.dialect());
    }
    reply.ok();
    Ok(())
}

pub fn config_rewrite(engine: &Engine, reply: &mut Reply) -> Result<(), Failure> {
    engine.config.rewrite()?;
    reply.ok();
    Ok(())
}

pub fn debug_sleep(engine: &Engine, args: Args<'_>, reply: &mut Reply) -> Result<(), Failure> {
    let seconds: Option<f64> = std::str::from_utf8(&args[2]).ok().and_then(|s| s.parse().ok());
    let time = Duration::try_from_secs_f64(seconds.ok_or(NOT_A_FLOAT)?).map_err(|_| NOT_A_FLOAT)?;
    engine.shutdown.wait_for(time);
    reply.ok();
    Ok(())
}

pub fn debug_set_active_expire(
    engine: &Engine,
    args: Args<'_>,
    reply: &mut Reply,
) -> Result<(), Failure> {
    engine.active_expire.store(&args[2] != b"0", Relaxed);
    reply.ok();
    Ok(())
}

/// Ends the server in order; the connection closes without a reply, as in Redis.
pub fn shutdown(engine: &Engine, session: &mut Session, args: Args<'_>) -> Result<(), Failure> {
    let known = ["nosave", "save", "now", "force", "abort"];
    let all_known = (1..args.len()).all(|at| known.iter().any(|word| args.is(at, word)));
    let has = |word: &str| (1..args.len()).any(|at| args.is(at, word));
    if !all_known || (has("save") && has("nosave")) || (has("abort") && args.len() > 2) {
        return Err(SYNTAX);
    }
    if has("abort") {
        return Err(Failure::fixed("ERR No shutdown in progress."));
    }
    log::info!("client {} asks for shutdown", session.client.addr);
    session.ending = Ending::AfterReply;
    engine.shutdown.request();
    Ok(())
}

/// A log that a key's history was read from.
const PICTURE: &str = r"
   _                _
  | | ____   _____ | |_ ___  _ __ ___
  | |/ /\ \ / / __|| __/ _ \| '__/ _ \
  |   <  \ V /\__ \| || (_) | | |  __/
  |_|\_\  \_/ |___/ \__\___/|_|  \___|

  the log is the database;
  memory is its materialised view
";

pub fn lolwut(reply: &mut Reply) -> Result<(), Failure> {
    reply.page(&format!("{PICTURE}\nkvstore ver. {}\n", env!("CARGO_PKG_VERSION")));
    Ok(())
}
