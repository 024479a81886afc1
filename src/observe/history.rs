//! The last minutes of the server, for the charts of the status page: a ring of points in memory, six kilobytes. A page
//! that is opened or reloaded shows them at once.
//!
//! The sweeper takes a point every two seconds. It alone keeps what the next point is compared with.

use super::json::Json;
use crate::clock::Stopwatch;
use crate::engine::Engine;
use crate::lock::Mutex;
use crate::metrics::HistogramSnapshot;
use std::collections::VecDeque;
use std::fmt::{self, Display};

/// Interval between two points.
const EVERY_NANOS: u64 = 2_000_000_000;
/// Points that are kept: five minutes. Older ones are forgotten.
const POINTS_MAX: usize = 150;
/// Half of the commands take at most the first of the shown times, 99 % the second, 99.9 % the third.
const SHARES: [f64; 3] = [0.5, 0.99, 0.999];

/// The server at one moment, and its commands since the point before.
#[derive(Debug)]
struct Point {
    /// Milliseconds since the start of the process.
    at_ms: u64,
    /// Commands per second.
    rate: f32,
    /// Their microseconds by [`SHARES`], if there were any.
    micros: Option<[u32; 3]>,
    /// Records that are not yet written, and those that are not yet durable.
    waiting: [u32; 2],
    /// On a follower, the age of its data; on a leader, the largest lag of a follower.
    lag_ms: Option<u32>,
}

/// The points, oldest first.
#[derive(Debug, Default)]
pub struct History {
    points: Mutex<VecDeque<Point>>,
}

impl History {
    fn add(&self, point: Point) {
        let mut points = self.points.lock();
        if points.len() == POINTS_MAX {
            points.pop_front();
        }
        points.push_back(point);
    }

    /// Writes a list for each point, in the order of its fields.
    pub(super) fn write(&self, json: &mut Json) {
        for point in &*self.points.lock() {
            json.array(|json| {
                json.raw(point.at_ms);
                json.raw(format_args!("{:.1}", point.rate));
                (0..SHARES.len()).for_each(|at| json.raw(OrNull(point.micros.map(|it| it[at]))));
                point.waiting.iter().for_each(|records| json.raw(records));
                json.raw(OrNull(point.lag_ms));
            });
        }
    }
}

/// A number, or `null`.
struct OrNull(Option<u32>);

impl Display for OrNull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => number.fmt(f),
            None => f.write_str("null"),
        }
    }
}

/// Takes the points.
pub(crate) struct Sampler {
    since_last: Stopwatch,
    /// The durations of all commands up to the last point.
    before: HistogramSnapshot,
}

impl Sampler {
    /// The first point is due after one interval.
    pub(crate) fn start() -> Sampler {
        Sampler { since_last: Stopwatch::start(), before: HistogramSnapshot::default() }
    }

    /// Takes a point if one is due.
    pub(crate) fn look(&mut self, engine: &Engine) {
        if self.since_last.nanos() < EVERY_NANOS {
            return;
        }
        let seconds = self.since_last.lap_nanos() as f64 / 1e9;
        let all = HistogramSnapshot::sum(engine.metrics.commands.iter().map(|it| &it.latency));
        let ran = all.since(&self.before);
        self.before = all;
        let micros = SHARES.map(|share| capped(ran.percentile(share)));
        engine.instruments.history.add(Point {
            at_ms: engine.uptime_ms(),
            rate: (ran.count() as f64 / seconds) as f32,
            micros: (ran.count() > 0).then_some(micros),
            waiting: waiting(engine),
            lag_ms: lag_ms(engine).map(capped),
        });
    }
}

fn waiting(engine: &Engine) -> [u32; 2] {
    let Some(persistence) = &engine.persistence else { return [0; 2] };
    let log = &persistence.log;
    // The lowest first: a record that becomes durable meanwhile never makes durable exceed appended.
    let [durable, written, appended] = [log.durable(), log.written(), log.appended()];
    [written, durable].map(|reached| capped(appended.0 - reached.0))
}

fn lag_ms(engine: &Engine) -> Option<u64> {
    let now = engine.uptime_ms();
    if engine.role.is_follower() {
        return engine.role.freshness.staleness_ms(now);
    }
    let log = &engine.persistence.as_ref()?.log;
    let (appended, bytes) = (log.appended(), log.readable_end().bytes);
    engine.followers.all().iter().map(|it| it.lag(appended, bytes, now).millis).max()
}

fn capped(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_points_are_kept() {
        let history = History::default();
        for at_ms in 0..POINTS_MAX as u64 + 2 {
            let micros = (at_ms % 2 == 0).then_some([1, 2, 3]);
            history.add(Point { at_ms, rate: 0.25, micros, waiting: [4, 5], lag_ms: None });
        }
        let mut json = Json::default();
        json.array(|json| history.write(json));
        assert!(json.text.starts_with("[[2,0.2,1,2,3,4,5,null],[3,0.2,null,null,null,4,5,null],"));
        assert!(json.text.ends_with(",[151,0.2,null,null,null,4,5,null]]"), "{}", json.text);
        assert_eq!(json.text.matches('[').count(), POINTS_MAX + 1);
    }
}
