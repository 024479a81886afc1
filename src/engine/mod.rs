//! The engine: every request of every client goes through [`Engine::execute`].
//!
//! It decides (may this run? which shards does it need? when may the reply leave?); `commands` compute, `store`
//! does. Out of scope: sockets (`server`), the meaning of a command (its handler).

pub mod compactor;
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
use crate::config::{Config, ConfigSnapshot, Id};
use crate::loading::Loading;
use crate::lock::{Mutex, rank};
use crate::memory::evictor::Evictor;
use crate::metrics::Metrics;
use crate::metrics::latency::Latency;
use crate::observe::monitor::Monitors;
use crate::observe::observed::RecentCommands;
use crate::pubsub::{PubSub, Subscriptions};
use crate::random;
use crate::shutdown::Shutdown;
use crate::store::Store;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicUsize, Ordering::Relaxed};

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
    /// Resident memory before any data was read.
    pub(crate) startup_bytes: usize,
    /// The store's bytes without a key in it.
    pub(crate) empty_store_bytes: usize,
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
    /// Keys that may be evicted next. Taken before any shard's lock.
    pub(crate) evictor: Mutex<Evictor, { rank::EVICTOR }>,
    /// The most memory seen in use.
    pub(crate) memory_peak: AtomicUsize,
    /// Resident memory beyond the count that counts toward `maxmemory`.
    pub(crate) memory_loss: AtomicUsize,
    /// Slow commands.
    pub slowlog: RecentCommands,
    /// Commands sampled by TRACE SAMPLE.
    pub samples: RecentCommands,
    /// TRACE SAMPLE: one command in so many is sampled; 0 is off.
    pub(crate) sample_every: AtomicU32,
    /// Slow events, by kind.
    pub latency: Latency,
    /// MONITOR clients.
    pub monitors: Arc<Monitors>,
}

impl Engine {
    /// An engine with what the log holds, or, without a log, with nothing.
    pub fn open(config: Config, commands: Commands) -> Result<Engine, RecoveryError> {
        Engine::load(config, commands, Arc::default())
    }

    /// As [`Engine::open`]; `loading` shows the progress.
    pub fn load(
        config: Config,
        commands: Commands,
        loading: Arc<Loading>,
    ) -> Result<Engine, RecoveryError> {
        let metrics = Metrics::new(commands.rows().len());
        let store = Arc::new(Store::new());
        let startup_bytes = crate::metrics::process::resident_bytes().unwrap_or(0);
        let empty_store_bytes = store.bytes();
        let persistence = if config.flag(Id::Appendonly) {
            Some(Persistence::open(&config, &store, Arc::clone(&loading))?)
        } else {
            log::warn!("appendonly no: nothing is written to disk; all data is lost at the end");
            None
        };
        let role = Role::new(&config);
        let shutdown = Shutdown::new();
        let compactor = Compactor::default();
        shutdown.wakes(&role.changed);
        shutdown.wakes(&compactor.wanted);
        if let Some(persistence) = persistence.as_ref().filter(|_| !role.is_follower()) {
            let begun = persistence.begin_epoch(UnixMillis::now());
            begun.map_err(|error| RecoveryError::at(&persistence.dir)(error))?;
        }
        let followers = Progress::default();
        let engine = Engine {
            store,
            persistence,
            compactor,
            commands,
            metrics,
            clients: Clients::default(),
            role,
            loading,
            followers,
            config,
            pubsub: Arc::default(),
            shutdown,
            clock: WallClock::default(),
            uptime: Stopwatch::start(),
            startup_bytes,
            empty_store_bytes,
            run_id: random::hex40(),
            port: AtomicU16::new(0),
            metrics_port: AtomicU16::new(0),
            connections_possible: AtomicUsize::new(usize::MAX),
            active_expire: AtomicBool::new(true),
            pause: Pause::default(),
            evictor: Mutex::default(),
            memory_peak: AtomicUsize::new(0),
            memory_loss: AtomicUsize::new(0),
            slowlog: RecentCommands::default(),
            samples: RecentCommands::default(),
            sample_every: AtomicU32::new(0),
            latency: Latency::default(),
            monitors: Arc::default(),
        };
        engine.wake_at_shutdown();
        Ok(engine)
    }

    /// A shutdown wakes all clients that wait in a command.
    fn wake_at_shutdown(&self) {
        self.shutdown.wakes(&self.pause.ended);
        self.shutdown.wakes(&self.followers.acknowledged);
        if let Some(persistence) = &self.persistence {
            self.shutdown.wakes(persistence.log.written_moved());
            self.shutdown.wakes(persistence.log.progress());
        }
    }

    /// Milliseconds on this process's own clock, which no one can set. 0 is its start.
    pub fn uptime_ms(&self) -> u64 {
        self.uptime.micros() / 1000
    }

    /// How many clients may be connected at once.
    pub fn maxclients(&self) -> usize {
        (self.config.int(Id::Maxclients) as usize).min(self.connections_possible.load(Relaxed))
    }

    /// A session for a new connection.
    pub fn session(&self, client: Arc<Client>) -> Session {
        let authenticated = self.config.text(Id::Requirepass).is_empty();
        let (pubsub, subscriber) = (Arc::clone(&self.pubsub), Arc::clone(&client.subscriber));
        let subscriptions = Subscriptions::new(pubsub, subscriber, self.clients.memory());
        let config = ConfigSnapshot::of(&self.config);
        Session::new(client, subscriptions, authenticated, Arc::clone(&self.store), config)
    }
}
