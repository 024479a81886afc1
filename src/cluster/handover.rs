//! PROMOTE: clients of a follower wait for the leader to hand over to it.
//!
//! ```text
//! PROMOTE ─ request ──▶ link: HANDOVER ──▶ the leader stops writing ──▶ #lead ──▶ does a PROMOTE wait?
//!         ─ withdraw                                                              yes: accept, lead
//!                                                                                 no:  DECLINE, the leader
//!                                                                                      goes on
//! ```
//!
//! Each PROMOTE makes its own request, so one that gives up leaves the others theirs. Accepting an offer and
//! withdrawing a request exclude each other: after PROMOTE has answered that it had no success, an offer that
//! is still on its way over the link is declined.

use super::role::Role;
use super::state::FollowTarget;
use crate::aof::record::Epoch;
use crate::store::effect::Seq;

/// Notices that an elected leader leads on because no node has taken the lead that it offered.
#[derive(Debug, Default)]
pub(crate) struct UntakenOffer {
    /// The epoch of the leader that was handing over when it last looked.
    offered_in: Option<Epoch>,
}

impl UntakenOffer {
    /// Looks again: this node leads that epoch, and hands over or not. True if it did before, in the same epoch. An offer
    /// of an earlier one was taken; by now this node may lead again and prepare the next.
    pub fn is_withdrawn(&mut self, leads: Option<Epoch>, hands_over: bool) -> bool {
        let before = std::mem::replace(&mut self.offered_in, leads.filter(|_| hands_over));
        before.is_some() && before == leads && !hands_over
    }
}

impl Role {
    /// A PROMOTE begins to wait; [`Role::withdraw_request`] must follow.
    pub fn request_handover(&self) {
        self.update(|state| {
            state.promotes_waiting += 1;
            state.promotes_made += 1;
        });
    }

    /// The number of the newest request, if any PROMOTE waits: the leader has to be asked once for each.
    pub fn handover_requested(&self) -> Option<u64> {
        self.read(|state| (state.promotes_waiting > 0).then_some(state.promotes_made))
    }

    /// The leader offers to hand over. Returns whether this node is to lead; then [`Role::close_offer`] must
    /// follow.
    pub fn accept_offer(&self, target: &FollowTarget) -> bool {
        self.update(|state| {
            let accepted = state.promotes_waiting > 0;
            state.in_force(target).is_some_and(|following| {
                following.offer_accepted = accepted;
                accepted
            })
        })
    }

    /// The accepted offer has been carried out, or has failed.
    pub fn close_offer(&self) {
        self.update(|state| {
            if let Some(following) = state.following() {
                following.offer_accepted = false;
            }
        });
    }

    /// A PROMOTE waits no longer. While an accepted offer is being carried out, waits for its outcome.
    pub fn withdraw_request(&self) {
        self.changed.wait_until(None, || {
            self.read(|state| {
                let is_deciding =
                    state.following().is_some_and(|following| following.offer_accepted);
                state.promotes_waiting -= usize::from(!is_deciding);
                !is_deciding
            })
        });
    }

    /// True if this node has handed over to that one after this record. That node may not know it yet.
    pub fn has_handed_over(&self, node_id: &str, last: Seq) -> bool {
        self.read(|state| {
            let handed_over =
                state.following().and_then(|following| following.handed_over.as_ref());
            handed_over.is_some_and(|(id, seq)| id == node_id && *seq == last)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::state::LeaderAddr;

    fn following() -> (Role, FollowTarget) {
        let role = Role::default();
        let change = role.begin_change();
        change.stop_writes();
        let handed_over = ("n".to_string(), Seq(9));
        change.follow(LeaderAddr { host: "a".to_string(), port: 1 }, Some(handed_over), 0);
        drop(change);
        let target = role.target().unwrap();
        (role, target)
    }

    #[test]
    fn an_offer_that_was_taken_is_not_withdrawn_by_the_same_node_in_a_later_epoch() {
        let mut offer = UntakenOffer::default();
        let mut looks = |epoch, hands_over| offer.is_withdrawn(Some(Epoch(epoch)), hands_over);
        assert!(!looks(4, false) && !looks(4, true) && !looks(4, true));
        // Two other elections went by in between.
        assert!(!looks(6, false));
        assert!(!looks(6, true) && looks(6, false) && !looks(6, false));
    }

    #[test]
    fn a_request_that_is_withdrawn_leaves_the_others() {
        let (role, target) = following();
        assert!(!role.accept_offer(&target) && role.handover_requested().is_none());
        role.request_handover();
        role.request_handover();
        role.withdraw_request();
        assert_eq!(role.handover_requested(), Some(2));
        assert!(role.accept_offer(&target));
        role.close_offer();
        role.withdraw_request();
        assert!(!role.accept_offer(&target), "no request is left");
    }

    #[test]
    fn an_accepted_offer_is_waited_for() {
        let (role, target) = following();
        role.request_handover();
        assert!(role.accept_offer(&target));
        std::thread::scope(|scope| {
            let withdrawing = scope.spawn(|| role.withdraw_request());
            assert!(!withdrawing.is_finished());
            role.close_offer();
        });
        assert!(role.handover_requested().is_none());
    }

    #[test]
    fn a_handover_is_forgotten_with_the_leader_that_it_made() {
        let (role, _) = following();
        assert!(role.has_handed_over("n", Seq(9)) && !role.has_handed_over("n", Seq(8)));
        role.begin_change().follow(LeaderAddr { host: "b".to_string(), port: 1 }, None, 0);
        assert!(!role.has_handed_over("n", Seq(9)));
    }
}
