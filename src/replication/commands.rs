//! Commands about leaders and followers: REPLICAOF, ROLE, PROMOTE, WAIT, LASTSEQ, WAITSEQ.

use super::leader;
use super::token::Token;
use super::wire::Request;
use crate::admin::log_command::log_of;
use crate::aof::record::Position;
use crate::clients::blocked::Wait;
use crate::cluster::progress::ReplicaProgress;
use crate::cluster::state::LeaderAddr;
use crate::commands::Family::Replication;
use crate::commands::Flags;
use crate::config::Fsync;
use crate::engine::session::{Ending, Mode};
use crate::engine::table::{ADMIN, FAST, Row, ServerCall, row};
use crate::engine::{Client, Engine, Session, gate};
use crate::error::{Failure, Kind, NOT_AN_INTEGER};
use crate::failover::force::force;
use crate::observe::monitor::Monitoring;
use crate::protocol::{Args, integer};
use crate::store::effect::Seq;
use std::time::{Duration, Instant};

const TAKES_OVER: Flags = ADMIN.and(Flags::NO_MULTI).and(Flags::CONNECTION);

/// The rows of these commands.
#[rustfmt::skip]
pub const COMMANDS: &[Row] = &[
    row(Replication, "lastseq", 1, FAST, lastseq)
        .help("", "Returns a token of this connection's last write, for WAITSEQ on another node.",
            "SET name Ada; LASTSEQ -> (a token)"),
    row(Replication, "waitseq", 3, Flags::LOADING.and(Flags::BLOCKS), waitseq)
        .help("token milliseconds", "Waits until this node has the write of a token, so that it can be read here.",
            "WAITSEQ 0.00000000:0 1000 -> OK"),
    row(Replication, "wait", 3, Flags::BLOCKS, wait)
        .help("numreplicas milliseconds",
            "Waits until this many followers have this connection's writes; returns how many do.",
            "SET name Ada; WAIT 0 1000 -> 0"),
    row(Replication, "waitaof", 4, Flags::BLOCKS, waitaof)
        .help("numlocal numreplicas milliseconds",
            "Waits until this connection's writes are on disk, here and on this many followers.",
            "WAITAOF 1 0 1000 -> 1) 1\n2) 0"),
    row(Replication, "role", 1, FAST, role)
        .help("", "Returns whether this node leads or follows, and the positions of all nodes.",
            "ROLE -> (master or slave, and positions)"),
    row(Replication, "replicaof", 3, ADMIN, replicaof)
        .help("host port | NO ONE", "Makes this node a follower of another one, or a leader.", "REPLICAOF NO ONE -> OK"),
    row(Replication, "slaveof", 3, ADMIN, replicaof)
        .help("host port | NO ONE", "The same as REPLICAOF.", "SLAVEOF NO ONE -> OK"),
    row(Replication, "promote", -1, ADMIN.and(Flags::NO_MULTI).and(Flags::BLOCKS), promote)
        .help("[milliseconds | FORCE]",
            "Makes this follower the leader without losing a write: the old leader hands over. FORCE: a \
             majority is gone for good; this node goes on alone, as the only member of a new cluster.",
            "PROMOTE -> OK this node leads already"),
    row(Replication, "replicate", -6, TAKES_OVER, replicate)
        .help("node-id seq epoch crc port [host [run-id]]",
            "Sent by a follower: turns this connection into a stream of the log.",
            "REPLICATE 0123456789abcdef0123456789abcdef01234567 0 0 00000000 0 -> (CONTINUE, and the log)"),
];

const ON_FOLLOWER: &str = "cannot be used with replica instances. Please also note that since Redis 4.0 if \
                           a replica is configured to be writable (which is not the default) writes to \
                           replicas are just local and are not propagated.";
/// How long PROMOTE tries by default.
const PROMOTE_MS: u64 = 10_000;

fn replicaof(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let ServerCall { engine, reply, .. } = call;
    if args.is(1, "no") && args.is(2, "one") {
        if engine.cluster.is_some() {
            return promote_within(call, PROMOTE_MS);
        }
        engine.lead()?;
        reply.ok();
        return Ok(());
    }
    if engine.config.is_in_cluster() {
        return Err(Failure::fixed("ERR the cluster decides who leads"));
    }
    let port = integer(&args[2]).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    let port = port.ok_or(Failure::fixed("ERR Invalid master port"))?;
    let host = String::from_utf8(args[1].to_vec()).ok().filter(|host| {
        !host.is_empty() && host.len() < 256 && host.bytes().all(|byte| byte.is_ascii_graphic())
    });
    let host = host.ok_or(Failure::fixed("ERR Invalid master host"))?;
    if engine.follow(LeaderAddr { host, port })? {
        reply.ok();
    } else {
        reply.simple("OK Already connected to specified master");
    }
    Ok(())
}

/// Asks the leader, over the link, to hand over. The threads of the link do it.
fn promote(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    if args.len() > 2 {
        return Err(Failure::arity("promote"));
    }
    if args.len() == 2 && args.is(1, "force") {
        return force(call);
    }
    let timeout = match args.get(1) {
        Some(millis) => positive(millis)?,
        None => PROMOTE_MS,
    };
    promote_within(call, timeout)
}

fn promote_within(call: &mut ServerCall<'_>, timeout: u64) -> Result<(), Failure> {
    let ServerCall { engine, reply, .. } = call;
    if !engine.role.is_follower() {
        reply.simple("OK this node leads already");
        return Ok(());
    }
    if !engine.role.link_is_up() && engine.cluster.is_some() {
        return Err(Failure::fixed(
            "ERR the link to the leader is down, so it cannot hand over; without a leader the nodes elect one by \
             themselves",
        ));
    }
    if !engine.role.link_is_up() {
        return Err(Failure::fixed(
            "ERR the link to the leader is down, so it cannot hand over; REPLICAOF NO ONE leads at once, \
             without the writes that only the leader has",
        ));
    }
    let node_id = engine.persistence.as_ref().map(|persistence| &*persistence.node_id);
    if !engine.may_lead(node_id.unwrap_or_default()) {
        return Err(Failure::fixed(
            "ERR this node does not vote, so it cannot lead; MEMBERS ADD on the leader lets it vote",
        ));
    }
    engine.role.request_handover();
    let deadline = Instant::now().checked_add(Duration::from_millis(timeout));
    let is_over = || !engine.role.is_follower() || engine.shutdown.is_requested();
    engine.role.changed.wait_until(deadline, is_over);
    // After this, an offer of the leader's is declined.
    engine.role.withdraw_request();
    if engine.role.is_follower() {
        return Err(Failure::fixed("ERR the leader has not handed over in time"));
    }
    reply.ok();
    Ok(())
}

/// The connection becomes a follower's link.
fn replicate(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let words: Vec<Vec<u8>> = args.from(1).map(<[u8]>::to_vec).collect();
    call.session.ending = Ending::HandOver(Box::new(move |engine, session, early| {
        let request = Request::parse(words.iter().map(Vec::as_slice));
        let request =
            request.ok_or(Failure::fixed("ERR REPLICATE is for followers; see HELP REPLICATE"))?;
        // From here on, only the log and what belongs to it may come over the link.
        session.subscriptions.leave_all();
        session.monitoring = Monitoring::Off;
        leader::serve(engine, &session.client, &request, early)
    }));
    Ok(())
}

/// As Redis: `master`, a position, and the followers; or `slave`, the leader, the link's state, a position.
/// Positions are seqs.
fn role(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    let ServerCall { engine, reply, session } = call;
    if let Some(names) = engine.names_for(&session.client) {
        reply.array(2);
        reply.bulk(b"sentinel");
        reply.array(names.len());
        names.iter().for_each(|name| reply.bulk(name.as_bytes()));
        return Ok(());
    }
    let appended =
        engine.persistence.as_ref().map_or(Seq(0), |persistence| persistence.log.appended());
    if let Some(follower) = engine.role.as_follower() {
        let leader = follower.target.map(|target| target.leader);
        reply.array(5);
        reply.bulk(b"slave");
        reply.bulk(leader.as_ref().map_or("", |leader| &leader.host).as_bytes());
        reply.int(leader.map_or(0, |leader| leader.port.into()));
        reply.bulk(follower.link_state.as_bytes());
        reply.int(appended.0 as i64);
        return Ok(());
    }
    let followers = engine.followers.all();
    reply.array(3);
    reply.bulk(b"master");
    reply.int(appended.0 as i64);
    reply.array(followers.len());
    for follower in followers {
        reply.array(3);
        reply.bulk(follower.host.as_bytes());
        reply.bulk(follower.port.to_string().as_bytes());
        reply.bulk(follower.applied().to_string().as_bytes());
    }
    Ok(())
}

/// `WAIT numreplicas timeout`: 0 waits for as long as it takes.
fn wait(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let ServerCall { engine, session, reply } = call;
    if engine.role.is_follower() {
        return Err(Failure::new(format!("ERR WAIT {ON_FOLLOWER}")));
    }
    let wanted = integer(&args[1]).ok_or(NOT_AN_INTEGER)?;
    let deadline = timeout(&args[2])?;
    let seq = session.last_write;
    let wanted = wanted.max(0) as usize;
    reply.count(wait_for(engine, session, wanted, deadline, |follower| follower.has_applied(seq))?);
    Ok(())
}

/// `WAITAOF numlocal numreplicas timeout`: whether this connection's last write is on this node's disk, and
/// on how many followers'.
fn waitaof(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let ServerCall { engine, session, reply } = call;
    let number = |at: usize| integer(&args[at]).ok_or(NOT_AN_INTEGER);
    let (local, replicas) = (number(1)?, number(2)?);
    if !(0..=1).contains(&local) || replicas < 0 {
        return Err(Failure::fixed("ERR value is out of range, must be between 0 and 1"));
    }
    let deadline = timeout(&args[3])?;
    if engine.role.is_follower() {
        return Err(Failure::new(format!("ERR WAITAOF {ON_FOLLOWER}")));
    }
    let persistence = match &engine.persistence {
        Some(persistence) => persistence,
        None if local > 0 => {
            let text =
                "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";
            return Err(Failure::fixed(text));
        }
        None => {
            reply.array(2);
            reply.int(0);
            reply.int(0);
            return Ok(());
        }
    };
    let (log, seq) = (&persistence.log, session.last_write);
    if local > 0 && is_here(engine, session) {
        // At an interval the sync thread syncs; under other policies perhaps no thread does.
        if !matches!(persistence.gate.policy.get(), Fsync::Every(_)) {
            log.sync().map_err(|error| gate::misconf(&error))?;
        }
        if !matches!(session.mode, Mode::Executing) {
            let is_over = || log.durable() >= seq || log.check().is_err();
            engine.block(&session.client, Wait::Asked, &log.progress, deadline, is_over)?;
        }
    }
    let has_it = |follower: &ReplicaProgress| follower.has_durable(seq);
    let count = wait_for(engine, session, replicas as usize, deadline, has_it)?;
    reply.array(2);
    reply.flag(is_here(engine, session) && log.durable() >= seq);
    reply.count(count);
    Ok(())
}

/// Waits until `wanted` followers satisfy a condition. Returns how many do. In an EXEC it does not wait, as in
/// Redis.
fn wait_for(
    engine: &Engine,
    session: &Session,
    wanted: usize,
    deadline: Option<Instant>,
    condition: impl Fn(&ReplicaProgress) -> bool,
) -> Result<usize, Failure> {
    let Some(persistence) = &engine.persistence else { return Ok(0) };
    // After a change of roles, another record may have the number of a write that was given up.
    if !is_here(engine, session) {
        return Ok(0);
    }
    // Only written records are sent. An error shows at the gate.
    let _ = persistence.log.ensure_written(session.last_write);
    if !matches!(session.mode, Mode::Executing) {
        engine.wait_for_followers(&session.client, wanted, deadline, &condition)?;
    }
    let count = engine.followers.count(condition);
    Ok(if is_here(engine, session) { count } else { 0 })
}

/// True if a connection's last write is in this node's history.
fn is_here(engine: &Engine, session: &Session) -> bool {
    matches!(find_write(engine, &last_token(session)), Ok(Seen::Here))
}

fn lastseq(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    log_of(call.engine)?;
    call.reply.bulk(last_token(call.session).text().as_bytes());
    Ok(())
}

/// The token of a connection's last write.
fn last_token(session: &Session) -> Token {
    let ((epoch, crc), seq) = (session.last_write_epoch, session.last_write);
    Token { epoch, crc, seq }
}

fn waitseq(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let ServerCall { engine, session, reply } = call;
    let token = Token::parse(&args[1]).ok_or(Failure::fixed("ERR this is no token of LASTSEQ"))?;
    let deadline = match session.mode {
        Mode::Executing => Some(Instant::now()),
        _ => deadline(Duration::from_millis(positive(&args[2])?)),
    };
    let moved = &log_of(engine)?.log.written_moved;
    let mut seen = Ok(Seen::NotYet);
    engine.block(&session.client, Wait::Asked, moved, deadline, || {
        seen = find_write(engine, &token);
        !matches!(seen, Ok(Seen::NotYet))
    })?;
    match seen? {
        Seen::Here => {
            reply.ok();
            Ok(())
        }
        Seen::NotYet => Err(stale(engine, &token)),
    }
}

enum Seen {
    Here,
    NotYet,
}

/// True if this node has a token's write. An error means that its current history does not contain it.
fn find_write(engine: &Engine, token: &Token) -> Result<Seen, Failure> {
    if token.seq == Seq(0) {
        return Ok(Seen::Here);
    }
    let log = &log_of(engine)?.log;
    // Read in this order; a change of history meanwhile makes the answer void.
    let generation = log.generation();
    let loading = engine.loading.is_active();
    let applied = log.appended();
    let outline = log.outline();
    let (own, newest) = (outline.epochs.of(token.seq), outline.epochs.last());
    drop(outline);
    let matches = |start: &Position| start.epoch == token.epoch && start.crc == token.crc;
    let is_here = token.seq <= applied && !loading;
    if log.generation() != generation {
        return Ok(Seen::NotYet);
    }
    match (own, newest) {
        (Some(own), _) if matches(&own) => Ok(if is_here { Seen::Here } else { Seen::NotYet }),
        // Its epoch has not begun here yet.
        (_, newest) if newest.is_none_or(|newest| newest.epoch < token.epoch) => Ok(Seen::NotYet),
        _ => Err(Failure::fixed(
            "DIVERGED the write of this token is not in this node's history: a failover lost it, or this \
             node has not yet come back from one",
        )),
    }
}

fn stale(engine: &Engine, token: &Token) -> Failure {
    let applied = engine.persistence.as_ref().map_or(Seq(0), |own| own.log.appended());
    let leader = engine
        .role
        .leader()
        .map_or("this node leads".to_string(), |leader| format!("the leader is {leader}"));
    let refusal = Failure::new(format!(
        "STALE this node has come to record {applied} and not yet to {}; {leader}",
        token.seq
    ));
    refusal.of_kind(Kind::Unavailable)
}

fn positive(millis: &[u8]) -> Result<u64, Failure> {
    let millis =
        integer(millis).ok_or(Failure::fixed("ERR timeout is not an integer or out of range"))?;
    u64::try_from(millis).map_err(|_| Failure::fixed("ERR timeout is negative"))
}

/// The end of a timeout; 0 is no limit.
fn timeout(millis: &[u8]) -> Result<Option<Instant>, Failure> {
    let millis = positive(millis)?;
    Ok(if millis == 0 { None } else { deadline(Duration::from_millis(millis)) })
}

/// None if the clock cannot represent it.
fn deadline(time: Duration) -> Option<Instant> {
    Instant::now().checked_add(time)
}

impl Engine {
    /// Waits until `wanted` followers satisfy a condition, or until this node itself follows another.
    pub(crate) fn wait_for_followers(
        &self,
        client: &Client,
        wanted: usize,
        deadline: Option<Instant>,
        condition: impl Fn(&ReplicaProgress) -> bool,
    ) -> Result<(), Failure> {
        let mut log = self.persistence.as_ref().map(|persistence| &persistence.log);
        let is_over = || {
            // Once: the wait is counted by now, so the senders ask for acknowledgements at once.
            if let Some(log) = log.take() {
                log.written_moved.notify();
            }
            self.followers.count(&condition) >= wanted || self.role.is_follower()
        };
        self.block(client, Wait::Asked, &self.followers.acknowledged, deadline, is_over).map(drop)
    }
}
