//! Commands that a reader can leave out: bitmaps, LCS, DUMP, OBJECT, exact floats.

pub(crate) mod big;
pub(crate) mod bitfield;
pub(crate) mod bits;
pub(crate) mod dump;
pub(crate) mod float80;
pub(crate) mod lcs;
pub(crate) mod object;
pub(crate) mod usage;
