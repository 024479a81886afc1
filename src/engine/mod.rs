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
//! The gate ([`Engine::gate`]) stands before every reply of writers and of readers: a reply leaves only
//! when what it depends on is as safe as the configuration promises (see `persistence.rs`). Without a log
//! it is always open.
//!
//! Out of scope: sockets (the server's), what a command means (its handler's).

pub(crate) mod blocked;
pub(crate) mod clients;
pub mod compactor;
pub(crate) mod execute;
pub mod outbox;
pub(crate) mod pause;
pub(crate) mod persistence;
pub(crate) mod session;
pub(crate) mod sweeper;
pub mod syncer;
pub mod table;
pub(crate) mod transaction;

pub use clients::{Client, ClientId, Clients, Registration};
pub use compactor::Compactor;
pub use persistence::Persistence;
pub use session::{Ending, Mode, ReplyMode, Session};
pub use sweeper::sweep;
pub use table::{Commands, Run};

use crate::aof::recovery::RecoveryError;
use crate::clock::{Stopwatch, UnixMillis, WallClock};
use crate::cluster::progress::Progress;
use crate::cluster::role::Role;
use crate::config::{Config, Id, OutputLimit};
use crate::engine::outbox::SendError;
use crate::loading::Loading;
use crate::lock::{Mutex, rank};
use crate::memory::evict::Evictor;
use crate::metrics::Metrics;
use crate::observe::latency::Latency;
use crate::observe::monitor::{Monitors, Overflown};
use crate::observe::observed::Ring;
use crate::observe::probe::Pending;
use crate::protocol::Reply;
use crate::pubsub::{PubSub, Subscriptions};
use crate::random;
use crate::shutdown::Shutdown;
use crate::store::Store;
use crate::store::effect::Seq;
use pause::Pause;
use persistence::{Parked, Passage};
use std::net::SocketAddr;
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
        let startup_bytes = crate::observe::info::resident_bytes().unwrap_or(0);
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
        Session::new(client, subscriptions, authenticated, Arc::clone(&self.store))
    }

    /// Passes the gate and sends what has been answered. An error means that the client is gone, or has
    /// been cut off.
    pub fn flush(&self, session: &mut Session, reply: &mut Reply) -> Result<(), SendError> {
        let (client, limit) = (&session.client, self.output_limit(&session.client));
        if reply.is_over_limit() {
            let bytes = reply.bytes().len();
            self.note_over_limit(client.addr, bytes);
            return Err(SendError::OverLimit(bytes));
        }
        let begins_monitoring = session.begins_monitoring.take();
        // Before the answer leaves: who has it misses nothing.
        if let Some(dialect) = begins_monitoring {
            session.monitoring =
                Some(self.monitors.join(&session.client, dialect, self.clients.memory()));
        }
        let is_open = self.gate(session, reply, limit)?;
        if is_open && !reply.bytes().is_empty() {
            self.send_replies(session, reply, limit)?;
        }
        if begins_monitoring.is_some() {
            // What there is to see comes behind the answer.
            session.client.wait_unparked();
        }
        self.feed_monitor(session)
    }

    /// Sends a monitor what has come for it. An error means that it is gone, or has been cut off.
    pub fn feed_monitor(&self, session: &mut Session) -> Result<(), SendError> {
        let Some(monitoring) = &session.monitoring else { return Ok(()) };
        let sent = match monitoring.take() {
            Ok(lines) if lines.is_empty() => Ok(()),
            Ok(lines) => {
                self.metrics.output_bytes.add(lines.len() as u64);
                let limit = crate::observe::monitor::limit(self.output_limit(&session.client));
                session.client.send(&lines, 0, limit)
            }
            Err(Overflown) => Err(SendError::OverLimit(session.client.outbox.queued_bytes())),
        };
        match &sent {
            Err(SendError::OverLimit(waiting)) => {
                self.metrics.output_limit_disconnections.increment();
                log::warn!(
                    "client {}: a monitor that cannot keep up is cut off ({waiting} bytes not read)",
                    session.client.addr
                );
            }
            Err(error) => self.note_cut(session.client.addr, error),
            Ok(()) => {}
        }
        sent
    }

    /// The gate: every reply passes it, and every message. Once per batch it waits until all that the
    /// batch wrote or read is as safe as is promised. Returns whether the replies are to be sent now; if
    /// not, they have been parked and are sent when they may be. An error means that too much is parked.
    pub fn gate(
        &self,
        session: &mut Session,
        reply: &mut Reply,
        limit: OutputLimit,
    ) -> Result<bool, SendError> {
        let needed = session.depends_on;
        let passed = self.pass(session, reply, limit);
        let is_open = matches!(passed, Ok(true));
        if !session.notices.is_empty() {
            let notices = std::mem::take(&mut session.notices);
            if !is_open {
                session.client.wait_unparked();
            }
            // Nobody hears of what the log has refused.
            if self.persistence.as_ref().is_none_or(|log| log.promised() >= needed) {
                self.deliver_notices(notices);
            }
        }
        passed
    }

    pub(crate) fn pass(
        &self,
        session: &mut Session,
        reply: &mut Reply,
        limit: OutputLimit,
    ) -> Result<bool, SendError> {
        self.flush_tally(session);
        let began = session.stopwatch;
        let needed = std::mem::take(&mut session.depends_on);
        let at_stake = session.at_stake.take();
        session.wrote = false;
        let pending = &mut session.watch.pending;
        let nothing = needed == Seq(0) && reply.bytes().is_empty();
        let Some(persistence) = self.persistence.as_ref().filter(|_| !nothing) else {
            self.settle(pending, &session.client, began, None);
            return Ok(true);
        };
        let stages = match persistence.pass(needed, session.client.has_parked()) {
            Passage::Open(stages) => stages,
            Passage::Park => {
                let client = Arc::clone(&session.client);
                client.park(reply, limit).inspect_err(|error| self.note_cut(client.addr, error))?;
                let bytes = reply.bytes().len();
                let mut empty = Reply::new(reply.dialect());
                empty.set_limit(client.outbox.room(limit));
                let reply = std::mem::replace(reply, empty);
                let pending = std::mem::take(pending);
                let parked = Parked { client, reply, at_stake, limit, began, pending, bytes };
                persistence.parked_tx.send(parked).expect("the engine holds the receiver, too");
                persistence.log.work.notify();
                return Ok(false);
            }
            Passage::Failed(error) => {
                persistence::refuse(reply, at_stake, &error);
                None
            }
        };
        self.settle(pending, &session.client, began, stages);
        Ok(true)
    }

    /// Sends replies that were parked.
    fn send_parked(&self, parked: &mut Parked) {
        parked.client.outbox.unpark(parked.bytes);
        // An error means that the client is gone or has been cut off: it will not miss them.
        let _ = self.send(&parked.client, &parked.reply, parked.limit, &mut parked.pending);
    }

    /// Sends a session's replies that have passed the gate.
    pub(crate) fn send_replies(
        &self,
        session: &mut Session,
        reply: &mut Reply,
        limit: OutputLimit,
    ) -> Result<(), SendError> {
        let pending = &mut session.watch.pending;
        let sent = self.send(&session.client, reply, limit, pending);
        reply.clear();
        sent
    }

    fn send(
        &self,
        client: &Client,
        reply: &Reply,
        limit: OutputLimit,
        pending: &mut Pending,
    ) -> Result<(), SendError> {
        let watch = pending.is_observed().then(Stopwatch::start);
        let sent = client.send(reply.bytes(), reply.largest_value(), limit);
        if let Some(watch) = watch {
            pending.sent(watch.nanos());
        }
        self.metrics.output_bytes.add(reply.bytes().len() as u64);
        sent.inspect_err(|error| self.note_cut(client.addr, error))
    }

    /// How much may wait for a client.
    pub fn output_limit(&self, client: &Client) -> OutputLimit {
        self.config.output_limit(client.class())
    }

    /// Cuts off clients for which too much waits, or for too long, although nothing more is sent.
    fn cut_slow_clients(&self) {
        for client in self.clients.slow() {
            if let Some(waiting) = client.outbox.check(self.output_limit(&client)) {
                self.note_over_limit(client.addr, waiting);
            }
        }
    }

    /// Counts and logs a client that was cut off because what it is owed could not be sent.
    pub(crate) fn note_cut(&self, addr: SocketAddr, error: &SendError) {
        match error {
            SendError::OverLimit(waiting) => self.note_over_limit(addr, *waiting),
            SendError::NoThread(error) => {
                self.metrics.push_thread_failures.increment();
                log::warn!(
                    "client {addr}: cut off, because there is no thread to send what it is slow to \
                     take: {error}; raise the limit of threads (ulimit -u, or the container's pids)"
                );
            }
            SendError::Closed(_) => {}
        }
    }

    /// Counts and logs a client that was cut off because it does not read.
    pub(crate) fn note_over_limit(&self, addr: SocketAddr, waiting: usize) {
        self.metrics.output_limit_disconnections.increment();
        log::warn!(
            "client {addr}: cut off with {waiting} bytes that it has not read \
             (client-output-buffer-limit)"
        );
    }
}
