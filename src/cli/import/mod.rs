//! `kvstore import`: makes a data directory from what Redis has on its disk.
//!
//! - `manifest` finds the files of an `appendonlydir`.
//! - `values` takes the strings of a file in RDB form: `dump.rdb`, a base, the preamble of an append-only file.
//! - `commands` runs those of an append-only file.
//! - `left_out` counts what is left out on demand.
//!
//! After the last one, a directory is made with a base of the resulting state.

mod commands;
mod left_out;
mod manifest;
mod values;

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
use crate::engine::Commands;
use crate::protocol::quote;
use crate::random;
use crate::rdb::file::MAGIC;
use crate::store::Store;
use crate::store::effect::{Effect, Seq};
use left_out::LeftOut;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

pub(super) const TOOL: Tool = Tool {
    name: "import",
    help: "\
kvstore import SOURCE... DIR [--skip-other-types] [--db N]

Makes the data directory DIR, which must not exist or be empty, from what Redis keeps on its disk.
A SOURCE is one of these; several are read one after the other:
  dump.rdb         after SAVE, or a copy that BGSAVE made
  appendonlydir    the whole directory of Redis 7; stop Redis first, or no writes may come meanwhile
  appendonly.aof   the file of Redis 6 and older, with or without an RDB preamble

Strings in database 0 only. On anything else the import ends with the place in the file, and the key
or the command, and nothing is made. Libraries of functions are left out, and counted.

  --skip-other-types   leave out lists, sets, sorted sets, hashes, streams and values of modules;
                       their keys are counted. So is a HyperLogLog, if a command on one is logged
  --db N               take database N instead of 0, and leave out the others

From a Redis that runs, MIGRATE moves keys to a server that runs; from here to Redis, kvstore export.
",
    words: (2, usize::MAX),
    switches: &["skip-other-types"],
    values: &["db"],
    run,
};

/// The longest string; Redis's own limit.
const BULK_LEN_MAX: u64 = 512 << 20;
const CHUNK_BYTES: usize = 1 << 20;

fn run(arguments: &Arguments) -> Result<(), Error> {
    let (dir, sources) = arguments.words.split_last().expect("the row says at least two words");
    let dir = Path::new(dir);
    let mut import = Import::new(arguments)?;
    let keys = make_directory(dir, |unfinished| {
        for source in sources {
            for file in manifest::files(Path::new(source))? {
                import.read(&file)?;
            }
        }
        write_base(&import.store, unfinished)
    })?;
    let (dir, commands) = (dir.display(), import.commands_run);
    match import.values_read {
        0 => say(format!("{dir}: {keys} keys from {commands} commands"))?,
        values => say(format!("{dir}: {keys} keys from {values} values and {commands} commands"))?,
    }
    import.left_out.lines().iter().try_for_each(|line| say(format!("left out: {line}")))
}

/// The state after what has been read so far.
struct Import {
    store: Store,
    commands: Commands,
    commands_run: u64,
    /// Strings taken from files in RDB form.
    values_read: u64,
    /// Between MULTI and EXEC. The commands run at once: if EXEC is missing, the import fails.
    in_multi: bool,
    /// The database that what comes next is in.
    database: u64,
    /// The database that was asked for; without, another one than 0 ends the import.
    wanted: Option<u64>,
    skip_other_types: bool,
    left_out: LeftOut,
}

impl Import {
    fn new(arguments: &Arguments) -> Result<Import, Error> {
        let number = |text: &str| {
            text.parse()
                .map_err(|_| Error::Usage(format!("--db {text}: not the number of a database")))
        };
        Ok(Import {
            store: Store::default(),
            commands: admin::commands(),
            commands_run: 0,
            values_read: 0,
            in_multi: false,
            database: 0,
            wanted: arguments.value("db").map(number).transpose()?,
            skip_other_types: arguments.has("skip-other-types"),
            left_out: LeftOut::default(),
        })
    }

    /// Reads a file. Each begins in database 0.
    fn read(&mut self, path: &Path) -> Result<(), Error> {
        let file = File::open(path).map_err(at(path))?;
        let file_len = file.metadata().map_err(at(path))?.len();
        let mut progress = Progress::new(format!("reading {}", path.display()));
        let mut progress = |offset| progress.update(offset, file_len);
        let mut source = BufReader::with_capacity(CHUNK_BYTES, file);
        let failed = |(offset, text): Failed| {
            Error::Failed(format!("{}, byte {offset}: {text}", path.display()))
        };
        self.database = 0;
        let mut offset = 0;
        if source.fill_buf().map_err(at(path))?.starts_with(MAGIC) {
            offset = self.read_values(&mut source, &mut progress).map_err(failed)?;
            self.database = 0;
        }
        self.read_commands(&mut source, offset, &mut progress).map_err(failed)
    }

    /// Enters a database. Without --db, another one than 0 is an error.
    fn enter(&mut self, database: u64) -> Result<(), String> {
        self.database = database;
        if self.wanted.is_none() && database != 0 {
            return Err(format!(
                "only database 0 is taken; --db {database} takes this one instead"
            ));
        }
        Ok(())
    }

    fn is_elsewhere(&self) -> bool {
        self.database != self.wanted.unwrap_or(0)
    }

    /// Leaves out a key of another type, which replaces a string of this name. An error unless that was asked for.
    fn leave_out(&mut self, of_type: &'static str, key: &[u8]) -> Result<(), String> {
        if !self.skip_other_types {
            let key = shown(key);
            return Err(format!("{key} is a {of_type}; --skip-other-types leaves it out"));
        }
        self.left_out.add(of_type, key);
        self.delete(key);
        Ok(())
    }

    fn delete(&self, key: &[u8]) {
        let keys = [key];
        let mut tx = self.store.begin_several(keys.into_iter(), true, || UnixMillis(0));
        if tx.exists(key) {
            tx.apply(Effect::Del { keys: &keys });
        }
    }
}

/// Where in the file an import failed, and why.
type Failed = (u64, String);

/// The beginning of a word, in quotes: enough to find it.
fn shown(word: &[u8]) -> String {
    const SHOWN_MAX: usize = 40;
    quote(&word[..word.len().min(SHOWN_MAX)])
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
