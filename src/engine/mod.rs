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

mod builtin;
mod client_command;
mod clients;
mod command_command;
pub mod compactor;
mod connection;
mod help;
mod info;
mod key_specs;
mod log_command;
mod pause;
mod persistence;
mod server_command;
mod session;
mod sweeper;
pub mod syncer;

pub use clients::{Client, ClientId, Clients, Registration};
pub use compactor::Compactor;
pub use persistence::Persistence;
pub use server_command::log_level;
pub use session::{Ending, ReplyMode, Session};
pub use sweeper::sweep;

use crate::aof::recovery::RecoveryError;
use crate::commands::{Call, Command, Commands, Flags, Resolved, Run};
use crate::config::{Config, Id, OutputLimit};
use crate::effect::Seq;
use crate::error::{Failure, NO_AUTH};
use crate::metrics::Metrics;
use crate::outbox::SendError;
use crate::protocol::{Args, Dialect, Mark, Reply};
use crate::random::Random;
use crate::shutdown::Shutdown;
use crate::store::{Scope, Store, Tx};
use pause::Pause;
use persistence::{Parked, Passage};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::Relaxed};

/// Everything that connections share.
#[derive(Debug)]
pub struct Engine {
    /// The data.
    pub store: Store,
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
    /// The latch for the end.
    pub shutdown: Shutdown,
    /// Memory that the process had before there was any data.
    startup_bytes: usize,
    /// 40 hex digits, new for each process.
    pub run_id: String,
    /// The port that is listened on, which the settings do not know if it was chosen by the kernel.
    pub port: AtomicU16,
    /// How many connections the process's file limit allows; `maxclients` may be more.
    pub connections_possible: AtomicUsize,
    /// DEBUG SET-ACTIVE-EXPIRE.
    active_expire: AtomicBool,
    pause: Pause,
}

impl Engine {
    /// An engine with what the log holds, or, without a log, with nothing.
    pub fn open(config: Config) -> Result<Engine, RecoveryError> {
        let commands = Commands::new();
        let metrics = Metrics::new(commands.rows().len());
        let store = Store::new();
        let startup_bytes = info::resident_bytes().unwrap_or(0);
        let persistence = if config.flag(Id::Appendonly) {
            Some(Persistence::open(&config, &store)?)
        } else {
            log::warn!("appendonly no: nothing is written to disk; all data is lost at the end");
            None
        };
        Ok(Engine {
            store,
            persistence,
            compactor: Compactor::default(),
            commands,
            config,
            metrics,
            clients: Clients::default(),
            shutdown: Shutdown::new(),
            startup_bytes,
            run_id: Random::new().hex40(),
            port: AtomicU16::new(0),
            connections_possible: AtomicUsize::new(usize::MAX),
            active_expire: AtomicBool::new(true),
            pause: Pause::default(),
        })
    }

    /// How many clients may be connected at once.
    pub fn maxclients(&self) -> usize {
        (self.config.int(Id::Maxclients) as usize).min(self.connections_possible.load(Relaxed))
    }

    /// A session for a new connection.
    pub fn session(&self, client: Arc<Client>) -> Session {
        Session::new(client, self.config.text(Id::Requirepass).is_empty())
    }

    /// Runs one request and writes its answer.
    pub fn execute(&self, session: &mut Session, args: Args<'_>, reply: &mut Reply) {
        let mark = reply.mark();
        session.reply_mode.begin();
        if let Err(failure) = self.try_execute(session, args, reply) {
            reply.rewind(&mark);
            self.metrics.count_error(failure.code());
            // Programs get Redis's words only.
            let failure = match reply.dialect() {
                Dialect::Text => help::explain_failure(self, failure, args),
                _ => failure,
            };
            reply.error(&failure);
        }
        if session.reply_mode.end() {
            reply.rewind(&mark);
        }
        self.note_stake(session, mark, reply);
    }

    /// From the first write of a batch on, every reply is at stake until the gate.
    fn note_stake(&self, session: &mut Session, mark: Mark, reply: &Reply) {
        let answered = usize::from(reply.bytes().len() > mark.position());
        match &mut session.at_stake {
            Some((_, replies)) => *replies += answered,
            None if session.wrote => session.at_stake = Some((mark, answered)),
            None => {}
        }
    }

    /// Guards from cheap to expensive, then the command.
    fn try_execute(
        &self,
        session: &mut Session,
        args: Args<'_>,
        reply: &mut Reply,
    ) -> Result<(), Failure> {
        // A browser that was tricked into sending its request to us must not run the commands that an
        // attacker put into its body.
        if args.is(0, "post") || args.is(0, "host:") {
            log::warn!(
                "client {}: an HTTP request on the command port; closing",
                session.client.addr
            );
            session.ending = Ending::Now;
            return Ok(());
        }
        let found = match self.commands.resolve(args) {
            Ok(found) => found,
            // Before AUTH nobody learns which commands there are.
            Err(_) if !session.authenticated => return Err(NO_AUTH),
            Err(failure) => return Err(failure),
        };
        let Resolved { command, index } = found;
        if !session.authenticated && !command.flags.has(Flags::NO_AUTH) {
            self.metrics.commands[index].rejected.increment();
            return Err(NO_AUTH);
        }
        self.pause.wait(command, &self.shutdown);
        // Before any lock is taken: this may wait for the disk.
        if let Some(persistence) =
            self.persistence.as_ref().filter(|_| command.flags.has(Flags::WRITE))
        {
            persistence.admit()?;
        }
        session.client.note_command(index);
        let result = match command.run {
            Run::Data(handler) => {
                let mut tx = self.begin(session, command, args);
                if self.persistence.is_some() && command.flags.has(Flags::WRITE) {
                    tx.record_into(std::mem::take(&mut session.record));
                }
                let value_len_max = self.config.int(Id::ProtoMaxBulkLen) as usize;
                let mut call = Call { tx: &mut tx, reply, value_len_max, name: command.name };
                let result = handler(&mut call, args);
                self.finish(session, command, args, tx);
                result
            }
            Run::Engine(builtin) => self.run_builtin(builtin, session, args, reply),
            Run::ContainerOr(builtin) => self.run_builtin(builtin, session, args, reply),
            Run::Container => unreachable!("resolve finds the subcommand or fails"),
        };
        self.tally(session, index, result.is_err());
        result
    }

    /// Locks what the command works on.
    fn begin(&self, session: &Session, command: &Command, args: Args<'_>) -> Tx<'_> {
        let write = command.flags.has(Flags::WRITE);
        let tx = if command.flags.has(Flags::ALL_KEYS) {
            let scope = if write { Scope::All } else { Scope::Fleeting };
            self.store.begin_scope(scope, write, session.now)
        } else {
            self.store.begin(command.keys(args), write, session.now)
        };
        tx.without_touch(session.client.no_touch.load(Relaxed))
    }

    /// Ends a command's work on the data: its effects go to the log while the locks are held, so that
    /// the order of the log is the order in which they were applied.
    fn finish(&self, session: &mut Session, command: &Command, args: Args<'_>, mut tx: Tx<'_>) {
        if command.flags.has(Flags::WRITE) {
            self.metrics.expired_keys.add(tx.reap(command.keys(args)) as u64);
        }
        if command.flags.has(Flags::READONLY) {
            let (hits, misses) = tx.hits_and_misses();
            session.tally.hits += hits;
            session.tally.misses += misses;
        }
        let Some(persistence) = &self.persistence else { return };
        if tx.effects() > 0 {
            let (seq, buffer) = tx.commit(|payload| persistence.log.append(payload, session.now));
            session.last_write = seq.unwrap_or_default();
            session.depends_on = session.depends_on.max(session.last_write);
            session.record = buffer;
            session.wrote = true;
        } else {
            session.depends_on = session.depends_on.max(tx.last_seq());
        }
    }

    /// The gate: every reply passes it. Once per batch it waits until all that the batch wrote or read
    /// is as safe as is promised. Returns whether the replies are to be sent now; if not, they have been
    /// parked and are sent when they may be.
    pub fn gate(&self, session: &mut Session, reply: &mut Reply, limit: OutputLimit) -> bool {
        self.flush_tally(session);
        let needed = std::mem::take(&mut session.depends_on);
        let at_stake = session.at_stake.take();
        session.wrote = false;
        let Some(persistence) = &self.persistence else { return true };
        if needed == Seq(0) && reply.bytes().is_empty() {
            return true;
        }
        match persistence.pass(needed, session.client.has_parked()) {
            Passage::Open => true,
            Passage::Park => {
                let client = Arc::clone(&session.client);
                client.park();
                let empty = Reply::new(reply.dialect());
                let reply = std::mem::replace(reply, empty);
                let parked = Parked { client, reply, at_stake, limit };
                persistence.parked_tx.send(parked).expect("the engine holds the receiver, too");
                false
            }
            Passage::Failed(error) => {
                persistence::refuse(reply, at_stake, &error);
                true
            }
        }
    }

    /// Sends replies that were parked.
    fn send_parked(&self, parked: &Parked) {
        let bytes = parked.reply.bytes();
        if let Err(SendError::OverLimit(waiting)) = parked.client.send(bytes, parked.limit) {
            self.note_over_limit(&parked.client, waiting);
        }
    }

    /// Counts and logs a client that was cut off because it does not read.
    pub fn note_over_limit(&self, client: &Client, waiting: usize) {
        self.metrics.output_limit_disconnections.increment();
        log::warn!(
            "client {}: cut off with {waiting} bytes of replies that it has not read \
             (client-output-buffer-limit)",
            client.addr
        );
    }

    fn tally(&self, session: &mut Session, index: usize, failed: bool) {
        if session.tally.command != index {
            self.flush_command_tally(session);
            session.tally.command = index;
        }
        session.tally.calls += 1;
        session.tally.micros += session.stopwatch.lap_micros();
        if failed {
            self.metrics.commands[index].failed.increment();
        }
    }

    fn flush_tally(&self, session: &mut Session) {
        self.flush_command_tally(session);
        self.metrics.keyspace_hits.add(std::mem::take(&mut session.tally.hits));
        self.metrics.keyspace_misses.add(std::mem::take(&mut session.tally.misses));
    }

    fn flush_command_tally(&self, session: &mut Session) {
        let tally = &mut session.tally;
        let stats = &self.metrics.commands[tally.command];
        self.metrics.commands_processed.add(tally.calls);
        stats.calls.add(std::mem::take(&mut tally.calls));
        stats.micros.add(std::mem::take(&mut tally.micros));
    }
}
