//! `INFO replication`, with Redis's names, and what only we have.

use super::info::field;
use crate::aof::epochs::EpochStart;
use crate::cluster::progress::{Lag, ReplicaProgress};
use crate::config::Id;
use crate::engine::{Engine, Persistence};
use crate::store::effect::Seq;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Offsets are seqs: they grow with each record, and are the same on all nodes of one history.
pub fn replication(engine: &Engine, page: &mut String) {
    let persistence = engine.persistence.as_ref();
    let appended = persistence.map_or(Seq(0), |persistence| persistence.log.appended());
    if engine.role.is_follower() {
        field(page, "role", "slave");
        following(engine, page, appended);
    } else {
        field(page, "role", "master");
    }
    followers(engine, page, persistence, appended);
    history(engine, page, persistence, appended);
}

fn following(engine: &Engine, page: &mut String, applied: Seq) {
    let figures = engine.role.figures.lock().clone();
    let is_up = engine.role.link_is_up();
    let now = engine.uptime_ms();
    let leader = engine.role.leader();
    field(page, "master_host", leader.as_ref().map_or("", |leader| &leader.host));
    field(page, "master_port", leader.as_ref().map_or(0, |leader| leader.port));
    field(page, "master_link_status", if is_up { "up" } else { "down" });
    let silent = if is_up { (now.saturating_sub(figures.heard_at) / 1000) as i64 } else { -1 };
    field(page, "master_last_io_seconds_ago", silent);
    field(page, "master_sync_in_progress", u8::from(engine.role.link_state() == "sync"));
    field(page, "slave_read_repl_offset", applied);
    field(page, "slave_repl_offset", applied);
    if !is_up {
        let down_ms = now.saturating_sub(figures.changed_at);
        field(page, "master_link_down_since_seconds", down_ms / 1000);
        if let Some(error) = &figures.error {
            field(page, "kvstore_link_error", error.replace(['\r', '\n'], " "));
        }
    }
    field(page, "slave_priority", engine.config.int(Id::ReplicaPriority));
    field(page, "slave_read_only", 1);
    field(page, "replica_announced", 1);
    field(page, "kvstore_leader_seq", figures.leader_seq);
    field(page, "kvstore_lag_records", figures.leader_seq.0.saturating_sub(applied.0));
    field(
        page,
        "kvstore_lag_ms",
        engine.role.freshness.staleness_ms(now).map_or(-1, |ms| ms as i64),
    );
}

fn followers(engine: &Engine, page: &mut String, persistence: Option<&Persistence>, appended: Seq) {
    let followers = engine.followers.all();
    field(page, "connected_slaves", followers.len());
    if engine.config.int(Id::MinReplicasToWrite) > 0 {
        field(page, "min_slaves_good_slaves", engine.good_followers());
    }
    let bytes = persistence.map_or(0, |persistence| persistence.log.readable_end().bytes);
    let now = engine.uptime_ms();
    for (number, follower) in followers.iter().enumerate() {
        let lag = follower.lag(appended, bytes, now);
        let state = if follower.online.load(Relaxed) { "online" } else { "send_bulk" };
        let value = format!(
            "ip={},port={},state={state},offset={},lag={},lag_records={},lag_bytes={},lag_ms={},\
             durable={}",
            follower.host,
            follower.port,
            follower.applied(),
            follower.silent_ms(now) / 1000,
            lag.records,
            lag.bytes,
            lag.millis,
            follower.durable(),
        );
        field(page, &format!("slave{number}"), value);
    }
}

fn history(engine: &Engine, page: &mut String, persistence: Option<&Persistence>, appended: Seq) {
    let newest = persistence.and_then(|own| own.log.with_epochs(|epochs| epochs.last()));
    field(page, "master_failover_state", "no-failover");
    field(page, "master_replid", newest.map_or(engine.run_id.clone(), replication_id));
    field(page, "master_replid2", "0".repeat(40));
    field(page, "master_repl_offset", appended);
    field(page, "second_repl_offset", -1);
    field(page, "repl_backlog_active", u8::from(persistence.is_some()));
    field(page, "repl_backlog_size", engine.config.int(Id::ReplBacklogSize));
    // In records, as all offsets are.
    let kept = persistence.map_or(0, |persistence| persistence.records_kept(appended));
    field(page, "repl_backlog_first_byte_offset", if kept > 0 { appended.0 + 1 - kept } else { 0 });
    field(page, "repl_backlog_histlen", kept);
    let figures = engine.role.figures.lock().clone();
    field(page, "kvstore_full_copies_sent", engine.followers.full_copies.get());
    field(page, "kvstore_links_continued", engine.followers.continued.get());
    field(page, "kvstore_links", figures.links);
    field(page, "kvstore_full_copies_received", figures.full_copies);
    field(page, "kvstore_rejected", figures.rejected);
    field(page, "kvstore_diverged_records", figures.diverged_records);
    if let Some(file) = figures.diverged_file {
        field(page, "kvstore_diverged_file", file);
    }
}

/// 40 hex digits that name a history: its newest epoch, by number and first record.
fn replication_id(EpochStart { epoch, first, crc }: EpochStart) -> String {
    format!("{:016x}{:016x}{crc:08x}", epoch.0, first.0)
}

impl Engine {
    /// Whether each follower has got past its full copy, and how far it is behind, by its address. Of two
    /// links to one, of which the older is about to end, the newer counts.
    pub(crate) fn lags(&self) -> BTreeMap<String, (bool, Lag)> {
        let log = self.persistence.as_ref().map(|persistence| &persistence.log);
        let (appended, bytes) =
            log.map_or((Seq(0), 0), |log| (log.appended(), log.readable_end().bytes));
        let now = self.uptime_ms();
        let lag = |follower: &Arc<ReplicaProgress>| {
            let address = format!("{}:{}", follower.host, follower.port);
            (address, (follower.online.load(Relaxed), follower.lag(appended, bytes, now)))
        };
        self.followers.all().iter().map(lag).collect()
    }
}
