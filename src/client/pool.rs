//! The pool: a bounded number of connections that many threads share.
//!
//! # Why a pool
//!
//! Opening a connection costs a round trip or two, a thread of the server and a greeting with a password, many times
//! the price of a GET. One connection for all threads avoids that, and then the threads queue for each other's
//! replies. A pool keeps a few connections open and lends each to one caller at a time. Its bound protects the
//! server: a burst of work becomes a queue in the client, where it can be seen and refused.
//!
//! # First come, first served
//!
//! ```text
//! T1 holds the connection        T2 waits        T3 waits        T4 calls
//! T1 returns it ─────────────────▶ T2            T3 is first     T4 queues after T3
//! ```
//!
//! The usual way is a list of idle connections and a condition variable. Then a returned connection lies in the list
//! for a moment, and a thread that comes along takes it before the waiter has woken up: the same thread often returns
//! and takes it again, and an unlucky one waits for seconds under a load that has a mean of a millisecond. Here each
//! waiter has a channel for one message, and the channels stand in a queue. A connection that is returned
//! goes to the first of the queue and is never idle in between. A newcomer sees a queue and joins its end.
//! The price is a hand-over from thread to thread where a thread that kept running would have been quicker. It is
//! paid only while all connections are in use.
//!
//! # Exhaustion
//!
//! All connections are in use when calls arrive faster than `size / time of a call`, or when a caller keeps one. In
//! the [`Figures`], `in_use` equals the size, `waiting` grows, the waits move to the right of the histogram, and in
//! the end calls fail with [`Error::Exhausted`] after the time allowed for checkout. Nothing was sent then, so that
//! the caller may shed the load. A larger pool helps if the server is idle meanwhile. If it is busy, a larger pool
//! moves the queue from here to there, where it cannot be refused.
//!
//! # What a connection goes through
//!
//! - It is opened when it is needed, outside the lock: a node that does not answer keeps no other caller waiting.
//!   A place is taken first, so that there are never more connections than the size.
//! - It returns when its guard is dropped, and is closed if a reply is outstanding, if it is older than its greatest
//!   age, or if it is of an earlier generation. A change of leader begins a new generation.
//! - It is checked with a round trip if it was idle for more than a second: firewalls forget silent connections.
//!   After less idle time than that it is used at once, so a busy pool pays nothing.
//! - Idle connections beyond their time are closed when another one is returned. That needs no thread.
//!
//! # Others
//!
//! `r2d2` has three threads per pool, checks a connection at each checkout, wakes waiters by a condition variable,
//! and reports that a database is down as a timeout. The `redis` crate offers `r2d2`, or one multiplexed connection
//! for an async runtime, in which a large reply delays all that come after it. Neither knows about leaders. Both have
//! what this pool leaves out: a least number of connections kept open, hooks, and metrics in other formats.

use super::error::Error;
use crate::lock::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// A connection that was idle for longer is checked before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);
/// Ranges of the histogram of waits: up to 1 µs, 2 µs, 4 µs, … and the last without a limit.
pub const WAIT_RANGES: usize = 24;

/// Opens and checks the connections of a pool.
pub trait Dial {
    /// A connection.
    type Conn;
    /// Opens a connection before the deadline.
    fn dial(&self, deadline: Instant) -> Result<Self::Conn, Error>;
    /// True if a connection that was idle for a while still works.
    fn is_alive(&self, conn: &mut Self::Conn, deadline: Instant) -> bool;
    /// True if a connection may be used by another caller.
    fn is_reusable(&self, conn: &Self::Conn) -> bool;
}

/// The limits of a pool.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections that are in use, idle or being opened; at least 1.
    pub size: usize,
    /// An idle connection is closed after this time.
    pub idle_max: Duration,
    /// A connection is closed when it is returned after this time.
    pub age_max: Duration,
}

/// A bounded pool of connections.
pub struct Pool<D: Dial> {
    dial: D,
    limits: Limits,
    state: Mutex<State<D::Conn>>,
    /// Connections of earlier generations are closed when they are returned.
    generation: AtomicU64,
    waits: [AtomicU64; WAIT_RANGES],
}

/// Invariants:
/// - `open` counts places: connections in use, idle and being opened. It never exceeds the size.
/// - While a caller waits, nothing is idle, and every place is taken.
struct State<C> {
    /// The last returned stands last and is used first, so that a quiet pool shrinks.
    idle: VecDeque<Idle<C>>,
    open: usize,
    /// The longest waiter first. One per calling thread.
    waiters: VecDeque<Waiter<C>>,
    next_ticket: u64,
}

struct Idle<C> {
    kept: Kept<C>,
    since: Instant,
}

/// A connection and what decides whether it is kept.
struct Kept<C> {
    conn: C,
    opened: Instant,
    generation: u64,
}

struct Waiter<C> {
    ticket: u64,
    /// For one message, so sending never blocks.
    handover_tx: SyncSender<Handover<C>>,
}

/// The right of a caller to one place in the pool.
enum Handover<C> {
    /// A connection in the place, and when it was returned.
    Connection(Kept<C>, Instant),
    /// A place for a connection that it must open.
    Place,
}

/// A pool's connections and waiters, and a histogram of the waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Connections that a caller has, or opens.
    pub in_use: usize,
    /// Connections that wait for a caller.
    pub idle: usize,
    /// Callers that wait for a connection.
    pub waiting: usize,
    /// Checkouts by the time that they waited: the number at `n` waited at most 2ⁿ µs, the last one longer.
    pub waits: [u64; WAIT_RANGES],
}

/// A connection in use. It returns to the pool on drop.
pub struct Pooled<'p, D: Dial> {
    pool: &'p Pool<D>,
    /// Some until it is dropped.
    kept: Option<Kept<D::Conn>>,
}

/// A place that was taken for a connection, given back on drop.
struct Place<'p, D: Dial>(&'p Pool<D>);

impl<D: Dial> Pool<D> {
    /// An empty pool. Connections are opened when they are needed.
    pub fn new(dial: D, limits: Limits) -> Pool<D> {
        let limits = Limits { size: limits.size.max(1), ..limits };
        let state =
            State { idle: VecDeque::new(), open: 0, waiters: VecDeque::new(), next_ticket: 0 };
        Pool {
            dial,
            limits,
            state: Mutex::new(state),
            generation: AtomicU64::new(0),
            waits: Default::default(),
        }
    }

    /// Lends a connection. It waits up to `checkout` for one to be returned; after that, opening a new one may take
    /// up to `deadline`.
    pub fn checkout(&self, checkout: Instant, deadline: Instant) -> Result<Pooled<'_, D>, Error> {
        let began = Instant::now();
        let handover = self.take(checkout, began)?;
        self.count_wait(began.elapsed());
        let place = Place(self);
        let checked = match handover {
            Handover::Connection(kept, since) => self.checked(kept, since, deadline),
            Handover::Place => None,
        };
        let kept = match checked {
            Some(kept) => kept,
            // An error, or a panic, gives the place back.
            None => self.open(deadline)?,
        };
        Ok(place.hold(kept))
    }

    fn open(&self, deadline: Instant) -> Result<Kept<D::Conn>, Error> {
        let (generation, opened) = (self.generation(), Instant::now());
        Ok(Kept { conn: self.dial.dial(deadline)?, opened, generation })
    }

    /// The current generation of connections.
    pub fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// Begins a new generation, if this one is still the current: of many callers that notice the same change, one
    /// has an effect. Idle connections are closed now, others when they are returned.
    pub fn retire(&self, generation: u64) {
        let next = generation + 1;
        if self.generation.compare_exchange(generation, next, Relaxed, Relaxed).is_err() {
            return;
        }
        let mut state = self.state.lock();
        let old = std::mem::take(&mut state.idle);
        state.open -= old.len();
        drop(state);
        // Closing sockets needs no lock.
        drop(old);
    }

    /// Its figures at this moment.
    pub fn figures(&self) -> Figures {
        let waits = std::array::from_fn(|range| self.waits[range].load(Relaxed));
        let state = self.state.lock();
        let idle = state.idle.len();
        Figures { in_use: state.open - idle, idle, waiting: state.waiters.len(), waits }
    }

    /// Takes an idle connection or a free place, or waits for either.
    fn take(&self, checkout: Instant, began: Instant) -> Result<Handover<D::Conn>, Error> {
        let mut state = self.state.lock();
        if let Some(Idle { kept, since }) = state.idle.pop_back() {
            return Ok(Handover::Connection(kept, since));
        }
        if state.open < self.limits.size {
            state.open += 1;
            return Ok(Handover::Place);
        }
        let (handover_tx, handover_rx) = sync_channel(1);
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiters.push_back(Waiter { ticket, handover_tx });
        drop(state);
        let time = checkout.saturating_duration_since(Instant::now());
        if let Ok(handover) = handover_rx.recv_timeout(time) {
            return Ok(handover);
        }
        let mut state = self.state.lock();
        state.waiters.retain(|waiter| waiter.ticket != ticket);
        let waiting = state.waiters.len();
        drop(state);
        // It may have been handed over at the last moment. Later it cannot: the queue no longer has the channel.
        let exhausted = Error::Exhausted { waited: began.elapsed(), waiting };
        handover_rx.try_recv().map_err(|_| exhausted)
    }

    /// A connection that is good enough to be used. Otherwise it is closed.
    fn checked(
        &self,
        mut kept: Kept<D::Conn>,
        since: Instant,
        deadline: Instant,
    ) -> Option<Kept<D::Conn>> {
        let idle_for = since.elapsed();
        let is_good = idle_for <= self.limits.idle_max
            && self.is_young(&kept)
            && (idle_for <= TRUSTED_IDLE || self.dial.is_alive(&mut kept.conn, deadline));
        is_good.then_some(kept)
    }

    fn is_young(&self, kept: &Kept<D::Conn>) -> bool {
        kept.generation == self.generation() && kept.opened.elapsed() <= self.limits.age_max
    }

    /// Hands a connection to the longest waiter, or keeps it as idle. Its place goes with it.
    fn give(&self, kept: Kept<D::Conn>) {
        let now = Instant::now();
        let mut overdue = vec![];
        let mut state = self.state.lock();
        // A new generation may have begun between the caller's check and the lock.
        if kept.generation != self.generation() {
            drop(state);
            return self.close(kept);
        }
        if let Some(Handover::Connection(kept, since)) =
            state.hand_over(Handover::Connection(kept, now))
        {
            state.idle.push_back(Idle { kept, since });
        }
        let idle_max = self.limits.idle_max;
        while let Some(old) = state.idle.pop_front_if(|idle| now - idle.since > idle_max) {
            state.open -= 1;
            overdue.push(old);
        }
        drop(state);
        // Closing sockets needs no lock.
        drop(overdue);
    }

    /// Closes a connection; its place is free after that.
    fn close(&self, kept: Kept<D::Conn>) {
        let _place = Place(self);
        drop(kept);
    }

    /// Hands a place to the longest waiter, or has one more free.
    fn free_place(&self) {
        let mut state = self.state.lock();
        if state.hand_over(Handover::Place).is_some() {
            state.open -= 1;
        }
    }

    fn count_wait(&self, wait: Duration) {
        let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        let range = micros.max(1).next_power_of_two().ilog2() as usize;
        self.waits[range.min(WAIT_RANGES - 1)].fetch_add(1, Relaxed);
    }
}

impl<C> State<C> {
    /// Gives to the longest waiter. Returns what it was if there is none.
    fn hand_over(&mut self, mut handover: Handover<C>) -> Option<Handover<C>> {
        while let Some(waiter) = self.waiters.pop_front() {
            match waiter.handover_tx.try_send(handover) {
                Ok(()) => return None,
                // Its thread has ended: the next one.
                Err(TrySendError::Disconnected(back) | TrySendError::Full(back)) => handover = back,
            }
        }
        Some(handover)
    }
}

impl<'p, D: Dial> Place<'p, D> {
    /// The place goes with the connection.
    fn hold(self, kept: Kept<D::Conn>) -> Pooled<'p, D> {
        let pool = self.0;
        std::mem::forget(self);
        Pooled { pool, kept: Some(kept) }
    }
}

impl<D: Dial> Drop for Place<'_, D> {
    fn drop(&mut self) {
        self.0.free_place();
    }
}

impl<D: Dial> Pooled<'_, D> {
    /// The generation that it belongs to, for [`Pool::retire`].
    pub fn generation(&self) -> u64 {
        self.kept().generation
    }

    fn kept(&self) -> &Kept<D::Conn> {
        self.kept.as_ref().expect("it is there until the drop")
    }
}

impl<D: Dial> Deref for Pooled<'_, D> {
    type Target = D::Conn;
    fn deref(&self) -> &D::Conn {
        &self.kept().conn
    }
}

impl<D: Dial> DerefMut for Pooled<'_, D> {
    fn deref_mut(&mut self) -> &mut D::Conn {
        &mut self.kept.as_mut().expect("it is there until the drop").conn
    }
}

impl<D: Dial> Drop for Pooled<'_, D> {
    fn drop(&mut self) {
        let Some(kept) = self.kept.take() else { return };
        if self.pool.dial.is_reusable(&kept.conn) && self.pool.is_young(&kept) {
            self.pool.give(kept);
        } else {
            self.pool.close(kept);
        }
    }
}

impl<D: Dial> fmt::Debug for Pool<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("limits", &self.limits).finish_non_exhaustive()
    }
}
