//! The latch that everybody who waits for long also waits on.

use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Closed once, when the server is to stop; never opened again.
#[derive(Debug, Default)]
pub struct Shutdown {
    requested: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Shutdown {
    /// Not requested.
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// Requests it. Returns whether this call was the first.
    pub fn request(&self) -> bool {
        let first = !self.requested.swap(true, SeqCst);
        // Taken and let go, so that nobody is between looking and waiting.
        drop(self.lock.lock());
        self.changed.notify_all();
        first
    }

    /// Whether it was requested.
    pub fn is_requested(&self) -> bool {
        self.requested.load(SeqCst)
    }

    /// Waits until it is requested.
    pub fn wait(&self) {
        let mut guard = self.lock.lock();
        while !self.is_requested() {
            self.changed.wait(&mut guard);
        }
    }

    /// Waits this long, or until it is requested; returns whether it is. The server's only way to
    /// sleep: nothing that waits here holds up the end.
    pub fn wait_for(&self, time: Duration) -> bool {
        // A client may ask for a sleep that ends behind the end of what the clock can tell.
        let Some(deadline) = Instant::now().checked_add(time) else {
            self.wait();
            return true;
        };
        let mut guard = self.lock.lock();
        while !self.is_requested() {
            if self.changed.wait_until(&mut guard, deadline).timed_out() {
                break;
            }
        }
        self.is_requested()
    }
}
