//! What an import leaves out, and what it may not leave out in silence.
//!
//! Commands on other types are never run, so a key of another type is not there. But such a command may have replaced a
//! string (`SUNIONSTORE k …`), and so may a RENAME of a key of another type. Redis logs a command only if it
//! changed something, so what it wrote is known from its words.

use crate::protocol::{Args, quote};
use crate::rdb::other::OtherType;
use std::collections::{BTreeMap, BTreeSet};

/// Commands that Redis logs, by the type that they are about.
const COMMANDS: &[(&str, &str)] = &[
    (
        "list",
        "blmove linsert lmove lpop lpush lpushx lrem lset ltrim rpop rpoplpush rpush rpushx sort",
    ),
    ("set", "sadd sdiffstore sinterstore smove spop srem sunionstore"),
    (
        "sorted set",
        "geoadd georadius georadiusbymember geosearchstore zadd zdiffstore zincrby zinterstore zpopmax zpopmin \
         zrangestore zrem zremrangebylex zremrangebyrank zremrangebyscore zunionstore",
    ),
    ("hash", "hdel hincrby hincrbyfloat hmset hset hsetnx"),
    ("stream", "xack xadd xautoclaim xclaim xdel xgroup xreadgroup xsetid xtrim"),
    ("HyperLogLog", "pfadd pfcount pfmerge"),
];

/// The type and the key that a command wrote, if this server does not have that type.
pub(super) fn written<'a>(args: Args<'a>) -> Option<(&'static str, &'a [u8])> {
    if args.is(0, "restore") {
        let first = *args.get(3)?.first()?;
        return (first != crate::rdb::STRING).then_some((OtherType(first).name(), args.get(1)?));
    }
    let is_name = |word: &str| args.is(0, word);
    let (of_type, _) = COMMANDS.iter().find(|(_, names)| names.split(' ').any(is_name))?;
    let stores = ["sort", "georadius", "georadiusbymember"].iter().any(|name| args.is(0, name));
    let at = if stores {
        let is_store = |at: &usize| args.is(*at, "store") || args.is(*at, "storedist");
        (2..args.len() - 1).rev().find(is_store)? + 1
    } else if args.is(0, "xgroup") {
        2
    } else {
        1
    };
    Some((of_type, args.get(at)?))
}

/// The keys of a command that copies or renames one: from and to.
pub(super) fn copied<'a>(args: Args<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let copies = ["rename", "renamenx", "copy"].iter().any(|name| args.is(0, name));
    copies.then_some((args.get(1)?, args.get(2)?))
}

/// True if a command works on two databases.
pub(super) fn is_between_databases(args: Args<'_>) -> bool {
    let has_db = args.is(0, "copy") && (3..args.len()).any(|at| args.is(at, "db"));
    args.is(0, "move") || args.is(0, "swapdb") || has_db
}

/// Keys that were left out, by type.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    of_types: BTreeMap<&'static str, BTreeSet<Vec<u8>>>,
    /// Values and commands of other databases.
    pub elsewhere: u64,
    /// Libraries of functions.
    pub libraries: u64,
}

impl LeftOut {
    /// Counts a key of another type.
    pub fn add(&mut self, of_type: &'static str, key: &[u8]) {
        self.of_types.entry(of_type).or_default().insert(key.to_vec());
    }

    /// The type of a key that was left out.
    pub fn type_of(&self, key: &[u8]) -> Option<&'static str> {
        self.of_types.iter().find(|(_, keys)| keys.contains(key)).map(|(name, _)| *name)
    }

    /// The lines to print about it.
    pub fn lines(&self) -> Vec<String> {
        let of_types = self.of_types.iter();
        let mut lines: Vec<String> = of_types.map(|(name, keys)| line(name, keys)).collect();
        if self.elsewhere > 0 {
            lines.push(format!("values and commands of other databases: {}", self.elsewhere));
        }
        if self.libraries > 0 {
            lines.push(format!("libraries of functions: {}", self.libraries));
        }
        lines
    }
}

/// `keys with a list: 12 ("jobs", "mail", "todo", …)`
fn line(name: &str, keys: &BTreeSet<Vec<u8>>) -> String {
    /// Enough to know whose they are.
    const KEYS_SHOWN_MAX: usize = 3;
    let mut shown: Vec<String> = keys.iter().take(KEYS_SHOWN_MAX).map(|key| quote(key)).collect();
    if keys.len() > KEYS_SHOWN_MAX {
        shown.push("…".into());
    }
    format!("keys with a {name}: {} ({})", keys.len(), shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Span;

    fn with_args<T>(line: &str, check: impl FnOnce(Args<'_>) -> T) -> T {
        let mut spans = Vec::new();
        for word in line.split(' ') {
            let start = word.as_ptr() as usize - line.as_ptr() as usize;
            spans.push(Span { start, end: start + word.len() });
        }
        check(Args::new(line.as_bytes(), &spans))
    }

    #[test]
    fn the_key_that_a_command_wrote() {
        for (line, of_type, key) in [
            ("RPUSH k a b", "list", "k"),
            ("SUNIONSTORE k a b", "set", "k"),
            ("XGROUP CREATE k g 0", "stream", "k"),
            ("SORT a BY x* STORE k", "list", "k"),
            ("GEORADIUS a 1 2 3 m STOREDIST k", "sorted set", "k"),
            ("PFADD k x", "HyperLogLog", "k"),
            ("RESTORE k 0 \x04x ABSTTL", "hash", "k"),
        ] {
            let found =
                with_args(line, |args| written(args).map(|(of_type, key)| (of_type, key.to_vec())));
            assert_eq!(found, Some((of_type, key.into())), "{line}");
        }
        for line in ["SET k v", "RESTORE k 0 \0x", "SORT k", "RPUSH", "SORT", "EVAL x 0"] {
            assert!(!with_args(line, |args| written(args).is_some()), "{line}");
        }
    }

    #[test]
    fn what_works_on_two_databases() {
        for line in ["MOVE k 1", "SWAPDB 0 1", "COPY a b DB 1", "COPY a b REPLACE DB 1"] {
            assert!(with_args(line, is_between_databases), "{line}");
        }
        assert!(!with_args("COPY a db REPLACE", is_between_databases));
    }

    #[test]
    fn keys_are_counted_once_and_named() {
        let mut left_out = LeftOut { elsewhere: 2, ..LeftOut::default() };
        for key in ["d", "a", "b", "a", "c"] {
            left_out.add("list", key.as_bytes());
        }
        let expected = [
            "keys with a list: 4 (\"a\", \"b\", \"c\", …)",
            "values and commands of other databases: 2",
        ];
        assert_eq!(left_out.lines(), expected);
    }
}
