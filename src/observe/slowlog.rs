//! SLOWLOG: the commands that took long. What is kept, and when, is in `probe.rs`.

use super::observed::write_all;
use crate::commands::Family::Server;
use crate::engine::table::{ADMIN, Row, ServerCall, container, sub, subcommands};
use crate::error::Failure;
use crate::protocol::{Args, Dialect, integer};

#[rustfmt::skip]
pub const COMMANDS: &[Row] = &[
    container(Server, "slowlog", ADMIN, subcommands, "Shows slow commands and where their time went.",
        "SLOWLOG LEN -> 0"),
    sub(Server, "slowlog|get", -2, ADMIN, get, "[count] [TIMELINE]",
        "Returns the newest entries, 10 by default; -1 returns all."),
    sub(Server, "slowlog|help", 2, ADMIN, subcommands, "", "Lists the subcommands."),
    sub(Server, "slowlog|len", 2, ADMIN, len, "", "Returns the number of entries."),
    sub(Server, "slowlog|reset", 2, ADMIN, reset, "", "Deletes all entries."),
];

/// How many entries are shown unless a number is given.
const COUNT_DEFAULT: usize = 10;

/// `SLOWLOG GET [count] [TIMELINE]`. Programs that know Redis get its six elements; TIMELINE adds a
/// seventh. People get it anyway.
fn get(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let with_timeline = args.is(args.len() - 1, "timeline");
    let counts = args.len() - 2 - usize::from(with_timeline);
    let count = match counts {
        0 => COUNT_DEFAULT,
        1 => count(&args[2])?,
        _ => return Err(Failure::misused("SLOWLOG", &args[1])),
    };
    let as_text = call.reply.dialect() == Dialect::Text;
    write_all(&call.engine.instruments.slowlog.newest(count), call.reply, with_timeline, as_text);
    Ok(())
}

/// A number of entries; -1 means all.
pub fn count(word: &[u8]) -> Result<usize, Failure> {
    match integer(word) {
        Some(-1) => Ok(usize::MAX),
        Some(count) if count >= 0 => Ok(count as usize),
        _ => Err(Failure::fixed("ERR count should be greater than or equal to -1")),
    }
}

fn len(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    call.reply.count(call.engine.instruments.slowlog.len());
    Ok(())
}

fn reset(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    call.engine.instruments.slowlog.clear();
    call.ok()
}
