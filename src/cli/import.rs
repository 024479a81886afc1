//! `kvstore import`: makes a data directory from append-only files of Redis.
//!
//! Each command in the files runs as in the server: its row of the table, its handler, one transaction.
//! After the last one, a directory is made with a base of the resulting state.
//!
//! As in a Redis that is loading, no key expires meanwhile: Redis has logged a DEL for each key that
//! expired, and a command that saw the key in Redis must see it here. So the clock of these transactions
//! stands at 0, except for a command with a time that is relative to now, which Redis never writes.

use super::export::each_part;
use super::{Arguments, Error, Progress, Tool, at, make_directory, say};
use crate::admin;
use crate::aof::base::BaseWriter;
use crate::aof::disk::{Directory, Disk};
use crate::aof::files::segment_name;
use crate::aof::mark;
use crate::aof::outline::Outline;
use crate::aof::record::{Epoch, Position};
use crate::clock::UnixMillis;
use crate::commands::{Call, lock};
use crate::engine::{Commands, Run};
use crate::protocol::{Args, Decoder, Dialect, Limits, Reply, Step, quote};
use crate::random;
use crate::store::Store;
use crate::store::effect::Seq;
use std::fs::File;
use std::io::Read;
use std::path::Path;

pub(super) const TOOL: Tool = Tool {
    name: "import",
    help: "\
kvstore import FILE... DIR

Makes the data directory DIR, which must not exist or be empty, from an append-only file of Redis in
RESP form. Redis 7 keeps several, in appendonlydir: name the base and all incr files, in this order.

Redis may write its base as RDB, which cannot be imported. To have it written as commands:
  redis-cli CONFIG SET aof-use-rdb-preamble no
  redis-cli BGREWRITEAOF        (and wait until INFO says aof_rewrite_in_progress:0)

Strings in database 0 only. On anything else the import ends with the file's byte offset and the
command, and nothing is made.
",
    words: (2, usize::MAX),
    switches: &[],
    values: &[],
    run,
};

/// The longest argument; Redis's own limit.
const BULK_LEN_MAX: u64 = 512 << 20;
const CHUNK_BYTES: usize = 1 << 20;

fn run(arguments: &Arguments) -> Result<(), Error> {
    let (dir, sources) = arguments.words.split_last().expect("the row says at least two words");
    let dir = Path::new(dir);
    let (keys, commands) = make_directory(dir, |unfinished| {
        let mut import = Import::new();
        for path in sources {
            import.read(Path::new(path))?;
        }
        Ok((write_base(&import.store, unfinished)?, import.commands_run))
    })?;
    say(format!("{}: {keys} keys from {commands} commands", dir.display()))
}

/// The state after the commands so far.
struct Import {
    store: Store,
    commands: Commands,
    commands_run: u64,
    /// Between MULTI and EXEC. The commands run at once: if EXEC is missing, the import fails.
    in_multi: bool,
}

impl Import {
    fn new() -> Import {
        let commands = admin::commands();
        Import { store: Store::default(), commands, commands_run: 0, in_multi: false }
    }

    fn read(&mut self, path: &Path) -> Result<(), Error> {
        let mut file = File::open(path).map_err(at(path))?;
        let file_len = file.metadata().map_err(at(path))?.len();
        let mut progress = Progress::new(format!("reading {}", path.display()));
        let mut decoder = Decoder::default();
        // The part of the file from `window_offset` on; what is before `start` in it is done.
        let (mut window, mut window_offset, mut start) = (Vec::new(), 0u64, 0);
        let failed = |offset: u64, text: &str| {
            Err(Error::Failed(format!("{}, byte {offset}: {text}", path.display())))
        };
        loop {
            let offset = window_offset + start as u64;
            match self.step(&mut decoder, &window[start..]) {
                Ok(Some(len)) => start += len,
                Ok(None) => {
                    progress.update(offset, file_len);
                    window.drain(..start);
                    (window_offset, start) = (offset, 0);
                    let mut chunk = file.by_ref().take(CHUNK_BYTES as u64);
                    if chunk.read_to_end(&mut window).map_err(at(path))? == 0 {
                        break;
                    }
                }
                Err(text) => return failed(offset, &text),
            }
        }
        if !window.is_empty() || self.in_multi {
            let text = "the file ends within a command or a transaction, as after a crash; \
                        redis-check-aof --fix cuts it to what is whole";
            return failed(window_offset, text);
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
            _ if bytes.starts_with(b"REDIS") => {
                return Err(
                    "an RDB preamble; 'kvstore import --help' tells how to have Redis write \
                            commands instead"
                        .into(),
                );
            }
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
            return if args.is(1, "0") { Ok(()) } else { Err("only database 0 is taken".into()) };
        }
        if args.is(0, "multi") || args.is(0, "exec") {
            self.in_multi = args.is(0, "multi");
            return Ok(());
        }
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
    /// Enough to find it in the file.
    const SHOWN_MAX: usize = 40;
    let words = args.from(0).take(3).map(|word| quote(&word[..word.len().min(SHOWN_MAX)]));
    let text = words.collect::<Vec<_>>().join(" ");
    if args.len() > 3 { text + " …" } else { text }
}

/// Writes a base of record 1, as if that record had set all keys. A base before the first record would
/// not be missed if it was lost, and a follower without records would not ask for it. The crc is random,
/// so the histories of two imports are never taken for one.
fn write_base(store: &Store, dir: &Path) -> Result<u64, Error> {
    let first = Position { seq: Seq(1), epoch: Epoch(0), crc: random::generator().u32(..) };
    let disk = Directory::open(dir).map_err(at(dir))?;
    let mut base = BaseWriter::begin(&disk, first, &Outline::default()).map_err(at(dir))?;
    let now = UnixMillis::now();
    let keys = each_part(store, |payload, keys| base.add(payload, keys, now).map_err(at(dir)))?;
    base.finish(first.seq).map_err(at(dir))?;
    disk.create(&segment_name(Seq(first.seq.0 + 1))).map_err(at(dir))?;
    base.publish().map_err(at(dir))?;
    mark::write(dir, first.seq).map_err(at(dir))?;
    Ok(keys)
}
