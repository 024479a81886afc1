//! The thread `repl-out-<n>`: sends a follower its base and the log, as soon as records are written.
//!
//! ```text
//! base? ─▶ records ─▶ messages ─▶ heartbeat? ─▶ hand over? ─▶ wait for more ─▶ records ─ …
//! ```
//!
//! A message waits until the records before it are sent. A heartbeat follows each burst of records, and comes
//! at least ten times a second.

use super::cursor::Cursor;
use super::feed::Feed;
use super::wire::{self, Heartbeat, LEAD};
use crate::aof::log::LogError;
use crate::aof::record::{Epoch, Position};
use crate::clock::UnixMillis;
use crate::cluster::link::HOPS_MAX;
use crate::cluster::progress::ReplicaProgress;
use crate::cluster::shared::Cluster;
use crate::cluster::state::LeaderAddr;
use crate::engine::{Client, Engine, Persistence};
use crate::metrics::Stat;
use crate::store::effect::Seq;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// Read from a file and sent at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Between heartbeats while nothing is written.
const BEAT_IDLE: Duration = Duration::from_millis(100);
/// Between heartbeats while records are sent: each is answered, and its answer costs a wake-up here.
const BEAT_BUSY: Duration = Duration::from_millis(5);
/// After records were sent that no client waits for at the follower: those of the next moments go together, which spares
/// both nodes a wake-up for each batch.
const PAUSE: Duration = Duration::from_micros(200);

/// One follower's link, as its sending thread sees it.
pub struct Sender<'e> {
    pub engine: &'e Engine,
    pub persistence: &'e Persistence,
    pub client: &'e Client,
    pub follower: &'e ReplicaProgress,
    /// The link has ended.
    pub done: &'e AtomicBool,
    /// The epoch that this node leads, if it was elected: the link ends with it.
    pub epoch: Option<Epoch>,
}

/// How far the sending has come.
struct State<'l> {
    cursor: Cursor<'l>,
    buffer: Vec<u8>,
    /// See `Log::generation`.
    generation: u64,
    /// Bytes sent after the answer.
    sent_bytes: u64,
    /// The last record sent.
    sent: Seq,
    /// The last record sent before a heartbeat.
    beaten: Seq,
    last_beat: Instant,
    /// The record after which the follower has been told to lead.
    told_to_lead: Option<Seq>,
    /// The commit that it was told last.
    committed: Option<Seq>,
}

impl Sender<'_> {
    /// Sends until the link ends.
    pub fn run(&self, feed: Feed<'_>) {
        let result = self.send_all(feed);
        if result.is_ok() && self.engine.followers.is_closing() {
            // The follower reads the rest, then leaves; cut off, it might lose what is on its way.
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
        let timeout = self.engine.link_timeout();
        self.client.outbox.socket().set_write_timeout(Some(timeout))?;
        let state = &mut State {
            cursor: feed.cursor,
            buffer: vec![0; CHUNK_BYTES],
            generation: feed.generation,
            sent_bytes: 0,
            sent: Seq(0),
            beaten: Seq(0),
            last_beat: Instant::now(),
            told_to_lead: None,
            committed: None,
        };
        if let Some((file, len)) = feed.base {
            self.send_base(state, &file, len)?;
        }
        let log = &self.persistence.log;
        loop {
            // Read before the end of the log is: after the last connection's end, that end is final.
            let is_done = self.is_done();
            let before = state.sent;
            self.send_log(state)?;
            let has_sent = state.sent > before;
            let since = state.last_beat.elapsed();
            let is_news = state.sent > state.beaten || self.commit() > state.committed;
            let hurry = is_news && (since >= BEAT_BUSY || self.is_awaited());
            if hurry || is_done || since >= BEAT_IDLE {
                self.send_heartbeat(state)?;
            }
            if is_done {
                return Ok(());
            }
            if self.follower.handover_requested.swap(false, Relaxed)
                && !self.engine.role.is_follower()
                && self.engine.may_lead(&self.follower.node_id)
            {
                if self.epoch.is_some() {
                    self.offer(state)?;
                } else {
                    state.sent = self.hand_over(state)?;
                }
            }
            // The link may have broken in the middle of handing over: then the follower must be told again.
            if self.must_tell_to_lead(state) {
                self.send(state, &wire::seq_line(LEAD, state.sent))?;
                state.told_to_lead = Some(state.sent);
            }
            if has_sent && !self.is_awaited() {
                thread::sleep(PAUSE);
            }
            let is_busy = state.sent > state.beaten || self.commit() > state.committed;
            let pace = if is_busy { BEAT_BUSY } else { BEAT_IDLE };
            let wait = pace.saturating_sub(state.last_beat.elapsed());
            let is_over = || log.written() > state.sent || self.is_due(state);
            log.written_moved.wait_until(Some(Instant::now() + wait), is_over);
        }
    }

    /// Sends the records up to the end of what is written, and the messages that come after them.
    fn send_log(&self, state: &mut State<'_>) -> io::Result<()> {
        let log = &self.persistence.log;
        let end = log.readable_end();
        let last = end.last.seq;
        if last > state.sent {
            self.follower.record_end(last, end.bytes, self.engine.uptime_ms());
            state.sent = last;
        }
        loop {
            let n = state.cursor.read(&end, &mut state.buffer)?;
            if log.generation() != state.generation {
                return Err(io::Error::other("this node's history has become another"));
            }
            if n == 0 {
                break;
            }
            self.send_buffer(state, n)?;
        }
        while let Some(message) = self.follower.next_message(last) {
            self.send(state, &wire::message(&message.channel, &message.payload))?;
        }
        Ok(())
    }

    /// True if there is a reason to stop waiting for records.
    fn is_due(&self, state: &State<'_>) -> bool {
        self.is_done()
            || self.commit() > state.committed && state.last_beat.elapsed() >= BEAT_BUSY
            || self.persistence.log.generation() != state.generation
            || self.follower.handover_requested.load(Relaxed)
            || self.must_tell_to_lead(state)
            || self.follower.has_messages()
            || self.is_awaited() && state.sent > state.beaten
    }

    /// True if the link has ended, or is to end: also if this node does not lead the epoch any more in which the link
    /// began.
    fn is_done(&self) -> bool {
        self.done.load(Relaxed) || self.engine.followers.is_closing() || self.led() != self.epoch
    }

    /// True if an acknowledgement is wanted at once: a client waits for it.
    fn is_awaited(&self) -> bool {
        let cluster = self.engine.cluster.as_ref();
        self.engine.followers.is_awaited() || cluster.is_some_and(Cluster::waits_for_majority)
    }

    /// The epoch that this node leads, if nodes elect their leader here.
    fn led(&self) -> Option<Epoch> {
        self.engine.cluster.as_ref().map(Cluster::led)
    }

    /// What a majority has, if nodes elect their leader here.
    fn commit(&self) -> Option<Seq> {
        self.engine.cluster.as_ref().map(Cluster::commit)
    }

    fn must_tell_to_lead(&self, state: &State<'_>) -> bool {
        state.told_to_lead != Some(state.sent)
            && self.engine.role.has_handed_over(&self.follower.node_id, state.sent)
    }

    /// Lets the follower ask for votes: it gets the last record first, and writes are held meanwhile.
    fn offer(&self, state: &mut State<'_>) -> io::Result<()> {
        let log = &self.persistence.log;
        log.check().map_err(own_error)?;
        self.engine.begin_handover();
        let last = log.appended();
        self.send_up_to(state, last)?;
        state.sent = last;
        let ReplicaProgress { host, port, .. } = self.follower;
        log::warn!("handing over to {host}:{port} after record {last}");
        self.send(state, &wire::seq_line(LEAD, last))
    }

    /// Lets the follower lead: this node takes no more writes, sends the last record, and follows. Then the
    /// follower is told; it may decline, if the PROMOTE that asked for this has given up meanwhile. Before
    /// that, this node can take the lead back; after it, two nodes might lead. Returns the last record.
    fn hand_over(&self, state: &mut State<'_>) -> io::Result<Seq> {
        let log = &self.persistence.log;
        // After a record that cannot be written, no node can lead.
        log.check().map_err(own_error)?;
        self.engine.step_down().map_err(io::Error::other)?;
        let last = log.appended();
        if let Err(error) = self.send_up_to(state, last) {
            self.engine.cancel_handover().map_err(io::Error::other)?;
            return Err(error);
        }
        let ReplicaProgress { node_id, host, port, .. } = self.follower;
        log::warn!("handing over to {host}:{port} after record {last}");
        let leader = LeaderAddr { host: host.clone(), port: *port };
        let handed_over = (node_id.clone(), last);
        self.engine.follow_successor(leader, handed_over).map_err(io::Error::other)?;
        Ok(last)
    }

    fn send_up_to(&self, state: &mut State<'_>, last: Seq) -> io::Result<()> {
        let log = &self.persistence.log;
        log.ensure_written(last).map_err(own_error)?;
        let end = log.readable_end();
        loop {
            match state.cursor.read(&end, &mut state.buffer)? {
                0 => return Ok(()),
                n => self.send_buffer(state, n)?,
            }
        }
    }

    fn send_base(&self, state: &mut State<'_>, file: &File, len: u64) -> io::Result<()> {
        let mut offset = 0;
        while offset < len {
            let n = file.read_at(&mut state.buffer, offset)?;
            if n == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.send_buffer(state, n)?;
            offset += n as u64;
        }
        Ok(())
    }

    fn send_heartbeat(&self, state: &mut State<'_>) -> io::Result<()> {
        let log = &self.persistence.log;
        let role = &self.engine.role;
        // For records that no client waits for, such as the sweeper's deletions.
        let _ = log.ensure_written(log.appended());
        let now = self.engine.uptime_ms();
        let (behind_ms, hops) = role.as_follower().map_or((0, 0), |follower| {
            let behind_ms = role.freshness.staleness_ms(now).unwrap_or(u64::MAX);
            (behind_ms, follower.hops.clamp(1, HOPS_MAX))
        });
        let Position { seq, epoch, .. } = log.last();
        let echo = self.follower.clock(now);
        let unix_ms = UnixMillis::now().0;
        let commit = self.commit();
        let heartbeat = Heartbeat { epoch, seq, unix_ms, behind_ms, echo, hops, commit };
        self.send(state, &heartbeat.line())?;
        self.follower.record_checkpoint(state.sent_bytes, state.sent);
        (state.beaten, state.committed) = (state.sent, commit);
        state.last_beat = Instant::now();
        Ok(())
    }

    /// Sends the first `n` bytes of the buffer.
    fn send_buffer(&self, state: &mut State<'_>, n: usize) -> io::Result<()> {
        self.write(&state.buffer[..n])?;
        state.sent_bytes += n as u64;
        Ok(())
    }

    fn send(&self, state: &mut State<'_>, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes)?;
        state.sent_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Waits for as long as the follower acknowledges anything: it may be loading a copy, or the link may be
    /// slow. When it does not, the thread that reads from it cuts the link.
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
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
        self.engine.metrics[Stat::OutputBytes].add(bytes.len() as u64);
        Ok(())
    }
}

fn own_error(error: LogError) -> io::Error {
    io::Error::other(error.to_string())
}
