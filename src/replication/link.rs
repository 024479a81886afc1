//! The thread `repl-in`: keeps up the link to the leader, and applies what comes in over it.
//!
//! ```text
//! wait for a target ─▶ dial ─▶ AUTH ─▶ REPLICATE ─▶ records ─ apply ─ write ─ ACK ─ records ─ …
//!         ▲                                            │
//!         └──────────── back off, jittered ◀───────────┘ any error
//! ```
//!
//! It is the only thread that appends to a follower's log, so the log's end is where it left it. Each byte is
//! checked before it is applied. After an error the link is dropped, and the next one asks for what comes
//! after the last good record. A full copy is taken only when the leader has nothing that fits.
//!
//! An ACK answers a heartbeat. What it calls applied has been written by then, so it survives `kill -9`; under
//! `appendfsync always` it is durable.

use super::copy;
use super::dial::{Purpose, connect_to};
use super::incoming::{Incoming, Item, LinkError};
use super::wire::{self, Ack, DECLINE, HANDOVER, Heartbeat};
use crate::aof::record::Position;
use crate::cluster::message::Input;
use crate::cluster::shared::Cluster;
use crate::cluster::state::{FollowTarget, LeaderAddr};
use crate::cluster::term::Memory;
use crate::config::Fsync;
use crate::engine::{Engine, Persistence};
use crate::rarely::Rarely;
use crate::store::Event;
use crate::store::effect::Seq;
use crossbeam_channel::bounded;
use std::convert::Infallible;
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// The first wait between tries.
const BACK_OFF_MIN: Duration = Duration::from_millis(50);
/// The same, for a leader that was elected: it may just be writing the first record of its epoch.
const BACK_OFF_ELECTED_MIN: Duration = Duration::from_millis(5);
/// Waits are doubled up to this and jittered, so that followers of one leader do not all come back at once.
const BACK_OFF_MAX: Duration = Duration::from_secs(2);
/// For one address of the leader's name.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs until shutdown.
pub fn run(engine: &Engine) {
    let Some(persistence) = &engine.persistence else { return };
    while let Some(target) = next_target(engine) {
        let said = Rarely::default();
        LeaderLink { engine, persistence, target: &target, said: &said }.keep_up();
    }
}

/// Waits until there is a node to follow. None at shutdown.
fn next_target(engine: &Engine) -> Option<FollowTarget> {
    let mut target = None;
    engine.role.changed.wait_until(None, || {
        target = engine.role.target();
        target.is_some() || engine.shutdown.is_requested()
    });
    if engine.shutdown.is_requested() { None } else { target }
}

/// The links to one leader, one after another.
pub struct LeaderLink<'e> {
    pub(super) engine: &'e Engine,
    pub(super) persistence: &'e Persistence,
    pub(super) target: &'e FollowTarget,
    /// Complaints about this leader that are in the log.
    pub(super) said: &'e Rarely,
}

impl LeaderLink<'_> {
    /// Links, again and again, until there is another target or none, or the server ends.
    fn keep_up(&self) {
        let role = &self.engine.role;
        let (least, most) = self.back_off();
        let mut wait = least;
        while !self.is_over() {
            let links = role.figures.lock().links;
            let Err(error) = self.link();
            role.end_link(self.engine.uptime_ms());
            self.engine.loading.set_active(false);
            self.persistence.log.written_moved.notify();
            if role.figures.lock().links > links {
                wait = least;
            }
            if matches!(error, LinkError::Lead) {
                let led = self.engine.take_lead(self.target);
                role.close_offer();
                match led {
                    Ok(()) => return,
                    Err(error) => log::error!("{error}"),
                }
            }
            if matches!(error, LinkError::Again) || self.is_over() {
                continue;
            }
            self.report_error(&error);
            let jitter = fastrand::u64(..=wait.as_millis() as u64);
            let deadline = Instant::now() + wait / 2 + Duration::from_millis(jitter / 2);
            role.changed.wait_until(Some(deadline), || self.is_over());
            wait = (2 * wait).min(most);
        }
    }

    /// The first and the longest pause between two tries. An elected leader is there, or about to be, and its followers
    /// are few; under `ack majority` writers wait for the first of them.
    fn back_off(&self) -> (Duration, Duration) {
        let Some(cluster) = &self.engine.cluster else { return (BACK_OFF_MIN, BACK_OFF_MAX) };
        let most = Duration::from_millis((cluster.settings.timeout_ms / 10).max(20));
        (BACK_OFF_ELECTED_MIN, most)
    }

    fn is_over(&self) -> bool {
        !self.engine.role.is_in_force(self.target) || self.engine.shutdown.is_requested()
    }

    fn report_error(&self, error: &LinkError) {
        let text = error.to_string();
        let mut figures = self.engine.role.figures.lock();
        figures.rejected += u64::from(matches!(error, LinkError::Garbled(_)));
        figures.error = Some(text.clone());
        drop(figures);
        let text = format!("link to {}: {text}", self.target.leader);
        if self.said.is_due(&text) {
            log::warn!("{text}; trying again");
        }
    }

    /// Follows over one link until an error ends it.
    fn link(&self) -> Result<Infallible, LinkError> {
        // With a full disk, a link would be of no use.
        self.persistence.log.check().map_err(LinkError::own)?;
        self.persistence.check_directory().map_err(LinkError::own)?;
        let mut incoming = Incoming::new(self.dial()?);
        let end = self.agree(&mut incoming)?;
        self.stream(&mut incoming, end)
    }

    fn dial(&self) -> io::Result<TcpStream> {
        let socket = self.connect()?;
        let timeout = self.engine.link_timeout();
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(timeout))?;
        socket.set_write_timeout(Some(timeout))?;
        let cut = socket.try_clone()?;
        let cut = Box::new(move || cut.shutdown(Shutdown::Both).is_ok());
        // A shutdown that came before this has not cut the link.
        let is_begun = self.engine.role.begin_link(self.target, cut);
        if !is_begun || self.engine.shutdown.is_requested() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(socket)
    }

    /// Waits for a thread that dials. Neither a name server nor a connection in the making can be
    /// interrupted, and a shutdown waits for neither: then that thread is left to itself.
    fn connect(&self) -> io::Result<TcpStream> {
        let LeaderAddr { host, port } = self.target.leader.clone();
        let changed = Arc::clone(&self.engine.role.changed);
        let (dialled_tx, dialled_rx) = bounded(1);
        let dial = move || {
            let _ = dialled_tx.send(connect_to(Purpose::Link, &host, port, DIAL_TIMEOUT));
            changed.notify();
        };
        thread::Builder::new().name("repl-dial".to_string()).spawn(dial)?;
        let is_over = || !dialled_rx.is_empty() || self.engine.shutdown.is_requested();
        self.engine.role.changed.wait_until(None, is_over);
        dialled_rx.try_recv().unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()))
    }

    /// Applies records for as long as they come. The leader's log ended at `end` when it answered.
    fn stream(&self, incoming: &mut Incoming, end: Seq) -> Result<Infallible, LinkError> {
        let role = &self.engine.role;
        role.link_came_up(self.engine.uptime_ms());
        let mut asked = None;
        let mut acked = None::<Instant>;
        let mut told = None;
        let mut members = self.persistence.log.members().map(|members| members.seq);
        let mut catching_up = Some(end);
        while !self.engine.shutdown.is_requested() {
            // The first time, a copy may have left something in the buffer.
            let has_heartbeat = self.apply_waiting(incoming)?;
            self.make_safe()?;
            role.freshness.reached(self.persistence.log.appended());
            // A heartbeat without news is answered now and then. In the middle of a large record, too, the
            // leader must know that this node is alive.
            let news = Some((self.persistence.promised(), self.persistence.log.durable()));
            self.follow_members(&mut members)?;
            self.note_caught_up(&mut catching_up)?;
            let has_news = has_heartbeat && told != news;
            if has_news || acked.is_none_or(|at| at.elapsed() >= copy::ACK_EVERY) {
                acked = Some(Instant::now());
                told = news;
                self.acknowledge(incoming)?;
            }
            let request = role.handover_requested();
            if request.is_some() && request != asked {
                let line = wire::seq_line(HANDOVER, self.persistence.log.appended());
                incoming.socket().write_all(&line)?;
                asked = request;
            }
            let bytes = incoming.read()?;
            self.heard(bytes);
        }
        Err(LinkError::Again)
    }

    /// Bytes have come in.
    pub(super) fn heard(&self, bytes: usize) {
        let mut figures = self.engine.role.figures.lock();
        figures.received_bytes += bytes as u64;
        figures.heard_at = self.engine.uptime_ms();
    }

    /// Applies everything that is here. Returns whether there was a heartbeat among it.
    fn apply_waiting(&self, incoming: &mut Incoming) -> Result<bool, LinkError> {
        let mut events = Vec::new();
        let result = self.apply_items(incoming, &mut events);
        self.announce(&mut events)?;
        result
    }

    /// Sends subscribers the events of what was applied, once it is as safe as is promised.
    fn announce(&self, events: &mut Vec<Event>) -> Result<(), LinkError> {
        if !events.is_empty() {
            self.make_safe()?;
            self.engine.publish_events(std::mem::take(events));
        }
        Ok(())
    }

    fn apply_items(
        &self,
        incoming: &mut Incoming,
        events: &mut Vec<Event>,
    ) -> Result<bool, LinkError> {
        let log = &self.persistence.log;
        log.admit().map_err(LinkError::own)?;
        let mut last = log.last();
        let mut has_heartbeat = false;
        loop {
            let (item, used) = incoming.item(last)?;
            match item {
                Item::NeedMore => return Ok(has_heartbeat),
                Item::Heartbeat(heartbeat) => {
                    self.record_heartbeat(&heartbeat);
                    has_heartbeat = true;
                }
                Item::Message(channel, payload) => {
                    self.announce(events)?;
                    self.engine.deliver_forwarded(channel, payload);
                }
                Item::Lead(seq) if let Some(cluster) = self.offered(seq, last.seq) => {
                    cluster.inbox.put(Input::Promote);
                }
                Item::Lead(seq) if seq == last.seq => {
                    if self.engine.role.accept_offer(self.target) {
                        return Err(LinkError::Lead);
                    }
                    incoming.socket().write_all(&wire::seq_line(DECLINE, seq))?;
                }
                Item::Lead(_) => return Err(LinkError::Garbled("a handover")),
                Item::Record(header, record) => {
                    let epoch = self.target.elected.map(|(_, epoch)| epoch);
                    let applied =
                        self.engine.apply_record(self.persistence, &header, record, epoch);
                    let applied = applied.map_err(|malformed| LinkError::Garbled(malformed.0))?;
                    events.extend(applied.ok_or(LinkError::Again)?);
                    last = Position { seq: header.seq, epoch: header.epoch, crc: header.crc };
                }
            }
            incoming.consume(used);
        }
    }

    /// The cluster in which this node may ask for votes now, because the leader wants to hand over to it.
    fn offered(&self, seq: Seq, last: Seq) -> Option<&Cluster> {
        self.engine.cluster.as_ref().filter(|_| seq == last)
    }

    fn record_heartbeat(&self, heartbeat: &Heartbeat) {
        let Heartbeat { seq, behind_ms, echo, hops, commit, .. } = *heartbeat;
        let role = &self.engine.role;
        self.engine.heard_commit(commit);
        let now = self.engine.uptime_ms();
        role.figures.lock().leader_seq = seq;
        role.freshness.heartbeat(seq, behind_ms, echo, now);
        if let Some(is_found) = role.record_hops(hops, now) {
            self.report_circle(is_found);
        }
    }

    /// Logs that the nodes which are followed turn out to follow each other, or that one of them leads again.
    fn report_circle(&self, is_leader_found: bool) {
        let leader = &self.target.leader;
        if is_leader_found {
            self.engine.role.figures.lock().error = None;
            log::warn!("link to {leader}: there is a node that leads again");
            return;
        }
        let text = format!(
            "no node leads: {leader} and the nodes that it follows, follow each other in a circle; \
             REPLICAOF NO ONE makes one of them the leader"
        );
        if self.said.is_due("circle") {
            log::warn!("link to {leader}: {text}");
        }
        self.engine.role.figures.lock().error = Some(text);
    }

    /// Another members record may have come in. Before anything after it is acknowledged, it is durable what an
    /// acknowledgement means.
    fn follow_members(&self, known: &mut Option<Seq>) -> Result<(), LinkError> {
        let Some(cluster) = &self.engine.cluster else { return Ok(()) };
        let newest = self.persistence.log.members().map(|members| members.seq);
        if *known != newest {
            if !cluster.inbox.order(Input::Members(None)) {
                return Err(LinkError::own("the file 'node' cannot be written"));
            }
            *known = newest;
        }
        Ok(())
    }

    /// A node that may have forgotten records is whole again when it has, durably, all that its leader had when the
    /// link came up.
    fn note_caught_up(&self, target: &mut Option<Seq>) -> Result<(), LinkError> {
        let (Some(cluster), Some((_, epoch))) = (&self.engine.cluster, self.target.elected) else {
            return Ok(());
        };
        let log = &self.persistence.log;
        if target.is_some_and(|target| log.appended() >= target) {
            *target = None;
            if self.persistence.term().memory == Memory::Recovering {
                log.sync().map_err(LinkError::own)?;
                cluster.inbox.put(Input::CaughtUp(epoch));
            }
        }
        Ok(())
    }

    /// Makes what was applied as safe as this node's policy says.
    fn make_safe(&self) -> Result<(), LinkError> {
        let log = &self.persistence.log;
        let result = match self.persistence.gate.policy.get() {
            Fsync::Always => log.sync(),
            _ => log.ensure_written(log.appended()),
        };
        result.map(drop).map_err(LinkError::own)
    }

    /// Everything in the buffer has been processed.
    fn acknowledge(&self, incoming: &Incoming) -> Result<(), LinkError> {
        let log = &self.persistence.log;
        let ack = Ack {
            received: log.appended(),
            bytes: incoming.received(),
            applied: self.persistence.promised(),
            durable: log.durable(),
            // 0 would mean that the clock is unknown.
            clock: self.engine.uptime_ms().max(1),
            // Read after the records: what was acknowledged in an epoch was there before a later one was adopted.
            epoch: self.engine.cluster.as_ref().map(Cluster::epoch),
        };
        let is_silent = self.engine.cluster.as_ref().is_some_and(Cluster::is_silent);
        if !self.is_bound() || is_silent {
            return Err(LinkError::Again);
        }
        Ok(incoming.socket().write_all(&ack.line())?)
    }
}
