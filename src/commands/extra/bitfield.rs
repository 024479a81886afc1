//! BITFIELD: a value as integers of any width at any bit.
//!
//! ```text
//! bit       0        8        16
//! value    |00000001|01110000|      after BITFIELD k SET u5 7 23:
//!                  ^ ^^^^           23 is 10111, the most significant bit first
//! ```
//!
//! Each operation of a call sees the changes of those before it. They work on a [`Draft`]: the value, and the
//! bytes changed so far. So the cost of a call depends on the bits it touches, not on the length of the value.

use super::bits::{BAD_OFFSET, check_offset};
use super::ranges::write_at;
use crate::commands::spec::row;
use crate::commands::{Call, Family, Flags, Handler, Keys, Row};
use crate::error::{Failure, NOT_AN_INTEGER, SYNTAX};
use crate::protocol::{Args, integer};
use std::collections::BTreeMap;
use std::ops::Range;

/// The family's rows for integers made of bits.
#[rustfmt::skip]
pub const COMMANDS: &[Row<Handler>] = &[
    row(Family::Bitmap, "bitfield", -2, Flags::WRITE.and(Flags::DENYOOM), Keys::ONE, bitfield)
        .on_keys(&["RW access update variable_flags"])
        .help(
            "key [GET type offset | [OVERFLOW WRAP | SAT | FAIL] SET type offset value | INCRBY type offset \
             increment ...]",
            "Reads, sets and adds to integers of any width, such as u8 and i16, in a value.",
            "BITFIELD counters INCRBY u8 #1 200 GET u8 #0 -> 1) 200\n2) 0"),
    row(Family::Bitmap, "bitfield_ro", -2, Flags::READONLY.and(Flags::FAST), Keys::ONE, bitfield)
        .help("key [GET type offset ...]", "Reads integers of any width in a value.",
            "SET counters AB; BITFIELD_RO counters GET u8 #1 -> 1) 66"),
];

/// BITFIELD and BITFIELD_RO.
fn bitfield(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    const ONLY_GET: Failure = Failure::fixed("ERR BITFIELD_RO only supports the GET subcommand");
    let key = &args[1];
    let operations = parse(args.from(2), call.value_len_max)?;
    let write_end = operations.iter().filter_map(Operation::write_end).max();
    if write_end.is_some() && call.name == "bitfield_ro" {
        return Err(ONLY_GET);
    }
    let value = match write_end {
        Some(_) => call.tx.peek(key).map(|live| live.value),
        None => call.tx.value(key),
    };
    let mut draft = Draft::new(value.unwrap_or_default(), write_end.unwrap_or(0));
    call.reply.array(operations.len());
    for operation in &operations {
        match draft.run(operation) {
            Some(integer) => call.reply.int(integer),
            None => call.reply.nil(),
        }
    }
    let is_told = draft.is_told;
    for (offset, bytes) in draft.into_runs() {
        write_at(call.tx, key, offset, &bytes);
    }
    if is_told {
        call.tx.emit("setbit", key);
    }
    Ok(())
}

/// The treatment of a result that does not fit.
#[derive(Clone, Copy, Debug)]
enum Overflow {
    /// Its high bits are dropped.
    Wrap,
    /// The nearest one that fits is taken.
    Saturate,
    /// Nothing is written, and the reply is nil.
    Fail,
}

#[derive(Clone, Copy, Debug)]
struct Operation {
    field: Field,
    /// None for GET.
    write: Option<Write>,
}

#[derive(Clone, Copy, Debug)]
struct Write {
    /// INCRBY; otherwise SET.
    adds: bool,
    operand: i64,
    overflow: Overflow,
}

impl Operation {
    /// The end of the bytes that it may write.
    fn write_end(&self) -> Option<usize> {
        self.write.map(|_| self.field.bytes().end)
    }
}

fn parse<'a>(
    mut words: impl Iterator<Item = &'a [u8]>,
    value_len_max: usize,
) -> Result<Vec<Operation>, Failure> {
    let (mut operations, mut overflow) = (Vec::new(), Overflow::Wrap);
    while let Some(word) = words.next() {
        let mut operand = || words.next().ok_or(SYNTAX);
        let (writes, adds) = match word.to_ascii_uppercase().as_slice() {
            b"GET" => (false, false),
            b"SET" => (true, false),
            b"INCRBY" => (true, true),
            b"OVERFLOW" => {
                overflow = parse_overflow(operand()?)?;
                continue;
            }
            _ => return Err(SYNTAX),
        };
        // As in Redis, a missing operand is reported before a wrong one.
        let (kind, offset) = (operand()?, operand()?);
        let number = if writes { Some(operand()?) } else { None };
        let field = Field::parse(kind, offset, value_len_max)?;
        let number = number.map(|number| integer(number).ok_or(NOT_AN_INTEGER)).transpose()?;
        let write = number.map(|operand| Write { adds, operand, overflow });
        operations.push(Operation { field, write });
    }
    Ok(operations)
}

fn parse_overflow(word: &[u8]) -> Result<Overflow, Failure> {
    const BAD_OVERFLOW: Failure = Failure::fixed("ERR Invalid OVERFLOW type specified");
    match word.to_ascii_uppercase().as_slice() {
        b"WRAP" => Ok(Overflow::Wrap),
        b"SAT" => Ok(Overflow::Saturate),
        b"FAIL" => Ok(Overflow::Fail),
        _ => Err(BAD_OVERFLOW),
    }
}

/// The position and width of an integer: up to 64 bits with a sign, up to 63 without, so that it fits in an i64.
#[derive(Clone, Copy, Debug)]
struct Field {
    signed: bool,
    bits: u32,
    /// The offset of its first bit.
    offset: usize,
}

impl Field {
    /// Parses a type such as `u8` and an offset, in bits or, with a `#`, in integers of that type.
    fn parse(kind: &[u8], offset: &[u8], value_len_max: usize) -> Result<Field, Failure> {
        const BAD_TYPE: Failure = Failure::fixed(
            "ERR Invalid bitfield type. Use something like i16 u8. \
             Note that u64 is not supported but i64 is.",
        );
        let (signed, bits_max, digits) = match kind {
            [b'i', digits @ ..] => (true, 64, digits),
            [b'u', digits @ ..] => (false, 63, digits),
            _ => return Err(BAD_TYPE),
        };
        let bits = integer(digits).filter(|bits| (1..=bits_max).contains(bits)).ok_or(BAD_TYPE)?;
        let offset = match offset {
            [b'#', index @ ..] => integer(index).and_then(|index| index.checked_mul(bits)),
            offset => integer(offset),
        };
        // As in Redis, only the first bit must be within the longest value. So a write may make a value that
        // is longer than that, by eight bytes at most.
        let offset = check_offset(offset.ok_or(BAD_OFFSET)?, value_len_max)?;
        Ok(Field { signed, bits: bits as u32, offset })
    }

    /// The bytes that it overlaps: nine at most.
    fn bytes(self) -> Range<usize> {
        self.offset / 8..(self.offset + self.bits as usize).div_ceil(8)
    }

    /// The number of bits after it in its last byte.
    fn shift(self) -> usize {
        self.bytes().end * 8 - self.offset - self.bits as usize
    }

    /// A mask of its width.
    fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits)
    }

    /// The integer in the low bits of `bits`; others are ignored.
    fn decode(self, raw: u64) -> i64 {
        let unused = 64 - self.bits;
        if self.signed { (raw << unused) as i64 >> unused } else { (raw & self.mask()) as i64 }
    }

    fn max(self) -> i64 {
        (if self.signed { self.mask() >> 1 } else { self.mask() }) as i64
    }

    /// The integer to write in place of one that does not fit.
    fn fit(self, wanted: i128, above: bool, overflow: Overflow) -> Option<i64> {
        let max = self.max();
        let min = if self.signed { -max - 1 } else { 0 };
        match overflow {
            _ if (i128::from(min)..=i128::from(max)).contains(&wanted) => Some(wanted as i64),
            Overflow::Wrap => Some(self.decode(wanted as u64)),
            Overflow::Saturate => Some(if above { max } else { min }),
            Overflow::Fail => None,
        }
    }
}

/// A value while it is being changed.
struct Draft<'v> {
    /// Followed by endless zeros.
    old: &'v [u8],
    changed: BTreeMap<usize, u8>,
    /// The value becomes longer.
    grows: bool,
    /// There is an event for subscribers: as in Redis, not if all writes fail or change nothing.
    is_told: bool,
}

impl<'v> Draft<'v> {
    /// This value, padded to `len` bytes if it is shorter. As in Redis, that happens even if all writes
    /// fail.
    fn new(old: &'v [u8], len: usize) -> Draft<'v> {
        let mut changed = BTreeMap::new();
        if len > old.len() {
            changed.insert(len - 1, 0);
        }
        Draft { old, changed, grows: len > old.len(), is_told: false }
    }

    /// Runs the operation and returns its reply; None if it failed.
    fn run(&mut self, operation: &Operation) -> Option<i64> {
        let Operation { field, write } = *operation;
        let old = field.decode((self.wide(field) >> field.shift()) as u64);
        let Some(write) = write else { return Some(old) };
        let wanted = match write {
            Write { adds: true, operand, .. } => i128::from(old) + i128::from(operand),
            Write { operand, .. } if field.signed => i128::from(operand),
            // As in Redis, a negative number is a very large one without a sign.
            Write { operand, .. } => i128::from(operand as u64),
        };
        // NB: Redis subtracts the number to SET from the maximum in 64 bits. If that overflows, it saturates at
        // the wrong end. So do we: the data must be the same in both.
        let too_far = !write.adds && field.max().checked_sub(write.operand).is_none();
        let new = field.fit(wanted, wanted > 0 || too_far, write.overflow)?;
        self.is_told |= self.grows || new != old;
        self.put(field, new);
        Some(if write.adds { new } else { old })
    }

    fn byte(&self, at: usize) -> u8 {
        let changed = self.changed.get(&at);
        changed.or(self.old.get(at)).copied().unwrap_or(0)
    }

    /// All bits of all bytes that hold some of the field.
    fn wide(&self, field: Field) -> u128 {
        field.bytes().fold(0, |wide, at| wide << 8 | u128::from(self.byte(at)))
    }

    fn put(&mut self, field: Field, value: i64) {
        let mask = u128::from(field.mask()) << field.shift();
        let value = u128::from(value as u64) << field.shift();
        let mut wide = self.wide(field) & !mask | value & mask;
        for at in field.bytes().rev() {
            self.changed.insert(at, wide as u8);
            wide >>= 8;
        }
    }

    /// The changed bytes: ascending offsets and the bytes there, as few as possible.
    fn into_runs(self) -> Vec<(usize, Vec<u8>)> {
        let mut runs: Vec<(usize, Vec<u8>)> = Vec::new();
        for (at, byte) in self.changed {
            if self.old.get(at) == Some(&byte) {
                continue;
            }
            match runs.last_mut().filter(|(offset, bytes)| offset + bytes.len() == at) {
                Some((_, bytes)) => bytes.push(byte),
                None => runs.push((at, vec![byte])),
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Bench;

    #[test]
    fn overflows_wrap_saturate_or_fail() {
        let bench = Bench::new();
        assert_eq!(bench.run("BITFIELD k SET u8 0 255 INCRBY u8 0 2"), "1) 0\n2) 1");
        assert_eq!(
            bench.run("BITFIELD k OVERFLOW SAT INCRBY i8 0 200 INCRBY i8 0 -300"),
            "1) 127\n2) -128"
        );
        assert_eq!(
            bench.run("BITFIELD k OVERFLOW FAIL INCRBY i8 0 -1 GET i8 0"),
            "1) (nil)\n2) -128"
        );
        let ends = "SET i64 8 9223372036854775807 INCRBY i64 8 1 INCRBY u63 9 -1";
        let expected = "1) 0\n2) -9223372036854775808\n3) 9223372036854775807";
        assert_eq!(bench.run(&format!("BITFIELD k {ends}")), expected);
    }

    #[test]
    fn saturation_is_as_in_redis_even_where_that_is_odd() {
        let bench = Bench::new();
        let ends = "OVERFLOW SAT SET u8 0 -1 SET i8 8 -9223372036854775000 GET u8 0 GET i8 8";
        assert_eq!(bench.run(&format!("BITFIELD k {ends}")), "1) 0\n2) 0\n3) 255\n4) -128");
        let set = "BITFIELD k OVERFLOW SAT SET i8 8 -9223372036854775808 GET i8 8";
        assert_eq!(bench.run(set), "1) -128\n2) 127");
    }

    #[test]
    fn only_changed_areas_are_written() {
        let bench = Bench::new();
        // The first write also makes the key.
        let far = "BITFIELD k SET u16 4 65535 SET u1 800 0";
        assert_eq!(bench.run_and_count(far).1, 2);
        assert_eq!(bench.run("STRLEN k"), "101");
        assert_eq!(bench.run("GETRANGE k 0 3"), r#""\x0f\xff\xf0\x00""#);
        assert_eq!(bench.run_and_count(far).1, 0);
        assert_eq!(bench.run_and_count("BITFIELD k SET u8 4 254 SET u4 12 7").1, 1);
        assert_eq!(bench.run_and_count("BITFIELD k OVERFLOW FAIL SET u8 808 256").1, 1);
        assert_eq!(bench.run("STRLEN k"), "102");
    }

    #[test]
    fn offsets_and_types_are_checked() {
        let bench = Bench::new();
        let offset = "ERR bit offset is not an integer or out of range";
        for bad in ["-1", "#-1", "#9223372036854775807", "4294967296", "#536870912", "#"] {
            assert_eq!(bench.run(&format!("BITFIELD k SET u8 {bad} 1")), offset, "{bad}");
        }
        for good in
            ["GET u2 4294967295", "GET u8 4294967289", "GET i64 4294967295", "GET u8 #536870911"]
        {
            assert_eq!(bench.run(&format!("BITFIELD k {good}")), "1) 0", "{good}");
        }
        for bad in ["u64", "i65", "u0", "8", "U8", "u-1", "u08"] {
            let answer = bench.run(&format!("BITFIELD k GET {bad} 0"));
            assert!(answer.starts_with("ERR Invalid bitfield type."), "{bad}: {answer}");
        }
        assert_eq!(bench.run("BITFIELD k SET u64 0"), "ERR syntax error");
        assert_eq!(
            bench.run("BITFIELD_RO k GET u8 0 SET u8 0 1"),
            "ERR BITFIELD_RO only supports the GET subcommand"
        );
    }
}
