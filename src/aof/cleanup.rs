//! After recovery has judged a directory: makes the files what recovery has read.

use super::disk::make_dir;
use super::files::{self, QUARANTINE, segment_name};
use super::record::Position;
use super::recovery::{Recovered, RecoveryError};
use super::scan::Scanner;
use crate::clock::UnixMillis;
use crate::file_error::named;
use crate::replace::sync_dir;
use crate::store::effect::Seq;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Moves the torn tail aside, makes all else durable, and removes leftovers.
pub fn clean_up(dir: &Path, recovered: &Recovered) -> Result<(), RecoveryError> {
    let failed = RecoveryError::at(dir);
    if let Some(torn) = &recovered.torn {
        let saved = cut_off(dir, torn.segment, torn.damage.offset).map_err(failed)?;
        log::warn!(
            "{}: the last {} bytes, from record {} on, were cut off by a crash ({}); moved to {}",
            dir.join(segment_name(torn.segment)).display(),
            torn.len,
            torn.damage.seq,
            torn.damage.what,
            saved.display()
        );
    }
    // After kill -9 the kernel still holds what it had; from here on all of it counts as durable.
    for first in &recovered.segments {
        let path = dir.join(segment_name(*first));
        File::open(&path).and_then(|file| file.sync_all()).map_err(named(&path))?;
    }
    // The base's name must be durable before what it replaces is removed.
    sync_dir(dir).map_err(failed)?;
    for name in &recovered.leftovers {
        let path = dir.join(name);
        fs::remove_file(&path).map_err(named(&path))?;
        log::info!("removed {name}, left by a crash or replaced by a base");
    }
    set_unconnected_aside(dir, recovered).map_err(failed)?;
    sync_dir(dir).map_err(failed)
}

/// Segments before the base are kept for followers. Those that do not lead up to it without a gap are moved to the
/// quarantine: a follower would be sent a history with a hole, and refuse it for ever.
fn set_unconnected_aside(dir: &Path, recovered: &Recovered) -> io::Result<()> {
    let Some(base) = &recovered.base else { return Ok(()) };
    // Recovery has checked the segments that it has read.
    let mut next = recovered.segments.first().copied().unwrap_or(base.position.next());
    let mut is_connected = true;
    let segments = files::list(dir)?.segments;
    let older = segments.partition_point(|first| *first < next);
    for &first in segments[..older].iter().rev() {
        let path = dir.join(segment_name(first));
        is_connected = is_connected && leads_to(&path, first, next)?;
        if !is_connected {
            let saved = cut_off(dir, first, 0)?;
            fs::remove_file(&path)?;
            log::warn!(
                "{}: records before {next} are missing, so it does not lead to the base any more; moved to {}",
                path.display(),
                saved.display()
            );
        }
        next = first;
    }
    Ok(())
}

/// True if a segment holds all records from `first` up to the one before `next`, and nothing else.
fn leads_to(path: &Path, first: Seq, next: Seq) -> io::Result<bool> {
    let mut scanner = Scanner::open(path, Position::default())?;
    let last = scanner.skip_unchecked(first, Seq(next.0 - 1))?;
    Ok(last.is_some() && scanner.offset() == scanner.file_len())
}

/// Saves a segment's end in the quarantine, durably, and only then cuts it off.
pub fn cut_off(dir: &Path, segment: Seq, offset: u64) -> io::Result<PathBuf> {
    let quarantine = dir.join(QUARANTINE);
    make_dir(&quarantine)?;
    let path = dir.join(segment_name(segment));
    let mut file = File::options().read(true).write(true).open(&path)?;
    file.seek(SeekFrom::Start(offset))?;
    let saved = quarantine.join(format!("log-{segment}-{offset}-{}.aof", UnixMillis::now()));
    let mut copy = File::create_new(&saved)?;
    io::copy(&mut file, &mut copy)?;
    copy.sync_all()?;
    sync_dir(&quarantine)?;
    sync_dir(dir)?;
    file.set_len(offset)?;
    file.sync_all()?;
    Ok(saved)
}
