//! Commands counted and timed, and kept if they were slow or sampled.
//!
//! A session carries one [`Probe`]. The path of a request calls it at four places:
//!
//! ```text
//! begin ── step, step … ── ran ─────────────── left
//! the command's start      its end: counted    its batch has passed the gate (Unsettled::left)
//! ```
//!
//! Each command reads the clock once, at its end. That gives the latency histograms and tells whether the
//! command was slow. Only a sampled or traced command reads the clock at each of its steps. Waiting for a
//! lock is timed for every command: the store says whether others held it, and only then is the clock read.
//!
//! Usually the disk is slow, not the command, and the gate is passed once per batch, after its commands have
//! run. So the first command of a batch that has to wait for the log is remembered: if its own time and the
//! gate's together reach `slowlog-log-slower-than`, it is kept. That is one entry for one wait, however many
//! commands shared it.

use super::observed::{KEPT, ObservedCommand, Ran, Words};
use crate::aof::stats::Stages;
use crate::clients::Client;
use crate::clock::Stopwatch;
use crate::commands::{Flags, Spec};
use crate::config::{ConfigSnapshot, Id};
use crate::engine::Engine;
use crate::engine::table::Resolved;
use crate::metrics::Stat;
use crate::metrics::timeline::{Step, Timeline};
use crate::metrics::{LocalHistogram, Metrics};
use crate::protocol::Args;
use crate::store::effect::Seq;
use std::sync::Arc;

/// Samples kept; older ones are forgotten.
const SAMPLES_MAX: usize = 128;

/// Counts of one batch, added to the shared counters at its end.
#[derive(Debug, Default)]
struct Tally {
    /// The command that `calls` and `latency` belong to.
    command: usize,
    calls: u64,
    latency: LocalHistogram,
    hits: u64,
    misses: u64,
}

/// How a command's steps are timed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Timing {
    /// Not one by one.
    #[default]
    Off,
    /// One by one: it goes into the ring of samples.
    Sample,
    /// One by one: TRACE takes its timeline.
    Trace,
}

/// The instruments of one session.
#[derive(Debug)]
pub struct Probe {
    /// Restarted after each command of a batch.
    pub stopwatch: Stopwatch,
    /// A command that takes so many microseconds goes into the slow log.
    slow_from: u64,
    /// A command that takes so many microseconds is examined: the lower of the limits.
    examine_from: u64,
    /// One in so many commands is sampled; 0: none.
    sample_every: u32,
    /// Commands until the next sample.
    countdown: u32,
    timing: Timing,
    /// Steps of the current command so far. After TRACE, the traced command's steps.
    timeline: Timeline,
    tally: Tally,
    /// Commands of this batch whose time at the gate is not yet known.
    pub unsettled: Unsettled,
}

/// Commands whose replies are on their way to the gate. Parked replies take it with them.
#[derive(Debug, Default)]
pub struct Unsettled {
    /// Commands that are kept in a ring.
    kept: Vec<Arc<ObservedCommand>>,
    first: FirstWait,
    /// Memory for the words of the next `first`.
    spare: Words,
}

/// The first command of a batch that has to wait for the log.
#[allow(
    clippy::large_enum_variant,
    reason = "there is one per session, and boxing it would cost each sampled command"
)]
#[derive(Debug, Default)]
enum FirstWait {
    /// No command has to wait so far.
    #[default]
    None,
    /// It is kept already.
    Kept,
    /// It will be kept if the gate takes long.
    Remembered(Ran),
}

impl Default for Probe {
    fn default() -> Probe {
        Probe {
            stopwatch: Stopwatch::start(),
            slow_from: u64::MAX,
            examine_from: u64::MAX,
            sample_every: 0,
            countdown: 0,
            timing: Timing::Off,
            timeline: Timeline::default(),
            tally: Tally::default(),
            unsettled: Unsettled::default(),
        }
    }
}

impl Probe {
    /// Takes over the limits, in microseconds, and TRACE SAMPLE's rate. `seed` differs between sessions: not
    /// the first command of each is sampled, because most of those are of one kind.
    pub(crate) fn configure(&mut self, config: &ConfigSnapshot, sample_every: u32, seed: u64) {
        self.slow_from = config.slow_from;
        self.examine_from = config.slow_from.min(config.spike_from);
        if sample_every != self.sample_every {
            self.sample_every = sample_every;
            self.countdown = seed as u32 % sample_every.max(1);
        }
    }

    /// Called before a command.
    pub fn begin(&mut self) {
        if self.timing == Timing::Trace {
            return;
        }
        // A command that was refused or queued may have left something.
        self.timing = Timing::Off;
        if !self.timeline.is_empty() {
            self.timeline = Timeline::default();
        }
        if self.sample_every == 0 {
            return;
        }
        if self.countdown > 0 {
            self.countdown -= 1;
            return;
        }
        self.countdown = self.sample_every - 1;
        self.timing = Timing::Sample;
        self.waited(Step::Parse);
    }

    /// The time up to now that belongs to no step yet was this step; recorded if the command's steps are
    /// timed.
    pub fn step(&mut self, step: Step) {
        if self.timing != Timing::Off {
            self.waited(step);
        }
    }

    /// As [`Probe::step`], for a wait: recorded in any case. Returns all nanoseconds of the step.
    pub fn waited(&mut self, step: Step) -> u64 {
        self.timeline.up_to(step, self.stopwatch.nanos());
        self.timeline.of(step)
    }

    /// The command has appended this record.
    pub fn appended(&mut self, seq: Seq) {
        self.timeline.seq = seq.0;
        self.step(Step::Append);
    }

    /// The command has looked keys up.
    pub fn looked_up(&mut self, (hits, misses): (u64, u64)) {
        self.tally.hits += hits;
        self.tally.misses += misses;
    }

    /// Called after a command that has run. `waits` is true if its reply will have to wait for the log.
    pub fn ran(
        &mut self,
        engine: &Engine,
        client: &Client,
        (found, args): (Resolved, Args<'_>),
        failed: bool,
        waits: bool,
    ) {
        let nanos = self.stopwatch.lap_nanos();
        self.count(&engine.metrics, found.index, nanos / 1000, failed);
        if engine.instruments.monitors.are_watching() {
            engine.instruments.monitors.tell(client.addr, found.command, args);
        }
        let waits = waits && matches!(self.unsettled.first, FirstWait::None);
        let is_plain = self.timing == Timing::Off && self.timeline.is_empty();
        if !waits && is_plain && nanos / 1000 < self.examine_from {
            self.timeline.seq = 0;
            return;
        }
        self.examine(engine, client, (found.command, args), nanos, waits);
    }

    /// Keeps a command that was slow or is sampled, and remembers the first that waits.
    fn examine(
        &mut self,
        engine: &Engine,
        client: &Client,
        (command, args): (&'static Spec, Args<'_>),
        nanos: u64,
        waits: bool,
    ) {
        let timing = std::mem::take(&mut self.timing);
        let mut timeline = std::mem::take(&mut self.timeline);
        timeline.up_to(Step::Run, nanos);
        let event = if command.flags.has(Flags::FAST) { "fast-command" } else { "command" };
        engine.instruments.latency.note(&engine.config, event, nanos);
        let ended = self.stopwatch;
        let ran = |mut words: Words| {
            words.fill(command, args, &KEPT);
            Ran { command: command.name, words, ended, timeline }
        };
        // A command that waits because it was asked to, and TRACE itself, are no news.
        let may_keep = !command.flags.has(Flags::BLOCKS);
        let unsettled = &mut self.unsettled;
        if may_keep && timeline.total() / 1000 >= self.slow_from {
            let max = engine.config.int(Id::SlowlogMaxLen) as usize;
            unsettled.kept.push(engine.instruments.slowlog.add(max, client, ran(Words::default())));
            unsettled.first = FirstWait::Kept;
        } else if waits && self.slow_from < u64::MAX {
            unsettled.first = FirstWait::Remembered(ran(std::mem::take(&mut unsettled.spare)));
        }
        if timing == Timing::Trace {
            self.timeline = timeline;
        } else if timing == Timing::Sample && may_keep {
            unsettled.kept.push(engine.instruments.samples.add(
                SAMPLES_MAX,
                client,
                ran(Words::default()),
            ));
        }
    }

    fn count(&mut self, metrics: &Metrics, index: usize, micros: u64, failed: bool) {
        if self.tally.command != index {
            self.flush_command(metrics);
            self.tally.command = index;
        }
        let stats = &metrics.commands[index];
        self.tally.calls += 1;
        self.tally.latency.record(micros, &stats.latency);
        if failed {
            stats.failed.increment();
        }
    }

    /// Adds a batch's counts to the shared counters.
    pub fn flush(&mut self, metrics: &Metrics) {
        self.flush_command(metrics);
        metrics[Stat::KeyspaceHits].add(std::mem::take(&mut self.tally.hits));
        metrics[Stat::KeyspaceMisses].add(std::mem::take(&mut self.tally.misses));
    }

    fn flush_command(&mut self, metrics: &Metrics) {
        let tally = &mut self.tally;
        metrics[Stat::CommandsProcessed].add(std::mem::take(&mut tally.calls));
        metrics.commands[tally.command].latency.add(&mut tally.latency);
    }

    /// Begins to time the command that TRACE runs.
    pub fn begin_trace(&mut self) {
        self.timing = Timing::Trace;
        self.timeline = Timeline::default();
        self.waited(Step::Parse);
    }

    /// Ends it and returns the command's steps.
    pub fn end_trace(&mut self) -> Timeline {
        self.timing = Timing::Off;
        std::mem::take(&mut self.timeline)
    }

    /// Puts EXEC's own steps aside while its commands run; [`Probe::resume`] takes them back.
    pub fn suspend(&mut self) -> Timeline {
        self.stopwatch.lap_nanos();
        std::mem::take(&mut self.timeline)
    }

    /// See [`Probe::suspend`].
    pub fn resume(&mut self, own: Timeline) {
        self.timeline = own;
    }
}

impl Unsettled {
    /// The batch's replies have passed the gate, to which they came when `began` was started. `stages` is
    /// None if there was nothing to wait for.
    pub fn left(
        &mut self,
        engine: &Engine,
        client: &Client,
        began: Stopwatch,
        stages: Option<Stages>,
    ) {
        let first = std::mem::take(&mut self.first);
        if stages.is_none() && matches!(first, FirstWait::None) && self.kept.is_empty() {
            return;
        }
        let now = Stopwatch::start();
        if let Some(stages) = stages {
            engine.metrics.gate_wait.record(now.since(&began) / 1000);
            engine.instruments.latency.note(&engine.config, "aof-write", stages.write);
            engine.instruments.latency.note(&engine.config, "aof-fsync-always", stages.fsync);
        }
        if let FirstWait::Remembered(ran) = first {
            let nanos = ran.timeline.total() + now.since(&ran.ended);
            let limit = u64::try_from(engine.config.int(Id::SlowlogLogSlowerThan));
            if limit.is_ok_and(|limit| nanos / 1000 >= limit) {
                let max = engine.config.int(Id::SlowlogMaxLen) as usize;
                self.kept.push(engine.instruments.slowlog.add(max, client, ran));
            } else {
                self.spare = ran.words;
            }
        }
        let stages = stages.unwrap_or_default();
        self.kept.iter().for_each(|kept| kept.pass_gate(now, stages));
    }

    /// True if the time of sending is to be recorded.
    pub fn is_observed(&self) -> bool {
        !self.kept.is_empty()
    }

    /// The replies were handed to the kernel, in so many nanoseconds.
    pub fn sent(&mut self, nanos: u64) {
        self.kept.drain(..).for_each(|kept| kept.sent(nanos));
    }
}
