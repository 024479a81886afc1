//! The table of settings: the one place where an option is described.
//!
//! Flags, `KVSTORE_…` variables, the configuration file, CONFIG GET, SET and REWRITE, and `--help` are
//! all read from [`SETTINGS`]. To add a setting, add one row. It bears redis.conf's name if it means
//! the same. `--help` shows a row to everyone, so a row arrives together with the feature that obeys it.

use std::ops::RangeInclusive;

use super::Kind;
use super::checks::{
    address, bind_addresses, file_mode, fsync_policy, host_names, metrics_port, no_save_points,
    percentiles,
};
use super::cluster::{check_address, check_nodes};

/// One row of the table.
pub struct Setting {
    /// The name in code.
    pub id: Id,
    /// The name for people: lower case, words joined by `-`.
    pub name: &'static str,
    /// A second name that is understood everywhere, usually an older one of Redis's.
    pub alias: Option<&'static str>,
    /// The values that are accepted, and how they are written.
    pub kind: Kind,
    /// The default, written as in a configuration file.
    pub default: &'static str,
    /// True if CONFIG SET may change it while the server runs.
    pub at_run_time: bool,
    /// The heading of the group that this row opens in `--help`.
    pub heading: Option<&'static str>,
    /// For `--help`, a line each: the meaning; the alternatives; the advice that completes
    /// "If unsure, …". Without a third line that is `KEEP_IT`.
    pub help: &'static str,
}

/// The advice of a setting whose default suits nearly everyone.
pub(super) const KEEP_IT: &str = "keep it.";

/// The eviction policies, in the order in which Redis names them.
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

/// A key's length and a record's length have 32 bits. A record holds what a transaction has written when
/// its last command begins, and what that command writes: a request, a key and a value at most.
const REQUEST_BYTES: Kind = Kind::RecordBytes(1 << 20..=1 << 30);
/// Redis's bound of its `int` settings.
const INT_MAX: i64 = i32::MAX as i64;

/// Makes [`Id`] and [`SETTINGS`] from the rows, so that both have the same order.
macro_rules! settings {
    ($($id:ident: $row:expr,)*) => {
        /// Names a setting in code. The number of a variant is the index of its row.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "a variant means what its row says")]
        pub enum Id {
            $($id,)*
        }

        /// Every setting, in the order of [`Id`], of CONFIG GET and of `--help`.
        pub static SETTINGS: &[Setting] = &[$(Setting { id: Id::$id, ..$row },)*];
    };
}

settings! {
    Port: setting("port", number(0..=65_535), "8080",
        "The TCP port to listen on.\n\
         0 takes any free port and logs which.").only_at_start().heading("Network"),
    Bind: setting("bind", Kind::Checked("ADDRESSES", bind_addresses), "127.0.0.1",
        "The addresses to listen on, separated by blanks: IPv4, IPv6 or localhost.\n\
         * (or 0.0.0.0) listens on every IPv4 address. An address that other machines can reach needs a \
         password, or no-password.\n\
         keep it: only programs on this machine can connect.").only_at_start(),
    Unixsocket: setting("unixsocket", Kind::Text("PATH"), "",
        "A Unix socket to listen on too: a file, for programs on this machine.\n\
         Empty listens on TCP only. The file of a server that was killed is replaced.\n\
         leave it empty.").only_at_start(),
    Unixsocketperm: setting("unixsocketperm", Kind::Checked("MODE", file_mode), "0",
        "The permissions of the file of unixsocket, in octal as for chmod: 700 is for the same user only, 777 for \
         every user.\n\
         0 leaves them to the umask.").only_at_start(),
    Maxclients: setting("maxclients", number(1..=u32::MAX as i64), "10000",
        "The number of clients that may be connected at once. One more gets an error and is closed.\n\
         Fewer where memory is short: each client costs a thread and its stack.\n\
         keep it. The server lowers it to what the limit on open files allows."),
    Timeout: setting("timeout", seconds(0..=INT_MAX), "0",
        "A client that is silent for this many seconds is disconnected.\n\
         0 lets clients be silent for ever.\n\
         keep it: tcp-keepalive already finds dead clients."),
    TcpKeepalive: setting("tcp-keepalive", seconds(0..=INT_MAX), "300",
        "After this many silent seconds the kernel probes whether the peer is alive.\n\
         0 turns the probes off; less than 300 finds dead peers sooner."),
    TcpBacklog: setting("tcp-backlog", number(1..=INT_MAX), "511",
        "The number of connections that may wait in the kernel to be accepted.\n\
         More for bursts of connections; the kernel caps it at net.core.somaxconn.").only_at_start(),
    WorkerIdleTimeout: setting("worker-idle-timeout", seconds(1..=INT_MAX), "60",
        "A worker thread that has served no client for this many seconds ends.\n\
         More saves starting threads when connections come in waves."),
    MetricsPort: setting("metrics-port", Kind::Checked("PORT", metrics_port), "auto",
        "The port of the status page (/), of Prometheus's /metrics, of /healthz, /readyz and \
         /status.json. auto is the port after the command port, so 8081. If that port is taken, the \
         server starts without it; a kvstore that starts later and needs the port gets it.\n\
         0 turns all of them off. A number is used or refused, and never given up.\n\
         keep it; give a number where something scrapes the metrics.")
        .only_at_start().heading("Status page and metrics"),
    MetricsBind: setting("metrics-bind", Kind::Checked("ADDRESSES", bind_addresses), "127.0.0.1",
        "The addresses that the status page listens on, written as those of bind.\n\
         Others let other machines read it without a password. It shows names of commands, figures and \
         addresses of clients; it shows keys and values only while it is on loopback and there is no \
         password. It runs no command and changes nothing.").only_at_start(),
    MetricsHost: setting("metrics-host", Kind::Checked("NAMES", host_names), "",
        "Host names under which browsers and Prometheus may ask for the status page, besides localhost \
         and the address that they connected to. Others are refused: a web page elsewhere could make \
         its own name point here (DNS rebinding).\n\
         * takes any name, for a proxy that checks them.\n\
         leave it empty.").only_at_start(),
    Requirepass: setting("requirepass", Kind::Secret, "",
        "The password that clients must give with AUTH before anything else.\n\
         Empty asks for none. A flag is visible in `ps`: prefer requirepass-file.\n\
         leave it empty while bind is 127.0.0.1.").heading("Access"),
    RequirepassFile: setting("requirepass-file", Kind::Text("FILE"), "",
        "A file whose first line is the password. It is read once, at start.\n\
         Empty reads none. A requirepass that is not empty wins over it.\n\
         use this for the password, with a file that only the server can read.").only_at_start(),
    NoPassword: setting("no-password", Kind::YesNo, "no",
        "Allows serving other machines without a password.\n\
         yes, if everyone who can reach the port may read and erase everything.\n\
         keep it and set a password.").only_at_start(),
    InlineReplies: setting("inline-replies", Kind::Choice(&["text", "resp"]), "text",
        "The form of the reply to a command typed as a plain line.\n\
         text is for people and shell scripts; resp is for tools that begin with a plain PING and \
         expect +PONG, as Redis answers. A connection that has sent RESP, or a line with HELLO 2 or \
         HELLO 3, gets RESP either way.").heading("Protocol and limits"),
    ProtoMaxBulkLen: setting("proto-max-bulk-len", REQUEST_BYTES, "512mb",
        "The longest single argument that a client may send, in bytes.\n\
         Less protects memory; more allows larger values."),
    ClientQueryBufferLimit: setting("client-query-buffer-limit", REQUEST_BYTES, "1gb",
        "The bytes of unfinished requests that one client may have in memory.\n\
         Less protects memory from many clients that send large requests."),
    ClientOutputBufferLimit: setting("client-output-buffer-limit", Kind::OutputLimits,
        "normal 256mb 0 0 replica 256mb 64mb 60 pubsub 32mb 8mb 60",
        "The bytes of replies that may wait for a client that is slow to read, as `class hard soft \
         seconds` for the classes normal, replica and pubsub. A client over hard, or over soft for that \
         many seconds, is disconnected. A reply counts while it is made; only a reply that is a single \
         value may exceed hard.\n\
         0 means no limit; classes that are not named stay as they are. Unlike in Redis, normal has a \
         limit by default: a client that pipelines for ever and never reads would otherwise take all \
         memory."),
    Maxmemory: setting("maxmemory", Kind::Bytes(0..=i64::MAX), "0",
        "The memory that may be in use: keys and values, what clients wait to send or read and \
         subscribe to, and what waits to be written to the log or sent to followers. Over it, \
         maxmemory-policy decides.\n\
         0 means no limit.\n\
         give a cache two thirds of the memory that you can spare.").heading("Memory"),
    MaxmemoryPolicy: setting("maxmemory-policy", Kind::Choice(POLICIES), "noeviction",
        "The keys that are evicted when memory is over maxmemory.\n\
         noeviction: none; commands that need memory are refused. allkeys-lru: those not used for \
         longest. allkeys-lfu: those used least often. allkeys-random: any. volatile-…: the same among \
         keys with a deadline; volatile-ttl: those that would expire soonest.\n\
         keep it for data, and take allkeys-lru or allkeys-lfu for a cache."),
    MaxmemorySamples: setting("maxmemory-samples", number(1..=INT_MAX), "5",
        "The number of random keys that are compared to find the next one to evict.\n\
         10 is nearer to the true order and costs more CPU; over 64 count as 64."),
    LfuLogFactor: setting("lfu-log-factor", number(0..=INT_MAX), "10",
        "The slowness with which the counter of a key's uses grows under an LFU policy.\n\
         10 tells up to a million uses apart, 100 ten million; 0 counts up to 255."),
    LfuDecayTime: setting("lfu-decay-time", Kind::Int(0..=INT_MAX, "MINUTES"), "1",
        "After how many minutes without a use that counter is lowered by one.\n\
         More remembers longer; 0 never forgets."),
    Loglevel: setting("loglevel", Kind::Choice(&["debug", "verbose", "notice", "warning"]), "notice",
        "The least serious messages to log.\n\
         debug logs most, warning least.").heading("Operation"),
    Hz: setting("hz", number(1..=500), "10",
        "The number of times a second that the sweeper looks for expired keys.\n\
         More frees memory sooner and costs more CPU while nothing happens."),
    NotifyKeyspaceEvents: setting("notify-keyspace-events", Kind::EventClasses, "",
        "The events about keys that are published: K on channels __keyspace@0__:<key>, E on \
         __keyevent@0__:<event>, and of these classes: g generic, $ string, x expired, e evicted, n \
         new, m missed; A is all but n and m. A follower publishes the events of what it applies, as its \
         own setting says.\n\
         Empty, or without K and E, publishes nothing and costs nothing.\n\
         keep it empty."),
    ShutdownTimeout: setting("shutdown-timeout", seconds(0..=INT_MAX), "10",
        "The seconds that a shutdown may take: for clients to take their last replies, followers the \
         rest of the log, and threads to end. Only the last sync of the log has all the time that the \
         disk needs.\n\
         0 waits for no client, follower or thread."),
    SlowlogLogSlowerThan: setting("slowlog-log-slower-than", number(-1..=i64::MAX), "10000",
        "A command that takes so many microseconds, by itself or until the log is as safe as promised, \
         is kept for SLOWLOG GET.\n\
         0 keeps every command, -1 none.").heading("Observability"),
    SlowlogMaxLen: setting("slowlog-max-len", number(0..=i64::MAX), "128",
        "The number of slow commands that are kept. The oldest are forgotten.\n\
         More shows a longer past; each takes up to 4 KiB."),
    LatencyMonitorThreshold: setting("latency-monitor-threshold", number(0..=i64::MAX), "0",
        "Events that take so many milliseconds are kept for LATENCY LATEST and HISTORY.\n\
         0 keeps none.\n\
         keep it, and set it to 10 or 100 when something seems to be slow."),
    LatencyTracking: setting("latency-tracking", Kind::YesNo, "yes",
        "Shows in INFO latencystats and LATENCY HISTOGRAM how long commands take.\n\
         no hides it. It is counted all the same, at next to no cost."),
    LatencyTrackingInfoPercentiles: setting("latency-tracking-info-percentiles", Kind::Checked("PERCENTILES", percentiles),
        "50 99 99.9",
        "The percentiles that INFO latencystats shows, separated by blanks.\n\
         Any numbers from 0 to 100; an empty value shows none."),
    Appendonly: setting("appendonly", Kind::YesNo, "yes",
        "Logs writes to disk, so that they are there again after a restart.\n\
         no makes a pure cache: nothing is written, everything is lost at the end.")
        .only_at_start().heading("Durability"),
    Dir: setting("dir", Kind::Text("DIR"), "data",
        "The directory that holds the data. It is made if it is not there.\n\
         A directory serves one server at a time; a second one is refused.\n\
         keep it, or name a directory on a disk that you back up.").only_at_start(),
    Appendfsync: setting("appendfsync", Kind::Checked("POLICY", fsync_policy), "everysec",
        "The time at which the log is forced to the disk. Under every policy, killing the server loses nothing that \
         it acknowledged; this is about power cuts and crashes of the system.\n\
         always: before each acknowledgement. An interval such as 100ms (everysec is 1s): a power cut \
         may lose that much. no: whenever the system likes.\n\
         keep it, or take always if a lost second is one too many."),
    SegmentSize: setting("segment-size", Kind::Bytes(1 << 10..=1 << 40), "64mb",
        "The log goes on in a new file when one has reached this size.\n\
         Less frees disk space in smaller steps; more makes fewer files."),
    AutoCompactPercentage: setting("auto-compact-percentage", number(0..=INT_MAX), "100",
        "The log is compacted when it has grown by this much since the last time, in %.\n\
         0 never compacts automatically; BGREWRITEAOF always does.")
        .alias("auto-aof-rewrite-percentage"),
    AutoCompactMinSize: setting("auto-compact-min-size", Kind::Bytes(0..=1 << 50), "64mb",
        "A log smaller than this is not compacted automatically.\n\
         Less keeps small logs smaller; it is seldom worth the work.")
        .alias("auto-aof-rewrite-min-size"),
    CompactRate: setting("compact-rate", Kind::Bytes(0..=1 << 40), "48mb",
        "The bytes a second that a compaction writes at most.\n\
         0 is as fast as possible, at the expense of the clients' latency."),
    SetAsideWarnSize: setting("set-aside-warn-size", Kind::Bytes(0..=1 << 50), "1gb",
        "When quarantine/ and diverged/ together are larger than this, the log and INFO warn. They hold \
         writes that were cut off or given up, and the server never removes them.\n\
         0 never warns."),
    Replicaof: setting("replicaof", Kind::Checked("HOST:PORT", address), "",
        "The leader that this node follows: it copies all of the leader's data.\n\
         Empty makes this node a leader. REPLICAOF changes it while the server runs.\n\
         leave it empty.").alias("slaveof").only_at_start().heading("Replication"),
    Masterauth: setting("masterauth", Kind::Secret, "",
        "The password that this node gives to its leader.\n\
         Empty gives requirepass, if there is one.\n\
         leave it empty and give all nodes the same requirepass."),
    ReplTimeout: setting("repl-timeout", seconds(1..=INT_MAX), "10",
        "A replication link that is silent for this many seconds is given up and dialled anew.\n\
         More for links that stall for long."),
    ReplBacklogSize: setting("repl-backlog-size", Kind::Bytes(0..=1 << 50), "64mb",
        "The bytes of log that are kept after a compaction, so that a follower that was away can go on \
         where it was.\n\
         More spares full copies after a longer absence; 0 keeps nothing."),
    ReplRetentionBytes: setting("repl-retention-bytes", Kind::Bytes(0..=1 << 50), "1gb",
        "The bytes of log that are kept after a compaction for connected followers.\n\
         A follower that lags by more than this is given a full copy.\n\
         keep it, or give as much as the disk can spare."),
    ReplicaServeStaleData: setting("replica-serve-stale-data", Kind::YesNo, "yes",
        "Lets a follower that has lost its leader go on answering reads.\n\
         no answers them with -MASTERDOWN.").alias("slave-serve-stale-data"),
    ReplicaMaxStaleness: setting("replica-max-staleness", millis(0..=INT_MAX), "0",
        "A follower that lags its leader by more than this answers reads with -STALE.\n\
         0 answers them however old the data is."),
    ReplicaPriority: setting("replica-priority", number(0..=INT_MAX), "100",
        "Sentinel prefers the follower with the lowest number as the next leader.\n\
         0 is never made leader.").alias("slave-priority"),
    ReplicaAnnounceIp: setting("replica-announce-ip", Kind::Text("ADDRESS"), "",
        "The address under which others reach this node, told to its leader.\n\
         Empty lets the leader see where the connection comes from.\n\
         leave it empty unless there is address translation in between.").alias("slave-announce-ip"),
    ReplicaAnnouncePort: setting("replica-announce-port", number(0..=65_535), "0",
        "The port under which others reach this node, told to its leader.\n\
         0 tells the port that is listened on.").alias("slave-announce-port"),
    MinReplicasToWrite: setting("min-replicas-to-write", number(0..=INT_MAX), "0",
        "A leader with fewer followers that keep up refuses writes with -NOREPLICAS.\n\
         0 asks for none.").alias("min-slaves-to-write"),
    MinReplicasMaxLag: setting("min-replicas-max-lag", seconds(0..=INT_MAX), "10",
        "A follower that was last heard of more than this many seconds ago does not keep up.\n\
         0 counts every connected follower.").alias("min-slaves-max-lag"),
    ClusterNodes: setting("cluster-nodes", Kind::Checked("HOST:PORT,...", check_nodes), "",
        "The nodes that elect a leader among themselves: one to nine addresses with commas between them, as \
         others dial them, this node's own among them. They are the members at the first start of the cluster; \
         afterwards its log says who they are.\n\
         Empty is a node for itself, which leads or has replicaof.\n\
         leave it empty for one node, and list three for a service that survives the loss of one.")
        .only_at_start().heading("Cluster"),
    ClusterAnnounce: setting("cluster-announce", Kind::Checked("HOST:PORT", check_address), "",
        "The address under which the other nodes of the cluster dial this one.\n\
         Empty takes the listed address that has this node's port and one of its bound or loopback \
         addresses, or the only one that has its port.\n\
         leave it empty; the server says at start if it needs it.").only_at_start(),
    SentinelPort: setting("sentinel-port", number(0..=65_535), "0",
        "A second port for clients, on which ROLE answers as a Sentinel's does, for clients that look for the \
         leader only where it does (the Rust crate redis). The port of the data answers SENTINEL, too.\n\
         0 opens none.").only_at_start(),
    ElectionTimeout: setting("election-timeout", millis(50..=60_000), "1000",
        "After so much silence of the leader a node asks the others for their votes.\n\
         Less fails over sooner, and also when the network or a machine only stalls; more waits for longer \
         stalls to pass.").only_at_start(),
    Ack: setting("ack", Kind::Choice(&["leader", "majority"]), "leader",
        "What the OK to a write waits for in a cluster. It is the cluster's, not one node's: this value counts \
         at the first start only.\n\
         leader: the leader's own log, so a failover may lose the last writes, which are kept in diverged/. \
         majority: the logs of a majority of the members, so a failover loses nothing; take reads index with \
         it.\n\
         keep it for a cache, and take majority for data."),
    Reads: setting("reads", Kind::Choice(&["local", "index"]), "local",
        "How the leader of a cluster makes sure that it still leads before it answers a read. It is the \
         cluster's, as ack is.\n\
         local: not at all, so a leader that was replaced without noticing may answer with old data for a \
         moment. index: it hears a majority after it has read, which costs a round trip that reads share.\n\
         keep it under ack leader, and take index under ack majority."),
    Databases: setting("databases", number(1..=1), "1",
        "The number of numbered databases: there is only database 0.")
        .only_at_start().heading("Fixed: there because clients ask"),
    Save: setting("save", Kind::Checked("\"\"", no_save_points), "",
        "Redis's snapshot schedule. kvstore has none, so only the empty value is taken."),
    ReplicaReadOnly: setting("replica-read-only", Kind::Choice(&["yes"]), "yes",
        "A replica takes no writes from clients.").alias("slave-read-only").only_at_start(),
}

/// A row with the parts that every row needs; the methods below add the others, and the table the id.
const fn setting(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Setting {
    let (id, alias, heading) = (Id::Port, None, None);
    Setting { id, name, alias, kind, default, at_run_time: true, heading, help }
}

const fn number(range: RangeInclusive<i64>) -> Kind {
    Kind::Int(range, "NUMBER")
}

const fn seconds(range: RangeInclusive<i64>) -> Kind {
    Kind::Int(range, "SECONDS")
}

const fn millis(range: RangeInclusive<i64>) -> Kind {
    Kind::Int(range, "MILLISECONDS")
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

    /// The setting's names: its name, then its alias.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        std::iter::once(self.name).chain(self.alias)
    }
}

impl Id {
    /// The row that describes this setting.
    pub fn setting(self) -> &'static Setting {
        &SETTINGS[self as usize]
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
    let (distance, best) = known.map(|k| (strsim::levenshtein(&name, k), k)).min()?;
    (distance <= 2.max(best.len() / 3) && distance < best.len()).then_some(best)
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
            assert!(!row.help.is_empty(), "{}: say what it means", row.name);
            for line in row.help.lines() {
                assert!(line.ends_with('.'), "{}: `{line}` is no sentence", row.name);
            }
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
            let lines: Vec<&str> = row.help.lines().collect();
            let told = matches!(lines[..], [_, _] | [_, _, _]);
            assert!(told, "{}: say what it means and name the alternatives", row.name);
            assert_ne!(lines.get(2), Some(&KEEP_IT), "{}: this is said without it", row.name);
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
