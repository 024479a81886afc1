//! Locks with ranks. A thread takes locks only in ascending rank, so no two threads can wait for each
//! other. `lib.rs` lists the locks: what each protects and how long it is held.
//!
//! Debug builds check the order: each thread lists the locks it holds, and taking a lock panics if the list
//! has one of the same or a higher rank. In release builds these types cost nothing beyond parking_lot's.
//!
//! - A lock without a rank is a [`rank::LEAF`]: while it is held, no other lock may be taken.
//! - [`rank::SHARD`] is the only rank of which a thread may hold several, by ascending index. The shards
//!   lie in one slice, so the check compares addresses.
//! - Any other second lock of one rank panics. So does one lock taken twice, even for reading: a writer that
//!   came in between would wait for the first read lock, and the second for the writer.
//! - `try_lock` does not wait, so it is not checked. What it takes counts for the locks taken after it.

#![expect(clippy::disallowed_types, reason = "the rest of the crate uses these wrappers instead")]

use parking_lot as raw;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

macro_rules! ranks {
    ($($name:ident $lock:literal)+) => {
        #[expect(non_camel_case_types, clippy::upper_case_acronyms)]
        enum Order { $($name),+ }

        /// All ranks, in the order in which they are taken.
        pub mod rank {
            $(#[doc = $lock] pub const $name: u8 = super::Order::$name as u8;)+
        }

        #[cfg(debug_assertions)]
        const NAMES: &[&str] = &[$(stringify!($name)),+];
    };
}

ranks! {
    ROLE_CHANGE "`Role::changing`"
    CONFIG_CHANGE "`Config::changing`"
    FILES "`Persistence::files`"
    EVICTOR "`MemoryState::evictor`"
    SYNCING "`Segments::syncing`"
    SHARD "`Store::shards`"
    WRITER "`Segments::writer`"
    PENDING "`Appender::pending`"
    OUTLINE "`Appender::outline`"
    FOLLOWERS "`Progress::all`"
    HELD "`Held::delivering`"
    FEEDS "`Monitors::feeds`"
    LANE "`Lane::state`"
    PARKING "`Parking::leaving`"
    OUTBOX "`Outbox::queue`"
    LEAF "All locks that are declared without a rank."
    SIGNAL "`Signal::lock`"
}

/// parking_lot's mutex, with a rank.
#[derive(Debug, Default)]
pub struct Mutex<T, const RANK: u8 = { rank::LEAF }>(raw::Mutex<T>);

/// parking_lot's readers-writer lock, with a rank.
#[derive(Debug, Default)]
pub struct RwLock<T, const RANK: u8 = { rank::LEAF }>(raw::RwLock<T>);

/// A held lock.
#[derive(Debug)]
pub struct Guard<G> {
    guard: G,
    _held: Held,
}

/// A held [`Mutex`].
pub type MutexGuard<'l, T> = Guard<raw::MutexGuard<'l, T>>;
/// An [`RwLock`] held for reading.
pub type RwLockReadGuard<'l, T> = Guard<raw::RwLockReadGuard<'l, T>>;
/// An [`RwLock`] held for writing.
pub type RwLockWriteGuard<'l, T> = Guard<raw::RwLockWriteGuard<'l, T>>;

impl<T, const RANK: u8> Mutex<T, RANK> {
    /// A free lock.
    pub const fn new(value: T) -> Self {
        Mutex(raw::Mutex::new(value))
    }

    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let _held = Held::in_order(RANK, self);
        Guard { guard: self.0.lock(), _held }
    }

    /// Waits for the lock for at most this long.
    pub fn try_lock_for(&self, time: Duration) -> Option<MutexGuard<'_, T>> {
        let _held = Held::in_order(RANK, self);
        Some(Guard { guard: self.0.try_lock_for(time)?, _held })
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        Some(Guard { guard: self.0.try_lock()?, _held: Held::new(RANK, self) })
    }
}

impl<T, const RANK: u8> RwLock<T, RANK> {
    /// A free lock.
    pub const fn new(value: T) -> Self {
        RwLock(raw::RwLock::new(value))
    }

    /// Waits for the lock, for reading.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.read_or(|| ())
    }

    /// Waits for the lock, for writing.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.write_or(|| ())
    }

    /// As [`RwLock::read`]; calls `busy` first if it has to wait.
    pub fn read_or(&self, busy: impl FnOnce()) -> RwLockReadGuard<'_, T> {
        let _held = Held::in_order(RANK, self);
        let guard = self.0.try_read().unwrap_or_else(|| {
            busy();
            self.0.read()
        });
        Guard { guard, _held }
    }

    /// As [`RwLock::write`]; calls `busy` first if it has to wait.
    pub fn write_or(&self, busy: impl FnOnce()) -> RwLockWriteGuard<'_, T> {
        let _held = Held::in_order(RANK, self);
        let guard = self.0.try_write().unwrap_or_else(|| {
            busy();
            self.0.write()
        });
        Guard { guard, _held }
    }
}

impl<G> Guard<G> {
    /// parking_lot's guard, for a condition variable: waiting on it gives the lock up for a time.
    pub fn raw(&mut self) -> &mut G {
        &mut self.guard
    }
}

impl<G: Deref> Deref for Guard<G> {
    type Target = G::Target;

    fn deref(&self) -> &G::Target {
        &self.guard
    }
}

impl<G: DerefMut> DerefMut for Guard<G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.guard
    }
}

/// An entry in the list of locks that this thread holds. Empty in release builds.
#[derive(Debug)]
struct Held(#[cfg(debug_assertions)] (u8, usize));

#[cfg(debug_assertions)]
thread_local! {
    /// Rank and address of each, ascending.
    static HELD: std::cell::RefCell<Vec<(u8, usize)>> = const { std::cell::RefCell::new(Vec::new()) };
}

#[cfg(debug_assertions)]
impl Held {
    fn new<L>(rank: u8, lock: &L) -> Held {
        let entry = (rank, std::ptr::from_ref(lock).addr());
        HELD.with_borrow_mut(|all| all.insert(all.partition_point(|other| *other < entry), entry));
        Held(entry)
    }

    fn in_order<L>(rank: u8, lock: &L) -> Held {
        if let Some((last, other)) = HELD.with_borrow(|all| all.last().copied()) {
            let is_next_shard = (last, rank) == (rank::SHARD, rank::SHARD)
                && other < std::ptr::from_ref(lock).addr();
            let [held, taken] = [last, rank].map(|rank| NAMES[rank as usize]);
            assert!(
                last < rank || is_next_shard,
                "lock order: {taken} is taken while {held} is held"
            );
        }
        Held::new(rank, lock)
    }
}

#[cfg(debug_assertions)]
impl Drop for Held {
    fn drop(&mut self) {
        HELD.with_borrow_mut(|all| {
            all.iter().rposition(|entry| *entry == self.0).map(|at| all.remove(at))
        });
    }
}

#[cfg(not(debug_assertions))]
impl Held {
    fn new<L>(_rank: u8, _lock: &L) -> Held {
        Held()
    }

    fn in_order<L>(_rank: u8, _lock: &L) -> Held {
        Held()
    }
}

#[cfg(test)]
#[cfg(debug_assertions)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn low() -> Mutex<u64, { rank::FILES }> {
        Mutex::default()
    }

    fn high() -> RwLock<u64, { rank::OUTLINE }> {
        RwLock::default()
    }

    #[track_caller]
    fn assert_refused<G>(take: impl FnOnce() -> G) {
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(take()))) else {
            panic!("taken in the wrong order");
        };
        assert!(panic.downcast_ref::<String>().is_some_and(|text| text.starts_with("lock order")));
    }

    #[test]
    fn a_lower_rank_is_not_taken_after_a_higher_one() {
        let (low, high) = (low(), high());
        let guards = (low.lock(), high.write());
        drop(guards);
        let guard = high.read();
        assert_refused(|| low.lock());
        assert_refused(|| low.try_lock_for(Duration::ZERO));
        drop(guard);
        drop(low.lock());
    }

    #[test]
    fn a_rank_is_taken_once() {
        let (one, other) = (high(), high());
        let _guard = one.read();
        assert_refused(|| one.read());
        assert_refused(|| other.write_or(|| ()));
        assert_refused(|| other.read_or(|| ()));
    }

    #[test]
    fn nothing_but_a_signal_is_taken_under_a_leaf() {
        let (leaf, other): (Mutex<u64>, RwLock<u64>) = (Mutex::default(), RwLock::default());
        let _guard = leaf.lock();
        assert_refused(|| drop(high().write()));
        assert_refused(|| other.write());
        crate::signal::Signal::default().notify();
    }

    #[test]
    fn shards_are_taken_by_ascending_index() {
        let shards: [RwLock<u64, { rank::SHARD }>; 3] = Default::default();
        let first = shards[0].write();
        let last = shards[2].read();
        assert_refused(|| shards[1].read());
        assert_refused(|| shards[2].read());
        // Let go in any order.
        drop(first);
        assert_refused(|| shards[1].write());
        drop(last);
        drop(shards[1].write());
    }

    #[test]
    fn what_does_not_wait_is_not_checked_but_counts() {
        let (low, high) = (low(), high());
        let lowest: Mutex<u64, { rank::ROLE_CHANGE }> = Mutex::default();
        let guard = high.read();
        let tried = low.try_lock().unwrap();
        drop(guard);
        assert_refused(|| lowest.lock());
        drop(tried);
        drop(lowest.lock());
    }

    #[test]
    fn the_table_in_lib_rs_has_every_rank_in_order() {
        let rows = include_str!("lib.rs").lines().filter_map(|line| line.strip_prefix("//! | `"));
        let named: Vec<&str> = rows
            .filter_map(|row| row.split('`').next())
            .filter(|name| NAMES.contains(name))
            .collect();
        assert_eq!(named, NAMES);
    }
}
