//! The state of one connection between its requests.

use super::Engine;
use super::confirm::{Access, Ran, Unconfirmed};
use super::parking::{Place, UncertainReplies};
use super::queue::{Queue, discarded};
use super::table::Resolved;
use crate::aof::record::Epoch;
use crate::clients::Client;
use crate::clients::pause::PauseKind;
use crate::clock::Reading;
use crate::commands::{Flags, Spec};
use crate::config::{ConfigSnapshot, Id, OutputLimit};
use crate::error::{Failure, Kind};
use crate::metrics::timeline::Step;
use crate::observe::monitor::Monitoring;
use crate::observe::probe::Probe;
use crate::protocol::{Args, Dialect};
use crate::pubsub::notify::Notice;
use crate::pubsub::{LastMessage, Subscriptions};
use crate::store::Watches;
use crate::store::effect::Seq;
use std::sync::Arc;

/// The mode of CLIENT REPLY: are replies sent?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyMode {
    /// Yes.
    #[default]
    On,
    /// No.
    Off,
    /// Not to the next command.
    SkipNext,
    /// Not to the command that is running.
    SkipThis,
}

impl ReplyMode {
    /// True if the running command is answered.
    pub(crate) fn is_on(self) -> bool {
        self == ReplyMode::On
    }

    /// Called before a command.
    pub(crate) fn begin(&mut self) {
        if *self == ReplyMode::SkipNext {
            *self = ReplyMode::SkipThis;
        }
    }

    /// Called after a command, which may have changed the mode; returns whether to take its reply back.
    pub(crate) fn end(&mut self) -> bool {
        let mode = *self;
        if mode == ReplyMode::SkipThis {
            *self = ReplyMode::On;
        }
        mode != ReplyMode::On
    }
}

/// How a session's commands run.
#[derive(Debug, Default)]
pub enum Mode {
    /// At once.
    #[default]
    Direct,
    /// MULTI was called: they are queued.
    Queueing(Queue),
    /// EXEC runs them: they wait for nothing.
    Executing,
}

/// Takes over a connection: it is given the bytes that were received after the request. Returns whether it
/// served something until the end of the connection.
pub type Serve = Box<dyn FnOnce(&Engine, &mut Session, &[u8]) -> Result<bool, Failure> + Send>;

/// The connection's future after a command.
#[derive(Default)]
pub enum Ending {
    /// It goes on.
    #[default]
    None,
    /// It closes once the replies are sent (QUIT, CLIENT KILL of itself).
    AfterReply,
    /// It closes once the requests that are here already have been answered (a leader that leads no longer).
    AfterBatch,
    /// A function serves it from here on: it becomes a follower's link.
    HandOver(Serve),
    /// It closes at once, without a reply (a browser was tricked into talking to us).
    Now,
}

/// The state of one connection.
pub struct Session {
    /// The part that other threads see.
    pub client: Arc<Client>,
    /// True if the password was given, or none is needed.
    pub authenticated: bool,
    /// The RESP version of replies to RESP requests.
    pub resp: Dialect,
    /// True after the first RESP request: the peer is a program and reads RESP.
    sent_resp: bool,
    /// True after a line with HELLO 2 or HELLO 3, until RESET.
    pub(crate) asked_for_resp: bool,
    /// The mode of CLIENT REPLY.
    pub reply_mode: ReplyMode,
    /// Commands run at once, or are queued.
    pub mode: Mode,
    /// Keys that the next EXEC depends on.
    pub(crate) watches: Watches,
    /// Set by a command that ends the connection or hands it over.
    pub ending: Ending,
    /// The settings that this batch runs under.
    pub(crate) config: ConfigSnapshot,
    /// Counts and times the commands.
    pub probe: Probe,
    /// A recent reading of the clocks, from which a command's time is worked out.
    pub(crate) reading: Reading,
    /// The current command has waited since the stopwatch was started.
    pub(crate) waited: bool,
    /// Wrong passwords so far. Each delays the reply to the next.
    pub auth_failures: u32,
    /// The channels and patterns subscribed to.
    pub subscriptions: Subscriptions,
    /// Messages and events of this batch, sent to subscribers after the gate.
    pub(crate) notices: Vec<Notice>,
    /// The last message that was sent to subscribers, or left to be sent.
    pub(crate) last_message: LastMessage,
    /// This connection's last record.
    pub(crate) last_write: Seq,
    /// The leadership that it belongs to: its epoch and the crc of its first record.
    pub(crate) last_write_epoch: (Epoch, u32),
    /// True if this batch has written.
    pub(crate) wrote: bool,
    /// The newest record that this batch's replies depend on.
    pub(crate) depends_on: Seq,
    /// When this batch began, records up to here were as safe as promised.
    pub(crate) promised: Seq,
    /// The replies of this batch that become errors if the log fails.
    pub(crate) uncertain_replies: Option<UncertainReplies>,
    /// Among nodes that elect their leader: where this batch began to run.
    pub(super) ran: Ran,
    /// Commands have run while this node led.
    pub(super) has_met_leader: bool,
    /// What the running command did with the data.
    pub(super) access: Access,
    /// What the last command of this batch did that used data.
    pub(super) last_access: Access,
    /// The replies of this batch that become errors if they are not confirmed.
    pub(super) unconfirmed: Option<Unconfirmed>,
    /// The seq that the last parked batch waits for; no lower than those of the batches parked before it.
    pub(crate) parked_until: Seq,
    /// Where its batches are parked, once one was.
    pub(super) place: Option<Arc<Place>>,
    /// The buffer for records, kept from one to the next.
    pub(crate) record: Vec<u8>,
    /// CLIENT PAUSE inside the EXEC that runs: it begins at the end.
    pub(crate) pauses: Vec<(PauseKind, u64)>,
    /// MONITOR.
    pub monitoring: Monitoring,
}

impl Session {
    /// The session of a new connection.
    pub fn new(engine: &Engine, client: Arc<Client>) -> Session {
        let (pubsub, subscriber) = (Arc::clone(&engine.pubsub), Arc::clone(&client.subscriber));
        Session {
            authenticated: engine.config.text(Id::Requirepass).is_empty(),
            watches: Watches::new(Arc::clone(&engine.store), Arc::clone(&client.watch_fired)),
            config: ConfigSnapshot::of(&engine.config),
            subscriptions: Subscriptions::new(pubsub, subscriber, engine.clients.memory()),
            client,
            resp: Dialect::Resp2,
            sent_resp: false,
            asked_for_resp: false,
            reply_mode: ReplyMode::On,
            mode: Mode::Direct,
            ending: Ending::None,
            probe: Probe::default(),
            reading: Reading::now(),
            waited: false,
            auth_failures: 0,
            notices: Vec::new(),
            last_message: LastMessage::default(),
            last_write: Seq(0),
            last_write_epoch: (Epoch(0), 0),
            wrote: false,
            depends_on: Seq(0),
            promised: Seq(0),
            uncertain_replies: None,
            ran: Ran::default(),
            has_met_leader: false,
            access: Access::None,
            last_access: Access::None,
            unconfirmed: None,
            parked_until: Seq(0),
            place: None,
            record: Vec::new(),
            pauses: Vec::new(),
            monitoring: Monitoring::Off,
        }
    }

    /// The dialect of replies to lines: text for people, RESP for programs and under `inline-replies resp`.
    pub fn line_dialect(&self) -> Dialect {
        let is_resp = self.config.is_inline_resp || self.sent_resp || self.asked_for_resp;
        if is_resp { self.resp } else { Dialect::Text }
    }

    /// Called before each RESP request. After the first one, lines are answered in RESP.
    pub fn record_resp(&mut self) {
        if !std::mem::replace(&mut self.sent_resp, true) {
            self.speak_resp();
        }
    }

    /// Called before each line: with HELLO 2 or HELLO 3, a program that sends lines asks for RESP.
    pub fn record_line(&mut self, args: Args<'_>) {
        if args.is(0, "hello") && (args.is(1, "2") || args.is(1, "3")) {
            self.asked_for_resp = true;
            self.speak_resp();
        }
    }

    /// Messages and monitored commands are written in RESP from now on.
    fn speak_resp(&mut self) {
        self.client.subscriber.speak(self.resp);
        self.monitoring.speak(self.resp);
    }

    /// Bytes kept from one request to the next, counted as the client's memory.
    pub fn allocated_bytes(&self) -> usize {
        self.record.capacity()
    }

    /// How much may wait for this client.
    pub(crate) fn output_limit(&self) -> OutputLimit {
        self.config.output_limit(self.client.class())
    }

    /// Gives back the memory of an unusually large request.
    pub fn shrink(&mut self) {
        const KEEP_MAX: usize = 16 << 10;
        self.record.clear();
        self.record.shrink_to(KEEP_MAX);
    }

    /// The current command has waited: for CLIENT PAUSE, the log, or evictions.
    pub(crate) fn record_wait(&mut self) {
        self.waited = true;
        self.probe.waited(Step::Wait);
    }

    /// A command has run.
    pub(crate) fn ran(&mut self, engine: &Engine, found: Resolved, args: Args<'_>, failed: bool) {
        let waits = self.depends_on > self.promised;
        self.probe.ran(engine, &self.client, (found, args), failed, waits);
    }

    /// A command is refused. A program that found the leader here, and writes on after another node leads, is to look for
    /// the leader again: clients of Sentinel do when their connection closes, as Sentinel closes it then.
    pub(super) fn note_refusal(&mut self, failure: &Failure, dialect: Dialect) {
        if self.has_met_leader && failure.kind() == Kind::ReadOnly && dialect != Dialect::Text {
            self.ending = Ending::AfterBatch;
        }
    }

    /// The flags that the guards go by: for EXEC, those of all queued commands.
    pub(crate) fn flags_of(&self, command: &Spec) -> Flags {
        match &self.mode {
            Mode::Queueing(queue) if command.name == "exec" => {
                command.flags.without(Flags::LOADING).and(queue.flags())
            }
            _ => command.flags,
        }
    }

    /// True if a command is to run later, at EXEC.
    pub(crate) fn queues(&self, command: &Spec) -> bool {
        matches!(self.mode, Mode::Queueing(_)) && !command.flags.has(Flags::UNQUEUED)
    }

    /// Ends a transaction, and forgets the watched keys.
    pub(crate) fn leave_transaction(&mut self) {
        self.mode = Mode::Direct;
        self.watches.clear();
        self.record_transaction();
    }

    /// Called when the guards refuse a command: EXEC will be refused too, and a refused EXEC ends it.
    pub(crate) fn refuse_transaction(&mut self, args: Args<'_>, failure: Failure) -> Failure {
        if args.is(0, "exec") {
            self.leave_transaction();
            return discarded(failure);
        }
        if let Mode::Queueing(queue) = &mut self.mode {
            queue.fail();
            self.record_transaction();
        }
        failure
    }

    /// Shows CLIENT LIST how many commands are queued, and counts their memory.
    pub(crate) fn record_transaction(&self) {
        let (commands, bytes) = match &self.mode {
            Mode::Queueing(queue) => (queue.len() as i64, queue.allocated_bytes()),
            _ => (-1, 0),
        };
        self.client.record_transaction(commands, bytes + self.watches.bytes());
    }
}
