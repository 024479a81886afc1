//! The gate among nodes that elect their leader: what a batch needs beside a safe log before its replies may leave.
//!
//! | setting | a reply to | waits until |
//! |---|---|---|
//! | `ack leader` | a write | no other node can lead now (the *fence*), or a majority has the record (the *commit*) |
//! | `ack majority` | a write, a read | a majority has the records that it depends on |
//! | `reads index` | a read | a majority has heard a round of heartbeats begun after it |
//!
//! A batch notes the log's generation and the epoch in which it ran. The gate reads the commit first and the generation
//! second: if records were given up meanwhile, a commit above the batch's seq is that of another history. Then the batch
//! is refused, however far the commit has come. While the generation is the same, a commit that a later leader reached
//! confirms the batch as well: so a write just before a planned handover is answered with OK, also under `ack leader`.
//!
//! A batch that waited for an election timeout is refused: what wrote is in doubt, and what read must be read again.

use super::{Engine, Persistence, Session};
use crate::aof::record::Epoch;
use crate::clock::boot_millis;
use crate::cluster::message::Input;
use crate::cluster::shared::Rounds;
use crate::cluster::term::Millis;
use crate::config::Fsync;
use crate::error::{Failure, Kind};
use crate::protocol::{Mark, Reply};
use crate::store::effect::Seq;
use std::time::Duration;

static IN_DOUBT: Failure = Failure::fixed(
    "INDOUBT this write is in this node's log, but a majority was not reached; it may survive, or be found in diverged/",
)
.of_kind(Kind::InDoubt);

/// Where and when a batch began to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// See `Log::generation`.
    generation: u64,
    /// The epoch in which this node took writes; 0: none.
    led: Epoch,
}

/// What a command did with the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    #[default]
    None,
    /// It read.
    Read,
    /// It wrote.
    Wrote,
}

/// What the replies of a batch wait for.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    seq: Seq,
    ran: Ran,
    /// A command of the batch wrote.
    wrote: bool,
    /// A read has to be confirmed by a round after this one.
    round: Option<u64>,
    /// When the batch came to the gate.
    since: Millis,
}

/// The gate's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The replies may leave.
    Leave,
    /// They may leave later.
    Wait,
    /// They will never be confirmed here.
    Refuse,
}

/// The replies of a batch from the first one on that depends on data: if they are not confirmed they become errors.
#[derive(Debug)]
pub struct Unconfirmed {
    mark: Mark,
    /// For each reply, whether its command wrote.
    wrote: Vec<bool>,
}

impl Session {
    /// A batch begins.
    pub(super) fn note_ran(&mut self, engine: &Engine) {
        if let (Some(cluster), Some(persistence)) = (&engine.cluster, &engine.persistence) {
            let generation = persistence.log.generation();
            self.ran = Ran { generation, led: cluster.led() };
            self.has_met_leader |= self.ran.led > Epoch(0);
        }
    }

    /// The running command's reply waits for a record that it has appended.
    pub(crate) fn depend_on_write(&mut self, seq: Seq) {
        self.depends_on = self.depends_on.max(seq);
        self.wrote = true;
        self.access = Access::Wrote;
    }

    /// Takes what the running command did with the data.
    fn note_access(&mut self) -> Access {
        let access = std::mem::take(&mut self.access);
        if access != Access::None {
            self.last_access = access;
        }
        access
    }

    /// A command has been answered, with a reply or without one; its place in the replies is `mark`.
    pub(super) fn note_answer(&mut self, mark: Mark, is_answered: bool) {
        let access = self.note_access();
        if !is_answered || self.unconfirmed.is_none() && access == Access::None {
            return;
        }
        let none = || Unconfirmed { mark, wrote: Vec::new() };
        self.unconfirmed.get_or_insert_with(none).wrote.push(access == Access::Wrote);
    }
}

impl Engine {
    /// What this batch needs, if it has used data.
    pub(super) fn needs(&self, session: &mut Session, seq: Seq, wrote: bool) -> Option<Needs> {
        let cluster = self.cluster.as_ref()?;
        let last = std::mem::take(&mut session.last_access);
        if last == Access::None {
            return None;
        }
        // The commit of what came last confirms what was read before it.
        let is_confirmed_by_write = cluster.waits_for_majority() && last == Access::Wrote;
        // Also a node that has begun to lead since: then its epoch is not that of the batch, which is refused.
        let leads = session.ran.led.max(cluster.led()) > Epoch(0);
        let by_round = cluster.reads_by_index() && leads && !is_confirmed_by_write;
        let round = by_round.then(|| cluster.rounds().begun);
        if by_round {
            cluster.inbox.put(Input::Confirm);
        }
        Some(Needs { seq, ran: session.ran, wrote, round, since: boot_millis() })
    }

    /// Waits, for TRACE, until what the session has done so far is confirmed. Returns whether it had to be.
    pub(crate) fn confirm_now(
        &self,
        session: &mut Session,
        persistence: &Persistence,
    ) -> Result<bool, Failure> {
        let (seq, wrote) = (session.depends_on, session.wrote);
        session.note_access();
        let Some(needs) = self.needs(session, seq, wrote) else { return Ok(false) };
        session.unconfirmed = None;
        let mut verdict = Verdict::Wait;
        let deadline =
            needs.since + 2 * self.cluster.as_ref().map_or(0, |it| it.settings.timeout_ms);
        while verdict == Verdict::Wait && boot_millis() < deadline {
            self.report_own_level(persistence);
            verdict = self.judge(persistence, &needs);
            if verdict == Verdict::Wait {
                self.shutdown.wait_for(Duration::from_micros(200));
            }
        }
        match verdict {
            Verdict::Leave => Ok(true),
            _ if wrote => Err(IN_DOUBT.clone()),
            _ => Err(self.unread()),
        }
    }

    /// Tells the election how far the own log is, where no other node's acknowledgement makes it look.
    pub(super) fn report_own_level(&self, persistence: &Persistence) {
        let Some(cluster) = &self.cluster else { return };
        let is_last = cluster.is_alone() || persistence.gate.policy.get() == Fsync::Always;
        if is_last && cluster.led() > Epoch(0) && cluster.waits_for_majority() {
            // The level is read first and the epoch second.
            let level = persistence.promised();
            cluster.inbox.put(Input::Acked(cluster.id, cluster.epoch(), level));
        }
    }

    /// Decides about a batch.
    pub(super) fn judge(&self, persistence: &Persistence, needs: &Needs) -> Verdict {
        self.judge_by(self.rounds(), persistence, needs)
    }

    /// The rounds of heartbeats so far. What they confirm stays confirmed.
    pub(super) fn rounds(&self) -> Rounds {
        self.cluster.as_ref().map_or(Rounds::default(), |cluster| cluster.rounds())
    }

    /// As [`Engine::judge`], and takes no lock.
    pub(super) fn judge_by(
        &self,
        rounds: Rounds,
        persistence: &Persistence,
        needs: &Needs,
    ) -> Verdict {
        let Some(cluster) = &self.cluster else { return Verdict::Leave };
        let waits_for_majority = cluster.waits_for_majority();
        let commit = cluster.commit();
        let safe = persistence.promised().min(if waits_for_majority { commit } else { needs.seq });
        if persistence.log.generation() != needs.ran.generation {
            return Verdict::Refuse;
        }
        let is_led = cluster.led() == needs.ran.led && cluster.epoch() == needs.ran.led;
        if !is_led && needs.round.is_some() {
            return Verdict::Refuse;
        }
        let needs_fence = needs.wrote && !waits_for_majority && commit < needs.seq;
        let is_confirmed = safe >= needs.seq
            && (!needs_fence || is_led && cluster.is_fenced())
            && needs.round.is_none_or(|round| is_heard(rounds, needs.ran.led, round));
        if is_confirmed {
            Verdict::Leave
        } else if needs.since + cluster.settings.timeout_ms < boot_millis() {
            Verdict::Refuse
        } else {
            Verdict::Wait
        }
    }

    /// Sends the parked replies that are confirmed by now, and refuses those that waited too long.
    pub(crate) fn release_parked_of_cluster(&self) {
        self.deliver_held();
        if let Some(persistence) = &self.persistence
            && persistence.gate.parking.len() > 0
        {
            self.release_parked(persistence, &Ok(Default::default()));
        }
    }

    /// Makes errors of replies that are not confirmed.
    pub(super) fn refuse_unconfirmed(&self, reply: &mut Reply, unconfirmed: Option<Unconfirmed>) {
        let Some(Unconfirmed { mark, wrote }) = unconfirmed else { return };
        reply.rewind(&mark);
        let unread = self.unread();
        wrote.into_iter().for_each(|wrote| reply.error(if wrote { &IN_DOUBT } else { &unread }));
    }

    /// The refusal of a read that is not confirmed.
    fn unread(&self) -> Failure {
        if self.role.is_follower() {
            return self.role.unconfirmed();
        }
        Failure::fixed("STALE it is not certain that this node still leads; read again")
            .of_kind(Kind::Unavailable)
    }
}

/// True if a majority has heard a later round of this epoch.
fn is_heard(rounds: Rounds, led: Epoch, round: u64) -> bool {
    rounds.epoch == led && rounds.confirmed > round
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::commands;
    use crate::clock::UnixMillis;
    use crate::cluster::members::{Ack, Members, Reads, Voter};
    use crate::cluster::term::{ClusterId, NodeId};
    use crate::config::Config;

    #[test]
    fn the_clusters_policies_are_stricter_than_the_file_from_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let dir = dir.path().to_str().unwrap();
            let nodes = ("cluster-nodes", "127.0.0.1:8080,127.0.0.1:8081");
            let config = Config::for_tests(&[("dir", dir), nodes]);
            Engine::open(config, commands(), Default::default()).unwrap()
        };
        let engine = open();
        assert!(!engine.cluster.as_ref().unwrap().waits_for_majority());
        let voter = Voter { id: NodeId([1; 20]), address: "127.0.0.1:8080".to_string() };
        let (ack, reads, seq) = (Ack::Majority, Reads::Index, Seq(0));
        let members = Members { cluster: ClusterId(1), ack, reads, voters: vec![voter], seq };
        let log = &engine.persistence.as_ref().unwrap().log;
        log.append_members(members, log.epoch(), UnixMillis::now()).unwrap();
        log.sync().unwrap();
        drop(engine);
        let cluster = open().cluster.unwrap();
        assert!(cluster.waits_for_majority() && cluster.reads_by_index());
    }
}
