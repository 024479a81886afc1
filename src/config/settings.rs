//! The table of settings: the one place where an option is described.
//!
//! Flags, `KVSTORE_…` variables, the configuration file, CONFIG GET, SET and REWRITE, and `--help`
//! are all read from [`SETTINGS`]. To add a setting, add a variant to [`Id`] and, at the same place
//! in the table, a row; nothing else. A setting bears redis.conf's name where it means the same.
//! A row is shown to everyone, so it arrives together with the feature that obeys it.

use super::kind::{
    Kind, address, bind_addresses, fsync_policy, host_names, metrics_port, no_save_points,
    percentiles,
};

/// Names a setting in code. The number of a variant is the index of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "a variant means what its row says")]
pub enum Id {
    Port,
    Bind,
    Maxclients,
    Timeout,
    TcpKeepalive,
    TcpBacklog,
    WorkerIdleTimeout,
    MetricsPort,
    MetricsBind,
    MetricsHost,
    Requirepass,
    RequirepassFile,
    NoPassword,
    InlineReplies,
    ProtoMaxBulkLen,
    ClientQueryBufferLimit,
    ClientOutputBufferLimit,
    Maxmemory,
    MaxmemoryPolicy,
    MaxmemorySamples,
    LfuLogFactor,
    LfuDecayTime,
    Loglevel,
    Hz,
    NotifyKeyspaceEvents,
    ShutdownTimeout,
    SlowlogLogSlowerThan,
    SlowlogMaxLen,
    LatencyMonitorThreshold,
    LatencyTracking,
    LatencyTrackingInfoPercentiles,
    Appendonly,
    Dir,
    Appendfsync,
    SegmentSize,
    AutoCompactPercentage,
    AutoCompactMinSize,
    CompactRate,
    SetAsideWarnSize,
    Replicaof,
    Masterauth,
    ReplTimeout,
    ReplBacklogSize,
    ReplRetentionBytes,
    ReplicaServeStaleData,
    ReplicaMaxStaleness,
    ReplicaPriority,
    ReplicaAnnounceIp,
    ReplicaAnnouncePort,
    MinReplicasToWrite,
    MinReplicasMaxLag,
    Databases,
    Save,
    ReplicaReadOnly,
}

impl Id {
    /// The row that describes this setting.
    pub fn setting(self) -> &'static Setting {
        &SETTINGS[self as usize]
    }
}

/// One row of the table.
pub struct Setting {
    /// What code calls it.
    pub id: Id,
    /// What people call it: lower case, words joined by `-`.
    pub name: &'static str,
    /// A second name that is understood everywhere, usually an older one of Redis's.
    pub alias: Option<&'static str>,
    /// Which values there are, and how they are written.
    pub kind: Kind,
    /// The value if nobody gives one, written as in a configuration file.
    pub default: &'static str,
    /// Whether CONFIG SET may change it while the server runs.
    pub at_run_time: bool,
    /// The heading of the group that this row opens in `--help`.
    pub heading: Option<&'static str>,
    /// For `--help`: what it is.
    pub meaning: &'static str,
    /// For `--help`: what the other values would do.
    pub alternatives: &'static str,
    /// For `--help`: what to do if unsure; completes "If unsure, …".
    pub if_unsure: &'static str,
}

/// In the order in which Redis names them.
const POLICIES: &[&str] = &[
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "noeviction",
];

const MB: i64 = 1024 * 1024;
/// A key's length and a record's have 32 bits. A record holds what a transaction has written when its last
/// command begins, and what that command writes: a request, a key and a value at most.
const REQUEST_BYTES: Kind = Kind::Capped { min: MB, cap: 1 << 30 };
/// Redis's bound of its `int` settings.
const INT_MAX: i64 = i32::MAX as i64;

/// Every setting, in the order of [`Id`], of CONFIG GET and of `--help`.
pub static SETTINGS: &[Setting] = &[
    setting(Id::Port, "port", number(0, 65_535), "8080")
        .heading("Network")
        .only_at_start()
        .means("The TCP port to listen on.")
        .alternatives("0 takes any free port and logs which.")
        .if_unsure("keep it."),
    setting(Id::Bind, "bind", Kind::Checked("ADDRESSES", bind_addresses), "127.0.0.1")
        .only_at_start()
        .means("The addresses to listen on, separated by blanks: IPv4, IPv6 or localhost.")
        .alternatives(
            "* (or 0.0.0.0) listens on every IPv4 address. An address that other machines can \
             reach needs a password, or no-password.",
        )
        .if_unsure("keep it: only programs on this machine can connect."),
    setting(Id::Maxclients, "maxclients", number(1, u32::MAX as i64), "10000")
        .means("How many clients may be connected at once. One more is told so and closed.")
        .alternatives("Fewer where memory is short: each client costs a thread and its stack.")
        .if_unsure("keep it. It is lowered to what the limit on open files allows."),
    setting(Id::Timeout, "timeout", seconds(0, INT_MAX), "0")
        .means("A client that is silent for this many seconds is disconnected.")
        .alternatives("0 lets clients be silent for ever.")
        .if_unsure("keep it: tcp-keepalive already finds the dead ones."),
    setting(Id::TcpKeepalive, "tcp-keepalive", seconds(0, INT_MAX), "300")
        .means("After this many silent seconds the kernel probes whether the peer is alive.")
        .alternatives("0 turns the probes off; less than 300 finds dead peers sooner.")
        .if_unsure("keep it."),
    setting(Id::TcpBacklog, "tcp-backlog", number(1, INT_MAX), "511")
        .only_at_start()
        .means("How many connections may wait in the kernel to be accepted.")
        .alternatives("More for bursts of connections; the kernel caps it at net.core.somaxconn.")
        .if_unsure("keep it."),
    setting(Id::WorkerIdleTimeout, "worker-idle-timeout", seconds(1, INT_MAX), "60")
        .means("A worker thread that has served no client for this many seconds ends.")
        .alternatives("More saves starting threads when connections come in waves.")
        .if_unsure("keep it."),
    setting(Id::MetricsPort, "metrics-port", Kind::Checked("PORT", metrics_port), "auto")
        .heading("Status page and metrics")
        .only_at_start()
        .means(
            "The port of the status page (/), of Prometheus's /metrics, of /healthz, /readyz and \
             /status.json. auto is the one after port, so 8081; it is done without if that is taken, \
             and left to a kvstore that is started later and needs it.",
        )
        .alternatives("0 turns all of them off. A number is used or refused, never given up.")
        .if_unsure("keep it; give a number where something scrapes the metrics."),
    setting(Id::MetricsBind, "metrics-bind", Kind::Checked("ADDRESSES", bind_addresses), "127.0.0.1")
        .only_at_start()
        .means("The addresses that the status page listens on, written as those of bind.")
        .alternatives(
            "Others let other machines read it, and no password is asked for. It shows names of \
             commands, figures and addresses of clients; keys and values only while it is on loopback \
             and there is no password. It runs no command and changes nothing.",
        )
        .if_unsure("keep it."),
    setting(Id::MetricsHost, "metrics-host", Kind::Checked("NAMES", host_names), "")
        .only_at_start()
        .means(
            "Host names under which browsers and Prometheus may ask for the status page, besides \
             localhost and the address that they connected to. Others are refused: a web page \
             elsewhere could make its own name point here (DNS rebinding).",
        )
        .alternatives("* takes any name, for a proxy that checks them.")
        .if_unsure("leave it empty."),
    setting(Id::Requirepass, "requirepass", Kind::Secret, "")
        .heading("Access")
        .means("The password that clients must give with AUTH before anything else.")
        .alternatives("Empty asks for none. A flag is visible in `ps`: prefer requirepass-file.")
        .if_unsure("leave it empty while bind is 127.0.0.1."),
    setting(Id::RequirepassFile, "requirepass-file", Kind::Text("FILE"), "")
        .only_at_start()
        .means("A file whose first line is the password. It is read once, at start.")
        .alternatives("Empty reads none. A requirepass that is not empty wins over it.")
        .if_unsure("use this for the password, with a file that only the server can read."),
    setting(Id::NoPassword, "no-password", Kind::YesNo, "no")
        .only_at_start()
        .means("Allows serving other machines without a password.")
        .alternatives("yes, if everyone who can reach the port may read and erase everything.")
        .if_unsure("keep it and set a password."),
    setting(Id::InlineReplies, "inline-replies", Kind::Choice(&["text", "resp"]), "text")
        .heading("Protocol and limits")
        .means("How a command typed as a plain line is answered.")
        .alternatives(
            "text is for people and shell scripts; resp is for tools that begin with a plain PING and \
             expect +PONG, as Redis answers. A connection that has sent RESP, or a line with HELLO 2 or \
             HELLO 3, gets RESP either way.",
        )
        .if_unsure("keep it."),
    setting(Id::ProtoMaxBulkLen, "proto-max-bulk-len", REQUEST_BYTES, "512mb")
        .means("The longest single argument that a client may send, in bytes.")
        .alternatives("Less protects memory; more allows larger values.")
        .if_unsure("keep it."),
    setting(Id::ClientQueryBufferLimit, "client-query-buffer-limit", REQUEST_BYTES, "1gb")
        .means("How many bytes of unfinished requests one client may have in memory.")
        .alternatives("Less protects memory from many clients that send large requests.")
        .if_unsure("keep it."),
    setting(
        Id::ClientOutputBufferLimit,
        "client-output-buffer-limit",
        Kind::OutputLimits,
        "normal 256mb 0 0 replica 256mb 64mb 60 pubsub 32mb 8mb 60",
    )
    .means(
        "How many bytes of replies may wait for a client that is slow to read, as `class hard \
         soft seconds` for the classes normal, replica and pubsub. A client over hard, or over \
         soft for that many seconds, is disconnected. A reply counts while it is made; only one that \
         is a single value may exceed hard.",
    )
    .alternatives(
        "0 means no limit; classes that are not named stay as they are. Unlike Redis, normal is \
         bounded by default: a client that pipelines for ever and never reads would otherwise \
         take all memory.",
    )
    .if_unsure("keep it."),
    setting(Id::Maxmemory, "maxmemory", bytes(0, i64::MAX), "0")
        .heading("Memory")
        .means(
            "How much memory may be in use: keys and values, what clients wait to send or read and \
             subscribe to, and what waits to be written to the log or sent to followers. Over it, \
             maxmemory-policy decides.",
        )
        .alternatives("0 means no limit.")
        .if_unsure("give a cache two thirds of the memory that you can spare."),
    setting(Id::MaxmemoryPolicy, "maxmemory-policy", Kind::Choice(POLICIES), "noeviction")
        .means("Which keys go when memory is over maxmemory.")
        .alternatives(
            "noeviction: none; commands that need memory are refused. allkeys-lru: those not used for \
             longest. allkeys-lfu: those used least often. allkeys-random: any. volatile-…: the same \
             among keys with a deadline; volatile-ttl: those that would expire soonest.",
        )
        .if_unsure("keep it for data, and take allkeys-lru or allkeys-lfu for a cache."),
    setting(Id::MaxmemorySamples, "maxmemory-samples", number(1, INT_MAX), "5")
        .means("Among how many random keys the next one to go is looked for.")
        .alternatives("10 is nearer to the true order and costs more CPU; over 64 count as 64.")
        .if_unsure("keep it."),
    setting(Id::LfuLogFactor, "lfu-log-factor", number(0, INT_MAX), "10")
        .means("How slowly the counter of a key's uses grows under an LFU policy.")
        .alternatives("10 tells up to a million uses apart, 100 ten million; 0 counts up to 255.")
        .if_unsure("keep it."),
    setting(Id::LfuDecayTime, "lfu-decay-time", Kind::Int { min: 0, max: INT_MAX, unit: "MINUTES" }, "1")
        .means("How many minutes without a use take one off that counter.")
        .alternatives("More remembers longer; 0 never forgets.")
        .if_unsure("keep it."),
    setting(
        Id::Loglevel,
        "loglevel",
        Kind::Choice(&["debug", "verbose", "notice", "warning"]),
        "notice",
    )
    .heading("Operation")
    .means("The least serious messages to log.")
    .alternatives("debug tells most, warning least.")
    .if_unsure("keep it."),
    setting(Id::Hz, "hz", number(1, 500), "10")
        .means("How many times a second the sweeper looks for expired keys.")
        .alternatives("More frees memory sooner and costs more CPU while nothing happens.")
        .if_unsure("keep it."),
    setting(Id::NotifyKeyspaceEvents, "notify-keyspace-events", Kind::EventClasses, "")
        .means(
            "Which events about keys are published: K on channels __keyspace@0__:<key>, E on \
             __keyevent@0__:<event>, and of these classes: g generic, $ string, x expired, \
             e evicted, n new, m missed; A is all but n and m. A follower publishes what it applies, by \
             its own setting.",
        )
        .alternatives("Empty, or without K and E, publishes nothing and costs nothing.")
        .if_unsure("keep it empty."),
    setting(Id::ShutdownTimeout, "shutdown-timeout", seconds(0, INT_MAX), "10")
        .means(
            "How many seconds a shutdown may take: for clients to take their last replies, followers the \
             rest of the log, and threads to end. Only the last sync of the log has all the time that the \
             disk needs.",
        )
        .alternatives("0 waits for nobody.")
        .if_unsure("keep it."),
    setting(Id::SlowlogLogSlowerThan, "slowlog-log-slower-than", number(-1, i64::MAX), "10000")
        .heading("Seeing")
        .means(
            "A command that takes so many microseconds, by itself or until the log is as safe as \
             promised, is kept for SLOWLOG GET.",
        )
        .alternatives("0 keeps every command, -1 none.")
        .if_unsure("keep it."),
    setting(Id::SlowlogMaxLen, "slowlog-max-len", number(0, i64::MAX), "128")
        .means("How many slow commands are kept. The oldest are forgotten.")
        .alternatives("More shows a longer past; each takes up to 4 KiB.")
        .if_unsure("keep it."),
    setting(Id::LatencyMonitorThreshold, "latency-monitor-threshold", number(0, i64::MAX), "0")
        .means("Events that take so many milliseconds are kept for LATENCY LATEST and HISTORY.")
        .alternatives("0 keeps none.")
        .if_unsure("keep it, and set it to 10 or 100 when something seems to be slow."),
    setting(Id::LatencyTracking, "latency-tracking", Kind::YesNo, "yes")
        .means("Whether INFO latencystats and LATENCY HISTOGRAM show how long commands take.")
        .alternatives("no hides it. It is counted all the same: that costs nothing to speak of.")
        .if_unsure("keep it."),
    setting(
        Id::LatencyTrackingInfoPercentiles,
        "latency-tracking-info-percentiles",
        Kind::Checked("PERCENTILES", percentiles),
        "50 99 99.9",
    )
    .means("Which percentiles INFO latencystats shows, separated by blanks.")
    .alternatives("Any numbers from 0 to 100; none shows none.")
    .if_unsure("keep it."),
    setting(Id::Appendonly, "appendonly", Kind::YesNo, "yes")
        .heading("Durability")
        .only_at_start()
        .means("Whether writes are logged to disk and are there again after a restart.")
        .alternatives("no makes a pure cache: nothing is written, everything is lost at the end.")
        .if_unsure("keep it."),
    setting(Id::Dir, "dir", Kind::Text("DIR"), "data")
        .only_at_start()
        .means("The directory that holds the data. It is made if it is not there.")
        .alternatives("A directory serves one server at a time; a second one is refused.")
        .if_unsure("keep it, or name a directory on a disk that you back up."),
    setting(Id::Appendfsync, "appendfsync", Kind::Checked("POLICY", fsync_policy), "everysec")
        .means(
            "When the log is forced to the disk. Whatever is chosen, killing the server loses \
             nothing that it acknowledged; this is about power cuts and crashes of the system.",
        )
        .alternatives(
            "always: before each acknowledgement. An interval such as 100ms (everysec is 1s): a \
             power cut may lose that much. no: whenever the system likes.",
        )
        .if_unsure("keep it, or take always if a lost second is one too many."),
    setting(Id::SegmentSize, "segment-size", bytes(1 << 10, 1 << 40), "64mb")
        .means("The log goes on in a new file when one has reached this size.")
        .alternatives("Less frees disk space in smaller steps; more makes fewer files.")
        .if_unsure("keep it."),
    setting(Id::AutoCompactPercentage, "auto-compact-percentage", number(0, INT_MAX), "100")
        .alias("auto-aof-rewrite-percentage")
        .means("The log is compacted when it has grown by this much since the last time, in %.")
        .alternatives("0 never compacts by itself; BGREWRITEAOF always does.")
        .if_unsure("keep it."),
    setting(Id::AutoCompactMinSize, "auto-compact-min-size", bytes(0, 1 << 50), "64mb")
        .alias("auto-aof-rewrite-min-size")
        .means("A log smaller than this is not compacted by itself.")
        .alternatives("Less keeps small logs smaller; it is seldom worth the work.")
        .if_unsure("keep it."),
    setting(Id::CompactRate, "compact-rate", bytes(0, 1 << 40), "48mb")
        .means("How many bytes a second a compaction writes at most.")
        .alternatives("0 is as fast as it goes, at the expense of the clients' latency.")
        .if_unsure("keep it."),
    setting(Id::SetAsideWarnSize, "set-aside-warn-size", bytes(0, 1 << 50), "1gb")
        .means(
            "Above this size of quarantine/ and diverged/ together, the log and INFO warn: they hold \
             writes that were cut off or given up, and the server never removes them.",
        )
        .alternatives("0 never warns.")
        .if_unsure("keep it."),
    setting(Id::Replicaof, "replicaof", Kind::Checked("HOST:PORT", address), "")
        .alias("slaveof")
        .heading("Replication")
        .only_at_start()
        .means("The leader that this node follows: it copies all of the leader's data.")
        .alternatives("Empty makes this node a leader. REPLICAOF changes it while the server runs.")
        .if_unsure("leave it empty."),
    setting(Id::Masterauth, "masterauth", Kind::Secret, "")
        .means("The password that this node gives to its leader.")
        .alternatives("Empty gives requirepass, if there is one.")
        .if_unsure("leave it empty and give all nodes the same requirepass."),
    setting(Id::ReplTimeout, "repl-timeout", seconds(1, INT_MAX), "10")
        .means(
            "A replication link that is silent for this many seconds is given up and dialled anew.",
        )
        .alternatives("More for links that stall for long.")
        .if_unsure("keep it."),
    setting(Id::ReplBacklogSize, "repl-backlog-size", bytes(0, 1 << 50), "64mb")
        .means(
            "How many bytes of log are kept behind a compaction, so that a follower that was away \
             can go on where it was.",
        )
        .alternatives("More spares full copies after a longer absence; 0 keeps nothing.")
        .if_unsure("keep it."),
    setting(Id::ReplRetentionBytes, "repl-retention-bytes", bytes(0, 1 << 50), "1gb")
        .means("How many bytes of log are kept behind a compaction for connected followers.")
        .alternatives("A follower that falls further behind is given a full copy.")
        .if_unsure("keep it, or give as much as the disk can spare."),
    setting(Id::ReplicaServeStaleData, "replica-serve-stale-data", Kind::YesNo, "yes")
        .alias("slave-serve-stale-data")
        .means("Whether a follower that has lost its leader goes on answering reads.")
        .alternatives("no answers them with -MASTERDOWN.")
        .if_unsure("keep it."),
    setting(Id::ReplicaMaxStaleness, "replica-max-staleness", millis(0, INT_MAX), "0")
        .means("A follower that is further behind its leader answers reads with -STALE.")
        .alternatives("0 answers them however old the data is.")
        .if_unsure("keep it."),
    setting(Id::ReplicaPriority, "replica-priority", number(0, INT_MAX), "100")
        .alias("slave-priority")
        .means("Sentinel prefers the follower with the lowest number as the next leader.")
        .alternatives("0 is never made leader.")
        .if_unsure("keep it."),
    setting(Id::ReplicaAnnounceIp, "replica-announce-ip", Kind::Text("ADDRESS"), "")
        .alias("slave-announce-ip")
        .means("The address under which others reach this node, told to its leader.")
        .alternatives("Empty lets the leader see where the connection comes from.")
        .if_unsure("leave it empty unless there is address translation in between."),
    setting(Id::ReplicaAnnouncePort, "replica-announce-port", number(0, 65_535), "0")
        .alias("slave-announce-port")
        .means("The port under which others reach this node, told to its leader.")
        .alternatives("0 tells the port that is listened on.")
        .if_unsure("keep it."),
    setting(Id::MinReplicasToWrite, "min-replicas-to-write", number(0, INT_MAX), "0")
        .alias("min-slaves-to-write")
        .means("A leader with fewer followers that keep up refuses writes with -NOREPLICAS.")
        .alternatives("0 asks for none.")
        .if_unsure("keep it."),
    setting(Id::MinReplicasMaxLag, "min-replicas-max-lag", seconds(0, INT_MAX), "10")
        .alias("min-slaves-max-lag")
        .means(
            "A follower that was last heard of more than this many seconds ago does not keep up.",
        )
        .alternatives("0 counts every connected follower.")
        .if_unsure("keep it."),
    setting(Id::Databases, "databases", number(1, 1), "1")
        .heading("Fixed: there because clients ask")
        .only_at_start()
        .means("How many numbered databases there are: only database 0."),
    setting(Id::Save, "save", Kind::Checked("\"\"", no_save_points), "")
        .means("Redis's snapshot schedule. There is none here, so only the empty value is taken."),
    setting(Id::ReplicaReadOnly, "replica-read-only", Kind::Choice(&["yes"]), "yes")
        .alias("slave-read-only")
        .only_at_start()
        .means("A replica takes no writes from clients."),
];

/// A row with nothing said about it yet; the methods below say it.
const fn setting(id: Id, name: &'static str, kind: Kind, default: &'static str) -> Setting {
    Setting {
        id,
        name,
        alias: None,
        kind,
        default,
        at_run_time: true,
        heading: None,
        meaning: "",
        alternatives: "",
        if_unsure: "",
    }
}

const fn number(min: i64, max: i64) -> Kind {
    Kind::Int { min, max, unit: "NUMBER" }
}

const fn seconds(min: i64, max: i64) -> Kind {
    Kind::Int { min, max, unit: "SECONDS" }
}

const fn millis(min: i64, max: i64) -> Kind {
    Kind::Int { min, max, unit: "MILLISECONDS" }
}

const fn bytes(min: i64, max: i64) -> Kind {
    Kind::Bytes { min, max }
}

impl Setting {
    const fn alias(self, alias: &'static str) -> Self {
        Self { alias: Some(alias), ..self }
    }

    const fn heading(self, heading: &'static str) -> Self {
        Self { heading: Some(heading), ..self }
    }

    const fn only_at_start(self) -> Self {
        Self { at_run_time: false, ..self }
    }

    const fn means(self, meaning: &'static str) -> Self {
        Self { meaning, ..self }
    }

    const fn alternatives(self, alternatives: &'static str) -> Self {
        Self { alternatives, ..self }
    }

    const fn if_unsure(self, if_unsure: &'static str) -> Self {
        Self { if_unsure, ..self }
    }

    /// The setting's names: its own, then its alias.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        std::iter::once(self.name).chain(self.alias)
    }
}

/// The setting of this name or alias, in upper or lower case.
pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|s| s.names().any(|known| known.eq_ignore_ascii_case(name)))
}

/// The known name that `name` was probably meant to be, if any is close.
pub fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let known = SETTINGS.iter().flat_map(Setting::names);
    let (distance, best) = known.map(|k| (edits(&name, k), k)).min()?;
    (distance <= 2.max(best.len() / 3) && distance < best.len()).then_some(best)
}

/// Levenshtein's distance: how many bytes to insert, delete or replace to turn `a` into `b`.
fn edits(a: &str, b: &str) -> usize {
    // row[j] is the distance between what was read of `a` and the first j bytes of `b`.
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_their_ids() {
        for (index, row) in SETTINGS.iter().enumerate() {
            assert_eq!(row.id as usize, index, "{} is out of place", row.name);
        }
        assert_eq!(Id::ReplicaReadOnly as usize + 1, SETTINGS.len(), "an Id has no row");
    }

    #[test]
    fn every_row_is_well_formed() {
        for row in SETTINGS {
            assert!(row.kind.parse(row.default).is_ok(), "{}: its default is refused", row.name);
            assert!(row.meaning.ends_with('.'), "{}: say what it means", row.name);
            for name in row.names() {
                let tidy = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
                assert!(tidy, "{name}: names are lower case with dashes");
                assert_eq!(find(name).map(|s| s.id), Some(row.id), "{name} is used twice");
            }
        }
    }

    #[test]
    fn every_choice_is_explained() {
        for row in SETTINGS.iter().take(Id::Databases as usize) {
            assert!(!row.alternatives.is_empty(), "{}: name the alternatives", row.name);
            assert!(!row.if_unsure.is_empty(), "{}: say what to do if unsure", row.name);
        }
    }

    #[test]
    fn names_are_found_in_any_case_and_by_alias() {
        assert_eq!(find("MaxClients").map(|s| s.id), Some(Id::Maxclients));
        assert_eq!(find("slave-read-only").map(|s| s.id), Some(Id::ReplicaReadOnly));
        assert!(find("maxclient").is_none());
    }

    #[test]
    fn the_nearest_name_is_near() {
        assert_eq!(nearest("prot"), Some("port"));
        assert_eq!(nearest("no-pasword"), Some("no-password"));
        assert_eq!(nearest("MAXCLIENT"), Some("maxclients"));
        assert_eq!(nearest("cluster-enabled"), None);
        assert_eq!(nearest(""), None);
    }
}
