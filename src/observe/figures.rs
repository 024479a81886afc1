//! The table of figures behind INFO, `/metrics` and `/status.json`: where each is shown, by which name, and
//! how it is read.
//!
//! A row without a field is not in INFO, one without a family not in `/metrics`, one without a key not in
//! `/status.json`. Rows stand in INFO's order, which is Redis's, and the other pages follow it.

use super::REDIS_VERSION;
use super::figure::{Figure, fields, info, other, samples};
use super::labelled::{
    build_info, by_command, by_error, by_limit, by_mode, by_replica, calls, command_fields,
    durations, error_fields, follower_fields, member_fields, percentile_fields,
};
use super::samples::{RECORDS, SECONDS};
use super::seen::Seen;
use super::value::{Value, decimal, human, known, literal, number, ok_or_err, percent, text};
use crate::aof::record::Position;
use crate::clock::{self, UnixMillis};
use crate::cluster::members::majority;
use crate::cluster::shared::Cluster;
use crate::config::Id;
use crate::metrics::{Stat, process};
use std::sync::atomic::Ordering::Relaxed;

/// Sections of INFO in their order: heading, whether a plain INFO shows it, rows. The heading in lower case is
/// the word that asks for a section.
pub(crate) static SECTIONS: &[(&str, bool, &[Figure])] = &[
    ("Server", true, SERVER),
    ("Clients", true, CLIENTS),
    ("Memory", true, MEMORY),
    ("Persistence", true, PERSISTENCE),
    ("Stats", true, STATS),
    ("Replication", true, REPLICATION),
    ("CPU", true, CPU),
    ("Modules", true, &[]),
    ("Commandstats", false, COMMANDS),
    ("Errorstats", true, ERRORS),
    ("Latencystats", false, &[fields(percentile_fields)]),
    ("Cluster", true, CLUSTER),
    ("Keyspace", true, KEYSPACE),
];

/// All rows.
pub(super) fn figures() -> impl Iterator<Item = &'static Figure> {
    SECTIONS.iter().flat_map(|(_, _, figures)| *figures)
}

/// Of the nodes that elect their leader. `cluster_enabled` speaks of Redis Cluster, which this is not.
#[rustfmt::skip]
const CLUSTER: &[Figure] = &[
    info("cluster_enabled", |_| 0.into()),
    info("kvstore_cluster_epoch", |s| s.of_cluster(|cluster| cluster.epoch().0)).status("cluster.epoch")
        .gauge("kvstore_cluster_epoch", "The highest epoch that this node has promised."),
    info("kvstore_cluster_leader", |s| s.of_cluster(|_| text(s.elected_leader.clone()))).status("cluster.leader"),
    info("kvstore_cluster_members", |s| s.of_cluster(|_| s.voters().unwrap_or(0) as u64)).status("cluster.members")
        .gauge("kvstore_cluster_members", "Nodes that vote."),
    info("kvstore_cluster_quorum", |s| s.of_cluster(|_| s.voters().map_or(0, majority) as u64)).status("cluster.quorum")
        .gauge("kvstore_cluster_quorum", "Votes that a leader needs."),
    info("kvstore_cluster_commit", |s| s.of_cluster(Cluster::commit)).status("cluster.commit")
        .gauge("kvstore_cluster_commit", "A majority has all records up to this one, as far as this node knows."),
    info("kvstore_cluster_memory", |s| s.of_cluster(|_| text(s.log.as_ref().map(|log| log.persistence.term().memory.word().to_string())))).status("cluster.memory"),
    info("kvstore_cluster_ack", |s| s.of_cluster(|cluster| literal(if cluster.waits_for_majority() { "majority" } else { "leader" }))).status("cluster.ack"),
    info("kvstore_cluster_reads", |s| s.of_cluster(|cluster| literal(if cluster.reads_by_index() { "index" } else { "local" }))).status("cluster.reads"),
    other(|s| s.of_cluster(|_| text(s.engine.missing()))).status("cluster.missing"),
    info("kvstore_cluster_elections", |s| s.of_cluster(|cluster| cluster.elections.get())).status("cluster.elections")
        .counter("kvstore_cluster_elections_total", "Elections that this node has won."),
    info("kvstore_cluster_stepdowns", |s| s.of_cluster(|cluster| cluster.stepdowns.get())).status("cluster.stepdowns")
        .counter("kvstore_cluster_stepdowns_total", "Times that this node has led no longer."),
    fields(member_fields),
];

#[rustfmt::skip]
const SERVER: &[Figure] = &[
    samples(build_info).gauge("kvstore_build_info", "Always 1; the labels tell what runs."),
    info("redis_version", |_| literal(REDIS_VERSION)),
    info("kvstore_version", |_| literal(env!("CARGO_PKG_VERSION"))).status("version"),
    info("redis_mode", |_| literal("standalone")),
    info("os", |_| literal(std::env::consts::OS)),
    info("arch_bits", |_| usize::BITS.into()),
    info("multiplexing_api", |_| literal("threads")),
    info("process_id", |_| std::process::id().into()).status("pid"),
    info("run_id", |s| text(s.engine.run_id.clone())).status("run_id"),
    info("tcp_port", |s| s.engine.port.load(Relaxed).into()).status("port"),
    info("metrics_port", |s| s.engine.metrics_port.load(Relaxed).into()),
    info("server_time_usec", |_| clock::unix_micros().into()),
    other(|_| UnixMillis::now().0.into()).status("now_ms"),
    other(|s| Value::Millis(s.metrics.started.0)).status("started_ms")
        .gauge("kvstore_start_time_seconds", "When the process started, in Unix time."),
    other(|s| (s.metrics.uptime.micros() / 1000).into()).status("uptime_ms"),
    info("uptime_in_seconds", |s| (s.metrics.uptime.micros() / 1_000_000).into()),
    info("uptime_in_days", |s| (s.metrics.uptime.micros() / 86_400_000_000).into()),
    info("hz", |s| s.int(Id::Hz)),
    info("configured_hz", |s| s.int(Id::Hz)),
    other(|_| number(process::open_files())).gauge("kvstore_process_open_fds", "Files and sockets that the process has open."),
    other(|_| number(process::threads())).gauge("kvstore_process_threads", "Threads of the process."),
];

#[rustfmt::skip]
const CLIENTS: &[Figure] = &[
    info("connected_clients", |s| s.engine.clients.len().into()).status("clients.connected")
        .gauge("kvstore_connected_clients", "Clients that are connected."),
    info("cluster_connections", |_| 0.into()),
    info("maxclients", |s| s.engine.maxclients().into()).status("clients.max")
        .gauge("kvstore_max_clients", "Clients that may be connected at once."),
    info("blocked_clients", |s| s.engine.clients.blocked().into())
        .gauge("kvstore_blocked_clients", "Clients that wait in a command, or for the end of a pause."),
    info("tracking_clients", |_| 0.into()),
];

#[rustfmt::skip]
const MEMORY: &[Figure] = &[
    info("used_memory", |s| s.memory.used.into()).status("memory.used")
        .gauge("kvstore_memory_used_bytes", "Memory in use: the program, data, clients, pending log."),
    info("used_memory_human", |s| human(s.memory.used)),
    info("used_memory_rss", |s| s.memory.resident.into()).status("memory.resident")
        .gauge("kvstore_process_resident_memory_bytes", "Memory of the process in RAM."),
    info("used_memory_rss_human", |s| human(s.memory.resident)),
    info("used_memory_peak", |s| s.memory.peak.into()).gauge("kvstore_memory_peak_bytes", "The most memory that was in use."),
    info("used_memory_peak_human", |s| human(s.memory.peak)),
    info("used_memory_peak_perc", |s| percent(s.memory.used, s.memory.peak)),
    info("used_memory_overhead", |s| s.memory.used.saturating_sub(s.memory.data.bytes).into()),
    info("used_memory_startup", |s| s.engine.memory_state.startup_bytes.into()),
    info("used_memory_dataset", |s| s.memory.data.bytes.into()).status("memory.data")
        .gauge("kvstore_memory_data_bytes", "Memory for keys and values."),
    info("used_memory_dataset_perc", |s| percent(s.memory.data.bytes, s.memory.used.saturating_sub(s.engine.memory_state.startup_bytes))),
    info("total_system_memory", |_| process::system_bytes().unwrap_or(0).into()),
    info("total_system_memory_human", |_| human(process::system_bytes().unwrap_or(0))),
    info("maxmemory", |s| s.memory.limit.into()).status("memory.limit")
        .gauge("kvstore_memory_limit_bytes", "Memory that may be in use; 0 is no limit."),
    info("maxmemory_human", |s| human(s.memory.limit)),
    info("number_of_cached_scripts", |_| 0.into()),
    info("number_of_functions", |_| 0.into()),
    info("number_of_libraries", |_| 0.into()),
    info("maxmemory_policy", |s| literal(s.engine.config.choice(Id::MaxmemoryPolicy))).status("memory.policy"),
    info("mem_fragmentation_ratio", |s| decimal(s.memory.resident as f64 / s.memory.used.max(1) as f64)),
    info("mem_fragmentation_bytes", |s| (s.memory.resident as i64 - s.memory.used as i64).into()),
    info("mem_not_counted_for_evict", |_| 0.into()),
    // Followers are fed from the log's files.
    info("mem_replication_backlog", |_| 0.into()),
    info("mem_clients_slaves", |_| 0.into()),
    info("mem_clients_normal", |s| s.memory.clients.into()).status("memory.clients")
        .gauge("kvstore_memory_clients_bytes", "Memory for the buffers of clients."),
    info("mem_aof_buffer", |s| s.memory.log.into()),
    info("kvstore_memory_loss", |s| s.memory.loss.into()),
    info("mem_allocator", |_| literal("system")),
];

// A snapshot and a rewrite of the log are two things in Redis and one here.
#[rustfmt::skip]
const PERSISTENCE: &[Figure] = &[
    info("loading", |s| Value::Flag(s.load.is_some())).gauge("kvstore_loading", "1 while data is being loaded."),
    info("async_loading", |_| 0.into()),
    info("rdb_changes_since_last_save", |s| s.engine.store.changes().into()),
    info("rdb_bgsave_in_progress", |s| Value::Flag(s.compactions.current_seconds().is_some())).status("log.compacting")
        .gauge("kvstore_compaction_running", "1 while the log is compacted."),
    info("rdb_last_save_time", |s| s.compactions.last_success.into()),
    info("rdb_last_bgsave_status", |s| ok_or_err(s.compactions.last_error.is_none())),
    info("rdb_last_bgsave_time_sec", |s| known(s.compactions.last_seconds())),
    info("rdb_current_bgsave_time_sec", |s| known(s.compactions.current_seconds())),
    info("rdb_saves", |s| s.compactions.count.into()).status("log.compactions")
        .counter("kvstore_compactions_total", "Compactions that succeeded."),
    info("aof_enabled", |s| Value::Flag(s.log.is_some())),
    info("aof_rewrite_in_progress", |s| Value::Flag(s.compactions.current_seconds().is_some())),
    info("aof_rewrite_scheduled", |_| 0.into()),
    info("aof_last_rewrite_time_sec", |s| known(s.compactions.last_seconds())),
    info("aof_current_rewrite_time_sec", |s| known(s.compactions.current_seconds())),
    info("aof_last_bgrewrite_status", |s| ok_or_err(s.compactions.last_error.is_none())),
    info("aof_rewrites", |s| s.compactions.count.into()),
    info("loading_start_time", |s| s.of_load(|load| load.started)),
    info("loading_total_bytes", |s| s.of_load(|load| load.total_bytes))
        .gauge("kvstore_loading_total_bytes", "Bytes of the files that are being loaded."),
    info("loading_loaded_bytes", |s| s.of_load(|load| load.loaded_bytes))
        .gauge("kvstore_loading_loaded_bytes", "Bytes of them that are loaded."),
    info("loading_loaded_perc", |s| s.of_load(|load| decimal(load.percent))),
    info("loading_eta_seconds", |s| s.of_load(|load| load.eta_seconds)),
    info("aof_last_write_status", |s| s.of_log(|log| ok_or_err(log.error.is_none()))),
    info("aof_current_size", |s| s.of_log(|log| log.log.size())).status("log.size")
        .gauge("kvstore_log_size_bytes", "Bytes of all files of the log."),
    info("aof_base_size", |s| s.of_log(|log| log.persistence.size_at_compaction.load(Relaxed))),
    info("aof_pending_rewrite", |s| s.of_log(|_| 0)),
    info("aof_pending_bio_fsync", |s| s.of_log(|log| u8::from(log.durable < log.written))),
    info("aof_buffer_length", |s| s.of_log(|log| log.log.pending_bytes())).status("log.pending")
        .gauge("kvstore_log_pending_bytes", "Bytes appended and not yet written."),
    other(|s| s.of_log(|log| number(log.disk_bytes().map(|[free, _]| free)))).status("log.disk_free")
        .gauge("kvstore_disk_free_bytes", "Bytes that are free on the disk of the log."),
    other(|s| s.of_log(|log| number(log.disk_bytes().map(|[_, all]| all)))).status("log.disk_size")
        .gauge("kvstore_disk_size_bytes", "Bytes of the disk that the log is on."),
    info("kvstore_log_error", |s| s.of_log(|log| text(log.error.clone()))).status("log.error"),
    other(|s| s.of_log(|log| u8::from(log.error.is_none())))
        .gauge("kvstore_log_up", "1 if the log can be written; else writes are refused."),
    info("kvstore_node_id", |s| s.of_log(|log| text(log.persistence.node_id.clone()))),
    info("kvstore_epoch", |s| s.of_log(|log| log.log.epoch().0)).status("log.epoch")
        .gauge("kvstore_log_epoch", "How often this log has been opened for writing."),
    info("kvstore_appended_seq", |s| s.of_log(|log| log.appended)).status("log.appended")
        .gauge("kvstore_log_appended_seq", "The last record of the log."),
    info("kvstore_written_seq", |s| s.of_log(|log| log.written)).status("log.written")
        .gauge("kvstore_log_written_seq", "The last record that the kernel has."),
    info("kvstore_durable_seq", |s| s.of_log(|log| log.durable)).status("log.durable")
        .gauge("kvstore_log_durable_seq", "The last record that is on the disk."),
    other(|s| text(s.engine.config.text(Id::Appendfsync))).status("log.policy"),
    info("kvstore_written_bytes", |s| s.of_log(|log| log.log.stats.written_bytes.get())).status("log.written_bytes")
        .counter("kvstore_log_written_bytes_total", "Bytes written to the log."),
    info("kvstore_fsyncs", |s| s.of_log(|log| log.fsyncs.count())),
    info("kvstore_fsync_usec_mean", |s| s.of_log(|log| log.per_fsync(log.fsyncs.sum))),
    info("kvstore_fsync_usec_p99", |s| s.of_log(|log| log.fsyncs.percentile(0.99))),
    info("kvstore_fsync_usec_max", |s| s.of_log(|log| log.log.stats.fsync_micros_max.load(Relaxed))),
    info("kvstore_records_per_fsync", |s| s.of_log(|log| log.per_fsync(log.log.stats.fsync_records.sum()))),
    other(|s| s.of_log(|log| Value::Histogram(log.log.stats.write.snapshot(), &SECONDS)))
        .histogram("kvstore_log_write_duration_seconds", "Writes of the log to the kernel."),
    other(|s| s.of_log(|log| Value::Histogram(log.fsyncs.clone(), &SECONDS))).status("log.fsyncs")
        .histogram("kvstore_log_fsync_duration_seconds", "Syncs of the log to the disk."),
    other(|s| s.of_log(|log| Value::Histogram(log.log.stats.fsync_records.snapshot(), &RECORDS))).status("log.batches")
        .histogram("kvstore_log_fsync_records", "Records that a sync of the log made durable."),
    info("kvstore_gate_waits", |s| s.of_log(|_| s.metrics.gate_wait.count())),
    info("kvstore_gate_wait_usec_p99", |s| s.of_log(|_| s.metrics.gate_wait.snapshot().percentile(0.99))),
    other(|s| Value::Histogram(s.metrics.gate_wait.snapshot(), &SECONDS))
        .histogram("kvstore_gate_wait_seconds", "Waits of replies for the log."),
    info("kvstore_admission_waits", |s| s.of_log(|log| log.log.stats.admission_waits.get())).status("log.admission_waits")
        .counter("kvstore_log_admission_waits_total",
            "Times a write waited because too much was pending."),
    info("kvstore_segments", |s| s.of_log(|_| s.segments.0)).status("log.segments")
        .gauge("kvstore_log_segments", "Files that the log is in."),
    other(|s| s.of_log(|log| log.log.stats.segments_started.get()))
        .counter("kvstore_log_segments_started_total", "Segments of the log begun since the start."),
    info("kvstore_recovery_milliseconds", |s| s.of_log(|log| log.persistence.recovery.0)),
    info("kvstore_recovery_records", |s| s.of_log(|log| log.persistence.recovery.1)),
    info("kvstore_quarantined_bytes", |s| s.of_log(|log| log.persistence.quarantined_bytes))
        .gauge("kvstore_log_quarantined_bytes", "Bytes of a torn tail put aside at this start."),
    info("kvstore_quarantine_size", |s| s.of_log(|log| log.persistence.aside.quarantine_bytes())).status("log.quarantine_bytes")
        .gauge("kvstore_quarantine_bytes", "Bytes of all files in quarantine/."),
    info("kvstore_diverged_size", |s| s.of_log(|log| log.persistence.aside.diverged_bytes())).status("log.diverged_bytes")
        .gauge("kvstore_diverged_bytes", "Bytes of all files in diverged/."),
    info("kvstore_set_aside_warning", |s| s.of_log(|log| u8::from(log.persistence.aside.is_over(s.engine.config.int(Id::SetAsideWarnSize) as u64)))).status("log.set_aside_warning"),
    info("kvstore_compaction_error", |s| s.of_log(|_| text(s.compactions.last_error.clone()))).status("log.compaction_error"),
    other(|s| Value::Millis(s.compactions.last_millis))
        .gauge("kvstore_compaction_last_duration_seconds", "How long the last compaction took."),
    other(|s| Value::Flag(s.compactions.last_error.is_some()))
        .gauge("kvstore_compaction_last_failed", "1 if the last compaction failed."),
];

#[rustfmt::skip]
const STATS: &[Figure] = &[
    info("total_connections_received", |s| s.stat(Stat::ConnectionsReceived)).status("clients.received")
        .counter("kvstore_connections_received_total", "Connections that came."),
    info("total_commands_processed", |s| s.stat(Stat::CommandsProcessed)),
    info("instantaneous_ops_per_sec", |s| (s.rates[0].round() as u64).into()),
    info("total_net_input_bytes", |s| s.stat(Stat::InputBytes)).status("clients.input_bytes")
        .counter("kvstore_network_received_bytes_total", "Bytes from clients."),
    info("total_net_output_bytes", |s| s.stat(Stat::OutputBytes)).status("clients.output_bytes")
        .counter("kvstore_network_sent_bytes_total", "Bytes to clients."),
    info("instantaneous_input_kbps", |s| decimal(s.rates[1] / 1024.0)),
    info("instantaneous_output_kbps", |s| decimal(s.rates[2] / 1024.0)),
    info("rejected_connections", |s| s.stat(Stat::ConnectionsRejected)).status("clients.rejected")
        .counter("kvstore_connections_rejected_total", "Connections refused at maxclients."),
    info("expired_keys", |s| s.stat(Stat::ExpiredKeys)).status("keys.expired")
        .counter("kvstore_expired_keys_total", "Keys deleted because their time was over."),
    info("expire_cycle_cpu_milliseconds", |s| (s.metrics[Stat::ExpireCycleMicros].get() / 1000).into()),
    info("evicted_keys", |s| s.stat(Stat::EvictedKeys)).status("keys.evicted")
        .counter("kvstore_evicted_keys_total", "Keys deleted to make room in memory."),
    info("keyspace_hits", |s| s.stat(Stat::KeyspaceHits)).status("keys.hits")
        .counter("kvstore_keyspace_hits_total", "Reads that found their key."),
    info("keyspace_misses", |s| s.stat(Stat::KeyspaceMisses)).status("keys.misses")
        .counter("kvstore_keyspace_misses_total", "Reads that did not find their key."),
    info("pubsub_channels", |s| s.subscribed.0.into()).status("pubsub.channels")
        .gauge("kvstore_pubsub_channels", "Channels that somebody listens to by name."),
    info("pubsub_patterns", |s| s.subscribed.1.into()).status("pubsub.patterns")
        .gauge("kvstore_pubsub_patterns", "Patterns that somebody listens to."),
    info("kvstore_messages_published", |s| s.stat(Stat::MessagesPublished)).status("pubsub.published")
        .counter("kvstore_pubsub_messages_published_total", "Messages that clients published."),
    info("kvstore_messages_delivered", |s| s.stat(Stat::MessagesDelivered)).status("pubsub.delivered")
        .counter("kvstore_pubsub_messages_delivered_total",
            "Messages sent to subscribers, one for each."),
    info("pubsubshard_channels", |_| 0.into()),
    info("latest_fork_usec", |_| 0.into()),
    info("total_forks", |_| 0.into()),
    info("sync_full", |s| s.engine.followers.full_copies.get().into())
        .counter("kvstore_replication_full_copies_total", "Full copies that followers were sent."),
    info("sync_partial_ok", |s| s.engine.followers.continued.get().into()).counter("kvstore_replication_continued_total",
            "Links of followers that went on where they were."),
    info("evicted_clients", |_| 0.into()),
    info("slave_expires_tracked_keys", |_| 0.into()),
    info("total_error_replies", |s| s.stat(Stat::ErrorReplies)).status("error_replies"),
    other(|s| s.stat(Stat::UnknownCommands)).status("unknown_commands")
        .counter("kvstore_unknown_commands_total", "Requests for commands that do not exist."),
    info("protocol_errors", |s| s.stat(Stat::ProtocolErrors))
        .counter("kvstore_protocol_errors_total", "Requests that nobody could read."),
    info("acl_access_denied_auth", |s| s.stat(Stat::AuthFailures)).counter("kvstore_auth_failures_total", "Wrong passwords."),
    samples(by_limit).counter("kvstore_disconnections_total", "Clients cut off, by the limit they were over."),
    info("client_query_buffer_limit_disconnections", |s| s.stat(Stat::QueryLimitDisconnections)),
    info("kvstore_subscriber_limit_disconnections", |s| s.stat(Stat::SubscriberLimitDisconnections)),
    info("kvstore_push_thread_failures", |s| s.stat(Stat::PushThreadFailures)).counter("kvstore_push_thread_failures_total",
            "Clients cut off because no thread could be had to send to them."),
    info("client_output_buffer_limit_disconnections", |s| s.stat(Stat::OutputLimitDisconnections)),
    other(|s| Value::Histogram(s.metrics.lock_wait.snapshot(), &SECONDS))
        .histogram("kvstore_lock_wait_seconds", "Waits of commands for keys that others held."),
];

// Offsets are seqs: they grow with each record and are the same on all nodes of one history.
#[rustfmt::skip]
const REPLICATION: &[Figure] = &[
    info("role", |s| literal(if s.follower.is_some() { "slave" } else { "master" })),
    other(|s| Value::Flag(s.follower.is_none())).gauge("kvstore_leader", "1 on a leader, 0 on a follower."),
    // A follower's link to its leader.
    info("master_host", |s| s.of_follower(|_| text(s.leader().map_or(String::new(), |leader| leader.host.clone())))),
    info("master_port", |s| s.of_follower(|_| s.leader().map_or(0, |leader| leader.port))),
    other(|s| text(s.leader().map(ToString::to_string))).status("leader.address"),
    other(|s| s.of_follower(|it| literal(it.link_state))).status("leader.state"),
    other(|s| s.of_follower(|it| Value::Flag(it.link_is_up))).status("leader.up"),
    info("master_link_status", |s| s.of_follower(|it| literal(if it.link_is_up { "up" } else { "down" }))),
    other(|s| s.of_follower(|it| u8::from(it.link_is_up))).gauge("kvstore_leader_link_up", "1 if this follower hears its leader."),
    other(|s| s.of_follower(|it| it.hops)).gauge("kvstore_leader_hops",
            "Links from here to the node that leads; 33: a circle, no node leads."),
    info("master_last_io_seconds_ago", |s| s.of_follower(|it| known(it.link_is_up.then(|| s.seconds_since(s.link.heard_at))))),
    info("master_sync_in_progress", |s| s.of_follower(|it| u8::from(it.link_state == "sync"))),
    info("slave_read_repl_offset", |s| s.of_follower(|_| s.appended())),
    info("slave_repl_offset", |s| s.of_follower(|_| s.appended())),
    info("master_link_down_since_seconds", |s| s.of_follower(|it| number((!it.link_is_up).then(|| s.seconds_since(s.link.changed_at))))).status("leader.down_seconds"),
    info("kvstore_link_error", |s| s.of_follower(|it| if it.link_is_up { Value::None } else {
        text(s.link.error.as_ref().map(|error| error.replace(['\r', '\n'], " ")))
    })).status("leader.error"),
    info("slave_priority", |s| s.of_follower(|_| s.int(Id::ReplicaPriority))),
    info("slave_read_only", |s| s.of_follower(|_| 1)),
    info("replica_announced", |s| s.of_follower(|_| 1)),
    info("kvstore_leader_seq", |s| s.of_follower(|_| s.link.leader_seq)).status("leader.seq"),
    info("kvstore_lag_records", |s| s.of_follower(|_| s.link.leader_seq.0.saturating_sub(s.appended().0))).status("leader.lag_records").gauge("kvstore_lag_records", "Records that this follower lacks."),
    info("kvstore_lag_ms", |s| s.of_follower(|_| s.engine.role.freshness.staleness_ms(s.now).map_or(Value::Unknown, Value::Millis))).status("leader.lag_ms")
        .gauge("kvstore_lag_seconds", "How old this follower's state is, if it knows."),
    // The followers of this node.
    info("connected_slaves", |s| s.replicas.len().into()),
    other(|s| s.replicas_by_address().len().into()).gauge("kvstore_replicas", "Followers that are linked."),
    info("min_slaves_good_slaves", |s| number((s.engine.config.int(Id::MinReplicasToWrite) > 0).then(|| s.engine.followers.good(&s.engine.config, s.now)))),
    fields(follower_fields),
    samples(|s, out| by_replica(s, out, |lag| lag.records as f64))
        .gauge("kvstore_replica_lag_records", "Records that a follower lacks."),
    samples(|s, out| by_replica(s, out, |lag| lag.bytes as f64))
        .gauge("kvstore_replica_lag_bytes", "Bytes of log that a follower lacks."),
    samples(|s, out| by_replica(s, out, |lag| lag.millis as f64 / 1e3))
        .gauge("kvstore_replica_lag_seconds", "How long a follower has been lacking something."),
    // The history.
    info("master_failover_state", |_| literal("no-failover")),
    info("master_replid", |s| text(history_id(s))),
    info("master_replid2", |_| text("0".repeat(40))),
    info("master_repl_offset", |s| s.appended().into()),
    info("second_repl_offset", |_| Value::Unknown),
    info("repl_backlog_active", |s| Value::Flag(s.log.is_some())),
    info("repl_backlog_size", |s| s.int(Id::ReplBacklogSize)),
    // In records, as all offsets.
    info("repl_backlog_first_byte_offset", |s| match s.records_kept() { 0 => 0, kept => s.appended().0 + 1 - kept }.into()),
    info("repl_backlog_histlen", |s| s.records_kept().into()),
    info("kvstore_full_copies_sent", |s| s.engine.followers.full_copies.get().into()),
    info("kvstore_links_continued", |s| s.engine.followers.continued.get().into()),
    info("kvstore_links", |s| s.link.links.into()),
    info("kvstore_full_copies_received", |s| s.link.full_copies.into()),
    info("kvstore_rejected", |s| s.link.rejected.into()),
    info("kvstore_diverged_records", |s| s.link.diverged_records.into())
        .counter("kvstore_diverged_records_total", "Records that only this node had, and gave up."),
    info("kvstore_diverged_file", |s| text(s.link.diverged_file.clone())),
];

#[rustfmt::skip]
const CPU: &[Figure] = &[
    info("used_cpu_sys", |s| format!("{:.6}", s.cpu.unwrap_or_default()[1]).into()),
    info("used_cpu_user", |s| format!("{:.6}", s.cpu.unwrap_or_default()[0]).into()),
    // There are no child processes.
    info("used_cpu_sys_children", |_| literal("0.000000")),
    info("used_cpu_user_children", |_| literal("0.000000")),
    samples(by_mode).counter("kvstore_process_cpu_seconds_total", "CPU time of the process, by mode."),
];

#[rustfmt::skip]
const COMMANDS: &[Figure] = &[
    fields(command_fields),
    samples(calls).counter("kvstore_commands_total", "Commands that ran, by name."),
    samples(durations).histogram("kvstore_command_duration_seconds", "Time in commands, by name."),
    samples(|s, out| by_command(s, out, |stats| &stats.failed))
        .counter("kvstore_command_failures_total", "Commands that ran and failed, by name."),
    samples(|s, out| by_command(s, out, |stats| &stats.rejected))
        .counter("kvstore_command_rejections_total", "Commands refused before they ran, by name."),
];

const ERRORS: &[Figure] = &[
    fields(error_fields),
    samples(by_error).counter("kvstore_errors_total", "Error replies, by their first word."),
];

#[rustfmt::skip]
const KEYSPACE: &[Figure] = &[
    info("db0", |s| {
        let data = &s.memory.data;
        let shown = || format!("keys={},expires={},avg_ttl=0", data.keys, data.volatile);
        text((data.keys > 0).then(shown))
    }),
    other(|s| s.memory.data.keys.into()).status("keys.total").gauge("kvstore_keys", "Keys in the table."),
    other(|s| s.memory.data.volatile.into()).status("keys.volatile").gauge("kvstore_keys_with_deadline", "Keys that will expire."),
];

/// 40 hex digits that name this node's history: its newest epoch, by number and first record.
fn history_id(seen: &Seen<'_>) -> String {
    let newest = seen.log.as_ref().and_then(|log| log.log.outline().epochs.last());
    match newest {
        Some(Position { seq, epoch, crc }) => {
            format!("{:016x}{:016x}{crc:08x}", epoch.0, seq.0)
        }
        None => seen.engine.run_id.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::figure::{COUNTER, Family, Read};
    use super::*;

    #[test]
    fn names_are_unique_and_follow_the_rules() {
        let mut names = std::collections::BTreeSet::new();
        for figure in figures() {
            for (page, name) in [("INFO", figure.field), ("status.json", figure.status)] {
                assert!(name.is_empty() || names.insert((page, name)), "{name} twice in {page}");
            }
            let Some(Family { name, kind, help }) = &figure.family else { continue };
            assert!(names.insert(("metrics", name)), "{name} twice");
            assert!(name.starts_with("kvstore_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == COUNTER, "{name}");
            assert!(help.ends_with('.') && !help.contains(['\n', '\\']), "{name}");
        }
        let read_only_once = figures().all(|figure| match figure.read {
            Read::One(_) => true,
            Read::Fields(_) => figure.family.is_none() && figure.status.is_empty(),
            Read::Samples(_) => figure.family.is_some() && figure.field.is_empty(),
        });
        assert!(read_only_once, "a row with many values is on one page");
    }
}
