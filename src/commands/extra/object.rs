//! OBJECT, MEMORY and DEBUG OBJECT: the representation of a value in memory.
//!
//! Redis has several representations of a string, and clients' tests check them. We have one, and derive the
//! name of Redis's from the value. None of these commands counts as a use of the key.

use super::dump;
use crate::commands::spec::row;
use crate::commands::{Call, Family, Flags, Handler, Keys, Row, Shape};
use crate::error::{Failure, NO_SUCH_KEY, NOT_AN_INTEGER, SYNTAX};
use crate::memory::recency::Tracking;
use crate::protocol::{Args, Reply, integer};
use crate::store::Live;

const READ: Flags = Flags::READONLY;
const HELP: Flags = Flags::READONLY.and(Flags::LOADING);

/// The family's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Row<Handler>] = &[
    row(Family::Generic, "object", -2, Flags::NONE, Keys::NONE, object_help).shape(Shape::Container)
        .help("subcommand [key]", "Describes a value: ENCODING, REFCOUNT, IDLETIME, FREQ.",
            "SET name Ada; OBJECT ENCODING name -> embstr"),
    row(Family::Generic, "object|encoding", 3, READ, Keys::OF_SUBCOMMAND, encoding).on_keys(&["RO"])
        .help("key", "Returns how Redis would encode the value: int, embstr or raw.",
            "SET name Ada; OBJECT ENCODING name -> embstr"),
    row(Family::Generic, "object|refcount", 3, READ, Keys::OF_SUBCOMMAND, refcount).on_keys(&["RO"])
        .help("key", "Returns the number of references to the value: always 1.", "SET name Ada; OBJECT REFCOUNT name -> 1"),
    row(Family::Generic, "object|idletime", 3, READ, Keys::OF_SUBCOMMAND, idletime).on_keys(&["RO"])
        .help("key", "Returns the seconds since the key was last used.",
            "SET name Ada; OBJECT IDLETIME name -> (0, and more each second)"),
    row(Family::Generic, "object|freq", 3, READ, Keys::OF_SUBCOMMAND, freq).on_keys(&["RO"])
        .help("key", "Returns how often the key was used, on a logarithmic scale; needs an LFU maxmemory-policy.",
            "CONFIG SET maxmemory-policy allkeys-lfu; SET name Ada; OBJECT FREQ name -> (5, and more with each use)"),
    row(Family::Generic, "object|help", 2, HELP, Keys::NONE, object_help)
        .help("", "Lists the subcommands.", ""),
    row(Family::Server, "memory", -2, Flags::NONE, Keys::NONE, memory_help).shape(Shape::Container)
        .help("subcommand [arguments]", "Describes memory: USAGE.",
            "SET name Ada; MEMORY USAGE name -> (some dozens of bytes)"),
    row(Family::Server, "memory|usage", -3, READ, Keys::OF_SUBCOMMAND, memory_usage).on_keys(&["RO"])
        .help("key [SAMPLES count]", "Returns the memory of a key and its value in bytes.",
            "SET name Ada; MEMORY USAGE name -> (some dozens of bytes)"),
    row(Family::Server, "memory|help", 2, HELP, Keys::NONE, memory_help).help("", "Lists the subcommands.", ""),
    row(Family::Server, "debug|object", 3, READ.and(Flags::ADMIN), Keys::OF_SUBCOMMAND, debug_object)
        .help("key", "Describes the representation of a value.", ""),
];

const IDLE_TIME_NOT_KEPT: Failure = Failure::fixed(
    "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching \
     between policies at runtime LRU and LFU data will take some time to adjust.",
);
const FREQ_NOT_COUNTED: Failure = Failure::fixed(
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that \
     when switching between policies at runtime LRU and LFU data will take some time to adjust.",
);

const OBJECT_HELP: &[&str] = &[
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
    "HELP",
    "    Prints this help.",
];

const MEMORY_HELP: &[&str] = &[
    "MEMORY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "USAGE <key> [SAMPLES <count>]",
    "    Return memory in bytes used by <key> and its value. Nested values are",
    "    sampled up to <count> times (default: 5, 0 means sample all).",
    "HELP",
    "    Prints this help.",
];

/// The name of the representation that Redis would choose for a value.
fn encoding_of(value: &[u8]) -> &'static str {
    const EMBEDDED_LEN_MAX: usize = 44;
    if integer(value).is_some() {
        "int"
    } else if value.len() <= EMBEDDED_LEN_MAX {
        "embstr"
    } else {
        "raw"
    }
}

/// Replies with what `write` says about a live key, or with nil.
fn answer(call: &mut Call<'_, '_>, key: &[u8], write: fn(&mut Reply, Live<'_>)) {
    match call.tx.inspect(key) {
        Some(live) => write(call.reply, live),
        None => call.reply.nil(),
    }
}

fn encoding(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    answer(call, &args[2], |reply, live| reply.bulk(encoding_of(live.value).as_bytes()));
    Ok(())
}

fn refcount(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    answer(call, &args[2], |reply, _| reply.int(1));
    Ok(())
}

fn idletime(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    let (now, tracking) = (call.tx.now(), call.tx.tracking());
    match (call.tx.inspect(&args[2]), tracking) {
        (None, _) => call.reply.nil(),
        (Some(live), Tracking::Time) => {
            call.reply.int((live.recency.idle_millis(now) / 1000) as i64);
        }
        (Some(_), Tracking::Frequency { .. }) => return Err(IDLE_TIME_NOT_KEPT),
    }
    Ok(())
}

fn freq(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    let (now, tracking) = (call.tx.now(), call.tx.tracking());
    match (call.tx.inspect(&args[2]), tracking) {
        (None, _) => call.reply.nil(),
        (Some(live), Tracking::Frequency { decay_minutes, .. }) => {
            call.reply.int(live.recency.frequency(now, decay_minutes).into());
        }
        (Some(_), Tracking::Time) => return Err(FREQ_NOT_COUNTED),
    }
    Ok(())
}

fn object_help(call: &mut Call<'_, '_>, _: Args<'_>) -> Result<(), Failure> {
    call.reply.lines(OBJECT_HELP);
    Ok(())
}

fn memory_usage(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    let mut words = args.from(3);
    while let Some(word) = words.next() {
        if !word.eq_ignore_ascii_case(b"SAMPLES") {
            return Err(SYNTAX);
        }
        // A string has no parts to sample, so the count is only validated.
        let count = words.next().ok_or(SYNTAX)?;
        if integer(count).ok_or(NOT_AN_INTEGER)? < 0 {
            return Err(SYNTAX);
        }
    }
    answer(call, &args[2], |reply, live| reply.count(live.allocated_bytes));
    Ok(())
}

fn memory_help(call: &mut Call<'_, '_>, _: Args<'_>) -> Result<(), Failure> {
    call.reply.lines(MEMORY_HELP);
    Ok(())
}

fn debug_object(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    /// Redis's LRU clock has 24 bits.
    const LRU_MASK: u64 = 0xff_ffff;
    let live = call.tx.inspect(&args[2]).ok_or(NO_SUCH_KEY)?;
    let idle = live.recency.idle_millis(call.tx.now()) / 1000;
    let line = format!(
        "Value at:{:p} refcount:1 encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{idle}",
        live.value.as_ptr(),
        encoding_of(live.value),
        dump::sealed_len(live.value),
        call.tx.now().seconds().saturating_sub(idle) & LRU_MASK,
    );
    call.reply.simple(&line);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::keys::tests::run;
    use crate::store::Store;

    #[test]
    fn encodings() {
        assert_eq!(encoding_of(b"0"), "int");
        assert_eq!(encoding_of(b"-9223372036854775808"), "int");
        for not_canonical in ["", "01", "-0", "+1", " 1", "9223372036854775808"] {
            assert_eq!(encoding_of(not_canonical.as_bytes()), "embstr", "{not_canonical:?}");
        }
        assert_eq!(encoding_of(&[b'1'; 44]), "embstr");
        assert_eq!(encoding_of(&[b'1'; 45]), "raw");
    }

    #[test]
    fn reading_metadata_does_not_count_as_a_use() {
        let store = Store::new();
        run(&store, 1_000, "SET k v");
        let looks = ["EXISTS k", "TYPE k", "TTL k", "OBJECT ENCODING k", "MEMORY USAGE k"];
        looks.iter().for_each(|look| assert_ne!(run(&store, 9_000, look), "(nil)"));
        assert_eq!(run(&store, 9_000, "OBJECT IDLETIME k"), "8");
        assert!(run(&store, 9_000, "DEBUG OBJECT k").ends_with("lru:1 lru_seconds_idle:8"));
        run(&store, 9_000, "TOUCH k");
        assert_eq!(run(&store, 9_000, "OBJECT IDLETIME k"), "0");
    }

    #[test]
    fn absent_keys_are_nil_before_they_are_errors() {
        let store = Store::new();
        assert_eq!(run(&store, 0, "OBJECT FREQ k"), "(nil)");
        assert_eq!(run(&store, 0, "MEMORY USAGE k SAMPLES 0"), "(nil)");
        assert_eq!(run(&store, 0, "MEMORY USAGE k SAMPLES -1"), "ERR syntax error");
        assert_eq!(run(&store, 0, "DEBUG OBJECT k"), "ERR no such key");
        run(&store, 0, "SET k v");
        assert_eq!(run(&store, 0, "OBJECT FREQ k"), FREQ_NOT_COUNTED.text());
    }
}
