//! The threads that live as long as the server, each waited for with a deadline.
//!
//! A thread that is not done by then is abandoned with a warning; it ends with the process. So neither the
//! network nor a disk or a name server can hold up a shutdown.

use super::StartError;
use crate::signal::Signal;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

/// A thread that was told to end has at least this long, also when clients have used up the time.
const GRACE: Duration = Duration::from_millis(200);

/// Counts threads that run.
#[derive(Debug, Default)]
pub struct Running {
    count: AtomicUsize,
    ended: Signal,
}

/// A thread, counted until dropped, also when it panics.
pub struct Counted(Arc<Running>);

impl Running {
    /// Counts one more.
    pub fn begin(self: &Arc<Self>) -> Counted {
        self.count.fetch_add(1, SeqCst);
        Counted(Arc::clone(self))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.load(SeqCst)
    }

    /// Waits until all have ended, or the deadline has passed; returns whether they have ended.
    pub fn wait(&self, deadline: Option<Instant>) -> bool {
        self.ended.wait_until(deadline, || self.count() == 0)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, SeqCst);
        self.0.ended.notify();
    }
}

/// A running thread.
#[derive(Debug)]
pub struct Thread {
    name: &'static str,
    running: Arc<Running>,
}

impl Thread {
    /// Starts it.
    pub fn start(
        name: &'static str,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<Thread, StartError> {
        let running = Arc::new(Running::default());
        let counted = running.begin();
        let run = move || {
            let _counted = counted;
            run();
        };
        thread::Builder::new()
            .name(name.to_string())
            .spawn(run)
            .map(|_| Thread { name, running })
            .map_err(|error| StartError::Resource("start a thread", error.to_string()))
    }

    /// Waits until it has ended, or the deadline has passed; returns whether it has ended.
    pub fn wait(&self, deadline: Option<Instant>) -> bool {
        self.running.wait(deadline)
    }

    /// As [`Thread::wait`], with a warning if the thread is abandoned.
    pub fn end(&self, deadline: Instant) -> bool {
        let in_time = self.wait(Some(with_grace(deadline)));
        if !in_time {
            log::warn!(
                "the thread {} has not ended within shutdown-timeout; it is left behind",
                self.name
            );
        }
        in_time
    }
}

/// The deadline, but not before those who were told a moment ago can be done.
pub fn with_grace(deadline: Instant) -> Instant {
    deadline.max(Instant::now() + GRACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_hangs_is_left_behind_and_one_that_panics_counts_as_ended() {
        let stop = Arc::new(Signal::default());
        let never = Arc::clone(&stop);
        let hang = move || assert!(never.wait_until(None, || false));
        assert!(!Thread::start("hangs", hang).expect("a thread").end(Instant::now()));
        let panics = Thread::start("panics", || panic!("on purpose")).expect("a thread");
        assert!(panics.wait(Some(Instant::now() + Duration::from_secs(10))));
    }
}
