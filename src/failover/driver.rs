//! The thread `cluster`: hands events to the election, and does what it says, in order.
//!
//! ```text
//! peers, links, aof-sync ──▶ inbox ──▶ Election::step ──▶ write `node` ─▶ send ─▶ change the role …
//!                                        ▲      └─▶ thread cluster-log: sync, begin an epoch ─┐
//!                                        └────────────────────────────────────────────────────┘
//! ```
//!
//! - An answer that depends on a promise is sent after the promise is on the disk. While the file `node` cannot be
//!   written, the node is silent: it sends nothing, and wins nothing.
//! - An epoch is adopted in memory first, with all shards locked. Only then the log's end is read for a vote, so that no
//!   record of an older epoch comes after it.
//! - This thread waits for no sync of the log and for no client. It writes the file `node`, which a leader does only at
//!   the beginning of its epoch.

use super::begin::{self, Job};
use crate::aof::record::Epoch;
use crate::clock::boot_millis;
use crate::cluster::election::{Election, List, Timing};
use crate::cluster::handover::UntakenOffer;
use crate::cluster::inbox::Arrived;
use crate::cluster::members::Voter;
use crate::cluster::message::{Ask, End, Input, Message, Output, Why};
use crate::cluster::shared::Cluster;
use crate::cluster::state::LeaderAddr;
use crate::cluster::term::{Millis, NodeId, Term};
use crate::config::Id;
use crate::engine::{Engine, Persistence};
use crate::random;
use crate::rarely::Rarely;
use crate::store::effect::Seq;
use crossbeam_channel::{Sender, bounded};
use std::thread;
use std::time::{Duration, Instant};

/// Jobs for the thread `cluster-log` that wait at most.
const JOBS_MAX: usize = 8;
/// After so many election timeouts without a leader, the log says who is missing.
const LEADERLESS_TIMEOUTS: u64 = 8;
/// Nodes that are no members and are dialled at most.
const DIALLED_BACK_MAX: usize = 8;

/// Runs until shutdown.
pub fn run(engine: &Engine) {
    let (Some(persistence), Some(cluster)) = (&engine.persistence, &engine.cluster) else { return };
    let (jobs, todo) = bounded(JOBS_MAX);
    thread::scope(|scope| {
        let beginning = move || begin::run(engine, persistence, cluster, &todo);
        let spawned =
            thread::Builder::new().name("cluster-log".into()).spawn_scoped(scope, beginning);
        match spawned {
            Ok(_) => Driver::new(engine, persistence, cluster, jobs).run(),
            Err(error) => log::error!("no thread to begin epochs: {error}"),
        }
    });
}

pub(super) struct Driver<'e> {
    pub(super) engine: &'e Engine,
    pub(super) persistence: &'e Persistence,
    pub(super) cluster: &'e Cluster,
    pub(super) election: Election,
    /// Work for the thread `cluster-log`.
    jobs: Sender<Job>,
    /// The file `node` could not be written: nothing that depends on it may be sent.
    is_dirty: bool,
    /// The failed fsync of the log has been noted.
    pub(super) has_forgotten: bool,
    /// The epoch and the record of the own level that was reported last.
    pub(super) reported: (Epoch, Seq),
    /// All addresses that are dialled.
    dialled: Vec<LeaderAddr>,
    /// Nodes that are dialled because they have dialled this one.
    dialled_back: Vec<LeaderAddr>,
    /// When this node last knew of a leader.
    led_at: Millis,
    /// When this node last led, or had a link to a leader.
    linked_at: Millis,
    /// The own level, and when it last moved or nothing waited.
    pub(super) moved: (Seq, Millis),
    /// A round of heartbeats is wanted after the present one.
    wants_round: bool,
    offer: UntakenOffer,
    said: Rarely,
}

impl<'e> Driver<'e> {
    fn new(
        engine: &'e Engine,
        persistence: &'e Persistence,
        cluster: &'e Cluster,
        jobs: Sender<Job>,
    ) -> Driver<'e> {
        let settings = &cluster.settings;
        let priority = engine.config.int(Id::ReplicaPriority);
        let timing = Timing { timeout: settings.timeout_ms, is_reluctant: priority == 0 };
        let list = Some(List { hash: settings.hash, len: settings.nodes.len() });
        let members = persistence.members();
        let seed = random::generator().u64(..);
        let term = persistence.term();
        let election = Election::new(term, timing, members, list, boot_millis(), seed);
        Driver {
            engine,
            persistence,
            cluster,
            election,
            jobs,
            is_dirty: false,
            has_forgotten: false,
            reported: (Epoch(0), Seq(0)),
            dialled: Vec::new(),
            dialled_back: Vec::new(),
            led_at: boot_millis(),
            linked_at: boot_millis(),
            moved: (Seq(0), boot_millis()),
            wants_round: false,
            offer: UntakenOffer::default(),
            said: Rarely::default(),
        }
    }

    fn run(mut self) {
        let interval = Duration::from_millis((self.cluster.settings.timeout_ms / 20).max(2));
        self.members_changed();
        let mut tick_at = Instant::now();
        while !self.cluster.has_ended() {
            // Events go before a tick, but a leader's heartbeats wait for no flood of them.
            let is_late = Instant::now() > tick_at + interval;
            match self.cluster.inbox.next(tick_at) {
                Some(arrived) if !is_late => self.take(arrived),
                arrived => {
                    arrived.into_iter().for_each(|arrived| self.take(arrived));
                    tick_at = Instant::now() + interval;
                    self.tick();
                }
            }
        }
        self.stop_leading();
        self.cluster.inbox.close();
    }

    fn take(&mut self, arrived: Arrived) {
        if self.persistence.log.has_failed() {
            self.look_at_disk();
        }
        if let Input::Line(from, Message::Give { memory, .. }) = arrived.input {
            self.cluster.note_memory(from, memory);
        }
        let forced = if let Input::Force(cluster) = arrived.input { Some(cluster) } else { None };
        match arrived.input {
            // One round confirms all reads that ran before it.
            Input::Confirm if self.is_confirming() => self.wants_round = true,
            Input::Members(..) => self.members_changed(),
            input @ Input::Acked(..) => {
                self.look_at_members();
                self.step(input);
            }
            Input::Line(from, Message::Ask(ask)) => {
                self.compare_data(from, &ask);
                self.step(Input::Line(from, Message::Ask(ask)));
            }
            input @ Input::Begun(..) => {
                self.step(input);
                self.engine.announce_leader();
            }
            input => self.step(input),
        }
        self.report_level();
        if let Some(done) = arrived.done {
            let is_forced = forced.is_none_or(|cluster| self.election.belongs_to(cluster));
            // An error means that the thread waits no longer.
            let _ = done.send(is_forced && !self.is_dirty);
        }
    }

    fn tick(&mut self) {
        if self.is_dirty {
            self.persist(self.election.term().clone());
        }
        self.look_at_disk();
        let last = self.persistence.log.last();
        self.step(Input::Log(End { epoch: last.epoch, seq: last.seq }));
        self.step(Input::Tick);
        self.look_at_handover();
        self.report_level();
        self.follow_policy();
        self.dial_peers();
        if let Some(leader) = self.election.follows()
            && self.engine.role.target().is_none()
        {
            // Its address was not known when its first heartbeat came.
            self.follow(leader);
        }
        self.look_for_leader();
        self.engine.announce_reach();
        self.engine.release_parked_of_cluster();
    }

    /// Ends the hold of writes after a handover that no node has taken. The hold begins some time before the handover.
    fn look_at_handover(&mut self) {
        let (leads, hands_over) = (self.election.leads(), self.election.is_handing_over());
        if self.offer.is_withdrawn(leads, hands_over) {
            self.engine.pause.end_hold();
        }
    }

    /// Lets the election take a step, and does what it says.
    pub(super) fn step(&mut self, input: Input) {
        let mut outputs = Vec::new();
        self.election.step(boot_millis(), input, &mut outputs);
        outputs.into_iter().for_each(|output| self.carry_out(output));
    }

    fn carry_out(&mut self, output: Output) {
        let cluster = self.cluster;
        match output {
            Output::Persist(term) => self.persist(term),
            Output::Sync => self.begin(Job::Sync),
            Output::Adopt { from, ask } => self.adopt(from, ask),
            Output::Send(to, message) if !self.is_dirty => cluster.peers.send(to, message),
            Output::Broadcast(message) if !self.is_dirty => {
                if let Message::Beat { epoch, round, .. } = message {
                    cluster.begin_round(epoch, round);
                }
                cluster.peers.broadcast(message);
            }
            Output::Send(..) | Output::Broadcast(_) => {}
            Output::Follow(None) => self.engine.follow_none(),
            Output::Follow(Some(id)) => self.follow(id),
            Output::Lead(epoch, _) if self.is_dirty => self.step(Input::Void(epoch)),
            Output::Lead(epoch, founders) => {
                log::warn!("this node is elected for epoch {}", epoch.0);
                cluster.elections.increment();
                self.engine.follow_none();
                self.begin(Job::Lead { epoch, founders });
            }
            Output::StepDown(why) => {
                log::warn!("this node leads no longer: {}", reason(why));
                cluster.stepdowns.increment();
                self.stop_leading();
            }
            Output::Commit(seq) => {
                if cluster.raise_commit(seq) {
                    self.follow_policy();
                    // Followers learn it with the next heartbeat of their links.
                    self.persistence.log.written_moved.notify();
                    self.engine.release_parked_of_cluster();
                }
            }
            Output::Fence(until) => {
                cluster.set_fence(until);
                self.engine.release_parked_of_cluster();
            }
            Output::Confirmed(round) => self.confirmed(round),
        }
    }

    /// Writes the promises, durably. The epoch in memory moves first.
    fn persist(&mut self, term: Term) {
        self.cluster.adopt(term.epoch);
        // Before another line is sent: nodes of another cluster must take none.
        self.cluster.peers.set_cluster(term.cluster);
        let written = self.persistence.write_term(term);
        self.is_dirty = written.is_err();
        self.cluster.set_silent(self.is_dirty);
        if let Err(error) = written
            && self.said.is_due("node")
        {
            log::error!(
                "the file 'node' cannot be written, so this node neither votes nor leads: {error}"
            );
        }
    }

    /// The first step of a ballot.
    fn adopt(&mut self, from: NodeId, ask: Ask) {
        self.cluster.adopt(ask.epoch);
        if self.cluster.led() < ask.epoch {
            self.engine.stop_writes_at_once();
        }
        let last = self.persistence.log.last();
        let last = End { epoch: last.epoch, seq: last.seq };
        self.step(Input::Ballot { from, ask, last });
    }

    fn follow(&mut self, id: NodeId) {
        let members = self.persistence.members();
        let address =
            members.and_then(|members| members.address_of(id).and_then(LeaderAddr::parse));
        let address = self.cluster.peers.address_of(id).or(address);
        match address {
            Some(leader) => {
                self.engine.follow_elected(leader, (id, self.election.term().epoch));
                self.engine.announce_leader();
                // Writes that were held for a handover are told of the new leader.
                self.engine.pause.end_hold();
            }
            None if self.said.is_due("address") => {
                log::warn!("node {id} leads, and its address is not known");
            }
            None => {}
        }
    }

    fn stop_leading(&mut self) {
        self.engine.stop_writes_at_once();
        self.engine.end_links_out();
        self.engine.release_parked_of_cluster();
    }

    fn begin(&mut self, job: Job) {
        if let Err(error) = self.jobs.try_send(job)
            && let Job::Lead { epoch, .. } = error.into_inner()
        {
            self.step(Input::Void(epoch));
        }
    }

    /// True if this node has not led, and has had no link to a leader, for long.
    fn is_lost(&mut self) -> bool {
        let now = boot_millis();
        if self.election.leads().is_some() || self.engine.role.link_is_up() {
            self.linked_at = now;
        }
        now > self.linked_at + LEADERLESS_TIMEOUTS * self.cluster.settings.timeout_ms
    }

    /// Dials the members, or, before there are any, the listed nodes. A node that missed a members record may know all
    /// members but the leader, which does not look for it if it does not vote: then it tries the listed nodes, too.
    /// Nodes that dial this one while it leads, or has no members, are dialled back: so a learner, and a node that has
    /// lost its directory, find the leader.
    fn dial_peers(&mut self) {
        let members = self.persistence.members();
        let parse = |voter: &Voter| LeaderAddr::parse(&voter.address);
        let mut addresses: Vec<LeaderAddr> = match &members {
            Some(members) => members.voters.iter().filter_map(parse).collect(),
            None => self.cluster.settings.nodes.clone(),
        };
        if members.is_none() || self.election.leads().is_some() {
            self.dialled_back.extend(self.cluster.peers.heard_of());
            self.dialled_back.truncate(DIALLED_BACK_MAX);
        } else {
            self.dialled_back.clear();
        }
        addresses.extend(self.dialled_back.iter().cloned());
        if self.is_lost() {
            addresses.extend(self.cluster.settings.nodes.iter().cloned());
        }
        if addresses != self.dialled {
            self.cluster.peers.set_addresses(&addresses);
            self.dialled = addresses;
        }
    }

    /// Says who is missing if no node has led for long.
    fn look_for_leader(&mut self) {
        let now = boot_millis();
        if self.election.leads().is_some() || self.election.follows().is_some() {
            self.led_at = now;
            self.cluster.forget_memories();
        }
        let silence = LEADERLESS_TIMEOUTS * self.cluster.settings.timeout_ms;
        if now > self.led_at + silence && self.said.is_due("leader") {
            log::warn!("no node leads{}", self.engine.missing_members());
        }
    }

    /// Says why no cluster begins if two of its nodes bring data.
    fn compare_data(&self, from: NodeId, ask: &Ask) {
        let has_data = self.persistence.log.appended() > Seq(0) && ask.last.seq > Seq(0);
        if ask.list.is_some() && has_data && self.persistence.members().is_none() {
            let other = self.cluster.peers.address_of(from);
            self.cluster.peers.complain(&format!(
                "this node has data, and {} has, too: a cluster begins with the data of one node at most. Empty the \
                 directories of the others, since their data would be given up",
                other.map_or(from.to_string(), |other| other.to_string()),
            ));
        }
    }

    // --- rounds of heartbeats ---

    /// True if a round is on its way.
    fn is_confirming(&self) -> bool {
        let rounds = self.cluster.rounds();
        rounds.begun > rounds.confirmed
    }

    fn confirmed(&mut self, round: u64) {
        let epoch = self.election.leads().unwrap_or_default();
        self.cluster.confirm_round(epoch, round);
        self.engine.release_parked_of_cluster();
        if std::mem::take(&mut self.wants_round) {
            self.step(Input::Confirm);
        }
    }
}

/// In words.
fn reason(why: Why) -> &'static str {
    match why {
        Why::NoQuorum => "no majority has answered for election-timeout",
        Why::LaterEpoch => "there is a later epoch",
        Why::NoLinks => "no majority has had a working replication link for five election-timeouts",
        Why::Disk => "the log cannot be written",
        Why::NoMember => "it is no member any more, and a majority of the members has its log",
        Why::Void => {
            "the first record of its epoch could not be written, or a later epoch came first"
        }
    }
}
