//! The time of one request, step by step.
//!
//! ```text
//! parse ─ wait ─ lock ─ run ─ append │ queue ─ write ─ fsync ─ replicas │ reply
//!  the command, under its lock        │ the gate: as safe as promised    │ the socket
//! ```
//!
//! Only TRACE and sampled requests are timed in all steps. The slow log shows the steps that are measured
//! for every request. The caller reads the clocks.

use std::fmt::Write;

/// A part of a request's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// From the last byte's arrival, or the end of the command before it, to the command's start.
    Parse,
    /// Waiting before it began: for CLIENT PAUSE, for the log to take pending bytes, or for evictions.
    Wait,
    /// Waiting for its keys' shards.
    Lock,
    /// The command itself, and everything that is not measured separately.
    Run,
    /// Adding its record to the log's buffer.
    Append,
    /// At the gate: waiting for the rest of its pipeline, and for other threads' writes and syncs.
    Queue,
    /// `write(2)` of the log.
    Write,
    /// `fdatasync` of the log.
    Fsync,
    /// Waiting until the node is known to lead, or a majority has the record.
    Majority,
    /// Waiting until the followers have the record.
    Replicas,
    /// Handing the reply to the kernel.
    Reply,
}

/// All steps in their order, with their names.
const STEPS: [(Step, &str); 11] = [
    (Step::Parse, "parse"),
    (Step::Wait, "wait"),
    (Step::Lock, "lock"),
    (Step::Run, "run"),
    (Step::Append, "append"),
    (Step::Queue, "queue"),
    (Step::Write, "write"),
    (Step::Fsync, "fsync"),
    (Step::Majority, "majority"),
    (Step::Replicas, "replicas"),
    (Step::Reply, "reply"),
];

/// Width of a picture's bars.
const BAR_COLUMNS: u64 = 40;

/// The steps of one request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timeline {
    /// Nanoseconds, by step.
    nanos: [u64; STEPS.len()],
    /// Their sum.
    total: u64,
    /// The record that the request wrote; 0 if none.
    pub seq: u64,
    /// Records made durable by the sync that it waited for; 0 if it did not wait.
    pub records: u64,
    /// Followers that acknowledged the record in time, and all followers.
    pub followers: (usize, usize),
}

impl Timeline {
    /// True if no time is accounted for yet.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Adds to this step all time since the request's start that is not accounted for yet.
    pub fn up_to(&mut self, step: Step, nanos_since_start: u64) {
        self.add(step, nanos_since_start.saturating_sub(self.total()));
    }

    /// Adds to a step.
    pub fn add(&mut self, step: Step, nanos: u64) {
        self.nanos[step as usize] += nanos;
        self.total += nanos;
    }

    /// Divides the gate's `nanos` among `write`, `fsync` and waiting. `write` and `fsync` are cut to fit: a
    /// sync by another thread may have begun before the request came to the gate.
    pub fn pass_gate(&mut self, nanos: u64, write: u64, fsync: u64) {
        let fsync = fsync.min(nanos);
        let write = write.min(nanos - fsync);
        self.add(Step::Fsync, fsync);
        self.add(Step::Write, write);
        self.add(Step::Queue, nanos - fsync - write);
    }

    /// Nanoseconds of a step.
    pub fn of(&self, step: Step) -> u64 {
        self.nanos[step as usize]
    }

    /// Nanoseconds of all steps.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Each step's name and microseconds, to a tenth; then their sum. Only a node of a cluster waits for a majority.
    pub fn micros(&self) -> impl ExactSizeIterator<Item = (&'static str, f64)> {
        let is_shown = |step: Step| step != Step::Majority || self.of(step) > 0;
        let steps = STEPS.iter().filter(|(step, _)| is_shown(*step));
        let steps = steps.map(|(step, name)| (*name, tenths(self.of(*step))));
        let all: Vec<_> = steps.chain([("total", tenths(self.total()))]).collect();
        all.into_iter()
    }

    /// The steps that took time, in one line.
    pub fn line(&self) -> String {
        let taken = STEPS.iter().filter(|(step, _)| self.of(*step) > 0);
        let parts = taken.map(|(step, name)| {
            format!("{name} {:.1}{}", tenths(self.of(*step)), self.remark(*step, " (", ")"))
        });
        parts.collect::<Vec<_>>().join(", ")
    }

    /// One line with a bar for each step that took time. Each bar begins where the one before ends.
    pub fn picture(&self) -> String {
        let total = self.total().max(1);
        let mut picture = String::new();
        let mut before = 0;
        for (step, name) in STEPS.iter().filter(|(step, _)| self.of(*step) > 0) {
            let column = |nanos: u64| (nanos * BAR_COLUMNS / total) as usize;
            let start = column(before).min(BAR_COLUMNS as usize - 1);
            before += self.of(*step);
            let bar = "█".repeat(column(before).saturating_sub(start).max(1));
            let micros = tenths(self.of(*step));
            let remark = self.remark(*step, "  ", "");
            let _ = writeln!(picture, "{name:<8} {micros:>9.1} µs  {:start$}{bar}{remark}", "");
        }
        let _ = write!(picture, "{:<8} {:>9.1} µs", "total", tenths(total));
        picture
    }

    fn remark(&self, step: Step, open: &str, close: &str) -> String {
        match (step, self.records) {
            (Step::Append, _) if self.seq > 0 => format!("{open}seq {}{close}", self.seq),
            (Step::Replicas, _) => {
                let (acked, all) = self.followers;
                format!("{open}{acked} of {all} followers{close}")
            }
            (Step::Fsync, 1) => format!("{open}for 1 record{close}"),
            (Step::Fsync, records) => format!("{open}for {records} records{close}"),
            _ => String::new(),
        }
    }
}

fn tenths(nanos: u64) -> f64 {
    (nanos as f64 / 100.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_a_write() -> Timeline {
        let mut timeline = Timeline::default();
        timeline.up_to(Step::Parse, 1_000);
        timeline.up_to(Step::Run, 3_000);
        timeline.up_to(Step::Append, 4_000);
        timeline.pass_gate(96_000, 6_000, 80_000);
        (timeline.seq, timeline.records) = (7, 3);
        timeline
    }

    #[test]
    fn every_nanosecond_belongs_to_one_step() {
        let timeline = of_a_write();
        assert_eq!(timeline.total(), 100_000);
        assert_eq!(timeline.of(Step::Queue), 10_000);
        let mut capped = Timeline::default();
        capped.pass_gate(50, 30, 40);
        assert_eq!((capped.total(), capped.of(Step::Fsync), capped.of(Step::Write)), (50, 40, 10));
    }

    #[test]
    fn a_picture_has_a_bar_for_each_step() {
        let picture = "\
parse          1.0 µs  █
run            2.0 µs  █
append         1.0 µs   █  seq 7
queue         10.0 µs   ████
write          6.0 µs       ███
fsync         80.0 µs          ████████████████████████████████  for 3 records
total        100.0 µs";
        let shown = of_a_write().picture();
        assert_eq!(shown.lines().count(), picture.lines().count());
        assert_eq!(shown, picture);
        let line = "parse 1.0, run 2.0, append 1.0 (seq 7), queue 10.0, write 6.0, \
                    fsync 80.0 (for 3 records)";
        assert_eq!(of_a_write().line(), line);
    }
}
