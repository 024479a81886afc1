//! A full copy takes the place of a log, safely against crashes and against being forgotten.
//!
//! ```text
//! incoming/     being received; not used
//! replacement/  complete; the file `replaces` holds its purpose
//!   clearing    decided: the old files go, to diverged/ or for good
//!   moving      they are gone: the new files move to where they belong
//! ```
//!
//! A copy may wait in `replacement/` while the node goes on with its old log. Then it would destroy newer writes. So
//! it is taken over only while the node follows the leader that it came from, and the log still ends where it ended
//! when it was judged; otherwise it is moved to `diverged/`. Once `clearing` is there, the only way is on: each step
//! can be repeated, and a start repeats them.

use super::diverged::DIVERGED;
use crate::aof::disk::{self, Directory};
use crate::aof::files::{self, Listing};
use crate::aof::mark::Mark;
use crate::aof::numbers::{Words, canonical_number};
use crate::aof::record::Position;
use crate::clock::UnixMillis;
use crate::file_error::if_there;
use crate::replace::{replace, sync_dir, sync_parent};
use crate::store::effect::Seq;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A full copy that is being received.
pub const INCOMING: &str = "incoming";
const REPLACEMENT: &str = "replacement";
const REPLACES: &str = "replaces";
const CLEARING: &str = "clearing";
const MOVING: &str = "moving";

/// The purpose of a complete copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purpose {
    /// The leader that it came from: host and port.
    pub leader: String,
    /// Where the log ended that it replaces.
    pub replaces: Position,
    /// Where its own log ends.
    pub reaches: Seq,
    /// The directory in `diverged/` that the old files are kept in; empty if all of them is in the copy.
    pub aside: String,
}

impl Purpose {
    fn text(&self) -> String {
        let Position { seq, epoch, crc } = self.replaces;
        let Purpose { leader, reaches, aside, .. } = self;
        format!("{leader}\n{seq} {} {crc:08x}\n{reaches}\n{aside}\n", epoch.0)
    }

    fn parse(text: &str) -> Option<Purpose> {
        let mut lines = text.lines().map(str::to_string);
        let leader = lines.next()?;
        let replaces = Position::read(&mut Words::of(lines.next()?.as_bytes()))?;
        let reaches = Seq(canonical_number(lines.next()?.as_bytes())?);
        Some(Purpose { leader, replaces, reaches, aside: lines.next()? })
    }

    /// True if the copy may still be taken over by a node that follows `leader`, if it follows any, and whose
    /// log ends at `end`.
    pub fn holds(&self, leader: Option<&str>, end: Position) -> bool {
        leader == Some(self.leader.as_str()) && self.replaces == end
    }
}

/// A copy that is complete.
#[derive(Debug, PartialEq, Eq)]
pub struct Pending {
    /// Its purpose; one that never holds, if it cannot be read.
    pub purpose: Purpose,
    /// The old log's files may have begun to go.
    pub begun: bool,
}

/// Makes the copy in `incoming/` one that is complete.
pub fn commit(dir: &Path, purpose: &Purpose) -> io::Result<()> {
    let incoming = dir.join(INCOMING);
    replace(&incoming.join(REPLACES), purpose.text().as_bytes())?;
    fs::rename(incoming, dir.join(REPLACEMENT))?;
    sync_dir(dir)
}

/// The complete copy that waits, if there is one.
pub fn pending(dir: &Path) -> io::Result<Option<Pending>> {
    let replacement = dir.join(REPLACEMENT);
    if !replacement.exists() {
        return Ok(None);
    }
    let Listing { bases, segments, .. } = files::list(&replacement)?;
    let marked = [CLEARING, MOVING].iter().any(|name| replacement.join(name).exists());
    let text = if_there(fs::read_to_string(replacement.join(REPLACES)))?;
    let purpose = Purpose::parse(&text.unwrap_or_default()).unwrap_or_default();
    Ok(Some(Pending { purpose, begun: marked || bases.len() + segments.len() == 0 }))
}

/// Begins to take over a copy that waits. Up to an error of this, the old log is as it was.
pub fn begin(dir: &Path, purpose: &Purpose) -> io::Result<()> {
    // Before the old files go, the new ones must not depend on a name that a power cut takes.
    sync_dir(dir)?;
    if !purpose.aside.is_empty() {
        let diverged = dir.join(DIVERGED);
        fs::create_dir_all(diverged.join(&purpose.aside))?;
        sync_dir(&diverged)?;
        sync_dir(dir)?;
    }
    // The mark of how far the log is durable must be ahead of neither log: a crash may leave either.
    Mark::begin(&Directory::open(dir)?, purpose.reaches.min(purpose.replaces.seq))?;
    create(&dir.join(REPLACEMENT).join(CLEARING))
}

/// Completes what [`begin`] has begun, from wherever a crash has left it.
pub fn finish(dir: &Path) -> io::Result<()> {
    let replacement = dir.join(REPLACEMENT);
    let names = disk::names(&replacement)?;
    let has_files = names.iter().any(|name| files::is_log(name));
    if has_files && !replacement.join(MOVING).exists() {
        clear(dir, &replacement)?;
        create(&replacement.join(MOVING))?;
    }
    for name in names.iter().filter(|name| files::is_log(name)) {
        fs::rename(replacement.join(name), dir.join(name))?;
    }
    sync_dir(dir)?;
    fs::remove_dir_all(&replacement)?;
    sync_dir(dir)
}

/// Takes the old log's files away.
fn clear(dir: &Path, replacement: &Path) -> io::Result<()> {
    let purpose = Purpose::parse(&fs::read_to_string(replacement.join(REPLACES))?);
    let purpose = purpose.ok_or_else(|| {
        let path = replacement.join(REPLACES);
        io::Error::other(format!("{} is damaged: what the copy is for is unknown", path.display()))
    })?;
    let aside = dir.join(DIVERGED).join(&purpose.aside);
    for name in disk::names(dir)?.iter().filter(|name| files::is_log(name)) {
        if purpose.aside.is_empty() {
            fs::remove_file(dir.join(name))?;
        } else {
            fs::rename(dir.join(name), aside.join(name))?;
        }
    }
    sync_dir(if purpose.aside.is_empty() { dir } else { &aside })?;
    sync_dir(dir)
}

/// As [`set_aside`], if there is a copy. For a running node: as long as it runs, its old log is whole.
pub fn drop_pending(dir: &Path) -> io::Result<()> {
    if dir.join(REPLACEMENT).exists() { set_aside(dir).map(drop) } else { Ok(()) }
}

/// Moves a copy that will not be taken over to `diverged/`, durably; returns its new path.
pub fn set_aside(dir: &Path) -> io::Result<PathBuf> {
    let diverged = dir.join(DIVERGED);
    fs::create_dir_all(&diverged)?;
    let aside = diverged.join(format!("copy-{}", UnixMillis::now()));
    fs::rename(dir.join(REPLACEMENT), &aside)?;
    sync_dir(&diverged)?;
    sync_dir(dir)?;
    log::warn!(
        "a full copy of a leader's data was complete and had not been taken over; this node has gone on \
         without it, so it is kept in {}",
        aside.display()
    );
    Ok(aside)
}

fn create(path: &Path) -> io::Result<()> {
    File::create(path)?.sync_all()?;
    sync_parent(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aof::record::Epoch;

    fn purpose(aside: &str) -> Purpose {
        let replaces = Position { seq: Seq(7), epoch: Epoch(2), crc: 0xab };
        let (leader, aside) = ("10.0.0.1 7000".to_string(), aside.to_string());
        Purpose { leader, replaces, reaches: Seq(3), aside }
    }

    /// A directory with an old log of two files, and a copy that has just been received.
    fn directory() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("base-5.aof", "old"), ("log-6.aof", "old"), ("node", "n")] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let incoming = dir.path().join(INCOMING);
        fs::create_dir(&incoming).unwrap();
        fs::write(incoming.join("log-1.aof"), "new").unwrap();
        dir
    }

    #[test]
    fn a_purpose_reads_back() {
        for aside in ["", "all-7-000000ab"] {
            let purpose = purpose(aside);
            assert_eq!(Purpose::parse(&purpose.text()), Some(purpose));
        }
        assert_eq!(Purpose::parse("10.0.0.1 7000\n7 2 000000ab\n3"), None);
    }

    #[test]
    fn only_the_log_and_the_leader_that_it_was_judged_for_let_a_copy_in() {
        let (purpose, leader) = (purpose(""), Some("10.0.0.1 7000"));
        assert!(purpose.holds(leader, purpose.replaces));
        assert!(!purpose.holds(None, purpose.replaces));
        assert!(!purpose.holds(Some("10.0.0.2 7000"), purpose.replaces));
        assert!(!purpose.holds(leader, Position { seq: Seq(8), ..purpose.replaces }));
        assert!(!purpose.holds(leader, Position { crc: 0, ..purpose.replaces }));
    }

    /// After a crash at any of the steps, the next start ends with the new log, and with the old one aside.
    #[test]
    fn a_replacement_can_be_finished_from_wherever_it_was_left() {
        for steps in 0..5 {
            let dir = directory();
            let dir = dir.path();
            let purpose = purpose("all-7-000000ab");
            commit(dir, &purpose).unwrap();
            let waits = Pending { purpose: purpose.clone(), begun: false };
            assert_eq!(pending(dir).unwrap(), Some(waits));
            begin(dir, &purpose).unwrap();
            let (replacement, aside) =
                (dir.join(REPLACEMENT), dir.join(DIVERGED).join("all-7-000000ab"));
            if steps > 0 {
                fs::rename(dir.join("log-6.aof"), aside.join("log-6.aof")).unwrap();
            }
            if steps > 1 {
                fs::rename(dir.join("base-5.aof"), aside.join("base-5.aof")).unwrap();
                create(&replacement.join(MOVING)).unwrap();
            }
            if steps > 2 {
                fs::rename(replacement.join("log-1.aof"), dir.join("log-1.aof")).unwrap();
            }
            if steps > 3 {
                fs::remove_file(replacement.join(MOVING)).unwrap();
                fs::remove_file(replacement.join(CLEARING)).unwrap();
            }
            assert!(pending(dir).unwrap().unwrap().begun, "step {steps}");
            finish(dir).unwrap();
            assert_eq!(pending(dir).unwrap(), None);
            assert_eq!(fs::read(dir.join("log-1.aof")).unwrap(), b"new");
            assert!(!dir.join("base-5.aof").exists() && !dir.join("log-6.aof").exists());
            for name in ["base-5.aof", "log-6.aof"] {
                assert_eq!(fs::read(aside.join(name)).unwrap(), b"old", "step {steps}");
            }
        }
    }

    /// A crash just after the mark was set leaves the old log, and a start that judges whether the copy is wanted.
    #[test]
    fn the_mark_is_ahead_of_neither_log() {
        for reaches in [Seq(3), Seq(9)] {
            let dir = directory();
            let purpose = Purpose { reaches, ..purpose("") };
            commit(dir.path(), &purpose).unwrap();
            begin(dir.path(), &purpose).unwrap();
            let mark = crate::aof::mark::read(dir.path()).unwrap();
            assert_eq!(mark, Some(reaches.min(purpose.replaces.seq)));
        }
    }

    #[test]
    fn a_copy_that_is_not_wanted_any_more_is_kept_and_the_log_stays() {
        let dir = directory();
        let dir = dir.path();
        drop_pending(dir).unwrap();
        commit(dir, &purpose("")).unwrap();
        let aside = set_aside(dir).unwrap();
        assert_eq!(pending(dir).unwrap(), None);
        assert_eq!(fs::read(aside.join("log-1.aof")).unwrap(), b"new");
        assert_eq!(fs::read(dir.join("log-6.aof")).unwrap(), b"old");
    }
}
