//! Counting what commands do and cost, and keeping those worth a look.
//!
//! Each command reads the clock once, at its end. From that come the latency histograms, and the
//! question whether this one is to be looked at more closely: because it was slow, or because it is
//! sampled or traced. Only a command that is sampled or traced reads the clock at each of its steps.
//! Waiting for a lock is told without that: the store says whether others held it, and only then is the
//! clock read.
//!
//! # Slow at the gate
//!
//! The usual slow write is not a slow command but a slow disk, and the gate is passed once per batch,
//! when its commands have long run. So:
//!
//! - A command whose own time reaches `slowlog-log-slower-than` is kept at once, as in Redis; the gate's
//!   share is added when the gate has been passed.
//! - Besides, the first command of each batch that has to wait for the log is remembered. It will have
//!   waited longest: if its own time and the gate's together reach the limit, it is kept. One entry for
//!   one wait, however many commands shared it.
//!
//! Replies that are parked take this with them to the sync thread.

use super::observed::{Observed, Words};
use crate::aof::stats::Stages;
use crate::clock::Stopwatch;
use crate::commands::{Flags, Spec};
use crate::config::Id;
use crate::engine::table::Resolved;
use crate::engine::{Client, Engine, Persistence, Session};
use crate::metrics::LocalHistogram;
use crate::metrics::timeline::{Step, Timeline};
use crate::protocol::Args;
use crate::store::effect::Seq;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Counts of one batch, added to the shared counters at its end.
#[derive(Debug, Default)]
pub struct Tally {
    /// The command of which `calls` and `latency` are.
    command: usize,
    calls: u64,
    latency: LocalHistogram,
    pub hits: u64,
    pub misses: u64,
}

/// Whether a command's steps are timed one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timing {
    /// No.
    #[default]
    Off,
    /// Yes: it goes into the ring of samples.
    Sample,
    /// Yes: TRACE takes its timeline.
    Trace,
}

/// What a session looks out for.
#[derive(Debug, Default)]
pub struct Watch {
    /// A command that takes so many microseconds goes into the slow log.
    slow_from: u64,
    /// A command that takes so many microseconds is looked at: the lower of the limits.
    look_from: u64,
    /// One in so many commands is sampled; 0: none.
    sample_every: u32,
    /// Commands until the next sample.
    countdown: u32,
    /// How the present command is timed.
    pub timing: Timing,
    /// The present command's steps, as far as they are known; behind a traced one, its.
    pub timeline: Timeline,
    /// What is not over yet for the commands of this batch.
    pub pending: Pending,
}

/// Commands whose replies are on their way to the gate.
#[derive(Debug, Default)]
pub struct Pending {
    /// Those that are kept.
    observed: Vec<Arc<Observed>>,
    first: Waiting,
    /// Memory for the next one's words.
    spare: Words,
}

/// The first command of a batch that has to wait for the log.
#[derive(Debug, Default)]
enum Waiting {
    /// There is none.
    #[default]
    Nobody,
    /// It is kept already.
    Kept,
    /// It will be kept if the gate takes long.
    First(First),
}

#[derive(Debug)]
struct First {
    command: &'static str,
    words: Words,
    timeline: Timeline,
    ended: Stopwatch,
}

impl Pending {
    /// Whether anything is to be filled in once the replies are sent.
    pub fn is_observed(&self) -> bool {
        !self.observed.is_empty()
    }

    /// The replies were handed to the kernel, in so many nanoseconds.
    pub fn sent(&mut self, nanos: u64) {
        self.observed.drain(..).for_each(|observed| observed.sent(nanos));
    }
}

impl Engine {
    /// Called before the first request of a batch: reads the clocks, and the settings that hold for it.
    pub fn begin_batch(&self, session: &mut Session) {
        session.begin_batch();
        session.promised = self.persistence.as_ref().map_or(Seq(0), Persistence::promised);
        self.read_limits(session);
    }

    /// Takes over the settings that say what is worth a look; called also behind a change of them.
    pub(crate) fn read_limits(&self, session: &mut Session) {
        let limit = |id, unit| u64::try_from(self.config.int(id)).map(|limit| limit * unit);
        let watch = &mut session.watch;
        watch.slow_from = limit(Id::SlowlogLogSlowerThan, 1).unwrap_or(u64::MAX);
        let spike_from = limit(Id::LatencyMonitorThreshold, 1000).ok().filter(|limit| *limit > 0);
        watch.look_from = watch.slow_from.min(spike_from.unwrap_or(u64::MAX));
        let every = self.sample_every.load(Relaxed);
        if every != watch.sample_every {
            watch.sample_every = every;
            // Not each connection's first: most are of one kind.
            watch.countdown = session.client.id.0 as u32 % every.max(1);
        }
    }

    /// Called before a command.
    pub(crate) fn begin_command(&self, session: &mut Session) {
        let watch = &mut session.watch;
        if watch.timing == Timing::Trace {
            return;
        }
        // What the one before left if it was refused or queued.
        watch.timing = Timing::Off;
        if !watch.timeline.is_empty() {
            watch.timeline = Timeline::default();
        }
        if watch.sample_every == 0 {
            return;
        }
        if watch.countdown > 0 {
            watch.countdown -= 1;
            return;
        }
        watch.countdown = watch.sample_every - 1;
        watch.timing = Timing::Sample;
        watch.timeline.up_to(Step::Parse, session.stopwatch.nanos());
    }

    /// Called behind a command that has run.
    pub(crate) fn end_command(
        &self,
        session: &mut Session,
        found: Resolved,
        args: Args<'_>,
        failed: bool,
    ) {
        let nanos = session.stopwatch.lap_nanos();
        self.count(session, found.index, nanos / 1000, failed);
        if self.monitors.are_watching() {
            self.monitors.tell(session.client.addr, found.command, args);
        }
        let (watch, needed) = (&mut session.watch, session.depends_on);
        let waits = matches!(watch.pending.first, Waiting::Nobody) && needed > session.promised;
        let is_plain = watch.timing == Timing::Off && watch.timeline.is_empty();
        if !waits && is_plain && nanos / 1000 < watch.look_from {
            watch.timeline.seq = 0;
            return;
        }
        self.look_at(session, found.command, args, nanos, waits);
    }

    /// Decides what becomes of a command that may be worth a look.
    fn look_at(
        &self,
        session: &mut Session,
        command: &'static Spec,
        args: Args<'_>,
        nanos: u64,
        waits: bool,
    ) {
        let watch = &mut session.watch;
        let timing = std::mem::take(&mut watch.timing);
        let mut timeline = std::mem::take(&mut watch.timeline);
        timeline.up_to(Step::Run, nanos);
        // It waits because it was asked to; TRACE is shown as the command that it runs.
        let blocks = command.flags.has(Flags::BLOCKS);
        let is_fast = command.flags.has(Flags::FAST);
        self.latency.note(&self.config, if is_fast { "fast-command" } else { "command" }, nanos);
        let (ended, client) = (session.stopwatch, &session.client);
        let is_slow = timeline.total() / 1000 >= watch.slow_from && !blocks;
        if is_slow {
            let max = self.config.int(Id::SlowlogMaxLen) as usize;
            let words = Words::of(command, args);
            let kept = self.slowlog.add(max, client, command.name, words, ended, timeline);
            watch.pending.observed.push(kept);
            watch.pending.first = Waiting::Kept;
        } else if waits && watch.slow_from < u64::MAX {
            let mut words = std::mem::take(&mut watch.pending.spare);
            words.fill(command, args);
            watch.pending.first =
                Waiting::First(First { command: command.name, words, timeline, ended });
        }
        match timing {
            Timing::Off => {}
            Timing::Trace => watch.timeline = timeline,
            Timing::Sample if blocks => {}
            Timing::Sample => {
                let words = Words::of(command, args);
                let kept =
                    self.samples.add(SAMPLES_MAX, client, command.name, words, ended, timeline);
                watch.pending.observed.push(kept);
            }
        }
    }

    /// A batch's replies have passed the gate; `began` is when they came to it. `stages` is None if there
    /// was nothing to wait for.
    pub(crate) fn settle(
        &self,
        pending: &mut Pending,
        client: &Client,
        began: Stopwatch,
        stages: Option<Stages>,
    ) {
        let first = std::mem::take(&mut pending.first);
        let nobody_waits = matches!(first, Waiting::Nobody) && pending.observed.is_empty();
        if stages.is_none() && nobody_waits {
            return;
        }
        let (now, waited) = (Stopwatch::start(), stages.is_some());
        let stages = stages.unwrap_or_default();
        if waited {
            self.metrics.gate_wait.record(now.since(&began) / 1000);
            self.latency.note(&self.config, "aof-write", stages.write);
            self.latency.note(&self.config, "aof-fsync-always", stages.fsync);
        }
        if let Waiting::First(first) = first {
            let nanos = first.timeline.total() + now.since(&first.ended);
            let limit = u64::try_from(self.config.int(Id::SlowlogLogSlowerThan));
            if limit.is_ok_and(|limit| nanos / 1000 >= limit) {
                let max = self.config.int(Id::SlowlogMaxLen) as usize;
                let First { command, words, timeline, ended } = first;
                let kept = self.slowlog.add(max, client, command, words, ended, timeline);
                pending.observed.push(kept);
            } else {
                pending.spare = first.words;
            }
        }
        pending.observed.iter().for_each(|observed| observed.pass_gate(now, stages));
    }

    fn count(&self, session: &mut Session, index: usize, micros: u64, failed: bool) {
        if session.tally.command != index {
            self.flush_command_tally(session);
            session.tally.command = index;
        }
        let stats = &self.metrics.commands[index];
        session.tally.calls += 1;
        session.tally.latency.record(micros, &stats.latency);
        if failed {
            stats.failed.increment();
        }
    }

    /// Adds a batch's counts to the shared counters.
    pub(crate) fn flush_tally(&self, session: &mut Session) {
        self.flush_command_tally(session);
        self.metrics.keyspace_hits.add(std::mem::take(&mut session.tally.hits));
        self.metrics.keyspace_misses.add(std::mem::take(&mut session.tally.misses));
    }

    fn flush_command_tally(&self, session: &mut Session) {
        let tally = &mut session.tally;
        self.metrics.commands_processed.add(std::mem::take(&mut tally.calls));
        self.metrics.commands[tally.command].latency.add(&mut tally.latency);
    }
}

/// Samples kept; older ones are forgotten.
const SAMPLES_MAX: usize = 128;
