//! One way to wait: for a condition, with a deadline, until a change of the state it depends on.
//!
//! ```text
//! waiter    count me ── read generation ── condition? ── no: sleep until the generation moves
//! notifier           change the state ── move the generation ── any waiter counted? wake all
//! ```
//!
//! The waiter counts itself before it reads the generation, and the notifier moves the generation before
//! it reads the count. So either the notifier sees the waiter, or the waiter sees the change. No wake-up
//! is lost, and a notifier without waiters takes no lock. The condition runs while no lock of the signal
//! is held, so it may take locks.
//!
//! [`crate::shutdown::Shutdown::wakes`] makes shutdown wake a signal's waiters too.

use crate::lock::{Mutex, rank};
use parking_lot::Condvar;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Instant;

/// Waiters sleep on it until a notifier moves its generation.
#[derive(Debug, Default)]
pub struct Signal {
    /// Moved by each notification.
    generation: AtomicU64,
    /// Number of threads that wait.
    waiters: AtomicUsize,
    lock: Mutex<(), { rank::SIGNAL }>,
    changed: Condvar,
}

impl Signal {
    /// Wakes all waiters, which check their conditions again. Call it *after* the change.
    pub fn notify(&self) {
        self.generation.fetch_add(1, SeqCst);
        if self.waiters.load(SeqCst) > 0 {
            // Once this lock was ours, no waiter is between reading the generation and its sleep.
            drop(self.lock.lock());
            self.changed.notify_all();
        }
    }

    /// True if any thread waits.
    pub fn has_waiters(&self) -> bool {
        self.waiters.load(SeqCst) > 0
    }

    /// Waits until the condition holds (true) or the deadline has passed (false); `None` waits
    /// without one. The condition is checked at least once, and after each notification.
    pub fn wait_until(
        &self,
        deadline: Option<Instant>,
        mut condition: impl FnMut() -> bool,
    ) -> bool {
        let _counted = Counted::new(&self.waiters);
        loop {
            let seen = self.generation.load(SeqCst);
            if condition() {
                return true;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return false;
            }
            let mut guard = self.lock.lock();
            while self.generation.load(SeqCst) == seen {
                match deadline {
                    None => self.changed.wait(guard.raw()),
                    Some(deadline) => {
                        if self.changed.wait_until(guard.raw(), deadline).timed_out() {
                            break;
                        }
                    }
                }
            }
        }
    }
}

/// A waiter, counted until dropped.
struct Counted<'c>(&'c AtomicUsize);

impl<'c> Counted<'c> {
    fn new(count: &'c AtomicUsize) -> Self {
        count.fetch_add(1, SeqCst);
        Counted(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn no_change_is_missed() {
        const ROUNDS: u64 = 20_000;
        let shared = Arc::new((Signal::default(), AtomicU64::new(0)));
        let other = Arc::clone(&shared);
        // Two threads count in turns; a lost wake-up would stop both for ever.
        let thread = std::thread::spawn(move || {
            for round in 0..ROUNDS {
                assert!(other.0.wait_until(None, || other.1.load(SeqCst) == 2 * round + 1));
                other.1.fetch_add(1, SeqCst);
                other.0.notify();
            }
        });
        for round in 0..ROUNDS {
            shared.1.fetch_add(1, SeqCst);
            shared.0.notify();
            assert!(shared.0.wait_until(None, || shared.1.load(SeqCst) == 2 * round + 2));
        }
        thread.join().unwrap();
        assert!(!shared.0.has_waiters());
    }

    #[test]
    fn a_deadline_ends_the_wait() {
        let signal = Signal::default();
        let soon = Instant::now() + Duration::from_millis(5);
        assert!(!signal.wait_until(Some(soon), || false));
        assert!(
            signal.wait_until(Some(soon), || true),
            "a condition that holds beats the deadline"
        );
    }
}
