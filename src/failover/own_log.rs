//! What the thread `cluster` sees of this node's own log: whether it can be written, how far it is, and its newest members
//! record.

use super::driver::Driver;
use crate::aof::log::LogError;
use crate::aof::record::Epoch;
use crate::clock::boot_millis;
use crate::cluster::members::{Ack, Members};
use crate::cluster::message::Input;
use crate::cluster::progress::ReplicaProgress;
use crate::store::effect::Seq;

/// A leader whose log stands still for so many election timeouts has a bad disk.
const SLOW_TIMEOUTS: u64 = 5;

impl Driver<'_> {
    /// A failed fsync is noted before anything else is done: records may be gone.
    pub(super) fn look_at_disk(&mut self) {
        let error = self.persistence.log.check().err();
        if !self.has_forgotten && error.as_ref().is_some_and(|error| !LogError::is_retried(error)) {
            self.has_forgotten = true;
            self.step(Input::Forgets);
        }
        let is_slow = self.is_slow();
        self.step(Input::Disk(error.is_some() || is_slow));
    }

    /// True if this node's log has not come on for long, although others have what waits here.
    fn is_slow(&mut self) -> bool {
        let (level, now) = (self.persistence.promised(), boot_millis());
        if level == self.persistence.log.appended() || level != self.moved.0 {
            self.moved = (level, now);
        }
        let others = |follower: &ReplicaProgress| follower.has_applied(Seq(level.0 + 1));
        now > self.moved.1 + SLOW_TIMEOUTS * self.cluster.settings.timeout_ms
            && self.engine.followers.count(others) > 0
    }

    /// The own log is an acknowledgement like any other: the level is read first and the epoch second.
    pub(super) fn report_level(&mut self) {
        if self.persistence.log.has_failed() {
            return;
        }
        let level = self.persistence.promised();
        let epoch = self.cluster.epoch();
        if self.cluster.led() == epoch && self.reported != (epoch, level) {
            self.reported = (epoch, level);
            self.look_at_members();
            self.step(Input::Acked(self.cluster.id, epoch, level));
        }
    }

    /// A level may go beyond a members record that its writer has not reported yet. A majority is one of the newest record's
    /// voters.
    pub(super) fn look_at_members(&mut self) {
        if self.persistence.members_seq() != self.election.members_seq() {
            self.members_changed();
        }
    }

    /// Another members record is the newest one.
    pub(super) fn members_changed(&mut self) {
        let members = self.persistence.members();
        if let Some(members) = &members {
            self.cluster.follow_policy(members);
            self.show_policies(members);
            if members.ack == Ack::Majority {
                self.step(Input::Strict(true));
            }
        }
        if members.is_none() {
            self.warn_of_foreign_members();
        }
        let voters = members.as_ref().map_or(0, |members| members.voters.len());
        self.cluster.set_alone(voters == 1);
        let start =
            members.as_ref().and_then(|it| self.persistence.log.outline().epochs.of(it.seq));
        self.step(Input::Members(members, start.map_or(Epoch(0), |start| start.epoch)));
    }

    /// A crash during PROMOTE FORCE leaves a node like this, and so does a log that was copied from elsewhere.
    fn warn_of_foreign_members(&self) {
        let (own, newest) = (self.election.term().cluster, self.persistence.log.members());
        if let Some((own, members)) = own.zip(newest) {
            log::warn!(
                "this node belongs to cluster {own}, and the log has no record of its members: its members record is \
                 of another cluster, {}. It neither votes nor leads. PROMOTE FORCE makes it the only member; \
                 'kvstore cluster forget DIR' makes it a new node",
                members.cluster
            );
        }
    }

    /// CONFIG GET shows the cluster's policies, whatever this node's file says.
    fn show_policies(&self, members: &Members) {
        for id in self.engine.config.set_policies(members.ack, members.reads) {
            let row = id.setting();
            log::warn!(
                "{} is {} from now on, as the cluster says",
                row.name,
                self.engine.config.choice(id)
            );
        }
    }

    /// A weaker policy counts from its record's commit on; after that is durable here, nothing more is promised.
    pub(super) fn follow_policy(&mut self) {
        let Some(members) = self.persistence.members() else { return };
        self.cluster.follow_policy(&members);
        let is_over = self.cluster.commit() >= members.seq
            && self.persistence.log.durable() >= members.seq
            && members.ack == Ack::Leader;
        if is_over && self.election.term().strict {
            self.step(Input::Strict(false));
        }
    }
}
