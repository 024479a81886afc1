//! Commands on all keys: KEYS, SCAN, DBSIZE, FLUSHALL.
//!
//! Those that read lock one shard after another, each for at most [`HOLD_STEPS`] of matching. So they delay
//! other commands only shortly, and see each shard at a slightly different time. In an EXEC they run under its
//! locks, and see one point in time.

use crate::commands::spec::row;
use crate::commands::{Call, Family, Flags, Handler, Keys, Row};
use crate::error::{Failure, NOT_AN_INTEGER, SYNTAX};
use crate::memory::sample;
use crate::protocol::{Args, Reply, integer};
use crate::pubsub::glob::Pattern;
use crate::store::effect::Effect;
use fastrand::Rng;

const READ: Flags = Flags::READONLY.and(Flags::ALL_KEYS);
const FLUSH: Flags = Flags::WRITE.and(Flags::ALL_KEYS);

/// The family's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Row<Handler>] = &[
    row(Family::Generic, "keys", 2, READ, Keys::NONE, keys)
        .help("pattern", "Returns all keys that match a glob pattern; SCAN returns them in steps.",
            "MSET user:7 Ada city London; KEYS user:* -> 1) user:7"),
    row(Family::Generic, "scan", -2, READ, Keys::NONE, scan)
        .help("cursor [MATCH pattern] [COUNT count] [TYPE type]",
            "Returns some keys and the next cursor; start with 0, end at 0.",
            "MSET user:7 Ada city London; SCAN 0 MATCH user:* COUNT 100 -> 1) 0\n2) 1) user:7"),
    row(Family::Generic, "randomkey", 1, READ, Keys::NONE, randomkey)
        .help("", "Returns a random key, or nil if there are no keys.", "SET name Ada; RANDOMKEY -> name"),
    row(Family::Server, "dbsize", 1, READ.and(Flags::FAST), Keys::NONE, dbsize)
        .help("", "Returns the number of keys.", "MSET name Ada city London; DBSIZE -> 2"),
    row(Family::Server, "flushdb", -1, FLUSH, Keys::NONE, flush)
        .help("[ASYNC | SYNC]", "The same as FLUSHALL: there is only one database.", "FLUSHDB -> OK"),
    row(Family::Server, "flushall", -1, FLUSH, Keys::NONE, flush)
        .help("[ASYNC | SYNC]", "Deletes all keys.", "FLUSHALL -> OK"),
];

const INVALID_CURSOR: Failure = Failure::fixed("ERR invalid cursor");

fn keys(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    let all = ScanOptions { pattern: parse_pattern(&args[1])?, count: usize::MAX, strings: true };
    let (_, keys) = all.walk(call, 0);
    keys.answer(call.reply);
    Ok(())
}

fn scan(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    let cursor = parse_cursor(&args[1]).ok_or(INVALID_CURSOR)?;
    let options = ScanOptions::parse(args.from(2))?;
    let (cursor, keys) = options.walk(call, cursor);
    call.reply.array(2);
    call.reply.bulk(cursor.to_string().as_bytes());
    keys.answer(call.reply);
    Ok(())
}

/// Parses a cursor as Redis does with C's `strtoul`: the empty word is 0, a sign is allowed, and a NUL ends it.
fn parse_cursor(word: &[u8]) -> Option<u64> {
    let word = word.split(|&byte| byte == 0).next().unwrap_or_default();
    let (negative, digits) = match word {
        [] => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value: u64 = str::from_utf8(digits).ok()?.parse().ok()?;
    Some(if negative { value.wrapping_neg() } else { value })
}

/// The most steps of matching under one lock: a few milliseconds.
const HOLD_STEPS: usize = 1 << 20;
/// The steps for a key besides matching.
const LOOK_STEPS: usize = 16;

/// Keys that were found, in one piece of memory.
#[derive(Debug, Default)]
struct Found {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Found {
    fn add(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
    }

    fn answer(&self, reply: &mut Reply) {
        reply.array(self.ends.len());
        let mut start = 0;
        for &end in &self.ends {
            reply.bulk(&self.bytes[start..end]);
            start = end;
        }
    }
}

/// The options of SCAN.
#[derive(Debug)]
struct ScanOptions {
    /// None for a single star, which also stands for the empty key.
    pattern: Option<Pattern>,
    /// The number of keys to visit, matching or not.
    count: usize,
    /// False if another type is wanted: there are only strings.
    strings: bool,
}

fn parse_pattern(pattern: &[u8]) -> Result<Option<Pattern>, Failure> {
    if pattern == b"*" { Ok(None) } else { Pattern::parse(pattern).map(Some) }
}

impl ScanOptions {
    fn parse<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Result<ScanOptions, Failure> {
        let mut options = ScanOptions { pattern: None, count: 10, strings: true };
        while let Some(word) = words.next() {
            let value = words.next().ok_or(SYNTAX)?;
            match word.to_ascii_uppercase().as_slice() {
                b"MATCH" => options.pattern = parse_pattern(value)?,
                b"TYPE" => options.strings = value.eq_ignore_ascii_case(b"string"),
                b"COUNT" => {
                    let count = integer(value).ok_or(NOT_AN_INTEGER)?;
                    options.count = usize::try_from(count).ok().filter(|&n| n > 0).ok_or(SYNTAX)?;
                }
                _ => return Err(SYNTAX),
            }
        }
        Ok(options)
    }

    /// Visits keys from `cursor` on. Returns the next cursor and the keys that match. Ends early if they exceed
    /// the limit of the reply, which is then not sent.
    fn walk(&self, call: &Call<'_, '_>, mut cursor: u64) -> (u64, Found) {
        let (mut found, mut looked_at, room) = (Found::default(), 0, call.reply.room());
        let matches = |key: &[u8]| self.pattern.as_ref().is_none_or(|pattern| pattern.matches(key));
        loop {
            let (mut steps, mut long) = (0, Vec::new());
            cursor = call.tx.scan(cursor, |entry| {
                let key = entry.key();
                let needed = self.pattern.as_ref().map_or(0, |pattern| pattern.steps(key.len()));
                if needed > HOLD_STEPS {
                    // To be matched after the lock is released.
                    let is_live = entry.deadline().is_none_or(|at| at >= call.tx.now());
                    if self.strings && is_live {
                        long.push(key.to_vec());
                    }
                } else if self.strings && matches(key) && call.tx.is_live(entry) {
                    found.add(key);
                }
                looked_at += 1;
                steps += needed + LOOK_STEPS;
                looked_at < self.count && steps < HOLD_STEPS && found.bytes.len() <= room
            });
            long.iter().filter(|key| matches(key)).for_each(|key| found.add(key));
            if cursor == 0 || looked_at >= self.count || found.bytes.len() > room {
                return (cursor, found);
            }
        }
    }
}

fn randomkey(call: &mut Call<'_, '_>, _: Args<'_>) -> Result<(), Failure> {
    let key = sample::random_key(call.tx, &mut Rng::new());
    call.reply.bulk_or_nil(key.as_deref());
    Ok(())
}

fn dbsize(call: &mut Call<'_, '_>, _: Args<'_>) -> Result<(), Failure> {
    call.reply.count(call.tx.key_count());
    Ok(())
}

fn flush(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    // ASYNC and SYNC are the same: keys are removed at once, and their memory is freed after unlocking.
    match args.len() {
        1 => {}
        2 if args.is(1, "ASYNC") || args.is(1, "SYNC") => {}
        _ => return Err(SYNTAX),
    }
    call.tx.apply(Effect::FlushAll);
    call.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::keys::tests::run;
    use crate::store::Store;

    fn store_with(keys: usize) -> Store {
        let store = Store::new();
        (0..keys).for_each(|n| assert_eq!(run(&store, 0, &format!("SET user:{n} x")), "OK"));
        store
    }

    #[test]
    fn cursors_as_redis_reads_them() {
        assert_eq!(parse_cursor(b""), Some(0));
        assert_eq!(parse_cursor(b"+7"), Some(7));
        assert_eq!(parse_cursor(b"7\0x"), Some(7));
        assert_eq!(parse_cursor(b"-1"), Some(u64::MAX));
        assert_eq!(parse_cursor(b"18446744073709551615"), Some(u64::MAX));
        for bad in ["abc", "1x", " 1", "1 ", "-", "+", "+-1", "18446744073709551616"] {
            assert_eq!(parse_cursor(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn a_cursor_from_nowhere_ends_the_scan() {
        let store = store_with(3);
        for cursor in ["18446744073709551615", "-1", "1099511627776"] {
            assert_eq!(run(&store, 0, &format!("SCAN {cursor}")), "1) 0\n2) (empty)");
        }
    }

    #[test]
    fn scan_options() {
        let store = store_with(30);
        run(&store, 0, "SET other x");
        assert_eq!(
            run(&store, 0, "SCAN 0 MATCH o* COUNT 9223372036854775807"),
            "1) 0\n2) 1) other"
        );
        assert_eq!(run(&store, 0, "SCAN 0 TYPE list COUNT 99"), "1) 0\n2) (empty)");
        assert_eq!(run(&store, 0, "SCAN 0 type STRING match o* count 99"), "1) 0\n2) 1) other");
        for bad in ["COUNT 0", "COUNT -1", "COUNT", "MATCH", "NONE 1"] {
            assert_eq!(run(&store, 0, &format!("SCAN 0 {bad}")), "ERR syntax error", "{bad}");
        }
        assert_eq!(run(&store, 0, "SCAN 0 COUNT x"), NOT_AN_INTEGER.text());
        assert_eq!(run(&store, 0, "SCAN x COUNT 0"), "ERR invalid cursor", "checked first");
    }

    #[test]
    fn the_whole_keyspace() {
        let store = store_with(300);
        assert_eq!(run(&store, 0, "KEYS user:*").lines().count(), 300);
        assert!(run(&store, 0, "RANDOMKEY").starts_with("user:"));
        assert_eq!(run(&store, 0, "FLUSHALL ASYNC SYNC"), "ERR syntax error");
        assert_eq!(run(&store, 0, "DBSIZE"), "300");
        assert_eq!(run(&store, 0, "FLUSHDB async"), "OK");
        assert_eq!(run(&store, 0, "DBSIZE"), "0");
        assert_eq!(run(&store, 0, "RANDOMKEY"), "(nil)");
        assert_eq!(run(&store, 0, "KEYS *"), "(empty)");
    }
}
