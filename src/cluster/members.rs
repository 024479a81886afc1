//! The members of a cluster, as the log's newest members record names them.

use super::term::{ClusterId, NodeId};
use crate::store::effect::Seq;

/// What an OK waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// The leader's own log, and the certainty that no other node leads yet.
    #[default]
    Leader,
    /// A majority of the members.
    Majority,
}

/// How the leader makes sure that it still leads before it answers a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reads {
    /// Not at all.
    #[default]
    Local,
    /// With a round of heartbeats that a majority hears after the read.
    Index,
}

/// The voters. The record is in force from the moment in which it is appended [Ongaro 4.1].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// The cluster.
    pub cluster: ClusterId,
    /// What an OK waits for.
    pub ack: Ack,
    /// The nodes that vote and count.
    pub voters: Vec<NodeId>,
    /// The record's number.
    pub seq: Seq,
}

impl Members {
    /// True if this node votes.
    pub fn names(&self, id: NodeId) -> bool {
        self.voters.contains(&id)
    }
}

/// The smallest number of voters that any other majority meets.
pub fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The highest value that a majority of the voters has reached. A voter that is missing in `values` has reached none.
pub fn reached_by_majority<T: Ord + Copy>(mut values: Vec<T>, voters: usize) -> Option<T> {
    values.sort_unstable_by(|a, b| b.cmp(a));
    values.get(majority(voters) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_reaches_what_its_last_member_reaches() {
        assert_eq!([1, 2, 3, 4, 5].map(majority), [1, 2, 2, 3, 3]);
        assert_eq!(reached_by_majority(vec![3, 9, 5], 3), Some(5));
        assert_eq!(reached_by_majority(vec![9, 3], 3), Some(3));
        assert_eq!(reached_by_majority(vec![9], 3), None);
        assert_eq!(reached_by_majority(vec![7], 1), Some(7));
        assert_eq!(reached_by_majority(vec![1, 2, 3, 4], 4), Some(2));
    }
}
