//! A place in a log's history, named so that two logs can compare theirs.

use crate::store::effect::Seq;

/// Grows by one each time a node becomes leader, a restart included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// A place in a history: the last record before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// That record's number; 0 before the first.
    pub seq: Seq,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its crc, which the next record's crc covers.
    pub crc: u32,
}

impl Position {
    /// The number of the record after it.
    pub fn next(&self) -> Seq {
        Seq(self.seq.0 + 1)
    }
}
