//! The vocabulary of the random commands: keys, templates, and the words that fill them.
//!
//! A word of a template that begins with `$` is a placeholder: one of `choices` here, or one of
//! those that `Generator::fill` computes. It may become several words, or none.

use super::transactions::COMMANDS;

/// Few keys, so that commands meet each other's results. Some are awkward.
pub const KEYS: &[&[u8]] = &[
    b"k0",
    b"k1",
    b"k2",
    b"k3",
    b"k4",
    b"k5",
    b"k6",
    b"k7",
    b"k8",
    b"k9",
    b"k10",
    b"k11",
    b"k12",
    b"k13",
    b"",
    b"a key",
    b"\x00\xff\r\n",
    b"*[k]?",
    b"key:\xc3\xa9",
    b"a-key-that-is-longer-than-the-twenty-bytes-in-which-some-store-one-inline",
];

/// Commands of the types that kvstore does not have.
pub const OTHER_TYPES: &[&str] = &[
    "LPUSH", "RPUSH", "LPOP", "LRANGE", "LLEN", "BLPOP", "HSET", "HGET", "HGETALL", "HINCRBY",
    "SADD", "SMEMBERS", "SINTER", "ZADD", "ZRANGE", "ZSCORE", "XADD", "XRANGE", "PFADD", "GEOADD",
    "SORT", "EVAL", "FCALL",
];

/// The frequency, and the command.
#[rustfmt::skip]
pub const TEMPLATES: &[(usize, &str)] = &[
    // strings
    (60, "SET $key $value"), (40, "SET $key $value $set_options"), (8, "SETNX $key $value"),
    (8, "SETEX $key $seconds $value"), (8, "PSETEX $key $ms $value"), (10, "GETSET $key $value"),
    (40, "GET $key"), (10, "GETDEL $key"), (16, "GETEX $key $getex_option"),
    (16, "MGET $keys"), (20, "MSET $pairs"), (8, "MSETNX $pairs"),
    (24, "APPEND $key $value"), (12, "STRLEN $key"),
    (16, "INCR $key"), (12, "DECR $key"), (24, "INCRBY $key $int"), (16, "DECRBY $key $int"),
    (30, "INCRBYFLOAT $key $float"),
    (16, "SETRANGE $key $offset $value"), (16, "GETRANGE $key $index $index"),
    (4, "SUBSTR $key $index $index"),
    (16, "LCS $key $key $lcs_options"),
    // bits
    (16, "SETBIT $key $bit_offset $bit"), (12, "GETBIT $key $bit_offset"),
    (12, "BITCOUNT $key"), (16, "BITCOUNT $key $index $index $unit"),
    (8, "BITPOS $key $bit"), (8, "BITPOS $key $bit $index"),
    (16, "BITPOS $key $bit $index $index $unit"),
    (16, "BITOP $bit_operation $key $keys"), (6, "BITOP NOT $key $key"),
    (40, "BITFIELD $key $bitfield"), (10, "BITFIELD_RO $key $bitfield_get"),
    // keys
    (24, "DEL $keys"), (8, "UNLINK $keys"), (12, "EXISTS $keys"), (8, "TYPE $key"),
    (8, "TOUCH $keys"),
    (8, "KEYS $pattern"), (4, "SCAN 0 COUNT 1000"), (6, "SCAN 0 COUNT 1000 MATCH $pattern"),
    (4, "SCAN 0 COUNT 1000 TYPE $type"),
    (2, "SCAN 0 MATCH $pattern COUNT 1000 TYPE $type"), (3, "SCAN $cursor"),
    (4, "SCAN $cursor $scan_options"), (2, "RANDOMKEY"),
    (20, "RENAME $key $key"), (12, "RENAMENX $key $key"), (20, "COPY $key $key $copy_options"),
    (1, "DBSIZE"), (2, "FLUSHDB $flush_mode"), (2, "FLUSHALL $flush_mode"),
    (8, "OBJECT ENCODING $key"), (3, "OBJECT REFCOUNT $key"), (3, "OBJECT IDLETIME $key"),
    (3, "OBJECT FREQ $key"),
    (3, "DUMP $key"), (4, "RESTORE $key $ms $value $restore_options"),
    // expiry
    (24, "EXPIRE $key $seconds $expire_condition"), (24, "PEXPIRE $key $ms $expire_condition"),
    (24, "EXPIREAT $key $at $expire_condition"), (24, "PEXPIREAT $key $at_ms $expire_condition"),
    (12, "TTL $key"), (12, "PTTL $key"), (12, "EXPIRETIME $key"), (12, "PEXPIRETIME $key"),
    (16, "PERSIST $key"),
    // connection and server, as far as a random word can do no harm
    (4, "PING"), (4, "PING $value"), (6, "ECHO $value"), (2, "SELECT $database"), (2, "TIME"),
    (2, "CLIENT SETNAME $name"), (2, "CLIENT GETNAME"), (1, "CLIENT $unknown $value"),
    (1, "CONFIG $unknown $value"),
    (4, "PUBLISH $value $value"), (2, "PUBSUB NUMSUB $keys"), (1, "PUBSUB CHANNELS $pattern"),
    (1, "PUBSUB $unknown"), (2, "MEMORY USAGE $key"), (1, "MEMORY USAGE $key SAMPLES $index"), (1, "DEBUG OBJECT $key"),
    (2, "COMMAND GETKEYS $template"), (2, "COMMAND GETKEYSANDFLAGS $template"),
    (2, "COMMAND INFO $known"),
    // what we do not know
    (6, "$unknown"), (6, "$unknown $keys"), (4, "$unknown $value $value $value $value"),
    (6, "$other_type $key"), (6, "$other_type $key $value $value"), (20, "$fixed"),
];

/// Forms in which a random word could cut the connection, stop the server or slow the run. Sent as
/// they are.
#[rustfmt::skip]
pub const FIXED: &[&str] = &[
    "AUTH", "AUTH secret", "AUTH default secret", "AUTH nobody secret", "AUTH a b c",
    "HELLO $protocol", "HELLO $protocol AUTH default secret", "HELLO $protocol SETNAME me",
    "HELLO $protocol SETNAME", "HELLO $protocol BOGUS", "HELLO", "HELLO 1", "HELLO 4",
    "HELLO three", "HELLO -2 AUTH a", "HELLO $protocol AUTH nobody secret", "RESET", "RESET now",
    "WAIT 0 0", "WAIT 1 1", "WAIT -1 5", "WAIT x 1", "WAIT 0 x", "WAIT 0 -1", "WAIT 0", "ROLE x",
    "REPLICAOF NO ONE", "SLAVEOF no one", "REPLICAOF 127.0.0.1 x", "REPLICAOF 127.0.0.1 70000",
    "REPLICAOF", "SLAVEOF 127.0.0.1 -1",
    "CLIENT", "CLIENT ID", "CLIENT ID 1", "CLIENT INFO", "CLIENT LIST", "CLIENT LIST TYPE normal",
    "CLIENT LIST TYPE bogus", "CLIENT LIST ID 1000000 1000001", "CLIENT LIST ID x",
    "CLIENT LIST ID", "CLIENT LIST BOGUS", "CLIENT HELP", "CLIENT GETNAME x", "CLIENT SETNAME",
    "CLIENT LIST TYPE $unknown", "CLIENT KILL USER $unknown", "HELLO $protocol $unknown",
    "CLIENT KILL", "CLIENT KILL 127.0.0.1:1", "CLIENT KILL ID 1000000", "CLIENT KILL ID x",
    "CLIENT KILL ID -1", "CLIENT KILL ADDR 127.0.0.1:1", "CLIENT KILL LADDR 127.0.0.1:1",
    "CLIENT KILL TYPE pubsub", "CLIENT KILL TYPE bogus", "CLIENT KILL USER nobody",
    "CLIENT KILL ID 1000000 SKIPME maybe", "CLIENT KILL BOGUS 1",
    "CLIENT KILL ID 1000000 TYPE normal SKIPME no", "CLIENT NO-EVICT ON", "CLIENT NO-EVICT off",
    "CLIENT NO-EVICT maybe", "CLIENT NO-EVICT", "CLIENT UNBLOCK 1000000", "CLIENT UNBLOCK x",
    "CLIENT UNBLOCK 1000000 ERROR", "CLIENT UNBLOCK 1000000 BOGUS", "CLIENT PAUSE x",
    "CLIENT PAUSE -1", "CLIENT PAUSE 0", "CLIENT PAUSE 0 WRITE", "CLIENT PAUSE 0 BOGUS",
    "CLIENT UNPAUSE", "CLIENT REPLY", "CLIENT REPLY on", "CLIENT REPLY maybe",
    "CONFIG", "CONFIG GET", "CONFIG GET no-such-setting", "CONFIG GET bind", "CONFIG GET TIMEOUT",
    "CONFIG GET requirepass requirepass", "CONFIG GET proto-max-bulk-le?", "CONFIG SET",
    "CONFIG SET timeout", "CONFIG SET no-such-setting 1", "CONFIG SET timeout 0",
    "CONFIG SET timeout -1", "CONFIG SET timeout never", "CONFIG SET timeout 0 timeout 0",
    "CONFIG SET maxclients -1", "CONFIG SET tcp-keepalive -1", "CONFIG SET $unknown 1",
    "CONFIG GET $unknown", "CONFIG GET Tim*", "CONFIG SET TimeOut 0", "CONFIG SET TimeOut x",
    "CONFIG SET proto-max-bulk-len 1", "CONFIG RESETSTAT",
    "CONFIG RESETSTAT now", "CONFIG REWRITE", "CONFIG HELP",
    "COMMAND", "COMMAND COUNT", "COMMAND COUNT x", "COMMAND LIST",
    "COMMAND LIST FILTERBY PATTERN no-such-*", "COMMAND LIST FILTERBY BOGUS x",
    "COMMAND LIST BOGUS", "COMMAND INFO no-such get", "COMMAND INFO", "COMMAND DOCS get",
    "COMMAND DOCS no-such", "COMMAND GETKEYS", "COMMAND GETKEYS no-such", "COMMAND GETKEYS get",
    "COMMAND GETKEYS ping", "COMMAND GETKEYS ping a b", "COMMAND GETKEYS echo",
    "COMMAND GETKEYS client", "COMMAND GETKEYS client id x", "COMMAND GETKEYS client $unknown x",
    "COMMAND GETKEYS DEBUG OBJECT k0", "COMMAND GETKEYS DEBUG $unknown", "COMMAND GETKEYS object k0",
    "COMMAND GETKEYS object freq", "COMMAND GETKEYS set k0", "COMMAND GETKEYS mset k0 v k1",
    "COMMAND GETKEYSANDFLAGS set k0 v EX 10 get", "COMMAND GETKEYSANDFLAGS set k0 get",
    "COMMAND GETKEYSANDFLAGS copy k0 k1", "COMMAND GETKEYSANDFLAGS bitfield k0 BOGUS",
    "COMMAND GETKEYSANDFLAGS", "COMMAND HELP",
    "DEBUG", "DEBUG SLEEP 0", "DEBUG SLEEP", "DEBUG SET-ACTIVE-EXPIRE 0", "DEBUG BOGUS",
    "DEBUG OBJECT", "DEBUG HELP", "DEBUG RELOAD", "DEBUG RELOAD BOGUS", "DEBUG $unknown",
    "SAVE x", "BGSAVE BOGUS", "BGSAVE SCHEDULE x", "BGREWRITEAOF x", "LASTSAVE", "LASTSAVE x",
    "MEMORY", "MEMORY USAGE", "MEMORY USAGE k0 SAMPLES", "MEMORY USAGE k0 SAMPLES x",
    "MEMORY USAGE k0 BOGUS 1", "MEMORY HELP",
    "OBJECT", "OBJECT HELP", "OBJECT $unknown k0", "OBJECT BOGUS k0", "OBJECT ENCODING", "OBJECT ENCODING k0 k1",
    "SHUTDOWN BOGUS", "SHUTDOWN NOSAVE BOGUS", "SHUTDOWN ABORT", "SHUTDOWN ABORT NOW",
    "SHUTDOWN SAVE NOSAVE",
    "INFO", "INFO server", "INFO no-such-section", "INFO server clients", "INFO everything",
    "UNSUBSCRIBE", "PUNSUBSCRIBE", "UNSUBSCRIBE nobody", "PUNSUBSCRIBE n*", "SUBSCRIBE", "PSUBSCRIBE",
    "PUBLISH news", "PUBSUB", "PUBSUB NUMPAT", "PUBSUB NUMPAT x", "PUBSUB NUMSUB", "PUBSUB CHANNELS a b",
    "PUBSUB HELP", "CONFIG SET notify-keyspace-events KQ", "CONFIG GET notify-keyspace-events",
    "SLOWLOG", "SLOWLOG LEN", "SLOWLOG LEN x", "SLOWLOG RESET", "SLOWLOG RESET x", "SLOWLOG GET -2",
    "SLOWLOG GET x", "SLOWLOG GET 1 2", "SLOWLOG GET 0", "SLOWLOG $unknown", "SLOWLOG HELP",
    "LATENCY", "LATENCY LATEST", "LATENCY LATEST x", "LATENCY HISTORY", "LATENCY HISTORY command",
    "LATENCY RESET", "LATENCY RESET command nothing", "LATENCY HISTOGRAM nothing", "LATENCY $unknown",
    "LATENCY HELP", "MONITOR x", "CONFIG SET slowlog-log-slower-than -2",
    "CONFIG SET slowlog-max-len -1", "CONFIG SET latency-monitor-threshold -1",
    "CONFIG SET latency-tracking maybe", "CONFIG SET latency-tracking-info-percentiles 101",
    "CONFIG SET latency-tracking-info-percentiles x", "CONFIG GET latency-tracking-info-percentiles",
    "CONFIG GET slowlog-max-len", "CONFIG GET slowlog-log-slower-than", "INFO commandstats", "INFO latencystats",
    "INFO errorstats",
    "TIME now", "SELECT", "DBSIZE x", "RANDOMKEY x", "PING a b", "ECHO",
];

/// True if a command of this name is among those sent.
pub fn knows(name: &str) -> bool {
    let lines = TEMPLATES.iter().map(|(_, line)| line).chain(FIXED);
    let names = lines.filter_map(|line| line.split(' ').next()).chain(COMMANDS);
    names.into_iter().any(|known| known == name)
}

/// The words, or lines of words, that a placeholder stands for: usual ones, and the odd ones that
/// are picked now and then.
#[rustfmt::skip]
pub fn choices(placeholder: &str) -> (&'static [&'static str], &'static [&'static str]) {
    match placeholder {
        "bit" => (&["0", "1"], &["2", "-1", "x", ""]),
        "unit" => (&["", "BIT", "BYTE", "bit"], &["NIBBLE"]),
        "bit_operation" => (&["AND", "OR", "XOR", "and"], &["NOT", "NAND"]),
        "bitfield_type" => (&["u1", "u4", "i4", "u8", "i8", "i5", "u16", "i16", "u31", "i32",
            "u63", "i64"], &["u64", "i65", "u0", "i", "f8", "I8", "i8x"]),
        "bitfield_offset" => (&["0", "1", "7", "8", "13", "#0", "#1", "#2", "#7", "100"],
            &["-1", "#-1", "x", "#", "4294967296", "#9223372036854775807"]),
        "overflow" => (&["WRAP", "SAT", "FAIL", "fail", "sat"], &["NONE"]),
        "lcs_options" => (&["", "LEN", "IDX", "IDX WITHMATCHLEN", "IDX MINMATCHLEN 2",
            "IDX MINMATCHLEN 3 WITHMATCHLEN"],
            &["LEN IDX", "MINMATCHLEN", "MINMATCHLEN x", "IDX MINMATCHLEN -1", "BOGUS"]),
        "type" => (&["string", "STRING", "list", "hash"], &["bogus"]),
        "cursor" => (&["0", "0", "1", "99"], &["-1", "x", "", "18446744073709551615",
            "18446744073709551616"]),
        "scan_options" => (&["COUNT 1", "MATCH k*", "TYPE string", "COUNT 2 COUNT 3"],
            &["COUNT 0", "COUNT -1", "COUNT x", "COUNT", "MATCH", "BOGUS 1"]),
        "copy_options" => (&["", "REPLACE", "DB 0", "DB 0 REPLACE"], &["DB 1", "DB x", "DB",
            "BOGUS", "REPLACE REPLACE"]),
        "restore_options" => (&["", "REPLACE", "ABSTTL", "IDLETIME 1", "FREQ 1"],
            &["IDLETIME -1", "FREQ 256", "IDLETIME 1 FREQ 1", "BOGUS"]),
        "expire_condition" => (&["", "", "NX", "XX", "GT", "LT", "XX GT", "XX LT"], &["NX XX",
            "GT LT", "NX GT", "BOGUS", "gt gt"]),
        "flush_mode" => (&["", "ASYNC", "SYNC"], &["LATER", "SYNC ASYNC"]),
        "database" => (&["0", "00"], &["1", "16", "-1", "x", "9223372036854775808"]),
        "name" => (&["me", "worker-1", "!~", ""], &["new\u{7f}line", "caf\u{e9}"]),
        other => panic!("no placeholder ${other}"),
    }
}

pub const ODD_VALUES: &[&str] = &[
    "",
    " 1",
    "1 ",
    "+1",
    "-0",
    "0x10",
    "007",
    "1.0",
    "1e3",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "123456789012345678901234567890",
    "(nil)",
    "ERR no",
    "-ERR",
    "*1",
    "nan",
    "inf",
    "\r\n",
];

/// None of them is a small duration or a large offset; see `is_safe`.
pub const ODD_INTS: &[&str] = &[
    "",
    "x",
    " 1",
    "1 ",
    "+1",
    "-0",
    "00",
    "1.0",
    "1e3",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "99999999999999999999999",
    "0x10",
    "-",
];

pub const ODD_FLOATS: &[&str] = &[
    "",
    "x",
    "nan",
    "inf",
    "-inf",
    "infinity",
    " 1.5",
    "1.5 ",
    "+1.5",
    "-0.0",
    ".5",
    "5.",
    "1e",
    "1e17",
    "1e-17",
    "1e18",
    "123456789.123456789",
    "0.1",
    "0.2",
    "0.30000000000000004",
    "3.0e3",
    "1e400",
    "-1e400",
    "1.7976931348623157e308",
    "1,5",
    "0.00000000000000001",
];

pub const ODD_DURATIONS: &[&str] =
    &["0", "-1", "-100", "x", "", "9223372036854775807", "-9223372036854775808", "1.5"];

pub const ODD_TIMES: &[&str] = &["0", "-1", "x", "", "9223372036854775807", "9223372036854775808"];

/// Options that end up after commands that do not know them, or have them already.
pub const STRAY_OPTIONS: &[&str] =
    &["NX", "XX", "GT", "LT", "GET", "BIT", "BYTE", "REPLACE", "COUNT", "MATCH"];

pub const PATTERNS: &[&[u8]] = &[
    b"*",
    b"k*",
    b"k?",
    b"k1?",
    b"k[0-4]",
    b"k[^0-4]",
    b"k[4-0]*",
    b"[",
    b"[k",
    b"k[",
    b"k\\1",
    b"\\*\\[k\\]\\?",
    b"",
    b"?*?",
    b"*key*",
    b"\x00*",
    b"**k**1**",
    b"k[\\0-3]",
    b"K0",
    b"*\\",
    b"[^",
    b"k[]*",
    b"k[0-",
    b"*[0-9][0-9]",
    b"?ey:??",
];

pub const UNKNOWN: &[&[u8]] =
    &[b"GETT", b"foo", b"", b"se t", b"\x00\xff", b"a\r\nb", b"'quoted'", b"get|set", &[b'X'; 200]];
