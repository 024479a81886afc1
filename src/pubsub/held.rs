//! Messages and events that no client waits for, held back until a majority has the records before them: what expiry and
//! eviction cause on a leader, and everything that a follower's subscribers get. Under `ack leader`, and outside of a
//! cluster, nothing is held.
//!
//! ```text
//! record 41 applied ─▶ event "set a" (after 41) ─┐
//! message from the leader          (after 41) ───┼─▶ [ 41 41 43 ] ── commit is 42 ──▶ the first two are delivered
//! record 43 applied ─▶ event "del b" (after 43) ─┘
//! ```

use super::notify::Notice;
use crate::engine::Engine;
use crate::lock::{Mutex, rank};
use crate::store::effect::Seq;
use std::collections::VecDeque;

/// At most so many are held. A node that waits for a majority for long loses the rest, as a slow subscriber would.
const HELD_MAX: usize = 65_536;

/// A message or an event that waits.
#[derive(Debug)]
struct Waiting {
    /// The records before it end here.
    after: Seq,
    /// The history that they belong to: see `Log::generation`.
    generation: u64,
    notice: Notice,
}

/// All that wait, in their order.
#[derive(Debug, Default)]
pub struct Held {
    waiting: Mutex<VecDeque<Waiting>>,
    /// Held while some are delivered, so that two threads do not change their order.
    delivering: Mutex<(), { rank::HELD }>,
}

impl Engine {
    /// Delivers notices of what happened up to the end of the log, once that is confirmed. No lock may be held.
    pub(crate) fn deliver_when_committed(&self, notices: impl IntoIterator<Item = Notice>) {
        let (Some(_), Some(persistence)) = (&self.cluster, &self.persistence) else {
            return self.deliver_and_wait(notices);
        };
        let (after, generation) = (persistence.log.appended(), persistence.log.generation());
        let mut waiting = self.pubsub.held.waiting.lock();
        for notice in notices {
            if waiting.len() < HELD_MAX {
                waiting.push_back(Waiting { after, generation, notice });
            } else {
                self.followers.dropped_messages.increment();
            }
        }
        drop(waiting);
        self.deliver_held();
    }

    /// Delivers what is confirmed by now; to be called after the commit or the policy has changed.
    pub(crate) fn deliver_held(&self) {
        let (Some(cluster), Some(persistence)) = (&self.cluster, &self.persistence) else { return };
        let _in_order = self.pubsub.held.delivering.lock();
        let commit = if cluster.waits_for_majority() { cluster.commit() } else { Seq(u64::MAX) };
        let generation = persistence.log.generation();
        let mut waiting = self.pubsub.held.waiting.lock();
        let count = waiting.iter().take_while(|held| held.after <= commit).count();
        let confirmed: Vec<Waiting> = waiting.drain(..count).collect();
        drop(waiting);
        // Events of records that were given up did not happen.
        let happened = confirmed.into_iter().filter(|held| held.generation == generation);
        self.deliver_and_wait(happened.map(|held| held.notice));
    }
}
