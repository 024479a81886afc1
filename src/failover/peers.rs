//! The connections of this node with the others of its cluster, as a table. Threads look up there where a line goes.
//!
//! Between two nodes there are two connections, since each dials the other. Questions (ASK, BEAT) go out over the
//! dialled one and come in over the accepted one, and each answer (GIVE, HEARD) takes the way of its question. So a
//! network that lets packets through in one direction only is noticed by the node that asks.
//!
//! Invariants:
//! - What counts is the id that a node names, never its address. Two addresses with one id count for nothing.
//! - No line is taken from a node of another cluster. A node without one takes heartbeats only from the cluster that
//!   the listed nodes belong to, as far as they agree.
//! - No caller waits for a socket.

use super::accepted::Accepted;
use super::dialled::{Dialled, Known};
use crate::cluster::greeting::{Greeting, Misfit, Welcome, check_peers};
use crate::cluster::inbox::Inbox;
use crate::cluster::message::{Input, Message};
use crate::cluster::term::{ClusterId, NodeId};
use crate::config::{Address, ClusterSettings};
use crate::lock::Mutex;
use crate::rarely::Rarely;
use crate::signal::Signal;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// Addresses that are dialled at most; the others of a longer list are not. A cluster has far fewer.
const DIALLED_MAX: usize = 16;
/// Connections that are accepted at most. One more is refused.
const ACCEPTED_MAX: usize = 64;

/// The other nodes, as this one is connected with them.
#[derive(Debug)]
pub struct Peers {
    id: NodeId,
    own: Address,
    listed: Vec<Address>,
    list_hash: u64,
    /// T: for a connection, for a write, and for the answer to a line.
    pub(super) timeout: Duration,
    /// This node's cluster; 0 is none.
    cluster: AtomicU64,
    inbox: Arc<Inbox>,
    table: Mutex<Table>,
    /// Notified when other addresses are wanted.
    pub changed: Arc<Signal>,
    /// What has been logged lately.
    said: Rarely,
}

#[derive(Debug, Default)]
struct Table {
    dialled: Vec<Arc<Dialled>>,
    /// The newest is the last.
    accepted: Vec<Arc<Accepted>>,
    /// Addresses so far.
    numbers: u64,
}

/// An address that is dialled, for figures.
#[derive(Clone, Debug)]
pub struct PeerView {
    /// The address.
    pub address: Address,
    /// The node that answered there last.
    pub id: Option<NodeId>,
    /// True if there is a connection.
    pub is_connected: bool,
    /// True if that node has a connection to this one, too.
    pub is_accepted: bool,
    /// The time since its last line.
    pub silent_for: Option<Duration>,
    /// Lines that were dropped because they could not be sent in time.
    pub dropped: u64,
}

impl Peers {
    /// The peers of a node with this id, whose lines go to `inbox`. Dials the listed addresses first.
    pub fn new(
        settings: &ClusterSettings,
        id: NodeId,
        cluster: Option<ClusterId>,
        inbox: Arc<Inbox>,
    ) -> Peers {
        let peers = Peers {
            id,
            own: settings.own.clone(),
            listed: settings.nodes.clone(),
            list_hash: settings.hash,
            timeout: Duration::from_millis(settings.timeout_ms),
            cluster: AtomicU64::new(cluster.map_or(0, |cluster| cluster.0)),
            inbox,
            table: Mutex::default(),
            changed: Arc::default(),
            said: Rarely::default(),
        };
        peers.set_addresses(&settings.nodes);
        peers
    }

    /// Sends a line to a node: a question to where it is dialled, an answer to where its question came from. If there
    /// is no such connection, an answer is dropped, and a question waits for one at the node's last address.
    pub fn send(&self, to: NodeId, message: Message) {
        if is_question(&message) {
            let (dialled, _) =
                self.all_known().into_iter().find(|(_, known)| known.id == Some(to)).unzip();
            if let Some(dialled) = dialled.filter(|_| !self.is_shared(to)) {
                dialled.put(message);
            }
        } else if let Some(accepted) = self.accepted_from(to) {
            accepted.send(&message);
        }
    }

    /// Sends a question to all nodes that are dialled.
    pub fn broadcast(&self, message: Message) {
        for (dialled, known) in self.all_known() {
            if !known.id.is_some_and(|id| self.is_shared(id)) {
                dialled.put(message);
            }
        }
    }

    /// Dials these addresses from now on, and no others. This node's own is left out.
    pub fn set_addresses(&self, wanted: &[Address]) {
        let mut table = self.table.lock();
        let is_wanted = |address: &Address| wanted.contains(address) && *address != self.own;
        let (kept, ended): (Vec<_>, Vec<_>) =
            std::mem::take(&mut table.dialled).into_iter().partition(|old| is_wanted(&old.address));
        table.dialled = kept;
        for address in wanted.iter().filter(|address| is_wanted(address)) {
            let is_new = table.dialled.iter().all(|old| old.address != *address);
            if is_new && table.dialled.len() < DIALLED_MAX {
                table.numbers += 1;
                let is_listed = self.listed.contains(address);
                let dialled = Dialled::new(address.clone(), is_listed, table.numbers);
                table.dialled.push(Arc::new(dialled));
            }
        }
        drop(table);
        ended.iter().for_each(|dialled| dialled.end());
        self.changed.notify();
    }

    /// Nodes that have dialled this one from addresses which it does not dial. A leader, and a node without members,
    /// dials them back: it learns in no other way that they are there.
    pub fn heard_of(&self) -> Vec<Address> {
        let dialled = self.all_known();
        let is_dialled = |peer: &Accepted| {
            let same = |(dialled, known): &(Arc<Dialled>, Known)| {
                dialled.address == peer.address || known.is_linked && known.id == Some(peer.id)
            };
            peer.address == self.own || dialled.iter().any(same)
        };
        let accepted = self.table.lock().accepted.clone();
        let unknown = accepted.iter().filter(|peer| !is_dialled(peer));
        unknown.map(|peer| peer.address.clone()).collect()
    }

    /// The address at which a node is reached.
    pub fn address_of(&self, id: NodeId) -> Option<Address> {
        let known = self.all_known().into_iter().find(|(_, known)| known.id == Some(id));
        match known {
            Some((dialled, _)) => Some(dialled.address.clone()),
            None => self.accepted_from(id).map(|accepted| accepted.address.clone()),
        }
    }

    /// All addresses that are dialled, for figures.
    pub fn list(&self) -> Vec<PeerView> {
        let view = |(dialled, known): (Arc<Dialled>, Known)| PeerView {
            address: dialled.address.clone(),
            id: known.id,
            is_connected: known.is_linked,
            is_accepted: known.id.is_some_and(|id| self.accepted_from(id).is_some()),
            silent_for: known.heard_at.map(|at| at.elapsed()),
            dropped: known.dropped,
        };
        self.all_known().into_iter().map(view).collect()
    }

    /// The nodes to which there is a connection, or was one within this time, which may just be made anew.
    pub fn answered_within(&self, time: Duration) -> Vec<NodeId> {
        let lately = |known: &Known| known.parted_at.is_some_and(|at| at.elapsed() < time);
        let known = self.all_known().into_iter().map(|(_, known)| known);
        known
            .filter(|known| known.is_linked || lately(known))
            .filter_map(|known| known.id)
            .collect()
    }

    /// This node's cluster.
    pub fn cluster(&self) -> Option<ClusterId> {
        Some(self.cluster.load(SeqCst)).filter(|cluster| *cluster != 0).map(ClusterId)
    }

    /// This node belongs to this cluster from now on. The connections are made anew, since both sides have to name
    /// their clusters again.
    pub fn set_cluster(&self, cluster: Option<ClusterId>) {
        let new = cluster.map_or(0, |cluster| cluster.0);
        if self.cluster.swap(new, SeqCst) == new {
            return;
        }
        self.all_dialled().iter().for_each(|dialled| dialled.cut());
        let accepted = self.table.lock().accepted.clone();
        accepted.iter().for_each(|peer| peer.outbox.cut());
    }

    /// The cluster that a node without one may join: the one that the listed nodes have named. None if they have
    /// named none, or two.
    pub fn adoptable(&self) -> Option<ClusterId> {
        let listed = self.all_known().into_iter().filter(|(dialled, _)| dialled.is_listed);
        let mut clusters: Vec<ClusterId> = listed.filter_map(|(_, known)| known.cluster).collect();
        clusters.sort_unstable_by_key(|cluster| cluster.0);
        clusters.dedup();
        match clusters[..] {
            [cluster] => Some(cluster),
            [] => None,
            [one, other, ..] => {
                self.complain(&format!(
                    "the listed nodes belong to different clusters, {one} and {other}: this node joins none; empty \
                     the directories of the wrong ones, or list other nodes"
                ));
                None
            }
        }
    }
}

/// For the threads of the connections.
impl Peers {
    /// This node's greeting.
    pub(super) fn greeting(&self) -> Greeting {
        let list = self.listed.contains(&self.own).then_some(self.list_hash);
        Greeting { cluster: self.cluster(), id: self.id, address: self.own.clone(), list }
    }

    /// This node's answer to one.
    pub(super) fn welcome(&self) -> Welcome {
        Welcome { cluster: self.cluster(), id: self.id }
    }

    /// Checks that a node which names this cluster and this id may be a peer.
    pub(super) fn check(&self, cluster: Option<ClusterId>, id: NodeId) -> Result<(), Misfit> {
        check_peers((self.cluster(), self.id), (cluster, id))
    }

    /// A node has answered at this address.
    pub(super) fn link_up(&self, dialled: &Dialled, welcome: &Welcome) {
        dialled.link_up(welcome.id, welcome.cluster);
        self.report(&format!(
            "peer {}: node {:.8} answers",
            dialled.address,
            welcome.id.to_string()
        ));
        if self.is_shared(welcome.id) {
            let at = |(dialled, known): (Arc<Dialled>, Known)| {
                (known.id == Some(welcome.id)).then(|| dialled.address.to_string())
            };
            let addresses: Vec<String> = self.all_known().into_iter().filter_map(at).collect();
            self.complain(&format!(
                "node {:.8} answers at {}: none of them counts. If one has a copy of another's directory, remove the \
                 file 'node' from it; if it is one node, list it once",
                welcome.id.to_string(),
                addresses.join(" and at "),
            ));
        }
    }

    /// Adds an accepted connection. Returns those of the same node that it replaces, or None if there are too many.
    /// Sends nothing, since the caller has the turn to send.
    pub(super) fn register(&self, peer: &Arc<Accepted>) -> Option<Vec<Arc<Accepted>>> {
        let mut table = self.table.lock();
        let accepted = std::mem::take(&mut table.accepted);
        let (old, kept): (Vec<_>, Vec<_>) = accepted.into_iter().partition(|old| old.id == peer.id);
        table.accepted = kept;
        if table.accepted.len() >= ACCEPTED_MAX {
            return None;
        }
        table.accepted.push(Arc::clone(peer));
        Some(old)
    }

    /// Ends connections that another one of the same node has replaced.
    pub(super) fn end_replaced(&self, replaced: &[Arc<Accepted>], by: &Accepted) {
        for old in replaced {
            old.outbox.cut();
            if old.address != by.address {
                let (id, new) = (by.id.to_string(), &by.address);
                self.complain(&format!("node {id:.8} was at {}, and is at {new} now", old.address));
            }
        }
    }

    /// Warns of a node that would found another cluster than this one.
    pub(super) fn compare_lists(&self, greeting: &Greeting) {
        let own = self.greeting();
        let found = own.cluster.is_none() && greeting.cluster.is_none();
        if found && own.list.is_some() && own.list != greeting.list {
            self.complain(&format!(
                "peer {}: its cluster-nodes, ack and reads are not this node's: as long as they differ, the two do \
                 not found a cluster",
                greeting.address
            ));
        }
    }

    /// An accepted connection has ended.
    pub(super) fn forget(&self, peer: &Arc<Accepted>) {
        self.table.lock().accepted.retain(|other| !Arc::ptr_eq(other, peer));
    }

    /// Takes a line from an accepted connection. An error ends it.
    pub(super) fn take_question(&self, peer: &Accepted, line: &[u8]) -> Result<(), LineError> {
        let message = Message::parse(line).filter(is_question).ok_or(LineError::Unexpected)?;
        self.check(peer.cluster, peer.id).map_err(LineError::Misfit)?;
        let passes = may_pass(&message, self.cluster(), peer.cluster, || self.adoptable());
        if passes && !self.is_shared(peer.id) {
            self.inbox.put(Input::Line(peer.id, message));
        }
        Ok(())
    }

    /// Takes a line from a dialled connection. An error ends it.
    pub(super) fn take_answer(
        &self,
        dialled: &Dialled,
        welcome: &Welcome,
        line: &[u8],
    ) -> Result<(), LineError> {
        let answer = Message::parse(line).filter(|message| !is_question(message));
        let message = answer.ok_or(LineError::Unexpected)?;
        self.check(welcome.cluster, welcome.id).map_err(LineError::Misfit)?;
        dialled.answered();
        if !self.is_shared(welcome.id) {
            self.inbox.put(Input::Line(welcome.id, message));
        }
        Ok(())
    }

    /// Addresses that have no thread yet. They count as having one from now on.
    pub(super) fn unstarted(&self) -> Vec<Arc<Dialled>> {
        self.all_dialled().into_iter().filter(|dialled| !dialled.set_started(true)).collect()
    }

    /// Logs a complaint, unless it has just been logged.
    pub(super) fn complain(&self, text: &str) {
        if self.said.is_due(text) {
            log::warn!("{text}");
        }
    }

    /// Logs something of interest, unless it has just been logged.
    pub(super) fn report(&self, text: &str) {
        if self.said.is_due(text) {
            log::info!("{text}");
        }
    }

    pub(super) fn all_dialled(&self) -> Vec<Arc<Dialled>> {
        self.table.lock().dialled.clone()
    }

    /// Connected addresses first.
    fn all_known(&self) -> Vec<(Arc<Dialled>, Known)> {
        let known = |dialled: Arc<Dialled>| (Arc::clone(&dialled), dialled.known());
        let mut all: Vec<_> = self.all_dialled().into_iter().map(known).collect();
        all.sort_by_key(|(_, known)| !known.is_linked);
        all
    }

    /// True if two addresses answer with this id.
    fn is_shared(&self, id: NodeId) -> bool {
        let is_it = |known: &Known| known.is_linked && known.id == Some(id);
        self.all_known().iter().filter(|(_, known)| is_it(known)).count() > 1
    }

    fn accepted_from(&self, id: NodeId) -> Option<Arc<Accepted>> {
        self.table.lock().accepted.iter().find(|peer| peer.id == id).cloned()
    }
}

/// Why a line ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineError {
    /// It does not read back, or is none that may come here.
    Unexpected,
    /// The two nodes are no peers any more.
    Misfit(Misfit),
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LineError::Unexpected => f.write_str("it sent a line that is none of a peer's"),
            LineError::Misfit(misfit) => misfit.fmt(f),
        }
    }
}

fn is_question(message: &Message) -> bool {
    matches!(message, Message::Ask(_) | Message::Beat { .. })
}

/// True if a node of cluster `own` may take a question from one that named `theirs`. A cluster's epochs mean nothing
/// outside of it. Only the question with which nodes found a cluster is for all.
fn may_pass(
    message: &Message,
    own: Option<ClusterId>,
    theirs: Option<ClusterId>,
    adoptable: impl FnOnce() -> Option<ClusterId>,
) -> bool {
    match message {
        Message::Ask(ask) if ask.list.is_some() => true,
        _ if own == theirs => true,
        _ => own.is_none() && adoptable() == theirs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aof::record::Epoch;
    use crate::cluster::message::{Ask, End, Round};

    #[test]
    fn a_clusters_lines_stay_in_it() {
        let beat = Message::Beat { epoch: Epoch(1), round: 1, promise: 1 };
        let ask = |list| {
            let (round, epoch, last) = (Round::Pre, Epoch(1), End::default());
            Message::Ask(Ask { round, epoch, last, list })
        };
        let (a, b) = (Some(ClusterId(1)), Some(ClusterId(2)));
        for message in [beat, ask(None)] {
            let passes = |own, theirs, adoptable| may_pass(&message, own, theirs, || adoptable);
            assert!(passes(None, None, None) && passes(a, a, None));
            assert!(passes(None, a, a), "the listed nodes are of that cluster");
            assert!(!passes(None, a, None) && !passes(None, a, b));
            assert!(!passes(a, None, None) && !passes(a, None, a), "it has left nothing yet");
        }
        for (own, theirs) in [(None, None), (None, a), (a, None)] {
            assert!(may_pass(&ask(Some(7)), own, theirs, || None), "a cluster is founded");
        }
    }
}
