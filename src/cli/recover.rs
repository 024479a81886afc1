//! `kvstore recover`: copies the data as it was at a point in its history to a new directory.

use super::point::{self, Until, until_help};
use super::{Arguments, Error, Progress, Tool, at, make_directory, say, steadily};
use crate::aof::files::{base_name, segment_name};
use crate::aof::mark;
use crate::aof::record::Position;
use crate::aof::recovery::{self, Recovered};
use crate::cluster::node;
use crate::cluster::term::{NodeId, Term};
use crate::store::effect;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

pub(super) const TOOL: Tool = Tool {
    name: "recover",
    help: concat!(
        "\
kvstore recover DIR NEWDIR --until POINT

Makes NEWDIR, which must not exist or be empty, from DIR as it was at a point in its history: the
base, and the log cut after one record. DIR stays as it is; a server may be using it. Start a
server on NEWDIR with: kvstore serve --dir NEWDIR

",
        until_help!(),
        "
Example: a FLUSHALL by mistake. Find it with 'kvstore log DIR | grep FLUSHALL', say record 4711:
  kvstore recover data data-before --until 4710
"
    ),
    words: (2, 2),
    switches: &[],
    values: &["until"],
    run,
};

fn run(arguments: &Arguments) -> Result<(), Error> {
    let (dir, new) = (Path::new(&arguments.words[0]), Path::new(&arguments.words[1]));
    let until = Until::of(arguments)?;
    if until == Until::End {
        return Err(Error::Usage("--until is missing".into()));
    }
    let last = make_directory(new, |unfinished| {
        let last = steadily(dir, || {
            let recovered = point::read(dir, until, |payload| effect::check(payload).map(drop))?;
            copy(dir, unfinished, &recovered)?;
            Ok(recovered.end.last)
        })?;
        verify(unfinished, last)
    })?;
    say(format!("{}: the data of {} up to record {}", new.display(), dir.display(), last.seq))
}

/// Copies what recovery has read, and nothing after it.
fn copy(dir: &Path, new: &Path, recovered: &Recovered) -> Result<(), Error> {
    if let Some(base) = &recovered.base {
        copy_start(dir, new, &base_name(base.position.seq), u64::MAX)?;
    }
    let (last, len) = recovered.end.segment.unzip();
    for first in recovered.segments.iter().filter(|first| Some(**first) <= last) {
        let len = if Some(*first) == last { len.unwrap_or(0) } else { u64::MAX };
        copy_start(dir, new, &segment_name(*first), len)?;
    }
    // The copy is another node, whose epochs are newer than all of DIR's: the two histories can be told
    // apart.
    let before = node::read(dir).map_err(at(dir))?;
    let epoch = before.epoch.max(recovered.end.last.epoch);
    let term = Term { epoch, led: epoch, ..Term::new(NodeId::random()) };
    node::write(new, &term).map_err(at(new))?;
    // All of the copy is on the disk by now.
    mark::write(new, recovered.end.last.seq).map_err(at(new))
}

/// Copies a file's first `len` bytes, durably.
fn copy_start(dir: &Path, new: &Path, name: &str, len: u64) -> Result<(), Error> {
    let (path, copy) = (dir.join(name), new.join(name));
    let mut from = File::open(&path).map_err(at(&path))?;
    let len = from.metadata().map_err(at(&path))?.len().min(len);
    // An earlier try may have left a file.
    let mut to = File::create(&copy).map_err(at(&copy))?;
    let mut progress = Progress::new(format!("copying {name}"));
    let (mut chunk, mut done) = (vec![0; 1 << 20], 0);
    while done < len {
        let part = &mut chunk[..(len - done).min(1 << 20) as usize];
        from.read_exact(part).map_err(at(&path))?;
        to.write_all(part).map_err(at(&copy))?;
        done += part.len() as u64;
        progress.update(done, len);
    }
    to.sync_all().map_err(at(&copy))
}

/// Reads the copy back: it must end at record `last`.
fn verify(new: &Path, last: Position) -> Result<Position, Error> {
    let copied = recovery::read(new, |_| Ok(()))?;
    if copied.end.last != last || copied.torn.is_some() {
        let text = format!("{}: the copy does not end at record {}", new.display(), last.seq);
        return Err(Error::Failed(text));
    }
    Ok(last)
}
