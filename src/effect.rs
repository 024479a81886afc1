//! Effects: the only things that can happen to the data.
//!
//! A command is a request ("add one, if it is a number, unless it expired"); an effect is what came of
//! it ("SET n 42"). Only effects are applied to memory and written to the log: absolute values and
//! absolute times, so that applying a range of them again in order ends in the same state. INCR becomes
//! SET, EXPIRE becomes PEXPIREAT, GETDEL becomes DEL.
//!
//! Out of scope: why an effect happened, and who asked for it.

use crate::clock::UnixMillis;
use std::fmt;

/// A position in the history: records are counted from 1, without gaps; 0 is before all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One change of state. Borrowed from the request, or from the log's bytes, that it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect<'a> {
    /// The key holds this value from now on, with this deadline or none.
    Set {
        /// The key.
        key: &'a [u8],
        /// Its whole new value.
        value: &'a [u8],
        /// When it expires.
        deadline: Option<UnixMillis>,
    },
    /// These bytes of the value change; the value is first padded with zero bytes up to `offset`.
    /// The deadline stays.
    SetRange {
        /// The key.
        key: &'a [u8],
        /// Where in the value, in bytes.
        offset: usize,
        /// What stands there from now on.
        bytes: &'a [u8],
    },
    /// These keys are gone.
    Del {
        /// The keys; one that is not there is no error.
        keys: &'a [&'a [u8]],
    },
    /// The key expires at this time.
    PexpireAt {
        /// The key.
        key: &'a [u8],
        /// When.
        deadline: UnixMillis,
    },
    /// The key does not expire.
    Persist {
        /// The key.
        key: &'a [u8],
    },
    /// All keys are gone.
    FlushAll,
}
