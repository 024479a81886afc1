//! PROMOTE FORCE: an operator says that a majority is gone for good ([`crate::cluster::election`]).
//!
//! What becomes of the rest:
//! - A reply that still waits here is confirmed: its records are in this log, and so in the new cluster's history. Most
//!   were refused before, after an election timeout, with INDOUBT.
//! - A node that may have forgotten records becomes whole: the new cluster's history is what this node has.
//! - A token of LASTSEQ for a write that only others had is answered DIVERGED.
//! - Servers outside of the cluster that follow this one go on. Members of the old cluster are refused: they have to be
//!   taken out of it first (`kvstore cluster forget`), and save what differs when they follow.

use super::members::NO_MEMBERS;
use crate::aof::record::Epoch;
use crate::cluster::message::Input;
use crate::cluster::shared::Cluster;
use crate::cluster::term::{ClusterId, Memory};
use crate::engine::table::ServerCall;
use crate::engine::{Engine, Persistence};
use crate::error::{Failure, LOADING};
use crate::random;
use std::time::{Duration, Instant};

/// How long the command waits for the first record of the new epoch.
const BEGUN_WITHIN: Duration = Duration::from_secs(10);

const NO_CLUSTER: Failure = Failure::fixed(
    "ERR this node has no cluster-nodes; REPLICAOF NO ONE makes it lead, without the writes that only its leader has",
);
const LEADS: Failure = Failure::fixed("ERR this node leads already, with a majority");
const MAJORITY: Failure = Failure::fixed(
    "ERR a majority of the members answers, or did a moment ago, so the nodes elect a leader by themselves; stop those \
     that are to take no part any more, and try again",
);
const PROMISED: Failure = Failure::fixed(
    "ERR a leader was heard a moment ago, this node has just started, or its file 'node' cannot be written; try again \
     in a moment",
);
const NOT_BEGUN: Failure = Failure::fixed(
    "ERR this node has left its cluster, and the new one could not begin: the log says why. PROMOTE FORCE tries again",
);

/// Makes this node the only member, and the leader, of a new cluster. Replies with what that costs.
pub(crate) fn force(call: &mut ServerCall<'_>) -> Result<(), Failure> {
    let ServerCall { engine, reply, .. } = call;
    let (Some(cluster), Some(persistence)) = (&engine.cluster, &engine.persistence) else {
        return Err(NO_CLUSTER);
    };
    engine.may_force(cluster, persistence)?;
    persistence.admit()?;
    let before = persistence.term();
    let id = ClusterId(random::generator().u64(1..));
    let stepdowns = cluster.stepdowns.get();
    if !cluster.inbox.order(Input::Force(id)) {
        return Err(PROMISED);
    }
    log::error!(
        "PROMOTE FORCE: this node leaves cluster {} and is the only member of cluster {id} from now on. Writes that \
         only other nodes had are lost to it",
        ClusterId::word(before.cluster)
    );
    let leads = || cluster.led() > Epoch(0);
    let is_over =
        || leads() || cluster.stepdowns.get() > stepdowns || engine.shutdown.is_requested();
    engine.role.changed.wait_until(Some(Instant::now() + BEGUN_WITHIN), is_over);
    if !leads() {
        return Err(NOT_BEGUN);
    }
    reply.simple(&outcome(id, before.memory));
    Ok(())
}

/// What may be lost, and what must be done with the other nodes.
fn outcome(cluster: ClusterId, memory: Memory) -> String {
    let forgotten = match memory {
        Memory::Whole => "",
        Memory::Recovering => " So are writes that this node had acknowledged and has forgotten.",
    };
    format!(
        "OK this node is all of cluster {cluster}. Writes that only other nodes had are lost to it.{forgotten} Start no \
         node of the old cluster before 'kvstore cluster forget DIR' on its directory, then MEMBERS ADD it here: if a \
         majority of them starts as it is, there are two clusters that both take writes"
    )
}

impl Engine {
    /// Refuses where a leader is there, or may be elected.
    fn may_force(&self, cluster: &Cluster, persistence: &Persistence) -> Result<(), Failure> {
        if self.loading.is_active() {
            return Err(LOADING);
        }
        if persistence.term().cluster.is_none() {
            return Err(NO_MEMBERS);
        }
        if cluster.led() > Epoch(0) {
            return Err(LEADS);
        }
        let linked = self.role.as_follower().filter(|follower| follower.link_is_up);
        if let Some(target) = linked.and_then(|follower| follower.target) {
            let text = format!(
                "ERR {} leads, and the link to it is up; PROMOTE asks it to hand over",
                target.leader
            );
            return Err(Failure::new(text));
        }
        if may_elect(cluster, persistence) { Err(MAJORITY) } else { Ok(()) }
    }
}

/// True if the members that answer are enough for a leader, by the winning rule of an election. A connection that ended
/// less than an election timeout ago may be one that is just being made anew.
fn may_elect(cluster: &Cluster, persistence: &Persistence) -> bool {
    let Some(members) = persistence.members() else { return false };
    let own = persistence.term().memory;
    let memory = |id| match id {
        _ if id == cluster.id => own,
        _ if cluster.is_recovering(id) => Memory::Recovering,
        _ => Memory::Whole,
    };
    let answered = cluster.answered_within(Duration::from_millis(cluster.settings.timeout_ms));
    let there: Vec<_> = answered.into_iter().map(|id| (id, memory(id))).collect();
    members.elect(&there)
}
