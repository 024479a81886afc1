//! The nodes that vote, and what a node remembers of them.
//!
//! The newest members record in the log says who votes. A node may forget records, but not how far the members records went
//! that it acknowledged: else nodes that have forgotten could elect a leader among the voters of an old record, while
//! others have a later one, and writes after it.

use super::{Election, State};
use crate::aof::record::Epoch;
use crate::cluster::members::Members;
use crate::cluster::message::{End, Output};
use crate::cluster::mutant::Mutant;
use crate::cluster::term::{Memory, Millis};
use crate::store::effect::Seq;

impl Election {
    /// The members record that is in force.
    pub fn members_seq(&self) -> Option<Seq> {
        self.members.as_ref().map(|members| members.seq)
    }

    /// True unless the newest members record does not name this node.
    pub(super) fn is_voter(&self) -> bool {
        self.members.as_ref().is_none_or(|members| members.names(self.term.id))
    }

    /// True if a log with this end goes as far as the members records that this node acknowledged, or is of a later epoch,
    /// whose leader had all that was committed.
    pub(super) fn reaches_floor(&self, last: &End) -> bool {
        *last >= self.term.floor || self.breaks(Mutant::ForgetsHowFar)
    }

    /// Another members record is in force, or none.
    pub(super) fn members(
        &mut self,
        now: Millis,
        members: Option<Members>,
        epoch: Epoch,
        out: &mut Vec<Output>,
    ) {
        let at = |members: &Members| End { epoch, seq: members.seq };
        self.members_at = members.as_ref().map_or(End::default(), at);
        if let Some(members) = &members {
            let at = self.members_at;
            self.change_term(out, |term| {
                (term.cluster, term.left) = (Some(members.cluster), None);
                // A record that was given up was not committed. One that was forgotten may have been.
                let forgets = term.memory == Memory::Recovering;
                term.floor = if forgets { at.max(term.floor) } else { at };
            });
            if let State::Leading(leading) = &mut self.state {
                leading.members(members, now);
                // A leader that was alone had a fence without end.
                let epoch = leading.epoch;
                out.push(Output::Fence(0));
                self.lead_with(epoch, out, |_| ());
            }
        }
        self.members = members;
    }
}
