//! The latch that is closed when the server is to stop. Every long wait also waits for it.

use crate::lock::Mutex;
use crate::signal::Signal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Closed once and never opened again.
#[derive(Debug, Default)]
pub struct Shutdown {
    requested: AtomicBool,
    changed: Signal,
    /// Signals whose waiters check this latch too.
    woken: Mutex<Vec<Arc<Signal>>>,
}

impl Shutdown {
    /// A latch that is open.
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// Makes a request also wake the waiters of this signal. Their condition must check
    /// [`Shutdown::is_requested`].
    pub fn wakes(&self, signal: &Arc<Signal>) {
        self.woken.lock().push(Arc::clone(signal));
        if self.is_requested() {
            signal.notify();
        }
    }

    /// Requests the shutdown. Returns whether this call was the first.
    pub fn request(&self) -> bool {
        let first = !self.requested.swap(true, SeqCst);
        self.changed.notify();
        self.woken.lock().iter().for_each(|signal| signal.notify());
        first
    }

    /// True once the shutdown was requested.
    pub fn is_requested(&self) -> bool {
        self.requested.load(SeqCst)
    }

    /// Waits until the shutdown is requested.
    pub fn wait(&self) {
        self.changed.wait_until(None, || self.is_requested());
    }

    /// Waits this long, or until the shutdown is requested; returns whether it is. The server sleeps in
    /// no other way, so no sleep delays the end.
    pub fn wait_for(&self, time: Duration) -> bool {
        // A client may ask for a sleep that ends after the clock's range: it then has none.
        let deadline = Instant::now().checked_add(time);
        self.changed.wait_until(deadline, || self.is_requested())
    }
}
