//! The checks of single values: each takes the text that was written and returns its one spelling, or
//! says what is wrong in words that do not repeat the value.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// An integer in its only spelling: no `+`, no leading zeros.
pub fn parse_int(text: &str) -> Option<i64> {
    text.parse().ok().filter(|n: &i64| n.to_string() == text)
}

/// A number of bytes as Redis reads it: `1k` is 1,000 and `1kb` is 1,024; likewise `m` and `g`. Nothing at
/// all is 0.
pub fn parse_memory(text: &str) -> Option<u64> {
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
pub fn bind_addresses(text: &str) -> Result<String, &'static str> {
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
pub fn metrics_port(text: &str) -> Result<String, &'static str> {
    let is_port = parse_int(text).is_some_and(|port| (0..=65_535).contains(&port));
    if is_port || text.eq_ignore_ascii_case("auto") {
        return Ok(text.to_ascii_lowercase());
    }
    Err("argument must be auto or a port between 0 and 65535 inclusive")
}

/// The permissions of a file, in octal.
pub fn file_mode(text: &str) -> Result<String, &'static str> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.map(|mode| format!("{mode:o}")).ok_or("argument must be an octal number up to 777")
}

/// Host names as a browser sends them, in lower case and without a port, or `*`.
pub fn host_names(text: &str) -> Result<String, &'static str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let names: Vec<String> = text.split_ascii_whitespace().map(str::to_ascii_lowercase).collect();
    if names.iter().all(|name| name == "*" || name.bytes().all(fits)) {
        return Ok(names.join(" "));
    }
    Err("argument must be host names without ports, or *")
}

/// `always`, `no`, or an interval: `everysec`, `1s`, `100ms`. One spelling for each comes back.
pub fn fsync_policy(text: &str) -> Result<String, &'static str> {
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
pub fn fsync_interval(policy: &str) -> Option<Duration> {
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
pub fn address(text: &str) -> Result<String, &'static str> {
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
pub fn no_save_points(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() {
        return Ok(String::new());
    }
    Err("argument must be empty: there is no snapshot schedule")
}

/// Takes numbers from 0 to 100, to six decimals.
pub fn percentiles(text: &str) -> Result<String, &'static str> {
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
