//! The thread `repl-in`: keeps up the link to the leader, and applies what comes in over it.
//!
//! ```text
//! wait for an order ─▶ dial ─▶ AUTH ─▶ REPLICATE ─▶ records ─ apply ─ write ─ ACK ─ records ─ …
//!        ▲                                             │
//!        └──────────── back off, jittered ◀────────────┘ anything wrong
//! ```
//!
//! It is the only thread that appends to a follower's log, so the log's end is where it left it. Each byte is
//! checked before it is applied; after an error the link is dropped and the leader is asked for what comes
//! behind the last good record. A full copy is taken only when the leader has nothing that fits.
//!
//! An ACK answers a heartbeat. What it calls applied has been written by then, so it survives `kill -9`; under
//! `appendfsync always` it is durable.

use super::copy;
use super::incoming::{Incoming, Item, LinkError};
use super::wire::{Ack, Decline, Handover, Lead};
use crate::aof::record::Position;
use crate::cluster::role::{FollowTarget, LeaderAddr};
use crate::config::{Fsync, Id};
use crate::engine::{Engine, Persistence};
use crate::rarely::Rarely;
use crate::store::Event;
use crossbeam_channel::bounded;
use fastrand::Rng;
use std::io::{self, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Waits between tries, doubled up to the latter and jittered, so that followers of one leader do not all
/// come back at once.
const BACK_OFF_MIN: Duration = Duration::from_millis(50);
const BACK_OFF_MAX: Duration = Duration::from_secs(2);
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// Runs until shutdown.
pub fn run(engine: &Engine) {
    let Some(persistence) = &engine.persistence else { return };
    let mut random = Rng::new();
    while let Some(order) = engine.role.next_order(&engine.shutdown) {
        let said = Rarely::default();
        let mut wait = BACK_OFF_MIN;
        while engine.role.is_in_force(&order) && !engine.shutdown.is_requested() {
            let links = engine.role.link.links.get();
            let mut link = LeaderLink { engine, persistence, order: &order, said: &said };
            let error = link.run();
            engine.role.end_link();
            persistence.log.wake_readers();
            if engine.role.link.links.get() > links {
                wait = BACK_OFF_MIN;
            }
            if matches!(error, LinkError::Lead) {
                let led = engine.take_lead(&order);
                engine.role.wishes.decided();
                match led {
                    Ok(()) => break,
                    Err(error) => log::error!("{error}"),
                }
            }
            let is_over = !engine.role.is_in_force(&order) || engine.shutdown.is_requested();
            if matches!(error, LinkError::Again) || is_over {
                continue;
            }
            if matches!(error, LinkError::Garbled(_)) {
                engine.role.link.rejected.increment();
            }
            *engine.role.link.error.lock() = Some(error.to_string());
            let text = format!("link to {}:{}: {error}", order.leader.host, order.leader.port);
            if said.is_due(&text) {
                log::warn!("{text}; trying again");
            }
            let jitter = random.usize(..wait.as_millis() as usize + 1) as u64;
            let pause = wait / 2 + Duration::from_millis(jitter / 2);
            engine.role.pause(&order, pause, &engine.shutdown);
            wait = (2 * wait).min(BACK_OFF_MAX);
        }
    }
}

/// One link.
pub struct LeaderLink<'e> {
    pub(super) engine: &'e Engine,
    pub(super) persistence: &'e Persistence,
    pub(super) order: &'e FollowTarget,
    /// Complaints about this leader that are in the log.
    pub(super) said: &'e Rarely,
}

impl LeaderLink<'_> {
    /// Follows until something is wrong; tells what.
    fn run(&mut self) -> LinkError {
        // With a full disk there is no use for a link.
        if let Err(error) = self.persistence.log.check() {
            return LinkError::Own(error.to_string());
        }
        if let Err(error) = self.persistence.check_directory() {
            return LinkError::Own(error.to_string());
        }
        let mut incoming = match self.dial() {
            Ok(socket) => Incoming::new(socket),
            Err(error) => return LinkError::Io(error),
        };
        match self.agree(&mut incoming).and_then(|()| self.stream(&mut incoming)) {
            Err(error) => error,
            Ok(never) => match never {},
        }
    }

    fn dial(&self) -> io::Result<TcpStream> {
        let socket = self.connect()?;
        let timeout = Duration::from_secs(self.engine.config.int(Id::ReplTimeout) as u64);
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(timeout))?;
        socket.set_write_timeout(Some(timeout))?;
        self.engine.role.link.dialled(&socket)?;
        // An order, or a shutdown, that came in between has not cut this link.
        if !self.engine.role.begin_link(self.order) || self.engine.shutdown.is_requested() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(socket)
    }

    /// Waits for a thread that dials: neither a name server nor a connection in the making can be
    /// interrupted, and a shutdown waits for neither. Then that thread is left to itself.
    fn connect(&self) -> io::Result<TcpStream> {
        let LeaderAddr { host, port } = self.order.leader.clone();
        let (moved, shutdown) = (Arc::clone(&self.engine.role.moved), &self.engine.shutdown);
        let (dialled_tx, dialled_rx) = bounded(1);
        let dial = move || {
            let _ = dialled_tx.send(connect_to(&host, port));
            moved.notify();
        };
        thread::Builder::new().name("repl-dial".to_string()).spawn(dial)?;
        let over = || !dialled_rx.is_empty() || shutdown.is_requested();
        self.engine.role.moved.wait_until(None, over);
        dialled_rx.try_recv().unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()))
    }

    /// Applies records for as long as they come.
    fn stream(&self, incoming: &mut Incoming) -> Result<std::convert::Infallible, LinkError> {
        let link = &self.engine.role.link;
        link.came_up();
        let (mut asked, mut acked, mut told) = (None, None::<Instant>, None);
        while !self.engine.shutdown.is_requested() {
            // The first time, a copy may have left something in the buffer.
            let beaten = self.apply_waiting(incoming)?;
            self.settle()?;
            link.reached(self.persistence.log.appended());
            // A heartbeat without news is answered now and then. In the middle of a large record, too, the
            // leader must know that somebody is there.
            let news = Some((self.persistence.promised(), self.persistence.log.durable()));
            if beaten && told != news || acked.is_none_or(|at| at.elapsed() >= copy::ACK_EVERY) {
                (acked, told) = (Some(Instant::now()), news);
                self.acknowledge(incoming)?;
            }
            let wish = self.engine.role.wishes.newest();
            if wish.is_some() && wish != asked {
                let handover = Handover(self.persistence.log.appended());
                incoming.socket().write_all(&handover.line())?;
                asked = wish;
            }
            link.heard(incoming.read()?);
        }
        Err(LinkError::Again)
    }

    /// Applies everything that is here; tells whether there was a heartbeat among it.
    fn apply_waiting(&self, incoming: &mut Incoming) -> Result<bool, LinkError> {
        let mut events = Vec::new();
        let result = self.apply_items(incoming, &mut events);
        self.announce(&mut events)?;
        result
    }

    /// Tells subscribers of what was applied, once it is as safe as is promised.
    fn announce(&self, events: &mut Vec<Event>) -> Result<(), LinkError> {
        if !events.is_empty() {
            self.settle()?;
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
        log.admit().map_err(|error| LinkError::Own(error.to_string()))?;
        let (mut last, mut beaten) = (log.last(), false);
        loop {
            let (item, used) = incoming.item(last)?;
            match item {
                Item::NeedMore => return Ok(beaten),
                Item::Heartbeat(beat) => {
                    self.engine.role.link.heartbeat(beat.seq, beat.behind_ms, beat.echo);
                    self.look_for_a_leader(beat.hops);
                    beaten = true;
                }
                Item::Message(channel, payload) => {
                    self.announce(events)?;
                    self.engine.deliver_forwarded(channel, payload);
                }
                Item::Lead(Lead(seq)) if seq == last.seq => {
                    if self.engine.role.wishes.accept() {
                        return Err(LinkError::Lead);
                    }
                    incoming.socket().write_all(&Decline(seq).line())?;
                }
                Item::Lead(_) => return Err(LinkError::Garbled("a handover")),
                Item::Record(header, record) => {
                    let applied = self.engine.apply_record(self.persistence, &header, record);
                    events.extend(applied.map_err(|malformed| LinkError::Garbled(malformed.0))?);
                    last = Position { seq: header.seq, epoch: header.epoch, crc: header.crc };
                }
            }
            incoming.consume(used);
        }
    }

    /// Says when the nodes that are followed turn out to follow each other, and when one leads again.
    fn look_for_a_leader(&self, hops: u64) {
        let (link, LeaderAddr { host, port }) = (&self.engine.role.link, &self.order.leader);
        match link.note_hops(hops) {
            None => {}
            Some(true) => {
                *link.error.lock() = None;
                log::warn!("link to {host}:{port}: there is a node that leads again");
            }
            Some(false) => {
                let text = format!(
                    "no node leads: {host}:{port} and the nodes that it follows, follow each other in a \
                     circle; REPLICAOF NO ONE makes one of them the leader"
                );
                if self.said.is_due("circle") {
                    log::warn!("link to {host}:{port}: {text}");
                }
                *link.error.lock() = Some(text);
            }
        }
    }

    /// Makes what was applied as safe as this node's policy says.
    fn settle(&self) -> Result<(), LinkError> {
        let log = &self.persistence.log;
        let result = match self.persistence.policy() {
            Fsync::Always => log.sync(),
            _ => log.ensure_written(log.appended()),
        };
        result.map(drop).map_err(|error| LinkError::Own(error.to_string()))
    }

    /// All that is here has been looked at.
    fn acknowledge(&self, incoming: &Incoming) -> Result<(), LinkError> {
        let log = &self.persistence.log;
        let (received, bytes) = (log.appended(), incoming.received());
        let applied = self.persistence.promised();
        let clock = self.engine.role.link.clock();
        let ack = Ack { received, applied, durable: log.durable(), bytes, clock };
        Ok(incoming.socket().write_all(&ack.line())?)
    }
}

/// Tries each address that the name has.
fn connect_to(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name has no address");
    for addr in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&addr, DIAL_TIMEOUT) {
            Err(error) => last = error,
            dialled => return dialled,
        }
    }
    Err(last)
}
