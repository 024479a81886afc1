//! Figures with a value for each command, follower or error code: fields of INFO, samples with labels.

use super::REDIS_VERSION;
use super::samples::{SECONDS, Samples};
use super::seen::{ReplicaSeen, Seen};
use crate::cluster::members::Voter;
use crate::cluster::progress::Lag;
use crate::cluster::term::NodeId;
use crate::config::Id;
use crate::engine::Engine;
use crate::metrics::{CommandStats, Counter, HistogramSnapshot, Stat};
use std::fmt::{Display, Write};

/// Writes a field of INFO.
pub(super) fn field(page: &mut String, name: impl Display, value: impl Display) {
    write!(page, "{name}:{value}\r\n").expect("writing to a String does not fail");
}

/// The commands that were called or refused, with their counts.
pub(super) fn commands(engine: &Engine) -> impl Iterator<Item = (&'static str, &CommandStats)> {
    let all = engine.commands.rows().iter().zip(&engine.metrics.commands);
    all.map(|(row, stats)| (row.name, stats))
        .filter(|(_, stats)| stats.latency.count() + stats.rejected.get() > 0)
}

/// The commands that were called, with their durations; none if `latency-tracking` is off.
pub(super) fn called(engine: &Engine) -> impl Iterator<Item = (&'static str, HistogramSnapshot)> {
    let is_on = engine.config.flag(Id::LatencyTracking);
    let durations = commands(engine).map(|(name, stats)| (name, stats.latency.snapshot()));
    durations.filter(move |(_, latency)| is_on && latency.count() > 0)
}

/// `cmdstat_get:calls=…`
pub(super) fn command_fields(seen: &Seen<'_>, page: &mut String) {
    for (name, stats) in commands(seen.engine) {
        let (calls, micros) = (stats.latency.count(), stats.latency.sum());
        let each = micros as f64 / calls.max(1) as f64;
        let (rejected, failed) = (stats.rejected.get(), stats.failed.get());
        let value = format_args!(
            "calls={calls},usec={micros},usec_per_call={each:.2},rejected_calls={rejected},\
             failed_calls={failed}"
        );
        field(page, format_args!("cmdstat_{name}"), value);
    }
}

/// `latency_percentiles_usec_get:p50=…`
pub(super) fn percentile_fields(seen: &Seen<'_>, page: &mut String) {
    let percentiles = seen.engine.config.text(Id::LatencyTrackingInfoPercentiles);
    for (name, latency) in called(seen.engine) {
        let at = |percentile: &str| {
            let share: f64 = percentile.parse().unwrap_or_default();
            format!("p{percentile}={:.3}", latency.percentile(share / 100.0) as f64)
        };
        let values: Vec<String> = percentiles.split_ascii_whitespace().map(at).collect();
        field(page, format_args!("latency_percentiles_usec_{name}"), values.join(","));
    }
}

/// `errorstat_ERR:count=…`
pub(super) fn error_fields(seen: &Seen<'_>, page: &mut String) {
    for (code, count) in seen.metrics.errors() {
        field(page, format_args!("errorstat_{code}"), format_args!("count={count}"));
    }
}

/// `slave0:ip=…`
pub(super) fn follower_fields(seen: &Seen<'_>, page: &mut String) {
    for (number, replica) in seen.replicas.iter().enumerate() {
        let ReplicaSeen { progress: follower, online, applied, lag, .. } = replica;
        let state = if *online { "online" } else { "send_bulk" };
        let value = format_args!(
            "ip={},port={},state={state},offset={applied},lag={},lag_records={},lag_bytes={},lag_ms={},\
             durable={}",
            follower.host,
            follower.port,
            follower.silent_ms(seen.now) / 1000,
            lag.records,
            lag.bytes,
            lag.millis,
            follower.durable(),
        );
        field(page, format_args!("slave{number}"), value);
    }
}

/// A member of the cluster.
pub(super) struct Member {
    id: NodeId,
    pub address: String,
    pub leads: bool,
    pub is_this_node: bool,
    /// The lag of its log. Only the leader knows it, and only of members with a link.
    pub lag: Option<Lag>,
    /// True if this node has a connection to it, or is it.
    pub answers: bool,
}

impl Member {
    pub fn part(&self) -> &'static str {
        if self.leads { "leader" } else { "follower" }
    }
}

/// The members that the newest record names, in its order.
pub(super) fn members(seen: &Seen<'_>) -> Vec<Member> {
    // A node that is in no cluster any more still names the members that its log has.
    let cluster = seen.engine.cluster.as_ref();
    let answering = cluster.map(|cluster| cluster.answering()).unwrap_or_default();
    let member = |Voter { id, address }: &Voter| {
        let link = seen.replicas.iter().find(|link| link.progress.node_id == id.to_string());
        let is_this_node = cluster.is_some_and(|cluster| cluster.id == *id);
        Member {
            leads: *address == seen.elected_leader,
            answers: answering.contains(id),
            id: *id,
            address: address.clone(),
            is_this_node,
            lag: link.map(|link| link.lag),
        }
    };
    seen.members.iter().flat_map(|members| &members.voters).map(member).collect()
}

/// The members of the cluster, each with its part and, on the leader, how far it has come.
pub(super) fn member_fields(seen: &Seen<'_>, page: &mut String) {
    for (number, member) in members(seen).into_iter().enumerate() {
        let lag = member.lag.map_or(String::new(), |lag| format!(",lag_records={}", lag.records));
        let own = if member.is_this_node { ",this_node" } else { "" };
        let (id, address, part) = (member.id, &member.address, member.part());
        let value = format_args!("id={id},address={address},part={part}{lag}{own}");
        field(page, format_args!("kvstore_member{number}"), value);
    }
}

pub(super) fn calls(seen: &Seen<'_>, out: &mut Samples<'_>) {
    for (name, stats) in commands(seen.engine) {
        out.labelled(&[("command", name)], stats.latency.count());
    }
}

/// A sample for each command whose counter is not at 0.
pub(super) fn by_command(
    seen: &Seen<'_>,
    out: &mut Samples<'_>,
    counter: fn(&CommandStats) -> &Counter,
) {
    for (name, stats) in commands(seen.engine).filter(|(_, stats)| counter(stats).get() > 0) {
        out.labelled(&[("command", name)], counter(stats).get());
    }
}

pub(super) fn durations(seen: &Seen<'_>, out: &mut Samples<'_>) {
    for (name, stats) in commands(seen.engine) {
        let latency = stats.latency.snapshot();
        if latency.count() > 0 {
            out.histogram(Some(("command", name)), &latency, &SECONDS);
        }
    }
}

pub(super) fn by_replica(seen: &Seen<'_>, out: &mut Samples<'_>, value: fn(&Lag) -> f64) {
    for (address, replica) in seen.replicas_by_address() {
        out.labelled(&[("replica", address)], value(&replica.lag));
    }
}

pub(super) fn by_error(seen: &Seen<'_>, out: &mut Samples<'_>) {
    for (code, count) in seen.metrics.errors() {
        out.labelled(&[("code", &code)], count);
    }
}

pub(super) fn by_limit(seen: &Seen<'_>, out: &mut Samples<'_>) {
    let count = |stat| seen.metrics[stat].get();
    let subscribers = count(Stat::SubscriberLimitDisconnections);
    let others = count(Stat::OutputLimitDisconnections).saturating_sub(subscribers);
    out.labelled(&[("limit", "query_buffer")], count(Stat::QueryLimitDisconnections));
    out.labelled(&[("limit", "output_buffer")], others);
    out.labelled(&[("limit", "subscriber_output_buffer")], subscribers);
}

pub(super) fn by_mode(seen: &Seen<'_>, out: &mut Samples<'_>) {
    for (mode, seconds) in ["user", "system"].iter().zip(seen.cpu.into_iter().flatten()) {
        out.labelled(&[("mode", mode)], seconds);
    }
}

pub(super) fn build_info(_: &Seen<'_>, out: &mut Samples<'_>) {
    let version = env!("CARGO_PKG_VERSION");
    out.labelled(&[("version", version), ("redis_version", REDIS_VERSION)], 1);
}
