//! The rows of the commands about leaders and followers. What runs them is in `engine`.

use super::builtins::row;
use super::{Builtin, Command, Family, Flags, Run};
use Family::Replication;

const FAST: Flags = Flags::FAST.and(Flags::LOADING);
const ADMIN: Flags = Flags::ADMIN.and(Flags::LOADING);
const TAKES_OVER: Flags = ADMIN.and(Flags::NO_MULTI).and(Flags::CONNECTION);

/// The family's rows.
pub const COMMANDS: &[Command] = &[
    row("lastseq", 1, FAST, Replication, Run::Engine(Builtin::Lastseq)).help(
        "",
        "A token of this connection's last write, for WAITSEQ on another node.",
        "SET name Ada; LASTSEQ -> (a token)",
    ),
    row("waitseq", 3, Flags::LOADING, Replication, Run::Engine(Builtin::Waitseq)).help(
        "token milliseconds",
        "Waits until this node has the write of a token: then it can be read here.",
        "WAITSEQ 0.00000000:0 1000 -> OK",
    ),
    row("wait", 3, Flags::NONE, Replication, Run::Engine(Builtin::Wait)).help(
        "numreplicas milliseconds",
        "Waits until so many followers have this connection's writes; answers how many do.",
        "SET name Ada; WAIT 0 1000 -> 0",
    ),
    row("waitaof", 4, Flags::NONE, Replication, Run::Engine(Builtin::Waitaof)).help(
        "numlocal numreplicas milliseconds",
        "Waits until this connection's writes are on the disk, here and on so many followers.",
        "WAITAOF 1 0 1000 -> 1) 1\n2) 0",
    ),
    row("role", 1, FAST, Replication, Run::Engine(Builtin::Role)).help(
        "",
        "Whether this node leads or follows, and how far all are.",
        "ROLE -> (master or slave, and positions)",
    ),
    row("replicaof", 3, ADMIN, Replication, Run::Engine(Builtin::Replicaof)).help(
        "host port | NO ONE",
        "Makes this node follow another, or lead.",
        "REPLICAOF NO ONE -> OK",
    ),
    row("slaveof", 3, ADMIN, Replication, Run::Engine(Builtin::Replicaof)).help(
        "host port | NO ONE",
        "REPLICAOF under its old name.",
        "SLAVEOF NO ONE -> OK",
    ),
    row("promote", -1, ADMIN.and(Flags::NO_MULTI), Replication, Run::Engine(Builtin::Promote)).help(
        "[milliseconds]",
        "Makes this follower the leader without losing a write: the old leader hands over and follows.",
        "PROMOTE -> OK this node leads already",
    ),
    row("replicate", -6, TAKES_OVER, Replication, Run::Engine(Builtin::Replicate))
        .help(
            "node-id seq epoch crc port [host [run-id]]",
            "What a follower sends: from here on this connection carries the log.",
            "REPLICATE 0123456789abcdef0123456789abcdef01234567 0 0 00000000 0 -> (CONTINUE, and the log)",
        ),
];
