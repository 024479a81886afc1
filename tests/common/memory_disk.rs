//! A disk in memory that can lose power.
//!
//! Every file has two contents, what was written and what was synced, and so has the directory: a name
//! is safe only after `sync_dir`. When the power goes, what was not synced may be there or not, in every
//! mixture that [`Loss`] names. Calls can also be made to fail, or to fall short.

use super::rng::Rng;
use kvstore::aof::disk::Disk;
use kvstore::aof::disk::LogFile;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

/// The calls that can be counted and made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Create,
    Open,
    Rename,
    Remove,
    Names,
    SyncDir,
    Write,
    Sync,
    SetLen,
}

/// The effect of a call that does not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this error of the operating system and has no effect.
    Error(i32),
    /// A write takes only so many bytes.
    Short(usize),
}

pub const ENOSPC: i32 = 28;
pub const EIO: i32 = 5;

/// The fate of everything that was not synced when the power goes.
#[derive(Clone, Copy, Debug)]
pub enum Loss {
    /// All of it is gone.
    All,
    /// Nothing is: that is `kill -9`.
    Nothing,
    /// Of each file and of the directory's changes a front part of random length is there.
    Tear(u64),
    /// The file that was written last is there up to this length, everything else wholly.
    TearLast(usize),
    /// Each block of this size and each change to the directory is there or not, at random.
    Reorder { block: usize, seed: u64 },
}

#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    files: Vec<Contents>,
    names: BTreeMap<String, usize>,
    safe_names: BTreeMap<String, usize>,
    /// Since the last `sync_dir`.
    changes: Vec<Change>,
    calls: Vec<Call>,
    /// Calls from this one on find no power.
    power_off_at: Option<usize>,
    /// The call of this kind with this number, counted from 0, and all up to the second number.
    faults: Vec<(Call, usize, usize, Fault)>,
    written_last: usize,
}

#[derive(Debug, Default)]
struct Contents {
    written: Vec<u8>,
    synced: Vec<u8>,
    /// A sync failed: the kernel has dropped what it could not write, and later syncs succeed without it.
    dropped: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Link(String, usize),
    Rename(String, String, usize),
    Remove(String),
}

impl MemoryDisk {
    /// A disk whose power goes before the call with this number.
    pub fn with_power_until(call: usize) -> MemoryDisk {
        let disk = MemoryDisk::default();
        disk.state().power_off_at = Some(call);
        disk
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds this")
    }

    /// Makes the calls of a kind from the `nth` on, counted from now and from 0, do this, `times` times.
    pub fn inject(&self, call: Call, nth: usize, times: usize, fault: Fault) {
        let mut state = self.state();
        let first = state.count(call) + nth;
        state.faults.push((call, first, first + times, fault));
    }

    /// From now on all calls succeed.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// All calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// The names of its files.
    pub fn names(&self) -> Vec<String> {
        self.state().names.keys().cloned().collect()
    }

    /// Bytes of the file written last, and how many of them are synced.
    pub fn last_file_len(&self) -> (usize, usize) {
        let state = self.state();
        state.files.get(state.written_last).map_or((0, 0), |f| (f.written.len(), f.synced.len()))
    }

    /// Writes what survives to a directory.
    pub fn survive(&self, loss: Loss, dir: &Path) {
        let state = self.state();
        let mut rng = Rng::new(match loss {
            Loss::Tear(seed) | Loss::Reorder { seed, .. } => seed,
            Loss::All | Loss::Nothing | Loss::TearLast(_) => 0,
        });
        for (name, file) in state.surviving_names(loss, &mut rng) {
            let contents = state.surviving_contents(file, loss, &mut rng);
            fs::write(dir.join(name), contents).expect("a file in a temporary directory");
        }
    }
}

impl State {
    fn count(&self, call: Call) -> usize {
        self.calls.iter().filter(|made| **made == call).count()
    }

    /// Notes a call; returns how it is to go wrong, if it is.
    fn call(&mut self, call: Call) -> io::Result<Option<usize>> {
        if self.power_off_at.is_some_and(|at| self.calls.len() >= at) {
            return Err(io::Error::other("the power is off"));
        }
        let number = self.count(call);
        self.calls.push(call);
        let found = self
            .faults
            .iter()
            .find(|(kind, first, end, _)| *kind == call && (*first..*end).contains(&number));
        match found {
            None => Ok(None),
            Some((.., Fault::Short(len))) => Ok(Some(*len)),
            Some((.., Fault::Error(code))) => Err(io::Error::from_raw_os_error(*code)),
        }
    }

    fn named(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or(io::ErrorKind::NotFound.into())
    }

    fn surviving_names(&self, loss: Loss, rng: &mut Rng) -> BTreeMap<String, usize> {
        let mut names = self.safe_names.clone();
        let front = match loss {
            Loss::All => 0,
            Loss::Tear(_) => rng.below(self.changes.len() + 1),
            _ => self.changes.len(),
        };
        for change in &self.changes[..front] {
            if matches!(loss, Loss::Reorder { .. }) && rng.chance(50) {
                continue;
            }
            match change.clone() {
                Change::Link(name, file) => drop(names.insert(name, file)),
                Change::Rename(from, to, file) => {
                    names.remove(&from);
                    names.insert(to, file);
                }
                Change::Remove(name) => drop(names.remove(&name)),
            }
        }
        names
    }

    fn surviving_contents(&self, file: usize, loss: Loss, rng: &mut Rng) -> Vec<u8> {
        let Contents { written, synced, .. } = &self.files[file];
        let unsynced = written.len().saturating_sub(synced.len());
        match loss {
            Loss::All => synced.clone(),
            Loss::Nothing => written.clone(),
            Loss::TearLast(len) if file == self.written_last => written[..len].to_vec(),
            Loss::TearLast(_) => written.clone(),
            Loss::Tear(_) => match unsynced {
                0 if rng.chance(50) => written.clone(),
                0 => synced.clone(),
                _ => written[..synced.len() + rng.below(unsynced + 1)].to_vec(),
            },
            Loss::Reorder { block, .. } => reorder(synced, written, block, rng),
        }
    }
}

/// Of each block the old or the new contents; a lost one in front of a surviving one reads as zeros, as on
/// a file system that allocates late.
fn reorder(synced: &[u8], written: &[u8], block: usize, rng: &mut Rng) -> Vec<u8> {
    let mut contents = synced.to_vec();
    for (at, new) in written.chunks(block).enumerate() {
        let range = at * block..at * block + new.len();
        if synced.get(range.clone()) != Some(new) && rng.chance(60) {
            contents.resize(contents.len().max(range.end), 0);
            contents[range].copy_from_slice(new);
        }
    }
    contents
}

impl Disk for MemoryDisk {
    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let mut state = self.state();
        state.call(Call::Create)?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = state.files.len();
        state.files.push(Contents::default());
        state.names.insert(name.to_owned(), file);
        state.changes.push(Change::Link(name.to_owned(), file));
        Ok(Box::new(MemoryFile { disk: self.clone(), file }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let mut state = self.state();
        state.call(Call::Open)?;
        let file = state.named(name)?;
        Ok(Box::new(MemoryFile { disk: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.call(Call::Rename)?;
        let file = state.named(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), file);
        state.changes.push(Change::Rename(from.to_owned(), to.to_owned(), file));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.call(Call::Remove)?;
        state.named(name)?;
        state.names.remove(name);
        state.changes.push(Change::Remove(name.to_owned()));
        Ok(())
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        let state = self.state();
        let file = state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(state.files[*file].written.len() as u64)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.call(Call::Names)?;
        Ok(state.names.keys().cloned().collect())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.state();
        state.call(Call::SyncDir)?;
        state.safe_names = state.names.clone();
        state.changes.clear();
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    file: usize,
}

impl LogFile for MemoryFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        let taken = state.call(Call::Write)?.unwrap_or(bytes.len()).min(bytes.len());
        state.written_last = self.file;
        let (written, offset) = (&mut state.files[self.file].written, offset as usize);
        let len = written.len().max(offset + taken);
        written.resize(len, 0);
        written[offset..offset + taken].copy_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let result = state.call(Call::Sync);
        let is_off = state.power_off_at.is_some_and(|at| state.calls.len() >= at);
        let contents = &mut state.files[self.file];
        contents.dropped |= result.is_err() && !is_off;
        if result.is_ok() && !contents.dropped {
            contents.synced = contents.written.clone();
        }
        result.map(drop)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.call(Call::SetLen)?;
        state.files[self.file].written.resize(len as usize, 0);
        Ok(())
    }
}

/// A temporary directory that does not wear out a disk, where there is one.
pub fn memory_backed() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    let dir = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() };
    dir.expect("a temporary directory")
}
