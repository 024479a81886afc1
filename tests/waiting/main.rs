//! Commands that wait: their time after the wait, the things that stand still during a pause, and the ways to
//! end a wait.
//!
//! A command that ran with the clock of the moment at which it was sent made keys that were born expired
//! (`CLIENT PAUSE 1500 WRITE`, then `SET k v PX 1000`), and showed keys that had expired while it waited.

mod after_a_wait;
mod blocked;
#[path = "../common/mod.rs"]
mod common;
mod paused;
mod recovered_by_time;
mod table;
mod waits;

use common::resp::{Resp, Value};
use std::time::SystemTime;

/// The wall clock in milliseconds, as the server reads it.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("past 1970").as_millis() as i64
}

fn call(client: &mut Resp, line: &str) -> Value {
    client.call(&line.split(' ').collect::<Vec<_>>())
}
