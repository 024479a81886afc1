//! LATENCY: slow events by kind, and histograms of commands' durations.

use super::labelled::called;
use crate::commands::Family::Server;
use crate::config::Id;
use crate::engine::table::{ADMIN, Row, ServerCall, container, sub, subcommands};
use crate::error::Failure;
use crate::protocol::Args;

/// The rows of these commands.
#[rustfmt::skip]
pub const COMMANDS: &[Row] = &[
    container(Server, "latency", ADMIN, subcommands,
        "Shows slow events by kind, and latencies of commands.", "LATENCY LATEST -> (empty)"),
    sub(Server, "latency|doctor", 2, ADMIN, doctor, "", "Describes slow events in words, with advice."),
    sub(Server, "latency|help", 2, ADMIN, subcommands, "", "Lists the subcommands."),
    sub(Server, "latency|histogram", -2, ADMIN, histogram, "[command-name [command-name ...]]",
        "Returns the distribution of the latencies of commands."),
    sub(Server, "latency|history", 3, ADMIN, history, "event",
        "Returns the times and durations in milliseconds of slow events of a kind."),
    sub(Server, "latency|latest", 2, ADMIN, latest, "",
        "Returns the time, the latest and the longest duration of each kind of event."),
    sub(Server, "latency|reset", -2, ADMIN, reset, "[event [event ...]]",
        "Deletes recorded events; returns the number of kinds deleted."),
];

fn latest(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    let ServerCall { engine, reply, .. } = call;
    let events = engine.instruments.latency.events();
    reply.array(events.len());
    for (name, event) in events {
        let (at, millis) = event.samples.back().copied().unwrap_or_default();
        reply.array(4);
        reply.bulk(name.as_bytes());
        [at, millis, event.max].into_iter().for_each(|number| reply.int(number as i64));
    }
    Ok(())
}

fn history(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let ServerCall { engine, reply, .. } = call;
    let events = engine.instruments.latency.events();
    let event = events.into_iter().find(|(name, _)| name.as_bytes() == &args[2]);
    let samples = event.map(|(_, event)| event.samples).unwrap_or_default();
    reply.array(samples.len());
    for (at, millis) in samples {
        reply.array(2);
        reply.int(at as i64);
        reply.int(millis as i64);
    }
    Ok(())
}

fn reset(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let named = args.from(2);
    let is_meant =
        |event: &str| named.len() == 0 || named.clone().any(|name| name == event.as_bytes());
    call.reply.count(call.engine.instruments.latency.reset(is_meant));
    Ok(())
}

/// `LATENCY HISTOGRAM [command ...]`: cumulative counts below doubling bounds, for the commands called.
fn histogram(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let ServerCall { engine, reply, .. } = call;
    let wanted = args.from(2);
    let is_wanted = |name: &str| {
        let container = name.split('|').next().unwrap_or_default();
        let names = [name.as_bytes(), container.as_bytes()];
        let is = |word: &[u8]| names.iter().any(|name| word.eq_ignore_ascii_case(name));
        wanted.len() == 0 || wanted.clone().any(is)
    };
    let found: Vec<_> = called(engine).filter(|(name, _)| is_wanted(name)).collect();
    reply.map(found.len());
    for (name, latency) in found {
        reply.bulk(name.as_bytes());
        reply.map(2);
        reply.bulk(b"calls");
        reply.int(latency.count() as i64);
        reply.bulk(b"histogram_usec");
        let mut bounds = latency.doubling();
        bounds.dedup_by_key(|(_, below)| *below);
        bounds.retain(|(_, below)| *below > 0);
        reply.map(bounds.len());
        for (bound, below) in bounds {
            reply.int(bound as i64);
            reply.int(below as i64);
        }
    }
    Ok(())
}

fn doctor(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    let events = call.engine.instruments.latency.events();
    let mut page = String::new();
    if call.engine.config.int(Id::LatencyMonitorThreshold) == 0 {
        page.push_str(
            "Nothing is being watched. CONFIG SET latency-monitor-threshold <milliseconds> \
             watches.\n",
        );
    } else if events.is_empty() {
        page.push_str("Nothing took long so far.\n");
    }
    for (name, event) in &events {
        let millis = event.samples.iter().map(|(_, millis)| millis);
        let (count, sum) = (event.samples.len() as u64, millis.sum::<u64>());
        let (mean, max) = (sum / count.max(1), event.max);
        page.push_str(&format!(
            "{name}: {count} seconds with spikes, {mean} ms on average, {max} ms at worst. {}\n",
            advice(name)
        ));
    }
    call.reply.page(&page);
    Ok(())
}

/// Advice for the operator about a kind of event.
fn advice(event: &str) -> &'static str {
    match event {
        "aof-fsync-always" => {
            "The disk is slow to sync: a faster one, or appendfsync everysec, if a second may be lost."
        }
        "aof-write" => {
            "The kernel was slow to take the log: the disk is busy, or memory is short for its cache."
        }
        "expire-cycle" => "Many keys expire at once: spread their deadlines.",
        "eviction-cycle" => "Room has to be made for writes: raise maxmemory, or store less.",
        _ => "SLOWLOG GET shows which commands and where their time went.",
    }
}
