//! Commands: what each one means, in rows of a table.
//!
//! A command is one row and one function. The row ([`Spec`]) holds everything else that the server knows about
//! it: name, arity, flags, the positions of its keys, its grammar and a line of help. The engine locks, refuses
//! and logs by the row; `COMMAND`, `HELP` and the text protocol read it. Rows stand beside their functions, one
//! file per family.
//!
//! A handler here is pure: it sees its arguments, a [`Tx`] and a [`Reply`], and no socket, clock or file. It
//! checks everything first, then applies effects, then answers; an error means that nothing changed. Commands
//! about the server have rows of the same kind beside their functions, in the folders above the engine; the
//! whole table is assembled in `admin`.

pub(crate) mod expiry;
pub mod extra;
pub(crate) mod keys;
pub(crate) mod numbers;
pub mod spec;
pub(crate) mod strings;
pub mod table;
#[cfg(test)]
pub(crate) mod testing;
pub mod text;
pub(crate) mod ttl;

pub use spec::{Family, Flags, Keys, Row, Secrets, Shape, Spec};
pub use table::{Resolved, Table};

use crate::clock::UnixMillis;
use crate::error::Failure;
use crate::protocol::{Args, Reply};
use crate::store::{Store, Tx};
use extra::{bitfield, bits, dump, float80, keyspace, lcs, object, ranges};

/// The context of a handler.
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

/// The function of a command on keys.
pub type Handler = fn(&mut Call<'_, '_>, Args<'_>) -> Result<(), Failure>;

/// The rows of the commands on keys, in the order of `HELP`.
pub const FAMILIES: &[&[Row<Handler>]] = &[
    strings::COMMANDS,
    ranges::COMMANDS,
    numbers::COMMANDS,
    float80::COMMANDS,
    lcs::COMMANDS,
    bits::COMMANDS,
    bitfield::COMMANDS,
    keys::COMMANDS,
    keyspace::COMMANDS,
    ttl::COMMANDS,
    dump::COMMANDS,
    object::COMMANDS,
];

/// Locks what a call of a command on keys works on. `now` is asked for the time of the call when the locks are
/// held.
pub fn lock<'s>(
    store: &'s Store,
    command: &Spec,
    args: Args<'s>,
    now: impl Fn() -> UnixMillis + 's,
) -> Tx<'s> {
    let write = command.flags.has(Flags::WRITE);
    if !command.flags.has(Flags::ALL_KEYS) {
        return store.begin(command.keys(args), write, now);
    }
    if write { store.begin_all(write, now) } else { store.begin_fleeting(now) }
}
