//! How a follower changes its state: by the leader's records, and by starting over from a full copy or from a
//! log that was cut off.
//!
//! # Events about keys
//!
//! A follower sends its subscribers an event, by its own `notify-keyspace-events`, for each effect applied:
//! `set`, `setrange`, `del`, `expire`, `persist`, `new`, and `expired` for a deletion after the key's
//! deadline. It knows only what the log says: INCR and RESTORE are `set`, APPEND and SETBIT are `setrange`,
//! RENAME is `set` and `del`, and an eviction is `del`. Starting over causes no event.

use super::replacement::{self, Pending, Purpose};
use super::truncate;
use crate::aof::log::Frozen;
use crate::aof::record::{Epoch, Header, Position};
use crate::aof::recovery;
use crate::aof::recovery::RecoveryError;
use crate::clock::UnixMillis;
use crate::cluster::members::Members;
use crate::engine::{Engine, Persistence};
use crate::lock::MutexGuard;
use crate::pubsub::notify;
use crate::store::Event;
use crate::store::effect;
use crate::store::effect::{Effect, Malformed, Seq};
use crate::store::{Store, Tx};
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// After this time of waiting, or this many records read, `working` is called.
const WORKING_EVERY: Duration = Duration::from_millis(500);
const WORKING_RECORDS: u64 = 256;

impl Engine {
    /// Applies a record of the leader's and adds it to this node's log, byte for byte, under the locks of
    /// all that it changes: readers see a transaction whole or not at all, here too. `record` is the whole
    /// record, which the caller has checked against the last one. Returns what subscribers are to be told
    /// once the record is as safe as is promised; None if the leader's `epoch`, by which it was elected, is over.
    pub fn apply_record(
        &self,
        persistence: &Persistence,
        header: &Header,
        record: &[u8],
        epoch: Option<Epoch>,
    ) -> Result<Option<Vec<Event>>, Malformed> {
        let payload = &record[record.len() - header.len as usize..];
        let mut keys = Vec::with_capacity(4);
        // All of it is judged before any of it is applied.
        Members::of_record(header.seq, payload)?;
        let has_keys = effect::keys(payload, |key| keys.push(key))?;
        // A later epoch is adopted with all shards locked, so a lock is needed to be sure that it is not.
        let mut tx = if has_keys && !(keys.is_empty() && epoch.is_some()) {
            self.store.begin(keys.iter().copied(), true, || header.at)
        } else {
            self.store.begin_all(true, || header.at)
        };
        if epoch.is_some_and(|epoch| !self.is_in_epoch(epoch)) {
            return Ok(None);
        }
        self.collect_events(&mut tx);
        effect::decode(payload, |effect| notify::apply(&mut tx, effect))?;
        tx.commit_record(|| persistence.log.append_record(header, record));
        Ok(Some(tx.take_events()))
    }

    /// True if this node has adopted no later epoch. Certain while a shard is locked.
    pub(super) fn is_in_epoch(&self, epoch: Epoch) -> bool {
        self.cluster.as_ref().is_none_or(|cluster| cluster.epoch() == epoch)
    }
}

impl Persistence {
    /// Takes over a full copy that waits for this: from here on, this node's history is the leader's.
    /// `begins` is called once nothing stands in the way, and `working` now and then. An error leaves the old
    /// log as it was. With all shards locked, `is_bound` is asked whether the leader's word still counts.
    ///
    /// # Panics
    /// As [`Persistence::rewind`].
    pub fn take_over_copy(
        &self,
        store: &Store,
        purpose: &Purpose,
        begins: impl FnOnce(),
        is_bound: impl FnOnce() -> bool,
        mut working: impl FnMut(),
    ) -> Result<Position, String> {
        let _steady = self.hold_files(&mut working);
        let frozen = self.hold_log()?;
        begins();
        let tx = hold_shards(store, is_bound)?;
        replacement::begin(&self.dir, purpose).map_err(|error| error.to_string())?;
        Ok(self.restart_from(tx, store, frozen, working, |_| replacement::finish(&self.dir)))
    }

    /// Cuts the log off after a record, and makes the state what it was there. What is cut off has been saved.
    /// None if the base is too new for that: a compaction may have just replaced an older one. Then, and after
    /// an error, the log is as it was.
    ///
    /// # Panics
    /// If the disk fails on the way: then the files are of one history and memory is of another, and what
    /// leads on is a restart, which reads back what is there.
    pub fn rewind(
        &self,
        store: &Store,
        last: Seq,
        begins: impl FnOnce(),
        is_bound: impl FnOnce() -> bool,
    ) -> Result<Option<Position>, String> {
        let _steady = self.hold_files(&mut || ());
        if !truncate::can_rewind(&self.dir, last).map_err(|error| error.to_string())? {
            return Ok(None);
        }
        let frozen = self.hold_log()?;
        begins();
        let tx = hold_shards(store, is_bound)?;
        let cut = |frozen: &Frozen<'_>| {
            // First, so that the mark is never ahead of the log.
            frozen.set_mark(last)?;
            truncate::cut_after(&self.dir, last)
        };
        Ok(Some(self.restart_from(tx, store, frozen, || (), cut)))
    }

    /// Waits until no other thread replaces or reads files; that may take as long as a whole compaction.
    fn hold_files(&self, working: &mut impl FnMut()) -> MutexGuard<'_, ()> {
        loop {
            if let Some(steady) = self.files.try_lock_for(WORKING_EVERY) {
                return steady;
            }
            working();
        }
    }

    /// Freezes the log, with all of it in its files.
    fn hold_log(&self) -> Result<Frozen<'_>, String> {
        self.log.sync().map_err(|error| error.to_string())?;
        let frozen = self.log.freeze();
        if frozen.is_complete() {
            Ok(frozen)
        } else {
            Err("records wait to be written".to_string())
        }
    }

    fn restart_from(
        &self,
        tx: Tx<'_>,
        store: &Store,
        frozen: Frozen<'_>,
        working: impl FnMut(),
        change: impl FnOnce(&Frozen<'_>) -> io::Result<()>,
    ) -> Position {
        let changed = change(&frozen).map_err(RecoveryError::at(&self.dir));
        changed.and_then(|()| self.rebuild(tx, store, frozen, working)).unwrap_or_else(|error| {
            if self.loading.is_given_up() {
                // The files are in order and all was synced; memory is a part of them, and is not seen any more.
                return self.log.last();
            }
            log::error!("the leader's history cannot be taken over: {error}; restart the server");
            panic!("the data directory fails while it is read back: {error}")
        })
    }

    fn rebuild(
        &self,
        mut tx: Tx<'_>,
        store: &Store,
        frozen: Frozen<'_>,
        mut working: impl FnMut(),
    ) -> Result<Position, RecoveryError> {
        tx.apply(Effect::FlushAll);
        let mut records = 0u64;
        let recovered = recovery::load(&self.dir, &self.loading, |payload| {
            records += 1;
            if records.is_multiple_of(WORKING_RECORDS) {
                working();
            }
            effect::decode(payload, |effect| tx.apply(effect)).map(drop)
        })?;
        let last = recovered.end.last;
        frozen
            .resume_at(recovered.end, recovered.outline, recovered.bytes)
            .map_err(RecoveryError::at(&self.dir))?;
        tx.forget_changes();
        store.loaded(recovered.records);
        self.log.continue_after(recovered.at);
        // Readers wait for what they read; all of this is on the disk.
        tx.commit_record(|| last.seq);
        self.size_at_compaction.store(self.log.size(), Relaxed);
        Ok(last)
    }
}

/// Locks all shards, if the leader's word still counts then.
fn hold_shards(store: &Store, is_bound: impl FnOnce() -> bool) -> Result<Tx<'_>, String> {
    let tx = store.begin_all(true, UnixMillis::now);
    if is_bound() { Ok(tx) } else { Err("the leader's epoch is over".to_string()) }
}

/// At the start, before the log is read: finishes taking over a full copy, or sets it aside if this node no
/// longer follows the `leader` that it came from, or has gone on without it.
pub fn settle_copy(dir: &Path, leader: Option<&str>) -> Result<(), RecoveryError> {
    let io_error = RecoveryError::at(dir);
    let Some(Pending { purpose, begun }) = replacement::pending(dir).map_err(io_error)? else {
        return Ok(());
    };
    if !begun {
        let is_wanted = leader == Some(purpose.leader.as_str())
            && purpose.holds(leader, recovery::read(dir, |_| Ok(()))?.end.last);
        if !is_wanted {
            return replacement::set_aside(dir).map(drop).map_err(io_error);
        }
        replacement::begin(dir, &purpose).map_err(io_error)?;
    }
    log::info!("a full copy of the data of {} takes the place of the log", purpose.leader);
    replacement::finish(dir).map_err(io_error)
}
