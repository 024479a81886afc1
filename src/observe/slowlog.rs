//! SLOWLOG: the commands that took long. What is kept, and when, is in `probe.rs`.

use super::observed::write_all;
use crate::engine::Engine;
use crate::error::Failure;
use crate::protocol::{Args, Dialect, Reply, integer};

/// How many entries are shown unless a number is given.
const COUNT_DEFAULT: usize = 10;

/// `SLOWLOG GET [count] [TIMELINE]`. Programs that know Redis get its six elements; TIMELINE adds a
/// seventh. People get it anyway.
pub fn get(engine: &Engine, args: Args<'_>, reply: &mut Reply) -> Result<(), Failure> {
    let with_timeline = args.is(args.len() - 1, "timeline");
    let counts = args.len() - 2 - usize::from(with_timeline);
    let count = match counts {
        0 => COUNT_DEFAULT,
        1 => count(&args[2])?,
        _ => {
            let beginning = "ERR unknown subcommand or wrong number of arguments for '";
            return Err(Failure::quoting(beginning, &args[1], "'. Try SLOWLOG HELP."));
        }
    };
    let as_text = reply.dialect() == Dialect::Text;
    write_all(&engine.slowlog.newest(count), reply, with_timeline, as_text);
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

pub fn len(engine: &Engine, reply: &mut Reply) -> Result<(), Failure> {
    reply.count(engine.slowlog.len());
    Ok(())
}

pub fn reset(engine: &Engine, reply: &mut Reply) -> Result<(), Failure> {
    engine.slowlog.clear();
    reply.ok();
    Ok(())
}
