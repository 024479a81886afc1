//! The kinds of settings: the values each accepts, and how each is written and shown.
//!
//! A [`Kind`] turns the text that somebody wrote, whichever way it came, into what readers want: a number
//! where a number will do (yes/no and choices among them), text otherwise. Error texts are Redis's,
//! because CONFIG SET hands them to clients that may match on them. None of them repeats the value, which
//! may be a password.

use std::ops::RangeInclusive;

use super::checks::{parse_int, parse_memory};
use super::limits::{LimitChanges, parse_limits};
use crate::pubsub::classes::Classes;

/// The values that a setting takes. Strings name the value in `--help`.
pub enum Kind {
    /// A whole number in this range, counted in this unit.
    Int(RangeInclusive<i64>, &'static str),
    /// A number of bytes in this range, which may be written `64mb`.
    Bytes(RangeInclusive<i64>),
    /// A number of bytes that a record of the log must have room for. Redis has no such cap.
    RecordBytes(RangeInclusive<i64>),
    /// `yes` or `no`, kept as 1 or 0.
    YesNo,
    /// One of these words, kept as its index.
    Choice(&'static [&'static str]),
    /// Any text.
    Text(&'static str),
    /// Any text; never logged.
    Secret,
    /// Words separated by blanks, which a function checks and brings to one spelling.
    Checked(&'static str, fn(&str) -> Result<String, &'static str>),
    /// Limits on waiting replies for each class of client.
    OutputLimits,
    /// Letters, each a class of keyspace events, kept as their bits.
    EventClasses,
}

/// A parsed value.
#[derive(Debug)]
pub(super) enum Value {
    /// Of `Int`, `Bytes`, `RecordBytes`, `YesNo`, `Choice` and `EventClasses`.
    Number(i64),
    /// Of `Text`, `Secret` and `Checked`.
    Text(String),
    /// Of `OutputLimits`: a change of the classes that were named.
    Limits(LimitChanges),
}

impl Kind {
    /// Parses what an operator or a client wrote; the error says what is wrong, in Redis's words.
    pub(super) fn parse(&self, text: &str) -> Result<Value, String> {
        match self {
            Kind::Int(range, _) => {
                let n = parse_int(text).ok_or("argument couldn't be parsed into an integer")?;
                within(n.into(), range)
            }
            Kind::Bytes(range) => within(bytes(text)?, range),
            Kind::RecordBytes(range) => match bytes(text)? {
                n if n > i128::from(*range.end()) => Err(format!(
                    "argument must be at most {}: a record of the log can hold no more",
                    range.end()
                )),
                // A value that is too small is refused in Redis's words.
                n => within(n, &(*range.start()..=i64::MAX)),
            },
            Kind::YesNo => position(&["no", "yes"], text)
                .ok_or_else(|| "argument must be 'yes' or 'no'".to_string()),
            Kind::Choice(words) => position(words, text).ok_or_else(|| {
                format!("argument(s) must be one of the following: {}", words.join(", "))
            }),
            Kind::Text(_) | Kind::Secret => Ok(Value::Text(text.to_string())),
            Kind::Checked(_, check) => Ok(Value::Text(check(text)?)),
            Kind::OutputLimits => Ok(Value::Limits(parse_limits(text)?)),
            Kind::EventClasses => {
                let classes = Classes::parse(text)
                    .ok_or("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")?;
                Ok(Value::Number(classes.bits()))
            }
        }
    }

    /// A value that is kept as a number, as CONFIG GET shows it.
    pub fn show(&self, number: i64) -> String {
        match self {
            Kind::YesNo => if number != 0 { "yes" } else { "no" }.to_string(),
            Kind::Choice(words) => words[number as usize].to_string(),
            Kind::EventClasses => Classes::from_bits(number).to_string(),
            _ => number.to_string(),
        }
    }

    /// The placeholder for the value in `--help`.
    pub fn placeholder(&self) -> String {
        match self {
            Kind::Int(_, unit) => unit.to_string(),
            Kind::Bytes(_) | Kind::RecordBytes(_) => "BYTES".to_string(),
            Kind::YesNo => "[yes|no]".to_string(),
            Kind::Choice(words) if words.len() <= 4 => words.join("|"),
            // The help text names them.
            Kind::Choice(_) => "WORD".to_string(),
            Kind::Text(what) | Kind::Checked(what, _) => what.to_string(),
            Kind::Secret => "PASSWORD".to_string(),
            Kind::OutputLimits => "LIMITS".to_string(),
            Kind::EventClasses => "LETTERS".to_string(),
        }
    }

    /// True if several words in a configuration file make one value, as in `bind 127.0.0.1 ::1`.
    pub fn takes_words(&self) -> bool {
        matches!(self, Kind::Checked(..) | Kind::OutputLimits)
    }
}

fn bytes(text: &str) -> Result<i128, &'static str> {
    parse_memory(text).map(i128::from).ok_or("argument must be a memory value")
}

fn within(n: i128, range: &RangeInclusive<i64>) -> Result<Value, String> {
    let number = i64::try_from(n).ok().filter(|n| range.contains(n));
    number.map(Value::Number).ok_or_else(|| {
        format!("argument must be between {} and {} inclusive", range.start(), range.end())
    })
}

fn position(words: &[&str], text: &str) -> Option<Value> {
    let index = words.iter().position(|word| word.eq_ignore_ascii_case(text))?;
    Some(Value::Number(index as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(kind: &Kind, text: &str) -> Result<i64, String> {
        match kind.parse(text)? {
            Value::Number(n) => Ok(n),
            other => panic!("not a number: {other:?}"),
        }
    }

    #[test]
    fn integers_have_one_spelling_and_a_range() {
        let kind = Kind::Int(1..=20, "");
        assert_eq!(number(&kind, "20"), Ok(20));
        for text in ["", "x", "+1", "01", " 1", "1.0", "99999999999999999999"] {
            let error = number(&kind, text).expect_err(text);
            assert_eq!(error, "argument couldn't be parsed into an integer", "{text}");
        }
        let error = number(&kind, "21").expect_err("too large");
        assert_eq!(error, "argument must be between 1 and 20 inclusive");
    }

    #[test]
    fn bytes_have_a_range() {
        let kind = Kind::Bytes(1024..=i64::MAX);
        assert_eq!(number(&kind, "1kb"), Ok(1024));
        let error = number(&kind, "1k").expect_err("too small");
        assert_eq!(error, "argument must be between 1024 and 9223372036854775807 inclusive");
        for text in ["9223372036854775808", "9999999999gb", "18446744073709551615"] {
            let error = number(&kind, text).expect_err("too large");
            assert!(error.starts_with("argument must be between 1024 and"), "{text}: {error}");
        }
        let error = number(&kind, "much").expect_err("no number");
        assert_eq!(error, "argument must be a memory value");
    }

    #[test]
    fn yes_no_and_choices_are_kept_as_numbers_and_shown_as_words() {
        assert_eq!(number(&Kind::YesNo, "YES"), Ok(1));
        assert_eq!(Kind::YesNo.show(0), "no");
        let error = number(&Kind::YesNo, "true").expect_err("not a word of ours");
        assert_eq!(error, "argument must be 'yes' or 'no'");

        let kind = Kind::Choice(&["text", "resp"]);
        assert_eq!(number(&kind, "Resp"), Ok(1));
        assert_eq!(kind.show(1), "resp");
        let error = number(&kind, "json").expect_err("not among them");
        assert_eq!(error, "argument(s) must be one of the following: text, resp");
    }
}
