//! EXPIRE, TTL and related commands: they set and read the deadline of a key.
//!
//! A key exists up to its deadline. A deadline that is not in the future deletes the key at once, so that the
//! log shows the deletion.

use super::expiry::Unit;
use super::spec::row;
use super::{Call, Family, Flags, Handler, Keys, Row};
use crate::clock::UnixMillis;
use crate::error::{Failure, NOT_AN_INTEGER};
use crate::protocol::{Args, integer};
use crate::store::effect::Effect;

const WRITE: Flags = Flags::WRITE.and(Flags::FAST);
const READ: Flags = Flags::READONLY.and(Flags::FAST);

/// The family's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Row<Handler>] = &[
    row(Family::Generic, "expire", -3, WRITE, Keys::ONE, |call, args| expire(call, args, Unit::SECONDS))
        .on_keys(&["RW update"])
        .help("key seconds [NX | XX | GT | LT]", "Sets the expiry of a key in seconds; returns 1 if it was set.",
            "SET session x; EXPIRE session 60 -> 1"),
    row(Family::Generic, "pexpire", -3, WRITE, Keys::ONE, |call, args| expire(call, args, Unit::MILLIS))
        .on_keys(&["RW update"])
        .help("key milliseconds [NX | XX | GT | LT]", "The same as EXPIRE, in milliseconds.",
            "SET session x; PEXPIRE session 1500 -> 1"),
    row(Family::Generic, "expireat", -3, WRITE, Keys::ONE, |call, args| expire(call, args, Unit::UNIX_SECONDS))
        .on_keys(&["RW update"])
        .help("key unix-seconds [NX | XX | GT | LT]",
            "Sets the expiry of a key to a Unix time in seconds; returns 1 if it was set.",
            "SET session x; EXPIREAT session 4102444800 -> 1"),
    row(Family::Generic, "pexpireat", -3, WRITE, Keys::ONE, |call, args| expire(call, args, Unit::UNIX_MILLIS))
        .on_keys(&["RW update"])
        .help("key unix-milliseconds [NX | XX | GT | LT]", "The same as EXPIREAT, in milliseconds.",
            "SET session x; PEXPIREAT session 4102444800000 -> 1"),
    row(Family::Generic, "ttl", 2, READ, Keys::ONE, |call, args| ttl(call, args, Unit::SECONDS))
        .help("key", "Returns the seconds until a key expires; -1 without an expiry, -2 without the key.",
            "SET session x EX 60; TTL session -> (60, and less each second)"),
    row(Family::Generic, "pttl", 2, READ, Keys::ONE, |call, args| ttl(call, args, Unit::MILLIS))
        .help("key", "The same as TTL, in milliseconds.", "SET session x EX 60; PTTL session -> (60000 at most)"),
    row(Family::Generic, "expiretime", 2, READ, Keys::ONE, |call, args| ttl(call, args, Unit::UNIX_SECONDS))
        .help("key", "Returns the Unix time in seconds at which a key expires; -1 and -2 as TTL.",
            "SET session x EXAT 4102444800; EXPIRETIME session -> 4102444800"),
    row(Family::Generic, "pexpiretime", 2, READ, Keys::ONE, |call, args| ttl(call, args, Unit::UNIX_MILLIS))
        .help("key", "The same as EXPIRETIME, in milliseconds.",
            "SET session x PXAT 4102444800123; PEXPIRETIME session -> 4102444800123"),
    row(Family::Generic, "persist", 2, WRITE, Keys::ONE, persist).on_keys(&["RW update"])
        .help("key", "Removes the expiry of a key; returns 1 if it had one.",
            "SET session x EX 60; PERSIST session -> 1"),
];

/// The condition on the current deadline under which EXPIRE changes it.
#[derive(Debug, Default)]
struct Condition {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Condition {
    fn parse<'a>(words: impl Iterator<Item = &'a [u8]>) -> Result<Condition, Failure> {
        let mut condition = Condition::default();
        for word in words {
            match word.to_ascii_uppercase().as_slice() {
                b"NX" => condition.nx = true,
                b"XX" => condition.xx = true,
                b"GT" => condition.gt = true,
                b"LT" => condition.lt = true,
                _ => return Err(Failure::quoting("ERR Unsupported option ", word, "")),
            }
        }
        match condition {
            Condition { nx: true, xx, gt, lt } if xx || gt || lt => Err(NX_AND_OTHERS),
            Condition { gt: true, lt: true, .. } => Err(GT_AND_LT),
            _ => Ok(condition),
        }
    }

    /// True if the deadline may change. No deadline counts as later than any.
    fn allows(&self, old: Option<UnixMillis>, new: i64) -> bool {
        let old = old.map(|UnixMillis(ms)| ms as i64);
        !(self.nx && old.is_some()
            || self.xx && old.is_none()
            || self.gt && old.is_none_or(|old| new <= old)
            || self.lt && old.is_some_and(|old| new >= old))
    }
}

const NX_AND_OTHERS: Failure =
    Failure::fixed("ERR NX and XX, GT or LT options at the same time are not compatible");
const GT_AND_LT: Failure =
    Failure::fixed("ERR GT and LT options at the same time are not compatible");

fn expire(call: &mut Call<'_, '_>, args: Args<'_>, unit: Unit) -> Result<(), Failure> {
    let (key, now) = (&args[1], call.tx.now());
    let condition = Condition::parse(args.from(3))?;
    let value = integer(&args[2]).ok_or(NOT_AN_INTEGER)?;
    let at = unit.resolve(value, now).ok_or_else(|| Failure::invalid_expire(call.name))?;
    let changes = call.tx.peek(key).is_some_and(|live| condition.allows(live.deadline, at));
    if changes {
        if at > now.0 as i64 {
            call.tx.apply(Effect::PexpireAt { key, deadline: UnixMillis(at as u64) });
            call.tx.emit("expire", key);
        } else {
            call.tx.apply(Effect::Del { keys: &[key] });
            call.tx.emit("del", key);
        }
    }
    call.reply.flag(changes);
    Ok(())
}

fn ttl(call: &mut Call<'_, '_>, args: Args<'_>, unit: Unit) -> Result<(), Failure> {
    const ABSENT: i64 = -2;
    const DOES_NOT_EXPIRE: i64 = -1;
    let answer = match call.tx.peek(&args[1]).map(|live| live.deadline) {
        None => ABSENT,
        Some(None) => DOES_NOT_EXPIRE,
        Some(Some(at)) => {
            // As in Redis, rounded to the nearest: directly after EXPIRE key 10 it is 10.
            let millis = if unit.absolute { at.0 } else { at.since(call.tx.now()) };
            let unit_millis = unit.millis as u64;
            (millis.saturating_add(unit_millis / 2) / unit_millis) as i64
        }
    };
    call.reply.int(answer);
    Ok(())
}

fn persist(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    let key = &args[1];
    let changes = call.tx.peek(key).is_some_and(|live| live.deadline.is_some());
    if changes {
        call.tx.apply(Effect::Persist { key });
        call.tx.emit("persist", key);
    }
    call.reply.flag(changes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::keys::tests::run;
    use crate::store::Store;

    const NOW: u64 = 1_700_000_000_000;

    /// The replies of EXPIRE with these arguments for a key that expires in 100 s, and for one that does
    /// not expire.
    fn on_both(arguments: &str) -> [String; 2] {
        ["SET k v EX 100", "SET k v"].map(|set| {
            let store = Store::new();
            run(&store, NOW, set);
            run(&store, NOW, &format!("EXPIRE k {arguments}"))
        })
    }

    #[test]
    fn conditions() {
        assert_eq!(on_both("50 NX"), ["0", "1"]);
        assert_eq!(on_both("50 XX"), ["1", "0"]);
        assert_eq!(on_both("50 GT"), ["0", "0"]);
        assert_eq!(on_both("100 gt"), ["0", "0"]);
        assert_eq!(on_both("101 GT XX"), ["1", "0"]);
        assert_eq!(on_both("100 LT"), ["0", "1"]);
        assert_eq!(on_both("99 lt lt"), ["1", "1"]);
        assert_eq!(on_both("-1 GT"), ["0", "0"]);
        assert_eq!(on_both("1 NX GT")[0], super::NX_AND_OTHERS.text());
        assert_eq!(on_both("1 GT LT NX")[0], super::NX_AND_OTHERS.text());
        assert_eq!(on_both("1 GT LT")[0], super::GT_AND_LT.text());
        assert_eq!(on_both("x NX XX oops")[0], "ERR Unsupported option oops", "options come first");
    }

    #[test]
    fn times_out_of_range_change_nothing() {
        let store = Store::new();
        run(&store, NOW, "SET k v");
        for call in [
            "EXPIRE k 9223372036854775807",
            "EXPIRE k 9223372036854775",
            "EXPIRE k -9223372036854775808",
            "EXPIRE absent 9223372036854775807",
            "PEXPIRE k 9223372036854775807",
            "EXPIREAT k 9223372036854775807",
            "EXPIREAT k -9223372036854775808",
        ] {
            let name = call.split(' ').next().unwrap_or_default().to_lowercase();
            let expected = format!("ERR invalid expire time in '{name}' command");
            assert_eq!(run(&store, NOW, call), expected, "{call}");
        }
        assert_eq!(run(&store, NOW, "TTL k"), "-1");
        assert_eq!(run(&store, NOW, "PEXPIREAT k 9223372036854775807"), "1");
        assert_eq!(run(&store, NOW, "PEXPIRETIME k"), i64::MAX.to_string());
    }

    #[test]
    fn a_deadline_in_the_past_removes() {
        for call in [
            "EXPIRE k 0",
            "EXPIRE k -9223372036854775",
            "PEXPIRE k -9223372036854775808",
            "PEXPIREAT k 1700000000000",
            "EXPIREAT k -5 NX",
        ] {
            let store = Store::new();
            run(&store, NOW, "SET k v");
            assert_eq!(run(&store, NOW, call), "1", "{call}");
            assert_eq!(run(&store, NOW, "DBSIZE"), "0", "{call}");
        }
    }

    #[test]
    fn a_key_is_there_at_its_deadline_and_gone_after_it() {
        let store = Store::new();
        run(&store, NOW, "SET k v");
        assert_eq!(run(&store, NOW, "PEXPIRE k 1500"), "1");
        assert_eq!(run(&store, NOW, "TTL k"), "2", "to the nearest second");
        assert_eq!(run(&store, NOW + 1500, "PTTL k"), "0");
        assert_eq!(run(&store, NOW + 1501, "PTTL k"), "-2");
        assert_eq!(run(&store, NOW + 1501, "PERSIST k"), "0");
    }
}
