//! Changes of who votes: one node more or less at a time, so that the majorities before and after it have a node in
//! common [Ongaro 4.1].
//!
//! The record counts from its append on, so a second change must not begin before the first is committed: of two
//! uncommitted ones, the majorities need not meet. A new leader waits until a record of its own epoch is committed, too:
//! before that, an earlier leader's change may still be in doubt [Ongaro 2015].
//!
//! All that is asked here is read from the log and from the links at the moment of the change, never remembered.

use super::members::{Members, Voter};
use super::term::NodeId;
use crate::store::effect::Seq;
use std::fmt;

/// More voters than this make each write slower and no node safer.
pub const VOTERS_MAX: usize = 9;
/// A new voter that lacks more records would hold up commits for long.
const LAG_MAX: u64 = 1000;

/// A change of who votes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node more.
    Add(Voter),
    /// A node less.
    Remove(NodeId),
}

/// What the leader knows when a change is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// The leader.
    pub leader: NodeId,
    /// A majority has all records up to this one.
    pub commit: Seq,
    /// The first record of the leader's epoch.
    pub first: Seq,
    /// Records that the new voter lacks; None if it has acknowledged nothing to this leader.
    pub lag: Option<u64>,
}

/// Why a change is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The change before it is not committed.
    Unsettled,
    /// No record of the leader's epoch is committed yet.
    NewLeader,
    /// That node votes already.
    Known,
    /// Another node votes under this address.
    AddressTaken,
    /// That node does not vote.
    Unknown,
    /// That node leads.
    Leader,
    /// There are [`VOTERS_MAX`] voters.
    Full,
    /// The new voter has no working link to the leader.
    NotLinked,
    /// The new voter lacks so many records.
    Behind(u64),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Unsettled => {
                "a majority does not have the change before this one yet; try again in a moment"
            }
            Refusal::NewLeader => {
                "this leader has just been elected, and a majority does not have a record of it yet; try again in a \
                 moment"
            }
            Refusal::Known => "that node is a member",
            Refusal::AddressTaken => {
                "another node is a member under this address; remove that one first, by its id"
            }
            Refusal::Unknown => "no member has this id; MEMBERS lists them",
            Refusal::Leader => "that node leads; let another one lead first, by PROMOTE there",
            Refusal::Full => "a cluster has at most 9 members",
            Refusal::NotLinked => {
                "that node does not follow this one yet: start it with this node among its cluster-nodes, and try \
                 again when INFO replication here shows it"
            }
            Refusal::Behind(records) => {
                return write!(f, "that node still lacks {records} records; try again when it has caught up");
            }
        })
    }
}

impl Members {
    /// The record with this change, or why it must wait.
    pub fn change(&self, change: Change, now: &Situation) -> Result<Members, Refusal> {
        if now.commit < self.seq {
            return Err(Refusal::Unsettled);
        }
        if now.commit < now.first {
            return Err(Refusal::NewLeader);
        }
        let mut next = self.clone();
        match change {
            Change::Add(voter) => {
                self.may_add(&voter, now)?;
                next.voters.push(voter);
            }
            Change::Remove(id) if id == now.leader => return Err(Refusal::Leader),
            Change::Remove(id) if !self.names(id) => return Err(Refusal::Unknown),
            Change::Remove(id) => next.voters.retain(|voter| voter.id != id),
        }
        Ok(next)
    }

    fn may_add(&self, voter: &Voter, now: &Situation) -> Result<(), Refusal> {
        if self.names(voter.id) {
            return Err(Refusal::Known);
        }
        let is_taken = |other: &Voter| other.address == voter.address && !voter.address.is_empty();
        if self.voters.iter().any(is_taken) {
            return Err(Refusal::AddressTaken);
        }
        if self.voters.len() >= VOTERS_MAX {
            return Err(Refusal::Full);
        }
        match now.lag {
            None => Err(Refusal::NotLinked),
            Some(lag) if lag > LAG_MAX => Err(Refusal::Behind(lag)),
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::members::{Ack, Reads};
    use crate::cluster::term::ClusterId;

    fn voter(number: u8) -> Voter {
        Voter { id: NodeId([number; 20]), address: format!("node-{number}:8080") }
    }

    fn members(count: u8) -> Members {
        let voters = (1..=count).map(voter).collect();
        let (ack, reads) = (Ack::Leader, Reads::Local);
        Members { cluster: ClusterId(1), ack, reads, voters, seq: Seq(10) }
    }

    const NOW: Situation =
        Situation { leader: NodeId([1; 20]), commit: Seq(20), first: Seq(20), lag: Some(0) };

    #[test]
    fn one_node_more_or_less() {
        let more = members(2).change(Change::Add(voter(3)), &NOW).expect("it may");
        assert_eq!(more.voters, members(3).voters);
        let less = more.change(Change::Remove(voter(3).id), &NOW).expect("it may");
        assert_eq!(less.voters, members(2).voters);
    }

    #[test]
    fn each_wrong_order_is_refused() {
        let add = |number| Change::Add(voter(number));
        let refused =
            |count, change, now| members(count).change(change, &now).expect_err("it may not");
        let unsettled = Situation { commit: Seq(9), ..NOW };
        assert_eq!(refused(3, add(4), unsettled), Refusal::Unsettled);
        assert_eq!(refused(3, add(4), Situation { commit: Seq(19), ..NOW }), Refusal::NewLeader);
        assert_eq!(refused(3, add(3), NOW), Refusal::Known);
        let same_address = Change::Add(Voter { address: voter(2).address, ..voter(4) });
        assert_eq!(refused(3, same_address, NOW), Refusal::AddressTaken);
        assert_eq!(refused(9, add(10), NOW), Refusal::Full);
        assert_eq!(refused(3, add(4), Situation { lag: None, ..NOW }), Refusal::NotLinked);
        let behind = Situation { lag: Some(LAG_MAX + 1), ..NOW };
        assert_eq!(refused(3, add(4), behind), Refusal::Behind(LAG_MAX + 1));
        assert_eq!(refused(3, Change::Remove(voter(1).id), NOW), Refusal::Leader);
        assert_eq!(refused(3, Change::Remove(voter(4).id), NOW), Refusal::Unknown);
    }
}
