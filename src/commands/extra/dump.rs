//! DUMP and RESTORE: a value with a checksum, to be carried from one server to another.
//!
//! A payload is, in this order:
//!
//! 1. the version of this format, 1 byte: 1
//! 2. the value, all bytes up to the last four
//! 3. the CRC-32 (zlib's) of 1 and 2, 4 bytes, least significant first
//!
//! ```text
//! 01 4f736c6f ad18c77a     Oslo
//! ```
//!
//! The key and its expiry are not in it: they are arguments of RESTORE. Payloads of Redis are refused, and Redis
//! refuses ours: its format is that of RDB files.

use crate::clock::UnixMillis;
use crate::commands::expiry::Unit;
use crate::commands::keys::tell_replacement;
use crate::commands::spec::row;
use crate::commands::{Call, Family, Flags, Handler, Keys, Row};
use crate::error::{Failure, NOT_AN_INTEGER, SYNTAX};
use crate::memory::recency::{Recency, Tracking};
use crate::protocol::{Args, integer};
use crate::store::effect::Effect;
use std::ops::RangeInclusive;

/// The family's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Row<Handler>] = &[
    row(Family::Generic, "dump", 2, Flags::READONLY, Keys::ONE, dump)
        .help("key", "Returns the value of a key in a checksummed form for RESTORE.",
            "SET city Oslo; DUMP city -> \"\\x01Oslo\\xad\\x18\\xc7z\""),
    row(Family::Generic, "restore", -4, Flags::WRITE.and(Flags::DENYOOM), Keys::ONE, restore)
        .on_keys(&["OW update"])
        .help("key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]",
            "Creates a key from the output of DUMP; ttl is in milliseconds, 0 for none.",
            "RESTORE town 0 \"\\x01Oslo\\xad\\x18\\xc7z\" -> OK"),
];

const VERSION: u8 = 1;
const CHECKSUM_LEN: usize = 4;

const BUSY_KEY: Failure = Failure::fixed("BUSYKEY Target key name already exists.");
const INVALID_TTL: Failure = Failure::fixed("ERR Invalid TTL value, must be >= 0");
const INVALID_IDLETIME: Failure = Failure::fixed("ERR Invalid IDLETIME value, must be >= 0");
const INVALID_FREQ: Failure = Failure::fixed("ERR Invalid FREQ value, must be >= 0 and <= 255");
const BAD_PAYLOAD: Failure = Failure::fixed("ERR DUMP payload version or checksum are wrong");

/// The payload of a value.
fn seal(value: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(sealed_len(value));
    payload.push(VERSION);
    payload.extend_from_slice(value);
    payload.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
    payload
}

/// The length of the payload of a value.
pub(crate) fn sealed_len(value: &[u8]) -> usize {
    1 + value.len() + CHECKSUM_LEN
}

/// The value in a payload, if its checksum and version are right.
fn unseal(payload: &[u8]) -> Option<&[u8]> {
    let (sealed, checksum) = payload.split_last_chunk::<CHECKSUM_LEN>()?;
    let (&version, value) = sealed.split_first()?;
    let intact = crc32fast::hash(sealed) == u32::from_le_bytes(*checksum);
    (version == VERSION && intact).then_some(value)
}

fn dump(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    let payload = call.tx.value(&args[1]).map(seal);
    call.reply.bulk_or_nil(payload.as_deref());
    Ok(())
}

#[derive(Debug, Default)]
struct RestoreOptions {
    replace: bool,
    /// The time is absolute.
    absolute: bool,
    /// The use of the key on the server that it comes from.
    usage: Option<Used>,
}

/// The one that `maxmemory-policy` uses is kept, on this node and until a restart: the log does not hold it.
#[derive(Clone, Copy, Debug)]
enum Used {
    /// Seconds since the last time.
    Idle(u64),
    /// On a logarithmic scale.
    Frequency(u8),
}

impl Used {
    /// The use to record for a restored key, which is new here even if it replaces another one.
    fn note(used: Option<Used>, now: UnixMillis, tracking: Tracking) -> Recency {
        match (used, tracking) {
            (Some(Used::Idle(seconds)), Tracking::Time) => Recency::unused_for(seconds, now),
            (Some(Used::Frequency(counter)), Tracking::Frequency { .. }) => {
                Recency::counted(counter, now)
            }
            _ => Recency::new(now, tracking),
        }
    }
}

impl RestoreOptions {
    fn parse<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Result<RestoreOptions, Failure> {
        let mut options = RestoreOptions::default();
        while let Some(word) = words.next() {
            match word.to_ascii_uppercase().as_slice() {
                b"REPLACE" => options.replace = true,
                b"ABSTTL" => options.absolute = true,
                b"IDLETIME" if !matches!(options.usage, Some(Used::Frequency(_))) => {
                    let seconds = within(words.next(), 0..=i64::MAX, INVALID_IDLETIME)?;
                    options.usage = Some(Used::Idle(seconds as u64));
                }
                b"FREQ" if !matches!(options.usage, Some(Used::Idle(_))) => {
                    let counter = within(words.next(), 0..=255, INVALID_FREQ)?;
                    options.usage = Some(Used::Frequency(counter as u8));
                }
                _ => return Err(SYNTAX),
            }
        }
        Ok(options)
    }
}

fn within(
    word: Option<&[u8]>,
    range: RangeInclusive<i64>,
    otherwise: Failure,
) -> Result<i64, Failure> {
    let number = integer(word.ok_or(SYNTAX)?).ok_or(NOT_AN_INTEGER)?;
    if range.contains(&number) { Ok(number) } else { Err(otherwise) }
}

fn restore(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    let (key, now) = (&args[1], call.tx.now());
    let options = RestoreOptions::parse(args.from(4))?;
    let replaces = call.tx.exists(key);
    if replaces && !options.replace {
        return Err(BUSY_KEY);
    }
    let ttl = within(args.get(2), 0..=i64::MAX, INVALID_TTL)?;
    let value = unseal(&args[3]).ok_or(BAD_PAYLOAD)?;
    let unit = if options.absolute { Unit::UNIX_MILLIS } else { Unit::MILLIS };
    let deadline = match ttl {
        0 => None,
        _ => Some(unit.resolve(ttl, now).ok_or_else(|| Failure::invalid_expire(call.name))?),
    };
    let deadline = deadline.map(|at| UnixMillis(at as u64));
    if deadline.is_none_or(|at| at > now) {
        tell_replacement(call.tx, key);
        call.tx.apply(Effect::Set { key, value, deadline });
        call.tx.set_recency(key, Used::note(options.usage, now, call.tx.tracking()));
        call.tx.emit("restore", key);
    } else if replaces {
        // Already expired: only the key to be replaced is deleted.
        call.tx.apply(Effect::Del { keys: &[key] });
        call.tx.emit("del", key);
    }
    call.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::keys::tests::{run, run_words};
    use crate::store::Store;

    const NOW: u64 = 1_700_000_000_000;

    fn restore(store: &Store, words: &str, payload: &[u8]) -> String {
        let words = words.split(' ').map(str::as_bytes);
        let words: Vec<&[u8]> =
            words.map(|word| if word == b"PAYLOAD" { payload } else { word }).collect();
        run_words(store, NOW, &words)
    }

    #[test]
    fn any_value_comes_back() {
        for value in [&b""[..], b"Ada", b"\0\xff\r\n", &[7; 100_000]] {
            let payload = seal(value);
            assert_eq!(payload.len(), sealed_len(value));
            assert_eq!(unseal(&payload), Some(value));
        }
    }

    #[test]
    fn the_format_is_fixed() {
        assert_eq!(seal(b"Oslo"), b"\x01Oslo\xad\x18\xc7z", "a new format needs a new version");
    }

    #[test]
    fn a_spoiled_payload_is_refused() {
        let payload = seal(b"some value");
        for bit in 0..payload.len() * 8 {
            let mut spoiled = payload.clone();
            spoiled[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal(&spoiled), None, "bit {bit}");
        }
        for len in 0..payload.len() {
            assert_eq!(unseal(&payload[..len]), None, "cut to {len}");
        }
        assert_eq!(unseal(b"\x00\x03foo\n\x00sI9\xdbM\xc1\xba\x97"), None, "made by Redis");
        let mut newer = vec![VERSION + 1, b'x'];
        newer.extend_from_slice(&crc32fast::hash(&newer).to_le_bytes());
        assert_eq!(unseal(&newer), None, "of a version to come");
    }

    #[test]
    fn times() {
        let (store, payload) = (Store::new(), seal(b"v"));
        assert_eq!(restore(&store, "RESTORE k 0 PAYLOAD", &payload), "OK");
        assert_eq!(run(&store, NOW, "PTTL k"), "-1");
        assert_eq!(restore(&store, "RESTORE k 5 PAYLOAD REPLACE", &payload), "OK");
        assert_eq!(run(&store, NOW, "PTTL k"), "5");
        let call = "RESTORE k 1700000000009 PAYLOAD REPLACE ABSTTL";
        assert_eq!(restore(&store, call, &payload), "OK");
        assert_eq!(run(&store, NOW, "PTTL k"), "9");
        let call = "RESTORE k 9223372036854775807 PAYLOAD REPLACE";
        let too_late = "ERR invalid expire time in 'restore' command";
        assert_eq!(restore(&store, call, &payload), too_late);
        assert_eq!(restore(&store, "RESTORE k 1 PAYLOAD REPLACE ABSTTL", &payload), "OK");
        assert_eq!(run(&store, NOW, "DBSIZE"), "0", "replaced by one that has expired");
    }

    #[test]
    fn errors_in_the_order_of_redis() {
        let store = Store::new();
        run(&store, NOW, "SET k v");
        for (call, error) in [
            ("RESTORE k x x oops", SYNTAX),
            ("RESTORE k x x IDLETIME", SYNTAX),
            ("RESTORE k x x IDLETIME -1 oops", INVALID_IDLETIME),
            ("RESTORE k x x FREQ 256", INVALID_FREQ),
            ("RESTORE k x x FREQ 1 IDLETIME 1", SYNTAX),
            ("RESTORE k x x", BUSY_KEY),
            ("RESTORE new x x", NOT_AN_INTEGER),
            ("RESTORE new -1 x", INVALID_TTL),
            ("RESTORE k 0 x REPLACE", BAD_PAYLOAD),
        ] {
            assert_eq!(restore(&store, call, b""), error.text(), "{call}");
        }
        assert_eq!(run(&store, NOW, "GET k"), "v");
    }
}
