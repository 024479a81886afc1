//! Shard locks. Several are locked only here, in ascending order, so there is no deadlock.

use super::shard::Shard;
use super::{SHARDS, Store};
use crate::lock::{RwLockReadGuard, RwLockWriteGuard};
use std::slice;

/// A held lock. One type for reading and writing, so that handlers need not be written twice.
pub(crate) enum Guard<'s> {
    Read(RwLockReadGuard<'s, Shard>),
    Write(RwLockWriteGuard<'s, Shard>),
}

/// The held locks with their shards' numbers, ascending.
pub(crate) enum Guards<'s> {
    /// For a command with one key, the usual case: needs no allocation.
    One((usize, Guard<'s>)),
    Many(Vec<(usize, Guard<'s>)>),
}

pub(super) const NOT_LOCKED: &str =
    "a command touched a key that its row in the table does not name";

impl Guard<'_> {
    pub(crate) fn shard(&self) -> &Shard {
        match self {
            Guard::Read(guard) => guard,
            Guard::Write(guard) => guard,
        }
    }

    pub(crate) fn shard_mut(&mut self) -> &mut Shard {
        match self {
            Guard::Read(_) => panic!("a command that the table calls readonly wrote"),
            Guard::Write(guard) => guard,
        }
    }
}

impl<'s> Guards<'s> {
    pub(crate) fn all(&self) -> &[(usize, Guard<'s>)] {
        match self {
            Guards::One(one) => slice::from_ref(one),
            Guards::Many(many) => many,
        }
    }

    pub(crate) fn all_mut(&mut self) -> &mut [(usize, Guard<'s>)] {
        match self {
            Guards::One(one) => slice::from_mut(one),
            Guards::Many(many) => many,
        }
    }

    pub(crate) fn held(&self, shard: usize) -> Option<&Guard<'s>> {
        Some(&self.all()[self.index_of(shard)?].1)
    }

    pub(crate) fn held_mut(&mut self, shard: usize) -> Option<&mut Guard<'s>> {
        let at = self.index_of(shard)?;
        Some(&mut self.all_mut()[at].1)
    }

    fn index_of(&self, shard: usize) -> Option<usize> {
        match self {
            Guards::One((held, _)) => (*held == shard).then_some(0),
            Guards::Many(all) if all.len() == SHARDS => Some(shard),
            Guards::Many(many) => many.binary_search_by_key(&shard, |(held, _)| *held).ok(),
        }
    }
}

impl Store {
    /// Locks these shards, which must be ascending. Sets `waited` if another thread held one of the locks.
    pub(super) fn lock_all(
        &self,
        shards: impl Iterator<Item = usize>,
        write: bool,
        waited: &mut bool,
    ) -> Guards<'_> {
        Guards::Many(shards.map(|shard| (shard, self.lock(shard, write, waited))).collect())
    }

    /// Locks one shard. Sets `waited` if another thread held the lock.
    pub(crate) fn lock(&self, shard: usize, write: bool, waited: &mut bool) -> Guard<'_> {
        let lock = &self.shards[shard];
        if write {
            Guard::Write(lock.write_or(|| *waited = true))
        } else {
            Guard::Read(lock.read_or(|| *waited = true))
        }
    }
}
