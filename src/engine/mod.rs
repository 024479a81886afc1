//! The engine: every request of every client goes through [`Engine::execute`].
//!
//! It decides (may this run? which shards does it need? what does it answer?); `commands` compute,
//! `store` does. The life of a write:
//!
//! ```text
//! execute ─ find the row ─ may it run? ─ lock its shards ─ handler: effects ─ append to the log ─ unlock
//!                                                                                  │
//! connection: collect replies of the whole batch ─ THE GATE: wait for the log ─ send
//! ```
//!
//! The gate ([`gate`]) stands before every reply of writers and of readers: a reply leaves only
//! when what it depends on is as safe as the configuration promises (see `gate.rs`). Without a log
//! it is always open.
//!
//! Out of scope: sockets (the server's), what a command means (its handler's).

pub mod compactor;
pub(crate) mod durability;
pub(crate) mod execute;
pub(crate) mod gate;
pub(crate) mod parking;
pub(crate) mod queue;
pub(crate) mod sending;
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
use crate::observe::observed::Ring;
use crate::pubsub::{PubSub, Subscriptions};
use crate::random;
use crate::shutdown::Shutdown;
use crate::store::Store;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicUsize, Ordering::Relaxed};

/// Everything that connections share.
#[derive(Debug)]
pub struct Engine {
    /// The data. Shared with what sessions leave in it: watches.
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
    /// How far data that is being read back has come.
    pub loading: Arc<Loading>,
    /// How far each follower has come.
    pub followers: Progress,
    /// Who listens to what.
    pub pubsub: Arc<PubSub>,
    /// The latch for the end.
    pub shutdown: Shutdown,
    /// The wall clock of commands, and of the server's own deletions.
    pub clock: WallClock,
    /// See [`Engine::uptime_ms`].
    uptime: Stopwatch,
    /// Memory that the process had before there was any data.
    pub(crate) startup_bytes: usize,
    /// What the store counts while there is no key in it.
    pub(crate) empty_store_bytes: usize,
    /// 40 hex digits, new for each process.
    pub run_id: String,
    /// The port that is listened on, which the settings do not know if it was chosen by the kernel.
    pub port: AtomicU16,
    /// The status page's port, 0 if there is none.
    pub metrics_port: AtomicU16,
    /// How many connections the process's file limit allows; `maxclients` may be more.
    pub connections_possible: AtomicUsize,
    /// DEBUG SET-ACTIVE-EXPIRE.
    pub(crate) active_expire: AtomicBool,
    pub(crate) pause: Pause,
    /// Taken before any shard's lock.
    pub(crate) evictor: Mutex<Evictor, { rank::EVICTOR }>,
    /// The most memory that was ever seen in use.
    pub(crate) memory_peak: AtomicUsize,
    /// What is resident beyond the count, as far as it counts.
    pub(crate) memory_loss: AtomicUsize,
    /// The commands that took long.
    pub slowlog: Ring,
    /// Those that TRACE SAMPLE has kept.
    pub samples: Ring,
    /// TRACE SAMPLE: one in so many; 0 is off.
    pub(crate) sample_every: AtomicU32,
    /// What took long, by kind.
    pub latency: Latency,
    /// Those who look at all commands.
    pub monitors: Arc<Monitors>,
}

impl Engine {
    /// An engine with what the log holds, or, without a log, with nothing.
    pub fn open(config: Config, commands: Commands) -> Result<Engine, RecoveryError> {
        Engine::load(config, commands, Arc::default())
    }

    /// As [`Engine::open`]; `loading` tells others how far it has come.
    pub fn load(
        config: Config,
        commands: Commands,
        loading: Arc<Loading>,
    ) -> Result<Engine, RecoveryError> {
        let metrics = Metrics::new(commands.rows().len());
        let store = Arc::new(Store::new());
        let startup_bytes = crate::process::resident_bytes().unwrap_or(0);
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
            slowlog: Ring::default(),
            samples: Ring::default(),
            sample_every: AtomicU32::new(0),
            latency: Latency::default(),
            monitors: Arc::default(),
        };
        engine.wake_at_shutdown();
        Ok(engine)
    }

    /// Everything that clients wait for in a command is looked at again when the server is to end.
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
