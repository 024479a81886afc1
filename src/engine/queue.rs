//! The commands that a client has queued since MULTI.

use super::table::Resolved;
use crate::commands::Flags;
use crate::error::Failure;
use crate::protocol::{Args, Span};

/// The commands between MULTI and EXEC, copied out of the connection's buffer.
#[derive(Debug, Default)]
pub struct Queue {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    commands: Vec<Queued>,
    /// A command was refused, so EXEC will be refused too.
    pub(super) has_failed: bool,
}

#[derive(Debug)]
struct Queued {
    found: Resolved,
    /// The end of its words among all spans; they begin at the end of the command before.
    spans_end: usize,
}

impl Queue {
    pub(super) fn push(&mut self, found: Resolved, args: Args<'_>) {
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
        *self = Queue { has_failed: true, ..Queue::default() };
    }

    pub(super) fn commands(&self) -> impl Iterator<Item = (Resolved, Args<'_>)> + Clone {
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
pub(super) fn size(args: Args<'_>) -> usize {
    let words = args.from(0).map(|word| word.len() + size_of::<Span>());
    words.sum::<usize>() + size_of::<Queued>()
}

/// The reason why EXEC runs nothing, in Redis's words.
pub(super) fn discarded(failure: Failure) -> Failure {
    let why = failure.bytes().strip_prefix(b"ERR ").unwrap_or(failure.bytes());
    Failure::new([b"EXECABORT Transaction discarded because of: ", why].concat())
}
