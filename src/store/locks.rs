//! Guards of one shard, of several, or of all.

use super::shard::Shard;
use super::{SHARDS, Store};
use crate::lock::{RwLockReadGuard, RwLockWriteGuard};

/// A held lock. One type for reading and writing, so that handlers need not be written twice.
pub(crate) enum Guard<'s> {
    Read(RwLockReadGuard<'s, Shard>),
    Write(RwLockWriteGuard<'s, Shard>),
}

/// The held locks, ascending by shard.
pub(crate) enum Guards<'s> {
    /// For a command with one key, the usual case: needs no allocation.
    One(usize, Guard<'s>),
    Many(Vec<(usize, Guard<'s>)>),
}

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
    pub(crate) fn held(&self, shard: usize) -> Option<&Guard<'s>> {
        match self {
            Guards::One(held, guard) => (*held == shard).then_some(guard),
            Guards::Many(all) => Some(&all[index_of(shard, all)?].1),
        }
    }

    pub(crate) fn held_mut(&mut self, shard: usize) -> Option<&mut Guard<'s>> {
        match self {
            Guards::One(held, guard) => (*held == shard).then_some(guard),
            Guards::Many(all) => {
                let at = index_of(shard, all)?;
                Some(&mut all[at].1)
            }
        }
    }

    pub(crate) fn each(&self, mut visit: impl FnMut(&Guard<'s>)) {
        match self {
            Guards::One(_, guard) => visit(guard),
            Guards::Many(all) => all.iter().for_each(|(_, guard)| visit(guard)),
        }
    }

    pub(crate) fn each_mut(&mut self, mut visit: impl FnMut(&mut Guard<'s>)) {
        match self {
            Guards::One(_, guard) => visit(guard),
            Guards::Many(all) => all.iter_mut().for_each(|(_, guard)| visit(guard)),
        }
    }
}

/// The index of a shard's lock in an ascending list of held locks.
fn index_of(shard: usize, all: &[(usize, Guard<'_>)]) -> Option<usize> {
    if all.len() == SHARDS {
        return Some(shard);
    }
    all.binary_search_by_key(&shard, |(held, _)| *held).ok()
}

impl Store {
    /// Locks these shards, which must be ascending. Only here are several locked at the same time.
    pub(crate) fn lock_all(
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
