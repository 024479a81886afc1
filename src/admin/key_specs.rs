//! Key specifications: the positions of a command's keys and the operations on them. COMMAND shows them to
//! programs that route, cache or check calls without knowing each command.
//!
//! A specification covers a range of keys that are treated alike: `RENAME key newkey` has one for each key.
//! The flags are Redis's. `RO`, `RW`, `OW` (overwrites) and `RM` (removes) describe the key; `access`,
//! `update`, `insert` and `delete` describe the data under it.

use crate::commands::{Flags, Spec};
use crate::protocol::{Args, Reply};

const READS: &str = "RO access";
const READS_AND_WRITES: &str = "RW access update";

/// The flags of a command's keys, in order. The last entry is also for all keys after it.
fn flags_of(row: &Spec) -> &[&'static str] {
    match row.on_keys {
        [] if row.flags.has(Flags::WRITE) => &[READS_AND_WRITES],
        [] => &[READS],
        words => words,
    }
}

/// The flags of the key with this index in a call. They depend on the arguments of SET and BITFIELD.
pub fn in_call(row: &Spec, call: Args<'_>, index: usize) -> &'static str {
    match row.name {
        "set" if (3..call.len()).any(|at| call.is(at, "get")) => READS_AND_WRITES,
        "set" => "OW update",
        "bitfield" if bitfield_writes(call) => READS_AND_WRITES,
        "bitfield" => READS,
        _ => flags_of(row).get(index).or(flags_of(row).last()).copied().unwrap_or_default(),
    }
}

/// True unless all operations are GET and OVERFLOW: one that cannot be parsed might write.
fn bitfield_writes(call: Args<'_>) -> bool {
    let mut at = 2;
    while at < call.len() {
        let left = call.len() - at - 1;
        if call.is(at, "get") && left >= 2 {
            at += 3;
        } else if call.is(at, "overflow") && left >= 1 {
            at += 2;
        } else {
            return true;
        }
    }
    false
}

/// Replies with the flags, as a set.
pub fn flags(words: &str, reply: &mut Reply) {
    reply.set(words.split(' ').count());
    words.split(' ').for_each(|flag| reply.simple(flag));
}

/// Replies with a command's specifications.
pub fn describe(row: &Spec, reply: &mut Reply) {
    let specs = if row.keys.first == 0 { &[] } else { flags_of(row) };
    reply.set(specs.len());
    for (index, words) in specs.iter().enumerate() {
        let first = row.keys.first + index;
        let is_last = index + 1 == specs.len();
        let last = if is_last { row.keys.last } else { first as isize };
        describe_one(words, first, last, row.keys.step, reply);
    }
}

fn describe_one(words: &str, first: usize, last: isize, step: usize, reply: &mut Reply) {
    reply.map(3);
    reply.bulk(b"flags");
    flags(words, reply);
    let last = if last < 0 { last as i64 } else { last as i64 - first as i64 };
    search("begin_search", "index", &[("index", first as i64)], reply);
    let range = [("lastkey", last), ("keystep", step as i64), ("limit", 0)];
    search("find_keys", "range", &range, reply);
}

fn search(name: &str, kind: &str, spec: &[(&str, i64)], reply: &mut Reply) {
    reply.bulk(name.as_bytes());
    reply.map(2);
    for word in ["type", kind, "spec"] {
        reply.bulk(word.as_bytes());
    }
    reply.map(spec.len());
    for (name, number) in spec {
        reply.bulk(name.as_bytes());
        reply.int(*number);
    }
}
