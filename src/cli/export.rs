//! `kvstore export`: one file that Redis loads.

use super::point::{self, Until, until_help};
use super::{Arguments, Error, Progress, Tool, Verdict, at, printing, steadily};
use crate::clock::UnixMillis;
use crate::replace::sync_parent;
use crate::store::effect;
use crate::store::effect::Effect;
use crate::store::{Scope, Store};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

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

fn run(arguments: &Arguments) -> Result<Verdict, Error> {
    let dir = Path::new(&arguments.words[0]);
    let until = Until::of(arguments)?;
    let (store, seq) = steadily(dir, || {
        let store = Store::new();
        let mut tx = store.begin_scope(Scope::All, true, || UnixMillis(0));
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
    Ok(Verdict::Fine)
}

/// Writes under another name first: a crash leaves the old file, or the new one.
fn write_file(store: &Store, path: &Path) -> Result<u64, Error> {
    let unfinished = PathBuf::from(format!("{}.unfinished", path.display()));
    let mut file = File::create(&unfinished).map_err(at(&unfinished))?;
    let written = each_part(store, |payload, _| file.write_all(payload).map_err(at(&unfinished)));
    let keys = written.inspect_err(|_| drop(fs::remove_file(&unfinished)))?;
    file.sync_all().map_err(at(&unfinished))?;
    fs::rename(&unfinished, path).map_err(at(path))?;
    sync_parent(path).map_err(at(path))?;
    Ok(keys)
}

/// Hands over the store in parts: SET commands, and for how many keys; returns how many in all. Keys
/// that have expired are among them, with their deadlines, which whoever loads them will honour.
pub(super) fn each_part(
    store: &Store,
    mut take: impl FnMut(&[u8], u64) -> Result<(), Error>,
) -> Result<u64, Error> {
    /// As the server's compaction.
    const PART_BYTES: usize = 32 << 10;
    let total = store.totals().keys as u64;
    let mut progress = Progress::new("writing");
    let (mut cursor, mut done, mut payload) = (0, 0, Vec::new());
    loop {
        let mut keys = 0;
        payload.clear();
        let tx = store.begin_scope(Scope::Fleeting, false, || UnixMillis(0));
        cursor = tx.scan(cursor, |entry| {
            let (key, value) = (entry.key(), entry.value());
            Effect::Set { key, value, deadline: entry.deadline() }.encode(&mut payload);
            keys += 1;
            payload.len() < PART_BYTES
        });
        if keys > 0 {
            take(&payload, keys)?;
        }
        done += keys;
        if cursor == 0 {
            return Ok(done);
        }
        progress.update(done, total);
    }
}
