//! The row of a command: everything that the server knows about it besides its function.

use super::Handler;
use crate::protocol::Args;

/// Yes-or-no properties of a command; Redis's names where it has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    /// No flag.
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
    /// Ends the connection or changes its state: TRACE refuses it.
    pub const CONNECTION: Flags = Flags(1 << 10);
    /// Runs at once after MULTI, where other commands are queued.
    pub const UNQUEUED: Flags = Flags(1 << 11);
    /// Runs during CLIENT PAUSE: an operator ends the pause, or the server, with it.
    pub const UNPAUSED: Flags = Flags(1 << 12);
    /// A client with subscriptions may send it in RESP2 and in text.
    pub const SUBSCRIBED: Flags = Flags(1 << 13);
    /// Waits because it is asked to: its time is not recorded as slow.
    pub const BLOCKS: Flags = Flags(1 << 14);

    /// The union of both.
    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// The flags that `other` does not have.
    pub const fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }

    /// True if all flags of `other` are set.
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
    /// The argument after a subcommand.
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

/// The groups of HELP and COMMAND DOCS.
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
    pub const ALL: [Family; 8] = {
        use Family::*;
        [String, Bitmap, Generic, Transactions, PubSub, Connection, Replication, Server]
    };

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

/// The place of subcommands in a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// It has none.
    Plain,
    /// Its first argument must be a subcommand, which has a row `name|subcommand`. Its own function never runs.
    Container,
    /// As Container; without arguments its own function runs.
    ContainerOr,
    /// As Container; any other arguments are another command, for its own function.
    Prefix,
}

/// Which arguments are passwords, to be hidden from SLOWLOG and MONITOR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// No argument.
    None,
    /// All arguments.
    All,
    /// The two after the word AUTH.
    AfterAuth,
    /// Values of secret settings, in pairs of name and value.
    Settings,
}

/// The specification of a command.
#[derive(Clone, Copy)]
pub struct Spec {
    /// In lower case; a subcommand's is `container|subcommand`.
    pub name: &'static str,
    /// Number of arguments with the name; negative: at least as many.
    pub arity: i32,
    /// Properties.
    pub flags: Flags,
    /// Where its keys are.
    pub keys: Keys,
    /// Its operations on the first key and, if they differ, on the others, in the words of Redis's key
    /// specifications. Empty if the flags say it all: it reads, or it reads and writes.
    pub on_keys: &'static [&'static str],
    /// The place of subcommands in it.
    pub shape: Shape,
    /// Which arguments are passwords.
    pub secrets: Secrets,
    /// Its family.
    pub family: Family,
    /// In text, the index of the argument that takes the rest of the line.
    pub rest: Option<usize>,
    /// The arguments: `key value [NX | XX]`. Empty if there are none.
    pub grammar: &'static str,
    /// Its effect, in a line.
    pub summary: &'static str,
    /// Calls to type on an empty server, and the answer to the last one in text:
    /// `SET name Ada; GET name -> Ada`. An answer that varies is described in brackets:
    /// `(a picture)`. Empty for a subcommand that needs none.
    pub example: &'static str,
}

impl Spec {
    /// True if a call may have this many arguments, the name included.
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

    /// True for `container|subcommand`.
    pub fn is_subcommand(&self) -> bool {
        self.name.contains('|')
    }
}

/// A row: a command and its function. `F` is [`Handler`] for a command on keys; the engine has another type
/// for commands about the server.
#[derive(Clone, Copy)]
pub struct Row<F> {
    /// The command.
    pub spec: Spec,
    /// Its function.
    pub run: F,
}

/// A row for a command on keys; the methods of [`Row`] complete it.
pub const fn row(
    family: Family,
    name: &'static str,
    arity: i32,
    flags: Flags,
    keys: Keys,
    run: Handler,
) -> Row<Handler> {
    Row::new(family, name, arity, flags, run).keys(keys)
}

impl<F: Copy> Row<F> {
    /// A row for a command without keys.
    pub const fn new(
        family: Family,
        name: &'static str,
        arity: i32,
        flags: Flags,
        run: F,
    ) -> Row<F> {
        let spec = Spec {
            name,
            arity,
            flags,
            keys: Keys::NONE,
            on_keys: &[],
            shape: Shape::Plain,
            secrets: Secrets::None,
            family,
            rest: None,
            grammar: "",
            summary: "",
            example: "",
        };
        Row { spec, run }
    }

    /// Where its keys are.
    pub const fn keys(mut self, keys: Keys) -> Row<F> {
        self.spec.keys = keys;
        self
    }

    /// Its operations on the keys, if the flags do not say it all.
    pub const fn on_keys(mut self, on_keys: &'static [&'static str]) -> Row<F> {
        self.spec.on_keys = on_keys;
        self
    }

    /// In text, the argument at this index takes the rest of the line.
    pub const fn rest(mut self, index: usize) -> Row<F> {
        self.spec.rest = Some(index);
        self
    }

    /// The place of subcommands in it.
    pub const fn shape(mut self, shape: Shape) -> Row<F> {
        self.spec.shape = shape;
        self
    }

    /// Which arguments are passwords.
    pub const fn secrets(mut self, secrets: Secrets) -> Row<F> {
        self.spec.secrets = secrets;
        self
    }

    /// For HELP: the arguments, the effect in a line, and a call with its answer.
    pub const fn help(
        mut self,
        grammar: &'static str,
        summary: &'static str,
        example: &'static str,
    ) -> Row<F> {
        self.spec.grammar = grammar;
        self.spec.summary = summary;
        self.spec.example = example;
        self
    }
}
