//! Writes samples in Prometheus's text format, version 0.0.4.

use crate::metrics::HistogramSnapshot;
use std::fmt::{Display, Write};

/// The buckets in which a histogram is shown.
#[derive(Debug)]
pub(crate) struct Scale {
    /// From one bound to the next.
    factor: u64,
    /// Bounds before infinity.
    bounds: u32,
    /// Divides a bound and the sum into the unit that is shown.
    per_unit: f64,
    /// Durations are whole microseconds, rounded down: a bucket that ends with 3 is shown to end at 4.
    rounded_down: bool,
}

/// 4 µs to 16.8 s.
pub(super) const SECONDS: Scale =
    Scale { factor: 4, bounds: 12, per_unit: 1e6, rounded_down: true };
/// 1, 3, 7, … 4095: the finer buckets underneath end there.
pub(super) const RECORDS: Scale =
    Scale { factor: 2, bounds: 12, per_unit: 1.0, rounded_down: false };

/// The samples of one family.
pub(crate) struct Samples<'a> {
    pub(super) name: &'static str,
    pub(super) page: &'a mut String,
}

impl Samples<'_> {
    pub(super) fn put(&mut self, value: impl Display) {
        self.labelled(&[], value);
    }

    pub(super) fn labelled(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.sample("", labels, value);
    }

    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.page, "{}{suffix}", self.name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let opening = if index == 0 { '{' } else { ',' };
            let _ = write!(self.page, "{opening}{label}=\"{}\"", escape(value));
        }
        let closing = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.page, "{closing} {value}");
    }

    pub(super) fn histogram(
        &mut self,
        label: Option<(&str, &str)>,
        seen: &HistogramSnapshot,
        scale: &Scale,
    ) {
        let mut bucket = |le: &str, count: u64| {
            let labels: Vec<_> = label.into_iter().chain([("le", le)]).collect();
            self.sample("_bucket", &labels, count);
        };
        for power in 1..=scale.bounds {
            let end = scale.factor.pow(power);
            let shown = if scale.rounded_down { end } else { end - 1 };
            bucket(&(shown as f64 / scale.per_unit).to_string(), seen.count_up_to(end - 1));
        }
        bucket("+Inf", seen.count());
        let labels: Vec<_> = label.into_iter().collect();
        self.sample("_sum", &labels, seen.sum as f64 / scale.per_unit);
        self.sample("_count", &labels, seen.count());
    }
}

/// A label's value may be any text, such as an error code that a client chose.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Histogram;

    #[test]
    fn buckets_are_cumulative_and_in_base_units() {
        let (took, synced) = (Histogram::default(), Histogram::default());
        [0, 3, 4, 1_000_000, 60_000_000].iter().for_each(|micros| took.record(*micros));
        [0, 1, 2, 4095, 5000].iter().for_each(|records| synced.record(*records));
        let mut page = String::new();
        let mut out = Samples { name: "t", page: &mut page };
        out.histogram(Some(("command", "get")), &took.snapshot(), &SECONDS);
        out.histogram(None, &synced.snapshot(), &RECORDS);
        for line in [
            "t_bucket{command=\"get\",le=\"0.000004\"} 2",
            "t_bucket{command=\"get\",le=\"0.000016\"} 3",
            "t_bucket{command=\"get\",le=\"1.048576\"} 4",
            "t_bucket{command=\"get\",le=\"16.777216\"} 4",
            "t_bucket{command=\"get\",le=\"+Inf\"} 5",
            "t_sum{command=\"get\"} 61.000007",
            "t_count{command=\"get\"} 5",
            "t_bucket{le=\"1\"} 2",
            "t_bucket{le=\"3\"} 3",
            "t_bucket{le=\"4095\"} 4",
            "t_sum 9098",
        ] {
            assert!(page.lines().any(|written| written == line), "{line} is not in\n{page}");
        }
    }
}
