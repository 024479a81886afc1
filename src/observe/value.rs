//! The value of a figure, and the forms that INFO gives it.

use super::samples::Scale;
use crate::metrics::HistogramSnapshot;
use std::fmt::Display;

/// A figure's value. Each page writes it in its own way.
#[derive(Debug)]
pub(crate) enum Value {
    /// Does not apply: every page leaves it out.
    None,
    /// Applies but is not known: -1 in INFO, left out elsewhere.
    Unknown,
    /// 1 or 0, in JSON true or false.
    Flag(bool),
    Number(String),
    /// Milliseconds. `/metrics` shows seconds.
    Millis(u64),
    Text(String),
    /// Values by bucket. The scale says which buckets `/metrics` shows.
    Histogram(HistogramSnapshot, &'static Scale),
}

impl<T: Display> From<T> for Value {
    fn from(number: T) -> Value {
        Value::Number(number.to_string())
    }
}

/// A text that may not apply.
pub(super) fn text(text: impl Into<Option<String>>) -> Value {
    text.into().map_or(Value::None, Value::Text)
}

/// A number that may not apply.
pub(super) fn number(number: Option<impl Display>) -> Value {
    number.map_or(Value::None, Value::from)
}

/// A number that may be unknown.
pub(super) fn known(number: Option<u64>) -> Value {
    number.map_or(Value::Unknown, Value::from)
}

/// A number of bytes for people.
pub(super) fn human(bytes: usize) -> Value {
    let (mut value, mut unit) = (bytes as f64, "B");
    for next in ["K", "M", "G", "T"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    text(if unit == "B" { format!("{bytes}B") } else { format!("{value:.2}{unit}") })
}

pub(super) fn percent(part: usize, whole: usize) -> Value {
    text(format!("{:.2}%", part as f64 * 100.0 / whole.max(1) as f64))
}

pub(super) fn decimal(value: f64) -> Value {
    format!("{value:.2}").into()
}

pub(super) fn literal(value: &'static str) -> Value {
    text(value.to_string())
}

pub(super) fn ok_or_err(is_ok: bool) -> Value {
    literal(if is_ok { "ok" } else { "err" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_readable() {
        let shown = [0, 1023, 1024, 1536 << 20].map(human).map(|value| format!("{value:?}"));
        assert_eq!(shown, ["0B", "1023B", "1.00K", "1.50G"].map(|text| format!("Text({text:?})")));
    }
}
