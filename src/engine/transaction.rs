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
use super::session::{Mode, Session};
use super::table::{Resolved, Run};
use crate::commands::Flags;
use crate::error::Failure;
use crate::protocol::{Args, Reply, Span};
use crate::store::{Scope, Tx};

const ABORTED: Failure =
    Failure::fixed("EXECABORT Transaction discarded because of previous errors.");
const QUEUE_FULL: Failure = Failure::fixed(
    "ERR the commands of this transaction exceed client-query-buffer-limit; it is aborted",
);
const RECORD_FULL: Failure =
    Failure::fixed("ERR what this transaction has written exceeds client-query-buffer-limit");

/// The commands between MULTI and EXEC, copied out of the connection's buffer.
#[derive(Debug, Default)]
pub struct Queue {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    commands: Vec<Queued>,
    /// A command was refused, so EXEC will be refused too.
    failed: bool,
}

#[derive(Debug)]
struct Queued {
    found: Resolved,
    /// The end of its words among all spans; they begin at the end of the command before.
    spans_end: usize,
}

impl Queue {
    fn push(&mut self, found: Resolved, args: Args<'_>) {
        for arg in args.from(0) {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(arg);
            self.spans.push(Span { start, end: self.bytes.len() });
        }
        self.commands.push(Queued { found, spans_end: self.spans.len() });
    }

    /// The flags of all commands together; LOADING only if each has it.
    pub(super) fn flags(&self) -> Flags {
        let mut each = self.commands.iter().map(|queued| queued.found.command.flags);
        let together = each.clone().fold(Flags::LOADING, Flags::and);
        let all_have_it = each.all(|flags| flags.has(Flags::LOADING));
        if all_have_it { together } else { together.without(Flags::LOADING) }
    }

    /// Refuses EXEC. Nothing queued will run, so nothing is kept.
    pub(super) fn fail(&mut self) {
        *self = Queue { failed: true, ..Queue::default() };
    }

    fn commands(&self) -> impl Iterator<Item = (Resolved, Args<'_>)> + Clone {
        let mut start = 0;
        self.commands.iter().map(move |queued| {
            let spans = &self.spans[start..queued.spans_end];
            start = queued.spans_end;
            (queued.found, Args::new(&self.bytes, spans))
        })
    }

    /// How many commands are queued.
    pub(super) fn len(&self) -> usize {
        self.commands.len()
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.bytes.capacity()
            + self.spans.capacity() * size_of::<Span>()
            + self.commands.capacity() * size_of::<Queued>()
    }
}

/// Bytes that a queue needs for one more command.
fn size(args: Args<'_>) -> usize {
    let words = args.from(0).map(|word| word.len() + size_of::<Span>());
    words.sum::<usize>() + size_of::<Queued>()
}

/// The reason why EXEC runs nothing, in Redis's words.
pub(super) fn discarded(failure: Failure) -> Failure {
    let why = failure.bytes().strip_prefix(b"ERR ").unwrap_or(failure.bytes());
    Failure::new([b"EXECABORT Transaction discarded because of: ", why].concat())
}

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
        if !queue.failed && !session.watches.is_flagged() {
            if queue.allocated_bytes() + size(args) > session.config.query_bytes_max {
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
        if queue.failed {
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
        let tx = if queue.flags().has(Flags::ALL_KEYS) {
            self.store.begin_scope(Scope::All, write, || self.clock.now())
        } else {
            let keys = queue.commands().flat_map(|(found, args)| found.command.keys(args));
            self.store.begin_several(keys.chain(session.watches.keys()), write, || self.clock.now())
        };
        self.prepare(session, tx, write)
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
