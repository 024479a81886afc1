//! The gate: when a reply may leave, and its sending.
//!
//! | `appendfsync` | a reply waits until the records it depends on are | so they survive |
//! |---|---|---|
//! | `always` | durable (`fdatasync` returned) | kill -9, a crash of the system, a power cut |
//! | an interval, `no` | written (`write` returned) | kill -9 |
//!
//! A batch of replies depends on the records that its commands wrote, and on the newest record of each shard
//! that they read. So a reader never learns of a write that could still be lost on the same terms.
//!
//! Under `always` many clients wait for one disk. With one client, syncing in the client's own thread is
//! quickest. With several, a waiting thread costs two context switches. So a connection that finds a sync
//! going on, or a crowd at the sync thread, *parks* its replies (`parking.rs`) and goes on reading. The sync
//! thread sends them after its next sync. While one batch of a connection is parked, its next ones are
//! parked after it.
//!
//! One exception, while the log cannot be written (disk full): readers pass, because an operator needs to
//! see the data most just then. They may see writes that were answered with `-MISCONF` and that will be
//! logged when there is space again.

use super::confirm::{Needs, Unconfirmed, Verdict};
use super::parking::{Batch, Parked, Parking, Place, UncertainReplies};
use super::{Engine, Persistence, Session};
use crate::aof::log::LogError;
use crate::aof::stats::Stages;
use crate::clients::Client;
use crate::clients::outbox::SendError;
use crate::clock::Stopwatch;
use crate::config::{Fsync, FsyncCell, OutputLimit};
use crate::error::{Failure, Kind};
use crate::metrics::Stat;
use crate::observe::cut::record_cut;
use crate::observe::probe::Unsettled;
use crate::protocol::Reply;
use crate::store::effect::Seq;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The gate's answer for a batch of replies.
#[derive(Debug)]
pub enum GateOutcome {
    /// They may leave. What making the log safe took, if this thread had to do it.
    Open(Option<Stages>),
    /// They must be parked.
    Park,
    /// The log failed.
    Failed(LogError),
}

/// The state of the gate.
#[derive(Debug)]
pub struct Gate {
    /// `appendfsync`.
    pub(crate) policy: FsyncCell,
    /// True if the sync thread served several batches the last time: one more had better join them than sync
    /// alone and make them wait.
    pub(super) is_crowded: AtomicBool,
    pub(crate) parking: Parking,
}

impl Persistence {
    /// Records up to here are as safe as `appendfsync` promises.
    pub fn promised(&self) -> Seq {
        self.safe_under(self.gate.policy.get() == Fsync::Always)
    }

    fn safe_under(&self, is_always: bool) -> Seq {
        if is_always { self.log.durable() } else { self.log.written() }
    }

    /// Makes everything up to `needed` as safe as promised, if this thread can do that without waiting for
    /// others.
    fn try_pass(&self, needed: Seq, has_parked: bool) -> GateOutcome {
        let is_always = self.gate.policy.get() == Fsync::Always;
        if has_parked {
            if !is_always {
                // Replies that wait for other nodes are parked, and no sync is near. The log remembers an error.
                let _ = self.log.ensure_written(needed);
            }
            return GateOutcome::Park;
        }
        if self.safe_under(is_always) >= needed {
            return GateOutcome::Open(None);
        }
        let result = if !is_always {
            self.log.ensure_written(needed)
        } else if self.gate.is_crowded.load(Relaxed) {
            return GateOutcome::Park;
        } else if let Some(result) = self.log.try_sync() {
            result
        } else {
            return GateOutcome::Park;
        };
        result.map_or_else(GateOutcome::Failed, |stages| GateOutcome::Open(Some(stages)))
    }

    /// Makes everything up to `needed` as safe as promised, in this thread. If another thread has synced what
    /// this session `wrote`, that sync's stages are returned.
    pub fn pass_blocking(&self, needed: Seq, wrote: bool) -> Result<Stages, LogError> {
        if self.gate.policy.get() != Fsync::Always {
            self.log.ensure_written(needed)
        } else if wrote || self.log.durable() < needed {
            self.log.sync()
        } else {
            Ok(Stages::default())
        }
    }
}

impl Engine {
    /// Passes the gate with what has been answered and sends it. An error means that the client is gone or
    /// has been cut off.
    pub fn flush(&self, session: &mut Session, reply: &mut Reply) -> Result<(), SendError> {
        if reply.is_over_limit() {
            let error = SendError::OverLimit(reply.bytes().len());
            record_cut(&self.metrics, session.client.addr, &error);
            return Err(error);
        }
        let Session { monitoring, client, .. } = session;
        let begins_monitoring =
            monitoring.begin(&self.instruments.monitors, client, self.clients.memory());
        let is_open = self.pass_gate(session, reply)?;
        if is_open && !reply.bytes().is_empty() {
            self.send_replies(session, reply)?;
        }
        if begins_monitoring {
            // The first line comes after the reply to MONITOR.
            session.client.wait_unparked();
        }
        session.monitoring.feed(&session.config, &self.metrics)
    }

    /// Sends a session's replies that have passed the gate.
    pub(crate) fn send_replies(
        &self,
        session: &mut Session,
        reply: &mut Reply,
    ) -> Result<(), SendError> {
        let limit = session.output_limit();
        let sent = self.send(&session.client, reply, limit, &mut session.probe.unsettled);
        reply.clear();
        sent
    }

    fn send(
        &self,
        client: &Client,
        reply: &Reply,
        limit: OutputLimit,
        unsettled: &mut Unsettled,
    ) -> Result<(), SendError> {
        let stopwatch = unsettled.is_observed().then(Stopwatch::start);
        let sent = client.outbox.send(reply.bytes(), reply.largest_value(), limit);
        if let Some(stopwatch) = stopwatch {
            unsettled.sent(stopwatch.nanos());
        }
        self.metrics[Stat::OutputBytes].add(reply.bytes().len() as u64);
        sent.inspect_err(|error| record_cut(&self.metrics, client.addr, error))
    }

    /// Passes the gate with a batch: its replies, which are to be sent now (true) or have been parked, and its
    /// messages to subscribers. An error means that too much is parked for this client.
    pub fn pass_gate(&self, session: &mut Session, reply: &mut Reply) -> Result<bool, SendError> {
        let needed = session.depends_on;
        self.wait_for_messages(session);
        let needs = self.needs(session, needed, session.wrote);
        let passed = self.pass_or_park(session, reply, needs);
        if !session.notices.is_empty() {
            let notices = std::mem::take(&mut session.notices);
            if !matches!(passed, Ok(true)) {
                session.client.wait_unparked();
            }
            // A write that the log has refused, or the other nodes do not have, is not announced.
            let is_confirmed = |persistence: &Persistence| {
                let verdict = |needs: Needs| self.judge(persistence, &needs);
                persistence.promised() >= needed
                    && needs.is_none_or(|needs| verdict(needs) == Verdict::Leave)
            };
            if self.persistence.as_ref().is_none_or(is_confirmed) {
                self.deliver_notices(notices, &mut session.last_message);
                self.wait_for_messages(session);
            }
        }
        passed
    }

    fn pass_or_park(
        &self,
        session: &mut Session,
        reply: &mut Reply,
        needs: Option<Needs>,
    ) -> Result<bool, SendError> {
        session.probe.flush(&self.metrics);
        let began = session.probe.stopwatch;
        let needed = std::mem::take(&mut session.depends_on);
        let uncertain = session.uncertain_replies.take();
        let unconfirmed = session.unconfirmed.take();
        session.wrote = false;
        let depends_on_nothing = needed == Seq(0) && reply.bytes().is_empty();
        let mut stages = None;
        if let Some(persistence) = &self.persistence
            && !depends_on_nothing
        {
            let mut outcome = persistence.try_pass(needed, session.client.has_parked());
            if let Some(needs) = needs.as_ref().filter(|_| !matches!(outcome, GateOutcome::Park)) {
                match self.judge(persistence, needs) {
                    Verdict::Leave => {}
                    Verdict::Wait => {
                        self.report_own_level(persistence);
                        outcome = GateOutcome::Park;
                    }
                    Verdict::Refuse => {
                        self.refuse_unconfirmed(reply, unconfirmed);
                        session.probe.unsettled.left(self, &session.client, began, stages);
                        return Ok(true);
                    }
                }
            }
            match outcome {
                GateOutcome::Open(own) => stages = own,
                GateOutcome::Park => {
                    let errors = (uncertain, unconfirmed);
                    self.park(persistence, session, reply, (needed, needs), errors)?;
                    return Ok(false);
                }
                GateOutcome::Failed(error) => refuse(reply, uncertain, &error),
            }
        }
        session.probe.unsettled.left(self, &session.client, began, stages);
        Ok(true)
    }

    fn park(
        &self,
        persistence: &Persistence,
        session: &mut Session,
        reply: &mut Reply,
        (needed, needs): (Seq, Option<Needs>),
        (uncertain, unconfirmed): (Option<UncertainReplies>, Option<Unconfirmed>),
    ) -> Result<(), SendError> {
        let limit = session.output_limit();
        let client = &session.client;
        let before = if client.has_parked() { session.parked_until } else { Seq(0) };
        client
            .park(reply, limit)
            .inspect_err(|error| record_cut(&self.metrics, client.addr, error))?;
        session.parked_until = before.max(needed);
        let place = session.place.get_or_insert_with(|| Place::of(client));
        let (place, mut batch) = (Arc::clone(place), place.batch());
        reply.park_in(&mut batch.reply, client.outbox.room(limit));
        std::mem::swap(&mut session.probe.unsettled, &mut batch.unsettled);
        batch.bytes = batch.reply.bytes().len();
        batch.began = session.probe.stopwatch;
        (batch.uncertain, batch.unconfirmed, batch.limit) = (uncertain, unconfirmed, limit);
        let (client, until) = (client.id, session.parked_until);
        persistence.gate.parking.park(Parked { place, client, until, needs, batch });
        // Among nodes that elect their leader, a batch may wait for the others alone: then no sync frees it.
        if self.cluster.is_none() || persistence.promised() < session.parked_until {
            persistence.log.work.notify();
        }
        // Its confirmation may have come just before it was parked.
        if needs.is_none_or(|needs| self.judge(persistence, &needs) != Verdict::Wait) {
            self.release_parked_of_cluster();
        }
        Ok(())
    }

    /// Sends the parked replies that may leave by now; to be called after a watermark has moved. `stages`
    /// says what that took. After an error all of them leave, those of writes as errors; reads go on, as
    /// everywhere while the log fails. Returns how many batches left.
    pub(crate) fn release_parked(
        &self,
        persistence: &Persistence,
        stages: &Result<Stages, LogError>,
    ) -> usize {
        let safe = persistence.promised();
        let rounds = self.rounds();
        let judge = |parked: &Parked| {
            if self.cluster.is_some() {
                let judge = |needs| self.judge_by(rounds, persistence, needs);
                return parked.needs.as_ref().map_or(Verdict::Leave, judge);
            }
            // The log has been cut back below a record that a batch has read: it will never be safe.
            let is_gone = parked.until > persistence.log.appended();
            let leaves = stages.is_err() || parked.until <= safe || is_gone;
            if leaves { Verdict::Leave } else { Verdict::Wait }
        };
        persistence.gate.parking.leave(judge, |Parked { place, until, mut batch, .. }, verdict| {
            let client = &place.client;
            if verdict == Verdict::Refuse {
                let unconfirmed = batch.unconfirmed.take();
                self.refuse_unconfirmed(&mut batch.reply, unconfirmed);
            } else if let Err(error) = stages
                && until > safe
            {
                refuse(&mut batch.reply, batch.uncertain.take(), error);
            }
            let stages = stages.as_ref().copied().unwrap_or_default();
            batch.unsettled.left(self, client, batch.began, Some(stages));
            client.outbox.unpark(batch.bytes);
            let Batch { reply, limit, unsettled, .. } = &mut *batch;
            // An error means that the client is gone or has been cut off: it will not miss them.
            let _ = self.send(client, reply, *limit, unsettled);
            place.give_back(batch);
            client.unpark();
        })
    }
}

/// Turns the replies to writes that are not as safe as promised into errors.
fn refuse(reply: &mut Reply, uncertain: Option<UncertainReplies>, error: &LogError) {
    if let Some((mark, replies)) = uncertain {
        reply.rewind(&mark);
        let failure = misconf(error);
        (0..replies).for_each(|_| reply.error(&failure));
    }
}

/// The refusal of a write while the log cannot be written.
pub fn misconf(error: &LogError) -> Failure {
    let refusal = Failure::new(format!("MISCONF Errors writing to the AOF file: {error}"));
    refusal.of_kind(Kind::Unavailable)
}
