//! The engine: every request of every client goes through [`Engine::execute`].
//!
//! It decides (may this run? which shards does it need? when may the reply leave?); `commands` compute, `store`
//! does. Out of scope: sockets (`server`), the meaning of a command (its handler).

pub mod compactor;
pub(crate) mod confirm;
pub(crate) mod durability;
pub(crate) mod execute;
pub(crate) mod gate;
pub(crate) mod parking;
pub(crate) mod queue;
pub(crate) mod session;
pub(crate) mod sweeper;
pub mod syncer;
pub mod table;
pub(crate) mod transaction;
pub(crate) mod waiting;

pub use crate::clients::{Client, ClientId, Clients, Registration};
pub use compactor::Compactor;
pub use durability::Persistence;
pub use session::{Ending, Mode, ReplyMode, Session};
pub use sweeper::sweep;
pub use table::{Commands, Run};

use crate::aof::recovery::RecoveryError;
use crate::clients::pause::Pause;
use crate::clock::{Stopwatch, UnixMillis, WallClock};
use crate::cluster::progress::Progress;
use crate::cluster::role::Role;
use crate::cluster::shared::Cluster;
use crate::config::{Config, Id};
use crate::loading::Loading;
use crate::memory::MemoryState;
use crate::metrics::Metrics;
use crate::observe::Instruments;
use crate::pubsub::PubSub;
use crate::random;
use crate::shutdown::Shutdown;
use crate::store::Store;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::Relaxed};

/// Everything that connections share.
#[derive(Debug)]
pub struct Engine {
    /// The data. Shared with the sessions' watched keys.
    pub store: Arc<Store>,
    /// The log, unless this is a pure cache.
    pub persistence: Option<Persistence>,
    /// Compactions of the log.
    pub compactor: Compactor,
    /// The command table.
    pub commands: Commands,
    /// The settings.
    pub config: Config,
    /// The counters.
    pub metrics: Metrics,
    /// The connections.
    pub clients: Clients,
    /// Leader or follower.
    pub role: Role,
    /// The place among nodes that elect their leader, if this is one.
    pub cluster: Option<Cluster>,
    /// The progress of reading data back.
    pub loading: Arc<Loading>,
    /// The progress of each follower.
    pub followers: Progress,
    /// The subscriptions.
    pub pubsub: Arc<PubSub>,
    /// The latch that ends the server.
    pub shutdown: Shutdown,
    /// The wall clock of commands, and of the server's own deletions.
    pub clock: WallClock,
    /// See [`Engine::uptime_ms`].
    uptime: Stopwatch,
    /// 40 hex digits, new for each process.
    pub run_id: String,
    /// The port listened on; the settings have 0 if the kernel chose it.
    pub port: AtomicU16,
    /// The status page's port, 0 if there is none.
    pub metrics_port: AtomicU16,
    /// Connections that the limit of open files allows; `maxclients` may be more.
    pub connections_possible: AtomicUsize,
    /// False after DEBUG SET-ACTIVE-EXPIRE 0: the sweeper leaves expired keys.
    pub(crate) active_expire: AtomicBool,
    /// CLIENT PAUSE.
    pub(crate) pause: Pause,
    /// The state of the memory limit.
    pub(crate) memory_state: MemoryState,
    /// Slow and sampled commands, latency, MONITOR.
    pub instruments: Instruments,
}

impl Engine {
    /// An engine with what the log holds, or, without a log, with nothing. `loading` shows the progress.
    pub fn open(
        config: Config,
        commands: Commands,
        loading: Arc<Loading>,
    ) -> Result<Engine, RecoveryError> {
        let store = Arc::new(Store::new());
        let memory_state = MemoryState::before_loading(&store);
        let persistence = if config.flag(Id::Appendonly) {
            Some(Persistence::open(&config, &store, Arc::clone(&loading))?)
        } else {
            log::warn!("appendonly no: nothing is written to disk; all data is lost at the end");
            None
        };
        let role = Role::new(&config);
        if let Some(persistence) = persistence.as_ref().filter(|_| !role.is_follower()) {
            let begun = persistence.begin_epoch(UnixMillis::now());
            begun.map_err(|error| RecoveryError::at(&persistence.dir)(error))?;
        }
        let cluster = persistence.as_ref().zip(config.cluster()).map(|(persistence, settings)| {
            let cluster = Cluster::new(settings, &persistence.term());
            // The cluster's policies count for the first client, too, and not those of the file.
            persistence.members().iter().for_each(|members| cluster.follow_policy(members));
            cluster
        });
        let engine = Engine {
            store,
            persistence,
            compactor: Compactor::default(),
            metrics: Metrics::new(commands.rows().len()),
            commands,
            clients: Clients::default(),
            role,
            cluster,
            loading,
            followers: Progress::default(),
            config,
            pubsub: Arc::default(),
            shutdown: Shutdown::new(),
            clock: WallClock::of_environment(),
            uptime: Stopwatch::start(),
            run_id: random::hex40(),
            port: AtomicU16::new(0),
            metrics_port: AtomicU16::new(0),
            connections_possible: AtomicUsize::new(usize::MAX),
            active_expire: AtomicBool::new(true),
            pause: Pause::default(),
            memory_state,
            instruments: Instruments::default(),
        };
        engine.wake_at_shutdown();
        Ok(engine)
    }

    /// A shutdown wakes the link, the compactor, and all clients that wait in a command.
    fn wake_at_shutdown(&self) {
        for signal in [
            &self.role.changed,
            &self.compactor.wanted,
            &self.pause.ended,
            &self.followers.acknowledged,
        ] {
            self.shutdown.wakes(signal);
        }
        if let Some(cluster) = &self.cluster {
            self.shutdown.wakes(&cluster.peers.changed);
        }
        if let Some(cluster) = &self.cluster {
            self.shutdown.wakes(&cluster.peers.changed);
        }
        if let Some(persistence) = &self.persistence {
            self.shutdown.wakes(&persistence.log.written_moved);
            self.shutdown.wakes(&persistence.log.progress);
        }
    }

    /// Milliseconds on this process's own clock, which no one can set. 0 is its start.
    pub fn uptime_ms(&self) -> u64 {
        self.uptime.micros() / 1000
    }

    /// How many connections more a member of a cluster accepts, for other nodes: in a failover all of them reconnect.
    pub fn spare_connections(&self) -> usize {
        const SPARE: usize = 64;
        if self.config.is_in_cluster() { SPARE } else { 0 }
    }

    /// How many clients may be connected at once.
    pub fn maxclients(&self) -> usize {
        (self.config.int(Id::Maxclients) as usize).min(self.connections_possible.load(Relaxed))
    }
}
