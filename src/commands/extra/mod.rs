//! Commands to be read when needed: on parts of values and their bits, on all keys, LCS, DUMP, OBJECT; the exact
//! floats of INCRBYFLOAT; errors for people.

pub(crate) mod big;
pub(crate) mod bitfield;
pub(crate) mod bits;
pub(crate) mod dump;
pub(crate) mod float80;
pub(crate) mod keyspace;
pub(crate) mod lcs;
pub(crate) mod object;
pub(crate) mod ranges;
pub(crate) mod usage;
