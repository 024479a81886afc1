//! `PROMOTE FORCE`: a majority is gone for good, and an operator lets a node go on without it.
//!
//! No rule of the election allows that, so the node leaves its cluster: it becomes the only member of a new one, with
//! what its log has. The nodes of the old cluster count for nothing in the new one and the reverse, since no line passes
//! between clusters. What only they had is lost to the new one, also if it was committed.
//!
//! The new cluster's id and the epoch are durable together, before anything is written to the log. A crash in between
//! leaves a node that belongs to the new cluster and has no members record of it: it neither votes nor leads, and can be
//! forced again.

use super::Election;
use crate::aof::record::Epoch;
use crate::cluster::message::Output;
use crate::cluster::term::{ClusterId, Millis};

/// The new cluster's epochs begin so far after all that this node knows: the old cluster may have had some more.
const EPOCHS_APART: u64 = 1000;

impl Election {
    /// Leads a new cluster, unless this node leads already or a leader may count on its promise.
    pub(super) fn force(&mut self, now: Millis, cluster: ClusterId, out: &mut Vec<Output>) {
        if self.leads().is_some() || self.has_promised(now) {
            return;
        }
        self.drop_leader(out);
        let epoch = Epoch(self.term.epoch.max(self.end.epoch).0 + EPOCHS_APART);
        let me = self.term.id;
        self.change_term(out, |term| {
            (term.cluster, term.epoch, term.vote) = (Some(cluster), epoch, Some(me));
        });
        // Those of the old cluster count no longer.
        self.members = None;
        self.lead(now, epoch, vec![me], out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::election::Timing;
    use crate::cluster::members::{Ack, Members, Reads, Voter};
    use crate::cluster::message::{End, Input, Message};
    use crate::cluster::term::{NodeId, Term};
    use crate::store::effect::Seq;

    const T: Millis = 100;
    const NEW: ClusterId = ClusterId(2);

    fn id(number: u8) -> NodeId {
        NodeId([number; 20])
    }

    /// Node 1 of three, in epoch 7, which has waited for what an earlier process may have promised.
    fn node() -> Election {
        let voter = |number| Voter { id: id(number), address: format!("n{number}:8080") };
        let (ack, reads, cluster) = (Ack::Majority, Reads::Local, ClusterId(1));
        let voters = [1, 2, 3].map(voter).to_vec();
        let members = Members { cluster, ack, reads, voters, seq: Seq(2) };
        let term = Term { cluster: Some(cluster), epoch: Epoch(7), ..Term::new(id(1)) };
        let timing = Timing { timeout: T, is_reluctant: false };
        Election::new(term, timing, Some(members), None, 0, 7)
    }

    fn step(node: &mut Election, now: Millis, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        node.step(now, input, &mut out);
        out
    }

    #[test]
    fn a_forced_node_leads_a_new_cluster_alone() {
        let mut node = node();
        step(&mut node, T, Input::Log(End { epoch: Epoch(9), seq: Seq(50) }));
        let out = step(&mut node, T, Input::Force(NEW));
        let (epoch, me) = (Epoch(9 + EPOCHS_APART), id(1));
        let [Output::Persist(term), Output::Lead(led, Some(founders)), ..] = &out[..] else {
            panic!("{out:?}");
        };
        assert_eq!((term.cluster, term.epoch, term.vote), (Some(NEW), epoch, Some(me)));
        assert_eq!((*led, &founders[..]), (epoch, &[me][..]));
        let epoch = *led;
        step(&mut node, T, Input::Begun(epoch, Seq(51)));
        let out = step(&mut node, T, Input::Acked(me, epoch, Seq(52)));
        assert_eq!(out, [Output::Commit(Seq(52))], "one node is a majority");
        assert!(
            !step(&mut node, 2 * T, Input::Tick)
                .iter()
                .any(|output| matches!(output, Output::StepDown(_)))
        );
    }

    #[test]
    fn a_promise_binds_the_forced_node_too() {
        let mut node = node();
        assert_eq!(step(&mut node, T - 1, Input::Force(NEW)), [], "just started");
        let beat = Message::Beat { epoch: Epoch(7), round: 1, promise: T };
        step(&mut node, T, Input::Line(id(2), beat));
        assert_eq!(step(&mut node, 2 * T - 1, Input::Force(NEW)), [], "a leader was heard");
        assert!(!node.belongs_to(NEW));
        assert!(!step(&mut node, 2 * T, Input::Force(NEW)).is_empty());
        assert_eq!(step(&mut node, 2 * T, Input::Force(ClusterId(3))), [], "it leads already");
    }

    #[test]
    fn a_forced_node_whose_record_was_not_written_waits_for_the_next_order() {
        let mut node = node();
        step(&mut node, T, Input::Force(NEW));
        let epoch = node.leads().expect("forced");
        assert!(
            step(&mut node, T, Input::Void(epoch))
                .iter()
                .any(|output| matches!(output, Output::StepDown(_)))
        );
        step(&mut node, T, Input::Members(None));
        let asks = |now: &Millis| step(&mut node, *now, Input::Tick).contains(&Output::Sync);
        assert_eq!(
            (T..20 * T).step_by(10).find(asks),
            None,
            "it belongs to a cluster without members"
        );
        assert!(!step(&mut node, 20 * T, Input::Force(NEW)).is_empty());
    }
}
