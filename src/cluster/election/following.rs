//! A follower's part: heartbeats, and the promises that answer them.

use super::{Election, Promise, State};
use crate::aof::record::Epoch;
use crate::cluster::message::{Message, Output};
use crate::cluster::mutant::Mutant;
use crate::cluster::term::{Millis, NodeId};

impl Election {
    /// A node of this cluster is in that epoch.
    pub(super) fn learn(&mut self, now: Millis, epoch: Epoch, out: &mut Vec<Output>) {
        if epoch > self.term.epoch && !self.is_absurd(epoch) {
            self.enter(epoch, now, false, out);
            out.push(Output::Persist(self.term.clone()));
        }
    }

    pub(super) fn beat(
        &mut self,
        now: Millis,
        from: NodeId,
        epoch: Epoch,
        round: u64,
        asked: Millis,
        out: &mut Vec<Output>,
    ) {
        let own = self.term.epoch;
        if epoch < own {
            let heard = Message::Heard { epoch, round, promised: 0, own };
            return out.push(Output::Send(from, heard));
        }
        let is_overtaken = (epoch, round) <= (self.promise.epoch, self.promise.round)
            && !self.breaks(Mutant::LateBeatLowersPromise);
        if is_overtaken || self.is_absurd(epoch) || self.leads() == Some(epoch) {
            return;
        }
        let mut persists = false;
        if epoch > own {
            self.enter(epoch, now, false, out);
            persists = true;
        }
        let promised = asked.min(self.timing.timeout);
        if promised == 0 {
            self.waits_until = 0; // The leader hands over, and counts on no promise any more.
        }
        // A new leader was elected after the promises to the one before had ended.
        let may_lower = epoch > self.promise.epoch && promised > 0 && self.waits_until <= now;
        if promised > self.term.promise || may_lower && promised < self.term.promise {
            self.term.promise = promised;
            persists = true;
        }
        self.promise = Promise { epoch, round, until: now + promised };
        if persists {
            out.push(Output::Persist(self.term.clone()));
        }
        // A leader that hands over to this node beats on meanwhile, and asks for no promise.
        let is_called = now < self.called_until;
        let asks_for_it = is_called && promised == 0 && matches!(self.state, State::Asking(_));
        if self.follows() != Some(from) && !asks_for_it {
            self.state = State::Following(Some(from));
            out.push(Output::Follow(Some(from)));
        }
        if !is_called {
            self.restart_timer(now);
        }
        out.push(Output::Send(from, Message::Heard { epoch, round, promised, own: epoch }));
        self.follow_call(now, out);
    }
}
