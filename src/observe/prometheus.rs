//! `/metrics`: the table of figures in Prometheus's text format, version 0.0.4.
//!
//! A family without a sample is left out, and so is a command that was never called. A page has some ten
//! kilobytes.

use super::figure::{Family, Figure, Read};
use super::figures::figures;
use super::load::LoadProgress;
use super::samples::Samples;
use super::seen::Seen;
use super::value::Value;
use crate::engine::Engine;
use std::fmt::Write;

/// The format's media type.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The families by topic, without the `kvstore_` that begins all their names.
#[rustfmt::skip]
const ORDER: &[&str] = &[
    "build_info", "start_time_seconds", "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds",
    "process_threads", "commands_total", "command_duration_seconds", "command_failures_total", "command_rejections_total",
    "lock_wait_seconds", "gate_wait_seconds", "errors_total", "auth_failures_total", "protocol_errors_total", "connected_clients",
    "blocked_clients", "max_clients", "connections_received_total", "connections_rejected_total", "disconnections_total",
    "push_thread_failures_total", "network_received_bytes_total", "network_sent_bytes_total", "memory_used_bytes",
    "memory_data_bytes", "memory_clients_bytes", "memory_peak_bytes", "memory_limit_bytes", "loading", "loading_total_bytes",
    "loading_loaded_bytes", "keys", "keys_with_deadline", "keyspace_hits_total", "keyspace_misses_total", "expired_keys_total",
    "evicted_keys_total", "pubsub_channels", "pubsub_patterns", "pubsub_messages_published_total",
    "pubsub_messages_delivered_total", "leader", "replicas", "replica_lag_records", "replica_lag_bytes", "replica_lag_seconds",
    "replication_full_copies_total", "replication_continued_total", "leader_link_up", "leader_hops", "lag_records", "lag_seconds",
    "diverged_records_total", "log_appended_seq", "log_written_seq", "log_durable_seq", "log_epoch", "log_size_bytes",
    "log_pending_bytes", "log_segments", "log_up", "log_written_bytes_total", "log_segments_started_total",
    "log_admission_waits_total", "log_write_duration_seconds", "log_fsync_duration_seconds", "log_fsync_records",
    "log_quarantined_bytes", "quarantine_bytes", "diverged_bytes", "compaction_running", "compactions_total",
    "compaction_last_duration_seconds", "compaction_last_failed",
];

/// The row of a family.
fn row(name: &str) -> Option<(&'static Figure, &'static Family)> {
    let mut families = figures().filter_map(|figure| Some((figure, figure.family.as_ref()?)));
    families.find(|(_, family)| family.name.strip_prefix("kvstore_") == Some(name))
}

/// The page during the first load, when there is nothing else to see.
pub fn loading(load: LoadProgress) -> String {
    let samples = [
        ("loading", 1),
        ("loading_total_bytes", load.total_bytes),
        ("loading_loaded_bytes", load.loaded_bytes),
    ];
    let mut page = String::new();
    for (name, value) in samples {
        if let Some((_, family)) = row(name) {
            write_family(&mut page, family, |out| out.put(value));
        }
    }
    page
}

/// The page.
pub fn page(engine: &Engine) -> String {
    let seen = Seen::take(engine);
    let mut page = String::with_capacity(16 << 10);
    for (figure, family) in ORDER.iter().filter_map(|name| row(name)) {
        write_family(&mut page, family, |out| write_samples(&seen, figure, out));
    }
    page
}

fn write_family(page: &mut String, family: &Family, write: impl FnOnce(&mut Samples<'_>)) {
    let Family { name, kind, help } = *family;
    let begin = page.len();
    let _ = write!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    let head_end = page.len();
    write(&mut Samples { name, page });
    if page.len() == head_end {
        page.truncate(begin);
    }
}

fn write_samples(seen: &Seen<'_>, figure: &Figure, out: &mut Samples<'_>) {
    match figure.read {
        Read::Samples(write) => write(seen, out),
        Read::One(read) => match read(seen) {
            Value::None | Value::Unknown => {}
            Value::Flag(flag) => out.put(u8::from(flag)),
            Value::Millis(millis) => out.put(millis as f64 / 1e3),
            Value::Number(value) | Value::Text(value) => out.put(value),
            Value::Histogram(histogram, scale) => out.histogram(None, &histogram, scale),
        },
        Read::Fields(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn every_family_has_its_place_on_the_page() {
        let rows = figures().filter(|figure| figure.family.is_some()).count();
        let placed: std::collections::BTreeSet<_> = ORDER.iter().collect();
        assert!(ORDER.iter().all(|name| row(name).is_some()));
        assert_eq!((ORDER.len(), placed.len()), (rows, rows));
    }

    #[test]
    fn labels_are_escaped_and_families_without_samples_left_out() {
        let engine = Engine::open(
            Config::for_tests(&[("appendonly", "no")]),
            crate::admin::commands(),
            Default::default(),
        )
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
