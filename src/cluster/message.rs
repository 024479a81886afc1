//! The lines between members about who leads, and the inputs and outputs of [`super::election`].
//!
//! ```text
//! candidate                               member
//! ASK pre 8 …  (would you?)        ──▶
//!                                  ◀──    GIVE pre 8 yes …          nothing is promised yet
//! ASK vote 8 … (epoch 8 is mine)   ──▶
//!                                  ◀──    GIVE vote 8 yes …         written and fsynced before
//! leader
//! BEAT 8 <round> <promise ms>      ──▶
//!                                  ◀──    HEARD 8 <round> <promised ms> …   votes for no other node so long
//! ```

use super::members::Members;
pub use super::term::End;
use super::term::{Boot, ClusterId, Memory, Millis, NodeId, Term};
use crate::aof::record::Epoch;
use crate::store::effect::Seq;

/// The two questions of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// Would you vote for me? Asked first, so that a node which cannot win changes no epoch [Ongaro 9.6].
    Pre,
    /// Vote for me.
    Vote,
}

/// A candidate's question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Which question.
    pub round: Round,
    /// The epoch that the candidate would lead.
    pub epoch: Epoch,
    /// The end of its log, as far as it is durable.
    pub last: End,
    /// At the first start of a cluster: the hash of the list of members. The candidate knows no record of them.
    pub list: Option<u64>,
}

/// A line between two members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A candidate asks.
    Ask(Ask),
    /// The answer.
    Give {
        /// To which question.
        round: Round,
        /// For which epoch.
        epoch: Epoch,
        /// Yes or no.
        yes: bool,
        /// The epoch of the node that answers.
        own: Epoch,
        /// Tells whether it may have forgotten records.
        memory: Memory,
    },
    /// A leader is there.
    Beat {
        /// Its epoch.
        epoch: Epoch,
        /// Counts its heartbeats.
        round: u64,
        /// For how long it asks the member to vote for no other node; 0 ends an earlier promise.
        promise: Millis,
    },
    /// The answer.
    Heard {
        /// The epoch of the heartbeat.
        epoch: Epoch,
        /// Its number.
        round: u64,
        /// For how long this node votes for no other node.
        promised: Millis,
        /// The epoch of the node that answers.
        own: Epoch,
    },
}

/// An event for a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time passes. Comes at least each T/20.
    Tick,
    /// A line from the node that identified itself with this id.
    Line(NodeId, Message),
    /// A node has this record, said in this epoch: a follower's acknowledgement, or the own log. The level is read
    /// first and the epoch second.
    Acked(NodeId, Epoch, Seq),
    /// The own log ends here, about. Never used for a vote.
    Log(End),
    /// The log has been synced up to here: the answer to [`Output::Sync`].
    Synced(End),
    /// The log ends here, read after the epoch was adopted: the answer to [`Output::Adopt`].
    Ballot {
        /// The candidate; may be this node.
        from: NodeId,
        /// Its question.
        ask: Ask,
        /// The end of the log.
        last: End,
    },
    /// The epoch's first record is durable: the answer to [`Output::Lead`].
    Begun(Epoch, Seq),
    /// It could not be written, or a later epoch was adopted meanwhile.
    Void(Epoch),
    /// This members record, of this epoch, is in force: appended, or the newest after records were given up.
    Members(Option<Members>, Epoch),
    /// The replication link of a voter works, or has ended.
    Linked(NodeId, bool),
    /// This node has all records that its leader, in this epoch, had when their link came up, and they are durable.
    CaughtUp(Epoch),
    /// The log cannot be written, or can again.
    Disk(bool),
    /// A copy is about to replace the log. It begins with an older state, so until this node has caught up it lacks
    /// records that it acknowledged, under whatever policy.
    Copies,
    /// An fsync failed: records that were not durable may be gone.
    Forgets,
    /// From now on records are acknowledged under `ack majority`, or no longer.
    Strict(bool),
    /// From now on this process may acknowledge records that are not durable.
    Boot(Boot),
    /// A round of heartbeats is wanted now.
    Confirm,
    /// Lead, although the leader lives: it has handed over.
    Promote,
    /// Let another node lead.
    HandOver,
    /// Lead without votes, as the only member of this new cluster: an operator says that the majority is gone for good.
    Force(ClusterId),
}

/// Why a leader stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No majority was heard for T.
    NoQuorum,
    /// Another node is in a later epoch.
    LaterEpoch,
    /// No majority has had a working replication link for 5 T.
    NoLinks,
    /// The log could not be written for T.
    Disk,
    /// The first record of the epoch was not written.
    Void,
    /// This node does not vote, and a majority of the voters has its log.
    NoMember,
}

/// An action that the node must take. Several are taken in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write the term and fsync it, before anything that follows. The epoch in memory moves first.
    Persist(Term),
    /// Sync the log and answer [`Input::Synced`].
    Sync,
    /// Adopt the epoch (a leader: with all shards locked, no OK any more), then read the end of the log and answer
    /// [`Input::Ballot`].
    Adopt {
        /// The candidate; may be this node.
        from: NodeId,
        /// Its question.
        ask: Ask,
    },
    /// Send a line to a node.
    Send(NodeId, Message),
    /// Send a line to all peers.
    Broadcast(Message),
    /// Follow this node, or none: end the link to another one.
    Follow(Option<NodeId>),
    /// Write the epoch's first record; then [`Input::Begun`] or [`Input::Void`]. At the first start of a cluster,
    /// and if this node is forced to lead, write a members record with these nodes after it.
    Lead(Epoch, Option<Vec<NodeId>>),
    /// Lead no longer.
    StepDown(Why),
    /// A majority has all records up to this one.
    Commit(Seq),
    /// No other node leads before this time.
    Fence(Millis),
    /// A majority has heard this round: this node led when the round began.
    Confirmed(u64),
}
