//! What the server remembers of one connection between its requests.

use super::Engine;
use super::clients::Client;
use super::pause::PauseKind;
use super::persistence::AtStake;
use super::transaction::Queue;
use crate::aof::record::Epoch;
use crate::clock::{Reading, Stopwatch};
use crate::error::Failure;
use crate::metrics::timeline::Step;
use crate::observe::monitor::Monitoring;
use crate::observe::probe::{Tally, Timing, Watch};
use crate::protocol::{Args, Dialect};
use crate::pubsub::Subscriptions;
use crate::pubsub::notify::Notice;
use crate::store::effect::Seq;
use crate::store::{Store, Watches};
use std::fmt;
use std::sync::Arc;

/// Whether replies are sent (CLIENT REPLY).
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
    /// Whether the command that is running is answered.
    pub(crate) fn is_on(self) -> bool {
        self == ReplyMode::On
    }

    /// Called before a command.
    pub(crate) fn begin(&mut self) {
        if *self == ReplyMode::SkipNext {
            *self = ReplyMode::SkipThis;
        }
    }

    /// Called behind a command, which may have changed the mode; returns whether to take its answer
    /// back. The answer to what turns replies on is sent, that to what turns them off is not.
    pub(crate) fn end(&mut self) -> bool {
        let mode = *self;
        if mode == ReplyMode::SkipThis {
            *self = ReplyMode::On;
        }
        mode != ReplyMode::On
    }
}

/// What is done with a command.
#[derive(Debug, Default)]
pub enum Mode {
    /// It runs.
    #[default]
    Direct,
    /// It is queued, since MULTI.
    Queueing(Queue),
    /// It is one of EXEC's: it runs, and waits for nothing.
    Executing,
}

type ServeFn = dyn FnOnce(&Engine, &mut Session, &[u8]) -> Result<bool, Failure> + Send;

/// Takes over a connection: it is given the bytes that were received after the request. Returns whether it
/// served something until the end of the connection.
pub struct Serve(pub Box<ServeFn>);

impl fmt::Debug for Serve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Serve")
    }
}

/// What becomes of the connection after a command.
#[derive(Debug, Default)]
pub enum Ending {
    /// It goes on.
    #[default]
    None,
    /// It closes once the replies are sent (QUIT, CLIENT KILL of itself).
    AfterReply,
    /// A function serves it from here on: it becomes a follower's link.
    HandOver(Serve),
    /// It closes at once, without a reply (a browser was tricked into talking to us).
    Now,
}

/// The state of one connection. Owned by its thread.
#[derive(Debug)]
pub struct Session {
    /// What others see of it.
    pub client: Arc<Client>,
    /// Whether the password was given, or none is needed.
    pub authenticated: bool,
    /// What RESP requests are answered in.
    pub resp: Dialect,
    /// It has sent a RESP request, so it is a program and reads RESP.
    sent_resp: bool,
    /// A line has asked for RESP, with HELLO 2 or HELLO 3. RESET takes that back.
    pub(crate) asked_for_resp: bool,
    /// Whether replies are sent.
    pub reply_mode: ReplyMode,
    /// Whether commands run at once.
    pub mode: Mode,
    /// Keys that the next EXEC depends on.
    pub(crate) watches: Watches,
    /// Whether to go on.
    pub ending: Ending,
    /// Measures the commands of a batch one after another.
    pub stopwatch: Stopwatch,
    /// The clocks as they were lately, to know the time of a command without asking.
    pub(crate) reading: Reading,
    /// The present command has waited since `stopwatch` was started: what it shows is no longer the time.
    pub(crate) waited: bool,
    /// Wrong passwords so far: each makes the answer to the next slower.
    pub auth_failures: u32,
    /// What it listens to.
    pub subscriptions: Subscriptions,
    /// What this batch has to tell subscribers, behind the gate.
    pub(crate) notices: Vec<Notice>,
    /// This connection's last record.
    pub(crate) last_write: Seq,
    /// The leadership that it is of: its number, and the crc of its first record.
    pub(crate) last_write_epoch: (Epoch, u32),
    /// Whether this batch has written anything.
    pub(crate) wrote: bool,
    /// The newest record that this batch's replies depend on.
    pub(crate) depends_on: Seq,
    /// The replies of this batch that a failure of the log would take back.
    pub(crate) at_stake: Option<AtStake>,
    /// Kept from one record to the next.
    pub(crate) record: Vec<u8>,
    pub(crate) tally: Tally,
    pub(crate) watch: Watch,
    /// CLIENT PAUSE of the EXEC that runs: it begins at the end.
    pub(crate) pauses: Vec<(PauseKind, u64)>,
    /// Asked for MONITOR in this batch, and what lines shall come in.
    pub(crate) begins_monitoring: Option<Dialect>,
    /// While it monitors.
    pub monitoring: Option<Monitoring>,
    /// When this batch began, records up to here were as safe as is promised.
    pub(crate) promised: Seq,
}

impl Session {
    /// A new connection.
    pub fn new(
        client: Arc<Client>,
        subscriptions: Subscriptions,
        authenticated: bool,
        store: Arc<Store>,
    ) -> Session {
        let watches = Watches::new(store, Arc::clone(&client.watch_fired));
        Session {
            client,
            authenticated,
            resp: Dialect::Resp2,
            sent_resp: false,
            asked_for_resp: false,
            reply_mode: ReplyMode::On,
            mode: Mode::Direct,
            watches,
            ending: Ending::None,
            stopwatch: Stopwatch::start(),
            reading: Reading::now(),
            waited: false,
            auth_failures: 0,
            subscriptions,
            notices: Vec::new(),
            last_write: Seq(0),
            last_write_epoch: (Epoch(0), 0),
            wrote: false,
            depends_on: Seq(0),
            at_stake: None,
            record: Vec::new(),
            tally: Tally::default(),
            watch: Watch::default(),
            pauses: Vec::new(),
            begins_monitoring: None,
            monitoring: None,
            promised: Seq(0),
        }
    }

    /// The dialect of answers to lines: text for people, RESP for programs and under `inline-replies resp`.
    pub fn line_dialect(&self, inline_resp: bool) -> Dialect {
        let is_resp = inline_resp || self.sent_resp || self.asked_for_resp;
        if is_resp { self.resp } else { Dialect::Text }
    }

    /// To be called for each RESP request, before it runs. After the first one, lines are answered in RESP.
    pub fn note_resp(&mut self) {
        if !std::mem::replace(&mut self.sent_resp, true) {
            self.speak_resp();
        }
    }

    /// To be called for each line, before it runs: with HELLO 2 or HELLO 3, programs that send lines ask
    /// for RESP.
    pub fn note_line(&mut self, args: Args<'_>) {
        if args.is(0, "hello") && (args.is(1, "2") || args.is(1, "3")) {
            self.asked_for_resp = true;
            self.speak_resp();
        }
    }

    /// Messages and monitored commands are written in RESP from now on.
    fn speak_resp(&mut self) {
        self.client.subscriber.speak(self.resp);
        if let Some(monitoring) = &self.monitoring {
            monitoring.speak(self.resp);
        }
        self.begins_monitoring = self.begins_monitoring.map(|_| self.resp);
    }

    /// Bytes kept from one request to the next, to be counted as the client's.
    pub fn allocated_bytes(&self) -> usize {
        self.record.capacity()
    }

    /// Gives back what an unusually large request needed.
    pub fn shrink(&mut self) {
        const KEEP_MAX: usize = 16 << 10;
        self.record.clear();
        self.record.shrink_to(KEEP_MAX);
    }

    /// The present command's time up to now, as far as it is not accounted for, was this step.
    pub(crate) fn account(&mut self, step: Step) {
        self.watch.timeline.up_to(step, self.stopwatch.nanos());
    }

    /// As [`Session::account`], if the command's steps are timed.
    pub(crate) fn time(&mut self, step: Step) {
        if self.watch.timing != Timing::Off {
            self.account(step);
        }
    }

    /// As [`Session::account`], for a wait.
    pub(crate) fn account_wait(&mut self) {
        self.waited = true;
        self.account(Step::Wait);
    }

    pub(crate) fn begin_batch(&mut self) {
        self.stopwatch = Stopwatch::start();
    }
}
