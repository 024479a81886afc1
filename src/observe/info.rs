//! INFO, with the sections and fields that clients and monitoring tools read from Redis 7.

use super::latency;
use crate::config::Id;
use crate::engine::Engine;
use crate::memory::limit::Memory;
use std::fmt::Write;
use std::fs;
use std::sync::atomic::Ordering::Relaxed;

/// The version whose behaviour we follow: tools choose their commands by it.
pub const REDIS_VERSION: &str = "7.0.15";

type Writer = fn(&Engine, &mut String);

/// Sections in their order: name, heading, writer, and whether a plain INFO shows it.
const SECTIONS: &[(&str, &str, Writer, bool)] = &[
    ("server", "Server", server, true),
    ("clients", "Clients", clients, true),
    ("memory", "Memory", memory, true),
    ("persistence", "Persistence", persistence, true),
    ("stats", "Stats", stats, true),
    ("replication", "Replication", crate::observe::replication_info::replication, true),
    ("cpu", "CPU", cpu, true),
    ("modules", "Modules", |_, _| (), true),
    ("commandstats", "Commandstats", commandstats, false),
    ("errorstats", "Errorstats", errorstats, true),
    ("latencystats", "Latencystats", latencystats, false),
    ("cluster", "Cluster", |_, page| field(page, "cluster_enabled", 0), true),
    ("keyspace", "Keyspace", keyspace, true),
];

/// The sections asked for; `default`, `all` and `everything` are groups of them.
pub fn page(engine: &Engine, wanted: &[String]) -> String {
    let group = |name: &str| wanted.iter().any(|word| word == name);
    let default = wanted.is_empty() || group("default");
    let all = group("all") || group("everything");
    let mut page = String::with_capacity(4096);
    for (name, heading, write, by_default) in SECTIONS {
        if all || (default && *by_default) || group(name) {
            if !page.is_empty() {
                page.push_str("\r\n");
            }
            let _ = write!(page, "# {heading}\r\n");
            write(engine, &mut page);
        }
    }
    page
}

pub(crate) fn field(page: &mut String, name: &str, value: impl std::fmt::Display) {
    write!(page, "{name}:{value}\r\n").expect("writing to a String does not fail");
}

fn server(engine: &Engine, page: &mut String) {
    let uptime = engine.metrics.uptime.micros() / 1_000_000;
    field(page, "redis_version", REDIS_VERSION);
    field(page, "kvstore_version", env!("CARGO_PKG_VERSION"));
    field(page, "redis_mode", "standalone");
    field(page, "os", std::env::consts::OS);
    field(page, "arch_bits", usize::BITS);
    field(page, "multiplexing_api", "threads");
    field(page, "process_id", std::process::id());
    field(page, "run_id", &engine.run_id);
    field(page, "tcp_port", engine.port.load(Relaxed));
    field(page, "metrics_port", engine.metrics_port.load(Relaxed));
    field(page, "server_time_usec", crate::clock::unix_micros());
    field(page, "uptime_in_seconds", uptime);
    field(page, "uptime_in_days", uptime / 86_400);
    field(page, "hz", engine.config.int(Id::Hz));
    field(page, "configured_hz", engine.config.int(Id::Hz));
}

fn clients(engine: &Engine, page: &mut String) {
    field(page, "connected_clients", engine.clients.len());
    field(page, "cluster_connections", 0);
    field(page, "maxclients", engine.maxclients());
    field(page, "blocked_clients", engine.clients.blocked());
    field(page, "tracking_clients", 0);
}

fn memory(engine: &Engine, page: &mut String) {
    let Memory { data, clients, log, loss, used, peak, limit, resident } = engine.memory();
    let startup = engine.startup_bytes;
    let percent =
        |part: usize, whole: usize| format!("{:.2}%", part as f64 * 100.0 / whole.max(1) as f64);
    size(page, "used_memory", used);
    size(page, "used_memory_rss", resident);
    size(page, "used_memory_peak", peak);
    field(page, "used_memory_peak_perc", percent(used, peak));
    field(page, "used_memory_overhead", used.saturating_sub(data.bytes));
    field(page, "used_memory_startup", startup);
    field(page, "used_memory_dataset", data.bytes);
    field(page, "used_memory_dataset_perc", percent(data.bytes, used.saturating_sub(startup)));
    size(page, "total_system_memory", system_bytes().unwrap_or(0));
    size(page, "maxmemory", limit);
    field(page, "number_of_cached_scripts", 0);
    field(page, "number_of_functions", 0);
    field(page, "number_of_libraries", 0);
    field(page, "maxmemory_policy", engine.config.choice(Id::MaxmemoryPolicy));
    field(page, "mem_fragmentation_ratio", format!("{:.2}", resident as f64 / used.max(1) as f64));
    field(page, "mem_fragmentation_bytes", resident as i64 - used as i64);
    field(page, "mem_not_counted_for_evict", 0);
    // The history for followers is in the log's files.
    field(page, "mem_replication_backlog", 0);
    field(page, "mem_clients_slaves", 0);
    field(page, "mem_clients_normal", clients);
    field(page, "mem_aof_buffer", log);
    field(page, "kvstore_memory_loss", loss);
    field(page, "mem_allocator", "system");
}

/// A number of bytes, and once more for people.
fn size(page: &mut String, name: &str, bytes: usize) {
    field(page, name, bytes);
    field(page, &format!("{name}_human"), human(bytes));
}

fn persistence(engine: &Engine, page: &mut String) {
    let compactor = &engine.compactor;
    let running = u8::from(compactor.running.load(Relaxed));
    let failed = compactor.last_error.lock().is_some();
    // A snapshot and a rewrite of the log, which are two things in Redis, are one here. -1 means none.
    let seconds = |time: Option<u64>| time.map_or(-1, |seconds| seconds as i64);
    let (last, current) = (seconds(compactor.last_seconds()), seconds(compactor.current_seconds()));
    let rewrites = compactor.count.load(Relaxed);
    field(page, "loading", u8::from(engine.loading.is_active()));
    field(page, "async_loading", 0);
    field(page, "rdb_changes_since_last_save", engine.store.changes());
    field(page, "rdb_bgsave_in_progress", running);
    field(page, "rdb_last_save_time", compactor.last_success.load(Relaxed));
    field(page, "rdb_last_bgsave_status", if failed { "err" } else { "ok" });
    field(page, "rdb_last_bgsave_time_sec", last);
    field(page, "rdb_current_bgsave_time_sec", current);
    field(page, "rdb_saves", rewrites);
    field(page, "aof_enabled", u8::from(engine.persistence.is_some()));
    field(page, "aof_rewrite_in_progress", running);
    field(page, "aof_rewrite_scheduled", 0);
    field(page, "aof_last_rewrite_time_sec", last);
    field(page, "aof_current_rewrite_time_sec", current);
    field(page, "aof_last_bgrewrite_status", if failed { "err" } else { "ok" });
    field(page, "aof_rewrites", rewrites);
    if let Some(loading) = engine.loading.progress() {
        field(page, "loading_start_time", loading.started);
        field(page, "loading_total_bytes", loading.total_bytes);
        field(page, "loading_loaded_bytes", loading.loaded_bytes);
        field(page, "loading_loaded_perc", format!("{:.2}", loading.percent));
        field(page, "loading_eta_seconds", loading.eta_seconds);
    }
    let Some(persistence) = &engine.persistence else { return };
    let log = &persistence.log;
    let status = log.check();
    field(page, "aof_last_write_status", if status.is_ok() { "ok" } else { "err" });
    field(page, "aof_current_size", log.size());
    field(page, "aof_base_size", persistence.size_at_compaction.load(Relaxed));
    field(page, "aof_pending_rewrite", 0);
    field(page, "aof_pending_bio_fsync", u8::from(log.durable() < log.written()));
    field(page, "aof_buffer_length", log.pending_bytes());
    if let Err(error) = status {
        field(page, "kvstore_log_error", error);
    }
    field(page, "kvstore_node_id", &persistence.node_id);
    field(page, "kvstore_epoch", log.epoch().0);
    field(page, "kvstore_appended_seq", log.appended());
    field(page, "kvstore_written_seq", log.written());
    field(page, "kvstore_durable_seq", log.durable());
    field(page, "kvstore_written_bytes", log.stats.written_bytes.get());
    let fsyncs = log.stats.fsync.snapshot();
    let mean = |total: u64| format!("{:.2}", total as f64 / fsyncs.count().max(1) as f64);
    field(page, "kvstore_fsyncs", fsyncs.count());
    field(page, "kvstore_fsync_usec_mean", mean(fsyncs.sum));
    field(page, "kvstore_fsync_usec_p99", fsyncs.percentile(0.99));
    field(page, "kvstore_fsync_usec_max", log.stats.fsync_micros_max.load(Relaxed));
    field(page, "kvstore_records_per_fsync", mean(log.stats.fsync_records.sum()));
    let gate = engine.metrics.gate_wait.snapshot();
    field(page, "kvstore_gate_waits", gate.count());
    field(page, "kvstore_gate_wait_usec_p99", gate.percentile(0.99));
    field(page, "kvstore_admission_waits", log.stats.admission_waits.get());
    field(page, "kvstore_segments", persistence.segments());
    field(page, "kvstore_recovery_milliseconds", persistence.recovery.0);
    field(page, "kvstore_recovery_records", persistence.recovery.1);
    field(page, "kvstore_quarantined_bytes", persistence.quarantined_bytes);
    let (aside, warn_size) = (&persistence.aside, engine.config.int(Id::SetAsideWarnSize) as u64);
    field(page, "kvstore_quarantine_size", aside.quarantine_bytes());
    field(page, "kvstore_diverged_size", aside.diverged_bytes());
    field(page, "kvstore_set_aside_warning", u8::from(aside.is_over(warn_size)));
    if let Some(error) = &*compactor.last_error.lock() {
        field(page, "kvstore_compaction_error", error);
    }
}

fn stats(engine: &Engine, page: &mut String) {
    let metrics = &engine.metrics;
    let [commands, input, output] = metrics.rates();
    field(page, "total_connections_received", metrics.connections_received.get());
    field(page, "total_commands_processed", metrics.commands_processed.get());
    field(page, "instantaneous_ops_per_sec", commands.round() as u64);
    field(page, "total_net_input_bytes", metrics.input_bytes.get());
    field(page, "total_net_output_bytes", metrics.output_bytes.get());
    field(page, "instantaneous_input_kbps", format!("{:.2}", input / 1024.0));
    field(page, "instantaneous_output_kbps", format!("{:.2}", output / 1024.0));
    field(page, "rejected_connections", metrics.connections_rejected.get());
    field(page, "expired_keys", metrics.expired_keys.get());
    field(page, "expire_cycle_cpu_milliseconds", metrics.expire_cycle_micros.get() / 1000);
    field(page, "evicted_keys", metrics.evicted_keys.get());
    field(page, "keyspace_hits", metrics.keyspace_hits.get());
    field(page, "keyspace_misses", metrics.keyspace_misses.get());
    let (channels, patterns) = engine.pubsub.counts();
    field(page, "pubsub_channels", channels);
    field(page, "pubsub_patterns", patterns);
    field(page, "kvstore_messages_published", metrics.messages_published.get());
    field(page, "kvstore_messages_delivered", metrics.messages_delivered.get());
    field(page, "pubsubshard_channels", 0);
    field(page, "latest_fork_usec", 0);
    field(page, "total_forks", 0);
    field(page, "sync_full", engine.followers.full_copies.get());
    field(page, "sync_partial_ok", engine.followers.continued.get());
    field(page, "evicted_clients", 0);
    field(page, "slave_expires_tracked_keys", 0);
    field(page, "total_error_replies", metrics.error_replies.get());
    field(page, "protocol_errors", metrics.protocol_errors.get());
    field(page, "acl_access_denied_auth", metrics.auth_failures.get());
    let query_limit = metrics.query_limit_disconnections.get();
    field(page, "client_query_buffer_limit_disconnections", query_limit);
    let of_subscribers = metrics.subscriber_limit_disconnections.get();
    field(page, "kvstore_subscriber_limit_disconnections", of_subscribers);
    field(page, "kvstore_push_thread_failures", metrics.push_thread_failures.get());
    let output_limit = metrics.output_limit_disconnections.get();
    field(page, "client_output_buffer_limit_disconnections", output_limit);
}

fn cpu(_: &Engine, page: &mut String) {
    let [user, system] = cpu_seconds().unwrap_or_default();
    field(page, "used_cpu_sys", format!("{system:.6}"));
    field(page, "used_cpu_user", format!("{user:.6}"));
    // There are no child processes.
    field(page, "used_cpu_sys_children", "0.000000");
    field(page, "used_cpu_user_children", "0.000000");
}

fn commandstats(engine: &Engine, page: &mut String) {
    for (row, stats) in engine.commands.rows().iter().zip(&engine.metrics.commands) {
        let (calls, micros) = (stats.latency.count(), stats.latency.sum());
        let (rejected, failed) = (stats.rejected.get(), stats.failed.get());
        if calls + rejected > 0 {
            let each = micros as f64 / calls.max(1) as f64;
            field(
                page,
                &format!("cmdstat_{}", row.name),
                format!(
                    "calls={calls},usec={micros},usec_per_call={each:.2},\
                     rejected_calls={rejected},failed_calls={failed}"
                ),
            );
        }
    }
}

fn latencystats(engine: &Engine, page: &mut String) {
    let percentiles = engine.config.text(Id::LatencyTrackingInfoPercentiles);
    for (name, latency) in latency::called(engine, |_| true) {
        let at = |percentile: &str| {
            let share: f64 = percentile.parse().unwrap_or_default();
            format!("p{percentile}={:.3}", latency.percentile(share / 100.0) as f64)
        };
        let values: Vec<String> = percentiles.split_ascii_whitespace().map(at).collect();
        field(page, &format!("latency_percentiles_usec_{name}"), values.join(","));
    }
}

fn errorstats(engine: &Engine, page: &mut String) {
    for (code, count) in engine.metrics.errors() {
        field(page, &format!("errorstat_{code}"), format!("count={count}"));
    }
}

fn keyspace(engine: &Engine, page: &mut String) {
    let totals = engine.store.totals();
    if totals.keys > 0 {
        let value = format!("keys={},expires={},avg_ttl=0", totals.keys, totals.volatile);
        field(page, "db0", value);
    }
}

fn human(bytes: usize) -> String {
    let (mut value, mut unit) = (bytes as f64, "B");
    for next in ["K", "M", "G", "T"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    if unit == "B" { format!("{bytes}B") } else { format!("{value:.2}{unit}") }
}

/// Resident memory of this process, where the kernel tells.
pub fn resident_bytes() -> Option<usize> {
    let pages: usize =
        fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size())
}

/// Memory of the machine, where the kernel tells.
fn system_bytes() -> Option<usize> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let kib: usize =
        text.strip_prefix("MemTotal:")?.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

/// CPU time of this process in user and in system mode, where the kernel tells.
pub(crate) fn cpu_seconds() -> Option<[f64; 2]> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in brackets and may hold blanks.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? / ticks);
    Some([seconds()?, seconds()?])
}

/// Descriptors that this process has open, where the kernel tells; the one for counting is one of them.
pub(crate) fn open_files() -> Option<usize> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count())
}

/// Threads of this process, where the kernel tells.
pub(crate) fn threads() -> Option<usize> {
    Some(fs::read_dir("/proc/self/task").ok()?.count())
}
