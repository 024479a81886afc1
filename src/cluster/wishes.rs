//! PROMOTE: clients here wait for the leader to hand over to this node.
//!
//! ```text
//! PROMOTE ─ make ──▶ link: HANDOVER ──▶ the leader stops writing ──▶ #lead ──▶ does a PROMOTE wait?
//!         ─ withdraw                                                           yes: accept, lead
//!                                                                              no:  DECLINE, the leader goes on
//! ```
//!
//! Each PROMOTE makes its own wish, so one that gives up leaves the others theirs. Accepting an offer and
//! withdrawing a wish exclude each other: after PROMOTE has answered that nothing came of it, nothing does,
//! even if an offer is still on its way over the link.

use crate::lock::Mutex;
use crate::signal::Signal;
use std::sync::Arc;

/// The wishes to lead.
#[derive(Debug, Default)]
pub struct Wishes {
    state: Mutex<State>,
    /// Moved when this node has begun to lead, or an offer has come to nothing.
    pub changed: Arc<Signal>,
}

#[derive(Debug, Default)]
struct State {
    /// PROMOTEs that wait.
    waiting: usize,
    /// Wishes so far.
    made: u64,
    /// The leader's offer was accepted; this node is about to lead.
    accepted: bool,
}

impl Wishes {
    /// Makes a wish; [`Wishes::withdraw`] must follow.
    pub fn make(&self) {
        let mut state = self.state.lock();
        state.waiting += 1;
        state.made += 1;
    }

    /// The newest wish's number, if any wish is there: the leader has to be asked once for each.
    pub fn newest(&self) -> Option<u64> {
        let state = self.state.lock();
        (state.waiting > 0).then_some(state.made)
    }

    /// The leader offers to hand over. Returns whether this node is to lead; then [`Wishes::decided`] must
    /// follow.
    pub fn accept(&self) -> bool {
        let mut state = self.state.lock();
        state.accepted = state.waiting > 0;
        state.accepted
    }

    /// The accepted offer has been carried out, or has failed.
    pub fn decided(&self) {
        self.state.lock().accepted = false;
        self.changed.notify();
    }

    /// Takes a wish back. While an accepted offer is being carried out, waits for how that ends.
    pub fn withdraw(&self) {
        self.changed.wait_until(None, || {
            let mut state = self.state.lock();
            state.waiting -= usize::from(!state.accepted);
            !state.accepted
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_that_is_withdrawn_leaves_the_others() {
        let wishes = Wishes::default();
        assert!(!wishes.accept() && wishes.newest().is_none());
        wishes.make();
        wishes.make();
        wishes.withdraw();
        assert_eq!(wishes.newest(), Some(2));
        assert!(wishes.accept());
        wishes.decided();
        wishes.withdraw();
        assert!(!wishes.accept(), "no wish is left");
    }

    #[test]
    fn an_accepted_offer_is_waited_for() {
        let wishes = Wishes::default();
        wishes.make();
        assert!(wishes.accept());
        std::thread::scope(|scope| {
            let withdrawing = scope.spawn(|| wishes.withdraw());
            assert!(!withdrawing.is_finished());
            wishes.decided();
        });
        assert!(wishes.newest().is_none());
    }
}
