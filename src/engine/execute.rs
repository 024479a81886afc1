//! The path of a request: guards from cheap to expensive, then the command under its locks.

use super::session::Ending;
use super::{Engine, Session, help};
use crate::commands::{Call, Command, Flags, Resolved, Run};
use crate::config::Id;
use crate::error::{Failure, NO_AUTH};
use crate::protocol::{Args, Dialect, Mark, Reply};
use crate::store::{Scope, Tx};
use std::sync::atomic::Ordering::Relaxed;

impl Engine {
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

    /// Adds a batch's counts to the shared counters.
    pub(super) fn flush_tally(&self, session: &mut Session) {
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
