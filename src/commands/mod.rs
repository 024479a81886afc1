//! Commands: the table, and the handlers that make effects of requests.
//!
//! Everything that the server knows about a command stands in its row: name, arity, flags, where its
//! keys are, what runs it, its grammar and a line of help. The engine locks, refuses and logs by the
//! row; `COMMAND`, `HELP` and the text protocol read it; a new command is one function, one row, one
//! transcript.
//!
//! A handler is pure: it sees its arguments, a [`Tx`] and a [`Reply`], and no socket, clock or file. It
//! checks everything first, then applies effects, then answers; an error means that nothing changed.
//!
//! The rows stand beside their handlers, one file per family.

pub mod absent;
pub(crate) mod builtins;
pub(crate) mod expiry;
pub mod extra;
pub(crate) mod keys;
pub(crate) mod keyspace;
pub(crate) mod numbers;
pub(crate) mod ranges;
pub(crate) mod replication;
pub(crate) mod strings;
pub(crate) mod table;
#[cfg(test)]
pub(crate) mod testing;
pub mod text;
pub(crate) mod ttl;

pub use builtins::Builtin;
pub use table::{Commands, Resolved};

use crate::error::Failure;
use crate::protocol::{Args, Reply};
use crate::store::Tx;

/// What a handler gets besides its arguments.
pub struct Call<'c, 's> {
    /// The locked part of the store.
    pub tx: &'c mut Tx<'s>,
    /// Where the answer goes.
    pub reply: &'c mut Reply,
    /// The longest value that a command may make, in bytes (`proto-max-bulk-len`).
    pub value_len_max: usize,
    /// The row's name, for error texts: one handler may serve several rows.
    pub name: &'static str,
}

/// Runs a data command.
pub type Handler = fn(&mut Call<'_, '_>, Args<'_>) -> Result<(), Failure>;

/// What runs a command.
#[derive(Clone, Copy)]
pub enum Run {
    /// It works on keys only: a pure function.
    Data(Handler),
    /// It works on the connection, the clients or the server.
    Engine(Builtin),
    /// It only has subcommands, in rows `name|subcommand`.
    Container,
    /// It has subcommands; without one it runs this.
    ContainerOr(Builtin),
    /// It has subcommands; any other words behind it are a command for this.
    Prefix(Builtin),
}

/// Yes-or-no properties of a command; Redis's names where it has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u16);

impl Flags {
    /// None of them.
    pub const NONE: Flags = Flags(0);
    /// May change data.
    pub const WRITE: Flags = Flags(1);
    /// Reads data and never changes it.
    pub const READONLY: Flags = Flags(1 << 1);
    /// May need more memory.
    pub const DENYOOM: Flags = Flags(1 << 2);
    /// For operators.
    pub const ADMIN: Flags = Flags(1 << 3);
    /// Takes constant or logarithmic time.
    pub const FAST: Flags = Flags(1 << 4);
    /// Allowed before AUTH.
    pub const NO_AUTH: Flags = Flags(1 << 5);
    /// Allowed while the data is being loaded.
    pub const LOADING: Flags = Flags(1 << 6);
    /// Works on all keys: a write locks every shard, a read locks them one after another.
    pub const ALL_KEYS: Flags = Flags(1 << 7);
    /// Refused between MULTI and EXEC.
    pub const NO_MULTI: Flags = Flags(1 << 8);
    /// Has something for followers although it changes no data.
    pub const MAY_REPLICATE: Flags = Flags(1 << 9);
    /// Ends the connection, makes it something else, or changes how it goes on: TRACE refuses it.
    pub const CONNECTION: Flags = Flags(1 << 10);

    /// These and those.
    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// These but for those.
    pub const fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }

    /// Whether all of those are among these.
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Where a command's keys are: from the argument `first` to `last` (negative: from the end), each
/// `step`-th. `first` 0 means that there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Index of the first key.
    pub first: usize,
    /// Index of the last key, negative counted from the end.
    pub last: isize,
    /// Distance between keys.
    pub step: usize,
}

impl Keys {
    /// No keys.
    pub const NONE: Keys = Keys { first: 0, last: 0, step: 0 };
    /// The first argument.
    pub const ONE: Keys = Keys { first: 1, last: 1, step: 1 };
    /// The first two arguments.
    pub const TWO: Keys = Keys { first: 1, last: 2, step: 1 };
    /// All arguments.
    pub const ALL: Keys = Keys { first: 1, last: -1, step: 1 };
    /// Every second argument.
    pub const PAIRS: Keys = Keys { first: 1, last: -1, step: 2 };
    /// The argument behind a subcommand.
    pub const OF_SUBCOMMAND: Keys = Keys { first: 2, last: 2, step: 1 };
    /// All arguments from the second on.
    pub const FROM_SECOND: Keys = Keys { first: 2, last: -1, step: 1 };

    /// The indexes of the keys in a call with this many arguments.
    pub fn indexes(self, args: usize) -> impl Iterator<Item = usize> + Clone {
        let last = if self.last < 0 { args as isize + self.last } else { self.last };
        let end = if self.first == 0 { 0 } else { (last + 1).clamp(0, args as isize) as usize };
        (self.first.max(1)..end).step_by(self.step.max(1))
    }
}

/// Families, as `HELP` and `COMMAND DOCS` group them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Values: whole, in parts, as numbers.
    String,
    /// Values as arrays of bits.
    Bitmap,
    /// Keys of any kind, and their expiry.
    Generic,
    /// Several commands as one.
    Transactions,
    /// The client's own connection.
    Connection,
    /// Leaders and followers.
    Replication,
    /// Messages.
    PubSub,
    /// The server.
    Server,
}

impl Family {
    /// All of them in the order of `HELP`.
    pub const ALL: [Family; 8] = [
        Family::String,
        Family::Bitmap,
        Family::Generic,
        Family::Transactions,
        Family::PubSub,
        Family::Connection,
        Family::Replication,
        Family::Server,
    ];

    /// The name that Redis's documentation has for it.
    pub fn name(self) -> &'static str {
        match self {
            Family::String => "string",
            Family::Bitmap => "bitmap",
            Family::Generic => "generic",
            Family::Transactions => "transactions",
            Family::Connection => "connection",
            Family::Replication => "replication",
            Family::PubSub => "pubsub",
            Family::Server => "server",
        }
    }
}

/// A row of the table.
#[derive(Clone, Copy)]
pub struct Command {
    /// In lower case; a subcommand's is `container|subcommand`.
    pub name: &'static str,
    /// Number of arguments with the name; negative: at least as many.
    pub arity: i32,
    /// Properties.
    pub flags: Flags,
    /// Where its keys are.
    pub keys: Keys,
    /// What it does to its keys, in the words of Redis's key specifications: to the first one and, if
    /// that is something else, to the others. Empty if the flags say all: it reads, or it reads and
    /// writes.
    pub on_keys: &'static [&'static str],
    /// What runs it.
    pub run: Run,
    /// Its family.
    pub family: Family,
    /// In text, the index of the argument that takes the rest of the line.
    pub rest: Option<usize>,
    /// What follows the name: `key value [NX | XX]`. Empty if nothing does.
    pub grammar: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// What to type on an empty server, and the last line's answer in text:
    /// `SET name Ada; GET name -> Ada`. An answer that cannot be foretold is described in brackets:
    /// `(a picture)`. Empty for a subcommand that needs none.
    pub example: &'static str,
}

impl Command {
    /// A row for a command on keys; [`Command::rest`] and [`Command::help`] complete it.
    pub const fn data(
        family: Family,
        name: &'static str,
        arity: i32,
        flags: Flags,
        keys: Keys,
        handler: Handler,
    ) -> Command {
        let (rest, run) = (None, Run::Data(handler));
        let (grammar, summary, example) = ("", "", "");
        let on_keys = &[];
        Command { name, arity, flags, keys, on_keys, run, family, rest, grammar, summary, example }
    }

    /// What it does to its keys, where the flags do not say it.
    pub const fn on_keys(self, on_keys: &'static [&'static str]) -> Command {
        Command { on_keys, ..self }
    }

    /// In text, the argument at this index takes the rest of the line.
    pub const fn rest(self, index: usize) -> Command {
        Command { rest: Some(index), ..self }
    }

    /// What `HELP` shows: the grammar behind the name, the meaning in a line, a call and its answer.
    pub const fn help(
        self,
        grammar: &'static str,
        summary: &'static str,
        example: &'static str,
    ) -> Command {
        Command { grammar, summary, example, ..self }
    }

    /// Whether a call with this many arguments, the name included, is in order.
    pub fn accepts(&self, args: usize) -> bool {
        if self.arity < 0 {
            args >= self.arity.unsigned_abs() as usize
        } else {
            args == self.arity as usize
        }
    }

    /// The keys of a call.
    pub fn keys<'a>(&self, args: Args<'a>) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.keys.indexes(args.len()).filter_map(move |index| args.get(index))
    }
}
