//! The part of a history that no order explains, short enough to be read, as a small drawing.
//!
//! The part is a window in time. It ends with the first answer that has no explanation, since what comes later
//! does not matter. It begins late: from there on, no order explains the answers, *whatever* the key held at that
//! moment. A call that reaches out of the window may have had its effect outside, so it counts as one in doubt.
//! Reads that are not needed are left out.

use super::linear::{Answer, Call, Op, State, is_explained};
use std::fmt;

/// Beginnings of the window that are tried, the latest first. The shortest drawing is taken.
const STARTS_TRIED: usize = 8;
/// A longer drawing is cut.
const ROWS_MAX: usize = 60;

/// Calls on one key whose answers no order explains.
#[derive(Clone, Debug)]
pub struct Violation {
    /// In the order of sending. The answer of the last that was answered has no explanation.
    pub calls: Vec<Call>,
    window: Window,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    /// 0: the key's first call, before which it did not exist.
    from: u64,
    until: u64,
}

impl Window {
    /// A call as it counts in the window.
    fn clip(self, call: &Call) -> Option<Call> {
        let is_over = call.answered.is_some_and(|(at, _)| at < self.from);
        if is_over || call.called > self.until {
            return None;
        }
        let is_inside = |at: u64| at <= self.until && call.called >= self.from;
        Some(Call { answered: call.answered.filter(|(at, _)| is_inside(*at)), ..*call })
    }

    fn is_explained(self, calls: &[Call]) -> bool {
        let clipped: Vec<Call> = calls.iter().filter_map(|call| self.clip(call)).collect();
        is_explained(&clipped, if self.from == 0 { State::Absent } else { State::Unknown })
    }
}

impl Violation {
    /// Shortens a history that no order explains.
    pub(super) fn shorten(calls: &[Call]) -> Violation {
        let mut ends: Vec<u64> =
            calls.iter().filter_map(|call| call.answered).map(|(at, _)| at).collect();
        ends.sort_unstable();
        // A history that has no order has none with more calls either, so this is a binary search.
        let end = ends.partition_point(|&until| Window { from: 0, until }.is_explained(calls));
        let until = ends[end];
        let mut starts: Vec<u64> = calls.iter().map(|call| call.called).collect();
        starts.sort_unstable();
        let windows = starts.iter().rev().map(|&from| Window { from, until });
        let late = windows.filter(|window| !window.is_explained(calls)).take(STARTS_TRIED);
        let drawings = late.map(|window| Violation::within(window, calls));
        let shortest = drawings.min_by_key(|drawing| drawing.calls.len());
        shortest.unwrap_or_else(|| Violation::within(Window { from: 0, until }, calls))
    }

    fn within(window: Window, calls: &[Call]) -> Violation {
        let mut calls: Vec<Call> =
            calls.iter().filter(|call| window.clip(call).is_some()).copied().collect();
        calls.sort_by_key(|call| call.called);
        let mut violation = Violation { calls, window };
        for at in (0..violation.calls.len()).rev() {
            violation.leave_out(at);
        }
        violation
    }

    /// Leaves out a read that is not needed.
    fn leave_out(&mut self, at: usize) {
        let call = &self.calls[at];
        let is_needed = !call.is_without_effect() || Some(call) == self.culprit();
        let others = [&self.calls[..at], &self.calls[at + 1..]].concat();
        if !is_needed && !self.window.is_explained(&others) {
            self.calls = others;
        }
    }

    /// The call whose answer has no explanation.
    pub fn culprit(&self) -> Option<&Call> {
        let is_last = |call: &&Call| call.answered.is_some_and(|(at, _)| at == self.window.until);
        self.calls.iter().find(is_last)
    }

    /// True if no value of the key at the beginning would explain the answers; otherwise it did not exist.
    pub fn starts_anywhere(&self) -> bool {
        self.window.from > 0
    }

    /// The calls as they count in the window: those that reach out of it are in doubt.
    pub fn clipped(&self) -> Vec<Call> {
        self.calls.iter().filter_map(|call| self.window.clip(call)).collect()
    }

    /// The column of each moment at which a call begins or ends.
    fn moments(&self) -> Vec<u64> {
        let ends = self.calls.iter().filter_map(|call| call.answered).map(|(at, _)| at);
        let moments = self.calls.iter().map(|call| call.called).chain(ends);
        let mut moments: Vec<u64> = moments.map(|at| self.clamp(at)).collect();
        moments.sort_unstable();
        moments.dedup();
        moments
    }

    fn clamp(&self, at: u64) -> u64 {
        at.clamp(self.window.from, self.window.until)
    }

    /// From `|` to `|`; `<` and `>` where a call reaches out of the window; dots without an answer.
    fn bar(&self, call: &Call, moments: &[u64]) -> String {
        let column = |at: u64| 2 * moments.partition_point(|&moment| moment < self.clamp(at));
        let (start, line) = (column(call.called), if call.answered.is_some() { "-" } else { "." });
        let end = call.answered.map_or(u64::MAX, |(at, _)| at);
        let left = if call.called < self.window.from { "<" } else { "|" };
        let right = if end > self.window.until { ">" } else { "|" };
        let len = (column(end) - start).saturating_sub(1);
        format!("{}{left}{}{right}", " ".repeat(start), line.repeat(len))
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = if self.starts_anywhere() { "holds anything" } else { "does not exist" };
        writeln!(f, "no order explains these answers, from a key on that {start}:")?;
        let moments = self.moments();
        let width = 2 * moments.len() + 1;
        for call in self.calls.iter().take(ROWS_MAX) {
            let bar = self.bar(call, &moments);
            let mark = if Some(call) == self.culprit() { "   <- impossible" } else { "" };
            let answer = answer(call.answered.map(|(_, answer)| answer));
            let (client, op) = (call.client, op(call.op));
            writeln!(f, "  client {client:<3} {bar:width$}  {op}: {answer}{mark}")?;
        }
        let more = self.calls.len().saturating_sub(ROWS_MAX);
        if more > 0 { writeln!(f, "  and {more} more") } else { Ok(()) }
    }
}

fn op(op: Op) -> String {
    match op {
        Op::Get => "GET".to_owned(),
        Op::Set(value) => format!("SET {value}"),
        Op::Del => "DEL".to_owned(),
        Op::Incr => "INCR".to_owned(),
        Op::SetIfEq { expected, value } => format!("SET {value} IFEQ {expected}"),
    }
}

fn answer(answer: Option<Answer>) -> String {
    match answer {
        None => "no answer".to_owned(),
        Some(Answer::Ok) => "OK".to_owned(),
        Some(Answer::Nil) => "nil".to_owned(),
        Some(Answer::Number(number)) => number.to_string(),
    }
}
