//! A follower and its leader agree on where to go on, and records that only the follower has are saved.
//!
//! One rule always holds: no record is replaced before it is **proven** to be part of the leader's history.
//! The proof is the record itself, which the leader names (`CONTINUE`), or the list of epochs: both have an
//! epoch that began with the very same record, and the leader's goes at least as far in it. Everything else is
//! saved to `diverged/` first, logged as a warning and counted, whichever node wrote it first: the others may
//! have lost it.

use super::copy::{self, Arrived};
use super::dial;
use super::diverged::{self, DIVERGED, Lost};
use super::incoming::{Incoming, LinkError};
use super::link::LeaderLink;
use super::replacement::{self, Pending, Purpose};
use super::truncate;
use super::wire::{Answer, Elected, Request};
use crate::aof::record::{Epoch, Position};
use crate::cluster::message::Input;
use crate::cluster::state::LeaderAddr;
use crate::config::Id;
use crate::engine::Persistence;
use crate::protocol::quote;
use crate::store::effect::Seq;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

/// Each round goes back by an epoch at least; beyond these, a full copy is cheaper.
const ROUNDS_MAX: usize = 64;
impl LeaderLink<'_> {
    /// Agrees with the leader on where to go on. Returns where the leader's log ended when it answered.
    pub fn agree(&self, incoming: &mut Incoming) -> Result<Seq, LinkError> {
        self.resolve_copy()?;
        self.authenticate(incoming)?;
        let own = self.persistence.log.last();
        let mut ask = own;
        for _ in 0..ROUNDS_MAX {
            let request = self.request(ask);
            dial::send(incoming.socket(), &request.words())?;
            let line = incoming.line()?;
            if let Some(refusal) = line.strip_prefix(b"-") {
                return Err(LinkError::Refused(String::from_utf8_lossy(refusal).into_owned()));
            }
            let elected = self.elected();
            let answer = Answer::parse(&line, &request, elected.as_ref());
            let (answer, end) = answer.ok_or(LinkError::Garbled("an answer"))?;
            log::info!("the leader answers {answer:?}, for {} of epoch {}", ask.seq, ask.epoch.0);
            self.warn_of_end(end, own.seq);
            ask = match answer {
                Answer::Continue(_) if ask == own => return Ok(end),
                Answer::Continue(_) if ask.seq == Seq(0) => {
                    let base = copy::Base { seq: Seq(0), bytes: 0 };
                    return self.copy(incoming, base, end).map(|()| end);
                }
                Answer::Continue(_) => {
                    self.give_up_after(ask.seq, own)?;
                    // A compaction has just removed the base that leads back to there. The leader sends
                    // records on this connection by now, so the next request needs another one.
                    return Err(LinkError::Again);
                }
                Answer::Full { seq, bytes } => {
                    return self.copy(incoming, copy::Base { seq, bytes }, end).map(|()| end);
                }
                Answer::Behind(at) | Answer::Diverged(at) if !self.shares(at) => {
                    self.earlier(at)?
                }
                Answer::Behind(_) => {
                    let why = "it has only come to a record before this node's last";
                    return Err(LinkError::Refused(why.to_string()));
                }
                // Records are not given up for an answer that cannot be true.
                Answer::Diverged(at) if at.seq >= ask.seq => {
                    return Err(LinkError::Garbled("an answer that contradicts itself"));
                }
                Answer::Diverged(at) => {
                    self.give_up_after(at.seq, own)?;
                    // The end of the log could not be cut off; only starting over is left.
                    Position::default()
                }
            };
        }
        Err(LinkError::Refused("it does not come to an end about where to go on".to_string()))
    }

    /// Takes over, or sets aside, a complete copy that could not be taken over earlier, because the disk failed.
    fn resolve_copy(&self) -> Result<(), LinkError> {
        let Persistence { log, dir, .. } = self.persistence;
        match replacement::pending(dir)? {
            None => Ok(()),
            Some(Pending { purpose, .. }) if purpose.holds(Some(&self.leader()), log.last()) => {
                self.take_over(&purpose, || ())
            }
            Some(_) => {
                replacement::drop_pending(dir)?;
                self.persistence.aside.note_change();
                Ok(())
            }
        }
    }

    fn leader(&self) -> String {
        format!("{} {}", self.target.leader.host, self.target.leader.port)
    }

    /// Warns if the leader's log ends before this node's.
    fn warn_of_end(&self, end: Seq, own: Seq) {
        if end < own && self.said.is_due("end") {
            let LeaderAddr { host, port } = &self.target.leader;
            log::warn!(
                "the log of the leader {host}:{port} ends at record {end}, before this node's last, {own}: \
                 it has lost records, or never had them. Nothing is given up here before it is saved in \
                 diverged/, unless the leader is itself a follower that still receives them"
            );
        }
    }

    /// True if the record is in the same epoch here and there: then the logs are the same up to it.
    fn shares(&self, at: Position) -> bool {
        let log = &self.persistence.log;
        let own = log.outline().epochs.of(at.seq).filter(|_| at.seq <= log.appended());
        own.is_some_and(|own| own.epoch == at.epoch && own.crc == at.crc)
    }

    fn authenticate(&self, incoming: &mut Incoming) -> Result<(), LinkError> {
        let Some(password) = dial::password(&self.engine.config) else { return Ok(()) };
        dial::send(incoming.socket(), &["AUTH", &password])?;
        match dial::auth_refusal(&incoming.line()?) {
            Some(refusal) => Err(LinkError::Refused(refusal)),
            None => Ok(()),
        }
    }

    fn elected(&self) -> Option<Elected> {
        self.target.elected.map(|(id, epoch)| Elected { id, epoch })
    }

    /// True unless the leader was elected and its epoch is over: then its word counts for nothing any more.
    pub(super) fn is_bound(&self) -> bool {
        self.target.elected.is_none_or(|(_, epoch)| self.engine.is_in_epoch(epoch))
    }

    fn request(&self, last: Position) -> Request {
        let config = &self.engine.config;
        let announced = config.int(Id::ReplicaAnnouncePort) as u16;
        let port = if announced > 0 { announced } else { self.engine.port.load(Relaxed) };
        let host = config.text(Id::ReplicaAnnounceIp);
        let (node_id, run_id) = (self.persistence.node_id.clone(), self.engine.run_id.clone());
        let cluster = self.engine.cluster.as_ref();
        let cluster = cluster.map(|cluster| (self.persistence.term().cluster, cluster.epoch()));
        Request { node_id, last, host, port, run_id, cluster }
    }

    /// Given that the leader has another epoch at that record, the last of our records that the two histories
    /// can share. Zeros, for starting over, if the state at that record cannot be rebuilt here.
    fn earlier(&self, at: Position) -> Result<Position, LinkError> {
        let Persistence { log, dir, .. } = self.persistence;
        let seq = at.seq.min(log.last().seq);
        let seq = log.outline().epochs.last_before(seq, at.epoch);
        let Some(seq) = seq else { return Ok(Position::default()) };
        if !truncate::can_rewind(dir, seq).map_err(LinkError::own)? {
            return Ok(Position::default());
        }
        Ok(truncate::position_at(dir, seq)?.unwrap_or_default())
    }

    /// Saves, reports and cuts off the records that only this node has, and dials again. If the state before
    /// them cannot be rebuilt here, nothing is cut off.
    fn give_up_after(&self, last: Seq, end: Position) -> Result<(), LinkError> {
        let Persistence { log, dir, .. } = self.persistence;
        if !truncate::can_rewind(dir, last).map_err(LinkError::own)? {
            return Ok(());
        }
        log.sync().map_err(LinkError::own)?;
        let path = diverged::save(dir, last, end)?;
        self.persistence.aside.note_change();
        self.report_lost(&diverged::lost_after(dir, last, || ())?, &path);
        let begins = || self.starts_over();
        let bound = || self.is_bound();
        let rewound = self.persistence.rewind(&self.engine.store, last, begins, bound);
        // None if a compaction has just made a base that is too new; the next try finds that.
        let Some(position) = rewound.map_err(LinkError::Own)? else { return Err(LinkError::Again) };
        self.history_changed();
        log::warn!("the log goes on after record {}, as the leader's does", position.seq);
        Err(LinkError::Again)
    }

    /// Logs and counts the writes that are saved in `path`, or are about to be.
    fn report_lost(&self, lost: &Lost, path: &Path) {
        let path = path.display().to_string();
        if lost.writes == 0 {
            log::info!(
                "no write is given up, only the beginning of an epoch or a record of members; it is kept in {path}"
            );
            return;
        }
        let mut figures = self.engine.role.figures.lock();
        // Records saved earlier, over a link that then broke, are not reported and counted again.
        if figures.diverged_file.replace(path.clone()).as_ref() == Some(&path) {
            return;
        }
        figures.diverged_records += lost.writes;
        drop(figures);
        let keys: Vec<String> = lost.keys.iter().map(|key| quote(key)).collect();
        log::warn!(
            "{} writes that only this node had are not in its leader's history; they are saved in {path} \
             (kvstore log reads it) and changed {}{}",
            lost.writes,
            keys.join(" "),
            if lost.more_keys { " …" } else { "" }
        );
    }

    /// Starts over from a full copy, of a leader whose log ends at `end`.
    fn copy(&self, incoming: &mut Incoming, base: copy::Base, end: Seq) -> Result<(), LinkError> {
        let Persistence { log, dir, .. } = self.persistence;
        self.engine.role.link_copies();
        let own = log.last();
        // A node without records has nothing to compare with the rest of the leader's log.
        let upto = if own.seq > Seq(0) { end } else { Seq(0) };
        let heard = |bytes| self.heard(bytes);
        let arrived = copy::receive(self.persistence, incoming, base, upto, heard)?;
        log.sync().map_err(LinkError::own)?;
        let mut alive = copy::Alive::new(incoming);
        let aside = self.keep_aside(&arrived, own, || alive.signal())?;
        let (leader, reaches) = (self.leader(), arrived.last.seq);
        let purpose = Purpose { leader, replaces: own, reaches, aside };
        replacement::commit(dir, &purpose)?;
        self.take_over(&purpose, || alive.signal())
    }

    /// The directory in `diverged/` for the log that a copy replaces; empty if the copy is proven to hold all
    /// of it.
    fn keep_aside(
        &self,
        arrived: &Arrived,
        own: Position,
        working: impl FnMut(),
    ) -> Result<String, LinkError> {
        let Persistence { log, dir, .. } = self.persistence;
        let Arrived { epochs, last } = arrived;
        let shared = log.outline().epochs.last_shared(own.seq, epochs, last.seq);
        if shared == own.seq {
            return Ok(String::new());
        }
        let lost = diverged::lost_after(dir, shared, working)?;
        if lost.writes == 0 && !lost.based {
            return Ok(String::new());
        }
        let aside = format!("all-{}-{:08x}", own.seq, own.crc);
        self.report_lost(&lost, &dir.join(DIVERGED).join(&aside));
        Ok(aside)
    }

    /// Makes a complete copy this node's data. A shutdown stops it on the way.
    fn take_over(&self, purpose: &Purpose, working: impl FnMut()) -> Result<(), LinkError> {
        let (engine, persistence) = (self.engine, self.persistence);
        // It begins with an older state: until this node has caught up, it lacks what it has acknowledged.
        if let Some(cluster) = &engine.cluster
            && !cluster.inbox.order(Input::Copies)
        {
            return Err(LinkError::own("the file 'node' cannot be written"));
        }
        let begins = || self.starts_over();
        let bound = || self.is_bound();
        let taken = persistence.take_over_copy(&engine.store, purpose, begins, bound, working);
        persistence.aside.note_change();
        if engine.shutdown.is_requested() {
            return Err(LinkError::Again);
        }
        engine.loading.set_active(false);
        persistence.log.written_moved.notify();
        let position = taken.map_err(LinkError::Own)?;
        self.history_changed();
        log::info!("a full copy of the leader's data has been taken over, up to {}", position.seq);
        Ok(())
    }

    /// Records were given up: the members and the commit are those of what is left.
    fn history_changed(&self) {
        if let Some(cluster) = &self.engine.cluster {
            cluster.lower_commit(self.persistence.log.appended());
            cluster.inbox.order(Input::Members(None, Epoch(0)));
        }
    }

    /// From here on, reads are refused.
    fn starts_over(&self) {
        self.engine.loading.set_active(true);
        self.engine.role.freshness.forget();
    }
}
