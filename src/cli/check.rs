//! `kvstore check`: judges a directory as recovery does; with `--repair`, cuts it to its intact part.

use super::{Arguments, Error, Tool, at, say, steadily};
use crate::aof::cleanup;
use crate::aof::dir_lock::{self, DirLock};
use crate::aof::disk::make_dir;
use crate::aof::files::{self, QUARANTINE, base_name, segment_name};
use crate::aof::mark::{self, MARK};
use crate::aof::outline;
use crate::aof::record::{Epoch, HEADER_LEN_MAX, Header};
use crate::aof::recovery::{self, Record, Recovered, RecoveryError, Then, Torn};
use crate::clock::UnixMillis;
use crate::cluster::node;
use crate::replace::{replace, sync_dir};
use crate::store::effect::Seq;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

pub(super) const TOOL: Tool = Tool {
    name: "check",
    help: "\
kvstore check DIR [--repair]

Reads the data directory DIR as a starting server would, and says what is there and whether a server
would start with it. Changes nothing; a server may be using DIR.

  --repair   if the log is damaged: keeps the records before the damage, and moves the damaged one
             and all after it to DIR/quarantine. If the log has lost records that the file 'synced'
             proves: accepts the loss. Whatever it cuts off or lowers is saved in DIR/quarantine first.
             No server may be using DIR. A damaged base cannot be repaired: it needs a backup.

Exit code: 0 a server would start, 1 it would not (or, with --repair, will not), 2 wrong usage.
A torn tail, as a crash leaves it, is not damage: the server moves it to quarantine when it starts.
",
    words: (1, 1),
    switches: &["repair"],
    values: &[],
    run,
};

fn run(arguments: &Arguments) -> Result<(), Error> {
    let dir = Path::new(&arguments.words[0]);
    if arguments.has("repair") {
        // Before the lock, which would make the directory.
        fs::read_dir(dir).map_err(at(dir))?;
        let _lock = DirLock::hold(dir).map_err(at(dir))?;
        if let Err(error) = judge(dir).0 {
            repair(dir, error)?;
        }
        return report(dir);
    }
    report(dir)
}

/// The intact records up to the first damage.
#[derive(Default)]
struct Seen {
    first: Option<(Seq, Epoch, UnixMillis)>,
    last: (Seq, Epoch, UnixMillis),
    records: u64,
    effects: usize,
}

/// Recovery's judgement, and the records that it has read.
fn judge(dir: &Path) -> (Result<Recovered, RecoveryError>, Seen) {
    let mut seen = Seen::default();
    let judgement = recovery::read_each(dir, |Record { seq, epoch, at, payload, of_base }| {
        let effects = outline::check(payload)?;
        if !of_base {
            seen.first.get_or_insert((seq, epoch, at));
            seen.last = (seq, epoch, at);
            seen.records += 1;
            seen.effects += effects;
        }
        Ok(Then::GoOn)
    });
    (judgement, seen)
}

fn report(dir: &Path) -> Result<(), Error> {
    let mut seen = Seen::default();
    let judgement = steadily(dir, || {
        let judgement;
        (judgement, seen) = judge(dir);
        Ok(judgement?)
    });
    say_files(dir)?;
    if let Ok(Recovered { base: Some(base), .. }) = &judgement {
        let (seq, keys, end) = (base.position.seq, base.keys, base.end_seq);
        say(format!(
            "base       the state at record {seq}: {keys} keys, exact from record {end} on"
        ))?;
    }
    if let Some((seq, epoch, time)) = seen.first {
        let (last, last_epoch, last_time) = seen.last;
        let Seen { records, effects, .. } = seen;
        say(format!("records    {seq} to {last}: {records}, which change data {effects} times"))?;
        say(format!("epochs     {} to {}", epoch.0, last_epoch.0))?;
        say(format!("time       {} to {}", time.utc(), last_time.utc()))?;
    }
    let recovered = match judgement {
        Err(Error::Failed(text)) => {
            say(format!("DAMAGED    {text}"))?;
            return Err(Error::Damaged);
        }
        judgement => judgement?,
    };
    let term = node::read(dir).map_err(at(dir))?;
    // Before the first start there is no node yet.
    if term.led > Epoch(0) {
        say(format!("node       {} in epoch {}", term.id, term.led.0))?;
    }
    if let Some(torn) = &recovered.torn {
        say(format!("torn tail  {}", describe_torn(dir, torn)?))?;
    }
    for name in &recovered.leftovers {
        say(format!("left over  {name}: a server removes it when it starts"))?;
    }
    say(format!("OK         a server would start after record {}", recovered.end.last.seq))
}

fn say_files(dir: &Path) -> Result<(), Error> {
    let listing = files::list(dir).map_err(at(dir))?;
    let bases = listing.bases.last().map(|seq| base_name(*seq));
    for name in bases.into_iter().chain(listing.segments.iter().map(|seq| segment_name(*seq))) {
        let len = fs::metadata(dir.join(&name)).map_or(0, |file| file.len());
        say(format!("file       {name}, {len} bytes"))?;
    }
    Ok(())
}

fn describe_torn(dir: &Path, torn: &Torn) -> Result<String, Error> {
    let Torn { segment, damage, len } = torn;
    let (name, offset, seq, what) =
        (segment_name(*segment), damage.offset, damage.seq, damage.what);
    let fate = match dir_lock::holder(dir).map_err(at(dir))? {
        Some(process) => format!("{process} may be writing it just now"),
        None => "a server moves it to quarantine when it starts".to_string(),
    };
    Ok(format!("{name}, byte {offset}: {len} bytes that are not record {seq} ({what}); {fate}"))
}

/// The cuts of a repair.
#[derive(Default)]
struct Plan {
    /// The segment that is cut, and where in it.
    cut: Option<(Seq, u64)>,
    /// Segments that are removed as a whole.
    removed: Vec<Seq>,
}

/// Keeps the records before the damage, and prints what is lost.
fn repair(dir: &Path, error: RecoveryError) -> Result<(), Error> {
    eprintln!("{}", error.fault());
    let (plan, seq) = match error {
        RecoveryError::Corrupt { path, offset, seq, .. } => (plan(dir, &path, offset, seq)?, seq),
        RecoveryError::Lost { last, .. } => (Plan::default(), Seq(last.0 + 1)),
        RecoveryError::Io(..) => {
            return Err(Error::Failed("not repaired: nothing is known to be damaged".into()));
        }
    };
    // First, so that the mark is never ahead of the log.
    let mark = lower_mark(dir, Seq(seq.0 - 1)).map_err(at(dir))?;
    let proven = mark.as_ref().map(|(_, synced)| *synced);
    let mut saved = Vec::new();
    // From the end on, so that a crash in between leaves a shorter log and no gap in it.
    for &segment in plan.removed.iter().rev() {
        saved.push(cleanup::cut_off(dir, segment, 0).map_err(at(dir))?);
        fs::remove_file(dir.join(segment_name(segment))).map_err(at(dir))?;
        sync_dir(dir).map_err(at(dir))?;
    }
    if let Some((segment, offset)) = plan.cut {
        saved.push(cleanup::cut_off(dir, segment, offset).map_err(at(dir))?);
    }
    if files::list(dir).map_err(at(dir))?.segments.is_empty() {
        // A base without a log would look as if the log was lost.
        File::create_new(dir.join(segment_name(seq))).map_err(at(dir))?;
        sync_dir(dir).map_err(at(dir))?;
    }
    say(format!(
        "LOST       record {seq} and all after it{}",
        describe_lost(&saved, seq, proven)?
    ))?;
    for path in saved.into_iter().chain(mark.map(|(path, _)| path)) {
        let len = fs::metadata(&path).map_or(0, |file| file.len());
        say(format!("saved      {}, {len} bytes", path.display()))?;
    }
    Ok(())
}

/// Lowers the mark to `last` if it is ahead. The old one is saved in the quarantine first; returns its path and
/// its seq.
fn lower_mark(dir: &Path, last: Seq) -> io::Result<Option<(PathBuf, Seq)>> {
    let Some(old) = mark::read(dir)?.filter(|synced| *synced > last) else { return Ok(None) };
    let quarantine = dir.join(QUARANTINE);
    make_dir(&quarantine)?;
    let saved = quarantine.join(format!("{MARK}-{}", UnixMillis::now()));
    replace(&saved, &fs::read(dir.join(MARK))?)?;
    sync_dir(dir)?;
    mark::write(dir, last)?;
    Ok(Some((saved, old)))
}

/// Decides where to cut, or reports why the log cannot be repaired.
fn plan(dir: &Path, path: &Path, offset: u64, seq: Seq) -> Result<Plan, Error> {
    let cannot = |why: String| Err(Error::Failed(format!("cannot be repaired: {why}")));
    let listing = files::list(dir).map_err(at(dir))?;
    if let Some(&base) = listing.bases.last() {
        if path == dir.join(base_name(base)) {
            let others = match listing.bases.len() {
                1 => "restore a backup".to_string(),
                _ => {
                    format!("an older base is there: move {} away and check again", base_name(base))
                }
            };
            return cannot(format!(
                "the base itself, or the log's part that it needs, is lost; {others}"
            ));
        }
        let end = recovery::read_base(dir, base, |_| Ok(()))?.0.end_seq;
        if seq <= end {
            let why = format!("the base needs the log up to record {end}; restore a backup");
            return cannot(why);
        }
    } else if seq <= Seq(1) {
        return cannot("nothing intact is before the damage; restore a backup".into());
    }
    // A file that begins with another record than its name says does not belong to this history.
    let belongs = |first: Seq| offset > 0 || first == seq;
    let damaged = |first: &Seq| dir.join(segment_name(*first)) == path;
    let cut = listing.segments.iter().copied().find(damaged).filter(|first| belongs(*first));
    let is_after = |first: &Seq| match cut {
        Some(cut) => *first > cut,
        None => damaged(first) || *first >= seq,
    };
    let removed = listing.segments.iter().copied().filter(is_after).collect();
    Ok(Plan { cut: cut.map(|first| (first, offset)), removed })
}

/// The last record that was cut off, as far as headers can still be read; otherwise the last one that the
/// mark has proven.
fn describe_lost(saved: &[PathBuf], seq: Seq, proven: Option<Seq>) -> Result<String, Error> {
    let mut last: Option<(Seq, UnixMillis)> = None;
    for path in saved {
        let mut file = BufReader::new(File::open(path).map_err(at(path))?);
        let mut line = Vec::new();
        while file.read_until(b'\n', &mut line).map_err(at(path))? > 0 {
            if line.len() <= HEADER_LEN_MAX
                && let Some((header, _)) = Header::parse(&line)
                && header.seq >= seq
            {
                last = last.max(Some((header.seq, header.at)));
            }
            line.clear();
        }
    }
    Ok(match (last, proven) {
        (Some((seq, time)), _) => {
            format!(", as it seems up to record {seq}, written {}", time.utc())
        }
        (None, Some(seq)) => format!(", at least up to record {seq}"),
        (None, None) => String::new(),
    })
}
