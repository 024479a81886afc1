//! The size of what was set aside: `quarantine/` (cut off by recovery) and `diverged/` (what only this node had when
//! it followed another). The server never removes any of it, because somebody may want these writes back. INFO and
//! the metrics show the sizes, and the log warns once an hour above `set-aside-warn-size`.

use crate::aof::files::QUARANTINE;
use crate::lock::Mutex;
use crate::replication::diverged::DIVERGED;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Interval between two measurements: operators remove files by hand.
const MEASURE_EVERY: Duration = Duration::from_secs(10);
const WARN_EVERY: Duration = Duration::from_secs(3600);

/// The two directories of a data directory, with their sizes at the last measurement.
#[derive(Debug, Default)]
pub struct SetAside {
    dir: PathBuf,
    quarantine_bytes: AtomicU64,
    diverged_bytes: AtomicU64,
    times: Mutex<Times>,
}

/// The last measurement, and the last warning.
#[derive(Debug, Default)]
struct Times(Option<Instant>, Option<Instant>);

impl SetAside {
    /// Measures the directories of this data directory.
    pub fn of(dir: &Path) -> SetAside {
        let aside = SetAside { dir: dir.to_path_buf(), ..SetAside::default() };
        aside.measure();
        aside
    }

    /// Bytes of all files in `quarantine/`.
    pub fn quarantine_bytes(&self) -> u64 {
        self.quarantine_bytes.load(Relaxed)
    }

    /// Bytes of all files in `diverged/`.
    pub fn diverged_bytes(&self) -> u64 {
        self.diverged_bytes.load(Relaxed)
    }

    /// True if both together are more than `warn_bytes`; 0 is never exceeded.
    pub fn is_over(&self, warn_bytes: u64) -> bool {
        warn_bytes > 0 && self.quarantine_bytes() + self.diverged_bytes() > warn_bytes
    }

    /// Something was set aside: the next [`SetAside::look`] measures at once.
    pub fn note_change(&self) {
        self.times.lock().0 = None;
    }

    /// Measures if the last measurement is old, and warns unless that was done in the last hour.
    pub fn look(&self, warn_bytes: u64) {
        let mut times = self.times.lock();
        let is_due = |last: Option<Instant>, every| last.is_none_or(|last| last.elapsed() >= every);
        if !is_due(times.0, MEASURE_EVERY) {
            return;
        }
        times.0 = Some(Instant::now());
        self.measure();
        if !self.is_over(warn_bytes) {
            if times.1.take().is_some() {
                log::info!("what was set aside is less than set-aside-warn-size again");
            }
        } else if is_due(times.1, WARN_EVERY) {
            times.1 = Some(Instant::now());
            log::warn!(
                "{}: {} bytes in {QUARANTINE}/ and {} in {DIVERGED}/ are more than set-aside-warn-size \
                 ({warn_bytes}); look through them ('kvstore log FILE') and remove what nobody needs",
                self.dir.display(),
                self.quarantine_bytes(),
                self.diverged_bytes()
            );
        }
    }

    fn measure(&self) {
        self.quarantine_bytes.store(size(&self.dir.join(QUARANTINE)), Relaxed);
        self.diverged_bytes.store(size(&self.dir.join(DIVERGED)), Relaxed);
    }
}

/// Bytes of all files in a directory and in those within it. Unreadable files count as nothing.
fn size(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_directories_count_and_absent_ones_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let aside = SetAside::of(dir.path());
        assert_eq!((aside.quarantine_bytes(), aside.diverged_bytes()), (0, 0));
        fs::create_dir_all(dir.path().join("diverged/all-7-0000")).unwrap();
        fs::create_dir_all(dir.path().join("quarantine")).unwrap();
        fs::write(dir.path().join("diverged/log-1.aof"), [0; 100]).unwrap();
        fs::write(dir.path().join("diverged/all-7-0000/log-1.aof"), [0; 20]).unwrap();
        fs::write(dir.path().join("quarantine/log-1.aof"), [0; 3]).unwrap();
        aside.look(0);
        assert_eq!((aside.quarantine_bytes(), aside.diverged_bytes()), (3, 120));
        assert!(aside.is_over(122) && !aside.is_over(123) && !aside.is_over(0));
        fs::remove_file(dir.path().join("diverged/log-1.aof")).unwrap();
        aside.look(0);
        assert_eq!(aside.diverged_bytes(), 120, "looked at a moment ago");
        aside.note_change();
        aside.look(0);
        assert_eq!(aside.diverged_bytes(), 20);
    }
}
