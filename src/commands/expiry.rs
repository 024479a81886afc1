//! Expiry options. Deadlines are absolute: a number of seconds from now becomes a deadline when it is parsed.

use crate::clock::UnixMillis;
use crate::error::{Failure, NOT_AN_INTEGER};
use crate::protocol::integer;

/// The unit of the number in an expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Milliseconds in one of it.
    pub millis: i64,
    /// Counted from 1970, not from now.
    pub absolute: bool,
}

impl Unit {
    /// `EX`, EXPIRE.
    pub const SECONDS: Unit = Unit { millis: 1000, absolute: false };
    /// `PX`, PEXPIRE.
    pub const MILLIS: Unit = Unit { millis: 1, absolute: false };
    /// `EXAT`, EXPIREAT.
    pub const UNIX_SECONDS: Unit = Unit { millis: 1000, absolute: true };
    /// `PXAT`, PEXPIREAT.
    pub const UNIX_MILLIS: Unit = Unit { millis: 1, absolute: true };

    /// The deadline for `value` in Unix milliseconds. None if it does not fit in 64 bits.
    pub fn resolve(self, value: i64, now: UnixMillis) -> Option<i64> {
        let start = if self.absolute { 0 } else { now.0 as i64 };
        value.checked_mul(self.millis)?.checked_add(start)
    }
}

/// The expiry options that SET and GETEX share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry<'a> {
    /// `KEEPTTL` (SET) or `PERSIST` (GETEX).
    Keep,
    /// A time: the number as given, and its unit.
    At(&'a [u8], Unit),
}

impl<'a> Expiry<'a> {
    /// Parses an option that begins with `word`; `keep` is the word for [`Expiry::Keep`]. None for any other
    /// option, and if the number is missing.
    pub fn parse(
        word: &[u8],
        rest: &mut impl Iterator<Item = &'a [u8]>,
        keep: &str,
    ) -> Option<Expiry<'a>> {
        let unit = match word.to_ascii_uppercase().as_slice() {
            b"EX" => Unit::SECONDS,
            b"PX" => Unit::MILLIS,
            b"EXAT" => Unit::UNIX_SECONDS,
            b"PXAT" => Unit::UNIX_MILLIS,
            other => return (other == keep.as_bytes()).then_some(Expiry::Keep),
        };
        Some(Expiry::At(rest.next()?, unit))
    }

    /// As Redis: a repeated option is taken once more, two different ones contradict each other.
    pub fn may_be_followed_by(self, next: Expiry<'_>) -> bool {
        match (self, next) {
            (Expiry::Keep, Expiry::Keep) => true,
            (Expiry::At(_, one), Expiry::At(_, other)) => one == other,
            _ => false,
        }
    }

    /// The deadline; `command` is named in the error for one that is not in the future of 1970.
    ///
    /// # Panics
    /// For [`Expiry::Keep`], which has none.
    pub fn deadline(self, now: UnixMillis, command: &str) -> Result<UnixMillis, Failure> {
        let Expiry::At(number, unit) = self else {
            panic!("the caller handles KEEPTTL and PERSIST")
        };
        let value = integer(number).ok_or(NOT_AN_INTEGER)?;
        let invalid = || Failure::invalid_expire(command);
        if value <= 0 {
            return Err(invalid());
        }
        unit.resolve(value, now).map(|at| UnixMillis(at as u64)).ok_or_else(invalid)
    }
}
