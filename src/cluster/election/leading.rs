//! A leader's view of its voters: who has heard it, how far each one is, what follows from that.
//!
//! ```text
//! live quorum   a majority heard a round that was sent in the last T
//! fence         until then no other node can be elected: each node of a majority has promised it
//! confirmed     the newest round that a majority heard: this node led when the round began
//! commit        the newest record of the own epoch, or later, that a majority has
//! ```
//!
//! Each is the value that the slowest node of the fastest majority has reached, so all four are one function
//! ([`reached_by_majority`]) over another column of the table of voters.

use crate::aof::record::Epoch;
use crate::cluster::members::{Members, reached_by_majority};
use crate::cluster::term::{Millis, NodeId};
use crate::store::effect::Seq;
use std::collections::VecDeque;

/// Rounds whose time of sending is remembered. A round that is answered later than that counts for nothing.
const ROUNDS_MAX: usize = 256;

/// The part of a promise on which the leader relies, in tenths. The rest covers clocks that run at different rates.
const FENCE_TENTHS: u64 = 9;

/// A voter, as its leader knows it. The leader itself is one.
#[derive(Clone, Copy, Debug)]
struct KnownVoter {
    id: NodeId,
    /// The newest round that it heard, and when that was sent.
    heard: Option<(u64, Millis)>,
    /// It promised not to vote before this time, on the leader's clock and with the margin.
    fence: Millis,
    /// The last record that it acknowledged in this epoch.
    acked: Option<Seq>,
}

impl KnownVoter {
    fn new(id: NodeId) -> KnownVoter {
        KnownVoter { id, heard: None, fence: 0, acked: None }
    }
}

/// A node that has won an election.
#[derive(Clone, Debug)]
pub(super) struct Leading {
    pub epoch: Epoch,
    me: NodeId,
    voters: Vec<KnownVoter>,
    /// The nodes whose replication link works, voters or not: a node that does not vote yet may be added.
    links: Vec<NodeId>,
    /// When it won, or a voter was added, which must be heard before it can be missed.
    since: Millis,
    /// The first record of the epoch, after it is durable. Before that, nothing is committed.
    pub first: Option<Seq>,
    /// Rounds that were sent, with their times.
    rounds: VecDeque<(u64, Millis)>,
    round: u64,
    pub next_beat: Millis,
    /// When a majority last had a working link.
    linked_at: Millis,
    /// When the handover began, if one is going on.
    pub handing_over: Option<Millis>,
    committed: Seq,
    confirmed: u64,
    fence: Millis,
}

impl Leading {
    pub fn new(epoch: Epoch, me: NodeId, voters: &[NodeId], now: Millis) -> Leading {
        Leading {
            epoch,
            me,
            voters: voters.iter().map(|&id| KnownVoter::new(id)).collect(),
            links: Vec::new(),
            since: now,
            first: None,
            rounds: VecDeque::new(),
            round: 0,
            next_beat: now,
            linked_at: now,
            handing_over: None,
            committed: Seq(0),
            confirmed: 0,
            fence: 0,
        }
    }

    /// Another members record is in force. The fence begins anew: it may have come from voters that vote no longer.
    pub fn members(&mut self, members: &Members, now: Millis) {
        let known = |id: NodeId| self.voters.iter().find(|voter| voter.id == id).copied();
        if members.ids().any(|id| known(id).is_none()) {
            self.since = now;
        }
        self.voters = members.ids().map(|id| known(id).unwrap_or(KnownVoter::new(id))).collect();
        self.fence = 0;
    }

    /// Begins a round of heartbeats and returns its number.
    pub fn begin_round(&mut self, now: Millis, interval: Millis) -> u64 {
        self.round += 1;
        self.next_beat = now + interval;
        self.rounds.push_back((self.round, now));
        if self.rounds.len() > ROUNDS_MAX {
            self.rounds.pop_front();
        }
        self.round
    }

    /// The number of rounds so far.
    pub fn rounds_begun(&self) -> u64 {
        self.round
    }

    fn voter(&mut self, id: NodeId) -> Option<&mut KnownVoter> {
        self.voters.iter_mut().find(|voter| voter.id == id)
    }

    /// A voter heard a round.
    pub fn heard(&mut self, from: NodeId, round: u64, promised: Millis) {
        let sent = self.rounds.iter().find(|sent| sent.0 == round).copied();
        let (Some(sent), Some(voter)) = (sent, self.voter(from)) else { return };
        if voter.heard < Some(sent) {
            voter.heard = Some(sent);
            voter.fence = sent.1 + promised * FENCE_TENTHS / 10;
        }
    }

    /// Begins or ends a handover. Promises that were given before it no longer count.
    pub fn hand_over(&mut self, since: Option<Millis>) {
        self.handing_over = since;
        for voter in &mut self.voters {
            voter.fence = 0;
        }
        self.rounds.clear();
        self.fence = 0;
    }

    /// A voter has this record.
    pub fn acked(&mut self, from: NodeId, seq: Seq) {
        if let Some(voter) = self.voter(from) {
            voter.acked = voter.acked.max(Some(seq));
        }
    }

    /// A node's link came up or went down.
    pub fn linked(&mut self, from: NodeId, works: bool) {
        self.links.retain(|id| *id != from);
        if works {
            self.links.push(from);
        }
    }

    /// The value that a majority has reached. `own` is the leader's.
    fn reached<T: Ord + Copy>(
        &self,
        own: T,
        value: impl Fn(&KnownVoter) -> Option<T>,
    ) -> Option<T> {
        let of = |voter: &KnownVoter| if voter.id == self.me { Some(own) } else { value(voter) };
        reached_by_majority(self.voters.iter().filter_map(of).collect(), self.voters.len())
    }

    /// When the newest round was sent that a majority heard.
    fn quorum_at(&self, now: Millis) -> Option<Millis> {
        self.reached(now, |voter| voter.heard.map(|heard| heard.1))
    }

    /// True if no other node can have been elected without this one's knowledge a moment ago.
    pub fn has_live_quorum(&self, now: Millis, timeout: Millis) -> bool {
        self.handing_over.is_none() && self.quorum_at(now).is_some_and(|at| at + timeout >= now)
    }

    /// True if no majority has been heard for `timeout`.
    pub fn lost_quorum(&self, now: Millis, timeout: Millis) -> bool {
        self.quorum_at(now).unwrap_or(self.since).max(self.since) + timeout < now
    }

    /// True if no majority has had a working link for five timeouts.
    pub fn lost_links(&mut self, now: Millis, timeout: Millis) -> bool {
        let works = self.reached(true, |voter| Some(self.links.contains(&voter.id))) == Some(true);
        if works {
            self.linked_at = now;
        }
        self.linked_at + 5 * timeout < now
    }

    /// The fence, if it has moved.
    pub fn fence(&mut self, own_timeout: Option<Millis>) -> Option<Millis> {
        let of = |voter: &KnownVoter| match own_timeout {
            Some(timeout) => voter.heard.map(|heard| heard.1 + timeout * FENCE_TENTHS / 10),
            None => Some(voter.fence),
        };
        let fence = self.reached(Millis::MAX, of)?;
        if self.handing_over.is_some() { None } else { raise(&mut self.fence, fence) }
    }

    /// The newest round that a majority heard, if it has moved.
    pub fn confirmed(&mut self) -> Option<u64> {
        let round = self.reached(self.round, |voter| voter.heard.map(|heard| heard.0))?;
        raise(&mut self.confirmed, round)
    }

    /// True if this node does not vote, and a majority of the voters has its log.
    pub fn has_done_its_part(&self) -> bool {
        let is_member = self.voters.iter().any(|voter| voter.id == self.me);
        !is_member && self.first.is_some_and(|first| self.committed >= first)
    }

    /// The newest committed record, if it has moved [Raft 5.4.2: of the own epoch, or before one of it].
    pub fn commit(&mut self, of_any_epoch: bool) -> Option<Seq> {
        let own = match self.voter(self.me) {
            Some(me) => me.acked?,
            None => Seq(0), // It counts nowhere.
        };
        let seq = self.reached(own, |voter| voter.acked)?;
        let first = self.first?;
        let counts = seq >= first || of_any_epoch;
        if counts { raise(&mut self.committed, seq) } else { None }
    }
}

/// Raises a value that never falls. Returns the new one if it has moved.
fn raise<T: Ord + Copy>(value: &mut T, to: T) -> Option<T> {
    let moves = to > *value;
    *value = to.max(*value);
    moves.then_some(to)
}
