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
//! when what it depends on is as safe as the configuration promises. Without a log it is always open.
//!
//! Out of scope: sockets (the server's), what a command means (its handler's).

mod builtin;
mod client_command;
mod clients;
mod command_command;
mod connection;
mod help;
mod info;
mod pause;
mod server_command;
mod session;
mod sweeper;

pub use clients::{Client, ClientId, Clients, Registration};
pub use server_command::log_level;
pub use session::{Ending, ReplyMode, Session};
pub use sweeper::sweep;

use crate::commands::{Call, Command, Commands, Flags, Resolved, Run};
use crate::config::{Config, Id};
use crate::error::{Failure, NO_AUTH};
use crate::metrics::Metrics;
use crate::protocol::{Args, Dialect, Reply};
use crate::random::Random;
use crate::shutdown::Shutdown;
use crate::store::{Scope, Store, Tx};
use pause::Pause;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::Relaxed};

/// Everything that connections share.
#[derive(Debug)]
pub struct Engine {
    /// The data.
    pub store: Store,
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
    /// An engine with an empty store.
    pub fn new(config: Config) -> Engine {
        let commands = Commands::new();
        let metrics = Metrics::new(commands.rows().len());
        Engine {
            store: Store::new(),
            commands,
            config,
            metrics,
            clients: Clients::default(),
            shutdown: Shutdown::new(),
            run_id: Random::new().hex40(),
            port: AtomicU16::new(0),
            connections_possible: AtomicUsize::new(usize::MAX),
            active_expire: AtomicBool::new(true),
            pause: Pause::default(),
        }
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
            reply.error(&self.explain(failure, args, reply.dialect()));
        }
        if session.reply_mode.end() {
            reply.rewind(&mark);
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
        session.client.note_command(index);
        let result = match command.run {
            Run::Data(handler) => {
                let mut tx = self.begin(session, command, args);
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

    /// Ends a command's work on the data. The log's append belongs here, while the locks are held, so
    /// that the order of the log is the order in which effects were applied.
    fn finish(&self, session: &mut Session, command: &Command, args: Args<'_>, mut tx: Tx<'_>) {
        if command.flags.has(Flags::WRITE) {
            self.metrics.expired_keys.add(tx.reap(command.keys(args)) as u64);
        }
        let (hits, misses) = tx.hits_and_misses();
        if command.flags.has(Flags::READONLY) {
            session.tally.hits += hits;
            session.tally.misses += misses;
        }
    }

    /// Waits until all that this batch wrote or read is as safe as is promised. Called once per batch,
    /// before its replies are sent.
    pub fn gate(&self, session: &mut Session) {
        self.flush_tally(session);
    }

    /// In text, an error also says what to type instead. Programs get Redis's words only.
    fn explain(&self, failure: Failure, args: Args<'_>, dialect: Dialect) -> Failure {
        if dialect != Dialect::Text {
            return failure;
        }
        let text = failure.text();
        if failure == NO_AUTH {
            return Failure::fixed("NOAUTH Authentication required: type AUTH <password>");
        }
        match self.commands.row_of(args) {
            None => self.explain_unknown(&args[0]),
            Some(row) if text.starts_with("ERR wrong number of arguments") => {
                Failure::new(format!("ERR wrong number of arguments; usage: {}", help::usage(row)))
            }
            Some(row) if text.starts_with("ERR syntax error") => {
                Failure::new(format!("{text}; usage: {}", help::usage(row)))
            }
            Some(_) => failure,
        }
    }

    fn explain_unknown(&self, name: &[u8]) -> Failure {
        let typed = String::from_utf8_lossy(&name[..name.len().min(64)]).into_owned();
        let hint = match self.commands.nearest(name) {
            Some(near) => format!("did you mean {}? ", near.to_uppercase()),
            None => String::new(),
        };
        Failure::new(format!("ERR unknown command '{typed}'; {hint}HELP lists the commands"))
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
