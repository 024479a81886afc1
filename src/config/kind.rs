//! Kinds of values: what may be written for a setting, and how it is kept.
//!
//! A value is parsed once, when it is given, into what readers want: a number where a number will
//! do (yes/no and choices among them), text otherwise. Error texts are Redis's, for CONFIG SET
//! hands them to clients that may match on them; none of them repeats the value, which may be a
//! password.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::limits::{LimitChanges, parse_limits};
use crate::pubsub::classes::Classes;

/// Which values a setting takes. Strings are what `--help` calls the value.
pub enum Kind {
    /// A whole number from `min` to `max`, counted in `unit`.
    Int {
        /// The smallest value allowed.
        min: i64,
        /// The largest value allowed.
        max: i64,
        /// What is counted.
        unit: &'static str,
    },
    /// A number of bytes, which may be written `64mb`.
    Bytes {
        /// The smallest value allowed.
        min: i64,
        /// The largest value allowed.
        max: i64,
    },
    /// As `Bytes`, with a cap that Redis does not have.
    Capped {
        /// The smallest value allowed.
        min: i64,
        /// The largest value allowed.
        cap: i64,
    },
    /// `yes` or `no`, kept as 1 or 0.
    YesNo,
    /// One of these words, kept as its index.
    Choice(&'static [&'static str]),
    /// Any text.
    Text(&'static str),
    /// Any text, and never to be logged.
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
    /// Of `Int`, `Bytes`, `Capped`, `YesNo`, `Choice` and `EventClasses`.
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
            Kind::Int { min, max, .. } => {
                let n = parse_int(text).ok_or("argument couldn't be parsed into an integer")?;
                within(n, *min, *max)
            }
            Kind::Bytes { min, max } => {
                let n = parse_memory(text).ok_or("argument must be a memory value")?;
                i64::try_from(n)
                    .map_err(|_| not_between(*min, *max))
                    .and_then(|n| within(n, *min, *max))
            }
            // Too small a value is refused in Redis's words.
            Kind::Capped { min, cap } => {
                match (Kind::Bytes { min: *min, max: i64::MAX }).parse(text)? {
                    Value::Number(n) if n > *cap => Err(format!(
                        "argument must be at most {cap}: a record of the log can hold no more"
                    )),
                    value => Ok(value),
                }
            }
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

    /// How CONFIG GET shows a value that is kept as a number.
    pub fn show(&self, number: i64) -> String {
        match self {
            Kind::YesNo => if number != 0 { "yes" } else { "no" }.to_string(),
            Kind::Choice(words) => words[number as usize].to_string(),
            Kind::EventClasses => Classes::from_bits(number).to_string(),
            _ => number.to_string(),
        }
    }

    /// What `--help` writes for the value.
    pub fn placeholder(&self) -> String {
        match self {
            Kind::Int { unit, .. } => unit.to_string(),
            Kind::Bytes { .. } | Kind::Capped { .. } => "BYTES".to_string(),
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

    /// Whether several words in a configuration file make one value, as in `bind 127.0.0.1 ::1`.
    pub fn takes_words(&self) -> bool {
        matches!(self, Kind::Checked(..) | Kind::OutputLimits)
    }
}

fn within(n: i64, min: i64, max: i64) -> Result<Value, String> {
    if (min..=max).contains(&n) {
        return Ok(Value::Number(n));
    }
    Err(not_between(min, max))
}

fn not_between(min: i64, max: i64) -> String {
    format!("argument must be between {min} and {max} inclusive")
}

fn position(words: &[&str], text: &str) -> Option<Value> {
    let index = words.iter().position(|word| word.eq_ignore_ascii_case(text))?;
    Some(Value::Number(index as i64))
}

/// An integer in its only spelling: no `+`, no leading zeros.
fn parse_int(text: &str) -> Option<i64> {
    text.parse().ok().filter(|n: &i64| n.to_string() == text)
}

/// A number of bytes as Redis reads it: `1k` is 1,000 and `1kb` is 1,024; likewise `m` and `g`. Nothing at
/// all is 0.
pub(super) fn parse_memory(text: &str) -> Option<u64> {
    if text.is_empty() {
        return Some(0);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1000 * 1000,
        "mb" => 1 << 20,
        "g" => 1000 * 1000 * 1000,
        "gb" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Checks a list of addresses; `localhost` and `*` become what they stand for. No name is looked
/// up: what a server listens on must not depend on a resolver.
pub(super) fn bind_addresses(text: &str) -> Result<String, &'static str> {
    let addresses = text.split_ascii_whitespace().map(bind_address).collect::<Option<Vec<_>>>();
    let addresses = addresses.ok_or("argument must be IP addresses, localhost or *")?;
    if addresses.is_empty() {
        return Err("argument must name at least one address");
    }
    Ok(addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" "))
}

fn bind_address(word: &str) -> Option<IpAddr> {
    match word {
        "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
        "*" => Some(Ipv4Addr::UNSPECIFIED.into()),
        _ => word.parse().ok(),
    }
}

/// `auto` or a port.
pub(super) fn metrics_port(text: &str) -> Result<String, &'static str> {
    let is_port = parse_int(text).is_some_and(|port| (0..=65_535).contains(&port));
    if is_port || text.eq_ignore_ascii_case("auto") {
        return Ok(text.to_ascii_lowercase());
    }
    Err("argument must be auto or a port between 0 and 65535 inclusive")
}

/// Host names as a browser sends them, in lower case and without a port, or `*`.
pub(super) fn host_names(text: &str) -> Result<String, &'static str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let names: Vec<String> = text.split_ascii_whitespace().map(str::to_ascii_lowercase).collect();
    if names.iter().all(|name| name == "*" || name.bytes().all(fits)) {
        return Ok(names.join(" "));
    }
    Err("argument must be host names without ports, or *")
}

/// `always`, `no`, or an interval: `everysec`, `1s`, `100ms`. One spelling for each comes back.
pub(super) fn fsync_policy(text: &str) -> Result<String, &'static str> {
    let text = text.to_ascii_lowercase();
    match (text.as_str(), fsync_interval(&text)) {
        ("always", _) => Ok(text),
        ("no" | "never", _) => Ok("no".to_string()),
        (_, Some(interval)) if interval == Duration::from_secs(1) => Ok("everysec".to_string()),
        (_, Some(_)) => Ok(text),
        _ => Err("argument must be always, everysec, no, or an interval such as 100ms or 5s"),
    }
}

/// The interval that a policy names, from a millisecond to an hour.
pub(super) fn fsync_interval(policy: &str) -> Option<Duration> {
    let number = |digits: &str| parse_int(digits).and_then(|n| u64::try_from(n).ok());
    let interval = if policy == "everysec" {
        Duration::from_secs(1)
    } else if let Some(digits) = policy.strip_suffix("ms") {
        Duration::from_millis(number(digits)?)
    } else {
        Duration::from_secs(number(policy.strip_suffix('s')?)?)
    };
    let sensible = Duration::from_millis(1)..=Duration::from_secs(3600);
    sensible.contains(&interval).then_some(interval)
}

/// Takes `host port`, as Redis writes it, or `host:port`, or nothing; keeps the former.
pub(super) fn address(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "argument must be a host and a port, as in 10.0.0.1:8080";
    let text = text.trim();
    if text.is_empty() {
        return Ok(String::new());
    }
    let (host, port) =
        text.split_once(char::is_whitespace).or_else(|| text.rsplit_once(':')).ok_or(WRONG)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port: u16 = port.trim().parse().map_err(|_| WRONG)?;
    let usable = port > 0 && !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
    if usable { Ok(format!("{host} {port}")) } else { Err(WRONG) }
}

/// Takes only the empty schedule.
pub(super) fn no_save_points(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() {
        return Ok(String::new());
    }
    Err("argument must be empty: there is no snapshot schedule")
}

/// Takes numbers from 0 to 100, to six decimals.
pub(super) fn percentiles(text: &str) -> Result<String, &'static str> {
    let mut shown: Vec<String> = Vec::new();
    for word in text.split_ascii_whitespace() {
        let number: f64 =
            word.parse().map_err(|_| "Invalid latency-tracking-info-percentiles parameters")?;
        if !(0.0..=100.0).contains(&number) {
            return Err("latency-tracking-info-percentiles parameters should sit between \
                        [0.0,100.0]");
        }
        let digits = format!("{number:.6}");
        shown.push(digits.trim_end_matches('0').trim_end_matches('.').to_string());
    }
    Ok(shown.join(" "))
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
    fn memory_is_read_as_redis_reads_it() {
        let cases = [("512", 512), ("7b", 7), ("1k", 1000), ("1kb", 1024), ("2m", 2_000_000)];
        for (text, bytes) in cases.into_iter().chain([("64MB", 64 << 20), ("1Gb", 1 << 30)]) {
            assert_eq!(parse_memory(text), Some(bytes), "{text}");
        }
        assert_eq!(parse_memory(""), Some(0));
        for text in ["mb", "-1", "+1", "1.5gb", "1tb", "1 kb", "99999999999gb"] {
            assert_eq!(parse_memory(text), None, "{text}");
        }
    }

    #[test]
    fn integers_have_one_spelling_and_a_range() {
        let kind = Kind::Int { min: 1, max: 20, unit: "" };
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
        let kind = Kind::Bytes { min: 1024, max: i64::MAX };
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

    #[test]
    fn bind_takes_addresses_and_two_names() {
        assert_eq!(bind_addresses(" localhost  ::1 * "), Ok("127.0.0.1 ::1 0.0.0.0".to_string()));
        assert!(bind_addresses("example.org").is_err());
        assert!(bind_addresses("127.0.0.1:80").is_err());
        assert_eq!(bind_addresses(" "), Err("argument must name at least one address"));
    }

    #[test]
    fn the_status_page_has_a_port_and_names() {
        for (text, kept) in [("AUTO", "auto"), ("0", "0"), ("65535", "65535")] {
            assert_eq!(metrics_port(text), Ok(kept.to_string()));
        }
        for text in ["", "-1", "65536", "off", "08"] {
            assert!(metrics_port(text).is_err(), "{text}");
        }
        assert_eq!(host_names(" KV.example.org  * "), Ok("kv.example.org *".to_string()));
        assert_eq!(host_names(""), Ok(String::new()));
        assert!(host_names("kv:8081").is_err());
        assert!(host_names("a/b").is_err());
    }

    #[test]
    fn save_takes_only_the_empty_schedule() {
        assert_eq!(no_save_points(""), Ok(String::new()));
        assert!(no_save_points("900 1").is_err());
    }
}
