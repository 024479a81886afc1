//! What the thread `cluster` has decided, as all other threads read it.
//!
//! ```text
//! epoch    the highest one adopted: nothing older is appended, acknowledged or answered
//! led      the epoch in which this node takes writes; 0: none
//! fence    until then no other node leads                        (an OK under `ack leader`)
//! commit   a majority has all records up to this one             (an OK under either)
//! rounds   heartbeats begun, and heard by a majority             (a read under `reads index`)
//! ```
//!
//! Only that thread writes here, but for `led`, which the thread that begins an epoch sets, and a stricter policy, which
//! counts from the append of its record on.

use super::inbox::Inbox;
use super::members::{Ack, Members, Reads};
use super::term::{Memory, Millis, NodeId, Term};
use crate::aof::record::Epoch;
use crate::clock::boot_millis;
use crate::config::ClusterSettings;
use crate::failover::peers::Peers;
use crate::failover::services::Services;
use crate::lock::Mutex;
use crate::metrics::Counter;
use crate::store::effect::Seq;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// Rounds of heartbeats of one epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rounds {
    /// The epoch that is led.
    pub epoch: Epoch,
    /// Those begun.
    pub begun: u64,
    /// The newest that a majority has heard.
    pub confirmed: u64,
}

/// A node's place in its cluster.
#[derive(Debug)]
pub struct Cluster {
    /// The settings.
    pub settings: ClusterSettings,
    /// This node.
    pub id: NodeId,
    /// The way to the thread `cluster`.
    pub inbox: Arc<Inbox>,
    /// The other nodes.
    pub peers: Arc<Peers>,
    /// For clients that look for the leader.
    pub services: Services,
    epoch: AtomicU64,
    led: AtomicU64,
    fence: AtomicU64,
    commit: AtomicU64,
    rounds: Mutex<Rounds>,
    /// Nodes that have said that they may have forgotten records, since a leader was last known.
    recovering: Mutex<BTreeSet<NodeId>>,
    waits_for_majority: AtomicBool,
    reads_by_index: AtomicBool,
    is_silent: AtomicBool,
    has_ended: AtomicBool,
    is_alone: AtomicBool,
    /// Elections that this node has won.
    pub elections: Counter,
    /// Times that it has led no longer.
    pub stepdowns: Counter,
}

impl Cluster {
    /// A node's place before it knows anything of the others.
    pub fn new(settings: ClusterSettings, term: &Term) -> Cluster {
        let inbox = Arc::new(Inbox::default());
        let peers = Peers::new(&settings, term.id, term.cluster, Arc::clone(&inbox));
        let is_strict = settings.ack == Ack::Majority;
        let by_index = settings.reads == Reads::Index;
        Cluster {
            settings,
            id: term.id,
            inbox,
            peers: Arc::new(peers),
            services: Services::default(),
            epoch: AtomicU64::new(term.epoch.0),
            led: AtomicU64::new(0),
            fence: AtomicU64::new(0),
            commit: AtomicU64::new(0),
            rounds: Mutex::default(),
            recovering: Mutex::default(),
            waits_for_majority: AtomicBool::new(is_strict),
            reads_by_index: AtomicBool::new(by_index),
            is_silent: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            is_alone: AtomicBool::new(false),
            elections: Counter::default(),
            stepdowns: Counter::default(),
        }
    }

    /// The highest epoch adopted.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(SeqCst))
    }

    /// Adopts an epoch.
    pub fn adopt(&self, epoch: Epoch) {
        self.epoch.fetch_max(epoch.0, SeqCst);
    }

    /// True while this node's promises cannot be written: it acknowledges nothing.
    pub fn is_silent(&self) -> bool {
        self.is_silent.load(SeqCst)
    }

    /// See [`Cluster::is_silent`].
    pub fn set_silent(&self, is_silent: bool) {
        self.is_silent.store(is_silent, SeqCst);
    }

    /// Takes no part any more: the server ends.
    pub fn end(&self) {
        self.has_ended.store(true, SeqCst);
    }

    /// See [`Cluster::end`].
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(SeqCst)
    }

    /// True if one node is a majority: then no other one's acknowledgement shows that the own log has come on.
    pub fn is_alone(&self) -> bool {
        self.is_alone.load(SeqCst)
    }

    /// See [`Cluster::is_alone`].
    pub fn set_alone(&self, is_alone: bool) {
        self.is_alone.store(is_alone, SeqCst);
    }

    /// The epoch in which this node takes writes; 0: none.
    pub fn led(&self) -> Epoch {
        Epoch(self.led.load(SeqCst))
    }

    /// Takes writes in this epoch from now on, or, with 0, none.
    pub fn set_led(&self, epoch: Epoch) {
        self.led.store(epoch.0, SeqCst);
        if epoch == Epoch(0) {
            self.fence.store(0, SeqCst);
        }
    }

    /// True if no other node can lead at this moment.
    pub fn is_fenced(&self) -> bool {
        boot_millis() < self.fence.load(SeqCst)
    }

    /// Until then no other node leads.
    pub fn set_fence(&self, until: Millis) {
        self.fence.store(until, SeqCst);
    }

    /// A majority has all records up to this one, as far as is known here.
    pub fn commit(&self) -> Seq {
        Seq(self.commit.load(SeqCst))
    }

    /// Raises the commit; returns whether it has moved.
    pub fn raise_commit(&self, seq: Seq) -> bool {
        self.commit.fetch_max(seq.0, SeqCst) < seq.0
    }

    /// Records have been given up: no more than this is committed here.
    pub fn lower_commit(&self, seq: Seq) {
        self.commit.fetch_min(seq.0, SeqCst);
    }

    /// A node has told of its memory.
    pub fn note_memory(&self, id: NodeId, memory: Memory) {
        let mut recovering = self.recovering.lock();
        if memory == Memory::Recovering {
            recovering.insert(id);
        } else {
            recovering.remove(&id);
        }
    }

    /// A leader is there: nodes catch up with it, and do not say so here.
    pub fn forget_memories(&self) {
        self.recovering.lock().clear();
    }

    /// The nodes that this one has a connection to, and itself.
    pub fn answering(&self) -> BTreeSet<NodeId> {
        self.answered_within(Duration::ZERO)
    }

    /// Also those that it had a connection to within this time.
    pub fn answered_within(&self, time: Duration) -> BTreeSet<NodeId> {
        self.peers.answered_within(time).into_iter().chain([self.id]).collect()
    }

    /// True if that node said that it may have forgotten records, and no leader has been known here since.
    pub fn is_recovering(&self, id: NodeId) -> bool {
        self.recovering.lock().contains(&id)
    }

    /// The rounds of heartbeats.
    pub fn rounds(&self) -> Rounds {
        *self.rounds.lock()
    }

    /// A round begins. None of an earlier epoch confirms anything any more.
    pub fn begin_round(&self, epoch: Epoch, begun: u64) {
        let mut rounds = self.rounds.lock();
        let confirmed = if rounds.epoch == epoch { rounds.confirmed } else { 0 };
        *rounds = Rounds { epoch, begun, confirmed };
    }

    /// A majority has heard a round of this epoch.
    pub fn confirm_round(&self, epoch: Epoch, confirmed: u64) {
        let mut rounds = self.rounds.lock();
        if rounds.epoch == epoch {
            rounds.confirmed = confirmed.max(rounds.confirmed);
        }
    }

    /// True if an OK waits for a majority.
    pub fn waits_for_majority(&self) -> bool {
        self.waits_for_majority.load(SeqCst)
    }

    /// True if a read waits until this node is known to have led when it ran.
    pub fn reads_by_index(&self) -> bool {
        self.reads_by_index.load(SeqCst)
    }

    /// Follows the newest members record: what is stricter counts at once, what is weaker after the record is committed.
    pub fn follow_policy(&self, members: &Members) {
        let is_committed = self.commit() >= members.seq;
        for (flag, is_strict) in [
            (&self.waits_for_majority, members.ack == Ack::Majority),
            (&self.reads_by_index, members.reads == Reads::Index),
        ] {
            if is_strict || is_committed {
                flag.store(is_strict, SeqCst);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::members::Voter;
    use crate::cluster::term::ClusterId;
    use crate::config::Config;

    fn alone() -> Cluster {
        let config = Config::for_tests(&[("cluster-nodes", "127.0.0.1:8080")]);
        Cluster::new(config.cluster().expect("a cluster"), &Term::new(NodeId([1; 20])))
    }

    #[test]
    fn a_round_of_an_earlier_epoch_confirms_nothing() {
        let cluster = alone();
        cluster.begin_round(Epoch(1), 9);
        cluster.confirm_round(Epoch(1), 9);
        cluster.begin_round(Epoch(2), 1);
        assert_eq!(cluster.rounds(), Rounds { epoch: Epoch(2), begun: 1, confirmed: 0 });
        cluster.confirm_round(Epoch(1), 9);
        assert_eq!(cluster.rounds().confirmed, 0, "late");
        cluster.confirm_round(Epoch(2), 1);
        assert_eq!(cluster.rounds().confirmed, 1);
    }

    #[test]
    fn a_stricter_policy_counts_at_once_and_a_weaker_one_after_its_commit() {
        let cluster = alone();
        let voters = vec![Voter { id: cluster.id, address: "a:1".to_string() }];
        let members = |ack, seq| Members {
            cluster: ClusterId(1),
            ack,
            reads: Reads::Local,
            voters: voters.clone(),
            seq: Seq(seq),
        };
        cluster.follow_policy(&members(Ack::Majority, 5));
        assert!(cluster.waits_for_majority());
        cluster.follow_policy(&members(Ack::Leader, 7));
        assert!(cluster.waits_for_majority());
        cluster.raise_commit(Seq(7));
        cluster.follow_policy(&members(Ack::Leader, 7));
        assert!(!cluster.waits_for_majority());
    }

    #[test]
    fn a_node_that_leads_no_more_has_no_fence() {
        let cluster = alone();
        cluster.set_led(Epoch(1));
        cluster.set_fence(boot_millis() + 60_000);
        assert!(cluster.is_fenced());
        cluster.set_led(Epoch(0));
        assert!(!cluster.is_fenced());
    }
}
