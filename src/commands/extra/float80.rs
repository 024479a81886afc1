//! INCRBYFLOAT, and its floating-point numbers of 80 bits: C's `long double` on x86, with which Redis adds.
//!
//! Clients see how INCRBYFLOAT rounds: it prints 17 digits after the point, which for numbers over 100
//! is more than 64 bits of mantissa hold (`1234.56` and `0.01` make `1234.57000000000000006`). To give
//! the same digits we compute with the same mantissa. Rust has no such type, so this file has what
//! INCRBYFLOAT needs: read a number, add two, print one, each rounded to nearest, ties to even.
//!
//! A number is `mantissa * 2^exponent`. Adding needs 128 bits. Reading and printing may need more, and use
//! [`Big`].
//!
//! Work is bounded: a text is at most [`LEN_MAX`] bytes long, and exponents out of range are refused
//! before anything is computed. The slowest number takes a few milliseconds.

use super::big::Big;
use crate::commands::spec::row;
use crate::commands::{Call, Family, Flags, Handler, Keys, Row};
use crate::error::{Failure, NOT_A_FLOAT};
use crate::protocol::Args;
use crate::store::effect::Effect;
use std::fmt;

/// The row of INCRBYFLOAT.
#[rustfmt::skip]
pub const COMMANDS: &[Row<Handler>] = &[
    row(Family::String, "incrbyfloat", 3, Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST), Keys::ONE, incrbyfloat)
        .help("key increment", "Adds to a number with decimals.", "INCRBYFLOAT price 10.5 -> 10.5"),
];

fn incrbyfloat(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    const NOT_FINITE: Failure = Failure::fixed("ERR increment would produce NaN or Infinity");
    let key = &args[1];
    let live = call.tx.peek(key);
    let old = Float80::parse(live.map_or(b"0", |live| live.value)).ok_or(NOT_A_FLOAT)?;
    let increment = Float80::parse(&args[2]).ok_or(NOT_A_FLOAT)?;
    let sum = old.checked_add(increment).ok_or(NOT_FINITE)?.to_string();
    let deadline = live.and_then(|live| live.deadline);
    call.tx.apply(Effect::Set { key, value: sum.as_bytes(), deadline });
    call.tx.emit("incrbyfloat", key);
    call.reply.bulk(sum.as_bytes());
    Ok(())
}

/// Redis rejects longer texts.
const LEN_MAX: usize = 5 * 1024 - 1;
/// The exponent of the least significant bit of subnormal numbers.
const EXPONENT_MIN: i32 = -16_445;
/// All numbers are below two to this power.
const BITS_MAX: i32 = 16_384;
const FRACTION_DIGITS: usize = 17;

/// A number, or infinity.
#[derive(Clone, Copy, Debug)]
pub struct Float80 {
    negative: bool,
    mantissa: u64,
    /// [`i32::MAX`] for infinity.
    exponent: i32,
}

impl Float80 {
    /// Parses a whole text as C's `strtold` does: decimal or hexadecimal, with or without a point and an
    /// exponent, or infinity. None for any other text, for NaN, and for a number that is out of range.
    pub fn parse(text: &[u8]) -> Option<Float80> {
        if text.len() > LEN_MAX {
            return None;
        }
        let (negative, text) = split_sign(text);
        if text.eq_ignore_ascii_case(b"inf") || text.eq_ignore_ascii_case(b"infinity") {
            return Some(Float80 { negative, mantissa: 0, exponent: i32::MAX });
        }
        let (base, text) = match text {
            [b'0', b'x' | b'X', rest @ ..] => (16, rest),
            _ => (10, text),
        };
        let marker = if base == 16 { b'p' } else { b'e' };
        let (digits, exponent) = match text.iter().position(|b| b.to_ascii_lowercase() == marker) {
            Some(at) => (&text[..at], parse_exponent(&text[at + 1..])?),
            None => (text, 0),
        };
        let (digits, fraction_len) = parse_digits(digits, base)?;
        if digits.is_zero() {
            return Some(Float80 { negative, mantissa: 0, exponent: 0 });
        }
        let (digits, exponent) = match base {
            16 => (digits, exponent - 4 * fraction_len),
            _ => digits.decimal(exponent - fraction_len)?,
        };
        let (wide, below) = digits.top();
        let number = round(negative, wide, exponent + below);
        (number.is_finite() && number.mantissa != 0).then_some(number)
    }

    /// False for infinity.
    fn is_finite(self) -> bool {
        self.exponent != i32::MAX
    }

    /// The sum. None if it or one of the numbers is infinite.
    pub fn checked_add(self, other: Float80) -> Option<Float80> {
        if !self.is_finite() || !other.is_finite() {
            return None;
        }
        let (a, b) = (self.normal(), other.normal());
        let (large, small) = if a.exponent >= b.exponent { (a, b) } else { (b, a) };
        if small.mantissa == 0 || large.mantissa == 0 {
            return Some(if small.mantissa == 0 { large } else { small });
        }
        // One bit above for the carry, 63 below for the bits of the smaller number.
        const BELOW: u32 = 63;
        let wide = u128::from(large.mantissa) << BELOW;
        let other = u128::from(small.mantissa) << BELOW;
        // Bits that are shifted out set the last bit, so the sum falls on the right side of a tie.
        let shift = large.exponent.abs_diff(small.exponent);
        let kept = other.checked_shr(shift).unwrap_or(0);
        let lost = kept.checked_shl(shift) != Some(other);
        let addend = kept | u128::from(lost);
        let (negative, sum) = if large.negative == small.negative {
            (large.negative, wide + addend)
        } else {
            (large.negative == (wide >= addend), wide.abs_diff(addend))
        };
        let sum = round(negative, sum, large.exponent - BELOW as i32);
        sum.is_finite().then_some(sum)
    }

    /// Shifts the mantissa until its top bit is set. Zero gets the lowest exponent.
    fn normal(self) -> Float80 {
        let shift = self.mantissa.leading_zeros();
        match shift {
            64 => Float80 { exponent: i32::MIN, ..self },
            _ => Float80 {
                mantissa: self.mantissa << shift,
                exponent: self.exponent - shift as i32,
                ..self
            },
        }
    }
}

/// Prints as `%.17Lf` does, without trailing zeros. Not for infinity.
impl fmt::Display for Float80 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.exponent >= 0 {
            let mut whole = Big::new(self.mantissa);
            whole.multiply_add(1 << (self.exponent % 32), 0);
            whole.shift_limbs(self.exponent as usize / 32);
            whole.into_decimal()
        } else {
            let one = 10u128.pow(FRACTION_DIGITS as u32);
            let scaled = shift_right(u128::from(self.mantissa) * one, self.exponent.unsigned_abs());
            let digits = format!("{}.{:0FRACTION_DIGITS$}", scaled / one, scaled % one);
            digits.trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        let sign = if self.negative && digits != "0" { "-" } else { "" };
        write!(f, "{sign}{digits}")
    }
}

/// The number nearest to `wide * 2^exponent`. If bits were dropped before, the last bit of `wide` is set in
/// their place; it must lie below its 64 most significant bits.
fn round(negative: bool, wide: u128, exponent: i32) -> Float80 {
    if wide == 0 {
        return Float80 { negative, mantissa: 0, exponent: 0 };
    }
    let len = (128 - wide.leading_zeros()) as i32;
    let excess = (len - 64).max(EXPONENT_MIN - exponent).max(0);
    let mut mantissa = shift_right(wide, excess.unsigned_abs());
    let mut exponent = exponent + excess;
    if mantissa >> 64 != 0 {
        mantissa >>= 1;
        exponent += 1;
    }
    let mantissa = mantissa as u64;
    let too_large = (64 - mantissa.leading_zeros()) as i32 + exponent > BITS_MAX;
    Float80 { negative, mantissa, exponent: if too_large { i32::MAX } else { exponent } }
}

/// Divides by 2^`by`, rounded to nearest, ties to even.
fn shift_right(wide: u128, by: u32) -> u128 {
    if by == 0 {
        return wide;
    }
    let half = 1u128.checked_shl(by - 1).unwrap_or(0);
    let kept = wide.checked_shr(by).unwrap_or(0);
    let up = wide & half != 0 && (wide & (half - 1) != 0 || kept & 1 != 0);
    kept + u128::from(up)
}

fn split_sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}

/// Parses an exponent, limited to ±1,000,000, which is far out of range.
fn parse_exponent(text: &[u8]) -> Option<i32> {
    const FAR: i32 = 1_000_000;
    let (negative, digits) = split_sign(text);
    let valid = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let exponent = digits.iter().fold(0, |sum, digit| (sum * 10 + i32::from(digit & 0xf)).min(FAR));
    valid.then_some(if negative { -exponent } else { exponent })
}

/// Parses digits as one whole number. Also returns the number of digits after the point.
fn parse_digits(text: &[u8], base: u32) -> Option<(Big, i32)> {
    let mut number = Big::new(0);
    let (mut count, mut point) = (0, None);
    for &byte in text {
        if byte == b'.' && point.is_none() {
            point = Some(count);
        } else {
            number.multiply_add(base, char::from(byte).to_digit(base)?);
            count += 1;
        }
    }
    (count > 0).then(|| (number, count - point.unwrap_or(count)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> String {
        let [a, b] = [a, b].map(|text| Float80::parse(text.as_bytes()).expect("a number"));
        a.checked_add(b).expect("a number").to_string()
    }

    /// All of these were computed by Redis 7.0.15 on x86-64.
    #[test]
    fn sums_have_the_digits_of_a_long_double() {
        for (a, b, expected) in [
            ("10.5", "0.1", "10.6"),
            ("1234.56", "0.01", "1234.57000000000000006"),
            ("3.0e3", "200", "3200"),
            ("0.1", "0.2", "0.3"),
            ("-0", "-1e-20", "0"),
            ("1.5e-17", "0", "0.00000000000000002"),
            ("2.5e-17", "0", "0.00000000000000002"),
            ("1e21", "-0.001", "1000000000000000000000"),
            ("1e30", "1", "1000000000000000000024696061952"),
            ("1e4000", "-1e4000", "0"),
            // Ties go to the even neighbour.
            ("18446744073709551617", "0", "18446744073709551616"),
            ("36893488147419103235", "0", "36893488147419103236"),
        ] {
            assert_eq!(sum(a, b), expected, "{a} + {b}");
        }
    }

    #[test]
    fn numbers_and_sums_out_of_range_are_refused() {
        let largest = Float80::parse(b"0x1.fffffffffffffffep16383").expect("the largest number");
        assert!(Float80::parse(b"0x1.ffffffffffffffffp16383").is_none());
        assert!(largest.checked_add(largest).is_none());
        assert!(Float80::parse(b"0x1p-16445").is_some(), "the smallest number");
        assert!(Float80::parse(b"0x1p-16446").is_none());
    }

    #[test]
    fn reads_what_strtold_reads() {
        for (text, value) in [("5.", "5"), (".5", "0.5"), ("+1e2", "100"), ("0x1.8p1", "3")] {
            assert_eq!(sum(text, "0"), value);
        }
        let bad =
            ["", ".", "-", " 1", "1 ", "1e", "1e+", "0x", "0x.p1", "1.2.3", "nan", "1_0", "1e4933"];
        for text in bad.into_iter().chain(["1e-4952", "1e99999999999", "1\0"]) {
            assert!(Float80::parse(text.as_bytes()).is_none(), "{text:?}");
        }
        assert!(Float80::parse(&[b'1'; LEN_MAX]).is_none(), "too large");
        assert!(Float80::parse(&[b'0'; LEN_MAX]).is_some());
        assert!(Float80::parse(&[b'0'; LEN_MAX + 1]).is_none(), "too long");
    }
}
