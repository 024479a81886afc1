//! The path of a request: guards from cheap to expensive, then the command under its locks.

use super::session::Ending;
use super::table::{Resolved, Run, ServerCall};
use super::{Engine, Session};
use crate::commands::extra::usage::explain_failure;
use crate::commands::{self, Call, Flags, Handler, Spec};
use crate::config::Id;
use crate::error::{Failure, Kind, LOADING, NO_AUTH};
use crate::metrics::timeline::Step;
use crate::protocol::{Args, Dialect, Mark, Reply};
use crate::pubsub::commands as pubsub_command;
use crate::pubsub::notify::Notice;
use crate::store::Tx;
use std::sync::atomic::Ordering::Relaxed;

const NOT_IN_MULTI: Failure = Failure::fixed("ERR Command not allowed inside a transaction");

impl Engine {
    /// Runs one request and writes its answer.
    pub fn execute(&self, session: &mut Session, args: Args<'_>, reply: &mut Reply) {
        reply.start();
        let mark = reply.mark();
        session.reply_mode.begin();
        let result = self.try_execute(session, args, reply);
        self.answer_failure(result, &mark, args, reply);
        if session.reply_mode.end() {
            reply.rewind(&mark);
        }
        self.note_stake(session, mark, reply);
    }

    /// Answers a line that makes no command. In a MULTI it leaves a hole, as a command that is refused does.
    pub fn refuse_line(&self, session: &mut Session, failure: Failure, reply: &mut Reply) {
        let mark = reply.mark();
        session.reply_mode.begin();
        let failure = session.note_refusal(Args::new(&[], &[]), failure);
        self.metrics.count_error(failure.code());
        reply.error(&failure);
        if session.reply_mode.end() {
            reply.rewind(&mark);
        }
        self.note_stake(session, mark, reply);
    }

    /// Answers a failed command with its error, in place of whatever it has answered already.
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

    /// From the first write of a batch on, every reply is at stake until the gate.
    fn note_stake(&self, session: &mut Session, mark: Mark, reply: &Reply) {
        let answered = usize::from(reply.bytes().len() > mark.position());
        match &mut session.at_stake {
            Some((_, replies)) => *replies += answered,
            None if session.wrote => session.at_stake = Some((mark, answered)),
            None => {}
        }
    }

    /// Guards, then the command, at once or, in a MULTI, later.
    pub(crate) fn try_execute(
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
        self.begin_command(session);
        let found = match self.admit(session, args, reply.dialect()) {
            Ok(found) => found,
            Err(failure) => return Err(session.note_refusal(args, failure)),
        };
        session.client.note_command(found.index);
        if session.queues(found.command) {
            return self.queue(session, found, args, reply);
        }
        self.run(session, found, args, reply)
    }

    /// The guards, from cheap to expensive: finds the command and says whether it may run. In a MULTI it
    /// is asked when a command is queued, and again for EXEC on behalf of them all.
    fn admit(
        &self,
        session: &mut Session,
        args: Args<'_>,
        dialect: Dialect,
    ) -> Result<Resolved, Failure> {
        let found = match self.commands.resolve(args) {
            Ok(found) => found,
            // Before AUTH nobody learns which commands there are.
            Err(_) if !session.authenticated => return Err(NO_AUTH),
            Err(failure) => return Err(self.reject(self.commands.lookup(args), failure)),
        };
        let command = found.command;
        if !session.authenticated && !command.flags.has(Flags::NO_AUTH) {
            return Err(self.reject(Some(found), NO_AUTH));
        }
        if command.flags.has(Flags::NO_MULTI) && session.queues(command) {
            return Err(self.reject(Some(found), NOT_IN_MULTI));
        }
        pubsub_command::check_allowed(session, command, dialect)
            .and_then(|()| self.admit_waiting(session, command))
            .map_err(|failure| self.reject(Some(found), failure))?;
        Ok(found)
    }

    /// Waits where a command has to, before any lock is taken: for the end of a pause, for the disk.
    fn admit_waiting(&self, session: &mut Session, command: &Spec) -> Result<(), Failure> {
        let flags = session.flags_of(command);
        let mut waited =
            !flags.has(Flags::UNPAUSED) && self.wait_while_paused(&session.client, flags)?;
        if let Some(persistence) = self.persistence.as_ref().filter(|_| flags.has(Flags::WRITE)) {
            waited |= persistence.admit()?;
        }
        self.check_role(flags)?;
        if flags.has(Flags::DENYOOM) || session.queues(command) {
            waited |= self.make_room()?;
        }
        if waited {
            session.account_wait();
        }
        Ok(())
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
                let begin = |session: &mut Session| self.begin(session, command, args);
                match self.begin_admitted(session, command.flags, begin) {
                    Ok(mut tx) => {
                        let result = self.run_data(session, &mut tx, command, handler, args, reply);
                        self.finish(session, tx);
                        result
                    }
                    Err(failure) => Err(failure),
                }
            }
            Run::Server(handler) => handler(&mut ServerCall { engine: self, session, reply }, args),
        };
        self.end_command(session, found, args, result.is_err());
        result
    }

    /// Whether a node in this role runs the command: a follower takes no writes and may refuse reads, a
    /// leader may refuse writes that too few followers would have.
    fn check_role(&self, flags: Flags) -> Result<(), Failure> {
        self.check_behind_lock(flags)?;
        if flags.has(Flags::WRITE) {
            return self.check_followers();
        }
        if flags.has(Flags::READONLY) {
            self.role.may_read(&self.config, || self.uptime_ms())
        } else {
            Ok(())
        }
    }

    /// What is asked once more when the locks are held: a step down and a load take all of them, so only
    /// then is the answer certain.
    pub(crate) fn check_behind_lock(&self, flags: Flags) -> Result<(), Failure> {
        if flags.has(Flags::WRITE) && self.role.is_follower() {
            return Err(self.role.readonly());
        }
        if self.loading.is_active() && !flags.has(Flags::LOADING) { Err(LOADING) } else { Ok(()) }
    }

    /// `min-replicas-to-write`.
    fn check_followers(&self) -> Result<(), Failure> {
        let wanted = self.config.int(Id::MinReplicasToWrite) as usize;
        if wanted == 0 || self.good_followers() >= wanted {
            return Ok(());
        }
        let refusal = Failure::fixed("NOREPLICAS Not enough good replicas to write.");
        Err(refusal.of_kind(Kind::Unavailable))
    }

    /// Followers that keep up: connected, and heard of lately (`min-replicas-max-lag`).
    pub fn good_followers(&self) -> usize {
        let silent_ms_max = self.config.int(Id::MinReplicasMaxLag) as u64 * 1000;
        let now = self.uptime_ms();
        self.followers.count(|follower| {
            follower.online.load(Relaxed)
                && (silent_ms_max == 0 || follower.silent_ms(now) <= silent_ms_max)
        })
    }

    /// Counts a call that is refused before it runs.
    fn reject(&self, found: Option<Resolved>, failure: Failure) -> Failure {
        if let Some(found) = found {
            self.metrics.commands[found.index].rejected.increment();
        }
        failure
    }

    /// Takes the locks, and asks once more whether the command may run: only with the locks held is the
    /// answer certain (see `cluster/role.rs` and `pause.rs`).
    pub(crate) fn begin_admitted<'s>(
        &'s self,
        session: &mut Session,
        flags: Flags,
        begin: impl Fn(&mut Session) -> Tx<'s>,
    ) -> Result<Tx<'s>, Failure> {
        loop {
            let tx = begin(session);
            let admitted = self.check_behind_lock(flags);
            if admitted.is_ok() && !self.is_paused(flags) {
                return Ok(tx);
            }
            self.finish(session, tx);
            admitted?;
            self.wait_while_paused(&session.client, flags)?;
            session.account_wait();
        }
    }

    /// Locks what the command works on. Its time is that of the moment when the locks were held: the end of the
    /// command before, unless there was a wait.
    fn begin<'s>(&'s self, session: &mut Session, command: &Spec, args: Args<'s>) -> Tx<'s> {
        let write = command.flags.has(Flags::WRITE);
        let waited = std::mem::take(&mut session.waited);
        let all_keys = command.flags.has(Flags::ALL_KEYS);
        let at_start =
            (!all_keys).then(|| self.clock.at_start_of(&session.stopwatch, &mut session.reading));
        let now = move || at_start.unwrap_or_else(|| self.clock.now());
        let tx = commands::lock(&self.store, command, args, now);
        if waited || tx.waited_for_locks() {
            tx.set_now(self.clock.now());
        }
        self.prepare(session, tx, write)
    }

    /// Tells a new transaction what it must know of the session.
    pub(crate) fn prepare<'s>(&self, session: &mut Session, tx: Tx<'s>, write: bool) -> Tx<'s> {
        if tx.waited_for_locks() {
            session.account(Step::Lock);
            self.metrics.lock_wait.record(session.watch.timeline.of(Step::Lock) / 1000);
        }
        let mut tx =
            tx.without_touch(session.client.no_touch.load(Relaxed)).with_tracking(self.tracking());
        self.collect_events(&mut tx);
        if write && self.persistence.is_some() {
            tx.record_into(std::mem::take(&mut session.record));
        }
        tx
    }

    /// Runs a command on the data, and counts what it found.
    pub(crate) fn run_data(
        &self,
        session: &mut Session,
        tx: &mut Tx<'_>,
        command: &Spec,
        handler: Handler,
        args: Args<'_>,
        reply: &mut Reply,
    ) -> Result<(), Failure> {
        let value_len_max = self.config.int(Id::ProtoMaxBulkLen) as usize;
        tx.set_command_kind(command.flags.has(Flags::WRITE));
        let mut call = Call { tx, reply, value_len_max, name: command.name };
        let result = handler(&mut call, args);
        session.time(Step::Run);
        if command.flags.has(Flags::WRITE) {
            self.metrics.expired_keys.add(tx.reap(command.keys(args)) as u64);
        }
        let (hits, misses) = tx.take_hits_and_misses();
        if command.flags.has(Flags::READONLY) {
            session.tally.hits += hits;
            session.tally.misses += misses;
        }
        result
    }

    /// Ends the work on the data: its effects go to the log while the locks are held, so that the order
    /// of the log is the order in which they were applied.
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
            return;
        };
        self.note_write(session, persistence, seq);
        session.depends_on = session.depends_on.max(session.last_write);
        session.wrote = true;
        session.watch.timeline.seq = session.last_write.0;
        session.time(Step::Append);
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
        let (mut decoder, mut reply) = (Decoder::new(), Reply::new(Dialect::Resp2));
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
        let engine = Engine::open(config, crate::admin::commands()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, addr) = listener.accept().unwrap();
        let client = engine.clients.register(socket, addr, addr, 1).unwrap();
        let mut session = engine.session(client);

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
        engine.flush_tally(&mut session);
        let stats = &engine.metrics.commands[engine.commands.find(b"set").unwrap().index];
        assert_eq!((stats.latency.count(), stats.failed.get()), (2, 1));
    }
}
