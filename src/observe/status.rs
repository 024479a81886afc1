//! `/status.json`: all that the status page shows, at one moment. The page takes differences.

use super::figure::Read;
use super::figures::figures;
use super::json::Json;
use super::labelled::{commands, members};
use super::load::LoadProgress;
use super::observed::as_typed;
use super::seen::Seen;
use super::value::Value;
use crate::cluster::progress::Lag;
use crate::engine::Engine;
use crate::metrics::timeline::Timeline;

/// Entries of the slow log.
const SLOW_SHOWN: usize = 5;
/// Objects of figures: a figure's key in the table begins with the object's name and a dot.
const OBJECTS: [&str; 7] = ["pubsub", "clients", "memory", "keys", "leader", "log", "cluster"];

/// The document. It contains keys and values only if `may_show_data`. `state` names the server's state, from whether data
/// is being loaded.
pub fn page(
    engine: &Engine,
    state: impl FnOnce(bool) -> &'static str,
    may_show_data: bool,
) -> String {
    let seen = &Seen::take(engine);
    let mut json = Json::default();
    json.object(|json| {
        state_and_load(json, state(seen.load.is_some()), seen.load);
        write_figures(seen, "", json);
        json.key("open_book", |json| json.raw(may_show_data));
        json.key("commands", |json| json.array(|json| write_commands(seen, json)));
        let errors = seen.metrics.errors();
        json.key("errors", |json| {
            json.object(|json| errors.iter().for_each(|(code, count)| json.number(code, count)));
        });
        for object in OBJECTS {
            // A leader has no leader, and a pure cache has no log.
            let is_left_out = object == "leader" && seen.follower.is_none()
                || object == "log" && seen.log.is_none()
                || object == "cluster" && engine.cluster.is_none();
            if !is_left_out {
                json.key(object, |json| json.object(|json| write_figures(seen, object, json)));
            }
        }
        json.key("history", |json| json.array(|json| engine.instruments.history.write(json)));
        json.key("slow", |json| json.array(|json| write_slow(engine, may_show_data, json)));
        json.key("replicas", |json| json.array(|json| write_replicas(seen, json)));
        if engine.cluster.is_some() {
            json.key("members", |json| json.array(|json| write_members(seen, json)));
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

/// Writes the figures of an object; those of `""` stand by themselves.
fn write_figures(seen: &Seen<'_>, object: &str, json: &mut Json) {
    for figure in figures().filter(|figure| !figure.status.is_empty()) {
        let (of, key) = figure.status.rsplit_once('.').unwrap_or(("", figure.status));
        let Read::One(read) = figure.read else { continue };
        if of != object {
            continue;
        }
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

fn write_commands(seen: &Seen<'_>, json: &mut Json) {
    for (name, stats) in commands(seen.engine) {
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
    for (address, replica) in seen.replicas_by_address() {
        json.object(|json| {
            json.text("address", address);
            json.text("state", if replica.online { "online" } else { "copying" });
            write_lag(&replica.lag, json);
        });
    }
}

fn write_lag(lag: &Lag, json: &mut Json) {
    json.number("lag_records", lag.records);
    json.number("lag_bytes", lag.bytes);
    json.number("lag_ms", lag.millis);
}

fn write_members(seen: &Seen<'_>, json: &mut Json) {
    for member in members(seen) {
        json.object(|json| {
            json.text("address", &member.address);
            json.text("part", member.part());
            json.number("this_node", member.is_this_node);
            json.number("answers", member.answers);
            if let Some(lag) = &member.lag {
                write_lag(lag, json);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_table_has_its_place_in_the_document() {
        for figure in figures() {
            let object = figure.status.rsplit_once('.').map(|(object, _)| object);
            assert!(object.is_none_or(|object| OBJECTS.contains(&object)), "{}", figure.status);
        }
    }
}
