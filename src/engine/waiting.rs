//! Waits of a client's command: for CLIENT PAUSE to end, or for what WAIT and its like ask for.

use super::Engine;
use crate::clients::Client;
use crate::clients::blocked::Wait;
use crate::clients::pause::PauseKind;
use crate::commands::Flags;
use crate::error::Failure;
use crate::signal::Signal;
use std::sync::Arc;
use std::time::Instant;

const ENDED: Failure =
    Failure::fixed("ERR the server ends during CLIENT PAUSE; the command did not run");

impl Engine {
    /// See [`crate::clients::blocked::Blocked::wait`]. `signal` must be one that a shutdown wakes.
    pub(crate) fn block(
        &self,
        client: &Client,
        why: Wait,
        signal: &Arc<Signal>,
        deadline: Option<Instant>,
        condition: impl FnMut() -> bool,
    ) -> Result<bool, Failure> {
        client.blocked.wait(why, signal, deadline, condition, || self.ends(client))
    }

    /// True if the client or the server is about to end.
    pub(crate) fn ends(&self, client: &Client) -> bool {
        client.is_killed() || self.shutdown.is_requested()
    }

    /// Begins a pause. When this returns, no write that it holds back is under way.
    pub(crate) fn begin_pause(&self, kind: PauseKind, millis: u64) {
        self.pause.begin(kind, Instant::now(), millis);
        // A follower's only writes are its leader's, and a full copy may hold its locks for long.
        if !self.role.is_follower() {
            drop(self.store.begin_all(true, || self.clock.now()));
        }
    }

    /// True if a pause has begun since a write was let through. Certain while the write holds its locks.
    pub(super) fn is_paused(&self, flags: Flags) -> bool {
        flags.has(Flags::WRITE) && self.pause.is_active()
    }

    /// Waits while a pause holds back a command with these flags; returns whether it did.
    pub(super) fn wait_while_paused(&self, client: &Client, flags: Flags) -> Result<bool, Failure> {
        let mut waited = false;
        while let Some(until) = self.pause.holds(flags) {
            waited = true;
            let is_over = || self.pause.holds(flags) != Some(until);
            self.block(client, Wait::Paused, &self.pause.ended, until, is_over)?;
            // During a pause nothing may be written, not even at the end of the server.
            if self.ends(client) {
                // In a cluster the command may be sent to the node that leads next.
                let is_held = self.cluster.is_some() && flags.has(Flags::WRITE);
                return Err(if is_held { self.readonly() } else { ENDED });
            }
        }
        Ok(waited)
    }
}
