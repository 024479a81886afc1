//! CLIENT PAUSE: commands wait until a time, or until CLIENT UNPAUSE.
//!
//! When CLIENT PAUSE has answered, no write is under way: a write checks for a pause before it waits for locks
//! and again while it holds them, and beginning a pause takes all locks once. The server's own deletions
//! (expiry, eviction) stand still during a pause of either kind, as in Redis; expired keys are hidden all the
//! same. Followers are sent what was written before.
//!
//! A pause lasts by the monotonic clock. A pause inside a MULTI begins at the end of its EXEC.
//!
//! A leader that hands over to another node *holds* writes in the same way, whatever CLIENT PAUSE and CLIENT UNPAUSE do
//! meanwhile.

use crate::commands::Flags;
use crate::lock::Mutex;
use crate::signal::Signal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The commands that a pause holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseKind {
    /// Those that may change data.
    Writes,
    /// All but those with which an operator ends the pause or the server.
    All,
}

/// A pause's kind and its end; None is later than the clock can tell.
type Until = (PauseKind, Option<Instant>);

/// The pauses that may be there.
#[derive(Debug, Default)]
struct Both {
    /// CLIENT PAUSE.
    asked: Option<Until>,
    /// A handover.
    hold: Option<Instant>,
}

/// The pause, if there is one.
#[derive(Debug, Default)]
pub struct Pause {
    /// False if there is none: the only thing that the path of a request reads.
    active: AtomicBool,
    pause: Mutex<Both>,
    /// Notified when it is ended early.
    pub(crate) ended: Arc<Signal>,
}

impl Pause {
    /// Begins one, or makes the present one longer or stricter. As in Redis, never shorter or weaker.
    pub(crate) fn begin(&self, kind: PauseKind, now: Instant, millis: u64) {
        let mut pause = self.pause.lock();
        let until = now.checked_add(Duration::from_millis(millis));
        pause.asked = Some(match pause.asked.filter(|pause| !is_over(pause, now)) {
            Some((before, end)) => {
                let all = before == PauseKind::All || kind == PauseKind::All;
                let later = end.zip(until).map(|(end, until)| end.max(until));
                (if all { PauseKind::All } else { PauseKind::Writes }, later)
            }
            None => (kind, until),
        });
        self.active.store(true, Relaxed);
    }

    /// Ends it.
    pub fn end(&self) {
        self.pause.lock().asked = None;
        self.ended.notify();
    }

    /// Holds writes until then.
    pub(crate) fn hold(&self, until: Instant) {
        let mut pause = self.pause.lock();
        pause.hold = Some(until);
        self.active.store(true, Relaxed);
    }

    /// Holds them no longer.
    pub(crate) fn end_hold(&self) {
        if self.pause.lock().hold.take().is_some() {
            self.ended.notify();
        }
    }

    /// True during a pause.
    pub fn is_active(&self) -> bool {
        self.active.load(Relaxed) && self.present(Instant::now()).is_some()
    }

    fn present(&self, now: Instant) -> Option<Until> {
        let mut pause = self.pause.lock();
        pause.asked = pause.asked.filter(|asked| !is_over(asked, now));
        pause.hold = pause.hold.filter(|until| *until > now);
        let held = pause.hold.map(|until| (PauseKind::Writes, Some(until)));
        let present = pause.asked.or(held);
        self.active.store(present.is_some(), Relaxed);
        present
    }

    /// The end of the pause, if it holds back a command with these flags.
    pub(crate) fn holds(&self, flags: Flags) -> Option<Option<Instant>> {
        if !self.active.load(Relaxed) {
            return None;
        }
        let (kind, until) = self.present(Instant::now())?;
        let writes = flags.has(Flags::WRITE) || flags.has(Flags::MAY_REPLICATE);
        (kind == PauseKind::All || writes).then_some(until)
    }
}

fn is_over((_, until): &Until, now: Instant) -> bool {
    until.is_some_and(|until| until <= now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_pause_lasts_by_the_monotonic_clock() {
        let (pause, began) = (Pause::default(), Instant::now());
        pause.begin(PauseKind::Writes, began, 1000);
        assert!(pause.present(began + SECOND - Duration::from_millis(1)).is_some());
        assert!(pause.present(began + SECOND).is_none(), "whatever the wall clock shows");
        assert!(!pause.active.load(Relaxed));
    }

    #[test]
    fn a_second_pause_makes_it_neither_shorter_nor_weaker() {
        let (pause, began) = (Pause::default(), Instant::now());
        pause.begin(PauseKind::All, began, 1000);
        pause.begin(PauseKind::Writes, began, 10);
        assert_eq!(pause.present(began), Some((PauseKind::All, Some(began + SECOND))));
        pause.begin(PauseKind::Writes, began, 2000);
        assert_eq!(pause.present(began), Some((PauseKind::All, Some(began + 2 * SECOND))));
        pause.begin(PauseKind::Writes, began + 2 * SECOND, 500);
        let later = pause.present(began + 2 * SECOND);
        assert_eq!(later.map(|(kind, _)| kind), Some(PauseKind::Writes), "the first one is over");
    }

    #[test]
    fn a_hold_ends_by_itself_and_not_with_a_pause() {
        let (pause, began) = (Pause::default(), Instant::now());
        pause.hold(began + SECOND);
        pause.begin(PauseKind::All, began, 10);
        pause.end();
        assert_eq!(pause.present(began), Some((PauseKind::Writes, Some(began + SECOND))));
        assert_eq!(pause.present(began + SECOND), None);
        pause.hold(began + SECOND);
        pause.end_hold();
        assert_eq!(pause.present(began), None);
    }

    #[test]
    fn a_pause_may_be_longer_than_the_clock_can_tell() {
        let (pause, now) = (Pause::default(), Instant::now());
        pause.begin(PauseKind::Writes, now, u64::MAX);
        assert!(pause.is_active());
        pause.end();
        assert!(!pause.is_active());
    }
}
