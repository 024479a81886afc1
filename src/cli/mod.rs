//! Tools beside the server, for a data directory: look at it, mend it, copy it.
//!
//! | tool | reads | writes | beside a running server |
//! |---|---|---|---|
//! | `check` | base and segments, as recovery does | nothing; with `--repair`, cuts | yes; `--repair` no |
//! | `log` | the same, record by record | lines for people | yes |
//! | `export` | the same, up to a point | one file for Redis | yes |
//! | `import` | append-only files of Redis | a new directory | it is new |
//! | `recover` | as `export` | a new directory | yes |
//!
//! They read through the log's own scanner and recovery, so they never disagree with the server about
//! what is whole. What they make appears under its name only when it is complete and on the disk.
//!
//! Beside a running server, the log may be compacted under a reader's eyes. A reader that then fails
//! begins again (`steadily`). A last record that is being written is taken for what a crash at that
//! moment would leave: not there yet.

mod arguments;
mod check;
mod export;
mod follow;
mod import;
mod point;
mod recover;
mod show;

use crate::aof::files;
use crate::aof::lock;
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

/// What `kvstore --help` says before the options of the server.
pub const OVERVIEW: &str = "\
kvstore [serve] [OPTION]...                 the server
kvstore check DIR [--repair]                is this data whole? with --repair, keep what is
kvstore log DIR [--key K] [--follow] ...    the history, readable
kvstore export DIR FILE [--until POINT]     one file that Redis loads
kvstore import FILE... DIR                  the reverse
kvstore recover DIR NEWDIR --until POINT    the data as it was at a record or a time
Each tool has a --help of its own; here is the server's.

";

/// A tool: a row of the table that arguments are read by.
pub struct Tool {
    name: &'static str,
    help: &'static str,
    /// At least and at most so many words besides options.
    words: (usize, usize),
    /// Options that stand alone.
    switches: &'static [&'static str],
    /// Options with a value.
    values: &'static [&'static str],
    run: fn(&Arguments) -> Result<Verdict, Error>,
}

static TOOLS: [Tool; 5] = [check::TOOL, show::TOOL, export::TOOL, import::TOOL, recover::TOOL];

/// How a tool ends that has done its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// All is well: exit code 0.
    Fine,
    /// It has found damage, and has said so: exit code 1.
    Damaged,
}

/// Why a tool could not do its work.
#[derive(Debug)]
enum Error {
    /// The arguments make no sense: exit code 2.
    Usage(String),
    /// Something else: exit code 1.
    Failed(String),
    /// Whoever reads our output has left; nobody is there to be told.
    ReaderLeft,
}

impl From<RecoveryError> for Error {
    fn from(error: RecoveryError) -> Error {
        Error::Failed(error.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage(text) | Error::Failed(text) => f.write_str(text),
            Error::ReaderLeft => f.write_str("the reader has left"),
        }
    }
}

/// The tool with this name.
pub fn find(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name == name)
}

impl Tool {
    /// Runs the tool and tells the process's exit code.
    pub fn run(&self, args: &[String]) -> ExitCode {
        let name = self.name;
        if args.iter().any(|arg| arg == "--help" || arg == "-h") {
            // A reader that has left (`--help | head -1`) is no error.
            let _ = io::stdout().write_all(self.help.as_bytes());
            return ExitCode::SUCCESS;
        }
        match Arguments::parse(self, args).and_then(|arguments| (self.run)(&arguments)) {
            Ok(Verdict::Fine) | Err(Error::ReaderLeft) => ExitCode::SUCCESS,
            Ok(Verdict::Damaged) => ExitCode::from(1),
            Err(Error::Failed(text)) => {
                eprintln!("kvstore {name}: {text}");
                ExitCode::from(1)
            }
            Err(Error::Usage(text)) => {
                eprintln!("kvstore {name}: {text} (kvstore {name} --help)");
                ExitCode::from(2)
            }
        }
    }
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

/// Reads a directory, again from the start if that fails and the files there are no longer those that
/// they were.
fn steadily<T>(dir: &Path, mut read: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    /// A compaction takes longer than a look at the directory; five in a row have another cause.
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

/// Makes a directory that has its name only once all of it is there and durable. Where something is
/// already, nothing is made.
fn make_directory<T>(new: &Path, make: impl FnOnce(&Path) -> Result<T, Error>) -> Result<T, Error> {
    let is_free = match fs::read_dir(new) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        result => result.map_err(at(new))?.next().is_none(),
    };
    if !is_free {
        return Err(Error::Failed(format!("{}: not empty; name a new directory", new.display())));
    }
    if let Some(process) = lock::holder(new).map_err(at(new))? {
        let text = format!("{}: another kvstore ({process}) is using it", new.display());
        return Err(Error::Failed(text));
    }
    let unfinished = PathBuf::from(format!("{}.unfinished", new.display()));
    fs::create_dir(&unfinished).map_err(at(&unfinished))?;
    let result = make(&unfinished).and_then(|made| {
        // Over an empty directory, too.
        fs::rename(&unfinished, new).map_err(at(new))?;
        sync_parent(new).map_err(at(new))?;
        Ok(made)
    });
    // What is half made is of no use to anybody; what is made has another name now.
    let _ = fs::remove_dir_all(&unfinished);
    result
}

/// The line that long work prints to stderr once a second.
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
