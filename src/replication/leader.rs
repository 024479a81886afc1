//! The leader's side of a link: answers the request, then reads acknowledgements while `repl-out-<n>` sends.
//!
//! ```text
//! conn-7      REPLICATE ─▶ where do the histories part? ─▶ answer ─▶ reads ACKs until the link ends
//! repl-out-7                                                └─▶ base? ─▶ log ─ heartbeat ─ log ─ …
//! ```
//!
//! Promised: the bytes of the log in their order, without a gap, each record as soon as it is written. It may
//! not be durable then: a follower may have what a power cut takes from the leader. A follower that takes
//! nothing for `repl-timeout` loses its link, and one that lags by more than `repl-retention-bytes` loses its
//! place in the log.

use super::feed::{Feed, Found, judge};
use super::sender::Sender;
use super::twins;
use super::wire::{self, Ack, Answer, DECLINE, Elected, HANDOVER, LINE_LEN_MAX, Request};
use crate::aof::record::Epoch;
use crate::cluster::message::Input;
use crate::cluster::progress::{LinkId, ReplicaProgress};
use crate::cluster::shared::Cluster;
use crate::cluster::term::NodeId;
use crate::engine::{Client, Engine, Persistence};
use crate::error::{Failure, Kind};
use crate::metrics::Stat;
use crate::store::effect::Seq;
use std::io::{self, ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

/// The sender writes to one socket and keeps its buffer on the heap.
const STACK_BYTES: usize = 128 << 10;

const SAME_NODE: Failure = Failure::fixed(
    "ERR this is the node that wants to follow, or one with a copy of its directory: then remove the file \
     'node' from one of the two",
);

/// A voter that takes a copy gives up its own log for a while. If the leader does not vote, no voter may have those records
/// then.
const NO_COPY: Failure = Failure::fixed(
    "ERR this node is no member of the cluster any more and leads for a moment only; it sends no full copies",
)
.of_kind(Kind::Unavailable);

/// Answers a request; `early` has the bytes that were received after it. If records follow, serves the follower
/// until its link ends, and returns true: the connection is then at its end.
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
    if engine.loading.is_active() {
        let refusal = Failure::fixed("LOADING a full copy of the leader's data is being loaded");
        return Err(refusal.of_kind(Kind::Unavailable));
    }
    let node_id = &request.node_id;
    elected(engine, request)?;
    let claimed = twins::claim(engine, client, request);
    let _claimed = claimed.map_err(|other| copied(engine, client, node_id, &other))?;
    let failed = |error: io::Error| Failure::new(format!("ERR cannot read the log: {error}"));
    let led = engine.cluster.as_ref().map(Cluster::led);
    let (end, found) = judge(engine, persistence, request).map_err(failed)?;
    // Asked again: an epoch that was left does not come back, so what was found is the history of the epoch's leader.
    let elected = elected(engine, request)?;
    let (answer, feed) = match found {
        Found::Feed(Feed { answer: Answer::Full { .. }, .. })
            if !engine.may_lead(&persistence.node_id) =>
        {
            return Err(NO_COPY);
        }
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
    let limit = engine.config.output_limit(client.class());
    if client.outbox.send(&answer.line(request, end, elected.as_ref()), 0, limit).is_err() {
        return Ok(true);
    }
    let Some(feed) = feed else { return Ok(false) };
    client.outbox.drain();
    link(engine, persistence, client, (request, led), feed, early);
    Ok(true)
}

/// Says who answers, in a cluster, where only the node that was elected does. A follower that belongs to no cluster is
/// answered, too.
fn elected(engine: &Engine, request: &Request) -> Result<Option<Elected>, Failure> {
    let Some(cluster) = &engine.cluster else { return Ok(None) };
    let refusal = |text: String| Err(Failure::new(text).of_kind(Kind::Unavailable));
    let own = engine.persistence.as_ref().and_then(|persistence| persistence.term().cluster);
    let (theirs, epoch) = request.cluster.unwrap_or((None, cluster.led()));
    if theirs.is_some() && theirs != own {
        return refusal("ERR this node belongs to another cluster".to_string());
    }
    let led = cluster.led();
    if led == Epoch(0) || led != epoch {
        let own = cluster.epoch().0;
        return refusal(format!(
            "ERR this node does not lead epoch {}; it is in epoch {own}",
            epoch.0
        ));
    }
    Ok(request.cluster.map(|_| Elected { id: cluster.id, epoch: led }))
}

/// The refusal of a follower whose node id is that of another connected one.
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

/// Serves a follower until its link ends, or the epoch that this node leads.
fn link(
    engine: &Engine,
    persistence: &Persistence,
    client: &Arc<Client>,
    (request, epoch): (&Request, Option<Epoch>),
    feed: Feed<'_>,
    early: &[u8],
) {
    let followers = &engine.followers;
    let is_copy = matches!(feed.answer, Answer::Full { .. });
    let counter = if is_copy { &followers.full_copies } else { &followers.continued };
    counter.increment();
    let host = match request.host.as_str() {
        "" => client.addr.ip().to_string(),
        host => host.to_string(),
    };
    let seq = if is_copy { Seq(0) } else { request.last.seq };
    let link = LinkId(client.id.0);
    let node_id = request.node_id.clone();
    let now = engine.uptime_ms();
    let address = (host, request.port);
    let follower = ReplicaProgress::new(link, node_id, address, !is_copy, seq, now);
    // Ends after the registration: of two links that end together, one sees that there is none left.
    let linked = Linked { engine, link, node_id: request.node_id.clone() };
    let registration = followers.register(follower);
    let follower = &registration.follower;
    linked.tell(true);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = Sender { engine, persistence, client, follower, done: &done, epoch };
        let spawned = thread::Builder::new()
            .name(format!("repl-out-{}", client.id.0))
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, move || sender.run(feed));
        match spawned {
            Ok(sender) => {
                let why = read_acks(engine, client, follower, early);
                if engine.shutdown.is_requested() {
                    // The shutdown may have closed this connection for reading before it was a follower's.
                    // The sender ends by itself, when the follower has the rest of the log or is gone.
                    let _ = sender.join();
                }
                log::info!("follower {}:{} has left: {why}", follower.host, follower.port);
            }
            Err(error) => log::error!("no thread to feed a follower: {error}"),
        }
        done.store(true, Relaxed);
        client.outbox.cut();
        persistence.log.written_moved.notify();
    });
}

/// Tells the election that a node's link works, until its last one ends.
struct Linked<'e> {
    engine: &'e Engine,
    link: LinkId,
    node_id: String,
}

impl Linked<'_> {
    fn tell(&self, works: bool) {
        if let (Some(cluster), Some(id)) = (&self.engine.cluster, NodeId::parse(&self.node_id)) {
            cluster.inbox.put(Input::Linked(id, works));
        }
    }

    /// True if this node has made another link before this one has ended.
    fn has_another(&self) -> bool {
        let same =
            |other: &ReplicaProgress| other.node_id == self.node_id && other.link != self.link;
        self.engine.followers.count(same) > 0
    }
}

impl Drop for Linked<'_> {
    fn drop(&mut self) {
        if !self.has_another() {
            self.tell(false);
            // It may have come in between, and have been told before this.
            if self.has_another() {
                self.tell(true);
            }
        }
    }
}

/// Reads acknowledgements until the link ends. Returns why it did.
fn read_acks(engine: &Engine, client: &Client, follower: &ReplicaProgress, early: &[u8]) -> String {
    let timeout = engine.link_timeout();
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
            if let Err(why) = take_line(engine, follower, line) {
                return why.to_string();
            }
        }
        if bytes.len() > LINE_LEN_MAX {
            return NO_ACK.to_string();
        }
        match (&*socket).read(&mut chunk) {
            Ok(0) => return "it closed the link".to_string(),
            Ok(n) => {
                engine.metrics[Stat::InputBytes].add(n as u64);
                client.record_input(0, 0);
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

const NO_ACK: &str = "it sent something that is no acknowledgement";

/// Acts on a follower's line. An error is the reason to end the link.
fn take_line(engine: &Engine, follower: &ReplicaProgress, line: &[u8]) -> Result<(), &'static str> {
    if wire::parse_seq(HANDOVER, line).is_some() {
        follower.handover_requested.store(true, Relaxed);
        return Ok(());
    }
    if let Some(seq) = wire::parse_seq(DECLINE, line) {
        log::warn!("follower {}:{} declines to lead", follower.host, follower.port);
        if let Err(error) = engine.take_back_lead(&follower.node_id, seq) {
            log::error!("{error}");
        }
        return Ok(());
    }
    let Ack { received, applied, durable, bytes, clock, epoch } = Ack::parse(line).ok_or(NO_ACK)?;
    let now = engine.uptime_ms();
    follower.record_clock(clock, now);
    if follower.stream_is_corrupt(bytes, received) {
        return Err("what it has received is not what was sent");
    }
    if applied > Seq(0) {
        follower.online.store(true, Relaxed);
    }
    engine.followers.acknowledge(follower, applied, durable, now);
    if let (Some(cluster), Some(epoch)) = (&engine.cluster, epoch)
        && let Some(id) = NodeId::parse(&follower.node_id)
    {
        cluster.inbox.put(Input::Acked(id, epoch, applied));
    }
    Ok(())
}
