//! Looks up a follower's last record in the leader's log, and decides what the follower is given.

use super::cursor::Cursor;
use super::wire::{Answer, Request};
use crate::aof::base::parse_first_line;
use crate::aof::files::{self, base_name};
use crate::aof::record::{HEADER_LEN_MAX, Position, line_len};
use crate::cluster::role::Role;
use crate::engine::{Engine, Persistence};
use crate::store::effect::Seq;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// How long a follower with followers waits to hear from its own leader what the history contains.
const JUDGE_WAIT: Duration = Duration::from_millis(500);

/// The stream for one follower.
pub struct Feed<'l> {
    /// The answer to its request.
    pub answer: Answer,
    /// See `Log::generation`.
    pub generation: u64,
    /// The base, if it gets one, and its length.
    pub base: Option<(File, u64)>,
    /// The log from its next record on.
    pub cursor: Cursor<'l>,
}

/// The outcome of a request.
pub enum Found<'l> {
    /// It is sent records.
    Feed(Feed<'l>),
    /// The follower looks at its own history, and asks again.
    Parted(Answer),
}

/// As [`find`]. A node that follows another waits a moment for news of its leader. The record in question was
/// written before the request. So a node that has everything its leader had at the time of the request, and
/// not this record, knows as well as the leader that the history does not contain it.
pub fn judge<'l>(
    engine: &Engine,
    persistence: &'l Persistence,
    request: &Request,
) -> io::Result<(Seq, Found<'l>)> {
    let asked_at = engine.uptime_ms().max(1);
    let found = find(persistence, request, engine.role.is_follower())?;
    let is_ahead = matches!(found.1, Found::Parted(Answer::Behind(_)));
    if is_ahead && wait_fresh(&engine.role, asked_at) {
        return find(persistence, request, false);
    }
    Ok(found)
}

/// Waits until everything is here that the leader had at this time. Returns whether it is.
fn wait_fresh(role: &Role, at: u64) -> bool {
    let freshness = &role.freshness;
    // Over a link that is down, nothing more comes.
    let is_over = || freshness.is_fresh(at) || !role.link_is_up();
    freshness.changed.wait_until(Some(Instant::now() + JUDGE_WAIT), is_over);
    freshness.is_fresh(at)
}

/// Finds out what a follower with this last record needs, and where this log ends.
fn find<'l>(
    persistence: &'l Persistence,
    request: &Request,
    follows: bool,
) -> io::Result<(Seq, Found<'l>)> {
    let (log, dir) = (&persistence.log, &*persistence.dir);
    let generation = log.generation();
    let last = request.last;
    // Only written records can be read from the files. An error shows at the gate.
    let _ = log.ensure_written(log.appended());
    // One end for all that is decided here: records after it may be half written.
    let end = log.readable_end();
    if let Some(cursor) = Cursor::behind(log, dir, &end, last)? {
        let answer = Answer::Continue(log.epoch());
        return Ok((end.last.seq, Found::Feed(Feed { answer, generation, base: None, cursor })));
    }
    let oldest = files::list(dir)?.segments.first().copied().unwrap_or_default();
    let outline = log.outline();
    let furthest = outline.epochs.last_within(last.seq.min(end.last.seq), last.epoch);
    let kept = furthest.filter(|seq| seq.0 + 1 >= oldest.0);
    // Its epoch is told by the crc of the epoch's first record.
    let common = kept.and_then(|seq| Some(Position { seq, ..outline.epochs.of(seq)? }));
    drop(outline);
    let found = match common {
        // Only a leader can say that a record does not exist: a follower may not have received it yet.
        Some(at) if follows && at.seq == end.last.seq && last.seq > at.seq => {
            Found::Parted(Answer::Behind(at))
        }
        Some(at) if last.seq > Seq(0) => Found::Parted(Answer::Diverged(at)),
        _ => Found::Feed(full(persistence)?),
    };
    Ok((end.last.seq, found))
}

/// The newest base and all records after it.
fn full(persistence: &Persistence) -> io::Result<Feed<'_>> {
    const TRIES: usize = 5;
    let (log, dir) = (&persistence.log, &*persistence.dir);
    let generation = log.generation();
    // Until the base is chosen, a compaction may remove nothing.
    let _all = log.pin(Seq(1));
    for _ in 0..TRIES {
        let (base, position) = match files::list(dir)?.bases.last() {
            None => (None, Position::default()),
            Some(seq) => match open_base(&dir.join(base_name(*seq))) {
                // A newer one has just replaced it.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                opened => {
                    let (file, len, position) = opened?;
                    (Some((file, len)), position)
                }
            },
        };
        if let Some(cursor) = Cursor::behind(log, dir, &log.readable_end(), position)? {
            let bytes = base.as_ref().map_or(0, |(_, len)| *len);
            let answer = Answer::Full { seq: position.seq, bytes };
            return Ok(Feed { answer, generation, base, cursor });
        }
    }
    Err(io::Error::other("no base with the log after it can be found"))
}

fn open_base(path: &std::path::Path) -> io::Result<(File, u64, Position)> {
    let file = File::open(path)?;
    let mut head = [0; HEADER_LEN_MAX];
    let len = file.metadata()?.len();
    let read = file.read_at(&mut head, 0)?;
    let line = line_len(&head[..read]).and_then(|len| head[..len].strip_suffix(b"\r\n"));
    let position = line.and_then(parse_first_line);
    let position = position.ok_or_else(|| io::Error::other("the base's first line is damaged"))?;
    Ok((file, len, position))
}
