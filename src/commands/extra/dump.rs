//! DUMP and RESTORE: a value with a checksum, to be carried from one server to another.
//!
//! A payload is what Redis makes of it, so that MIGRATE and RESTORE work between the two. It is, in this order:
//!
//! 1. the type, 1 byte: 0, a string
//! 2. the value, a string in RDB's form ([`rdb`]); of any type, RESTORE takes only this one
//! 3. the version of RDB, 2 bytes, least significant first: 10, as Redis 7.0 writes
//! 4. the CRC-64 of 1 to 3, 8 bytes, least significant first
//!
//! ```text
//! 00 04 4f736c6f 0a00 247a1f99f7ae9be3     Oslo
//! ```
//!
//! The key and its expiry are not in it: they are arguments of RESTORE. Redis compresses values of more than 20 bytes
//! unless it is told `rdbcompression no`; we take the compressed form and do not make it.

use crate::clock::UnixMillis;
use crate::commands::expiry::Unit;
use crate::commands::keys::tell_replacement;
use crate::commands::spec::row;
use crate::commands::{Call, Family, Flags, Handler, Keys, Row};
use crate::error::{Failure, NOT_AN_INTEGER, SYNTAX, TOO_LONG};
use crate::memory::recency::{Recency, Tracking};
use crate::protocol::{Args, integer};
use crate::rdb::crc64::crc64;
use crate::rdb::{self, Reader};
use crate::store::effect::Effect;
use std::ops::RangeInclusive;

/// The family's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Row<Handler>] = &[
    row(Family::Generic, "dump", 2, Flags::READONLY, Keys::ONE, dump)
        .help("key", "Returns the value of a key in a checksummed form for RESTORE.",
            "SET city Oslo; DUMP city -> \"\\x00\\x04Oslo\\n\\x00$z\\x1f\\x99\\xf7\\xae\\x9b\\xe3\""),
    row(Family::Generic, "restore", -4, Flags::WRITE.and(Flags::DENYOOM), Keys::ONE, restore)
        .on_keys(&["OW update"])
        .help("key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]",
            "Creates a key from the output of DUMP; ttl is in milliseconds, 0 for none.",
            "RESTORE town 0 \"\\x00\\x04Oslo\\n\\x00$z\\x1f\\x99\\xf7\\xae\\x9b\\xe3\" -> OK"),
];

const VERSION_LEN: usize = 2;
const CHECKSUM_LEN: usize = 8;

const BUSY_KEY: Failure = Failure::fixed("BUSYKEY Target key name already exists.");
const INVALID_TTL: Failure = Failure::fixed("ERR Invalid TTL value, must be >= 0");
const INVALID_IDLETIME: Failure = Failure::fixed("ERR Invalid IDLETIME value, must be >= 0");
const INVALID_FREQ: Failure = Failure::fixed("ERR Invalid FREQ value, must be >= 0 and <= 255");
const BAD_PAYLOAD: Failure = Failure::fixed("ERR DUMP payload version or checksum are wrong");

const BAD_DATA: Failure = Failure::fixed("ERR Bad data format");

/// The payload of a value.
fn seal(value: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(value.len() + 32);
    payload.push(rdb::STRING);
    rdb::append_string(&mut payload, value);
    payload.extend_from_slice(&rdb::VERSION.to_le_bytes());
    payload.extend_from_slice(&crc64(0, &payload).to_le_bytes());
    payload
}

/// The length of a value in a payload.
pub(crate) fn sealed_len(value: &[u8]) -> usize {
    seal(value).len() - 1 - VERSION_LEN - CHECKSUM_LEN
}

/// The value in a payload, if its checksum and version are right and it is a string of at most `len_max` bytes.
fn unseal(payload: &[u8], len_max: usize) -> Result<Vec<u8>, Failure> {
    let (sealed, crc) = payload.split_last_chunk::<CHECKSUM_LEN>().ok_or(BAD_PAYLOAD)?;
    let (value, version) = sealed.split_last_chunk::<VERSION_LEN>().ok_or(BAD_PAYLOAD)?;
    let is_intact = crc64(0, sealed) == u64::from_le_bytes(*crc);
    if !is_intact || !rdb::is_known(u16::from_le_bytes(*version)) {
        return Err(BAD_PAYLOAD);
    }
    let string = value.strip_prefix(&[rdb::STRING]).ok_or(BAD_DATA)?;
    let mut reader = Reader::new(string);
    match reader.string(len_max as u64) {
        Ok(value) if reader.into_source().is_empty() => Ok(value),
        Err(rdb::Error::TooLong) => Err(TOO_LONG),
        _ => Err(BAD_DATA),
    }
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
    let value = unseal(&args[3], call.value_len_max)?;
    let unit = if options.absolute { Unit::UNIX_MILLIS } else { Unit::MILLIS };
    let deadline = match ttl {
        0 => None,
        _ => Some(unit.resolve(ttl, now).ok_or_else(|| Failure::invalid_expire(call.name))?),
    };
    let deadline = deadline.map(|at| UnixMillis(at as u64));
    if deadline.is_none_or(|at| at > now) {
        tell_replacement(call.tx, key);
        call.tx.apply(Effect::Set { key, value: &value, deadline });
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

    const LEN_MAX: usize = 100_000;

    /// A payload with this inside, by its checksum intact.
    fn sealed(inside: &[u8], version: u16) -> Vec<u8> {
        let mut payload = [inside, &version.to_le_bytes()].concat();
        payload.extend_from_slice(&crc64(0, &payload).to_le_bytes());
        payload
    }

    #[test]
    fn any_value_comes_back() {
        for value in [&b""[..], b"Ada", b"-129", b"\0\xff\r\n", &[7; LEN_MAX]] {
            assert_eq!(unseal(&seal(value), LEN_MAX).as_deref(), Ok(value));
        }
        assert_eq!(unseal(&seal(&[7; LEN_MAX]), LEN_MAX - 1), Err(TOO_LONG));
    }

    #[test]
    fn the_format_is_that_of_redis_7_0() {
        for (value, payload) in [
            (&b"Oslo"[..], &b"\0\x04Oslo\x0a\0$z\x1f\x99\xf7\xae\x9b\xe3"[..]),
            (b"300", b"\0\xc1\x2c\x01\x0a\0\x95Ba\xf2e\x82\x5c\x10"),
            (b"", b"\0\0\x0a\0]\x9b\x5c@\x0f\x7f\xa2\xda"),
        ] {
            assert_eq!(seal(value), payload, "a value that Redis 7.0.15 dumps so");
            assert_eq!(unseal(payload, LEN_MAX).as_deref(), Ok(value));
        }
        let compressed = b"\0\xc3\x0a\x18\x03abca\xe0\x0a\x02\0c\x0a\0\x7f\xc3\xe2 \x12\x81\x16n";
        assert_eq!(unseal(compressed, LEN_MAX), Ok(b"abc".repeat(8)));
        let a_list = b"\x12\x01\x02\x0c\x0c\0\0\0\x02\0\x81a\x02\x05\x01\xff\x0a\0\xec\xe2\xb0M\x82\x81\xb9Q";
        assert_eq!(unseal(a_list, LEN_MAX), Err(BAD_DATA));
    }

    #[test]
    fn a_spoiled_payload_is_refused() {
        let payload = seal(b"some value");
        for bit in 0..payload.len() * 8 {
            let mut spoiled = payload.clone();
            spoiled[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal(&spoiled, LEN_MAX), Err(BAD_PAYLOAD), "bit {bit}");
        }
        for len in 0..payload.len() {
            assert_eq!(unseal(&payload[..len], LEN_MAX), Err(BAD_PAYLOAD), "cut to {len}");
        }
        assert_eq!(unseal(b"\x01Oslo\xad\x18\xc7z", LEN_MAX), Err(BAD_PAYLOAD), "our first form");
    }

    #[test]
    fn what_is_intact_may_still_be_no_string() {
        assert_eq!(unseal(&sealed(b"\0\x01v", 15), LEN_MAX).as_deref(), Ok(&b"v"[..]));
        assert_eq!(unseal(&sealed(b"\0\x01v", 16), LEN_MAX), Err(BAD_PAYLOAD), "a later version");
        let insides: [&[u8]; 6] =
            [b"", b"\x01\x01\x01v", b"\0", b"\0\x02v", b"\0\x01vv", b"\0\xc3\x02\x09\x01ab"];
        for inside in insides {
            assert_eq!(unseal(&sealed(inside, 10), LEN_MAX), Err(BAD_DATA), "{inside:?}");
        }
        let bomb = sealed(b"\0\xc3\x02\x80\xff\xff\xff\xff\0a", 10);
        assert_eq!(unseal(&bomb, LEN_MAX), Err(TOO_LONG));
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
