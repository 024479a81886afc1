//! The election of a leader: Raft's, on our log, as a state machine that does nothing by itself.
//!
//! ```text
//!             silence for T          a majority would        a majority votes
//!  follower ───────────────▶ syncing, pre ──────────────▶ vote ───────────────▶ leader
//!      ▲                        │                           │                     │
//!      └────────────────────────┴───────────────────────────┴─────────────────────┘
//!        a leader's heartbeat, a later epoch, no answer; for a leader also: no quorum, no links, a bad disk
//! ```
//!
//! [`Election::step`] takes what happened and says what must be done, in order. It owns no clock, socket, file or
//! thread, so a simulator can run it through every fault there is (`tests/cluster_sim`).
//!
//! Invariants:
//! - The epoch never decreases. In one epoch, a node votes once, and answers after its vote is durable.
//! - Within its own promise a node neither votes nor asks.
//! - A candidate wins with a majority of voters whose memory is whole, or with all voters.
//! - A leader commits only what a majority acknowledged in the leader's own epoch.
//! - A leader that does not vote counts nowhere. It resigns after a majority has the record that removed it.
//!
//! Questions and votes are in `asking.rs`, a follower's part in `following.rs`, what a leader knows of its voters in
//! `leading.rs`, leading without votes in `forcing.rs`, which nodes vote in `voters.rs`.

mod asking;
mod following;
mod forcing;
mod leading;
mod voters;

use crate::aof::record::Epoch;
use crate::cluster::members::Members;
use crate::cluster::message::{End, Input, Message, Output, Why};
use crate::cluster::mutant::Mutant;
use crate::cluster::term::{ClusterId, Memory, Millis, NodeId, Term};
use crate::store::effect::Seq;
use asking::Asking;
use fastrand::Rng;
use leading::Leading;

/// Epochs that a node may lag behind another one. Beyond it, what another says is ignored.
const EPOCHS_AHEAD_MAX: u64 = 1_000_000;

/// A node's settings.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// T: the silence, in milliseconds, after which a node asks for votes.
    pub timeout: Millis,
    /// True if it asks only after 3 T (`replica-priority 0`).
    pub is_reluctant: bool,
}

/// The members that the settings list, for a cluster that does not exist yet.
#[derive(Clone, Copy, Debug)]
pub struct List {
    /// The hash of the addresses and policies. Nodes whose lists differ do not found a cluster together.
    pub hash: u64,
    /// The number of addresses, this node's included.
    pub len: usize,
}

/// A node's part.
#[derive(Debug)]
enum State {
    Following(Option<NodeId>),
    Asking(Asking),
    Leading(Leading),
}

/// The heartbeat that was answered last, and for how long this node votes for no other node.
#[derive(Clone, Copy, Debug, Default)]
struct Promise {
    epoch: Epoch,
    round: u64,
    until: Millis,
}

/// One node's part in the election.
#[derive(Debug)]
pub struct Election {
    term: Term,
    timing: Timing,
    members: Option<Members>,
    /// Where that record stands.
    members_at: End,
    list: Option<List>,
    state: State,
    /// About where the log ends.
    end: End,
    promise: Promise,
    /// An earlier process may have promised so much just before it ended. A heartbeat does not shorten it, because
    /// the leader counts on what it heard before.
    waits_until: Millis,
    /// Asks for votes then, if no leader is heard until then.
    ask_at: Millis,
    /// Until then the leader wants this node to ask for votes in its place.
    called_until: Millis,
    /// Asks for no votes before this time, after it has resigned.
    rest_until: Millis,
    ticked_at: Millis,
    disk_bad_since: Option<Millis>,
    rng: Rng,
    mutant: Option<Mutant>,
}

impl Election {
    /// A process starts at `now` with what the file `node` and the log say. `seed` makes its delays.
    pub fn new(
        term: Term,
        timing: Timing,
        members: Option<Members>,
        list: Option<List>,
        now: Millis,
        seed: u64,
    ) -> Election {
        let waits_until = now + timing.timeout.max(term.promise);
        let members_at = term.floor;
        let mut election = Election {
            term,
            timing,
            members,
            members_at,
            list,
            state: State::Following(None),
            end: End::default(),
            promise: Promise::default(),
            waits_until,
            ask_at: 0,
            called_until: 0,
            rest_until: 0,
            ticked_at: now,
            disk_bad_since: None,
            rng: Rng::with_seed(seed),
            mutant: None,
        };
        election.restart_timer(now);
        election
    }

    /// Breaks a rule. Only debug builds obey.
    pub fn break_rule(&mut self, mutant: Mutant) {
        self.mutant = cfg!(debug_assertions).then_some(mutant);
        if self.breaks(Mutant::NoWaitAfterRestart) {
            self.waits_until = 0;
        }
    }

    /// This node's promises.
    pub fn term(&self) -> &Term {
        &self.term
    }

    /// The epoch that this node leads, from the moment in which the votes are in.
    pub fn leads(&self) -> Option<Epoch> {
        if let State::Leading(leading) = &self.state { Some(leading.epoch) } else { None }
    }

    /// True if this node belongs to this cluster.
    pub fn belongs_to(&self, cluster: ClusterId) -> bool {
        self.term.cluster == Some(cluster)
    }

    /// The node that this one follows.
    pub fn follows(&self) -> Option<NodeId> {
        if let State::Following(leader) = self.state { leader } else { None }
    }

    /// True if a majority heard this leader in the last T.
    pub fn has_live_quorum(&self, now: Millis) -> bool {
        matches!(&self.state, State::Leading(leading) if leading.has_live_quorum(now, self.timing.timeout))
    }

    /// True if this leader lets another node lead.
    pub fn is_handing_over(&self) -> bool {
        matches!(&self.state, State::Leading(leading) if leading.handing_over.is_some())
    }

    /// Rounds of heartbeats begun in the epoch that this node leads. A read that ran before the next one begins is
    /// confirmed by it.
    pub fn rounds_begun(&self) -> u64 {
        if let State::Leading(leading) = &self.state { leading.rounds_begun() } else { 0 }
    }

    fn breaks(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Something happens at `now`; what must be done is added to `out`.
    pub fn step(&mut self, now: Millis, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Tick => self.tick(now, out),
            Input::Line(from, Message::Ask(ask)) => self.asked(now, from, ask, out),
            Input::Line(from, Message::Give { round, epoch, yes, own, memory }) => {
                self.learn(now, own, out);
                if yes {
                    self.given(now, from, round, epoch, memory, out);
                }
            }
            Input::Line(from, Message::Beat { epoch, round, promise }) => {
                self.beat(now, from, epoch, round, promise, out);
            }
            Input::Line(from, Message::Heard { epoch, round, promised, own }) => {
                self.learn(now, own, out);
                self.lead_with(epoch, out, |leading| leading.heard(from, round, promised));
            }
            Input::Acked(from, epoch, seq) => self.acked(from, epoch, seq, out),
            Input::Log(end) => self.end = end,
            Input::Synced(last) => self.synced(now, last, out),
            Input::Ballot { from, ask, last } => self.ballot(now, from, ask, last, out),
            Input::Begun(epoch, first) => self.begun(epoch, first, out),
            Input::Void(epoch) if self.leads() == Some(epoch) => {
                self.step_down(now, Why::Void, out);
            }
            Input::Void(_) => {}
            Input::Members(members, epoch) => self.members(now, members, epoch, out),
            Input::Linked(from, works) => {
                if let State::Leading(leading) = &mut self.state {
                    leading.linked(from, works);
                }
            }
            Input::CaughtUp(epoch) if epoch == self.term.epoch => {
                let floor = self.members_at;
                self.change_term(out, |term| term.become_whole(floor));
            }
            Input::CaughtUp(_) => {}
            Input::Disk(is_bad) => {
                self.disk_bad_since = is_bad.then(|| self.disk_bad_since.unwrap_or(now));
            }
            Input::Forgets if !self.term.strict => {}
            Input::Copies | Input::Forgets => {
                self.change_term(out, |term| term.memory = Memory::Recovering);
            }
            Input::Strict(strict) => self.change_term(out, |term| term.strict = strict),
            Input::Boot(boot) => self.change_term(out, |term| term.boot = Some(boot)),
            Input::Confirm => self.begin_round(now, out),
            // Only a voter takes the lead over: of another leader's records, no voter may have some.
            Input::Promote if !self.is_voter() => {}
            Input::Promote => {
                self.called_until = now + self.timing.timeout;
                self.ask_at = now;
                self.follow_call(now, out);
            }
            Input::HandOver => self.hand_over(Some(now), now, out),
            Input::Force(cluster) => self.force(now, cluster, out),
        }
    }

    // --- time ---

    fn tick(&mut self, now: Millis, out: &mut Vec<Output>) {
        let timeout = self.timing.timeout;
        let is_late = now > self.ticked_at + timeout / 4;
        self.ticked_at = now;
        match &mut self.state {
            State::Leading(leading) => {
                let bad_disk = self.disk_bad_since.is_some_and(|since| since + timeout < now);
                let reason = [
                    (leading.lost_quorum(now, timeout), Why::NoQuorum),
                    (leading.lost_links(now, timeout), Why::NoLinks),
                    (bad_disk, Why::Disk),
                    (leading.has_done_its_part(), Why::NoMember),
                ];
                if let Some((_, why)) = reason.into_iter().find(|(holds, _)| *holds) {
                    return self.step_down(now, why, out);
                }
                if leading.handing_over.is_some_and(|since| since + timeout < now) {
                    return self.hand_over(None, now, out);
                }
                if leading.next_beat <= now {
                    self.begin_round(now, out);
                }
            }
            State::Asking(asking) if asking.until <= now => {
                self.state = State::Following(None);
                self.restart_timer(now);
            }
            State::Asking(_) => self.ask_again(now, out),
            // The process or the machine stood still, and lines may wait to be read.
            State::Following(_) if is_late => self.restart_timer(now),
            State::Following(_) => {
                if self.ask_at <= now && self.may_ask(now) {
                    self.begin_asking(now, out);
                }
            }
        }
    }

    fn restart_timer(&mut self, now: Millis) {
        let timeout = self.timing.timeout;
        let is_reluctant = self.timing.is_reluctant || !self.is_voter();
        let silence = if is_reluctant { 3 * timeout } else { timeout };
        self.ask_at = now + silence + self.rng.u64(0..=timeout);
    }

    /// A node that its newest members record does not name asks, too, and does not count itself: the record may be here
    /// and on no other node, and then a node without it gets no majority against this one's log [Ongaro 4.2.2].
    fn may_ask(&self, now: Millis) -> bool {
        let founds = self.list.is_some() && self.term.cluster.is_none();
        let is_eligible = match &self.members {
            Some(_) => self.is_voter() || !self.breaks(Mutant::RemovedNeverAsk),
            None => founds,
        };
        is_eligible
            && self.disk_bad_since.is_none()
            && self.rest_until <= now
            && (!self.has_promised(now) || self.breaks(Mutant::PromiseNotBindingCandidate))
    }

    fn has_promised(&self, now: Millis) -> bool {
        now < self.promise.until.max(self.waits_until)
    }

    /// Changes what this node remembers, durably.
    fn change_term(&mut self, out: &mut Vec<Output>, change: impl FnOnce(&mut Term)) {
        let mut term = self.term.clone();
        change(&mut term);
        if term != self.term {
            self.term = term;
            out.push(Output::Persist(self.term.clone()));
        }
    }

    /// True if no leader can have come so far: something speaks nonsense to us.
    fn is_absurd(&self, epoch: Epoch) -> bool {
        epoch.0 > self.term.epoch.0 + EPOCHS_AHEAD_MAX
    }

    /// Moves to a later epoch, in which this node has not voted. The caller persists it.
    fn enter(&mut self, epoch: Epoch, now: Millis, asks: bool, out: &mut Vec<Output>) {
        self.term.epoch = epoch;
        self.term.vote = None;
        match self.state {
            State::Leading(_) => self.step_down(now, Why::LaterEpoch, out),
            State::Asking(_) if asks => {}
            State::Asking(_) => {
                self.state = State::Following(None);
                self.restart_timer(now);
            }
            State::Following(_) => self.drop_leader(out),
        }
        if !asks {
            self.called_until = 0;
        }
    }

    fn drop_leader(&mut self, out: &mut Vec<Output>) {
        if self.follows().is_some() {
            out.push(Output::Follow(None));
        }
        self.state = State::Following(None);
    }

    // --- leading ---

    fn lead(&mut self, now: Millis, epoch: Epoch, yes: Vec<NodeId>, out: &mut Vec<Output>) {
        let founders = self.members.is_none().then(|| yes.clone());
        let voters = self.members.as_ref().map_or(yes, |members| members.ids().collect());
        self.state = State::Leading(Leading::new(epoch, self.term.id, &voters, now));
        out.push(Output::Lead(epoch, founders));
        self.begin_round(now, out);
    }

    fn begun(&mut self, epoch: Epoch, first: Seq, out: &mut Vec<Output>) {
        if self.leads() != Some(epoch) {
            return;
        }
        let floor = self.members_at;
        self.change_term(out, |term| {
            term.led = epoch;
            term.become_whole(floor);
        });
        self.lead_with(epoch, out, |leading| leading.first = Some(first));
    }

    fn begin_round(&mut self, now: Millis, out: &mut Vec<Output>) {
        let timeout = self.timing.timeout;
        let State::Leading(leading) = &mut self.state else { return };
        let promise = if leading.handing_over.is_some() { 0 } else { timeout };
        let round = leading.begin_round(now, (timeout / 10).clamp(20, 100));
        out.push(Output::Broadcast(Message::Beat { epoch: leading.epoch, round, promise }));
        let epoch = leading.epoch;
        self.lead_with(epoch, out, |_| ());
    }

    /// Changes the leader's view, if this node leads `epoch`, and reports what has moved.
    fn lead_with(
        &mut self,
        epoch: Epoch,
        out: &mut Vec<Output>,
        change: impl FnOnce(&mut Leading),
    ) {
        let own_timeout = self.breaks(Mutant::FenceWithOwnTimeout).then_some(self.timing.timeout);
        let of_any_epoch = self.breaks(Mutant::CommitOfOldEpochs);
        let State::Leading(leading) = &mut self.state else { return };
        if leading.epoch != epoch {
            return;
        }
        change(leading);
        out.extend(leading.commit(of_any_epoch).map(Output::Commit));
        out.extend(leading.fence(own_timeout).map(Output::Fence));
        out.extend(leading.confirmed().map(Output::Confirmed));
    }

    fn acked(&mut self, from: NodeId, epoch: Epoch, seq: Seq, out: &mut Vec<Output>) {
        let Some(leads) = self.leads() else { return };
        let rule = if from == self.term.id {
            Mutant::OwnLevelWithoutEpoch
        } else {
            Mutant::AckWithoutEpoch
        };
        let counts = self.breaks(rule) || epoch == leads;
        if counts {
            self.lead_with(leads, out, |leading| leading.acked(from, seq));
        }
    }

    fn hand_over(&mut self, since: Option<Millis>, now: Millis, out: &mut Vec<Output>) {
        if let State::Leading(leading) = &mut self.state {
            leading.hand_over(since);
            out.push(Output::Fence(0));
            self.begin_round(now, out);
        }
    }

    fn step_down(&mut self, now: Millis, why: Why, out: &mut Vec<Output>) {
        out.push(Output::StepDown(why));
        self.state = State::Following(None);
        self.restart_timer(now);
        if matches!(why, Why::NoLinks | Why::Disk | Why::NoMember) {
            self.rest_until = now + 6 * self.timing.timeout;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::members::{Ack, Reads, Voter};
    use crate::cluster::message::{Ask, Round};

    const T: Millis = 100;

    fn id(number: u8) -> NodeId {
        NodeId(std::array::from_fn(|at| if at == 19 { number } else { 0 }))
    }

    /// Node 0 of three, which has waited for what an earlier process may have promised.
    fn node(mutant: Option<Mutant>) -> Election {
        let voter = |number| Voter { id: id(number), address: format!("n{number}:8080") };
        let members = Members {
            cluster: ClusterId(1),
            ack: Ack::Majority,
            reads: Reads::Local,
            voters: [0, 1, 2].map(voter).to_vec(),
            seq: Seq(2),
        };
        let term =
            Term { cluster: Some(members.cluster), memory: Memory::Whole, ..Term::new(id(0)) };
        let timing = Timing { timeout: T, is_reluctant: false };
        let mut node = Election::new(term, timing, Some(members), None, 0, 7);
        mutant.into_iter().for_each(|mutant| node.break_rule(mutant));
        (1..=T).step_by(20).for_each(|now| _ = step(&mut node, now, Input::Tick));
        node
    }

    fn step(node: &mut Election, now: Millis, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        node.step(now, input, &mut out);
        out
    }

    fn give(round: Round, epoch: Epoch) -> Input {
        let (own, memory) = (Epoch(0), Memory::Whole);
        Input::Line(id(1), Message::Give { round, epoch, yes: true, own, memory })
    }

    /// Time passes until the node asks for votes.
    fn time_out(node: &mut Election, from: Millis) -> Option<Millis> {
        let asks = |now: &Millis| step(node, *now, Input::Tick).contains(&Output::Sync);
        (from..from + 3 * T).step_by(10).find(asks)
    }

    /// Wins an epoch at the end of a log with `seq` records, all of them of earlier epochs.
    fn win(node: &mut Election, now: Millis, seq: u64) -> Epoch {
        let last = End { epoch: Epoch(1), seq: Seq(seq) };
        step(node, now, Input::Synced(last));
        let epoch = Epoch(node.term().epoch.max(last.epoch).0 + 1);
        let adopts = step(node, now, give(Round::Pre, epoch));
        let [Output::Adopt { from, ask }] = adopts[..] else { panic!("{adopts:?}") };
        step(node, now, Input::Ballot { from, ask, last });
        let won = step(node, now, give(Round::Vote, epoch));
        assert!(won.contains(&Output::Lead(epoch, None)), "{won:?}");
        step(node, now, Input::Begun(epoch, Seq(seq + 1)));
        epoch
    }

    #[test]
    fn silence_leads_to_votes_and_a_majority_to_a_commit() {
        let mut node = node(None);
        let now = time_out(&mut node, T).expect("it asks");
        let epoch = win(&mut node, now, 50);
        assert_eq!((epoch, node.leads(), node.term().vote), (Epoch(2), Some(epoch), Some(id(0))));
        assert_eq!(step(&mut node, now, Input::Acked(id(0), epoch, Seq(51))), []);
        assert_eq!(
            step(&mut node, now, Input::Acked(id(1), epoch, Seq(50))),
            [],
            "an earlier epoch's"
        );
        let committed = step(&mut node, now, Input::Acked(id(1), epoch, Seq(51)));
        assert_eq!(committed, [Output::Commit(Seq(51))]);
        let heard = Message::Heard { epoch, round: 1, promised: T, own: epoch };
        let outputs = step(&mut node, now + 5, Input::Line(id(2), heard));
        assert_eq!(outputs, [Output::Fence(now + T * 9 / 10), Output::Confirmed(1)]);
        assert_eq!(step(&mut node, now + T + 10, Input::Tick)[0], Output::StepDown(Why::NoQuorum));
    }

    /// A leader alone adds a voter whose link works already. It has had no time to hear it, and no reason to doubt the link.
    #[test]
    fn a_voter_that_is_added_does_not_depose_its_leader() {
        let mut node = node(None);
        let of = |count: u8| Members {
            voters: (0..count)
                .map(|number| Voter { id: id(number), address: String::new() })
                .collect(),
            ..node.members.clone().expect("it has members")
        };
        let [alone, two] = [1, 2].map(of);
        let now = time_out(&mut node, T).expect("it asks");
        let epoch = win(&mut node, now, 50);
        step(&mut node, now, Input::Members(Some(alone), Epoch(1)));
        step(&mut node, now, Input::Linked(id(1), true));
        let added = now + 2 * T;
        (now..added).step_by(20).for_each(|now| _ = step(&mut node, now, Input::Tick));
        let outputs = step(&mut node, added, Input::Members(Some(two), Epoch(1)));
        let fences = |output: &&Output| matches!(output, Output::Fence(_));
        let fences: Vec<&Output> = outputs.iter().filter(fences).collect();
        assert_eq!(fences, [&Output::Fence(0)], "alone it had a fence without end");
        for now in (added..added + 8 * T).step_by(20) {
            step(&mut node, now, Input::Tick);
            let round = node.rounds_begun();
            let heard = Message::Heard { epoch, round, promised: T, own: epoch };
            step(&mut node, now + 5, Input::Line(id(1), heard));
        }
        assert_eq!(node.leads(), Some(epoch));
        let stays = step(&mut node, added + 10 * T, Input::Tick);
        assert_eq!(
            stays[0],
            Output::StepDown(Why::NoQuorum),
            "a voter that falls silent is missed"
        );
    }

    #[test]
    fn an_acknowledgement_counts_in_its_epoch() {
        for (mutant, from) in
            [(Mutant::AckWithoutEpoch, id(1)), (Mutant::OwnLevelWithoutEpoch, id(0))]
        {
            let commits = |mutant| {
                let mut node = node(mutant);
                let now = time_out(&mut node, T).expect("it asks");
                let epoch = win(&mut node, now, 50);
                let other = if from == id(0) { id(1) } else { id(0) };
                step(&mut node, now, Input::Acked(other, epoch, Seq(60)));
                // It waited for this thread since an earlier leadership; its records were given up.
                !step(&mut node, now, Input::Acked(from, Epoch(1), Seq(60))).is_empty()
            };
            assert!(!commits(None));
            assert!(commits(Some(mutant)), "{mutant:?}");
        }
    }

    fn beat(round: u64, promise: Millis) -> Input {
        Input::Line(id(1), Message::Beat { epoch: Epoch(3), round, promise })
    }

    #[test]
    fn an_overtaken_heartbeat_does_not_end_a_promise() {
        let votes = |mutant| {
            let mut node = node(mutant);
            step(&mut node, T, beat(1, 0));
            step(&mut node, T, beat(3, T));
            step(&mut node, T, beat(2, 0));
            let last = End { epoch: Epoch(3), seq: Seq(9) };
            let ask = Ask { round: Round::Vote, epoch: Epoch(4), last, list: None };
            let outputs = step(&mut node, T + 1, Input::Line(id(2), Message::Ask(ask)));
            matches!(outputs[..], [Output::Adopt { .. }])
        };
        assert!(!votes(None));
        assert!(votes(Some(Mutant::LateBeatLowersPromise)));
    }

    #[test]
    fn a_promise_binds_the_candidate_too() {
        let asks_at = |mutant| {
            let mut node = node(mutant);
            step(&mut node, T, beat(1, T));
            // The leader handed over, gave up, and leads on; this comes late.
            let asks = step(&mut node, T, Input::Promote).contains(&Output::Sync);
            if asks { Some(T) } else { time_out(&mut node, T) }
        };
        assert!(asks_at(None).is_some_and(|at| at >= 2 * T));
        assert!(asks_at(Some(Mutant::PromiseNotBindingCandidate)).is_some_and(|at| at < 2 * T));
    }

    #[test]
    fn a_node_that_is_called_asks_as_soon_as_its_promise_is_over() {
        let called = |promise| {
            let mut node = node(None);
            step(&mut node, T, beat(1, promise));
            let asks = step(&mut node, T + 1, Input::Promote).contains(&Output::Sync);
            (node, asks)
        };
        assert!(called(0).1, "at once");
        let (mut node, asks) = called(T);
        assert!(!asks && step(&mut node, T + 2, beat(2, 0)).contains(&Output::Sync));
        step(&mut node, T + 3, Input::Synced(End { epoch: Epoch(3), seq: Seq(9) }));
        // The leader beats on, and another voter learns late that its promise is over.
        step(&mut node, T + 4, beat(3, 0));
        let asks = |out: &[Output]| matches!(out, [Output::Broadcast(Message::Ask(_))]);
        assert!(asks(&step(&mut node, T + 5, Input::Tick)));
        let adopts = step(&mut node, T + 6, give(Round::Pre, Epoch(4)));
        assert!(matches!(adopts[..], [Output::Adopt { .. }]), "{adopts:?}");
    }

    /// The record that removes it is on this node only. The others need its log, and so its lead, for a moment.
    #[test]
    fn a_removed_node_leads_until_the_others_have_the_record_that_removes_it() {
        let without = |mutant| {
            let mut node = node(mutant);
            let members = node.members.clone().expect("they are known");
            let voters = members.voters.into_iter().filter(|voter| voter.id != id(0)).collect();
            step(&mut node, T, Input::Members(Some(Members { voters, ..members }), Epoch(1)));
            node
        };
        let mut node = without(None);
        let now = time_out(&mut node, T).or_else(|| time_out(&mut node, 4 * T)).expect("it asks");
        let epoch = Epoch(2);
        step(&mut node, now, Input::Synced(End { epoch: Epoch(1), seq: Seq(50) }));
        assert_eq!(
            step(&mut node, now, give(Round::Pre, epoch)),
            [],
            "its own voice does not count"
        );
        let give = |from, round| {
            let (own, memory) = (Epoch(0), Memory::Whole);
            Input::Line(id(from), Message::Give { round, epoch, yes: true, own, memory })
        };
        let adopts = step(&mut node, now, give(2, Round::Pre));
        let [Output::Adopt { from, ask }] = adopts[..] else { panic!("{adopts:?}") };
        step(&mut node, now, Input::Ballot { from, ask, last: ask.last });
        step(&mut node, now, give(1, Round::Vote));
        assert!(step(&mut node, now, give(2, Round::Vote)).contains(&Output::Lead(epoch, None)));
        step(&mut node, now, Input::Begun(epoch, Seq(51)));
        for (from, commits) in [(0, vec![]), (1, vec![]), (2, vec![Output::Commit(Seq(51))])] {
            assert_eq!(step(&mut node, now, Input::Acked(id(from), epoch, Seq(51))), commits);
        }
        assert_eq!(step(&mut node, now + 1, Input::Tick)[0], Output::StepDown(Why::NoMember));
        let mut silent = without(Some(Mutant::RemovedNeverAsk));
        assert!((1..9).all(|start| time_out(&mut silent, start * 3 * T).is_none()));
    }

    /// The old record's voters agree, and one of them has forgotten that there is another voter.
    #[test]
    fn a_node_that_has_forgotten_records_knows_how_far_the_members_went() {
        let votes = |mutant, seq| {
            let mut node = node(mutant);
            let members = Members { seq: Seq(60), ..node.members.clone().expect("they are known") };
            step(&mut node, T, Input::Members(Some(members), Epoch(1)));
            step(&mut node, T, Input::Copies);
            // The copy begins with an older state.
            let members = Members { seq: Seq(2), ..node.members.clone().expect("they are known") };
            step(&mut node, T, Input::Members(Some(members), Epoch(1)));
            step(&mut node, T, Input::Log(End { epoch: Epoch(1), seq: Seq(5) }));
            let last = End { epoch: Epoch(1), seq: Seq(seq) };
            let ask = Ask { round: Round::Pre, epoch: Epoch(2), last, list: None };
            let answer = step(&mut node, 2 * T, Input::Line(id(1), Message::Ask(ask)));
            matches!(answer[..], [Output::Send(_, Message::Give { yes: true, .. })])
        };
        assert!(votes(None, 60) && !votes(None, 59));
        assert!(votes(Some(Mutant::ForgetsHowFar), 59));
    }

    #[test]
    fn a_heartbeat_does_not_shorten_the_wait_after_a_start() {
        let term = Term { promise: 5 * T, memory: Memory::Whole, ..node(None).term().clone() };
        let timing = Timing { timeout: T, is_reluctant: false };
        let members = node(None).members;
        let mut node = Election::new(term, timing, members, None, 0, 7);
        step(&mut node, 1, beat(9, T));
        assert_eq!(node.term().promise, 5 * T, "another crash must not forget it");
        assert!(time_out(&mut node, 1).is_none());
        assert!(time_out(&mut node, 5 * T).is_some());
    }
}
