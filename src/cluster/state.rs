//! The state of a node's role, as a value. [`super::role::Role`] holds it under its lock.

use super::link::Link;
use super::term::NodeId;
use crate::aof::record::Epoch;
use crate::config::Address;
use crate::store::effect::Seq;

/// The address of the node to follow.
pub type LeaderAddr = Address;

/// The task of `repl-in`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowTarget {
    /// The node to follow.
    pub leader: LeaderAddr,
    /// Counts targets: a link to an older one is to end, even if it is to the same node.
    pub number: u64,
    /// If it was elected: its id and its epoch. The link to it is bound to both.
    pub elected: Option<(NodeId, Epoch)>,
}

/// A follower's part of the state.
#[derive(Clone, Debug)]
pub struct FollowState {
    /// The node that is followed.
    pub target: FollowTarget,
    /// If this node has handed over to that leader: the leader's id, and the last record before it.
    pub(super) handed_over: Option<(String, Seq)>,
    /// The leader's offer to hand over has been accepted: this node is about to lead.
    pub(super) offer_accepted: bool,
}

/// A node that does not lead, at one moment.
#[derive(Clone, Debug)]
pub struct FollowerSeen {
    /// The node that it is to follow.
    pub target: Option<FollowTarget>,
    /// The link's state in Redis's words.
    pub link_state: &'static str,
    /// True if records come in, or would if there were any, from a node that leads or follows one that does.
    pub link_is_up: bool,
    /// How many links lie between this node and the one that leads: 0 is unknown, more than
    /// [`HOPS_MAX`](super::link::HOPS_MAX) a circle.
    pub hops: u64,
}

/// This node's role.
#[derive(Debug, Default)]
pub(super) enum Standing {
    /// Takes writes.
    #[default]
    Leading,
    /// Takes no writes and follows no node: the role is changing, or a change has failed.
    Idle,
    /// Takes its leader's records.
    Following(FollowState),
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct RoleState {
    pub(super) standing: Standing,
    pub(super) link: Link,
    /// Targets so far.
    targets: u64,
    /// PROMOTEs that wait for the leader to hand over.
    pub(super) promotes_waiting: usize,
    /// PROMOTEs so far.
    pub(super) promotes_made: u64,
}

impl RoleState {
    /// This node as a follower; none if it leads.
    pub(super) fn as_follower(&mut self) -> Option<FollowerSeen> {
        if matches!(self.standing, Standing::Leading) {
            return None;
        }
        Some(FollowerSeen {
            link_state: self.link.state(),
            link_is_up: self.link.is_up(),
            hops: self.link.hops(),
            target: self.following().map(|following| following.target.clone()),
        })
    }

    /// A follower's part, if this node follows.
    pub(super) fn following(&mut self) -> Option<&mut FollowState> {
        if let Standing::Following(following) = &mut self.standing { Some(following) } else { None }
    }

    /// A follower's part, if this is the target in force.
    pub(super) fn in_force(&mut self, target: &FollowTarget) -> Option<&mut FollowState> {
        self.following().filter(|following| following.target.number == target.number)
    }

    /// Follows a node, as a new target.
    pub(super) fn follow(&mut self, leader: LeaderAddr, handed_over: Option<(String, Seq)>) {
        self.aim_at(leader, None, handed_over);
    }

    /// Follows a node that was elected.
    pub(super) fn follow_elected(&mut self, leader: LeaderAddr, elected: (NodeId, Epoch)) {
        self.aim_at(leader, Some(elected), None);
    }

    fn aim_at(
        &mut self,
        leader: LeaderAddr,
        elected: Option<(NodeId, Epoch)>,
        handed_over: Option<(String, Seq)>,
    ) {
        self.targets += 1;
        let target = FollowTarget { leader, number: self.targets, elected };
        let following = FollowState { target, handed_over, offer_accepted: false };
        self.standing = Standing::Following(following);
    }
}
