//! MULTI, EXEC, DISCARD, WATCH and UNWATCH.
//!
//! ```text
//! MULTI ─ each command passes the guards and is queued ─ EXEC
//!                                                         │
//!   lock the shards of all queued commands' keys and of all watched keys, ascending
//!   has a watched key changed? ── then nothing runs, and the answer is nil
//!   run the commands on data, one after another         an error is an element of the answer
//!   append all their effects to the log, as one record
//!   unlock ─ run the engine's own commands ─ THE GATE, once
//! ```
//!
//! For every reader an EXEC happens at one instant, and after a crash all of it is there or nothing: its
//! record has one checksum. As in Redis, a command that fails when it runs (INCR of a word) is no reason
//! to take back the others: it tells of a mistake in the program that sent it, not in the data.
//!
//! The engine's own commands (INFO, CLIENT KILL, CONFIG SET) run behind the unlocking, in their order and
//! at their places in the answer: they look at all shards, wait, or write to files, and none of that may
//! be done under a lock. They see what the transaction did, and perhaps what came after it.
//!
//! What a client can make this hold: `client-query-buffer-limit` holds for the queue, a request that is
//! still coming in, as it were; for the watched keys; and for the record, because ten times RENAME of a
//! huge value is a short request. Beyond, the transaction is aborted with an error, the watch is refused,
//! and the commands behind the one that filled the record get an error each.

use super::Engine;
use super::session::{Mode, Session};
use super::table::{Resolved, Run};
use crate::commands::{Flags, Spec};
use crate::config::Id;
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
    /// Those of all commands together.
    flags: Flags,
    /// One of them may not run while data is loaded.
    needs_data: bool,
    /// Something was refused: EXEC will be, too.
    failed: bool,
}

#[derive(Debug)]
struct Queued {
    found: Resolved,
    /// Where its words end among all; they begin where those of the command before end.
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
        self.flags = self.flags.and(found.command.flags);
        self.needs_data |= !found.command.flags.has(Flags::LOADING);
    }

    /// Those of all commands together; LOADING only if each has it.
    fn flags(&self) -> Flags {
        if self.needs_data {
            self.flags.without(Flags::LOADING)
        } else {
            self.flags.and(Flags::LOADING)
        }
    }

    /// Nothing of it will run; there is no sense in keeping it.
    fn fail(&mut self) {
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

    fn allocated_bytes(&self) -> usize {
        self.bytes.capacity()
            + self.spans.capacity() * size_of::<Span>()
            + self.commands.capacity() * size_of::<Queued>()
    }
}

/// Bytes that a queue or a set of watches needs for one more command.
fn size(args: Args<'_>) -> usize {
    let words = args.from(0).map(|word| word.len() + size_of::<Span>());
    words.sum::<usize>() + size_of::<Queued>()
}

impl Session {
    /// What the guards must know of a command: EXEC is all that is queued.
    pub(crate) fn flags_of(&self, command: &Spec) -> Flags {
        match &self.mode {
            Mode::Queueing(queue) if command.name == "exec" => {
                command.flags.without(Flags::LOADING).and(queue.flags())
            }
            _ => command.flags,
        }
    }

    /// Whether a command is not to run now but at EXEC.
    pub(crate) fn queues(&self, command: &Spec) -> bool {
        matches!(self.mode, Mode::Queueing(_)) && !command.flags.has(Flags::UNQUEUED)
    }

    /// Ends a transaction, or what might have become one.
    pub(crate) fn leave_transaction(&mut self) {
        self.mode = Mode::Direct;
        self.watches.clear();
        self.note_transaction();
    }

    /// What becomes of a transaction when the guards refuse a command: a hole in it would be worse than
    /// none of it.
    pub(crate) fn note_refusal(&mut self, args: Args<'_>, failure: Failure) -> Failure {
        if args.is(0, "exec") {
            self.leave_transaction();
            return discarded(failure);
        }
        if let Mode::Queueing(queue) = &mut self.mode {
            queue.fail();
            self.note_transaction();
        }
        failure
    }

    pub(crate) fn note_transaction(&self) {
        let (commands, bytes) = match &self.mode {
            Mode::Queueing(queue) => (queue.commands.len() as i64, queue.allocated_bytes()),
            _ => (-1, 0),
        };
        self.client.note_transaction(commands, bytes + self.watches.bytes());
    }
}

/// Why EXEC runs nothing, in Redis's words.
fn discarded(failure: Failure) -> Failure {
    let why = failure.bytes().strip_prefix(b"ERR ").unwrap_or(failure.bytes());
    Failure::new([b"EXECABORT Transaction discarded because of: ", why].concat())
}

/// A place in the answer to EXEC that is filled in later.
struct Hole {
    index: usize,
    position: usize,
}

impl Engine {
    pub(crate) fn transaction_bytes_max(&self) -> usize {
        self.config.int(Id::ClientQueryBufferLimit) as usize
    }

    /// Keeps a command for EXEC.
    pub(crate) fn queue(
        &self,
        session: &mut Session,
        found: Resolved,
        args: Args<'_>,
        reply: &mut Reply,
    ) -> Result<(), Failure> {
        let Mode::Queueing(queue) = &mut session.mode else { unreachable!("see `queues`") };
        // What will not run need not be kept.
        if !queue.failed && !session.watches.is_flagged() {
            if queue.allocated_bytes() + size(args) > self.transaction_bytes_max() {
                queue.fail();
                session.note_transaction();
                return Err(QUEUE_FULL);
            }
            queue.push(found, args);
            session.note_transaction();
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
                self.run_builtins(session, &queue, &holes, reply);
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

    /// Runs the commands on data at one instant. Returns the places in the answer of the others.
    fn run_on_data(
        &self,
        session: &mut Session,
        queue: &Queue,
        reply: &mut Reply,
    ) -> Result<Vec<Hole>, Failure> {
        let mut holes = Vec::new();
        if queue.failed {
            return Err(ABORTED);
        }
        // A load holds the shards of what is watched, and replaces it.
        if self.loading.is_active() && session.watches.bytes() > 0 {
            reply.nil_array();
            return Ok(holes);
        }
        let begin = |session: &mut Session| self.begin_transaction(session, queue);
        let mut tx = self.begin_admitted(session, queue.flags(), begin).map_err(discarded)?;
        if tx.has_fired(&session.watches) {
            reply.nil_array();
            self.finish(session, tx);
            return Ok(holes);
        }
        let record_bytes_max = self.transaction_bytes_max();
        // What queueing and locking took is EXEC's own time, not the first command's.
        session.stopwatch.lap_nanos();
        let own = std::mem::take(&mut session.watch.timeline);
        reply.array(queue.commands.len());
        for (index, (found, args)) in queue.commands().enumerate() {
            let Run::Data(handler) = found.run else {
                holes.push(Hole { index, position: reply.bytes().len() });
                reply.skip_element();
                continue;
            };
            let mark = reply.mark();
            let writes = found.command.flags.has(Flags::WRITE);
            let result = match writes && tx.payload_len() > record_bytes_max {
                true => Err(RECORD_FULL),
                false => self.run_data(session, &mut tx, found.command, handler, args, reply),
            };
            self.end_command(session, found, args, result.is_err());
            self.answer_failure(result, &mark, args, reply);
        }
        session.watch.timeline = own;
        self.finish(session, tx);
        Ok(holes)
    }

    /// Locks what all commands work on, and what is watched: else two transactions, each of which
    /// watches what the other writes, could both go through.
    fn begin_transaction(&self, session: &mut Session, queue: &Queue) -> Tx<'_> {
        let write = queue.flags.has(Flags::WRITE);
        let tx = if queue.flags.has(Flags::ALL_KEYS) {
            self.store.begin_scope(Scope::All, write, || self.clock.now())
        } else {
            let keys = queue.commands().flat_map(|(found, args)| found.command.keys(args));
            self.store.begin_several(keys.chain(session.watches.keys()), write, || self.clock.now())
        };
        self.prepare(session, tx, write)
    }

    /// Runs the engine's own commands, and puts their answers between those that are there.
    fn run_builtins(
        &self,
        session: &mut Session,
        queue: &Queue,
        holes: &[Hole],
        reply: &mut Reply,
    ) {
        let Some(first) = holes.first() else { return };
        let written = reply.cut(first.position);
        let (mut done, mut holes) = (0, holes.iter().peekable());
        for (index, (found, args)) in queue.commands().enumerate() {
            let Some(hole) = holes.next_if(|hole| hole.index == index) else { continue };
            let upto = hole.position - first.position;
            reply.raw(&written[std::mem::replace(&mut done, upto)..upto]);
            let mut element = reply.element(index, queue.commands.len());
            let mark = element.mark();
            let result = self.run(session, found, args, &mut element);
            self.answer_failure(result, &mark, args, &mut element);
            reply.add_element(&element);
        }
        reply.raw(&written[done..]);
    }
}
