//! Changes of role, step by step. The state itself is `crate::cluster::role`.
//!
//! ```text
//!               REPLICAOF host port
//!      ┌──────────────────────────────────────────┐
//!      │  all shards locked: no write is half done │
//!   leader                                      follower
//!      │  the link has ended, a new epoch begins   │
//!      └──────────────────────────────────────────┘
//!               REPLICAOF NO ONE, PROMOTE
//! ```
//!
//! A handover stops writes first and follows later, so that the follower gets the last record in between.
//! Until the new leader has been named, the lead can be taken back.

use super::replacement;
use crate::cluster::role::Change;
use crate::cluster::state::{FollowTarget, LeaderAddr};
use crate::engine::Engine;
use crate::error::{Failure, LOADING};
use crate::store::effect::Seq;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

/// How long a promotion waits for the link to end: its thread may be taking over a full copy.
const STOP_WAIT_MAX: Duration = Duration::from_secs(5);

/// Why a role was not changed. The role is then as it was.
#[derive(Debug)]
pub enum RoleError {
    /// Following: this node keeps no log.
    NoLog,
    /// Following: the data is being loaded, under the locks that a step down needs. Try again later.
    Loading,
    /// Handing over: this node does not lead.
    NotLeading,
    /// Handing over: another change of role came first.
    Overtaken,
    /// Leading: this node keeps no log.
    LeadWithoutLog,
    /// Leading: the data is being loaded. Try again later.
    LeadWhileLoading,
    /// Leading: the link is taking over a full copy. Try again later.
    LinkBusy,
    /// Leading: a full copy that was not taken over would replace what is written from now on.
    PendingCopy(io::Error),
    /// Leading: the epoch cannot be written.
    Epoch(io::Error),
}

impl RoleError {
    /// The first word of the error reply.
    pub fn code(&self) -> &'static str {
        if matches!(self, RoleError::Loading) { "LOADING" } else { "ERR" }
    }
}

impl fmt::Display for RoleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RoleError::NoLog => "a follower needs a log: start with appendonly yes",
            RoleError::Loading => "Redis is loading the dataset in memory",
            RoleError::NotLeading => "this node does not lead",
            RoleError::Overtaken => "the role has been changed meanwhile",
            RoleError::LeadWithoutLog => "cannot lead: there is no log",
            RoleError::LeadWhileLoading => "cannot lead: the data is being loaded",
            RoleError::LinkBusy => "cannot lead: a full copy is being taken over; try again later",
            RoleError::PendingCopy(error) => {
                let what = "a full copy of the leader's data waits, and cannot be set aside";
                return write!(f, "cannot lead: {what}: {error}");
            }
            RoleError::Epoch(error) => return write!(f, "cannot lead: {error}"),
        })
    }
}

impl std::error::Error for RoleError {}

impl From<RoleError> for Failure {
    fn from(error: RoleError) -> Failure {
        if matches!(error, RoleError::Loading) {
            return LOADING;
        }
        Failure::new(format!("{} {error}", error.code()))
    }
}

impl Engine {
    /// Follows another node from now on. Records that only this node has are saved and given up once that is
    /// known. Returns false if it follows that node already.
    pub fn follow(&self, leader: LeaderAddr) -> Result<bool, RoleError> {
        if self.persistence.is_none() {
            return Err(RoleError::NoLog);
        }
        let change = self.role.begin_change();
        if self.role.leader().as_ref() == Some(&leader) {
            return Ok(false);
        }
        if !self.role.is_follower() && self.loading.is_active() {
            return Err(RoleError::Loading);
        }
        self.stop_writes(&change);
        self.begin_to_follow(&change, leader, None);
        Ok(true)
    }

    /// After this returns, no local write can reach the log.
    fn stop_writes(&self, change: &Change<'_>) {
        if self.role.is_follower() {
            return;
        }
        // With all shards locked, no write is between its check of the role and the log.
        let all = self.store.begin_all(true, || self.clock.now());
        change.stop_writes();
        drop(all);
        // WAIT would wait in vain.
        self.followers.acknowledged.notify();
    }

    fn begin_to_follow(
        &self,
        change: &Change<'_>,
        leader: LeaderAddr,
        handed_over: Option<(String, Seq)>,
    ) {
        log::warn!("this node follows {leader} from now on");
        self.config.set_leader(Some((&leader.host, leader.port)));
        change.follow(leader, handed_over, self.uptime_ms());
    }

    /// Handing over, first step: takes no more writes.
    pub fn step_down(&self) -> Result<(), RoleError> {
        let change = self.role.begin_change();
        if self.role.is_follower() {
            return Err(RoleError::NotLeading);
        }
        self.stop_writes(&change);
        Ok(())
    }

    /// Handing over, last step: the follower at `leader` has the last record, and is followed.
    pub fn follow_successor(
        &self,
        leader: LeaderAddr,
        handed_over: (String, Seq),
    ) -> Result<(), RoleError> {
        let change = self.role.begin_change();
        if !self.role.is_idle() {
            return Err(RoleError::Overtaken);
        }
        self.begin_to_follow(&change, leader, Some(handed_over));
        Ok(())
    }

    /// Handing over has failed after the first step: leads on, unless the role has been changed meanwhile.
    pub fn cancel_handover(&self) -> Result<(), RoleError> {
        let change = self.role.begin_change();
        if self.role.is_idle() {
            self.stop_following_and_lead(&change)?;
        }
        Ok(())
    }

    /// Leads again: the node that this one has handed over to after this record has declined.
    pub fn take_back_lead(&self, node_id: &str, last: Seq) -> Result<(), RoleError> {
        let change = self.role.begin_change();
        if self.role.has_handed_over(node_id, last) {
            self.stop_following_and_lead(&change)?;
        }
        Ok(())
    }

    /// For `repl-in`, which has accepted its leader's offer and has ended the link: leads from now on.
    pub(super) fn take_lead(&self, target: &FollowTarget) -> Result<(), RoleError> {
        let change = self.role.begin_change();
        if !self.role.is_in_force(target) {
            return Ok(());
        }
        self.begin_to_lead(&change)
    }

    /// Leads from now on, in a new epoch that is durable before the first write. Returns false if it leads
    /// already.
    pub fn lead(&self) -> Result<bool, RoleError> {
        let change = self.role.begin_change();
        if !self.role.is_follower() {
            return Ok(false);
        }
        self.stop_following_and_lead(&change)?;
        Ok(true)
    }

    fn stop_following_and_lead(&self, change: &Change<'_>) -> Result<(), RoleError> {
        let before = change.stop_following(self.uptime_ms());
        let deadline = Instant::now() + STOP_WAIT_MAX;
        let ended = self.role.changed.wait_until(Some(deadline), || !self.role.is_linked());
        let led = if ended { self.begin_to_lead(change) } else { Err(RoleError::LinkBusy) };
        if led.is_err() {
            change.resume(before);
        }
        led
    }

    /// The link has ended: no other thread appends.
    fn begin_to_lead(&self, change: &Change<'_>) -> Result<(), RoleError> {
        let Some(persistence) = &self.persistence else {
            return Err(RoleError::LeadWithoutLog);
        };
        if self.loading.is_active() {
            return Err(RoleError::LeadWhileLoading);
        }
        // A copy of the leader's data that was not taken over must never replace what is written from now on.
        replacement::drop_pending(&persistence.dir).map_err(RoleError::PendingCopy)?;
        persistence.aside.note_change();
        let epoch = persistence.begin_epoch(self.clock.now()).map_err(RoleError::Epoch)?;
        self.config.set_leader(None);
        change.lead();
        log::warn!("this node leads from now on, in epoch {}", epoch.0);
        Ok(())
    }
}
