//! The commands of an append-only file.
//!
//! Each one runs as in the server: its row of the table, its handler, one transaction.
//!
//! As in a Redis that is loading, no key expires meanwhile: Redis has logged a DEL for each key that
//! expired, and a command that saw the key in Redis must see it here. So the clock of these transactions
//! stands at 0, except for a command with a time that is relative to now, which Redis never writes.

use super::left_out::{copied, is_between_databases, written};
use super::{BULK_LEN_MAX, CHUNK_BYTES, Failed, Import, shown};
use crate::clock::UnixMillis;
use crate::commands::{Call, lock};
use crate::engine::Run;
use crate::protocol::{Args, Decoder, Dialect, Limits, Reply, Step};
use std::io::Read;

impl Import {
    /// Runs all commands. `offset` is that of the source's first byte in the file.
    pub(super) fn read_commands(
        &mut self,
        source: &mut impl Read,
        mut window_offset: u64,
        progress: &mut impl FnMut(u64),
    ) -> Result<(), Failed> {
        let mut decoder = Decoder::default();
        // The part of the file from `window_offset` on; what is before `start` in it is done.
        let (mut window, mut start) = (Vec::new(), 0);
        loop {
            let offset = window_offset + start as u64;
            if let Some(len) =
                self.step(&mut decoder, &window[start..]).map_err(|text| (offset, text))?
            {
                start += len;
                continue;
            }
            progress(offset);
            window.drain(..start);
            (window_offset, start) = (offset, 0);
            let mut chunk = source.by_ref().take(CHUNK_BYTES as u64);
            if chunk.read_to_end(&mut window).map_err(|error| (offset, error.to_string()))? == 0 {
                break;
            }
        }
        if !window.is_empty() || self.in_multi {
            let text = "the file ends within a command or a transaction, as after a crash; \
                        redis-check-aof --fix cuts it to what is whole";
            return Err((window_offset, text.into()));
        }
        Ok(())
    }

    /// Runs the command or skips the annotation at the front of `bytes`. Returns its length, or None if
    /// it is incomplete.
    fn step(&mut self, decoder: &mut Decoder, bytes: &[u8]) -> Result<Option<usize>, String> {
        match bytes {
            [] => return Ok(None),
            [b'#', ..] => return Ok(bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1)),
            [b'*', ..] => {}
            _ => return Err("no command in RESP form".into()),
        }
        let limits = Limits { bulk_len_max: BULK_LEN_MAX, unauthenticated: false };
        match decoder.step(bytes, limits) {
            Step::NeedMore => Ok(None),
            Step::Resp(len) => {
                let args = decoder.args(bytes);
                self.run(args).map_err(|text| format!("{}: {text}", describe(args)))?;
                Ok(Some(len))
            }
            Step::Fatal(failure) => Err(failure.to_string()),
            _ => Err("no command in RESP form".into()),
        }
    }

    fn run(&mut self, args: Args<'_>) -> Result<(), String> {
        self.commands_run += 1;
        if args.is(0, "select") {
            return self.enter(database(args).ok_or("not the number of a database")?);
        }
        if args.is(0, "multi") || args.is(0, "exec") {
            self.in_multi = args.is(0, "multi");
            return Ok(());
        }
        if args.is(0, "function") {
            self.left_out.libraries += 1;
            return Ok(());
        }
        if self.wanted.is_some() && is_between_databases(args) {
            return Err(
                "a command on two databases; write a new dump.rdb in Redis, and import it".into()
            );
        }
        if self.is_elsewhere() && !args.is(0, "flushall") {
            self.left_out.elsewhere += 1;
            return Ok(());
        }
        if self.leaves_out(args)? { Ok(()) } else { self.run_as_the_server(args) }
    }

    /// Leaves out a command that wrote a key of another type. Returns false if it is to be run.
    fn leaves_out(&mut self, args: Args<'_>) -> Result<bool, String> {
        if let Some((of_type, key)) = written(args) {
            self.leave_out(of_type, key)?;
            return Ok(true);
        }
        let Some((from, to)) = copied(args) else { return Ok(false) };
        let is_here = self.store.begin([from].into_iter(), false, || UnixMillis(0)).exists(from);
        // Redis has logged it, so the key was there.
        let of_type = if is_here { None } else { self.left_out.type_of(from) };
        of_type.map_or(Ok(false), |of_type| self.leave_out(of_type, to).map(|()| true))
    }

    fn run_as_the_server(&mut self, args: Args<'_>) -> Result<(), String> {
        let found = self.commands.resolve(args).map_err(|failure| failure.to_string())?;
        let (command, Run::Data(handler)) = (found.command, found.run) else {
            return Err("a command that changes no data".into());
        };
        let now = if is_relative(args) { UnixMillis::now() } else { UnixMillis(0) };
        let mut tx = lock(&self.store, command, args, || now);
        let mut reply = Reply::new(Dialect::Resp2);
        let value_len_max = BULK_LEN_MAX as usize;
        let mut call = Call { tx: &mut tx, reply: &mut reply, value_len_max, name: command.name };
        handler(&mut call, args).map_err(|failure| failure.to_string())
    }
}

fn database(args: Args<'_>) -> Option<u64> {
    std::str::from_utf8(args.get(1)?).ok()?.parse().ok()
}

/// True if the command has a time that counts from now.
fn is_relative(args: Args<'_>) -> bool {
    let by_name = ["expire", "pexpire", "setex", "psetex"].iter().any(|name| args.is(0, name));
    // In SET the first option is the fourth word, in GETEX the third.
    let from = if args.is(0, "set") { 3 } else { 2 };
    let may_have_options = args.is(0, "set") || args.is(0, "getex");
    by_name
        || may_have_options && (from..args.len()).any(|at| args.is(at, "ex") || args.is(at, "px"))
}

/// The first words of a command.
fn describe(args: Args<'_>) -> String {
    let text = args.from(0).take(3).map(shown).collect::<Vec<_>>().join(" ");
    if args.len() > 3 { text + " …" } else { text }
}
