//! CLIENT PAUSE: commands wait at one place until a time, or until CLIENT UNPAUSE.

use crate::clock::UnixMillis;
use crate::commands::{Builtin, Command, Flags, Run};
use crate::shutdown::Shutdown;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// How often a waiting command looks whether the pause was ended early.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Which commands wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseKind {
    /// Those that may change data.
    Writes,
    /// All but the few with which an operator ends the pause or the server.
    All,
}

/// The pause, if there is one.
#[derive(Debug, Default)]
pub struct Pause {
    /// Whether to look at `pause` at all: the only cost when there is none.
    active: AtomicBool,
    pause: Mutex<Option<(PauseKind, UnixMillis)>>,
}

impl Pause {
    /// Begins one, or makes the present one longer or stricter; never shorter or weaker, as Redis.
    pub fn begin(&self, kind: PauseKind, now: UnixMillis, millis: u64) {
        let mut pause = self.pause.lock();
        let until = UnixMillis(now.0.saturating_add(millis));
        *pause = Some(match *pause {
            Some((before, end)) if end > now => {
                let all = before == PauseKind::All || kind == PauseKind::All;
                (if all { PauseKind::All } else { PauseKind::Writes }, end.max(until))
            }
            _ => (kind, until),
        });
        self.active.store(true, Relaxed);
    }

    /// Ends it.
    pub fn end(&self) {
        *self.pause.lock() = None;
        self.active.store(false, Relaxed);
    }

    /// Waits as long as this command has to, and says whether it had to; EXEC's flags are those of what
    /// is queued, too.
    pub fn wait(&self, command: &Command, flags: Flags, shutdown: &Shutdown) -> bool {
        let mut waited = false;
        while self.active.load(Relaxed) && self.holds(command, flags) {
            waited = true;
            if shutdown.wait_for(LOOK_EVERY) {
                break;
            }
        }
        waited
    }

    fn holds(&self, command: &Command, flags: Flags) -> bool {
        let mut pause = self.pause.lock();
        let Some((kind, until)) = *pause else { return false };
        if UnixMillis::now() >= until {
            *pause = None;
            self.active.store(false, Relaxed);
            return false;
        }
        match kind {
            PauseKind::Writes => flags.has(Flags::WRITE) || flags.has(Flags::MAY_REPLICATE),
            PauseKind::All => !matches!(
                command.run,
                Run::Engine(Builtin::ClientUnpause | Builtin::ClientPause | Builtin::Shutdown)
            ),
        }
    }
}
