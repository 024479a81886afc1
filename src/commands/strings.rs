//! Strings: values that are read and written whole.

use super::expiry::{Expiry, Unit};
use super::spec::row;
use super::{Call, Family, Flags, Handler, Keys, Row};
use crate::error::{Failure, SYNTAX};
use crate::protocol::{Args, integer};
use crate::store::effect::Effect;

const WRITE: Flags = Flags::WRITE.and(Flags::DENYOOM);
const READ: Flags = Flags::READONLY.and(Flags::FAST);
/// Writes that need no more memory.
const FAST: Flags = Flags::WRITE.and(Flags::FAST);

/// The family's rows that take or give whole values.
#[rustfmt::skip]
pub const COMMANDS: &[Row<Handler>] = &[
    row(Family::String, "get", 2, READ, Keys::ONE, get)
        .help("key", "Returns the value of a key.", "SET name Ada; GET name -> Ada"),
    row(Family::String, "set", -3, WRITE, Keys::ONE, set).on_keys(&["RW access update variable_flags"]).rest(2)
        .help(
            "key value [NX | XX | IFEQ comparison | IFNE comparison] [GET] [EX seconds | PX milliseconds | \
             EXAT unix-seconds | PXAT unix-milliseconds | KEEPTTL]",
            "Sets a key to a value, which may be several words.", "SET greeting hello big world EX 60 -> OK"),
    row(Family::String, "setnx", 3, WRITE.and(FAST), Keys::ONE, setnx).on_keys(&["OW insert"]).rest(2)
        .help("key value", "Sets a key if it does not exist; returns 1 if it was set.", "SETNX lock me -> 1"),
    row(Family::String, "setex", 4, WRITE, Keys::ONE, setex).on_keys(&["OW update"]).rest(3)
        .help("key seconds value", "Sets a key with an expiry in seconds.", "SETEX code 60 1234 -> OK"),
    row(Family::String, "psetex", 4, WRITE, Keys::ONE, setex).on_keys(&["OW update"]).rest(3)
        .help("key milliseconds value", "Sets a key with an expiry in milliseconds.",
            "PSETEX code 60000 1234 -> OK"),
    row(Family::String, "getset", 3, WRITE.and(FAST), Keys::ONE, getset).rest(2)
        .help("key value", "Sets a key and returns its old value.",
            "SET name Ada; GETSET name Grace -> Ada"),
    row(Family::String, "getdel", 2, FAST, Keys::ONE, getdel).on_keys(&["RW access delete"])
        .help("key", "Deletes a key and returns its value.", "SET name Ada; GETDEL name -> Ada"),
    row(Family::String, "delex", -2, FAST, Keys::ONE, delex).on_keys(&["RM delete"]).rest(3)
        .help("key [IFEQ value | IFNE value]",
            "Deletes a key if its value meets a condition; returns 1 if it was deleted.",
            "SET lock me; DELEX lock IFEQ me -> 1"),
    row(Family::String, "delifeq", 3, FAST, Keys::ONE, delifeq).on_keys(&["RM delete"]).rest(2)
        .help("key value", "Deletes a key if it holds this value; returns 1 if it was deleted.",
            "SET lock me; DELIFEQ lock me -> 1"),
    row(Family::String, "getex", -2, FAST, Keys::ONE, getex)
        .help("key [EX seconds | PX milliseconds | EXAT unix-seconds | PXAT unix-milliseconds | PERSIST]",
            "Returns the value of a key and sets or removes its expiry.", "SET name Ada; GETEX name EX 60 -> Ada"),
    row(Family::String, "mget", -2, READ, Keys::ALL, mget)
        .help("key [key ...]", "Returns the values of several keys.",
            "SET name Ada; MGET name nobody -> 1) Ada\n2) (nil)"),
    row(Family::String, "mset", -3, WRITE, Keys::PAIRS, mset).on_keys(&["OW update"])
        .help("key value [key value ...]",
            "Sets several keys atomically. Quote a value of several words.",
            "MSET name Ada city London -> OK"),
    row(Family::String, "msetnx", -3, WRITE, Keys::PAIRS, msetnx).on_keys(&["OW insert"])
        .help("key value [key value ...]",
            "Sets several keys if none of them exists; returns 1 if they were set.",
            "MSETNX name Ada city London -> 1"),
];

fn get(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    call.reply.bulk_or_nil(call.tx.value(&args[1]));
    Ok(())
}

/// The condition of a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Condition<'a> {
    #[default]
    Always,
    Absent,
    Present,
    /// The key holds exactly this value.
    Equals(&'a [u8]),
    /// The key holds another value, or does not exist.
    Differs(&'a [u8]),
}

impl<'a> Condition<'a> {
    /// Reads the condition that begins with `word`. None if the word begins something else.
    fn parse(
        word: &[u8],
        rest: &mut impl Iterator<Item = &'a [u8]>,
    ) -> Result<Option<Condition<'a>>, Failure> {
        Ok(Some(match word.to_ascii_uppercase().as_slice() {
            b"NX" => Condition::Absent,
            b"XX" => Condition::Present,
            b"IFEQ" => Condition::Equals(rest.next().ok_or(SYNTAX)?),
            b"IFNE" => Condition::Differs(rest.next().ok_or(SYNTAX)?),
            _ => return Ok(None),
        }))
    }

    /// True if it holds for the value of a key; None is a key that does not exist.
    fn holds(self, value: Option<&[u8]>) -> bool {
        match self {
            Condition::Always => true,
            Condition::Absent => value.is_none(),
            Condition::Present => value.is_some(),
            Condition::Equals(expected) => value == Some(expected),
            Condition::Differs(unwanted) => value != Some(unwanted),
        }
    }
}

#[derive(Debug, Default)]
struct SetOptions<'a> {
    condition: Condition<'a>,
    expiry: Option<Expiry<'a>>,
    /// Reply with the old value.
    get: bool,
}

impl<'a> SetOptions<'a> {
    fn parse(mut words: impl Iterator<Item = &'a [u8]>) -> Result<SetOptions<'a>, Failure> {
        let mut options = SetOptions::default();
        while let Some(word) = words.next() {
            if let Some(condition) = Condition::parse(word, &mut words)? {
                if options.condition != Condition::Always && options.condition != condition {
                    return Err(SYNTAX);
                }
                options.condition = condition;
            } else if word.eq_ignore_ascii_case(b"GET") {
                options.get = true;
            } else {
                take_expiry(&mut options.expiry, word, &mut words, "KEEPTTL")?;
            }
        }
        Ok(options)
    }
}

/// Parses the expiry option that begins with `word`; `before` is the previous one, if any.
fn take_expiry<'a>(
    before: &mut Option<Expiry<'a>>,
    word: &[u8],
    rest: &mut impl Iterator<Item = &'a [u8]>,
    keep: &str,
) -> Result<(), Failure> {
    let expiry = Expiry::parse(word, rest, keep).ok_or(SYNTAX)?;
    if before.is_some_and(|before| !before.may_be_followed_by(expiry)) {
        return Err(SYNTAX);
    }
    *before = Some(expiry);
    Ok(())
}

/// How many of the last words of a line are options of SET. An error if only a mistyped number keeps them from
/// being options: stored as part of the value, they would silently lose the expiry.
pub fn options_at_end(words: &[&[u8]]) -> Result<usize, Failure> {
    /// No sensible call has more. It bounds the work for a line of a thousand `GET`.
    const OPTION_WORDS_MAX: usize = 8;
    for len in (1..=words.len().min(OPTION_WORDS_MAX)).rev() {
        let tail = &words[words.len() - len..];
        if SetOptions::parse(tail.iter().copied()).is_err() {
            continue;
        }
        match bad_number(tail) {
            None => return Ok(len),
            Some((option, number)) if looks_like_a_number(number) => {
                return Err(mistyped(option, number));
            }
            Some(_) => {}
        }
    }
    Ok(0)
}

/// The first option with an invalid number, and that number.
fn bad_number<'a>(options: &[&'a [u8]]) -> Option<(&'a [u8], &'a [u8])> {
    let mut words = options.iter().copied();
    while let Some(word) = words.next() {
        if matches!(Condition::parse(word, &mut words), Ok(Some(_))) {
            continue;
        }
        if let Some(Expiry::At(number, _)) = Expiry::parse(word, &mut words, "KEEPTTL")
            && integer(number).is_none()
        {
            return Some((word, number));
        }
    }
    None
}

fn looks_like_a_number(word: &[u8]) -> bool {
    matches!(word.first(), Some(b'0'..=b'9' | b'+' | b'-' | b'.'))
}

fn mistyped(option: &[u8], number: &[u8]) -> Failure {
    let option = String::from_utf8_lossy(option).to_uppercase();
    let shown = String::from_utf8_lossy(&number[..number.len().min(32)]);
    Failure::new(format!(
        "ERR {shown} is not a valid number for {option}; to store these words literally, quote the value: \
         SET key \"hello {option} {shown}\""
    ))
}

fn set(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    if args.len() > 3 {
        return set_with_options(call, args);
    }
    set_and_tell(call, &args[1], &args[2]);
    call.reply.ok();
    Ok(())
}

/// Not inlined, so that a plain SET needs less of the stack (`Engine::lock_admitted`).
#[inline(never)]
fn set_with_options(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    let (key, value) = (&args[1], &args[2]);
    let options = SetOptions::parse(args.from(3))?;
    let old = if options.get
        || options.condition != Condition::Always
        || options.expiry == Some(Expiry::Keep)
    {
        call.tx.peek(key)
    } else {
        None
    };
    let deadline = match options.expiry {
        None => None,
        Some(Expiry::Keep) => old.and_then(|old| old.deadline),
        Some(expiry) => Some(expiry.deadline(call.tx.now(), call.name)?),
    };
    if options.get && old.is_none() {
        call.tx.emit("keymiss", key);
    }
    let met = options.condition.holds(old.map(|old| old.value));
    match (options.get, met) {
        (true, _) => call.reply.bulk_or_nil(old.map(|old| old.value)),
        (false, true) => call.reply.ok(),
        (false, false) => call.reply.nil(),
    }
    if met {
        call.tx.apply(Effect::Set { key, value, deadline });
        call.tx.emit("set", key);
        if !matches!(options.expiry, None | Some(Expiry::Keep)) {
            call.tx.emit("expire", key);
        }
    }
    Ok(())
}

fn setnx(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    let absent = !call.tx.exists(&args[1]);
    if absent {
        set_and_tell(call, &args[1], &args[2]);
    }
    call.reply.flag(absent);
    Ok(())
}

/// SETEX and PSETEX.
fn setex(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    let unit = if call.name == "setex" { Unit::SECONDS } else { Unit::MILLIS };
    let deadline = Expiry::At(&args[2], unit).deadline(call.tx.now(), call.name)?;
    let key = &args[1];
    call.tx.apply(Effect::Set { key, value: &args[3], deadline: Some(deadline) });
    call.tx.emit("set", key);
    call.tx.emit("expire", key);
    call.reply.ok();
    Ok(())
}

fn getset(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    call.reply.bulk_or_nil(call.tx.value(&args[1]));
    set_and_tell(call, &args[1], &args[2]);
    Ok(())
}

fn getdel(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    let value = call.tx.value(&args[1]);
    call.reply.bulk_or_nil(value);
    if value.is_some() {
        call.tx.apply(Effect::Del { keys: &[&args[1]] });
        call.tx.emit("del", &args[1]);
    }
    Ok(())
}

fn delex(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    let condition = match args.len() {
        2 => Condition::Always,
        4 if args.is(2, "ifeq") => Condition::Equals(&args[3]),
        4 if args.is(2, "ifne") => Condition::Differs(&args[3]),
        _ => return Err(SYNTAX),
    };
    delete_if(call, &args[1], condition);
    Ok(())
}

fn delifeq(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    delete_if(call, &args[1], Condition::Equals(&args[2]));
    Ok(())
}

fn delete_if(call: &mut Call<'_, '_>, key: &[u8], condition: Condition<'_>) {
    let met = call.tx.peek(key).is_some_and(|live| condition.holds(Some(live.value)));
    if met {
        call.tx.apply(Effect::Del { keys: &[key] });
        call.tx.emit("del", key);
    }
    call.reply.flag(met);
}

fn getex(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    let (key, now) = (&args[1], call.tx.now());
    let (mut option, mut words) = (None, args.from(2));
    while let Some(word) = words.next() {
        take_expiry(&mut option, word, &mut words, "PERSIST")?;
    }
    // A change of the deadline counts as the use of the key.
    let value = match option {
        None => call.tx.value(key),
        Some(_) => call.tx.peek(key).map(|live| live.value),
    };
    let Some(value) = value else {
        if option.is_some() {
            call.tx.emit("keymiss", key);
        }
        // As in Redis, the expiry is not validated then.
        call.reply.nil();
        return Ok(());
    };
    let effect = match option {
        None => None,
        Some(Expiry::Keep) => {
            let has_deadline = call.tx.peek(key).is_some_and(|live| live.deadline.is_some());
            has_deadline.then_some((Effect::Persist { key }, "persist"))
        }
        Some(expiry) => match expiry.deadline(now, call.name)? {
            deadline if deadline <= now => Some((Effect::Del { keys: &[key] }, "del")),
            deadline => Some((Effect::PexpireAt { key, deadline }, "expire")),
        },
    };
    call.reply.bulk(value);
    if let Some((effect, event)) = effect {
        call.tx.apply(effect);
        call.tx.emit(event, key);
    }
    Ok(())
}

fn mget(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    call.reply.array(args.len() - 1);
    for key in args.from(1) {
        call.reply.bulk_or_nil(call.tx.value(key));
    }
    Ok(())
}

fn mset(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    check_pairs(call, args)?;
    set_pairs(call, args);
    call.reply.ok();
    Ok(())
}

fn msetnx(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    check_pairs(call, args)?;
    let all_absent = args.from(1).step_by(2).all(|key| !call.tx.exists(key));
    if all_absent {
        set_pairs(call, args);
    }
    call.reply.flag(all_absent);
    Ok(())
}

/// Checks that each key has a value; the arity in the table cannot express that.
fn check_pairs(call: &Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    if args.len() % 2 == 1 { Ok(()) } else { Err(Failure::arity(call.name)) }
}

fn set_pairs(call: &mut Call<'_, '_>, args: Args<'_>) {
    for (key, value) in args.from(1).step_by(2).zip(args.from(2).step_by(2)) {
        set_and_tell(call, key, value);
    }
}

fn set_and_tell(call: &mut Call<'_, '_>, key: &[u8], value: &[u8]) {
    call.tx.apply(Effect::Set { key, value, deadline: None });
    call.tx.emit("set", key);
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Bench;

    #[test]
    fn getex_looks_at_the_key_before_the_time() {
        let bench = Bench::new();
        assert_eq!(bench.run("GETEX k EX soon"), "(nil)");
        assert_eq!(bench.run("GETEX k EX 10 PERSIST"), "ERR syntax error");
        bench.run("SET k v");
        assert_eq!(bench.run("GETEX k EX 0"), "ERR invalid expire time in 'getex' command");
        assert_eq!(bench.run("GETEX k PXAT 1"), "v");
        assert_eq!(bench.run("GET k"), "(nil)");
    }

    #[test]
    fn getex_sets_and_removes_the_deadline() {
        let mut bench = Bench::new();
        bench.run("SET k v");
        assert_eq!(bench.run("GETEX k EX 10"), "v");
        assert_eq!(bench.run("GETEX k PERSIST"), "v");
        bench.now_ms += 10_001;
        assert_eq!(bench.run("GETEX k PX 10"), "v");
        bench.now_ms += 11;
        assert_eq!(bench.run("GET k"), "(nil)");
    }

    #[test]
    fn an_expired_key_counts_as_absent() {
        let mut bench = Bench::new();
        bench.run("PSETEX k 10 v");
        assert_eq!(bench.run("MSETNX j 1 k 2"), "0");
        bench.now_ms += 11;
        assert_eq!(bench.run("MSETNX j 1 k 2"), "1");
        assert_eq!(bench.run("MGET j k l"), "1) 1\n2) 2\n3) (nil)");
    }

    #[test]
    fn a_key_without_a_value_is_an_arity_error() {
        let expected = "ERR wrong number of arguments for 'mset' command";
        assert_eq!(Bench::new().run("MSET a 1 b"), expected);
    }
}
