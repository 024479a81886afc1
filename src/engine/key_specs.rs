//! Key specifications: where a command's keys are and what it does to them, as COMMAND tells it to
//! programs that route, cache or check calls without knowing each command.
//!
//! A specification is a range of keys that are treated alike: of `RENAME key newkey`, the first key is
//! one and the second another. The words are Redis's: `RO`, `RW`, `OW` (overwrites), `RM` (removes) tell
//! of the key; `access`, `update`, `insert`, `delete` of the data under it.

use crate::commands::{Command, Flags};
use crate::protocol::{Args, Reply};

const READS: &str = "RO access";
const READS_AND_WRITES: &str = "RW access update";

/// What a command does to its keys: to the first one, or to all; and, if it is something else, to the
/// others.
fn of(row: &Command) -> &[&'static str] {
    match row.on_keys {
        [] if row.flags.has(Flags::WRITE) => &[READS_AND_WRITES],
        [] => &[READS],
        words => words,
    }
}

/// What a call does to its key of this index. Only here do the arguments of SET and BITFIELD count.
pub fn in_call(row: &Command, call: Args<'_>, index: usize) -> &'static str {
    match row.name {
        "set" if (3..call.len()).any(|at| call.is(at, "get")) => READS_AND_WRITES,
        "set" => "OW update",
        "bitfield" if bitfield_writes(call) => READS_AND_WRITES,
        "bitfield" => READS,
        _ => of(row).get(index).or(of(row).last()).copied().unwrap_or_default(),
    }
}

/// What cannot be understood might write.
fn bitfield_writes(call: Args<'_>) -> bool {
    let mut at = 2;
    while at < call.len() {
        let left = call.len() - at - 1;
        at += match () {
            () if call.is(at, "get") && left >= 2 => 3,
            () if call.is(at, "overflow") && left >= 1 => 2,
            () => return true,
        };
    }
    false
}

/// The words, one by one.
pub fn flags(words: &str, reply: &mut Reply) {
    reply.set(words.split(' ').count());
    words.split(' ').for_each(|flag| reply.simple(flag));
}

/// A row's specifications.
pub fn describe(row: &Command, reply: &mut Reply) {
    let specs = if row.keys.first == 0 { &[] } else { of(row) };
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
    reply.bulk(b"begin_search");
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(b"index");
    reply.bulk(b"spec");
    reply.map(1);
    reply.bulk(b"index");
    reply.count(first);
    reply.bulk(b"find_keys");
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(b"range");
    reply.bulk(b"spec");
    reply.map(3);
    reply.bulk(b"lastkey");
    reply.int(if last < 0 { last as i64 } else { last as i64 - first as i64 });
    reply.bulk(b"keystep");
    reply.count(step);
    reply.bulk(b"limit");
    reply.int(0);
}
