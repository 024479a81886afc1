//! `/status.json`: all that the status page shows, at one moment. The page takes differences.

use super::observed::as_typed;
use crate::clock::UnixMillis;
use crate::config::Id;
use crate::engine::{Engine, Persistence};
use crate::loading::LoadProgress;
use crate::memory::limit::Memory;
use crate::metrics::Histogram;
use crate::metrics::timeline::Timeline;
use std::fmt::{Display, Write};
use std::sync::atomic::Ordering::Relaxed;

/// Entries of the slow log.
const SLOW_SHOWN: usize = 8;

/// The document. `open_book` says that whoever reads it could read all data anyway, so that keys and
/// values may be in it.
pub fn page(engine: &Engine, state: &str, open_book: bool) -> String {
    let memory = engine.memory();
    let mut json = Json::default();
    json.object(|json| {
        state_and_load(json, state, engine.loading.progress());
        json.text("version", env!("CARGO_PKG_VERSION"));
        json.text("run_id", &engine.run_id);
        json.number("pid", std::process::id());
        json.number("port", engine.port.load(Relaxed));
        json.number("now_ms", UnixMillis::now());
        json.number("started_ms", engine.metrics.started);
        json.number("uptime_ms", engine.metrics.uptime.micros() / 1000);
        json.key("open_book", |json| json.raw(open_book));
        json.key("commands", |json| commands(engine, json));
        json.key("errors", |json| json.object(|json| errors(engine, json)));
        json.key("pubsub", |json| json.object(|json| pubsub(engine, json)));
        json.key("clients", |json| json.object(|json| clients(engine, json)));
        json.key("memory", |json| json.object(|json| of_memory(engine, &memory, json)));
        json.key("keys", |json| json.object(|json| keys(engine, &memory, json)));
        json.key("slow", |json| json.array(|json| slow(engine, open_book, json)));
        json.key("replicas", |json| json.array(|json| replicas(engine, json)));
        if engine.role.is_follower() {
            json.key("leader", |json| json.object(|json| leader(engine, json)));
        }
        if let Some(persistence) = &engine.persistence {
            json.key("log", |json| json.object(|json| log(engine, persistence, json)));
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

fn commands(engine: &Engine, json: &mut Json) {
    json.array(|json| {
        for (row, stats) in engine.commands.rows().iter().zip(&engine.metrics.commands) {
            let (calls, rejected) = (stats.latency.count(), stats.rejected.get());
            if calls + rejected == 0 {
                continue;
            }
            json.object(|json| {
                json.text("name", row.name);
                json.number("calls", calls);
                json.number("rejected", rejected);
                json.number("failed", stats.failed.get());
                json.histogram("latency", &stats.latency);
            });
        }
    });
}

fn errors(engine: &Engine, json: &mut Json) {
    engine.metrics.errors().iter().for_each(|(code, count)| json.number(code, count));
}

fn clients(engine: &Engine, json: &mut Json) {
    let metrics = &engine.metrics;
    json.number("connected", engine.clients.len());
    json.number("max", engine.maxclients());
    json.number("received", metrics.connections_received.get());
    json.number("rejected", metrics.connections_rejected.get());
    json.number("input_bytes", metrics.input_bytes.get());
    json.number("output_bytes", metrics.output_bytes.get());
}

fn pubsub(engine: &Engine, json: &mut Json) {
    let (channels, patterns) = engine.pubsub.counts();
    json.number("channels", channels);
    json.number("patterns", patterns);
    json.number("published", engine.metrics.messages_published.get());
    json.number("delivered", engine.metrics.messages_delivered.get());
}

/// The newest entries of the slow log; without their arguments for those who may not see data.
fn slow(engine: &Engine, open_book: bool, json: &mut Json) {
    for entry in engine.slowlog.newest(SLOW_SHOWN) {
        let words = entry.words.iter().map(as_typed).collect::<Vec<_>>().join(" ");
        let timeline = entry.timeline();
        json.object(|json| {
            json.number("id", entry.id);
            json.number("at_ms", entry.at);
            json.number("micros", entry.micros());
            json.text("command", if open_book { &words } else { entry.command });
            json.text("client", &entry.addr.to_string());
            json.key("timeline", |json| json.array(|json| steps(&timeline, json)));
        });
    }
}

/// Steps that took time, as pairs; the last of all is their sum.
fn steps(timeline: &Timeline, json: &mut Json) {
    let all = timeline.micros();
    let steps = all.len() - 1;
    for (name, micros) in all.take(steps).filter(|(_, micros)| *micros > 0.0) {
        json.array(|json| {
            json.string(name);
            json.raw(micros);
        });
    }
}

fn replicas(engine: &Engine, json: &mut Json) {
    for (address, (online, lag)) in engine.lags() {
        json.object(|json| {
            json.text("address", &address);
            json.text("state", if online { "online" } else { "copying" });
            json.number("lag_records", lag.records);
            json.number("lag_bytes", lag.bytes);
            json.number("lag_ms", lag.millis);
        });
    }
}

fn leader(engine: &Engine, json: &mut Json) {
    let (host, port) = engine.role.leader().map_or_else(Default::default, |l| (l.host, l.port));
    json.text("address", &format!("{host}:{port}"));
    json.text("state", engine.role.link_state());
    json.number("seq", engine.role.figures.lock().leader_seq);
    if let Some(millis) = engine.role.freshness.staleness_ms(engine.uptime_ms()) {
        json.number("lag_ms", millis);
    }
}

fn of_memory(engine: &Engine, memory: &Memory, json: &mut Json) {
    json.number("used", memory.used);
    json.number("resident", memory.resident);
    json.number("data", memory.data.bytes);
    json.number("clients", memory.clients);
    json.number("limit", memory.limit);
    json.text("policy", engine.config.choice(Id::MaxmemoryPolicy));
}

fn keys(engine: &Engine, memory: &Memory, json: &mut Json) {
    let metrics = &engine.metrics;
    json.number("total", memory.data.keys);
    json.number("volatile", memory.data.volatile);
    json.number("expired", metrics.expired_keys.get());
    json.number("evicted", metrics.evicted_keys.get());
    json.number("hits", metrics.keyspace_hits.get());
    json.number("misses", metrics.keyspace_misses.get());
}

fn log(engine: &Engine, persistence: &Persistence, json: &mut Json) {
    let log = &persistence.log;
    // In this order, so that what is durable never seems to be ahead of what is written.
    json.number("durable", log.durable());
    json.number("written", log.written());
    json.number("appended", log.appended());
    json.number("epoch", log.epoch().0);
    json.text("policy", &engine.config.text(Id::Appendfsync));
    json.number("size", log.size());
    json.number("pending", log.pending_bytes());
    json.number("segments", persistence.segments());
    json.number("written_bytes", log.stats.written_bytes.get());
    json.histogram("fsyncs", &log.stats.fsync);
    json.histogram("batches", &log.stats.fsync_records);
    json.number("compactions", engine.compactor.count.load(Relaxed));
    json.key("compacting", |json| json.raw(engine.compactor.running.load(Relaxed)));
    if let Err(error) = log.check() {
        json.text("error", &error.to_string());
    }
}

/// A JSON document in the making.
#[derive(Default)]
struct Json {
    text: String,
}

impl Json {
    /// Behind a value comes a comma, behind an opening bracket or a colon nothing.
    fn separate(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with(['{', '[', ':']) {
            self.text.push(',');
        }
    }

    fn raw(&mut self, value: impl Display) {
        self.separate();
        let _ = write!(self.text, "{value}");
    }

    fn string(&mut self, value: &str) {
        self.separate();
        self.text.push('"');
        for c in value.chars() {
            match c {
                '"' | '\\' => self.text.extend(['\\', c]),
                c if c < ' ' => {
                    let _ = write!(self.text, "\\u{:04x}", c as u32);
                }
                c => self.text.push(c),
            }
        }
        self.text.push('"');
    }

    fn key(&mut self, name: &str, value: impl FnOnce(&mut Json)) {
        self.string(name);
        self.text.push(':');
        value(self);
    }

    fn text(&mut self, name: &str, value: &str) {
        self.key(name, |json| json.string(value));
    }

    fn number(&mut self, name: &str, value: impl Display) {
        self.key(name, |json| json.raw(value));
    }

    /// Pairs of the largest value of a bucket and how many are in it.
    fn histogram(&mut self, name: &str, histogram: &Histogram) {
        self.key(name, |json| {
            json.array(|json| {
                for (bound, count) in histogram.snapshot().buckets() {
                    json.raw(format_args!("[{bound},{count}]"));
                }
            });
        });
    }

    fn object(&mut self, fields: impl FnOnce(&mut Json)) {
        self.separate();
        self.text.push('{');
        fields(self);
        self.text.push('}');
    }

    fn array(&mut self, items: impl FnOnce(&mut Json)) {
        self.separate();
        self.text.push('[');
        items(self);
        self.text.push(']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_well_formed() {
        let mut json = Json::default();
        json.object(|json| {
            json.text("a\"b", "c\\d\n:é");
            json.key("list", |json| {
                json.array(|json| {
                    json.raw(1);
                    json.object(|_| ());
                    json.array(|json| json.string("{"));
                    json.raw(2);
                });
            });
            json.number("n", 1.5);
        });
        let expected = r#"{"a\"b":"c\\d\u000a:é","list":[1,{},["{"],2],"n":1.5}"#;
        assert_eq!(json.text, expected);
    }
}
