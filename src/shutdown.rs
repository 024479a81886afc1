//! The latch that everybody who waits for long also waits on.

use crate::lock::Mutex;
use crate::signal::Signal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Closed once, when the server is to stop; never opened again.
#[derive(Debug, Default)]
pub struct Shutdown {
    requested: AtomicBool,
    changed: Signal,
    /// Signals whose waiters look at this latch, too.
    woken: Mutex<Vec<Arc<Signal>>>,
}

impl Shutdown {
    /// Not requested.
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// From now on, a request also wakes those who wait for this signal; their condition asks
    /// [`Shutdown::is_requested`].
    pub fn wakes(&self, signal: &Arc<Signal>) {
        self.woken.lock().push(Arc::clone(signal));
        if self.is_requested() {
            signal.notify();
        }
    }

    /// Requests it. Returns whether this call was the first.
    pub fn request(&self) -> bool {
        let first = !self.requested.swap(true, SeqCst);
        self.changed.notify();
        self.woken.lock().iter().for_each(|signal| signal.notify());
        first
    }

    /// Whether it was requested.
    pub fn is_requested(&self) -> bool {
        self.requested.load(SeqCst)
    }

    /// Waits until it is requested.
    pub fn wait(&self) {
        self.changed.wait_until(None, || self.is_requested());
    }

    /// Waits this long, or until it is requested; returns whether it is. The server's only way to
    /// sleep: nothing that waits here holds up the end.
    pub fn wait_for(&self, time: Duration) -> bool {
        // A client may ask for a sleep that ends after the end of what the clock can tell: no deadline.
        let deadline = Instant::now().checked_add(time);
        self.changed.wait_until(deadline, || self.is_requested())
    }
}
