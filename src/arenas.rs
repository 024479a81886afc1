//! glibc's malloc, kept to as many arenas as there are cores.
//!
//! glibc gives each new thread an arena to allocate from, until there are eight for each core; what is
//! free in one arena is of no use to a thread of another. A server with a thread per connection spreads
//! its data over all of them, and each has holes of its own. Measured on two cores, with values of 10
//! bytes to 64 KiB from 32 connections under a limit of 100 MB: 215 MiB resident with the usual 16
//! arenas, 140 with two, at the same CPU time per request; no more than two threads run at a time anyway.
//! (jemalloc needed more than glibc for the first 300 MB of it, mimalloc four times as much: they keep
//! what a thread frees for that thread.)
//!
//! The number is read from the environment, once, before `main`. So the server starts itself again with
//! it set, in place of the process that it is: same id, same arguments, and a millisecond is lost. The
//! call for it, `mallopt`, is not to be had without `unsafe`. Who sets MALLOC_ARENA_MAX has the say.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::{env, thread};

const VARIABLE: &str = "MALLOC_ARENA_MAX";
/// More would help no more than this many threads at a time, and lose more.
const ARENAS_MAX: usize = 8;

/// Starts this program again with few arenas, unless that is so already. Returns only if there is nothing
/// to do, or if it cannot be done, which costs memory and no more.
pub fn limit() {
    if cfg!(not(target_env = "gnu")) || env::var_os(VARIABLE).is_some() {
        return;
    }
    let (Ok(program), mut args) = (env::current_exe(), env::args_os()) else { return };
    let arenas = thread::available_parallelism().map_or(1, usize::from).min(ARENAS_MAX);
    let mut again = Command::new(program);
    if let Some(name) = args.next() {
        again.arg0(name);
    }
    let error = again.args(args).env(VARIABLE, arenas.to_string()).exec();
    eprintln!(
        "kvstore: cannot start again with {VARIABLE}={arenas}, so more memory is lost: {error}"
    );
}
