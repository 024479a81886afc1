//! The leader's side of a link: the thread `repl-out-<n>` sends the log, the connection's own thread reads
//! how far the follower has come.
//!
//! ```text
//! conn-7      REPLICATE ─▶ where do the histories part? ─▶ answer ─▶ reads ACKs until the link ends
//! repl-out-7                                                └─▶ base? ─▶ log ─ heartbeat ─ log ─ …
//! ```
//!
//! Promised: bytes of the log in their order, without a gap, each record as soon as it is written (not
//! durable: a follower may have what a power cut then takes from the leader); a heartbeat behind each burst
//! and at least ten times a second. A follower that takes nothing for `repl-timeout` loses its link, and
//! one that falls further behind than `repl-retention-bytes` its place.

use super::cursor::Cursor;
use super::feed::{Feed, Found, judge};
use super::wire::{self, Ack, Answer, Decline, Handover, Heartbeat, LINE_LEN_MAX, Lead, Request};
use crate::aof::record::Position;
use crate::clock::UnixMillis;
use crate::cluster::progress::ReplicaProgress;
use crate::cluster::role::LeaderAddr;
use crate::config::Id;
use crate::engine::{Client, Engine, Persistence};
use crate::error::Failure;
use crate::store::effect::Seq;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// Read from a file and sent at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Between heartbeats while nothing is written.
const BEAT_IDLE: Duration = Duration::from_millis(100);
/// Between heartbeats while records are sent: each is answered, and its answer costs a wake-up here.
const BEAT_BUSY: Duration = Duration::from_millis(5);
/// The sender writes to one socket and keeps its buffer on the heap.
const STACK_BYTES: usize = 128 << 10;

const SAME_NODE: Failure = Failure::fixed(
    "ERR this is the node that wants to follow, or one with a copy of its directory: then remove the file \
     'node' from one of the two",
);

/// Answers a request. If records follow, serves the follower until its link ends, and returns true: the
/// connection is of no other use any more.
pub fn serve(
    engine: &Engine,
    client: &Arc<Client>,
    request: &Request,
    early: &[u8],
) -> Result<bool, Failure> {
    let persistence = engine.persistence.as_ref();
    let persistence = persistence.ok_or(Failure::fixed("ERR this node has no log to follow"))?;
    let said = &engine.followers.said;
    if request.node_id == persistence.node_id {
        if said.is_due(&request.node_id) {
            log::warn!("client {} asks to follow, and is refused: {SAME_NODE}", client.addr);
        }
        return Err(SAME_NODE);
    }
    if engine.role.is_loading() {
        return Err(Failure::fixed("LOADING a full copy of the leader's data is being loaded"));
    }
    let Request { node_id, run_id, .. } = request;
    let claimed = engine.followers.claim(client, node_id, run_id, &engine.shutdown);
    let _claimed = claimed.map_err(|other| copied(engine, client, node_id, &other))?;
    let failed = |error: io::Error| Failure::new(format!("ERR cannot read the log: {error}"));
    let (end, found) = judge(engine, persistence, request).map_err(failed)?;
    let (answer, feed) = match found {
        Found::Feed(feed) => (feed.answer, Some(feed)),
        Found::Parted(answer) => (answer, None),
    };
    log::info!("client {}: node {node_id:.8} asks to follow: {answer:?}", client.addr);
    if request.last.seq > end && said.is_due(&format!("end {node_id}")) {
        log::warn!(
            "this node's log ends at record {end}, before the last one of its follower {node_id:.8} at {}, \
             {}: this node has lost records, or never had them. The follower saves what only it has",
            client.addr,
            request.last.seq
        );
    }
    if feed.is_some() {
        client.becomes_follower();
        engine.clients.changed.notify();
    }
    let limit = engine.output_limit(client);
    if client.send(&answer.line(request, end), 0, limit).is_err() {
        return Ok(true);
    }
    let Some(feed) = feed else { return Ok(false) };
    client.outbox.drain();
    link(engine, persistence, client, request, feed, early);
    Ok(true)
}

/// Refuses a follower whose node id another one has that is connected.
fn copied(engine: &Engine, client: &Client, node_id: &str, other: &str) -> Failure {
    let text = format!(
        "ERR another follower with this node's id is connected, {other}: one of the two has a copy of the \
         other's directory; stop it, remove the file 'node' from its directory, and start it again"
    );
    if engine.followers.said.is_due(node_id) {
        log::warn!("client {} asks to follow, and is refused: {text}", client.addr);
    }
    Failure::new(text)
}

/// Serves a follower until its link ends.
fn link(
    engine: &Engine,
    persistence: &Persistence,
    client: &Arc<Client>,
    request: &Request,
    feed: Feed<'_>,
    early: &[u8],
) {
    let counter = match feed.answer {
        Answer::Full { .. } => &engine.followers.full_copies,
        _ => &engine.followers.continued,
    };
    counter.fetch_add(1, Relaxed);
    let host = match request.host.as_str() {
        "" => client.addr.ip().to_canonical().to_string(),
        host => host.to_string(),
    };
    let (online, seq) = match feed.answer {
        Answer::Full { .. } => (false, Seq(0)),
        _ => (true, request.last.seq),
    };
    let node_id = request.node_id.clone();
    let follower = ReplicaProgress::new(client.id, node_id, host, request.port, online, seq);
    let registration = engine.followers.register(follower);
    let follower = &registration.follower;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let sent_bytes = Cell::new(0);
        let sender = Sender { engine, persistence, client, follower, done: &done, sent_bytes };
        let spawned = thread::Builder::new()
            .name(format!("repl-out-{}", client.id.0))
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, move || sender.run(feed));
        match spawned {
            Ok(sender) => {
                let why = read_acks(engine, client, follower, early);
                if engine.shutdown.is_requested() {
                    // The end that was read may be that of the shutdown, which closes connections for
                    // reading and did not know yet that this one is a follower's. The sender ends by
                    // itself, when the follower has the rest of the log or is gone.
                    let _ = sender.join();
                }
                log::info!("follower {}:{} has left: {why}", follower.host, follower.port);
            }
            Err(error) => log::error!("no thread to feed a follower: {error}"),
        }
        done.store(true, Relaxed);
        client.outbox.cut();
        persistence.log.wake_readers();
    });
}

/// Reads acknowledgements until the link ends; tells why it did.
fn read_acks(engine: &Engine, client: &Client, follower: &ReplicaProgress, early: &[u8]) -> String {
    let timeout = Duration::from_secs(engine.config.int(Id::ReplTimeout) as u64);
    let socket = client.outbox.socket();
    if let Err(error) = socket.set_read_timeout(Some(timeout)) {
        return error.to_string();
    }
    let mut bytes = early.to_vec();
    let mut chunk = [0; 4096];
    loop {
        while let Some(len) = bytes.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = bytes.drain(..=len).collect();
            let line = line.strip_suffix(b"\r\n").unwrap_or_default();
            if Handover::parse(line).is_some() {
                follower.handover_requested.store(true, Relaxed);
                continue;
            }
            if let Some(Decline(seq)) = Decline::parse(line) {
                log::warn!("follower {}:{} declines to lead", follower.host, follower.port);
                if let Err(error) = engine.take_back_lead(&follower.node_id, seq) {
                    log::error!("{error}");
                }
                continue;
            }
            let ack = Ack::parse(line);
            let Some(Ack { received, applied, durable, bytes, clock }) = ack else {
                return "it sent something that is no acknowledgement".to_string();
            };
            follower.note_clock(clock);
            if follower.stream_is_corrupt(bytes, received) {
                return "what it has received is not what was sent".to_string();
            }
            if applied > Seq(0) {
                follower.online.store(true, Relaxed);
            }
            engine.followers.acknowledge(follower, received, applied, durable);
        }
        if bytes.len() > LINE_LEN_MAX {
            return "it sent something that is no acknowledgement".to_string();
        }
        match (&*socket).read(&mut chunk) {
            Ok(0) => return "it closed the link".to_string(),
            Ok(n) => {
                engine.metrics.input_bytes.add(n as u64);
                client.note_input(0, 0);
                bytes.extend_from_slice(&chunk[..n]);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return format!("it has been silent for {timeout:?}");
            }
            Err(error) => return error.to_string(),
        }
    }
}

struct Sender<'e> {
    engine: &'e Engine,
    persistence: &'e Persistence,
    client: &'e Client,
    follower: &'e ReplicaProgress,
    /// The link has ended.
    done: &'e AtomicBool,
    /// Bytes sent behind the answer.
    sent_bytes: Cell<u64>,
}

impl Sender<'_> {
    fn run(&self, feed: Feed<'_>) {
        let result = self.send_all(feed);
        if result.is_ok() && self.engine.followers.is_closing() {
            // It reads the rest, then leaves; cut off, it might lose what is on its way.
            let _ = self.client.outbox.socket().shutdown(Shutdown::Write);
            return;
        }
        if let Err(error) = result
            && !self.done.load(Relaxed)
        {
            let ReplicaProgress { host, port, .. } = self.follower;
            log::warn!("follower {host}:{port}: cannot send to it: {error}");
        }
        // Wakes the thread that reads from it.
        self.client.outbox.cut();
    }

    fn send_all(&self, feed: Feed<'_>) -> io::Result<()> {
        let Feed { base, mut cursor, generation, .. } = feed;
        let timeout = Duration::from_secs(self.engine.config.int(Id::ReplTimeout) as u64);
        self.client.outbox.socket().set_write_timeout(Some(timeout))?;
        let mut buffer = vec![0; CHUNK_BYTES];
        if let Some((file, len)) = base {
            self.send_base(&file, len, &mut buffer)?;
        }
        let log = &self.persistence.log;
        let (mut sent, mut beaten, mut last_beat) = (Seq(0), Seq(0), Instant::now());
        let mut told_to_lead = None;
        loop {
            // Asked before the end is: behind the last connection's end, that is final.
            let done = self.is_done();
            let end = log.readable_end();
            let last = end.last.seq;
            if last > sent {
                self.follower.note_end(last, end.bytes);
                sent = last;
            }
            loop {
                let n = cursor.read(&end, &mut buffer)?;
                if log.generation() != generation {
                    return Err(io::Error::other("this node's history has become another"));
                }
                if n == 0 {
                    break;
                }
                self.send(&buffer[..n])?;
            }
            while let Some(message) = self.follower.next_message(last) {
                self.send(&wire::message(&message.channel, &message.payload))?;
            }
            let since = last_beat.elapsed();
            let hurry = sent > beaten && (since >= BEAT_BUSY || self.engine.followers.is_awaited());
            if hurry || done || since >= BEAT_IDLE {
                // For records that nobody waits for, such as the sweeper's deletions.
                let _ = log.ensure_written(log.appended());
                self.send(&self.heartbeat().line())?;
                self.follower.note_sent(self.sent_bytes.get(), sent);
                (beaten, last_beat) = (sent, Instant::now());
            }
            if done {
                return Ok(());
            }
            if self.follower.handover_requested.swap(false, Relaxed)
                && !self.engine.role.is_follower()
            {
                sent = self.hand_over(&mut cursor, &mut buffer)?;
            }
            // The link may have broken in the middle of handing over: then it has to be said again.
            let hands_over = self.engine.role.has_handed_over(&self.follower.node_id, sent);
            if hands_over && told_to_lead != Some(sent) {
                self.send(&Lead(sent).line())?;
                told_to_lead = Some(sent);
            }
            let pace = if sent > beaten { BEAT_BUSY } else { BEAT_IDLE };
            let due = || {
                self.is_done()
                    || log.generation() != generation
                    || self.follower.handover_requested.load(Relaxed)
                    || told_to_lead != Some(sent)
                        && self.engine.role.has_handed_over(&self.follower.node_id, sent)
                    || self.follower.has_messages()
                    || self.engine.followers.is_awaited() && sent > beaten
            };
            log.wait_written(last, pace.saturating_sub(last_beat.elapsed()), due);
        }
    }

    /// Whether the link has ended, or is to end.
    fn is_done(&self) -> bool {
        self.done.load(Relaxed) || self.engine.followers.is_closing()
    }

    /// Lets the follower lead: no write is taken any more, the follower is given the last of them, and
    /// followed. Then it may be told, and it may decline, if the PROMOTE that asked for this has given up meanwhile.
    /// Until it is told, this node can take the lead back; from then on two might lead. Returns the last
    /// record.
    fn hand_over(&self, cursor: &mut Cursor<'_>, buffer: &mut [u8]) -> io::Result<Seq> {
        let log = &self.persistence.log;
        let follower = self.follower;
        // Behind what cannot be written, nobody can lead.
        log.check().map_err(|error| io::Error::other(error.to_string()))?;
        self.engine.step_down().map_err(io::Error::other)?;
        let last = log.appended();
        let sent = log
            .ensure_written(last)
            .map_err(|error| io::Error::other(error.to_string()))
            .and_then(|_| {
                let end = log.readable_end();
                loop {
                    match cursor.read(&end, buffer)? {
                        0 => return Ok(()),
                        n => self.send(&buffer[..n])?,
                    }
                }
            });
        if let Err(error) = sent {
            self.engine.lead().map_err(|failure| io::Error::other(failure.to_string()))?;
            return Err(error);
        }
        log::warn!("handing over to {}:{} behind record {last}", follower.host, follower.port);
        let leader = LeaderAddr { host: follower.host.clone(), port: follower.port };
        self.engine.follow(leader).map_err(|failure| io::Error::other(failure.to_string()))?;
        self.engine.role.note_handed_over(follower.node_id.clone(), last);
        Ok(last)
    }

    fn send_base(&self, file: &File, len: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut offset = 0;
        while offset < len {
            let n = file.read_at(buffer, offset)?;
            if n == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.send(&buffer[..n])?;
            offset += n as u64;
        }
        Ok(())
    }

    fn heartbeat(&self) -> Heartbeat {
        let (log, role) = (&self.persistence.log, &self.engine.role);
        let (behind_ms, hops) = match role.is_follower() {
            true => (role.link.staleness_ms().unwrap_or(u64::MAX), role.link.hops()),
            false => (0, 0),
        };
        let Position { seq, epoch, .. } = log.last();
        let echo = self.follower.clock();
        Heartbeat { epoch, seq, unix_ms: UnixMillis::now().0, behind_ms, echo, hops }
    }

    /// Waits for as long as the follower acknowledges anything: it may be loading a copy, or the link may be
    /// slow. When it does not, the thread that reads from it cuts the link.
    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let mut left = bytes;
        while !left.is_empty() {
            match self.client.outbox.socket().write(left) {
                Ok(n) => left = &left[n..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && !self.done.load(Relaxed) => {
                }
                Err(error) => return Err(error),
            }
        }
        self.engine.metrics.output_bytes.add(bytes.len() as u64);
        self.sent_bytes.set(self.sent_bytes.get() + bytes.len() as u64);
        Ok(())
    }
}
