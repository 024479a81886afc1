//! Bitmaps: values as arrays of bits. Bit 0 is the most significant bit of the first byte. A value counts as
//! followed by endless zeros.

use super::ranges::{clamp, is_backwards, write_at};
use crate::commands::spec::row;
use crate::commands::{Call, Family, Flags, Handler, Keys, Row};
use crate::error::{Failure, NOT_AN_INTEGER, SYNTAX};
use crate::protocol::{Args, integer};
use crate::store::effect::Effect;

const WRITE: Flags = Flags::WRITE.and(Flags::DENYOOM);

/// The family's rows for bits.
#[rustfmt::skip]
pub const COMMANDS: &[Row<Handler>] = &[
    row(Family::Bitmap, "setbit", 4, WRITE, Keys::ONE, setbit)
        .help("key offset bit", "Sets or clears a bit; returns the old bit.", "SETBIT seen 7 1 -> 0"),
    row(Family::Bitmap, "getbit", 3, Flags::READONLY.and(Flags::FAST), Keys::ONE, getbit)
        .help("key offset", "Returns a bit of a value.", "SETBIT seen 7 1; GETBIT seen 7 -> 1"),
    row(Family::Bitmap, "bitcount", -2, Flags::READONLY, Keys::ONE, bitcount)
        .help("key [start end [BYTE | BIT]]", "Counts the set bits of a value or of a range in it.",
            "SETBIT seen 7 1; BITCOUNT seen -> 1"),
    row(Family::Bitmap, "bitpos", -3, Flags::READONLY, Keys::ONE, bitpos)
        .help("key bit [start [end [BYTE | BIT]]]", "Returns the position of the first bit that is set, or clear.",
            "SETBIT seen 7 1; BITPOS seen 1 -> 7"),
    row(Family::Bitmap, "bitop", -4, WRITE, Keys::FROM_SECOND, bitop).on_keys(&["OW update", "RO access"])
        .help("AND | OR | XOR | NOT destkey key [key ...]",
            "Combines values bit by bit and stores the result; returns its length in bytes.",
            "MSET mine a yours b; BITOP OR both mine yours -> 1"),
];

/// An offset that is not a number, or after the end of the longest value.
pub(crate) const BAD_OFFSET: Failure =
    Failure::fixed("ERR bit offset is not an integer or out of range");

/// Parses an offset; the longest value must have a bit there.
pub(crate) fn check_offset(offset: i64, value_len_max: usize) -> Result<usize, Failure> {
    let offset = usize::try_from(offset).map_err(|_| BAD_OFFSET)?;
    if offset / 8 < value_len_max { Ok(offset) } else { Err(BAD_OFFSET) }
}

fn offset_of_bit(call: &Call<'_, '_>, arg: &[u8]) -> Result<usize, Failure> {
    check_offset(integer(arg).ok_or(BAD_OFFSET)?, call.value_len_max)
}

fn setbit(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    const NOT_A_BIT: Failure = Failure::fixed("ERR bit is not an integer or out of range");
    let offset = offset_of_bit(call, &args[2])?;
    let on = match integer(&args[3]) {
        Some(bit @ 0..=1) => bit == 1,
        _ => return Err(NOT_A_BIT),
    };
    let (at, mask) = (offset / 8, 0x80 >> (offset % 8));
    let old = call.tx.peek(&args[1]).and_then(|live| live.value.get(at).copied());
    let was_on = old.unwrap_or(0) & mask != 0;
    // Writing a zero after the end makes the value longer. Otherwise, a bit that stays the same is not written.
    if old.is_none() || was_on != on {
        let new = if on { old.unwrap_or(0) | mask } else { old.unwrap_or(0) & !mask };
        write_at(call.tx, &args[1], at, &[new]);
        call.tx.emit("setbit", &args[1]);
    }
    call.reply.flag(was_on);
    Ok(())
}

fn getbit(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    let offset = offset_of_bit(call, &args[2])?;
    let byte = call.tx.value(&args[1]).and_then(|value| value.get(offset / 8));
    call.reply.flag(byte.is_some_and(|byte| byte & (0x80 >> (offset % 8)) != 0));
    Ok(())
}

/// True if indexes count bits; `index` is that of the word for it, which may be missing.
fn counts_bits(args: Args<'_>, index: usize) -> Result<bool, Failure> {
    match args.get(index) {
        None => Ok(false),
        Some(_) if args.is(index, "BYTE") => Ok(false),
        Some(_) if args.is(index, "BIT") => Ok(true),
        Some(_) => Err(SYNTAX),
    }
}

/// The first and the last bit of a range of bits or bytes, clamped. None if it is empty.
fn clamp_bits(start: i64, end: i64, len: usize, in_bits: bool) -> Option<(usize, usize)> {
    if in_bits {
        clamp(start, end, len * 8)
    } else {
        clamp(start, end, len).map(|(first, last)| (first * 8, last * 8 + 7))
    }
}

fn bitcount(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    // As in Redis, without the key the other arguments are not validated.
    let value = call.tx.value(&args[1]);
    let count = value.map_or(Ok(0), |value| bitcount_in(value, args))?;
    call.reply.count(count);
    Ok(())
}

fn bitcount_in(value: &[u8], args: Args<'_>) -> Result<usize, Failure> {
    let range = match args.len() {
        2 => clamp_bits(0, -1, value.len(), false),
        4 | 5 => {
            let start = integer(&args[2]).ok_or(NOT_AN_INTEGER)?;
            let end = integer(&args[3]).ok_or(NOT_AN_INTEGER)?;
            if is_backwards(start, end) {
                return Ok(0);
            }
            clamp_bits(start, end, value.len(), counts_bits(args, 4)?)
        }
        _ => return Err(SYNTAX),
    };
    Ok(range.map_or(0, |(first, last)| count_ones(value, first, last)))
}

/// Counts the set bits from `first` to `last`.
fn count_ones(value: &[u8], first: usize, last: usize) -> usize {
    let (words, rest) = value[first / 8..=last / 8].as_chunks::<8>();
    let ones = |byte: u8| byte.count_ones() as usize;
    let in_words: usize =
        words.iter().map(|word| u64::from_ne_bytes(*word).count_ones() as usize).sum();
    let in_rest: usize = rest.iter().map(|byte| ones(*byte)).sum();
    // Whole bytes were counted: subtract the bits before the first and after the last one.
    let before = ones(value[first / 8] & !(0xff >> (first % 8)));
    let behind = ones(value[last / 8] & (0x7f >> (last % 8)));
    in_words + in_rest - before - behind
}

fn bitpos(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    const NOT_A_BIT: Failure = Failure::fixed("ERR The bit argument must be 1 or 0.");
    let wanted = match integer(&args[2]).ok_or(NOT_AN_INTEGER)? {
        bit @ 0..=1 => bit == 1,
        _ => return Err(NOT_A_BIT),
    };
    let position = match call.tx.value(&args[1]) {
        Some(value) => bitpos_in(value, wanted, args)?,
        // As in Redis, without the key the other arguments are not validated.
        None => (!wanted).then_some(0),
    };
    call.reply.int(position.map_or(-1, |position| position as i64));
    Ok(())
}

fn bitpos_in(value: &[u8], wanted: bool, args: Args<'_>) -> Result<Option<usize>, Failure> {
    if args.len() > 6 {
        return Err(SYNTAX);
    }
    let number = |index| args.get(index).map(|arg| integer(arg).ok_or(NOT_AN_INTEGER)).transpose();
    let start = number(3)?.unwrap_or(0);
    let in_bits = counts_bits(args, 5)?;
    let end = number(4)?;
    let range = clamp_bits(start, end.unwrap_or(-1), value.len(), in_bits);
    let Some((first, last)) = range else { return Ok(None) };
    let found = find_bit(value, wanted, first, last);
    // Without an end, a clear bit may also be in the zeros after the value.
    Ok(found.or((!wanted && end.is_none()).then_some(value.len() * 8)))
}

/// The first bit from `first` to `last` that has the wanted value.
fn find_bit(value: &[u8], wanted: bool, first: usize, last: usize) -> Option<usize> {
    // A byte without the wanted bit: in an XOR with it, the wanted bits are set.
    let dull: u8 = if wanted { 0 } else { 0xff };
    let (start, bytes) = (first / 8, &value[first / 8..=last / 8]);
    let head = (bytes[0] ^ dull) & (0xff >> (first % 8));
    let found = if head != 0 {
        start * 8 + head.leading_zeros() as usize
    } else {
        let (words, _) = bytes[1..].as_chunks::<8>();
        let skipped = words.iter().take_while(|word| **word == [dull; 8]).count() * 8 + 1;
        let at = skipped + bytes[skipped..].iter().position(|byte| *byte != dull)?;
        (start + at) * 8 + (bytes[at] ^ dull).leading_zeros() as usize
    };
    (found <= last).then_some(found)
}

fn bitop(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    const ONE_SOURCE: Failure =
        Failure::fixed("ERR BITOP NOT must be called with a single source key.");
    let operation = match args[1].to_ascii_uppercase().as_slice() {
        b"AND" => Operation::And,
        b"OR" => Operation::Or,
        b"XOR" => Operation::Xor,
        b"NOT" if args.len() == 4 => Operation::Not,
        b"NOT" => return Err(ONE_SOURCE),
        _ => return Err(SYNTAX),
    };
    let key = &args[2];
    let values = args.from(3).map(|key| call.tx.value(key).unwrap_or_default());
    let result = combine(operation, &values.collect::<Vec<_>>());
    if !result.is_empty() {
        call.tx.apply(Effect::Set { key, value: &result, deadline: None });
        call.tx.emit("set", key);
    } else if call.tx.find(key).is_some() {
        // As in Redis, also a key that has expired: it is told of as deleted.
        call.tx.apply(Effect::Del { keys: &[key] });
        call.tx.emit("del", key);
    }
    call.reply.count(result.len());
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    And,
    Or,
    Xor,
    Not,
}

/// Combines values, of which there must be one or more. Shorter ones count as padded with zeros.
fn combine(operation: Operation, values: &[&[u8]]) -> Vec<u8> {
    let len = values.iter().map(|value| value.len()).max().unwrap_or(0);
    let mut result = Vec::with_capacity(len);
    result.extend_from_slice(values[0]);
    result.resize(len, 0);
    if operation == Operation::Not {
        result.iter_mut().for_each(|byte| *byte = !*byte);
    }
    for value in &values[1..] {
        let (both, behind) = result.split_at_mut(value.len());
        let pairs = both.iter_mut().zip(*value);
        // One loop for each operation, so that the compiler vectorises it.
        match operation {
            Operation::And => {
                pairs.for_each(|(byte, other)| *byte &= other);
                behind.fill(0);
            }
            Operation::Or => pairs.for_each(|(byte, other)| *byte |= other),
            Operation::Xor => pairs.for_each(|(byte, other)| *byte ^= other),
            Operation::Not => {}
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::Bench;
    use proptest::prelude::*;

    fn bit(value: &[u8], at: usize) -> bool {
        value[at / 8] & (0x80 >> (at % 8)) != 0
    }

    proptest! {
        #[test]
        fn counts_and_finds_as_bit_by_bit(
            value in prop::collection::vec(prop_oneof![Just(0), Just(0xff), any::<u8>()], 1..40),
            ends in any::<(prop::sample::Index, prop::sample::Index)>(),
            wanted: bool,
        ) {
            let (one, other) = (ends.0.index(value.len() * 8), ends.1.index(value.len() * 8));
            let (first, last) = (one.min(other), one.max(other));
            let count = (first..=last).filter(|at| bit(&value, *at)).count();
            prop_assert_eq!(count_ones(&value, first, last), count);
            let found = (first..=last).find(|at| bit(&value, *at) == wanted);
            prop_assert_eq!(find_bit(&value, wanted, first, last), found);
        }
    }

    #[test]
    fn a_bit_that_stays_is_no_change() {
        let bench = Bench::new();
        for (line, answer) in [
            ("SETBIT k 9 0", ("0", 1)),
            ("SETBIT k 9 0", ("0", 0)),
            ("SETBIT k 9 1", ("0", 1)),
            ("SETBIT k 9 1", ("1", 0)),
            ("SETBIT k 16 0", ("0", 1)),
            ("STRLEN k", ("3", 0)),
        ] {
            assert_eq!(bench.run_and_count(line), (answer.0.to_owned(), answer.1), "{line}");
        }
    }

    #[test]
    fn a_far_bit_is_refused_and_a_clear_one_is_found_behind_the_end() {
        let bench = Bench::new();
        for offset in ["4294967296", "-1", "9223372036854775807", "x"] {
            assert_eq!(bench.run(&format!("SETBIT k {offset} 1")), BAD_OFFSET.text());
        }
        bench.run("SET k \"\\xff\"");
        assert_eq!(bench.run("BITPOS k 0"), "8");
        assert_eq!(bench.run("BITPOS k 0 0"), "8");
        assert_eq!(bench.run("BITPOS k 0 0 -1"), "-1");
        assert_eq!(bench.run("BITPOS k 0 1"), "-1");
    }

    #[test]
    fn an_empty_result_deletes() {
        let bench = Bench::new();
        bench.run("MSET target old a abc b ab");
        assert_eq!(bench.run("BITOP AND target a b"), "3");
        assert_eq!(bench.run("GET target"), r#""ab\x00""#);
        assert_eq!(bench.run("BITOP NOT target nobody"), "0");
        assert_eq!(bench.run("GET target"), "(nil)");
    }
}
