//! Commands on named keys of any type: DEL, EXISTS, RENAME, COPY.

use super::spec::row;
use super::{Call, Family, Flags, Handler, Keys, Row};
use crate::error::{
    DB_OUT_OF_RANGE, Failure, INT_OUT_OF_RANGE, NO_SUCH_KEY, NOT_AN_INTEGER, SYNTAX,
};
use crate::protocol::{Args, integer};
use crate::store::Tx;
use crate::store::effect::Effect;
use std::collections::HashSet;

const WRITE: Flags = Flags::WRITE;
const FAST_WRITE: Flags = Flags::WRITE.and(Flags::FAST);
const READ: Flags = Flags::READONLY.and(Flags::FAST);

/// The family's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Row<Handler>] = &[
    row(Family::Generic, "del", -2, WRITE, Keys::ALL, del).on_keys(&["RM delete"])
        .help("key [key ...]", "Deletes keys; returns how many existed.",
            "MSET name Ada city London; DEL name city -> 2"),
    row(Family::Generic, "delete", -2, WRITE, Keys::ALL, del).on_keys(&["RM delete"])
        .help("key [key ...]", "The same as DEL.", "SET name Ada; DELETE name -> 1"),
    row(Family::Generic, "unlink", -2, FAST_WRITE, Keys::ALL, del).on_keys(&["RM delete"])
        .help("key [key ...]", "The same as DEL.",
            "SET name Ada; UNLINK name -> 1"),
    row(Family::Generic, "exists", -2, READ, Keys::ALL, exists).on_keys(&["RO"])
        .help("key [key ...]", "Returns how many of the keys exist; a key named twice counts twice.",
            "SET name Ada; EXISTS name city -> 1"),
    row(Family::Generic, "type", 2, READ, Keys::ONE, kind).on_keys(&["RO"])
        .help("key", "Returns the type of a value: string, or none if the key does not exist.",
            "SET name Ada; TYPE name -> string"),
    row(Family::Generic, "touch", -2, READ, Keys::ALL, touch).on_keys(&["RO"])
        .help("key [key ...]", "Marks keys as just used; returns how many exist.",
            "SET name Ada; TOUCH name city -> 1"),
    row(Family::Generic, "rename", 3, WRITE, Keys::TWO, rename).on_keys(&["RW access delete", "OW update"])
        .help("key newkey", "Renames a key; a key with the new name is overwritten.",
            "SET name Ada; RENAME name first_name -> OK"),
    row(Family::Generic, "renamenx", 3, FAST_WRITE, Keys::TWO, renamenx)
        .on_keys(&["RW access delete", "OW insert"])
        .help("key newkey", "Renames a key if the new name is free; returns 1 if it was renamed.",
            "SET name Ada; RENAMENX name first_name -> 1"),
    row(Family::Generic, "copy", -3, WRITE.and(Flags::DENYOOM), Keys::TWO, copy)
        .on_keys(&["RO access", "OW update"])
        .help("source destination [DB destination-db] [REPLACE]",
            "Copies a value and its expiry to another key; returns 1 if it was copied.",
            "SET name Ada; COPY name backup REPLACE -> 1"),
];

const SAME_OBJECT: Failure = Failure::fixed("ERR source and destination objects are the same");

fn del(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    let (mut keys, mut named) = (Vec::new(), HashSet::new());
    for key in args.from(1) {
        // A key that is named twice is removed once.
        if call.tx.exists(key) && (args.len() == 2 || named.insert(key)) {
            call.tx.emit("del", key);
            keys.push(key);
        }
    }
    if !keys.is_empty() {
        call.tx.apply(Effect::Del { keys: &keys });
    }
    call.reply.count(keys.len());
    Ok(())
}

fn exists(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    call.reply.count(args.from(1).filter(|key| call.tx.exists(key)).count());
    Ok(())
}

fn kind(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    call.reply.simple(if call.tx.exists(&args[1]) { "string" } else { "none" });
    Ok(())
}

fn touch(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    // As in Redis, TOUCH reads the key, and counts as a hit or a miss.
    call.reply.count(args.from(1).filter(|key| call.tx.value(key).is_some()).count());
    Ok(())
}

fn rename(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    let (from, to) = (&args[1], &args[2]);
    if !call.tx.exists(from) {
        return Err(NO_SUCH_KEY);
    }
    if from != to {
        move_key(call.tx, from, to);
    }
    call.reply.ok();
    Ok(())
}

fn renamenx(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    let (from, to) = (&args[1], &args[2]);
    if !call.tx.exists(from) {
        return Err(NO_SUCH_KEY);
    }
    let free = !call.tx.exists(to);
    if free {
        move_key(call.tx, from, to);
    }
    call.reply.flag(free);
    Ok(())
}

fn copy(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    let replace = parse_copy_options(args)?;
    let (from, to) = (&args[1], &args[2]);
    if from == to {
        return Err(SAME_OBJECT);
    }
    // Unlike RENAME, COPY reads its source: a hit or a miss, and a use of the key.
    let copies = call.tx.value(from).is_some() && (replace || !call.tx.exists(to));
    if copies {
        copy_key(call.tx, from, to);
        call.tx.emit("copy_to", to);
    }
    call.reply.flag(copies);
    Ok(())
}

/// Parses the options of COPY; returns true for REPLACE. The database must be number 0.
fn parse_copy_options(args: Args<'_>) -> Result<bool, Failure> {
    let (mut replace, mut words) = (false, args.from(3));
    while let Some(word) = words.next() {
        if word.eq_ignore_ascii_case(b"REPLACE") {
            replace = true;
        } else if word.eq_ignore_ascii_case(b"DB") {
            let index = integer(words.next().ok_or(SYNTAX)?).ok_or(NOT_AN_INTEGER)?;
            if i32::try_from(index).map_err(|_| INT_OUT_OF_RANGE)? != 0 {
                return Err(DB_OUT_OF_RANGE);
            }
        } else {
            return Err(SYNTAX);
        }
    }
    Ok(replace)
}

fn move_key(tx: &mut Tx<'_>, from: &[u8], to: &[u8]) {
    copy_key(tx, from, to);
    tx.apply(Effect::Del { keys: &[from] });
    tx.emit("rename_from", from);
    tx.emit("rename_to", to);
}

/// Copies a value and its deadline. The effect holds the value, not the name of the source: a record of the
/// log can be understood without the ones before it.
fn copy_key(tx: &mut Tx<'_>, from: &[u8], to: &[u8]) {
    let Some(source) = tx.peek(from) else { return };
    let (value, deadline) = (source.value.to_vec(), source.deadline);
    tell_replacement(tx, to);
    tx.apply(Effect::Set { key: to, value: &value, deadline });
}

/// Emits `new` for a key that replaces another one. Redis does so, because it deletes the other one first.
pub(super) fn tell_replacement(tx: &Tx<'_>, key: &[u8]) {
    if tx.exists(key) {
        tx.emit("new", key);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use crate::clock::UnixMillis;
    use crate::commands::{Call, lock, testing};
    use crate::protocol::{Args, Dialect, Reply, Span};
    use crate::store::Store;

    /// Runs a command at a point in time; its answer is text.
    pub(in crate::commands) fn run_words(store: &Store, now: u64, words: &[&[u8]]) -> String {
        let (mut bytes, mut spans) = (Vec::new(), Vec::new());
        for word in words {
            spans.push(Span { start: bytes.len(), end: bytes.len() + word.len() });
            bytes.extend_from_slice(word);
        }
        let args = Args::new(&bytes, &spans);
        let mut reply = Reply::new(Dialect::Text);
        let outcome = testing::table().resolve(args).and_then(|found| {
            let row = found.command;
            let mut tx = lock(store, row, args, || UnixMillis(now));
            let name = row.name;
            let mut call = Call { tx: &mut tx, reply: &mut reply, value_len_max: 1 << 20, name };
            let outcome = (found.run)(&mut call, args);
            assert!(outcome.is_ok() || tx.effects() == 0, "{name} failed and changed something");
            outcome
        });
        match outcome {
            Ok(()) => String::from_utf8_lossy(reply.bytes()).trim_end().to_string(),
            Err(failure) => failure.to_string(),
        }
    }

    /// [`run_words`] for a command without blanks in its arguments.
    pub(in crate::commands) fn run(store: &Store, now: u64, line: &str) -> String {
        run_words(store, now, &line.split(' ').map(str::as_bytes).collect::<Vec<_>>())
    }

    #[test]
    fn keys_named_twice() {
        let store = Store::new();
        run(&store, 0, "SET a 1");
        assert_eq!(run(&store, 0, "EXISTS a a b"), "2");
        assert_eq!(run(&store, 0, "TOUCH a a b"), "2");
        assert_eq!(run(&store, 0, "DELETE a a b"), "1");
    }

    #[test]
    fn a_deadline_goes_with_its_key_and_not_over_another() {
        let store = Store::new();
        run(&store, 0, "SET a 1 PXAT 500");
        run(&store, 0, "SET b 2 PXAT 900");
        assert_eq!(run(&store, 0, "COPY a c"), "1");
        assert_eq!(run(&store, 0, "RENAME a b"), "OK");
        assert_eq!(run(&store, 0, "PEXPIRETIME b"), "500");
        assert_eq!(run(&store, 0, "PEXPIRETIME c"), "500");
        assert_eq!(run(&store, 501, "EXISTS a b c"), "0");
        run(&store, 501, "SET a 1");
        assert_eq!(run(&store, 501, "RENAMENX a b"), "1", "an expired key is in nobody's way");
        assert_eq!(run(&store, 501, "PTTL b"), "-1");
    }

    #[test]
    fn a_key_and_itself() {
        let store = Store::new();
        assert_eq!(run(&store, 0, "RENAME a a"), "ERR no such key");
        run(&store, 0, "SET a 1");
        assert_eq!(run(&store, 0, "RENAME a a"), "OK");
        assert_eq!(run(&store, 0, "RENAMENX a a"), "0");
        let same = "ERR source and destination objects are the same";
        assert_eq!(run(&store, 0, "COPY a a REPLACE"), same);
        assert_eq!(run(&store, 0, "GET a"), "1");
    }

    #[test]
    fn there_is_one_database() {
        let store = Store::new();
        run(&store, 0, "SET a 1");
        assert_eq!(run(&store, 0, "COPY a b DB 0"), "1");
        assert_eq!(run(&store, 0, "COPY a b db 1"), "ERR DB index is out of range");
        assert_eq!(run(&store, 0, "COPY a b DB x"), super::NOT_AN_INTEGER.text());
        assert_eq!(run(&store, 0, "COPY a b DB 2147483648"), super::INT_OUT_OF_RANGE.text());
        assert_eq!(run(&store, 0, "COPY a b DB"), "ERR syntax error");
    }
}
