//! Changes of role as an election decides them. Those that a person asks for are in `replication/transition.rs`.
//!
//! A node takes writes only in the epoch that it has adopted. Adopting a later one, and stopping, happen with all shards
//! locked: then no write, of a client or of a leader's link, is between its look at the epoch and the log.

use crate::aof::record::Epoch;
use crate::cluster::members::Members;
use crate::cluster::message::Input;
use crate::cluster::state::LeaderAddr;
use crate::cluster::term::{Boot, NodeId};
use crate::config::Id;
use crate::engine::{Engine, Persistence};
use crate::error::{Failure, Kind};
use crate::store::effect::Seq;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

/// A replication link may be silent for so many election timeouts.
const LINK_TIMEOUTS: u64 = 4;
/// And for so long at least: a full copy is checked meanwhile.
const LINK_SILENCE_MIN: Duration = Duration::from_secs(1);
/// Missing members that an error names at most.
const MISSING_SHOWN: usize = 9;
/// Replies that wait for other nodes may leave within this time before a handover, which is looked for so often.
const SETTLE_MAX: Duration = Duration::from_millis(100);
const SETTLE_STEP: Duration = Duration::from_millis(1);
/// Writes are held for so long at most while another node takes the lead.
const HOLD_MAX: Duration = Duration::from_secs(1);

impl Engine {
    /// Takes no more writes. After this returns, no write can reach the log that looked at an older epoch.
    pub(super) fn stop_writes_at_once(&self) {
        let change = self.role.begin_change();
        let all = self.store.begin_all(true, || self.clock.now());
        change.stop_writes();
        if let Some(cluster) = &self.cluster {
            cluster.set_led(Epoch(0));
        }
        drop(all);
    }

    /// Follows the node that was elected.
    pub(super) fn follow_elected(&self, leader: LeaderAddr, elected: (NodeId, Epoch)) {
        log::warn!("this node follows {leader} from now on, the leader of epoch {}", elected.1.0);
        self.role.begin_change().follow_elected(leader, elected, self.uptime_ms());
    }

    /// Follows no node, until the next leader is known.
    pub(super) fn follow_none(&self) {
        let change = self.role.begin_change();
        if self.role.is_follower() {
            change.stop_following(self.uptime_ms());
        }
    }

    /// Takes writes in an epoch whose first record is durable, unless a later one was adopted. Returns whether it does.
    pub(super) fn take_lead_of(&self, epoch: Epoch) -> bool {
        let Some(cluster) = &self.cluster else { return false };
        let change = self.role.begin_change();
        let leads = change.lead_if(|| {
            let is_mine = cluster.epoch() == epoch;
            if is_mine {
                cluster.set_led(epoch);
            }
            is_mine
        });
        if leads {
            log::warn!("this node leads from now on, in epoch {}", epoch.0);
        }
        leads
    }

    /// Before records are acknowledged that are not durable, it is noted durably that a power cut may take them.
    pub(crate) fn allow_unsynced(&self) -> Result<(), Failure> {
        let (Some(cluster), Some(persistence)) = (&self.cluster, &self.persistence) else {
            return Ok(());
        };
        let noted = persistence.term().boot.is_some()
            || Boot::now(&persistence.dir).is_ok_and(|boot| cluster.inbox.order(Input::Boot(boot)));
        if noted { Ok(()) } else { Err(Failure::fixed("ERR the file 'node' cannot be written")) }
    }

    /// The refusal of a write by a node that does not lead. Without a leader it says who is missing.
    pub(crate) fn readonly(&self) -> Failure {
        if self.cluster.is_none() || self.role.leader().is_some() {
            return self.role.readonly();
        }
        let text = format!("{}{}", self.role.readonly().text(), self.missing_members());
        Failure::new(text).of_kind(Kind::ReadOnly)
    }

    /// The nodes that an election lacks, as the end of a sentence; empty if all are there.
    pub(crate) fn missing_members(&self) -> String {
        self.missing().map_or(String::new(), |words| format!(": {words}"))
    }

    /// The same in words alone; None if all are there.
    pub(crate) fn missing(&self) -> Option<String> {
        let cluster = self.cluster.as_ref()?;
        let peers = cluster.peers.list().into_iter().take(MISSING_SHOWN);
        let words = peers.filter_map(|peer| {
            let is_recovering = peer.id.is_some_and(|id| cluster.is_recovering(id));
            let what = match (peer.is_connected, is_recovering) {
                (false, _) => "does not answer",
                (true, true) => "may have forgotten records",
                (true, false) => return None,
            };
            Some(format!("{} {what}", peer.address))
        });
        let words = words.collect::<Vec<_>>().join(", ");
        (!words.is_empty()).then_some(words)
    }

    /// How long a replication link may be silent.
    pub(crate) fn link_timeout(&self) -> Duration {
        match &self.cluster {
            Some(cluster) => Duration::from_millis(LINK_TIMEOUTS * cluster.settings.timeout_ms)
                .max(LINK_SILENCE_MIN),
            None => Duration::from_secs(self.config.int(Id::ReplTimeout) as u64),
        }
    }

    /// The leader says that a majority has all records up to this one.
    pub(crate) fn heard_commit(&self, commit: Option<Seq>) {
        let (Some(cluster), Some(commit), Some(persistence)) =
            (&self.cluster, commit, &self.persistence)
        else {
            return;
        };
        if cluster.raise_commit(commit.min(persistence.log.appended())) {
            self.release_parked_of_cluster();
        }
    }

    /// Lets another node lead: holds writes, and no longer relies on what the others have promised. After this returns, no
    /// write is under way, so that the log's end is the last record before the next leader's.
    pub(crate) fn begin_handover(&self) {
        self.pause.hold(Instant::now() + HOLD_MAX);
        drop(self.store.begin_all(true, || self.clock.now()));
        self.settle();
        if let Some(cluster) = &self.cluster {
            cluster.inbox.put(Input::HandOver);
        }
    }

    /// True unless nodes elect their leader and that one does not vote: then it could not take the lead for long.
    pub(crate) fn may_lead(&self, node_id: &str) -> bool {
        let members = self.persistence.as_ref().and_then(Persistence::members);
        let votes = |members: Members| members.ids().any(|id| id.to_string() == node_id);
        self.cluster.is_none() || members.is_some_and(votes)
    }

    /// Lets the replies leave to what has been written, by what the other nodes have promised so far.
    fn settle(&self) {
        let Some(persistence) = &self.persistence else { return };
        let deadline = Instant::now() + SETTLE_MAX;
        // Batches that have run are on their way to the gate.
        thread::sleep(SETTLE_STEP);
        while persistence.gate.parking.len() > 0 && Instant::now() < deadline {
            thread::sleep(SETTLE_STEP);
        }
    }

    /// Before a leader's server ends, it hands over to the follower that is furthest. Waits until that node leads, but
    /// not for long.
    pub fn hand_over_at_end(&self) {
        let Some(cluster) = &self.cluster else { return };
        let voters = self.followers.all().into_iter().filter(|to| self.may_lead(&to.node_id));
        let next = voters.max_by_key(|follower| follower.applied());
        if let Some(next) = next.filter(|_| cluster.led() > Epoch(0)) {
            log::info!("handing over to {}:{}", next.host, next.port);
            next.handover_requested.store(true, Relaxed);
            if let Some(persistence) = &self.persistence {
                persistence.log.written_moved.notify();
            }
            let is_led_by_another = || self.role.leader().is_some();
            self.role.changed.wait_until(Some(Instant::now() + HOLD_MAX), is_led_by_another);
        }
    }

    /// Ends the links to followers: their senders see that this node does not lead any more.
    pub(super) fn end_links_out(&self) {
        if let Some(persistence) = &self.persistence {
            persistence.log.written_moved.notify();
        }
        self.followers.acknowledged.notify();
    }
}
