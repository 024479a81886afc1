//! Arithmetic (INCR and its relatives) on values that hold a whole number. INCRBYFLOAT is in `extra/float80`.
//!
//! The log gets the sum, not the addition, so replaying a record twice does no harm.

use super::spec::row;
use super::{Call, Family, Flags, Handler, Keys, Row};
use crate::error::{Failure, NOT_AN_INTEGER, OVERFLOW};
use crate::protocol::{Args, integer};
use crate::store::effect::Effect;

const WRITE: Flags = Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST);

/// The string family's rows for arithmetic.
#[rustfmt::skip]
pub const COMMANDS: &[Row<Handler>] = &[
    row(Family::String, "incr", 2, WRITE, Keys::ONE, |call, args| add(call, &args[1], 1))
        .help("key", "Adds one to a number; a missing key counts as 0.", "INCR visits -> 1"),
    row(Family::String, "decr", 2, WRITE, Keys::ONE, |call, args| add(call, &args[1], -1))
        .help("key", "Subtracts one from a number.", "SET stock 10; DECR stock -> 9"),
    row(Family::String, "incrby", 3, WRITE, Keys::ONE, incrby)
        .help("key increment", "Adds to a number.", "INCR visits; INCRBY visits 10 -> 11"),
    row(Family::String, "decrby", 3, WRITE, Keys::ONE, decrby)
        .help("key decrement", "Subtracts from a number.", "SET stock 10; DECRBY stock 4 -> 6"),
];

fn incrby(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    add(call, &args[1], integer(&args[2]).ok_or(NOT_AN_INTEGER)?)
}

fn decrby(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    const NEGATED: Failure = Failure::fixed("ERR decrement would overflow");
    let decrement = integer(&args[2]).ok_or(NOT_AN_INTEGER)?;
    add(call, &args[1], decrement.checked_neg().ok_or(NEGATED)?)
}

fn add(call: &mut Call<'_, '_>, key: &[u8], increment: i64) -> Result<(), Failure> {
    let live = call.tx.peek(key);
    let old = live.map_or(Some(0), |live| integer(live.value)).ok_or(NOT_AN_INTEGER)?;
    let sum = old.checked_add(increment).ok_or(OVERFLOW)?;
    let deadline = live.and_then(|live| live.deadline);
    call.tx.apply(Effect::Set { key, value: sum.to_string().as_bytes(), deadline });
    call.tx.emit("incrby", key);
    call.reply.int(sum);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Bench;

    #[test]
    fn a_failed_addition_changes_nothing() {
        let bench = Bench::new();
        bench.run("SET n 9223372036854775807");
        assert_eq!(bench.run("INCR n"), "ERR increment or decrement would overflow");
        let expected = "ERR decrement would overflow";
        assert_eq!(bench.run("DECRBY n -9223372036854775808"), expected);
        assert_eq!(bench.run("DECRBY n 9223372036854775807"), "0");
        bench.run("SET n 01");
        assert_eq!(bench.run("INCR n"), "ERR value is not an integer or out of range");
    }

    #[test]
    fn the_deadline_stays() {
        let mut bench = Bench::new();
        bench.run("PSETEX n 10 5");
        assert_eq!(bench.run("INCR n"), "6");
        assert_eq!(bench.run("INCRBYFLOAT n 0.5"), "6.5");
        bench.now_ms += 11;
        assert_eq!(bench.run("INCR n"), "1");
        bench.now_ms += 11;
        assert_eq!(bench.run("INCR n"), "2");
    }

    #[test]
    fn infinity_is_a_float_that_cannot_be_added() {
        let bench = Bench::new();
        let not_finite = "ERR increment would produce NaN or Infinity";
        assert_eq!(bench.run("INCRBYFLOAT n -inf"), not_finite);
        assert_eq!(bench.run("INCRBYFLOAT n nan"), "ERR value is not a valid float");
        bench.run("SET n 1e4932");
        assert_eq!(bench.run("INCRBYFLOAT n 1e4932"), not_finite);
    }
}
