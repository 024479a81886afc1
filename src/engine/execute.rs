//! The path of a request: guards from cheap to expensive, then the command under its locks.

use super::confirm::Access;
use super::session::Ending;
use super::table::{Resolved, Run, ServerCall};
use super::{Engine, Persistence, Session};
use crate::clock::Stopwatch;
use crate::commands::extra::usage::explain_failure;
use crate::commands::{self, Call, Flags, Handler, Spec};
use crate::error::{Failure, LOADING, NO_AUTH, TOO_MANY_CLIENTS};
use crate::metrics::Stat;
use crate::metrics::timeline::Step;
use crate::protocol::{Args, Dialect, Mark, Reply};
use crate::pubsub::commands::check_subscriber;
use crate::pubsub::notify::Notice;
use crate::store::Tx;
use crate::store::effect::Seq;
use std::sync::atomic::Ordering::Relaxed;

/// The commands with which another node takes over a connection.
const OF_NODES: &[&str] = &["peer", "replicate"];
const NOT_IN_MULTI: Failure = Failure::fixed("ERR Command not allowed inside a transaction");

impl Engine {
    /// Called before the first request of a batch: reads the clock, the settings and the watermark that hold
    /// for it.
    pub fn begin_batch(&self, session: &mut Session) {
        session.probe.stopwatch = Stopwatch::start();
        session.promised = self.persistence.as_ref().map_or(Seq(0), Persistence::promised);
        session.note_ran(self);
        self.refresh_settings(session);
    }

    /// Takes over changed settings; called also after CONFIG SET, for the rest of its batch.
    pub(crate) fn refresh_settings(&self, session: &mut Session) {
        session.config.refresh(&self.config);
        let sample_every = self.instruments.sample_every.load(Relaxed);
        session.probe.configure(&session.config, sample_every, session.client.id.0);
    }

    /// Runs one request and writes its reply.
    pub fn execute(&self, session: &mut Session, args: Args<'_>, reply: &mut Reply) {
        reply.start();
        let mark = reply.mark();
        session.reply_mode.begin();
        let result = self.try_execute(session, args, reply);
        if let Err(failure) = &result {
            session.note_refusal(failure, reply.dialect());
        }
        self.answer_failure(result, &mark, args, reply);
        self.end_reply(session, mark, reply);
    }

    /// Answers a line that makes no command. In a MULTI it counts as a refused command.
    pub fn refuse_line(&self, session: &mut Session, failure: Failure, reply: &mut Reply) {
        let mark = reply.mark();
        session.reply_mode.begin();
        let failure = session.refuse_transaction(Args::new(&[], &[]), failure);
        self.metrics.count_error(failure.code());
        reply.error(&failure);
        self.end_reply(session, mark, reply);
    }

    /// Answers a failed command with its error, in place of anything it has answered already.
    pub(crate) fn answer_failure(
        &self,
        result: Result<(), Failure>,
        mark: &Mark,
        args: Args<'_>,
        reply: &mut Reply,
    ) {
        let Err(failure) = result else { return };
        reply.rewind(mark);
        self.metrics.count_error(failure.code());
        // Programs get Redis's words only.
        let failure = match reply.dialect() {
            Dialect::Text => explain_failure(&self.commands, failure, args),
            _ => failure,
        };
        reply.error(&failure);
    }

    /// Guards, then the command: at once or, in a MULTI, later.
    pub(crate) fn try_execute(
        &self,
        session: &mut Session,
        args: Args<'_>,
        reply: &mut Reply,
    ) -> Result<(), Failure> {
        // A browser that was tricked into sending its request to us must not run the commands that an
        // attacker put into its body.
        if args.is(0, "post") || args.is(0, "host:") {
            let addr = session.client.addr;
            log::warn!("client {addr}: an HTTP request on the command port; closing");
            session.ending = Ending::Now;
            return Ok(());
        }
        session.probe.begin();
        let admitted = self.resolve(session, args).and_then(|found| {
            let admitted = self.admit(session, found.command, reply.dialect());
            admitted.map_err(|failure| self.reject(Some(found), failure)).map(|()| found)
        });
        let found = match admitted {
            Ok(found) => found,
            Err(failure) => return Err(session.refuse_transaction(args, failure)),
        };
        session.client.record_command(found.index);
        if session.queues(found.command) {
            return self.queue(session, found, args, reply);
        }
        self.run(session, found, args, reply)
    }

    /// Finds the command's row.
    fn resolve(&self, session: &Session, args: Args<'_>) -> Result<Resolved, Failure> {
        match self.commands.resolve(args) {
            Ok(found) => Ok(found),
            // Before AUTH a client does not learn which commands exist.
            Err(failure) => {
                let failure = if session.authenticated { failure } else { NO_AUTH };
                Err(self.reject(self.commands.lookup(args), failure))
            }
        }
    }

    /// Counts a call that is refused before it runs, and one of no known command.
    fn reject(&self, found: Option<Resolved>, failure: Failure) -> Failure {
        match found {
            Some(found) => self.metrics.commands[found.index].rejected.increment(),
            None => self.metrics[Stat::UnknownCommands].increment(),
        }
        failure
    }

    /// The guards, from cheap to expensive. In a MULTI they are asked when a command is queued, and for EXEC
    /// again on behalf of all queued commands. Waiting happens here, before any lock is taken. Not inlined, as
    /// [`Engine::lock_admitted`].
    #[inline(never)]
    fn admit(
        &self,
        session: &mut Session,
        command: &Spec,
        dialect: Dialect,
    ) -> Result<(), Failure> {
        // Without the password, only AUTH, HELLO and QUIT.
        if !session.authenticated && !command.flags.has(Flags::NO_AUTH) {
            return Err(NO_AUTH);
        }
        // Over `maxclients`, only another node of the cluster.
        if session.client.is_spare
            && !command.flags.has(Flags::NO_AUTH)
            && !OF_NODES.contains(&command.name)
        {
            self.metrics[Stat::ConnectionsRejected].increment();
            session.ending = Ending::AfterReply;
            return Err(TOO_MANY_CLIENTS);
        }
        // Commands that take over the connection or wait cannot be queued.
        if command.flags.has(Flags::NO_MULTI) && session.queues(command) {
            return Err(NOT_IN_MULTI);
        }
        // A subscriber may send little else; with RESP3, everything.
        check_subscriber(session, command, dialect)?;
        let flags = session.flags_of(command);
        let mut waited = false;
        // CLIENT PAUSE holds back writes or all commands, but not those that end the pause or the server.
        if !flags.has(Flags::UNPAUSED) {
            waited |= self.wait_while_paused(&session.client, flags)?;
        }
        // A write needs room in the log's buffer, and a log that works.
        if flags.has(Flags::WRITE)
            && let Some(persistence) = &self.persistence
        {
            waited |= persistence.admit()?;
        }
        // A follower takes no writes, and perhaps no reads.
        self.check_role(flags)?;
        // `maxmemory` stops commands that may need memory, and queueing, which does.
        if flags.has(Flags::DENYOOM) || session.queues(command) {
            waited |= self.make_room()?;
        }
        if waited {
            session.record_wait();
        }
        Ok(())
    }

    /// Refuses writes on a follower, reads that may be too old, and writes that too few followers would get.
    fn check_role(&self, flags: Flags) -> Result<(), Failure> {
        self.check_role_locked(flags)?;
        if flags.has(Flags::WRITE) {
            self.followers.may_write(&self.config, || self.uptime_ms())?;
        } else if flags.has(Flags::READONLY) {
            self.role.may_read(&self.config, || self.uptime_ms())?;
        }
        Ok(())
    }

    /// The part of [`Engine::check_role`] that is asked again under the locks. Stepping down and loading take
    /// all of them, so only then is the answer certain.
    fn check_role_locked(&self, flags: Flags) -> Result<(), Failure> {
        if flags.has(Flags::WRITE) && self.role.is_follower() {
            return Err(self.readonly());
        }
        if self.loading.is_active() && !flags.has(Flags::LOADING) { Err(LOADING) } else { Ok(()) }
    }

    /// Runs a command that the guards have let through.
    pub(crate) fn run(
        &self,
        session: &mut Session,
        found: Resolved,
        args: Args<'_>,
        reply: &mut Reply,
    ) -> Result<(), Failure> {
        let command = found.command;
        let result = match found.run {
            Run::Data(handler) => {
                let lock = |session: &mut Session| self.lock(session, command, args);
                self.lock_admitted(session, command.flags, lock).and_then(|mut tx| {
                    let result = self.run_data(session, &mut tx, command, handler, args, reply);
                    self.finish(session, tx);
                    result
                })
            }
            Run::Server(handler) => handler(&mut ServerCall { engine: self, session, reply }, args),
        };
        session.ran(self, found, args, result.is_err());
        result
    }

    /// Takes the locks and checks the role and the pause again, because both may have changed while the
    /// command waited for its locks. Not inlined: then two more transactions would be on the stack below each command, and
    /// SET would need a third page. A silent client takes 12.7 KiB instead of 16.7 since most commands need two.
    #[inline(never)]
    pub(crate) fn lock_admitted<'s>(
        &'s self,
        session: &mut Session,
        flags: Flags,
        lock: impl Fn(&mut Session) -> Tx<'s>,
    ) -> Result<Tx<'s>, Failure> {
        loop {
            let tx = lock(session);
            let admitted = self.check_role_locked(flags);
            if admitted.is_ok() && !self.is_paused(flags) {
                return Ok(tx);
            }
            self.finish(session, tx);
            admitted?;
            self.wait_while_paused(&session.client, flags)?;
            session.record_wait();
        }
    }

    /// Locks the command's keys. Its time is the moment when the locks were held: the end of the command
    /// before, unless there was a wait.
    fn lock<'s>(&'s self, session: &mut Session, command: &Spec, args: Args<'s>) -> Tx<'s> {
        let write = command.flags.has(Flags::WRITE);
        let waited = std::mem::take(&mut session.waited);
        let all_keys = command.flags.has(Flags::ALL_KEYS);
        let stopwatch = &session.probe.stopwatch;
        let at_start = (!all_keys).then(|| self.clock.at_start_of(stopwatch, &mut session.reading));
        let now = move || at_start.unwrap_or_else(|| self.clock.now());
        let mut tx = commands::lock(&self.store, command, args, now);
        if waited || tx.waited_for_locks() {
            tx.set_now(self.clock.now());
        }
        self.prepare(session, &mut tx, write);
        tx
    }

    /// Gives a new transaction what it needs of the session.
    pub(crate) fn prepare(&self, session: &mut Session, tx: &mut Tx<'_>, write: bool) {
        if tx.waited_for_locks() {
            self.metrics.lock_wait.record(session.probe.waited(Step::Lock) / 1000);
        }
        tx.track_accesses(self.tracking(), !session.client.no_touch.load(Relaxed));
        self.collect_events(tx);
        if write && self.persistence.is_some() {
            tx.record_into(std::mem::take(&mut session.record));
        }
    }

    /// Runs a command on the data, and counts the keys it found.
    pub(crate) fn run_data(
        &self,
        session: &mut Session,
        tx: &mut Tx<'_>,
        command: &Spec,
        handler: Handler,
        args: Args<'_>,
        reply: &mut Reply,
    ) -> Result<(), Failure> {
        let value_len_max = session.config.value_len_max;
        tx.set_command_kind(command.flags.has(Flags::WRITE));
        let mut call = Call { tx, reply, value_len_max, name: command.name };
        let result = handler(&mut call, args);
        session.probe.step(Step::Run);
        if command.flags.has(Flags::WRITE) {
            self.metrics[Stat::ExpiredKeys].add(tx.reap(command.keys(args)) as u64);
        }
        let found = tx.take_hits_and_misses();
        if command.flags.has(Flags::READONLY) {
            session.probe.looked_up(found);
        }
        result
    }

    /// Appends the effects to the log while the locks are held, so that the order of the log is the order in
    /// which they were applied; then unlocks.
    pub(crate) fn finish(&self, session: &mut Session, mut tx: Tx<'_>) {
        let events = tx.take_events();
        session.notices.extend(events.into_iter().map(Notice::Event));
        let Some(persistence) = &self.persistence else { return };
        let now = tx.now();
        let (written, buffer) = tx.commit(|payload| persistence.log.append(payload, now));
        if session.record.capacity() == 0 {
            session.record = buffer;
        }
        let Some(seq) = written else {
            session.depends_on = session.depends_on.max(tx.last_seq());
            if session.access == Access::None {
                session.access = Access::Read;
            }
            return;
        };
        session.last_write = seq;
        session.last_write_epoch = persistence.own_epoch();
        session.depends_on = session.depends_on.max(seq);
        session.wrote = true;
        session.access = Access::Wrote;
        session.probe.appended(seq);
    }
}

impl Engine {
    /// Takes the reply back if the client wants none. From the first write of a batch on, counts the replies that
    /// become errors if the log fails.
    fn end_reply(&self, session: &mut Session, mark: Mark, reply: &mut Reply) {
        if session.reply_mode.end() {
            reply.rewind(&mark);
        }
        let is_answered = reply.bytes().len() > mark.position();
        if self.cluster.is_some() {
            return session.note_answer(mark, is_answered);
        }
        match &mut session.uncertain_replies {
            Some((_, replies)) => *replies += usize::from(is_answered),
            None if session.wrote => {
                session.uncertain_replies = Some((mark, usize::from(is_answered)));
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::state::LeaderAddr;
    use crate::config::Config;
    use crate::protocol::{Decoder, Limits, Step as Decoded};
    use std::net::{TcpListener, TcpStream};

    /// Runs a request past the guards, as if the role had changed while it waited for its locks.
    fn run_late(engine: &Engine, session: &mut Session, request: &[u8]) -> Result<(), Failure> {
        let (mut decoder, mut reply) = (Decoder::default(), Reply::new(Dialect::Resp2));
        let limits = Limits { bulk_len_max: 1 << 20, unauthenticated: false };
        assert!(matches!(decoder.step(request, limits), Decoded::Resp(_)));
        let args = decoder.args(request);
        let found = engine.commands.resolve(args).unwrap();
        engine.run(session, found, args, &mut reply)
    }

    #[test]
    fn a_write_that_is_refused_under_its_locks_is_counted_and_keeps_its_buffer() {
        let dir = tempfile::tempdir().unwrap();
        let options = [format!("--dir={}", dir.path().display())];
        let config = Config::load(&options, std::iter::empty()).unwrap();
        let engine = Engine::open(config, crate::admin::commands(), Default::default()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, addr) = listener.accept().unwrap();
        let client = engine.clients.register(socket, addr, addr, 1, 0).unwrap();
        let mut session = Session::new(&engine, client);

        let set = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";
        run_late(&engine, &mut session, set).unwrap();
        let buffer = session.record.capacity();
        assert!(buffer > 0);
        engine.follow(LeaderAddr { host: "127.0.0.1".into(), port: 1 }).unwrap();
        let refused = run_late(&engine, &mut session, set).unwrap_err();
        assert!(refused.bytes().starts_with(b"READONLY "));
        assert_eq!(session.record.capacity(), buffer);
        // A write that comes to nothing gives its buffer back as well.
        run_late(&engine, &mut session, b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n").unwrap();
        assert_eq!(session.record.capacity(), buffer);
        session.probe.flush(&engine.metrics);
        let stats = &engine.metrics.commands[engine.commands.find(b"set").unwrap().index];
        assert_eq!((stats.latency.count(), stats.failed.get()), (2, 1));
    }
}
