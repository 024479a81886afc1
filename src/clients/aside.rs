//! Stepping aside before a wait for the next request.
//!
//! It lets those threads run first whose requests are here already. Often ours has come by then, and no thread need be
//! put to sleep and woken. But a thread that shares its core with a busy program, such as the client on the same
//! machine, runs again only after that one's time slice, some 3 ms; a thread that sleeps is woken at once, or on another
//! core. So after stepping aside took long, no thread does it on that core for a while.
//!
//! A client that pipelines reads all answers before it sends more. So after such a batch no thread steps aside, unless
//! the batch wrote to the log: then the records of others join a write. Without a log that is 1.16 times the GETs for
//! 0.86 of the CPU each, and 1.06 times the SETs for 0.94 (50 clients, pipeline of 16, medians of 5 rounds).
//!
//! Measured with 50 clients on two cores, as ratios to what it is if all always step aside (medians of 3 to 6 rounds;
//! the machine was uneven):
//!
//! | | requests, p99 | server and clients on a core each |
//! |---|---|---|
//! | as here | 0.90–0.95, 0.4 | 1.05, 1.0 |
//! | never | 0.95, 0.3 | 0.98, 1.2 |

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// Fifty threads that serve a request each take less.
const LONG: Duration = Duration::from_millis(2);
/// So many times no thread steps aside after it took long. Counted and not timed, so that few of a hundred requests wait
/// long, however many come.
const REST_STEPS: u32 = 250;
/// Of more cores, some share an entry.
const CORES: usize = 64;

/// Where threads step aside.
#[derive(Debug)]
pub struct Aside {
    cores: [Core; CORES],
}

/// Alone in its cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Core {
    /// How often no thread steps aside here. Threads that move to another core may lose a step, which does no harm.
    rest: AtomicU32,
}

impl Default for Aside {
    fn default() -> Aside {
        Aside { cores: std::array::from_fn(|_| Core::default()) }
    }
}

impl Aside {
    /// Steps aside, unless that took long on this core a short while ago.
    pub fn step(&self) {
        self.step_on(rustix::thread::sched_getcpu(), || {
            let began = Instant::now();
            thread::yield_now();
            began.elapsed()
        });
    }

    /// `step` returns the time that it took.
    fn step_on(&self, core: usize, step: impl FnOnce() -> Duration) {
        let rest = &self.cores[core % CORES].rest;
        let left = rest.load(Relaxed);
        if left > 0 {
            rest.store(left - 1, Relaxed);
        } else if step() > LONG {
            rest.store(REST_STEPS, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_long_step_a_core_has_none_for_a_while() {
        let aside = Aside::default();
        let steps = |core, time| {
            let mut stepped = false;
            aside.step_on(core, || {
                stepped = true;
                time
            });
            stepped
        };
        let longer = LONG + Duration::from_nanos(1);
        assert!(steps(1, LONG) && steps(1, longer));
        assert!((0..REST_STEPS).all(|_| !steps(1, longer)), "it rests");
        assert!(steps(1, LONG) && steps(1, LONG), "it has rested");
        assert!(steps(1, longer) && steps(0, LONG) && steps(CORES, LONG), "another core");
        assert!(!steps(CORES + 1, LONG), "the same entry");
    }
}
