//! `kvstore export`: one file that Redis loads.

use super::point::{self, Until, until_help};
use super::{Arguments, Error, Progress, Tool, at, printing, steadily};
use crate::aof::compaction;
use crate::clock::UnixMillis;
use crate::replace::Replacement;
use crate::store::Store;
use crate::store::effect;
use std::io::{self, Write};
use std::path::Path;

pub(super) const TOOL: Tool = Tool {
    name: "export",
    help: concat!(
        "\
kvstore export DIR FILE [--until POINT]

Writes the state of the data directory DIR to FILE ('-': standard output), as one SET command for
each key, with PXAT where it expires. Needs as much memory as the server; a server may be using DIR.

",
        until_help!(),
        "
Redis 7 loads the file if it is called appendonly.aof in an otherwise empty directory:
  kvstore export data /tmp/r/appendonly.aof && redis-server --dir /tmp/r --appendonly yes
A running Redis, or kvstore, takes it in with:  kvstore export data - | redis-cli --pipe
"
    ),
    words: (2, 2),
    switches: &[],
    values: &["until"],
    run,
};

fn run(arguments: &Arguments) -> Result<(), Error> {
    let dir = Path::new(&arguments.words[0]);
    let until = Until::of(arguments)?;
    let (store, seq) = steadily(dir, || {
        let store = Store::new();
        let mut tx = store.begin_all(true, || UnixMillis(0));
        let recovered = point::read(dir, until, |payload| {
            effect::decode(payload, |effect| tx.apply(effect)).map(drop)
        })?;
        drop(tx);
        Ok((store, recovered.end.last.seq))
    })?;
    let keys = match arguments.words[1].as_str() {
        "-" => {
            let mut out = io::stdout().lock();
            each_part(&store, |payload, _| out.write_all(payload).map_err(printing))?
        }
        file => write_file(&store, Path::new(file))?,
    };
    eprintln!("{keys} keys as of record {seq}");
    Ok(())
}

/// Writes under another name first: a crash leaves the old file, or the new one.
fn write_file(store: &Store, path: &Path) -> Result<u64, Error> {
    let mut new = Replacement::begin(path, ".unfinished", 0o666).map_err(at(path))?;
    let keys = each_part(store, |payload, _| new.file().write_all(payload).map_err(at(path)))?;
    new.commit().map_err(at(path))?;
    Ok(keys)
}

/// Passes the store on in parts, with progress on stderr; returns how many keys there are.
pub(super) fn each_part(
    store: &Store,
    mut take: impl FnMut(&[u8], u64) -> Result<(), Error>,
) -> Result<u64, Error> {
    let total = store.totals().keys as u64;
    let (mut progress, mut done) = (Progress::new("writing"), 0);
    compaction::each_part(store, |payload, keys| {
        take(payload, keys)?;
        done += keys;
        progress.update(done, total);
        Ok::<(), Error>(())
    })?;
    Ok(done)
}
