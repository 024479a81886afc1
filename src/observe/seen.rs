//! One look at the server, taken once for each page so that the figures of a page fit together.

use super::load::LoadProgress;
use super::value::Value;
use crate::aof::files;
use crate::aof::log::Log;
use crate::cluster::link::LinkFigures;
use crate::cluster::members::Members;
use crate::cluster::progress::{Lag, ReplicaProgress};
use crate::cluster::shared::Cluster;
use crate::cluster::state::{FollowerSeen, LeaderAddr};
use crate::config::Id;
use crate::engine::compactor::Compactions;
use crate::engine::{Engine, Persistence};
use crate::memory::limit::Memory;
use crate::metrics::{HistogramSnapshot, Metrics, Stat, process};
use crate::store::effect::Seq;
use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A figure that few pages need. It is read at its first use.
type Lazy<'a, T> = LazyCell<T, Box<dyn FnOnce() -> T + 'a>>;

/// The log at the moment of the look.
pub(crate) struct LogSeen<'a> {
    pub(super) persistence: &'a Persistence,
    pub(super) log: &'a Log,
    pub(super) durable: Seq,
    pub(super) written: Seq,
    pub(super) appended: Seq,
    /// Why writes are refused, if they are.
    pub(super) error: Option<String>,
    pub(super) fsyncs: HistogramSnapshot,
}

impl LogSeen<'_> {
    /// The disk's free bytes and all its bytes, if the system tells.
    pub(super) fn disk_bytes(&self) -> Option<[u64; 2]> {
        process::disk_bytes(&self.persistence.dir)
    }

    /// A sum over all syncs, for each of them.
    pub(super) fn per_fsync(&self, sum: u64) -> String {
        format!("{:.2}", sum as f64 / self.fsyncs.count().max(1) as f64)
    }
}

/// A follower of this node, at the moment of the look.
pub(super) struct ReplicaSeen {
    /// Host and port.
    pub(super) address: String,
    pub(super) progress: Arc<ReplicaProgress>,
    /// The full copy, if it needed one, is over.
    pub(super) online: bool,
    pub(super) applied: Seq,
    pub(super) lag: Lag,
}

/// The server at one moment.
pub(crate) struct Seen<'a> {
    pub(super) engine: &'a Engine,
    pub(super) metrics: &'a Metrics,
    /// Read at its first use: most sections of INFO do without.
    pub(super) memory: Lazy<'a, Memory>,
    pub(super) log: Option<LogSeen<'a>>,
    /// This node as a follower; none if it leads.
    pub(super) follower: Option<FollowerSeen>,
    /// The link to the leader.
    pub(super) link: LinkFigures,
    /// The load that is going on.
    pub(super) load: Option<LoadProgress>,
    /// Why the last compaction failed, if it did.
    pub(super) compactions: Compactions,
    /// The number of the log's segments, and the seq at which the oldest begins. Read at its first use.
    pub(super) segments: Lazy<'a, (usize, Option<Seq>)>,
    /// Milliseconds since the start.
    pub(super) now: u64,
    /// The followers of this node.
    pub(super) replicas: Vec<ReplicaSeen>,
    /// The newest members record of this node's cluster.
    pub(super) members: Option<Members>,
    /// The address of the node that was elected, as far as is known here; empty if none is.
    pub(super) elected_leader: String,
    /// Subscribed channels and patterns.
    pub(super) subscribed: (usize, usize),
    /// Commands, bytes in and bytes out, each per second.
    pub(super) rates: [f64; 3],
    /// CPU time in user mode and in system mode; read at its first use.
    pub(super) cpu: LazyCell<Option<[f64; 2]>>,
}

impl<'a> Seen<'a> {
    pub(crate) fn take(engine: &'a Engine) -> Seen<'a> {
        let log = engine.persistence.as_ref().map(|persistence| {
            let log = &persistence.log;
            // The lowest first: a record that becomes durable meanwhile never makes durable exceed written.
            let [durable, written, appended] = [log.durable(), log.written(), log.appended()];
            let error = log.check().err().map(|error| error.to_string());
            let fsyncs = log.stats.fsync.snapshot();
            LogSeen { persistence, log, durable, written, appended, error, fsyncs }
        });
        let now = engine.uptime_ms();
        let follower = engine.role.as_follower();
        let elected = engine.elected_leader_if(follower.as_ref());
        // In the literal, one lock would be held while the other is taken.
        let link = engine.role.figures.lock().clone();
        let compactions = engine.compactor.state.lock().clone();
        Seen {
            engine,
            metrics: &engine.metrics,
            memory: LazyCell::new(Box::new(|| engine.memory())),
            segments: LazyCell::new(Box::new(|| segments(engine))),
            replicas: replicas(engine, log.as_ref(), now),
            members: engine.persistence.as_ref().and_then(Persistence::members),
            elected_leader: elected.map_or(String::new(), |(_, address)| address.to_string()),
            follower,
            log,
            link,
            now,
            load: LoadProgress::of(&engine.loading),
            compactions,
            subscribed: engine.pubsub.counts(),
            rates: engine.metrics.rates(),
            cpu: LazyCell::new(process::cpu_seconds),
        }
    }

    pub(super) fn stat(&self, stat: Stat) -> Value {
        self.metrics[stat].get().into()
    }

    pub(super) fn int(&self, setting: Id) -> Value {
        self.engine.config.int(setting).into()
    }

    /// A figure of the log. There may be no log.
    pub(super) fn of_log<T: Into<Value>>(&self, read: impl Fn(&LogSeen<'_>) -> T) -> Value {
        self.log.as_ref().map_or(Value::None, |log| read(log).into())
    }

    /// A figure of a follower. A leader has none.
    pub(super) fn of_follower<T: Into<Value>>(&self, read: impl Fn(&FollowerSeen) -> T) -> Value {
        self.follower.as_ref().map_or(Value::None, |follower| read(follower).into())
    }

    /// The node that this one follows.
    pub(super) fn leader(&self) -> Option<&LeaderAddr> {
        Some(&self.follower.as_ref()?.target.as_ref()?.leader)
    }

    /// A figure of the cluster that this node belongs to, if it elects its leader.
    pub(super) fn of_cluster<T: Into<Value>>(&self, read: impl Fn(&Cluster) -> T) -> Value {
        self.engine.cluster.as_ref().map_or(Value::None, |cluster| read(cluster).into())
    }

    /// How many nodes vote, if this node knows its cluster's members.
    pub(super) fn voters(&self) -> Option<usize> {
        self.members.as_ref().map(|members| members.voters.len())
    }

    /// Seconds since a moment of the process's clock.
    pub(super) fn seconds_since(&self, at: u64) -> u64 {
        self.now.saturating_sub(at) / 1000
    }

    /// A figure of the load that is going on.
    pub(super) fn of_load<T: Into<Value>>(&self, read: impl Fn(&LoadProgress) -> T) -> Value {
        self.load.as_ref().map_or(Value::None, |load| read(load).into())
    }

    /// The last record; on a follower, the last one applied.
    pub(super) fn appended(&self) -> Seq {
        self.log.as_ref().map_or(Seq(0), |log| log.appended)
    }

    /// The followers by address. Of two links to one address, of which the older is about to end, the newer counts.
    pub(super) fn replicas_by_address(&self) -> BTreeMap<&str, &ReplicaSeen> {
        self.replicas.iter().map(|replica| (&*replica.address, replica)).collect()
    }

    /// How many records a follower can be sent without a full copy: the newest ones, up to this many.
    pub(super) fn records_kept(&self) -> u64 {
        self.segments.1.map_or(0, |oldest| (self.appended().0 + 1).saturating_sub(oldest.0))
    }
}

fn segments(engine: &Engine) -> (usize, Option<Seq>) {
    let listing = engine.persistence.as_ref().and_then(|it| files::list(&it.dir).ok());
    let segments = listing.map(|listing| listing.segments).unwrap_or_default();
    (segments.len(), segments.first().copied())
}

fn replicas(engine: &Engine, log: Option<&LogSeen<'_>>, now: u64) -> Vec<ReplicaSeen> {
    let (appended, bytes) =
        log.map_or((Seq(0), 0), |log| (log.appended, log.log.readable_end().bytes));
    let seen = |progress: Arc<ReplicaProgress>| ReplicaSeen {
        address: format!("{}:{}", progress.host, progress.port),
        online: progress.online.load(Relaxed),
        applied: progress.applied(),
        lag: progress.lag(appended, bytes, now),
        progress,
    };
    engine.followers.all().into_iter().map(seen).collect()
}
