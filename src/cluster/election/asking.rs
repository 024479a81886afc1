//! Asking for votes, and voting.
//!
//! ```text
//! silence ─▶ Syncing: the log is synced, so that what is claimed is durable
//!         ─▶ Pre:     would a majority vote? No epoch has changed yet
//!         ─▶ Adopting: the epoch is this node's own, then the vote for itself is durable
//!         ─▶ Vote:    does a majority?
//! ```

use super::{Election, State};
use crate::aof::record::Epoch;
use crate::cluster::message::{Ask, End, Message, Output, Round};
use crate::cluster::mutant::Mutant;
use crate::cluster::term::{Memory, Millis, NodeId};
use crate::store::effect::Seq;

/// Which part of an election a node is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Syncing,
    Pre,
    Adopting,
    Vote,
}

/// A node that wants to lead.
#[derive(Debug)]
pub(super) struct Asking {
    stage: Stage,
    epoch: Epoch,
    /// The end of the log as it is durable.
    last: End,
    /// The nodes that said yes.
    yes: Vec<(NodeId, Memory)>,
    pub(super) until: Millis,
}

impl Election {
    pub(super) fn begin_asking(&mut self, now: Millis, out: &mut Vec<Output>) {
        self.drop_leader(out);
        self.ask(Stage::Syncing, Epoch(0), End::default(), now);
        out.push(Output::Sync);
    }

    /// Asks at once if the leader wants this node to lead, and nothing that it has promised is in the way: writes are held
    /// meanwhile.
    pub(super) fn follow_call(&mut self, now: Millis, out: &mut Vec<Output>) {
        let is_free = matches!(self.state, State::Following(_)) && self.ask_at <= now;
        if now < self.called_until && is_free && self.may_ask(now) {
            self.begin_asking(now, out);
        }
    }

    /// A node that the leader has called asks again: another voter may have learned only now that its promise is over.
    pub(super) fn ask_again(&self, now: Millis, out: &mut Vec<Output>) {
        let State::Asking(asking) = &self.state else { return };
        let round = match asking.stage {
            Stage::Pre => Round::Pre,
            Stage::Vote => Round::Vote,
            Stage::Syncing | Stage::Adopting => return,
        };
        if now < self.called_until {
            let ask = self.question(round, asking.epoch, asking.last);
            out.push(Output::Broadcast(Message::Ask(ask)));
        }
    }

    fn ask(&mut self, stage: Stage, epoch: Epoch, last: End, now: Millis) {
        let yes = vec![(self.term.id, self.term.memory)];
        let until = now + self.timing.timeout;
        self.state = State::Asking(Asking { stage, epoch, last, yes, until });
    }

    pub(super) fn synced(&mut self, now: Millis, last: End, out: &mut Vec<Output>) {
        if !matches!(&self.state, State::Asking(asking) if asking.stage == Stage::Syncing) {
            return;
        }
        if !self.reaches_floor(&last) {
            return; // It must not lead, and asks again later.
        }
        let epoch = Epoch(self.term.epoch.max(last.epoch).0 + 1);
        if self.breaks(Mutant::NoPreVote) {
            return self.adopt(epoch, last, now, out);
        }
        self.ask(Stage::Pre, epoch, last, now);
        out.push(Output::Broadcast(Message::Ask(self.question(Round::Pre, epoch, last))));
        self.count(now, out);
    }

    fn question(&self, round: Round, epoch: Epoch, last: End) -> Ask {
        let list = if self.members.is_none() { self.list.map(|list| list.hash) } else { None };
        Ask { round, epoch, last, list }
    }

    pub(super) fn given(
        &mut self,
        now: Millis,
        from: NodeId,
        round: Round,
        epoch: Epoch,
        memory: Memory,
        out: &mut Vec<Output>,
    ) {
        let State::Asking(asking) = &mut self.state else { return };
        let stage = if round == Round::Pre { Stage::Pre } else { Stage::Vote };
        if asking.stage == stage && asking.epoch == epoch {
            asking.yes.retain(|(id, _)| *id != from);
            asking.yes.push((from, memory));
            self.count(now, out);
        }
    }

    /// Goes on if enough nodes have said yes.
    fn count(&mut self, now: Millis, out: &mut Vec<Output>) {
        let State::Asking(asking) = &self.state else { return };
        if !self.has_won(&asking.yes) {
            return;
        }
        let (stage, epoch, last) = (asking.stage, asking.epoch, asking.last);
        if stage == Stage::Pre {
            self.adopt(epoch, last, now, out);
        } else {
            let yes: Vec<NodeId> = asking.yes.iter().map(|(id, _)| *id).collect();
            self.lead(now, epoch, yes, out);
        }
    }

    fn adopt(&mut self, epoch: Epoch, last: End, now: Millis, out: &mut Vec<Output>) {
        self.ask(Stage::Adopting, epoch, last, now);
        let ask = self.question(Round::Vote, epoch, last);
        out.push(Output::Adopt { from: self.term.id, ask });
    }

    /// True if these are enough (`Members::elect`); before there are members, all listed nodes.
    fn has_won(&self, yes: &[(NodeId, Memory)]) -> bool {
        let Some(members) = &self.members else {
            return self.list.is_some_and(|list| yes.len() == list.len);
        };
        if self.breaks(Mutant::RecoveringVotesCounted) {
            let all: Vec<_> = yes.iter().map(|(id, _)| (*id, Memory::Whole)).collect();
            return members.elect(&all);
        }
        members.elect(yes)
    }

    pub(super) fn asked(&mut self, now: Millis, from: NodeId, ask: Ask, out: &mut Vec<Output>) {
        let is_live = self.has_live_quorum(now) && !self.breaks(Mutant::AskDeposes);
        if is_live || self.is_absurd(ask.epoch) {
            return;
        }
        let promised = self.has_promised(now) && !self.breaks(Mutant::AskDeposes);
        if ask.round == Round::Pre {
            let is_new = ask.epoch > self.term.epoch;
            let yes = is_new && !promised && self.accepts(&ask, &self.end);
            return self.give(from, &ask, yes, out);
        }
        let is_stale = ask.epoch < self.term.epoch;
        if promised || is_stale {
            return self.give(from, &ask, false, out);
        }
        out.push(Output::Adopt { from, ask });
    }

    /// True if the candidate's log may replace this one, which ends at `end`.
    fn accepts(&self, ask: &Ask, end: &End) -> bool {
        let Some(hash) = ask.list else {
            let any_epoch = self.breaks(Mutant::OffsetWithoutEpoch);
            let is_newer = if any_epoch { ask.last.seq >= end.seq } else { ask.last >= *end };
            return is_newer && self.reaches_floor(&ask.last);
        };
        // The first leader of a cluster gets the votes of nodes that have nothing to lose.
        let same_list = self.list.is_some_and(|list| list.hash == hash);
        same_list && self.members.is_none() && self.term.cluster.is_none() && end.seq == Seq(0)
    }

    fn give(&self, from: NodeId, ask: &Ask, yes: bool, out: &mut Vec<Output>) {
        let (own, memory) = (self.term.epoch, self.term.memory);
        let Ask { round, epoch, .. } = *ask;
        out.push(Output::Send(from, Message::Give { round, epoch, yes, own, memory }));
    }

    /// The second step of a vote: the epoch has been adopted, so no record of an earlier one can be acknowledged any
    /// more, and `last` is where the log ends.
    pub(super) fn ballot(
        &mut self,
        now: Millis,
        from: NodeId,
        ask: Ask,
        last: End,
        out: &mut Vec<Output>,
    ) {
        let me = self.term.id;
        let is_own = from == me;
        let is_stale = ask.epoch < self.term.epoch;
        if is_own && (is_stale || !self.adopts(ask.epoch)) {
            return; // Another leader or candidate came first.
        }
        if is_stale {
            return self.give(from, &ask, false, out);
        }
        if ask.epoch > self.term.epoch {
            self.enter(ask.epoch, now, is_own, out);
        }
        let is_free =
            self.term.vote.is_none_or(|vote| vote == from) || self.breaks(Mutant::VoteTwice);
        // A candidate claims only what is durable, and has at least that.
        let yes = is_free && (is_own || self.accepts(&ask, &last));
        if yes {
            self.term.vote = Some(from);
            self.restart_timer(now);
        }
        out.push(Output::Persist(self.term.clone()));
        if !is_own {
            return self.give(from, &ask, yes, out);
        }
        if yes {
            self.ask(Stage::Vote, ask.epoch, ask.last, now);
            out.push(Output::Broadcast(Message::Ask(ask)));
            self.count(now, out);
        }
    }

    /// True if this node is about to ask for votes in this epoch.
    fn adopts(&self, epoch: Epoch) -> bool {
        matches!(&self.state, State::Asking(asking) if asking.stage == Stage::Adopting && asking.epoch == epoch)
    }
}
