//! Changes of who votes: one node more or less at a time, so that the majorities before and after it have a node in
//! common [Ongaro 4.1].
//!
//! The record counts from its append on, so a second change must not begin before the first is committed: of two
//! uncommitted ones, the majorities need not meet. A new leader waits until a record of its own epoch is committed, too:
//! before that, an earlier leader's change may still be in doubt [Ongaro 2015].
//!
//! All that is asked here is read from the log and from the links at the moment of the change, never remembered.
//!
//! A change after which too few voters would answer is refused, as etcd does it: the cluster would stand still with that
//! change in force, and could not take it back. No promise depends on it, since a voter may fall silent a moment later.

use super::members::{Members, Voter, majority};
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
pub struct Situation<'s> {
    /// The leader.
    pub leader: NodeId,
    /// The nodes that answer the leader now, itself included.
    pub answering: &'s [NodeId],
    /// A majority has all records up to this one.
    pub commit: Seq,
    /// The first record of the leader's epoch.
    pub first: Seq,
    /// Records that the new voter lacks; None if it has acknowledged nothing to this leader.
    pub lag: Option<u64>,
}

/// Why a change is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Without these voters, those that would be left have no majority.
    Silent {
        /// The addresses of those that do not answer.
        silent: Vec<String>,
        /// How many would be left, the silent ones included.
        voters: usize,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Silent { silent, voters } => {
                let (answer, needed) = (voters - silent.len(), majority(*voters));
                let silent = silent.join(", ");
                return write!(
                    f,
                    "only {answer} of {voters} members would answer then, {needed} are needed, and no write would be \
                     confirmed: {silent} does not answer. Start it again, or remove it first; if a majority is gone \
                     for good, PROMOTE FORCE goes on without it"
                );
            }
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
    pub fn change(&self, change: Change, now: &Situation<'_>) -> Result<Members, Refusal> {
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
        next.can_confirm(now)?;
        Ok(next)
    }

    fn can_confirm(&self, now: &Situation<'_>) -> Result<(), Refusal> {
        let is_silent = |voter: &&Voter| !now.answering.contains(&voter.id);
        let silent = self.voters.iter().filter(is_silent).map(|voter| voter.address.clone());
        let (silent, voters): (Vec<_>, _) = (silent.collect(), self.voters.len());
        if voters - silent.len() < majority(voters) {
            return Err(Refusal::Silent { silent, voters });
        }
        Ok(())
    }

    fn may_add(&self, voter: &Voter, now: &Situation<'_>) -> Result<(), Refusal> {
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

    const NOW: Situation<'_> = Situation {
        leader: NodeId([1; 20]),
        answering: &[NodeId([1; 20]), NodeId([2; 20]), NodeId([3; 20])],
        commit: Seq(20),
        first: Seq(20),
        lag: Some(0),
    };

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

    #[test]
    fn a_change_after_which_no_majority_would_answer_is_refused() {
        let refused = |count, change| members(count).change(change, &NOW).expect_err("it may not");
        let silent = |numbers: &[u8], voters| Refusal::Silent {
            silent: numbers.iter().map(|number| voter(*number).address).collect(),
            voters,
        };
        assert_eq!(refused(5, Change::Remove(voter(2).id)), silent(&[4, 5], 4));
        assert!(members(5).change(Change::Remove(voter(5).id), &NOW).is_ok());
        let alone = Situation { answering: &[NodeId([1; 20])], ..NOW };
        let add = members(2).change(Change::Add(voter(3)), &alone);
        assert_eq!(add, Err(silent(&[2, 3], 3)));
    }
}
