//! Tools for a data directory, without a server: inspect it, repair it, copy it. One for a cluster, `cluster`, which asks
//! its nodes. And two that print what the tables know, `completions` and `man`.
//!
//! | tool | reads | writes | while a server runs |
//! |---|---|---|---|
//! | `check` | base and segments, as recovery does | nothing; with `--repair`, cuts | yes; `--repair` no |
//! | `log` | the same, record by record | lines for people | yes |
//! | `export` | the same, up to a point | one file for Redis | yes |
//! | `import` | `dump.rdb` and append-only files of Redis | a new directory | the directory is new |
//! | `recover` | as `export` | a new directory | yes |
//! | `cluster forget` | as `check` | the file `node` | no |
//!
//! The tools read through the log's scanner and recovery, so they never disagree with the server about
//! what is intact. Their output appears under its name only when it is complete and on the disk.
//!
//! A running server may compact the log while a tool reads it. A reader that then fails begins again
//! (`steadily`). A last record that is being written counts as not there yet, as after a crash.

mod arguments;
mod check;
mod cluster;
mod completions;
mod export;
mod follow;
mod forget;
mod import;
mod man;
mod point;
mod printer;
mod recover;
mod show;

use crate::aof::dir_lock;
use crate::aof::files;
use crate::aof::recovery::RecoveryError;
use crate::file_error::describe;
use crate::replace::sync_parent;
use arguments::Arguments;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The beginning of `kvstore --help`, before the options of the server.
pub const OVERVIEW: &str = "\
kvstore [serve] [OPTION]...                 the server
kvstore check DIR [--repair]                is this data intact? --repair keeps what is
kvstore log DIR [--key K] [--follow] ...    the history, readable
kvstore export DIR FILE [--until POINT]     one file that Redis loads
kvstore import SOURCE... DIR                the reverse, of dump.rdb and appendonlydir too
kvstore recover DIR NEWDIR --until POINT    the data as it was at a record or a time
kvstore cluster HOST:PORT [--watch]         who leads, who follows, who is missing
kvstore cluster forget DIR                  takes a directory out of its cluster
kvstore completions bash|zsh|fish           what your shell completes after Tab
kvstore man                                 all of this as a manual page
Each tool explains itself: kvstore check --help. Here is the server's help.

";

/// A tool: a row of the table of subcommands.
pub struct Tool {
    name: &'static str,
    help: &'static str,
    /// The least and the greatest number of words besides options.
    words: (usize, usize),
    /// Options that stand alone.
    switches: &'static [&'static str],
    /// Options with a value.
    values: &'static [&'static str],
    run: fn(&Arguments) -> Result<(), Error>,
}

static TOOLS: [Tool; 8] = [
    check::TOOL,
    show::TOOL,
    export::TOOL,
    import::TOOL,
    recover::TOOL,
    cluster::TOOL,
    completions::TOOL,
    man::TOOL,
];

/// The reason why a tool does not end with exit code 0.
#[derive(Debug)]
enum Error {
    /// Damage was found, or no leader, and the output says so: exit code 1.
    Damaged,
    /// The arguments are wrong: exit code 2.
    Usage(String),
    /// Another failure: exit code 1.
    Failed(String),
    /// The reader of our output has left, so there is nothing to report to: exit code 0 after all.
    ReaderLeft,
}

impl From<RecoveryError> for Error {
    fn from(error: RecoveryError) -> Error {
        Error::Failed(error.to_string())
    }
}

/// The tool with this name.
pub fn find(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name == name)
}

impl Tool {
    /// Runs the tool and returns the process's exit code.
    pub fn run(&self, args: &[String]) -> ExitCode {
        let name = self.name;
        if args.iter().any(|arg| arg == "--help" || arg == "-h") {
            print(self.help);
            return ExitCode::SUCCESS;
        }
        let result = Arguments::parse(self, args).and_then(|arguments| (self.run)(&arguments));
        let (code, text) = match result {
            Ok(()) | Err(Error::ReaderLeft) => return ExitCode::SUCCESS,
            Err(Error::Damaged) => return ExitCode::from(1),
            Err(Error::Failed(text)) => (1, text),
            Err(Error::Usage(text)) => (2, format!("{text} (kvstore {name} --help)")),
        };
        eprintln!("kvstore {name}: {text}");
        ExitCode::from(code)
    }
}

/// Prints to standard output. A reader that has left (`kvstore --help | head -1`) is not an error.
pub fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// Turns an error of the operating system into one that names the file.
fn at(path: &Path) -> impl Fn(io::Error) -> Error + Copy + '_ {
    move |error| Error::Failed(describe(path, &error))
}

/// Turns a failure to print into an error.
fn printing(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Error::ReaderLeft,
        _ => Error::Failed(format!("standard output: {error}")),
    }
}

/// Reads a directory. If that fails and the files in it have changed meanwhile, reads it again.
fn steadily<T>(dir: &Path, mut read: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    /// A compaction takes longer than listing the directory; five in a row have another cause.
    const TRIES_MAX: usize = 5;
    for _ in 1..TRIES_MAX {
        let before = files::list(dir).map_err(at(dir))?;
        let result = read();
        if result.is_ok() || files::list(dir).is_ok_and(|now| now == before) {
            return result;
        }
    }
    read()
}

/// Prints a line of the result.
fn say(line: impl fmt::Display) -> Result<(), Error> {
    writeln!(io::stdout(), "{line}").map_err(printing)
}

/// Makes a directory that gets its name once it is complete and durable. Fails if `new` is not empty.
fn make_directory<T>(new: &Path, make: impl FnOnce(&Path) -> Result<T, Error>) -> Result<T, Error> {
    let is_free = match fs::read_dir(new) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        result => result.map_err(at(new))?.next().is_none(),
    };
    if !is_free {
        return Err(Error::Failed(format!("{}: not empty; name a new directory", new.display())));
    }
    if let Some(process) = dir_lock::holder(new).map_err(at(new))? {
        let text = format!("{}: another kvstore ({process}) is using it", new.display());
        return Err(Error::Failed(text));
    }
    let unfinished = PathBuf::from(format!("{}.unfinished", new.display()));
    fs::create_dir(&unfinished).map_err(at(&unfinished))?;
    let result = make(&unfinished).and_then(|made| {
        // This also replaces an empty directory.
        fs::rename(&unfinished, new).map_err(at(new))?;
        sync_parent(new).map_err(at(new))?;
        Ok(made)
    });
    // A directory that is complete has another name by now; an incomplete one is useless.
    let _ = fs::remove_dir_all(&unfinished);
    result
}

/// The progress of long work, printed to stderr once a second.
struct Progress {
    what: String,
    shown: Instant,
}

impl Progress {
    const SHOWN_EVERY: Duration = Duration::from_secs(1);

    fn new(what: impl Into<String>) -> Progress {
        Progress { what: what.into(), shown: Instant::now() }
    }

    fn update(&mut self, done: u64, of: u64) {
        if self.shown.elapsed() >= Self::SHOWN_EVERY {
            self.shown = Instant::now();
            eprintln!("{}: {} %", self.what, done * 100 / of.max(1));
        }
    }
}
