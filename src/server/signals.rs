//! The thread `signals`: what signals do.
//!
//! | signal | what it does |
//! |---|---|
//! | SIGINT, SIGTERM | ends the server in order; while it is ending, at once |
//! | SIGHUP, started at a terminal | the terminal has closed: ends the server in order |
//! | SIGHUP, started without a terminal | is logged and ignored, as in Redis: a supervisor or logrotate sent it |
//! | SIGHUP, ignored already when the server started | stays ignored: that is what nohup is for |
//!
//! "At a terminal" means that standard input, output or error is one.

use super::StartError;
use super::threads::Thread;
use crate::engine::Engine;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use std::io::{IsTerminal, stderr, stdin, stdout};
use std::sync::Arc;
use std::{fs, io};

/// The thread, and the way to end it.
pub struct SignalThread {
    handle: Handle,
    thread: Thread,
}

impl SignalThread {
    /// Takes signals from now on.
    pub fn start(engine: &Arc<Engine>) -> Result<SignalThread, StartError> {
        let failed = |error: io::Error| StartError::Resource("handle signals", error.to_string());
        let has_terminal =
            stdin().is_terminal() || stdout().is_terminal() || stderr().is_terminal();
        let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
        if !ignores_hangup() {
            signals.add_signal(SIGHUP).map_err(failed)?;
        }
        let handle = signals.handle();
        let thread = super::spawn("signals", engine, move |engine| {
            signals.forever().for_each(|signal| receive(engine, signal, has_terminal));
        })?;
        Ok(SignalThread { handle, thread })
    }

    /// Takes no more signals.
    pub fn end(self) {
        self.handle.close();
        self.thread.wait(None);
    }
}

fn receive(engine: &Engine, signal: i32, has_terminal: bool) {
    if signal == SIGHUP && !has_terminal {
        log::warn!(
            "SIGHUP is ignored: nothing is read again; CONFIG SET changes settings, SIGTERM ends the server"
        );
    } else if signal == SIGHUP {
        // A closing terminal may send several: they must not end the server at once.
        log::info!("SIGHUP: the terminal has closed");
        engine.shutdown.request();
    } else if !engine.shutdown.request() {
        log::warn!("second signal: exiting at once");
        std::process::exit(1);
    }
}

/// True if this process was started with SIGHUP ignored, where the kernel tells.
fn ignores_hangup() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 << (SIGHUP - 1) != 0)
}
