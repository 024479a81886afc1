//! Commands about the server: INFO, CONFIG, DEBUG, SHUTDOWN, TIME, LOLWUT.

use super::log_command::debug_reload;
use crate::clock;
use crate::commands::Family::Server;
use crate::commands::{Flags, Secrets};
use crate::config::Id;
use crate::engine::session::Ending;
use crate::engine::table::{ADMIN, FAST, Row, ServerCall, container, row, sub, subcommands};
use crate::error::{Failure, NOT_A_FLOAT, SYNTAX};
use crate::observe::info;
use crate::protocol::Args;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const TAKES_OVER: Flags = ADMIN.and(Flags::NO_MULTI).and(Flags::CONNECTION);

#[rustfmt::skip]
pub const COMMANDS: &[Row] = &[
    container(Server, "config", ADMIN, subcommands, "Reads and changes the settings.",
        "CONFIG GET maxclients -> 1) maxclients\n2) 10000"),
    sub(Server, "config|get", -3, ADMIN, config_get, "pattern [pattern ...]", "Returns the settings that match."),
    sub(Server, "config|help", 2, ADMIN, subcommands, "", "Lists the subcommands."),
    sub(Server, "config|resetstat", 2, ADMIN, config_resetstat, "", "Sets the counters of INFO to zero."),
    sub(Server, "config|rewrite", 2, ADMIN, config_rewrite, "",
        "Writes the settings to the configuration file."),
    sub(Server, "config|set", -4, ADMIN, config_set, "parameter value [parameter value ...]",
        "Changes settings, all of them or none.").secrets(Secrets::Settings),
    container(Server, "debug", ADMIN, subcommands, "For tests of the server.", "DEBUG SLEEP 0.5 -> OK"),
    sub(Server, "debug|help", 2, ADMIN, subcommands, "", "Lists the subcommands."),
    sub(Server, "debug|loadaof", 2, ADMIN, debug_reload, "",
        "Reloads all data from disk, as a restart does."),
    sub(Server, "debug|reload", -2, ADMIN, debug_reload, "[MERGE] [NOFLUSH] [NOSAVE]",
        "Reloads all data from disk, as a restart does."),
    sub(Server, "debug|set-active-expire", 3, ADMIN, debug_set_active_expire, "0 | 1",
        "Turns the deletion of expired keys off and on."),
    sub(Server, "debug|sleep", 3, ADMIN, debug_sleep, "seconds",
        "Blocks this connection; other clients are not blocked."),
    row(Server, "info", -1, FAST, info)
        .help("[section [section ...]]", "Returns the state and the counters of the server.",
            "INFO clients -> (lines of name:value)"),
    row(Server, "lolwut", -1, Flags::FAST, lolwut)
        .help("[VERSION version]", "Shows a picture and the version.", "LOLWUT -> (a picture)"),
    row(Server, "monitor", 1, TAKES_OVER, monitor)
        .help("", "Shows every command of every client as it runs, until RESET.", "MONITOR -> OK"),
    row(Server, "shutdown", -1, TAKES_OVER.and(Flags::UNPAUSED), shutdown)
        .help("[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]", "Shuts the server down.",
            "SHUTDOWN -> (the connection closes)"),
    row(Server, "time", 1, FAST, time)
        .help("", "Returns the server's time: Unix seconds and microseconds.", "TIME -> (seconds and microseconds)"),
];

fn time(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    let micros = clock::unix_micros();
    call.reply.array(2);
    call.reply.bulk((micros / 1_000_000).to_string().as_bytes());
    call.reply.bulk((micros % 1_000_000).to_string().as_bytes());
    Ok(())
}

fn info(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let sections: Vec<String> =
        args.from(1).map(|name| String::from_utf8_lossy(name).to_lowercase()).collect();
    call.reply.page(&info::page(call.engine, &sections));
    Ok(())
}

fn config_get(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let patterns: Vec<&[u8]> = args.from(2).collect();
    let found = call.engine.config.get(&patterns)?;
    call.reply.map(found.len());
    for (name, value) in found {
        call.reply.bulk(name.as_bytes());
        call.reply.bulk(value.as_bytes());
    }
    Ok(())
}

fn config_set(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let ServerCall { engine, session, .. } = call;
    if !args.len().is_multiple_of(2) {
        return Err(Failure::arity("config|set"));
    }
    let words: Vec<&[u8]> = args.from(2).collect();
    let pairs: Vec<(&[u8], &[u8])> = words.chunks(2).map(|pair| (pair[0], pair[1])).collect();
    let (policies, pairs): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(name, _)| {
        engine.cluster.is_some()
            && [&b"ack"[..], b"reads"].iter().any(|own| name.eq_ignore_ascii_case(own))
    });
    let policies = engine.policies(&policies)?;
    if pairs.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"appendfsync")) {
        engine.allow_unsynced()?;
    }
    let changed = engine.config.set_many(&pairs)?;
    engine.set_policies(session, policies)?;
    for &id in &changed {
        log::info!("CONFIG SET changed {}", id.setting().name);
        if id == Id::Loglevel {
            log::set_max_level(log_level(engine.config.choice(Id::Loglevel)));
        }
    }
    if let Some(persistence) = &engine.persistence {
        persistence.reconfigure(&engine.config);
    }
    engine.refresh_settings(session);
    engine.advise(|id| changed.contains(&id));
    call.ok()
}

/// The level for Redis's name of it.
pub fn log_level(name: &str) -> log::LevelFilter {
    match name {
        "debug" => log::LevelFilter::Trace,
        "verbose" => log::LevelFilter::Debug,
        "warning" => log::LevelFilter::Warn,
        _ => log::LevelFilter::Info,
    }
}

fn config_resetstat(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    call.engine.metrics.reset();
    if let Some(persistence) = &call.engine.persistence {
        persistence.log.stats.reset();
    }
    call.ok()
}

/// MONITOR. Its lines begin after this reply; see `Engine::flush`.
fn monitor(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    call.session.monitoring.request(call.reply.dialect());
    call.ok()
}

fn config_rewrite(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    call.engine.config.rewrite()?;
    call.ok()
}

fn debug_sleep(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let seconds: Option<f64> = std::str::from_utf8(&args[2]).ok().and_then(|s| s.parse().ok());
    let time = Duration::try_from_secs_f64(seconds.ok_or(NOT_A_FLOAT)?).map_err(|_| NOT_A_FLOAT)?;
    call.engine.shutdown.wait_for(time);
    call.ok()
}

fn debug_set_active_expire(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    call.engine.active_expire.store(&args[2] != b"0", Relaxed);
    call.ok()
}

/// SHUTDOWN. As in Redis, the connection closes without a reply.
fn shutdown(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let known = ["nosave", "save", "now", "force", "abort"];
    let all_known = (1..args.len()).all(|at| known.iter().any(|word| args.is(at, word)));
    let has = |word: &str| (1..args.len()).any(|at| args.is(at, word));
    if !all_known || (has("save") && has("nosave")) || (has("abort") && args.len() > 2) {
        return Err(SYNTAX);
    }
    if has("abort") {
        return Err(Failure::fixed("ERR No shutdown in progress."));
    }
    log::info!("client {} asks for shutdown", call.session.client.addr);
    call.session.ending = Ending::AfterReply;
    call.engine.shutdown.request();
    Ok(())
}

/// The picture of LOLWUT.
const PICTURE: &str = r"
   _                _
  | | ____   _____ | |_ ___  _ __ ___
  | |/ /\ \ / / __|| __/ _ \| '__/ _ \
  |   <  \ V /\__ \| || (_) | | |  __/
  |_|\_\  \_/ |___/ \__\___/|_|  \___|

  the log is the database;
  memory is its materialised view
";

fn lolwut(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    call.reply.page(&format!("{PICTURE}\nkvstore ver. {}\n", env!("CARGO_PKG_VERSION")));
    Ok(())
}
