//! Clients that wait in a command, and how such a wait ends early.
//!
//! ```text
//! WAIT, WAITAOF, WAITSEQ, CLIENT PAUSE ── Blocked::wait ── sleeps on a signal until
//!     the condition holds, or the deadline has passed
//!     CLIENT UNBLOCK           as if the deadline had passed, or with an error; does not end a pause
//!     CLIENT KILL, shutdown    as if the deadline had passed
//! ```
//!
//! While it waits, the client counts in `blocked_clients`, and CLIENT LIST shows it with `b`.
//!
//! Once a second the sweeper unblocks clients that wait endlessly (`WAIT 1 0`) and have closed their end of the
//! connection. They are still answered, because `nc -N` closes its end and reads on.

use super::{Client, Clients};
use crate::error::Failure;
use crate::lock::Mutex;
use crate::signal::Signal;
use rustix::net::{RecvFlags, recv};
use std::sync::Arc;
use std::time::Instant;

const UNBLOCKED: Failure = Failure::fixed("UNBLOCKED client unblocked via CLIENT UNBLOCK");

/// The reason why a client waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Its command asked for it.
    Asked,
    /// CLIENT PAUSE holds its command back. CLIENT UNBLOCK does not end this wait.
    Paused,
}

/// How CLIENT UNBLOCK ends a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unblock {
    /// As if its time were over.
    Timeout,
    /// The command fails.
    Error,
}

/// The wait that a client is in, if it is in one.
#[derive(Debug, Default)]
pub struct Blocked(Mutex<Option<WaitState>>);

#[derive(Debug)]
struct WaitState {
    why: Wait,
    is_endless: bool,
    signal: Arc<Signal>,
    unblocked: Option<Unblock>,
}

impl Blocked {
    /// True while it waits in a command.
    pub fn is_blocked(&self) -> bool {
        self.0.lock().is_some()
    }

    /// Makes the waiting thread check again whether to stop.
    pub fn wake(&self) {
        if let Some(waiting) = &*self.0.lock() {
            waiting.signal.notify();
        }
    }

    /// Ends a wait that the client's command asked for; returns false if there is none.
    pub(crate) fn unblock(&self, how: Unblock) -> bool {
        let mut waiting = self.0.lock();
        let is_free = |w: &&mut WaitState| w.why == Wait::Asked && w.unblocked.is_none();
        let Some(waiting) = waiting.as_mut().filter(is_free) else { return false };
        waiting.unblocked = Some(how);
        waiting.signal.notify();
        true
    }

    /// Waits until the condition holds (true), or until the deadline has passed or the wait was ended early
    /// (false). `is_ending` ends it too; what makes it true must notify `signal`.
    pub(crate) fn wait(
        &self,
        why: Wait,
        signal: &Arc<Signal>,
        deadline: Option<Instant>,
        mut condition: impl FnMut() -> bool,
        is_ending: impl Fn() -> bool,
    ) -> Result<bool, Failure> {
        *self.0.lock() = Some(WaitState {
            why,
            is_endless: deadline.is_none(),
            signal: Arc::clone(signal),
            unblocked: None,
        });
        let mut holds = false;
        signal.wait_until(deadline, || {
            holds = condition();
            holds || self.is_unblocked() || is_ending()
        });
        let waiting = self.0.lock().take();
        match waiting.and_then(|waiting| waiting.unblocked) {
            Some(Unblock::Error) => Err(UNBLOCKED),
            _ => Ok(holds),
        }
    }

    fn is_unblocked(&self) -> bool {
        self.0.lock().as_ref().is_some_and(|waiting| waiting.unblocked.is_some())
    }

    fn waits_for_ever(&self) -> bool {
        let is_endless = |waiting: &WaitState| waiting.why == Wait::Asked && waiting.is_endless;
        self.0.lock().as_ref().is_some_and(is_endless)
    }
}

impl Clients {
    /// How many wait in a command.
    pub fn blocked(&self) -> usize {
        self.all().iter().filter(|client| client.blocked.is_blocked()).count()
    }

    /// Unblocks clients that would wait for ever and have closed their end of the connection. Input that is
    /// not yet read hides the close.
    pub(crate) fn unblock_those_gone(&self) {
        let is_gone = |client: &&Arc<Client>| {
            let (mut byte, flags) = ([0u8], RecvFlags::PEEK | RecvFlags::DONTWAIT);
            client.blocked.waits_for_ever()
                && recv(client.outbox.socket(), &mut byte, flags).is_ok_and(|(n, _)| n == 0)
        };
        for client in self.all().iter().filter(is_gone) {
            client.blocked.unblock(Unblock::Timeout);
        }
    }
}
