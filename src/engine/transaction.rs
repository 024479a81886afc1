//! Transactions: MULTI queues commands, EXEC runs them at one instant.
//!
//! ```text
//! MULTI ─ each command passes the guards and is queued ─ EXEC
//!                                                         │
//!   lock the shards of all queued commands' keys and of all watched keys, ascending
//!   has a watched key changed? ── then nothing runs, and the answer is nil
//!   run the commands on data, one after another         an error is an element of the answer
//!   append all their effects to the log, as one record
//!   unlock ─ run the commands about the server ─ THE GATE, once
//! ```
//!
//! For every reader an EXEC happens at one instant. After a crash all of it is there or nothing, because its
//! record has one checksum. As in Redis, a command that fails when it runs (INCR of a word) does not undo the
//! others: it is a mistake in the program that sent it, not in the data.
//!
//! Commands about the server (INFO, CLIENT KILL, CONFIG SET) run after the unlocking, in their order and at
//! their places in the answer. They read all shards, wait, or write to files, which is not allowed under a
//! lock. They see what the transaction did, and perhaps what came after it.
//!
//! `client-query-buffer-limit` bounds the queue, the watched keys, and the record (ten times RENAME of a huge
//! value is a short request). Over it the transaction is aborted, the WATCH is refused, and the commands after
//! the one that filled the record get an error each.

use super::Engine;
use super::queue::{self, Queue, discarded};
use super::session::{Mode, Session};
use super::table::{Resolved, Run};
use crate::commands::Flags;
use crate::error::Failure;
use crate::protocol::{Args, Reply};
use crate::store::Tx;

const ABORTED: Failure =
    Failure::fixed("EXECABORT Transaction discarded because of previous errors.");
const QUEUE_FULL: Failure = Failure::fixed(
    "ERR the commands of this transaction exceed client-query-buffer-limit; it is aborted",
);
const RECORD_FULL: Failure =
    Failure::fixed("ERR what this transaction has written exceeds client-query-buffer-limit");

impl Engine {
    /// Keeps a command for EXEC.
    pub(crate) fn queue(
        &self,
        session: &mut Session,
        found: Resolved,
        args: Args<'_>,
        reply: &mut Reply,
    ) -> Result<(), Failure> {
        let Mode::Queueing(queue) = &mut session.mode else { unreachable!("see `queues`") };
        // A command that will not run is not kept.
        if !queue.has_failed && !session.watches.is_flagged() {
            if queue.allocated_bytes() + queue::size(args) > session.config.query_bytes_max {
                queue.fail();
                session.record_transaction();
                return Err(QUEUE_FULL);
            }
            queue.push(found, args);
            session.record_transaction();
        }
        reply.simple("QUEUED");
        Ok(())
    }

    pub(crate) fn exec(&self, session: &mut Session, reply: &mut Reply) -> Result<(), Failure> {
        let queue = match std::mem::replace(&mut session.mode, Mode::Executing) {
            Mode::Queueing(queue) => queue,
            Mode::Direct | Mode::Executing => {
                session.mode = Mode::Direct;
                return Err(Failure::fixed("ERR EXEC without MULTI"));
            }
        };
        let result = match self.run_on_data(session, &queue, reply) {
            Ok(holes) => {
                session.watches.clear();
                self.run_server_commands(session, &queue, &holes, reply);
                Ok(())
            }
            Err(failure) => Err(failure),
        };
        session.leave_transaction();
        for (kind, millis) in std::mem::take(&mut session.pauses) {
            self.begin_pause(kind, millis);
        }
        result
    }

    /// Runs the commands on data at one instant. Returns where in the buffer the answers of the others go.
    fn run_on_data(
        &self,
        session: &mut Session,
        queue: &Queue,
        reply: &mut Reply,
    ) -> Result<Vec<usize>, Failure> {
        let mut holes = Vec::new();
        if queue.has_failed {
            return Err(ABORTED);
        }
        // A load holds the shards of watched keys and replaces them.
        if self.loading.is_active() && session.watches.bytes() > 0 {
            reply.nil_array();
            return Ok(holes);
        }
        let begin = |session: &mut Session| self.begin_transaction(session, queue);
        let mut tx = self.lock_admitted(session, queue.flags(), begin).map_err(discarded)?;
        if tx.has_fired(&session.watches) {
            reply.nil_array();
            self.finish(session, tx);
            return Ok(holes);
        }
        let record_bytes_max = session.config.query_bytes_max;
        let own = session.probe.suspend();
        reply.array(queue.len());
        for (found, args) in queue.commands() {
            let Run::Data(handler) = found.run else {
                holes.push(reply.bytes().len());
                reply.skip_element();
                continue;
            };
            let mark = reply.mark();
            let writes = found.command.flags.has(Flags::WRITE);
            let result = if writes && tx.payload_len() > record_bytes_max {
                Err(RECORD_FULL)
            } else {
                self.run_data(session, &mut tx, found.command, handler, args, reply)
            };
            session.ran(self, found, args, result.is_err());
            self.answer_failure(result, &mark, args, reply);
        }
        session.probe.resume(own);
        self.finish(session, tx);
        Ok(holes)
    }

    /// Locks the keys of all commands and the watched keys. Otherwise two transactions, each of which watches
    /// what the other writes, could both go through.
    fn begin_transaction(&self, session: &mut Session, queue: &Queue) -> Tx<'_> {
        let write = queue.flags().has(Flags::WRITE);
        let mut tx = if queue.flags().has(Flags::ALL_KEYS) {
            self.store.begin_all(write, || self.clock.now())
        } else {
            let keys = queue.commands().flat_map(|(found, args)| found.command.keys(args));
            self.store.begin_several(keys.chain(session.watches.keys()), write, || self.clock.now())
        };
        self.prepare(session, &mut tx, write);
        tx
    }

    /// Runs the commands about the server, and puts their answers between those that are there.
    fn run_server_commands(
        &self,
        session: &mut Session,
        queue: &Queue,
        holes: &[usize],
        reply: &mut Reply,
    ) {
        let Some(&first) = holes.first() else { return };
        let (written, mut done) = (reply.cut(first), 0);
        let numbered = queue.commands().enumerate();
        let server_commands = numbered.filter(|(_, (found, _))| !matches!(found.run, Run::Data(_)));
        for ((index, (found, args)), hole) in server_commands.zip(holes) {
            reply.raw(&written[done..hole - first]);
            done = hole - first;
            reply.element(index, queue.len(), |reply| {
                let mark = reply.mark();
                let result = self.run(session, found, args, reply);
                self.answer_failure(result, &mark, args, reply);
            });
        }
        reply.raw(&written[done..]);
    }
}
