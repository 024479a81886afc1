//! `--until`: a point in the history, and reading up to it.

use super::{Arguments, Error};
use crate::aof::recovery::{self, Record, Recovered, Then};
use crate::clock::UnixMillis;
use crate::store::effect::{Malformed, Seq};
use std::path::Path;
use std::time::UNIX_EPOCH;

/// The description of `--until`, for the help of each tool that has it.
macro_rules! until_help {
    () => {
        "\
  --until POINT   a record's number: stops after that record
                  or a time: stops before the first record that is later
                  (2026-01-01T12:00:00.123Z in UTC, which may be shortened, or Unix milliseconds;
                  a number from 1000000000000 on is a time)
                  POINT cannot be earlier than the end of the last compaction.
"
    };
}
pub(super) use until_help;

/// Numbers from here on are Unix milliseconds (of 2001 and later): no log has that many records.
const MILLIS_MIN: u64 = 1_000_000_000_000;

/// The point at which reading stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// At the end.
    End,
    /// After this record.
    Seq(Seq),
    /// Before the first record that is later.
    Time(UnixMillis),
}

impl Until {
    /// Parses the value of `--until`.
    pub fn of(arguments: &Arguments) -> Result<Until, Error> {
        let Some(text) = arguments.value("until") else { return Ok(Until::End) };
        let bad = || Error::Usage(format!("--until {text}: neither a record's number nor a time"));
        match text.parse() {
            Ok(number) if number >= MILLIS_MIN => Ok(Until::Time(UnixMillis(number))),
            Ok(number) => Ok(Until::Seq(Seq(number))),
            Err(_) => time(text).map(Until::Time).ok_or_else(bad),
        }
    }

    fn at(self, record: &Record<'_>) -> Then {
        match self {
            Until::Seq(seq) if record.seq > seq => Then::StopBefore,
            Until::Seq(seq) if record.seq == seq => Then::StopAfter,
            Until::Time(time) if record.at > time => Then::StopBefore,
            _ => Then::GoOn,
        }
    }
}

/// Parses the format of [`UnixMillis::utc`]. `Z`, milliseconds, seconds and time of day are optional, and a blank
/// may replace the `T`. None for any other text and for years before 1970.
fn time(text: &str) -> Option<UnixMillis> {
    if text.contains('+') {
        return None; // NB: humantime ignores an offset that follows milliseconds.
    }
    let text = text.strip_suffix('Z').unwrap_or(text);
    let rest = match text.len() {
        10 => "T00:00:00",
        16 => ":00",
        _ => "",
    };
    let time = humantime::parse_rfc3339_weak(&format!("{text}{rest}")).ok()?;
    Some(UnixMillis(time.duration_since(UNIX_EPOCH).ok()?.as_millis() as u64))
}

/// Reads a directory up to a point and passes each payload to `apply`, in order. Damage after the point
/// does no harm, because it is not read.
pub(super) fn read(
    dir: &Path,
    until: Until,
    mut apply: impl FnMut(&[u8]) -> Result<(), Malformed>,
) -> Result<Recovered, Error> {
    // A base holds the state at the time of its compaction, and cannot show an earlier one.
    let mut latest_of_base = UnixMillis(0);
    let recovered = recovery::read_each(dir, |record| {
        let then = until.at(&record);
        if record.of_base {
            latest_of_base = record.at;
        } else if then == Then::StopBefore {
            return Ok(then);
        }
        apply(record.payload).map(|()| then)
    })?;
    let last = recovered.end.last.seq;
    let needed = recovered.base.map_or(Seq(0), |base| base.end_seq);
    let too_early = match until {
        Until::End => false,
        Until::Seq(seq) if seq > last => {
            return Err(Error::Failed(format!("--until {seq}: the log ends at record {last}")));
        }
        Until::Seq(seq) => seq < needed,
        Until::Time(time) => last < needed || time < latest_of_base,
    };
    if too_early {
        let earliest = latest_of_base.max(time_of(dir, needed)?);
        return Err(Error::Failed(format!(
            "the history before was compacted away: the earliest possible point is record {needed}, \
             {}",
            earliest.utc()
        )));
    }
    Ok(recovered)
}

/// The time at which this record was written; 0 if the log no longer has it as a record.
fn time_of(dir: &Path, seq: Seq) -> Result<UnixMillis, Error> {
    let mut time = UnixMillis(0);
    recovery::read_each(dir, |record| {
        if record.seq == seq && !record.of_base {
            time = record.at;
        }
        Ok(Until::Seq(seq).at(&record))
    })?;
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read_as_iso_8601() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_767_225_600_123, "2026-01-01T00:00:00.123Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ];
        for (millis, text) in cases {
            assert_eq!(UnixMillis(millis).utc(), text);
            assert_eq!(time(text), Some(UnixMillis(millis)));
        }
        assert_eq!(UnixMillis(253_402_300_800_000).utc(), "253402300800000");
        for days in 0..200_000 {
            let at = UnixMillis(days * 86_400_000);
            assert_eq!(time(&at.utc()), Some(at));
        }
    }

    #[test]
    fn times_may_be_written_shorter() {
        let at = |text| time(text).map(|at| at.0);
        assert_eq!(at("2026-01-01"), Some(1_767_225_600_000));
        assert_eq!(at("2026-01-01 00:01"), Some(1_767_225_660_000));
        assert_eq!(at("2026-01-01T00:00:01.5"), Some(1_767_225_601_500));
        assert_eq!(at("2026-01-01T00:00:01.123456Z"), Some(1_767_225_601_123));
        let bad = [
            "",
            "now",
            "2026-02-29",
            "2026-13-01",
            "2026-01-00",
            "2026-01-01T24:00",
            "2026-01-01T00:00:00.é",
            "2026-01-01T00:00:00+01:00",
        ];
        for text in
            bad.into_iter().chain(["1969-12-31", "2026-01-01T00:00:00.5+01:00", "12026-1-1"])
        {
            assert_eq!(at(text), None, "{text}");
        }
    }
}
