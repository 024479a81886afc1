//! `/status.json`: all that the status page shows, at one moment. The page takes differences.

use super::figure::{Figure, Read};
use super::figures::figures;
use super::json::Json;
use super::labelled::commands;
use super::load::LoadProgress;
use super::observed::as_typed;
use super::seen::Seen;
use super::value::Value;
use crate::engine::Engine;
use crate::metrics::timeline::Timeline;

/// Entries of the slow log.
const SLOW_SHOWN: usize = 8;

/// Figures that stand by themselves, in their order.
const TOP: &[&str] = &["version", "run_id", "pid", "port", "now_ms", "started_ms", "uptime_ms"];

/// Objects of figures, with the keys of each in their order.
#[rustfmt::skip]
const OBJECTS: &[(&str, &[&str])] = &[
    ("pubsub", &["channels", "patterns", "published", "delivered"]),
    ("clients", &["connected", "max", "received", "rejected", "input_bytes", "output_bytes"]),
    ("memory", &["used", "resident", "data", "clients", "limit", "policy"]),
    ("keys", &["total", "volatile", "expired", "evicted", "hits", "misses"]),
];
/// On a follower.
const LEADER: (&str, &[&str]) = ("leader", &["address", "state", "seq", "lag_ms"]);
/// On a node with a log.
#[rustfmt::skip]
const LOG: (&str, &[&str]) = ("log", &["durable", "written", "appended", "epoch", "policy", "size", "pending", "segments",
    "written_bytes", "fsyncs", "batches", "compactions", "compacting", "error"]);

/// The document. It contains keys and values only if `may_show_data`.
pub fn page(engine: &Engine, state: &str, may_show_data: bool) -> String {
    let seen = &Seen::take(engine);
    let mut json = Json::default();
    json.object(|json| {
        state_and_load(json, state, seen.load);
        write_figures(seen, "", TOP, json);
        json.key("open_book", |json| json.raw(may_show_data));
        json.key("commands", |json| json.array(|json| write_commands(seen, json)));
        let errors = seen.metrics.errors();
        json.key("errors", |json| {
            json.object(|json| errors.iter().for_each(|(code, count)| json.number(code, count)));
        });
        OBJECTS.iter().for_each(|object| write_object(seen, object, json));
        json.key("slow", |json| json.array(|json| write_slow(engine, may_show_data, json)));
        json.key("replicas", |json| json.array(|json| write_replicas(seen, json)));
        if seen.engine.role.is_follower() {
            write_object(seen, &LEADER, json);
        }
        if seen.log.is_some() {
            write_object(seen, &LOG, json);
        }
    });
    json.text
}

/// The document while there is no engine yet.
pub fn loading_page(state: &str, load: Option<LoadProgress>) -> String {
    let mut json = Json::default();
    json.object(|json| state_and_load(json, state, load));
    json.text
}

fn state_and_load(json: &mut Json, state: &str, load: Option<LoadProgress>) {
    json.text("state", state);
    let Some(load) = load else { return };
    json.key("loading", |json| {
        json.object(|json| {
            json.number("started", load.started);
            json.number("total_bytes", load.total_bytes);
            json.number("loaded_bytes", load.loaded_bytes);
            json.number("eta_seconds", load.eta_seconds);
        });
    });
}

/// The row of a figure in an object, or of one that stands by itself.
fn row(object: &str, key: &str) -> Option<&'static Figure> {
    figures().find(|figure| {
        figure.status.rsplit_once('.').unwrap_or(("", figure.status)) == (object, key)
    })
}

fn write_figures(seen: &Seen<'_>, object: &str, keys: &[&str], json: &mut Json) {
    for key in keys {
        let Some(Figure { read: Read::One(read), .. }) = row(object, key) else { continue };
        match read(seen) {
            Value::None | Value::Unknown => {}
            Value::Flag(flag) => json.number(key, flag),
            Value::Number(number) => json.number(key, number),
            Value::Millis(millis) => json.number(key, millis),
            Value::Text(text) => json.text(key, &text),
            Value::Histogram(histogram, _) => json.histogram(key, &histogram),
        }
    }
}

fn write_object(seen: &Seen<'_>, (name, keys): &(&str, &[&str]), json: &mut Json) {
    json.key(name, |json| json.object(|json| write_figures(seen, name, keys, json)));
}

fn write_commands(seen: &Seen<'_>, json: &mut Json) {
    for (name, stats) in commands(seen) {
        json.object(|json| {
            json.text("name", name);
            json.number("calls", stats.latency.count());
            json.number("rejected", stats.rejected.get());
            json.number("failed", stats.failed.get());
            json.histogram("latency", &stats.latency.snapshot());
        });
    }
}

/// The newest entries of the slow log, without their arguments for readers who may not see data.
fn write_slow(engine: &Engine, may_show_data: bool, json: &mut Json) {
    for entry in engine.instruments.slowlog.newest(SLOW_SHOWN) {
        let words = entry.words.iter().map(as_typed).collect::<Vec<_>>().join(" ");
        let timeline = entry.timeline();
        json.object(|json| {
            json.number("id", entry.id);
            json.number("at_ms", entry.at);
            json.number("micros", entry.micros());
            json.text("command", if may_show_data { &words } else { entry.command });
            json.text("client", &entry.addr.to_string());
            json.key("timeline", |json| json.array(|json| write_steps(&timeline, json)));
        });
    }
}

/// The steps that took time, as pairs. The timeline's last step is their sum and is left out.
fn write_steps(timeline: &Timeline, json: &mut Json) {
    let all = timeline.micros();
    let steps = all.len() - 1;
    for (name, micros) in all.take(steps).filter(|(_, micros)| *micros > 0.0) {
        json.array(|json| {
            json.string(name);
            json.raw(micros);
        });
    }
}

fn write_replicas(seen: &Seen<'_>, json: &mut Json) {
    for (address, (online, lag)) in &seen.replicas {
        json.object(|json| {
            json.text("address", address);
            json.text("state", if *online { "online" } else { "copying" });
            json.number("lag_records", lag.records);
            json.number("lag_bytes", lag.bytes);
            json.number("lag_ms", lag.millis);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_key_of_the_table_has_its_place_in_the_document() {
        let objects = OBJECTS.iter().chain([&LEADER, &LOG]);
        let in_objects = objects.flat_map(|(name, keys)| keys.iter().map(move |key| (*name, *key)));
        let placed: Vec<_> = TOP.iter().map(|key| ("", *key)).chain(in_objects).collect();
        for (object, key) in &placed {
            assert!(row(object, key).is_some(), "{object}.{key} is not in the table");
        }
        let rows = figures().filter(|figure| !figure.status.is_empty()).count();
        assert_eq!((placed.len(), placed.iter().collect::<BTreeSet<_>>().len()), (rows, rows));
    }
}
