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
use super::wire::{Ack, Answer, Handover, Lead, Request};
use crate::aof::divergence;
use crate::aof::record::{Epoch, Position};
use crate::config::{Fsync, Id};
use crate::effect::Seq;
use crate::engine::{Engine, Leader, Order, Persistence};
use crate::event::Event;
use crate::protocol::quote;
use crate::random::Random;
use crossbeam_channel::bounded;
use std::io::{self, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

/// Waits between tries, doubled up to the latter and jittered, so that followers of one leader do not all
/// come back at once.
const BACK_OFF_MIN: Duration = Duration::from_millis(50);
const BACK_OFF_MAX: Duration = Duration::from_secs(2);
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// Each round goes back by an epoch at least; beyond these, a full copy is cheaper.
const ROUNDS_MAX: usize = 64;
/// The same trouble is logged again only after this long.
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);

/// Runs until shutdown.
pub fn run(engine: &Engine) {
    let Some(persistence) = &engine.persistence else { return };
    let mut random = Random::new();
    while let Some(order) = engine.role.next_order(&engine.shutdown) {
        let mut troubles = Troubles::default();
        let mut wait = BACK_OFF_MIN;
        while engine.role.is_in_force(&order) && !engine.shutdown.is_requested() {
            let links = engine.role.link.links.get();
            let mut link = Follower { engine, persistence, order: &order };
            let error = link.run();
            engine.role.end_link();
            persistence.log.wake_tailing();
            if engine.role.link.links.get() > links {
                wait = BACK_OFF_MIN;
            }
            if matches!(error, LinkError::Lead) {
                match engine.take_lead(&order) {
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
            troubles.tell(&order, &error);
            let jitter = random.below(wait.as_millis() as usize + 1) as u64;
            let pause = wait / 2 + Duration::from_millis(jitter / 2);
            engine.role.pause(&order, pause, &engine.shutdown);
            wait = (2 * wait).min(BACK_OFF_MAX);
        }
    }
}

/// What was last complained about.
#[derive(Default)]
struct Troubles(Option<(String, Instant)>);

impl Troubles {
    fn tell(&mut self, order: &Order, error: &LinkError) {
        let text = error.to_string();
        let news = self
            .0
            .as_ref()
            .is_none_or(|(said, at)| *said != text || at.elapsed() >= COMPLAIN_EVERY);
        if news {
            log::warn!("link to {}:{}: {text}; trying again", order.leader.host, order.leader.port);
            self.0 = Some((text, Instant::now()));
        }
    }
}

/// What is known of where this node's history and its leader's part.
enum Parting {
    /// Nothing.
    Unknown,
    /// They do.
    Somewhere,
    /// What only this node has is saved.
    Saved,
}

/// One link.
struct Follower<'e> {
    engine: &'e Engine,
    persistence: &'e Persistence,
    order: &'e Order,
}

impl Follower<'_> {
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
        let Leader { host, port } = self.order.leader.clone();
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

    /// Agrees with the leader on where to go on.
    fn agree(&self, incoming: &mut Incoming) -> Result<(), LinkError> {
        // The disk failed in the middle of taking over a copy: only finishing that leads on.
        if copy::is_complete(&self.persistence.dir) {
            self.take_over(|| ());
        }
        self.authenticate(incoming)?;
        let log = &self.persistence.log;
        let own = log.last();
        let (mut ask, mut parting) = (own, Parting::Unknown);
        for _ in 0..ROUNDS_MAX {
            let request = self.request(ask);
            send(incoming.socket(), &request.words())?;
            let line = incoming.line()?;
            if let Some(refusal) = line.strip_prefix(b"-") {
                return Err(LinkError::Refused(String::from_utf8_lossy(refusal).into_owned()));
            }
            let answer = Answer::parse(&line, &request).ok_or(LinkError::Garbled("an answer"))?;
            log::info!("the leader answers {answer:?}, for {} of epoch {}", ask.seq, ask.epoch.0);
            match answer {
                Answer::Continue(_) if ask == own => return Ok(()),
                Answer::Continue(_) if ask.seq == Seq(0) => {
                    let base = copy::Base { seq: Seq(0), bytes: 0 };
                    return self.copy(incoming, base, parting);
                }
                Answer::Continue(_) => parting = self.give_up_behind(ask.seq, own)?,
                Answer::Full { seq, bytes } => {
                    return self.copy(incoming, copy::Base { seq, bytes }, parting);
                }
                Answer::Behind { seq, epoch, crc } => {
                    if self.shares(seq, epoch, crc) {
                        let why = "it has only come to a record before this node's last";
                        return Err(LinkError::Refused(why.to_string()));
                    }
                    ask = self.earlier(seq, epoch)?;
                    continue;
                }
                Answer::Diverged { seq, epoch, crc } => {
                    let shared = self.shares(seq, epoch, crc);
                    if shared && seq >= ask.seq {
                        // Nothing is given up for what cannot be.
                        return Err(LinkError::Garbled("an answer that contradicts itself"));
                    }
                    parting = Parting::Somewhere;
                    if shared {
                        parting = self.give_up_behind(seq, own)?;
                    } else {
                        ask = self.earlier(seq, epoch)?;
                        continue;
                    }
                }
            }
            // The end of the log could not be taken off; only starting over is left.
            ask = Position::default();
        }
        Err(LinkError::Refused("it does not come to an end about where to go on".to_string()))
    }

    /// Whether the record is of one epoch here and there: then all up to it is the same.
    fn shares(&self, seq: Seq, epoch: Epoch, crc: u32) -> bool {
        let own = self.persistence.log.epoch_of(seq);
        own.is_some_and(|own| own.epoch == epoch && own.crc == crc)
    }

    fn authenticate(&self, incoming: &mut Incoming) -> Result<(), LinkError> {
        let config = &self.engine.config;
        let passwords = [config.text(Id::Masterauth), config.text(Id::Requirepass)];
        let Some(password) = passwords.into_iter().find(|word| !word.is_empty()) else {
            return Ok(());
        };
        send(incoming.socket(), &[b"AUTH".to_vec(), password.into_bytes()])?;
        let line = incoming.line()?;
        match line.strip_prefix(b"-") {
            // A leader without a password needs none.
            Some(refusal) if !refusal.starts_with(b"ERR AUTH <password> called without") => {
                Err(LinkError::Refused(String::from_utf8_lossy(refusal).into_owned()))
            }
            _ => Ok(()),
        }
    }

    fn request(&self, last: Position) -> Request {
        let config = &self.engine.config;
        let announced = config.int(Id::ReplicaAnnouncePort) as u16;
        let port = if announced > 0 { announced } else { self.engine.port.load(Relaxed) };
        let host = config.text(Id::ReplicaAnnounceIp);
        Request { node_id: self.persistence.node_id.clone(), last, host, port }
    }

    /// The last of our records that can be in a history which has, at `seq`, an epoch that is not ours.
    fn earlier(&self, seq: Seq, epoch: Epoch) -> Result<Position, LinkError> {
        let log = &self.persistence.log;
        let seq = log.with_epochs(|epochs| epochs.last_before(seq.min(log.last().seq), epoch));
        let position =
            seq.map_or(Ok(None), |seq| divergence::position_at(&self.persistence.dir, seq));
        Ok(position?.unwrap_or_default())
    }

    /// Saves, reports and cuts off what only this node has, and dials again. If the state before it cannot
    /// be rebuilt from what is here, nothing is cut off.
    fn give_up_behind(&self, last: Seq, end: Position) -> Result<Parting, LinkError> {
        let own = |error: &dyn std::fmt::Display| LinkError::Own(error.to_string());
        let Persistence { log, dir, .. } = self.persistence;
        log.sync().map_err(|error| own(&error))?;
        let saved = divergence::save(dir, last, end)?;
        saved.iter().for_each(|saved| self.report(saved));
        if !divergence::can_rewind(dir, last).map_err(|error| own(&error))? {
            return Ok(if saved.is_some() { Parting::Saved } else { Parting::Somewhere });
        }
        self.engine.role.set_loading(true);
        self.engine.role.link.starts_over();
        let position = self.persistence.rewind(&self.engine.store, last);
        log::warn!("the log goes on behind record {}, as the leader's does", position.seq);
        Err(LinkError::Again)
    }

    fn report(&self, saved: &divergence::Saved) {
        self.persistence.aside.note_change();
        if saved.writes == 0 {
            let path = saved.path.display();
            log::info!(
                "only the beginning of this node's own epoch is given up; it is kept in {path}"
            );
            return;
        }
        let link = &self.engine.role.link;
        let path = Some(saved.path.display().to_string());
        // What was saved before, over a link that then broke, is not said and counted again.
        if std::mem::replace(&mut *link.diverged_file.lock(), path.clone()) == path {
            return;
        }
        link.diverged_records.add(saved.writes);
        let keys: Vec<String> = saved.keys.iter().map(|key| quote(key)).collect();
        log::warn!(
            "{} writes that only this node had are not in its leader's history; they are saved in {} \
             (kvstore log reads it) and changed {}{}",
            saved.writes,
            saved.path.display(),
            keys.join(" "),
            if saved.more_keys { " …" } else { "" }
        );
    }

    fn copy(
        &self,
        incoming: &mut Incoming,
        base: copy::Base,
        parting: Parting,
    ) -> Result<(), LinkError> {
        let (role, Persistence { log, dir, .. }) = (&self.engine.role, self.persistence);
        role.link.copies();
        copy::receive(self.persistence, incoming, base, |bytes| role.link.heard(bytes))?;
        let own = |error: &dyn std::fmt::Display| LinkError::Own(error.to_string());
        log.sync().map_err(|error| own(&error))?;
        let may_be_lost = match parting {
            Parting::Saved => false,
            Parting::Somewhere => true,
            // Most likely a follower that was away for too long: others have all that it has.
            Parting::Unknown => self.persistence.may_hold_writes_of_its_own(),
        };
        if may_be_lost && divergence::holds_writes(dir)? {
            let aside = divergence::save_all(dir, log.last())?;
            self.persistence.aside.note_change();
            log::warn!(
                "this node's history is not its leader's and where they part is unknown; all of it is kept \
                 in {}",
                aside.display()
            );
            *role.link.diverged_file.lock() = Some(aside.display().to_string());
        }
        copy::commit(dir)?;
        let mut alive = copy::Alive::new(incoming);
        self.take_over(|| alive.tell());
        Ok(())
    }

    /// Makes a full copy that is complete this node's data. The end of the server stops it on the way.
    fn take_over(&self, working: impl FnMut()) {
        self.engine.role.set_loading(true);
        self.engine.role.link.starts_over();
        let position = self.persistence.take_over_copy(&self.engine.store, working);
        if self.engine.shutdown.is_requested() {
            return;
        }
        self.engine.role.set_loading(false);
        self.persistence.log.wake_tailing();
        log::info!("a full copy of the leader's data has been taken over, up to {}", position.seq);
    }

    /// Applies records for as long as they come.
    fn stream(&self, incoming: &mut Incoming) -> Result<std::convert::Infallible, LinkError> {
        let link = &self.engine.role.link;
        link.came_up();
        let (mut asked, mut acked, mut told) = (false, None::<Instant>, None);
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
            if self.engine.role.wants_to_lead() && !asked {
                let handover = Handover(self.persistence.log.appended());
                incoming.socket().write_all(&handover.line())?;
                asked = true;
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
            self.engine.announce(std::mem::take(events));
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
                    beaten = true;
                }
                Item::Message(channel, payload) => {
                    self.announce(events)?;
                    self.engine.deliver_forwarded(channel, payload);
                }
                Item::Lead(Lead(seq)) if seq == last.seq => return Err(LinkError::Lead),
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

/// Sends a command as a RESP array.
fn send(mut socket: &TcpStream, words: &[Vec<u8>]) -> io::Result<()> {
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        request.extend_from_slice(word);
        request.extend_from_slice(b"\r\n");
    }
    socket.write_all(&request)
}
