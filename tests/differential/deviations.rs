//! Each difference from Redis 7.0 that is on purpose, and each reply that cannot be the same bytes
//! in two servers.
//!
//! This list is complete: a reply that no row is about is compared byte for byte. A row is as
//! narrow as it can be, and even under a row an error and a null must be the same bytes (see
//! `compare`).

use super::compare::Compare;
use super::generate::ABSOLUTE_FROM_MS;
use super::vocabulary::OTHER_TYPES;

/// The durations that `generate` uses are multiples of 100 s, so this tells them apart and forgives
/// any slow machine.
const TOLERANCE_SECONDS: i64 = 40;
const TOLERANCE_MS: i64 = TOLERANCE_SECONDS * 1000;

pub struct Deviation {
    /// The word or words with which the command begins.
    pub command: &'static str,
    /// Which commands beginning so are meant.
    pub applies: fn(&[Vec<u8>]) -> bool,
    pub compare: Compare,
    pub reason: &'static str,
}

const fn all(command: &'static str, compare: Compare, reason: &'static str) -> Deviation {
    Deviation { command, applies: |_| true, compare, reason }
}

#[rustfmt::skip]
pub const DEVIATIONS: &[Deviation] = &[
    // The same answer in an order that neither server promises.
    all("KEYS", Compare::Sorted, "the order of keys is that of a hash table"),
    Deviation { command: "SCAN", applies: |args| is_whole_scan(args), compare: Compare::Sorted,
        reason: "the order of keys is that of a hash table" },
    Deviation { command: "SCAN", applies: |args| !is_whole_scan(args), compare: Compare::Type,
        reason: "cursors are private to a server; dialogues.rs compares whole iterations" },
    all("RANDOMKEY", Compare::Type, "random; that the key exists is checked in dialogues.rs"),

    // The clock has moved between the two servers' answers.
    all("TIME", Compare::Shape, "the clock"),
    all("TTL", Compare::Within(TOLERANCE_SECONDS), "the clock"),
    all("PTTL", Compare::Within(TOLERANCE_MS), "the clock"),
    all("EXPIRETIME",
        Compare::Deadline { absolute_from: ABSOLUTE_FROM_MS / 1000, tolerance: TOLERANCE_SECONDS },
        "the clock, where the deadline came from a duration"),
    all("PEXPIRETIME",
        Compare::Deadline { absolute_from: ABSOLUTE_FROM_MS, tolerance: TOLERANCE_MS },
        "the clock, where the deadline came from a duration"),
    all("OBJECT IDLETIME", Compare::Within(TOLERANCE_SECONDS), "the clock"),

    // The encoding of a value is up to each server.
    all("OBJECT ENCODING", Compare::Encoding,
        "ours follows from the value alone; Redis says raw or embstr of a value edited in place"),
    all("OBJECT REFCOUNT", Compare::Type,
        "ours is always 1; Redis shares small integers and says 2147483647"),
    all("DEBUG OBJECT", Compare::Type, "addresses and sizes"),
    all("MEMORY USAGE", Compare::Type, "sizes in memory"),

    // A server's statements about itself.
    all("INFO", Compare::Type, "figures of this server"),
    all("HELLO", Compare::Shape, "version and client id"),
    all("SLOWLOG LEN", Compare::Type, "which commands are slow"),
    all("LASTSAVE", Compare::Type, "when this server last saved"),
    all("CLIENT ID", Compare::Type, "counts connections since the start"),
    all("CLIENT INFO", Compare::Type, "addresses, ids, sizes"),
    all("CLIENT LIST", Compare::Type, "addresses, ids, sizes"),
    all("COMMAND COUNT", Compare::Type, "we have fewer commands"),
    Deviation { command: "COMMAND", applies: |args| is_about_all_commands(args),
        compare: Compare::Type,
        reason: "we have fewer commands" },
    all("COMMAND LIST", Compare::Type, "we have fewer commands"),
    all("COMMAND DOCS", Compare::Type, "we have our own help texts"),
    all("COMMAND INFO", Compare::CommandInfo,
        "flags and ACL categories are not all modelled; subcommands as for COMMAND HELP"),
    Deviation { command: "", applies: |args| is_help_of_a_container(args), compare: Compare::Type,
        reason: "our containers have fewer subcommands" },

    // Features that kvstore does not have.
    Deviation { command: "", applies: |args| OTHER_TYPES.iter().any(|name| is_word(&args[0], name)),
        compare: Compare::AsUnknown,
        reason: "strings are the only type; the error is that for any unknown name" },
];

/// Commands and forms that are not sent, since Redis 7.0 has nothing to compare them with, or since
/// they end the run.
pub const NOT_SENT: &[(&str, &str)] = &[
    ("DELETE", "ours: the name for DEL that telnet users were promised"),
    ("EXIT", "ours: QUIT for people"),
    ("HELP", "ours"),
    ("LOLWUT", "a drawing"),
    ("TRACE", "ours"),
    ("LASTSEQ", "ours"),
    ("WAITSEQ", "ours"),
    ("PROMOTE", "ours"),
    ("REPLICATE", "ours: what PSYNC is to Redis"),
    ("PEER", "ours"),
    ("MEMBERS", "ours"),
    ("ROLE", "sent where it is wrong: its offset counts records, Redis's counts bytes"),
    ("REPLICAOF 127.0.0.1 0", "an error here: nobody listens on port 0"),
    (
        "MONITOR",
        "sent where it is wrong; lines of others would come between the replies. seeing.rs of \
        this test has its form",
    ),
    ("SET … IFEQ, SET … IFNE", "from Valkey 8.1 and Redis 8.4"),
    ("DELEX", "from Redis 8.4"),
    ("DELIFEQ", "from Valkey 9.0"),
    ("CLIENT SETINFO, CLIENT NO-TOUCH", "from Redis 7.2"),
    ("COPY … DB 1", "sent, but with one database in Redis too (--databases 1), as SELECT 1 is"),
    ("QUIT", "ends the connection; tests/hostile.rs has it"),
    (
        "CONFIG SET port",
        "our port is fixed from the start on: an error in kvstore, legal in Redis 7.0",
    ),
    (
        "BGREWRITEAOF, BGSAVE, SAVE",
        "sent where they are wrong; where they are right, the answer \
        depends on what goes on in the background. restarts.rs has them",
    ),
    (
        "DEBUG RELOAD between WATCH and EXEC",
        "ours reads back what is there, so no watched key has changed; in Redis it fires",
    ),
    (
        "BITFIELD … OVERFLOW FAIL of a watched key",
        "where all fails, Redis makes or pads the key all the same, and tells nobody; here it fires",
    ),
    (
        "DEBUG in a MULTI",
        "to Redis it is one command that knows its subcommands only when it runs; here a wrong one is \
        refused when it is queued",
    ),
    (
        "HELLO with another protocol, CLIENT REPLY OFF and SKIP in a MULTI",
        "Redis changes its mind in the middle of EXEC's answer, and leaves elements out of it; here \
        the one takes effect for commands of the server only, the other for the whole answer",
    ),
    ("PUBLISH \"\"", "the pattern * matches the channel without a name; in Redis it does not"),
    ("SUBSCRIBE and PSUBSCRIBE in MULTI", "refused here: a confirmation leaves by itself"),
    ("WAITAOF", "from Redis 7.2"),
    (
        "SUBSCRIBE, PSUBSCRIBE with a name",
        "differential/messages.rs has them: their answers are several",
    ),
    ("DEBUG LOADAOF", "ends a Redis that has no append-only file"),
    ("DEBUG SLEEP", "sent with 0 only: in Redis it blocks everybody, in kvstore this connection"),
];

/// The way in which replies to this command are compared, and the row that says so.
pub fn find(args: &[Vec<u8>]) -> Option<usize> {
    DEVIATIONS.iter().position(|row| begins_with(args, row.command) && (row.applies)(args))
}

/// True if the whole command of this name is never sent.
pub fn is_not_sent(name: &str) -> bool {
    NOT_SENT.iter().any(|(what, _)| *what == name)
}

fn begins_with(args: &[Vec<u8>], command: &str) -> bool {
    let mut args = args.iter();
    command.split_whitespace().all(|word| args.next().is_some_and(|arg| is_word(arg, word)))
}

pub fn is_word(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

/// True if a SCAN returns everything at once: from the start, with a COUNT far above the number
/// of keys.
fn is_whole_scan(args: &[Vec<u8>]) -> bool {
    let counts: Vec<_> = (2..args.len()).filter(|&i| is_word(&args[i], "COUNT")).collect();
    args.get(1).is_some_and(|cursor| cursor == b"0")
        && matches!(counts[..], [i] if args.get(i + 1).is_some_and(|count| count == b"1000"))
}

fn is_about_all_commands(args: &[Vec<u8>]) -> bool {
    args.len() == 1 || args.len() == 2 && is_word(&args[1], "INFO")
}

fn is_help_of_a_container(args: &[Vec<u8>]) -> bool {
    let containers =
        ["LATENCY", "SLOWLOG", "CLIENT", "CONFIG", "COMMAND", "MEMORY", "DEBUG", "PUBSUB"];
    args.len() == 2
        && is_word(&args[1], "HELP")
        && containers.iter().any(|name| is_word(&args[0], name))
}
