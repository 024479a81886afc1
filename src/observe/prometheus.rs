//! `/metrics`: the counters in Prometheus's text format, version 0.0.4.
//!
//! One table, `FAMILIES`: a row is a name, a kind, a help text and the function that writes its
//! samples. Names and units follow Prometheus's advice: `kvstore_` first, seconds and bytes, counters end
//! in `_total`. A family without a sample is left out, and so is a command that was never called: a page
//! has some ten kilobytes.

use super::info;
use crate::aof::log::Log;
use crate::aof::stats::LogStats;
use crate::cluster::progress::Lag;
use crate::engine::{Engine, Persistence};
use crate::loading::LoadProgress;
use crate::memory::limit::Memory;
use crate::metrics::{CommandStats, Histogram, HistogramSnapshot};
use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::atomic::Ordering::Relaxed;

/// The format's media type.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What all families of one page are written from, so that they fit together.
struct Seen<'a> {
    engine: &'a Engine,
    memory: Memory,
    replicas: BTreeMap<String, (bool, Lag)>,
}

type Writer = fn(&Seen<'_>, &mut Samples<'_>);
/// Name, kind, help, samples.
type Family = (&'static str, &'static str, &'static str, Writer);

const COUNTER: &str = "counter";
const GAUGE: &str = "gauge";
const HISTOGRAM: &str = "histogram";

/// Which buckets a histogram is shown in.
struct Scale {
    /// From one bound to the next.
    factor: u64,
    /// So many of them before infinity.
    bounds: u32,
    /// Divides a bound, and the sum, into the unit that is shown.
    per_unit: f64,
    /// Durations are kept in whole microseconds and rounded down: 3 is any that is shorter than 4, so the
    /// bucket that ends with 3 is shown to end at 4.
    rounded_down: bool,
}

/// 4 µs to 16.8 s.
const SECONDS: Scale = Scale { factor: 4, bounds: 12, per_unit: 1e6, rounded_down: true };
/// 1, 3, 7, … 4095: the finer buckets underneath end there.
const RECORDS: Scale = Scale { factor: 2, bounds: 12, per_unit: 1.0, rounded_down: false };

#[rustfmt::skip]
static FAMILIES: &[Family] = &[
    // The process.
    ("kvstore_build_info", GAUGE, "Always 1; the labels tell what runs.", build_info),
    ("kvstore_start_time_seconds", GAUGE, "When the process started, in Unix time.",
        |seen, out| out.put(seen.engine.metrics.started.0 as f64 / 1e3)),
    ("kvstore_process_cpu_seconds_total", COUNTER, "CPU time of the process, by mode.", cpu),
    ("kvstore_process_resident_memory_bytes", GAUGE, "Memory of the process in RAM.",
        |seen, out| out.put(seen.memory.resident)),
    ("kvstore_process_open_fds", GAUGE, "Files and sockets that the process has open.",
        |_, out| out.option(info::open_files())),
    ("kvstore_process_threads", GAUGE, "Threads of the process.",
        |_, out| out.option(info::threads())),
    // Commands.
    ("kvstore_commands_total", COUNTER, "Commands that ran, by name.",
        |seen, out| by_command(seen, out, |stats| Some(stats.latency.count()))),
    ("kvstore_command_duration_seconds", HISTOGRAM, "Time in commands, by name.", durations),
    ("kvstore_command_failures_total", COUNTER, "Commands that ran and failed, by name.",
        |seen, out| by_command(seen, out, |stats| nonzero(stats.failed.get()))),
    ("kvstore_command_rejections_total", COUNTER, "Commands refused before they ran, by name.",
        |seen, out| by_command(seen, out, |stats| nonzero(stats.rejected.get()))),
    ("kvstore_lock_wait_seconds", HISTOGRAM, "Waits of commands for keys that others held.",
        |seen, out| out.histogram(None, &seen.engine.metrics.lock_wait.snapshot(), &SECONDS)),
    ("kvstore_gate_wait_seconds", HISTOGRAM, "Waits of replies for the log.",
        |seen, out| out.histogram(None, &seen.engine.metrics.gate_wait.snapshot(), &SECONDS)),
    ("kvstore_errors_total", COUNTER, "Error replies, by their first word.", errors),
    ("kvstore_auth_failures_total", COUNTER, "Wrong passwords.",
        |seen, out| out.put(seen.engine.metrics.auth_failures.get())),
    ("kvstore_protocol_errors_total", COUNTER, "Requests that nobody could read.",
        |seen, out| out.put(seen.engine.metrics.protocol_errors.get())),
    // Connections.
    ("kvstore_connected_clients", GAUGE, "Clients that are connected.",
        |seen, out| out.put(seen.engine.clients.len())),
    ("kvstore_blocked_clients", GAUGE, "Clients that wait in a command, or for the end of a pause.",
        |seen, out| out.put(seen.engine.clients.blocked())),
    ("kvstore_max_clients", GAUGE, "Clients that may be connected at once.",
        |seen, out| out.put(seen.engine.maxclients())),
    ("kvstore_connections_received_total", COUNTER, "Connections that came.",
        |seen, out| out.put(seen.engine.metrics.connections_received.get())),
    ("kvstore_connections_rejected_total", COUNTER, "Connections refused at maxclients.",
        |seen, out| out.put(seen.engine.metrics.connections_rejected.get())),
    ("kvstore_disconnections_total", COUNTER, "Clients cut off, by the limit they were over.",
        disconnections),
    ("kvstore_push_thread_failures_total", COUNTER,
        "Clients cut off because no thread could be had to send to them.",
        |seen, out| out.put(seen.engine.metrics.push_thread_failures.get())),
    ("kvstore_network_received_bytes_total", COUNTER, "Bytes from clients.",
        |seen, out| out.put(seen.engine.metrics.input_bytes.get())),
    ("kvstore_network_sent_bytes_total", COUNTER, "Bytes to clients.",
        |seen, out| out.put(seen.engine.metrics.output_bytes.get())),
    // Data.
    ("kvstore_memory_used_bytes", GAUGE, "Memory in use: the program, data, clients, pending log.",
        |seen, out| out.put(seen.memory.used)),
    ("kvstore_memory_data_bytes", GAUGE, "Memory for keys and values.",
        |seen, out| out.put(seen.memory.data.bytes)),
    ("kvstore_memory_clients_bytes", GAUGE, "Memory for the buffers of clients.",
        |seen, out| out.put(seen.memory.clients)),
    ("kvstore_memory_peak_bytes", GAUGE, "The most memory that was in use.",
        |seen, out| out.put(seen.memory.peak)),
    ("kvstore_memory_limit_bytes", GAUGE, "Memory that may be in use; 0 is no limit.",
        |seen, out| out.put(seen.memory.limit)),
    ("kvstore_loading", GAUGE, "1 while data is being loaded.",
        |seen, out| out.put(u8::from(seen.engine.loading.is_active()))),
    ("kvstore_loading_total_bytes", GAUGE, "Bytes of the files that are being loaded.",
        |seen, out| out.option(seen.engine.loading.progress().map(|p| p.total_bytes))),
    ("kvstore_loading_loaded_bytes", GAUGE, "Bytes of them that are loaded.",
        |seen, out| out.option(seen.engine.loading.progress().map(|p| p.loaded_bytes))),
    ("kvstore_keys", GAUGE, "Keys in the table.", |seen, out| out.put(seen.memory.data.keys)),
    ("kvstore_keys_with_deadline", GAUGE, "Keys that will expire.",
        |seen, out| out.put(seen.memory.data.volatile)),
    ("kvstore_keyspace_hits_total", COUNTER, "Reads that found their key.",
        |seen, out| out.put(seen.engine.metrics.keyspace_hits.get())),
    ("kvstore_keyspace_misses_total", COUNTER, "Reads that did not find their key.",
        |seen, out| out.put(seen.engine.metrics.keyspace_misses.get())),
    ("kvstore_expired_keys_total", COUNTER, "Keys deleted because their time was over.",
        |seen, out| out.put(seen.engine.metrics.expired_keys.get())),
    ("kvstore_evicted_keys_total", COUNTER, "Keys deleted to make room in memory.",
        |seen, out| out.put(seen.engine.metrics.evicted_keys.get())),
    // Messages.
    ("kvstore_pubsub_channels", GAUGE, "Channels that somebody listens to by name.",
        |seen, out| out.put(seen.engine.pubsub.counts().0)),
    ("kvstore_pubsub_patterns", GAUGE, "Patterns that somebody listens to.",
        |seen, out| out.put(seen.engine.pubsub.counts().1)),
    ("kvstore_pubsub_messages_published_total", COUNTER, "Messages that clients published.",
        |seen, out| out.put(seen.engine.metrics.messages_published.get())),
    ("kvstore_pubsub_messages_delivered_total", COUNTER, "Messages sent to subscribers, one for each.",
        |seen, out| out.put(seen.engine.metrics.messages_delivered.get())),
    // Replication.
    ("kvstore_leader", GAUGE, "1 on a leader, 0 on a follower.",
        |seen, out| out.put(u8::from(!seen.engine.role.is_follower()))),
    ("kvstore_replicas", GAUGE, "Followers that are linked.",
        |seen, out| out.put(seen.replicas.len())),
    ("kvstore_replica_lag_records", GAUGE, "Records that a follower lacks.",
        |seen, out| by_replica(seen, out, |lag| lag.records as f64)),
    ("kvstore_replica_lag_bytes", GAUGE, "Bytes of log that a follower lacks.",
        |seen, out| by_replica(seen, out, |lag| lag.bytes as f64)),
    ("kvstore_replica_lag_seconds", GAUGE, "How long a follower has been lacking something.",
        |seen, out| by_replica(seen, out, |lag| lag.millis as f64 / 1e3)),
    ("kvstore_replication_full_copies_total", COUNTER, "Full copies that followers were sent.",
        |seen, out| out.put(seen.engine.followers.full_copies.get())),
    ("kvstore_replication_continued_total", COUNTER, "Links of followers that went on where they were.",
        |seen, out| out.put(seen.engine.followers.continued.get())),
    ("kvstore_leader_link_up", GAUGE, "1 if this follower hears its leader.",
        |seen, out| of_follower(seen, out, |engine, _| Some(f64::from(u8::from(engine.role.link_is_up()))))),
    ("kvstore_leader_hops", GAUGE, "Links from here to the node that leads; 33: a circle, no node leads.",
        |seen, out| of_follower(seen, out, |engine, _| Some(engine.role.hops() as f64))),
    ("kvstore_lag_records", GAUGE, "Records that this follower lacks.",
        |seen, out| of_follower(seen, out, |engine, applied| {
            Some(engine.role.figures.lock().leader_seq.0.saturating_sub(applied) as f64)
        })),
    ("kvstore_lag_seconds", GAUGE, "How old this follower's state is, if it knows.",
        |seen, out| of_follower(seen, out, |engine, _| {
            Some(engine.role.freshness.staleness_ms(engine.uptime_ms())? as f64 / 1e3)
        })),
    ("kvstore_diverged_records_total", COUNTER, "Records that only this node had, and gave up.",
        |seen, out| out.put(seen.engine.role.figures.lock().diverged_records)),
    // The log.
    ("kvstore_log_appended_seq", GAUGE, "The last record of the log.",
        |seen, out| of_log(seen, out, |log| log.appended().0)),
    ("kvstore_log_written_seq", GAUGE, "The last record that the kernel has.",
        |seen, out| of_log(seen, out, |log| log.written().0)),
    ("kvstore_log_durable_seq", GAUGE, "The last record that is on the disk.",
        |seen, out| of_log(seen, out, |log| log.durable().0)),
    ("kvstore_log_epoch", GAUGE, "How often this log has been opened for writing.",
        |seen, out| of_log(seen, out, |log| log.epoch().0)),
    ("kvstore_log_size_bytes", GAUGE, "Bytes of all files of the log.",
        |seen, out| of_log(seen, out, Log::size)),
    ("kvstore_log_pending_bytes", GAUGE, "Bytes appended and not yet written.",
        |seen, out| of_log(seen, out, Log::pending_bytes)),
    ("kvstore_log_segments", GAUGE, "Files that the log is in.",
        |seen, out| out.option(seen.engine.persistence.as_ref().map(Persistence::segments))),
    ("kvstore_log_up", GAUGE, "1 if the log can be written; else writes are refused.",
        |seen, out| of_log(seen, out, |log| u64::from(log.check().is_ok()))),
    ("kvstore_log_written_bytes_total", COUNTER, "Bytes written to the log.",
        |seen, out| of_log(seen, out, |log| log.stats.written_bytes.get())),
    ("kvstore_log_segments_started_total", COUNTER, "Segments of the log begun since the start.",
        |seen, out| of_log(seen, out, |log| log.stats.segments_started.get())),
    ("kvstore_log_admission_waits_total", COUNTER, "Times a write waited because too much was pending.",
        |seen, out| of_log(seen, out, |log| log.stats.admission_waits.get())),
    ("kvstore_log_write_duration_seconds", HISTOGRAM, "Writes of the log to the kernel.",
        |seen, out| log_histogram(seen, out, |stats| &stats.write, &SECONDS)),
    ("kvstore_log_fsync_duration_seconds", HISTOGRAM, "Syncs of the log to the disk.",
        |seen, out| log_histogram(seen, out, |stats| &stats.fsync, &SECONDS)),
    ("kvstore_log_fsync_records", HISTOGRAM, "Records that a sync of the log made durable.",
        |seen, out| log_histogram(seen, out, |stats| &stats.fsync_records, &RECORDS)),
    ("kvstore_log_quarantined_bytes", GAUGE, "Bytes of a torn tail put aside at this start.",
        |seen, out| out.option(seen.engine.persistence.as_ref().map(|p| p.quarantined_bytes))),
    ("kvstore_quarantine_bytes", GAUGE, "Bytes of all files in quarantine/.",
        |seen, out| out.option(seen.engine.persistence.as_ref().map(|p| p.aside.quarantine_bytes()))),
    ("kvstore_diverged_bytes", GAUGE, "Bytes of all files in diverged/.",
        |seen, out| out.option(seen.engine.persistence.as_ref().map(|p| p.aside.diverged_bytes()))),
    ("kvstore_compaction_running", GAUGE, "1 while the log is compacted.",
        |seen, out| out.put(u8::from(seen.engine.compactor.running.load(Relaxed)))),
    ("kvstore_compactions_total", COUNTER, "Compactions that succeeded.",
        |seen, out| out.put(seen.engine.compactor.count.load(Relaxed))),
    ("kvstore_compaction_last_duration_seconds", GAUGE, "How long the last compaction took.",
        |seen, out| out.put(seen.engine.compactor.last_millis.load(Relaxed) as f64 / 1e3)),
    ("kvstore_compaction_last_failed", GAUGE, "1 if the last compaction failed.",
        |seen, out| out.put(u8::from(seen.engine.compactor.last_error.lock().is_some()))),
];

/// The page at the start, while there is nothing but the load itself.
pub fn loading(load: LoadProgress) -> String {
    let samples = [
        ("kvstore_loading", 1),
        ("kvstore_loading_total_bytes", load.total_bytes),
        ("kvstore_loading_loaded_bytes", load.loaded_bytes),
    ];
    let mut page = String::new();
    for (name, value) in samples {
        let row = FAMILIES.iter().find(|family| family.0 == name);
        let help = row.map_or("", |(_, _, help, _)| help);
        let _ = write!(page, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
    }
    page
}

/// The page.
pub fn page(engine: &Engine) -> String {
    let seen = Seen { engine, memory: engine.memory(), replicas: engine.lags() };
    let mut page = String::with_capacity(16 << 10);
    for (name, kind, help, write) in FAMILIES {
        let begin = page.len();
        let _ = write!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        let head = page.len();
        write(&seen, &mut Samples { name, page: &mut page });
        if page.len() == head {
            page.truncate(begin);
        }
    }
    page
}

/// The samples of one family.
struct Samples<'a> {
    name: &'static str,
    page: &'a mut String,
}

impl Samples<'_> {
    fn put(&mut self, value: impl Display) {
        self.labelled(&[], value);
    }

    fn option(&mut self, value: Option<impl Display>) {
        if let Some(value) = value {
            self.put(value);
        }
    }

    fn labelled(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.sample("", labels, value);
    }

    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.page, "{}{suffix}", self.name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let opening = if index == 0 { '{' } else { ',' };
            let _ = write!(self.page, "{opening}{label}=\"{}\"", escape(value));
        }
        let closing = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.page, "{closing} {value}");
    }

    fn histogram(&mut self, label: Option<(&str, &str)>, seen: &HistogramSnapshot, scale: &Scale) {
        let mut bucket = |le: &str, count: u64| {
            let labels: Vec<_> = label.into_iter().chain([("le", le)]).collect();
            self.sample("_bucket", &labels, count);
        };
        for power in 1..=scale.bounds {
            let end = scale.factor.pow(power);
            let shown = if scale.rounded_down { end } else { end - 1 };
            bucket(&(shown as f64 / scale.per_unit).to_string(), seen.count_up_to(end - 1));
        }
        bucket("+Inf", seen.count());
        let labels: Vec<_> = label.into_iter().collect();
        self.sample("_sum", &labels, seen.sum as f64 / scale.per_unit);
        self.sample("_count", &labels, seen.count());
    }
}

/// A label's value may be any text, an error code of a client's choice among them.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn nonzero(count: u64) -> Option<u64> {
    Some(count).filter(|count| *count > 0)
}

fn by_command<T: Display>(
    seen: &Seen<'_>,
    out: &mut Samples<'_>,
    value: impl Fn(&CommandStats) -> Option<T>,
) {
    let engine = seen.engine;
    for (row, stats) in engine.commands.rows().iter().zip(&engine.metrics.commands) {
        if stats.latency.count() + stats.rejected.get() > 0
            && let Some(value) = value(stats)
        {
            out.labelled(&[("command", row.name)], value);
        }
    }
}

fn durations(seen: &Seen<'_>, out: &mut Samples<'_>) {
    let engine = seen.engine;
    for (row, stats) in engine.commands.rows().iter().zip(&engine.metrics.commands) {
        let latency = stats.latency.snapshot();
        if latency.count() > 0 {
            out.histogram(Some(("command", row.name)), &latency, &SECONDS);
        }
    }
}

fn log_histogram(
    seen: &Seen<'_>,
    out: &mut Samples<'_>,
    histogram: fn(&LogStats) -> &Histogram,
    scale: &Scale,
) {
    if let Some(persistence) = &seen.engine.persistence {
        out.histogram(None, &histogram(&persistence.log.stats).snapshot(), scale);
    }
}

fn of_log(seen: &Seen<'_>, out: &mut Samples<'_>, value: impl Fn(&Log) -> u64) {
    out.option(seen.engine.persistence.as_ref().map(|persistence| value(&persistence.log)));
}

fn by_replica(seen: &Seen<'_>, out: &mut Samples<'_>, value: fn(&Lag) -> f64) {
    for (address, (_, lag)) in &seen.replicas {
        out.labelled(&[("replica", address)], value(lag));
    }
}

fn of_follower(seen: &Seen<'_>, out: &mut Samples<'_>, value: fn(&Engine, u64) -> Option<f64>) {
    let applied = seen.engine.persistence.as_ref().map(|persistence| persistence.log.appended().0);
    if let Some(applied) = applied.filter(|_| seen.engine.role.is_follower()) {
        out.option(value(seen.engine, applied));
    }
}

fn build_info(_: &Seen<'_>, out: &mut Samples<'_>) {
    let version = env!("CARGO_PKG_VERSION");
    out.labelled(&[("version", version), ("redis_version", info::REDIS_VERSION)], 1);
}

fn cpu(_: &Seen<'_>, out: &mut Samples<'_>) {
    for (mode, seconds) in ["user", "system"].iter().zip(info::cpu_seconds().into_iter().flatten())
    {
        out.labelled(&[("mode", mode)], seconds);
    }
}

fn errors(seen: &Seen<'_>, out: &mut Samples<'_>) {
    for (code, count) in seen.engine.metrics.errors() {
        out.labelled(&[("code", &code)], count);
    }
}

fn disconnections(seen: &Seen<'_>, out: &mut Samples<'_>) {
    let metrics = &seen.engine.metrics;
    out.labelled(&[("limit", "query_buffer")], metrics.query_limit_disconnections.get());
    let subscribers = metrics.subscriber_limit_disconnections.get();
    let others = metrics.output_limit_disconnections.get().saturating_sub(subscribers);
    out.labelled(&[("limit", "output_buffer")], others);
    out.labelled(&[("limit", "subscriber_output_buffer")], subscribers);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn names_follow_the_rules() {
        for (index, (name, kind, help, _)) in FAMILIES.iter().enumerate() {
            assert!(name.starts_with("kvstore_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == COUNTER, "{name}");
            assert!(help.ends_with('.') && !help.contains(['\n', '\\']), "{name}");
            assert!(FAMILIES[..index].iter().all(|earlier| earlier.0 != *name), "{name} twice");
        }
    }

    #[test]
    fn buckets_are_cumulative_and_in_base_units() {
        let (took, synced) = (Histogram::default(), Histogram::default());
        [0, 3, 4, 1_000_000, 60_000_000].iter().for_each(|micros| took.record(*micros));
        [0, 1, 2, 4095, 5000].iter().for_each(|records| synced.record(*records));
        let mut page = String::new();
        let mut out = Samples { name: "t", page: &mut page };
        out.histogram(Some(("command", "get")), &took.snapshot(), &SECONDS);
        out.histogram(None, &synced.snapshot(), &RECORDS);
        for line in [
            "t_bucket{command=\"get\",le=\"0.000004\"} 2",
            "t_bucket{command=\"get\",le=\"0.000016\"} 3",
            "t_bucket{command=\"get\",le=\"1.048576\"} 4",
            "t_bucket{command=\"get\",le=\"16.777216\"} 4",
            "t_bucket{command=\"get\",le=\"+Inf\"} 5",
            "t_sum{command=\"get\"} 61.000007",
            "t_count{command=\"get\"} 5",
            "t_bucket{le=\"1\"} 2",
            "t_bucket{le=\"3\"} 3",
            "t_bucket{le=\"4095\"} 4",
            "t_sum 9098",
        ] {
            assert!(page.lines().any(|written| written == line), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn labels_are_escaped_and_families_without_samples_left_out() {
        let engine =
            Engine::open(Config::for_tests(&[("appendonly", "no")]), crate::admin::commands())
                .expect("no files");
        engine.metrics.count_error("A\"B\\C\nD");
        let page = page(&engine);
        assert!(page.contains("kvstore_errors_total{code=\"A\\\"B\\\\C\\nD\"} 1\n"), "{page}");
        assert!(page.contains("\n# TYPE kvstore_keys gauge\nkvstore_keys 0\n"), "{page}");
        assert!(
            !page.contains("kvstore_log_") && !page.contains("kvstore_commands_total"),
            "{page}"
        );
    }
}
