//! The thread `cluster-log`: what an election needs of the log and what takes the disk's time.

use crate::aof::record::Epoch;
use crate::cluster::members::{Members, Voter};
use crate::cluster::message::{End, Input};
use crate::cluster::shared::Cluster;
use crate::cluster::term::{ClusterId, NodeId};
use crate::engine::{Engine, Persistence};
use crate::random;
use crate::replication::replacement;
use crate::store::effect::Seq;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::fmt::Display;
use std::time::{Duration, Instant};

/// How long a new leader waits for its link to the old one to end: its thread may be taking over a full copy.
const LINK_ENDS_WITHIN: Duration = Duration::from_secs(5);
/// How often the end of the server is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Work for this thread.
#[derive(Debug)]
pub enum Job {
    /// Sync the log, so that a candidate claims only what is durable.
    Sync,
    /// Begin an epoch that this node was elected for.
    Lead {
        /// The epoch.
        epoch: Epoch,
        /// At the first start of a cluster: its members. Of one that is forced to begin: this node.
        founders: Option<Vec<NodeId>>,
    },
}

/// Runs until shutdown.
pub fn run(engine: &Engine, persistence: &Persistence, cluster: &Cluster, todo: &Receiver<Job>) {
    loop {
        match todo.recv_timeout(LOOK_EVERY) {
            Ok(Job::Sync) => sync(persistence, cluster),
            Ok(Job::Lead { epoch, founders }) => {
                let begun = begin_epoch(engine, persistence, cluster, epoch, founders);
                if let Err(error) = &begun {
                    log::warn!("epoch {} is not begun: {error}", epoch.0);
                }
                let begun = begun.map_or(Input::Void(epoch), |first| Input::Begun(epoch, first));
                cluster.inbox.put(begun);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn sync(persistence: &Persistence, cluster: &Cluster) {
    let last = persistence.log.last();
    // An error shows at the gate; then this node does not ask for votes.
    if persistence.log.sync().is_ok() {
        cluster.inbox.put(Input::Synced(End { epoch: last.epoch, seq: last.seq }));
    }
}

/// Writes the first record of an epoch, and at the beginning of a cluster the members' record; then takes writes.
/// Returns the first record.
fn begin_epoch(
    engine: &Engine,
    persistence: &Persistence,
    cluster: &Cluster,
    epoch: Epoch,
    founders: Option<Vec<NodeId>>,
) -> Result<Seq, String> {
    let overtaken = || format!("epoch {} was adopted meanwhile", cluster.epoch().0);
    let is_free = || !engine.role.is_linked();
    let is_over = || is_free() || cluster.epoch() > epoch || cluster.has_ended();
    engine.role.changed.wait_until(Some(Instant::now() + LINK_ENDS_WITHIN), is_over);
    if !is_free() || engine.loading.is_active() {
        return Err("the link to the leader before is taking over a full copy".to_string());
    }
    persistence.check_directory().map_err(text)?;
    // A copy of an earlier leader's data must never replace what is written from now on.
    replacement::drop_pending(&persistence.dir).map_err(text)?;
    persistence.aside.note_change();
    let now = engine.clock.now();
    let is_mine = || cluster.epoch() == epoch;
    let first = persistence.log.begin_epoch_if(epoch, now, is_mine).ok_or_else(overtaken)?;
    if let Some(founders) = founders {
        let members = found(persistence, cluster, &founders)?;
        persistence.log.append_members(members, epoch, now).ok_or_else(overtaken)?;
    }
    persistence.log.sync().map_err(text)?;
    persistence.begun(epoch, first);
    // Before anything is acknowledged, it is durable what an acknowledgement means.
    if !cluster.inbox.order(Input::Members(None)) {
        return Err("the file 'node' cannot be written".to_string());
    }
    if !engine.take_lead_of(epoch) {
        return Err(overtaken());
    }
    Ok(first.seq)
}

/// The members of a new cluster. One that is forced to begin has its id already, and keeps the policies of the one
/// before.
fn found(
    persistence: &Persistence,
    cluster: &Cluster,
    founders: &[NodeId],
) -> Result<Members, String> {
    let address = |id: NodeId| match cluster.peers.address_of(id) {
        _ if id == cluster.id => Some(cluster.settings.own.to_string()),
        address => address.map(|address| address.to_string()),
    };
    let voter = |id: &NodeId| {
        let address =
            address(*id).ok_or_else(|| format!("the address of node {id} is not known"))?;
        Ok(Voter { id: *id, address })
    };
    let voters = founders.iter().map(voter).collect::<Result<Vec<_>, String>>()?;
    let forced = persistence.term().cluster;
    let before = forced.and_then(|_| persistence.log.members());
    let settings = &cluster.settings;
    let (ack, reads) =
        before.map_or((settings.ack, settings.reads), |before| (before.ack, before.reads));
    let id = forced.unwrap_or_else(|| ClusterId(random::generator().u64(1..)));
    log::warn!("a new cluster of {} nodes begins: {id}", voters.len());
    Ok(Members { cluster: id, ack, reads, voters, seq: Seq(0) })
}

fn text(error: impl Display) -> String {
    error.to_string()
}
