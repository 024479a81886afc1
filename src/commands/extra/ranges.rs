//! Commands that read or write part of a value: APPEND, SETRANGE, GETRANGE.

use crate::commands::spec::row;
use crate::commands::{Call, Family, Flags, Handler, Keys, Row};
use crate::error::{Failure, NOT_AN_INTEGER, TOO_LONG};
use crate::protocol::{Args, integer};
use crate::store::Tx;
use crate::store::effect::Effect;

const WRITE: Flags = Flags::WRITE.and(Flags::DENYOOM);

/// The string family's rows for parts of values.
#[rustfmt::skip]
pub const COMMANDS: &[Row<Handler>] = &[
    row(Family::String, "append", 3, WRITE.and(Flags::FAST), Keys::ONE, append).on_keys(&["RW insert"]).rest(2)
        .help("key value",
            "Appends to a value; a missing key counts as empty. Returns the new length.",
            "SET greeting hello; APPEND greeting \" world\" -> 11"),
    row(Family::String, "strlen", 2, Flags::READONLY.and(Flags::FAST), Keys::ONE, strlen).on_keys(&["RO"])
        .help("key", "Returns the length of a value in bytes.", "SET name Ada; STRLEN name -> 3"),
    row(Family::String, "setrange", 4, WRITE, Keys::ONE, setrange).on_keys(&["RW update"]).rest(3)
        .help("key offset value",
            "Overwrites part of a value, padded with zero bytes; returns the new length.",
            "SET greeting hello world; SETRANGE greeting 6 there -> 11"),
    row(Family::String, "getrange", 4, Flags::READONLY, Keys::ONE, getrange)
        .help("key start end", "Returns part of a value, both ends included; negative indexes count from the end.",
            "SET name Ada; GETRANGE name 0 1 -> Ad"),
    row(Family::String, "substr", 4, Flags::READONLY, Keys::ONE, getrange)
        .help("key start end", "The same as GETRANGE.", "SET name Ada; SUBSTR name -2 -1 -> da"),
];

/// Writes bytes at an offset in a value, which is created if the key does not exist.
///
/// An expired value may still be in the table, so a key that is not live gets a SET first. For a small
/// offset that SET is all: it has the new value. For a large one it is empty and a SETRANGE follows:
/// `SETBIT k 4000000000 1` must not log half a gigabyte of zeros.
pub(super) fn write_at(tx: &mut Tx<'_>, key: &[u8], offset: usize, bytes: &[u8]) {
    const PADDING_MAX: usize = 4 << 10;
    if !tx.exists(key) {
        let near = offset <= PADDING_MAX;
        let mut value = Vec::new();
        if near {
            value.resize(offset, 0);
            value.extend_from_slice(bytes);
        }
        tx.apply(Effect::Set { key, value: &value, deadline: None });
        if near {
            return;
        }
    }
    tx.apply(Effect::SetRange { key, offset, bytes });
}

/// The range from `start` to `end` of `len` elements, clamped as in Redis: both ends are included, and
/// negative ones count from the end. None if the range is empty.
pub(super) fn clamp(start: i64, end: i64, len: usize) -> Option<(usize, usize)> {
    let len = len as i64;
    let from_end = |index: i64| if index < 0 { (len + index).max(0) } else { index };
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    (start <= end).then_some((start as usize, end as usize))
}

/// True for a range that is empty at any length. [`clamp`] may move both of its ends to the first byte.
pub(super) fn is_backwards(start: i64, end: i64) -> bool {
    start < 0 && end < 0 && start > end
}

fn append(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    let (key, bytes) = (&args[1], &args[2]);
    let old_len = call.tx.peek(key).map_or(0, |live| live.value.len());
    let len = checked_len(call, old_len, bytes)?;
    write_at(call.tx, key, old_len, bytes);
    call.tx.emit("append", key);
    call.reply.count(len);
    Ok(())
}

fn strlen(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    call.reply.count(call.tx.value(&args[1]).map_or(0, <[u8]>::len));
    Ok(())
}

fn setrange(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    const OFFSET: Failure = Failure::fixed("ERR offset is out of range");
    let (key, bytes) = (&args[1], &args[3]);
    let offset = integer(&args[2]).ok_or(NOT_AN_INTEGER)?;
    let offset = usize::try_from(offset).map_err(|_| OFFSET)?;
    let old_len = call.tx.peek(key).map_or(0, |live| live.value.len());
    if bytes.is_empty() {
        // An empty write does not pad the value up to the offset.
        call.reply.count(old_len);
        return Ok(());
    }
    let len = checked_len(call, offset, bytes)?.max(old_len);
    write_at(call.tx, key, offset, bytes);
    call.tx.emit("setrange", key);
    call.reply.count(len);
    Ok(())
}

fn getrange(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    let start = integer(&args[2]).ok_or(NOT_AN_INTEGER)?;
    let end = integer(&args[3]).ok_or(NOT_AN_INTEGER)?;
    let value = call.tx.value(&args[1]).unwrap_or_default();
    match clamp(start, end, value.len()) {
        Some((first, last)) if !is_backwards(start, end) => call.reply.bulk(&value[first..=last]),
        _ => call.reply.bulk(b""),
    }
    Ok(())
}

/// The end of `bytes` at `offset`, or an error if a value may not be that long.
fn checked_len(call: &Call<'_, '_>, offset: usize, bytes: &[u8]) -> Result<usize, Failure> {
    let len = offset.checked_add(bytes.len()).filter(|&len| len <= call.value_len_max);
    len.ok_or(TOO_LONG)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::Bench;

    #[test]
    fn ranges_are_clamped_as_in_redis() {
        assert_eq!(clamp(0, -1, 3), Some((0, 2)));
        assert_eq!(clamp(-9, 9, 3), Some((0, 2)));
        assert_eq!(clamp(-5, -10, 3), Some((0, 0)));
        assert_eq!(clamp(i64::MIN, i64::MAX, 3), Some((0, 2)));
        assert_eq!(clamp(3, 9, 3), None);
        assert_eq!(clamp(0, -1, 0), None);
        let bench = Bench::new();
        bench.run("SET k abc");
        assert_eq!(bench.run("GETRANGE k -5 -10"), "\"\"");
    }

    #[test]
    fn nothing_of_an_expired_value_is_left() {
        let mut bench = Bench::new();
        for line in ["APPEND k x", "SETRANGE k 2 x", "SETBIT k 23 1", "SETRANGE k 5000 x"] {
            bench.run("PSETEX k 10 old-and-expired");
            bench.now_ms += 11;
            bench.run(line);
            let value = bench.run("GETRANGE k 0 1");
            assert!(value == "x" || value == r#""\x00\x00""#, "{line}: {value}");
            bench.now_ms += 11;
            assert_ne!(bench.run("STRLEN k"), "0", "{line} inherited the deadline");
        }
    }

    #[test]
    fn a_live_value_keeps_its_deadline() {
        let mut bench = Bench::new();
        bench.run("PSETEX k 10 a");
        assert_eq!(bench.run("APPEND k b"), "2");
        assert_eq!(bench.run("SETRANGE k 3 c"), "4");
        bench.now_ms += 11;
        assert_eq!(bench.run("GET k"), "(nil)");
    }

    #[test]
    fn no_value_outgrows_the_limit() {
        let mut bench = Bench::new();
        bench.value_len_max = 8;
        bench.run("SET k 1234567");
        assert_eq!(bench.run("APPEND k 8"), "8");
        assert_eq!(bench.run("APPEND k 9"), TOO_LONG.text());
        assert_eq!(bench.run("SETRANGE k 8 9"), TOO_LONG.text());
        assert_eq!(bench.run("SETRANGE k 9223372036854775807 9"), TOO_LONG.text());
        assert_eq!(bench.run("SETRANGE k 9223372036854775807 \"\""), "8");
        assert_eq!(bench.run("SETRANGE k -1 9"), "ERR offset is out of range");
    }
}
