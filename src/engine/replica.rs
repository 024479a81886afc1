//! A follower's way to its state: the leader's records, applied as they are, and the two ways to start
//! over, from a full copy and from a cut-off log.
//!
//! # Events about keys
//!
//! A follower tells its subscribers, by its own `notify-keyspace-events`, of each effect that it applies:
//! `set`, `setrange`, `del`, `expire`, `persist`, `new`, and `expired` for a deletion after the key's
//! deadline. It cannot know what the log does not say: INCR and RESTORE are `set`, APPEND and SETBIT are
//! `setrange`, RENAME is `set` and `del`, and an eviction is `del`. Starting over is no event.

use super::{Engine, Persistence};
use crate::aof::files;
use crate::aof::log::Still;
use crate::aof::record::{Header, Position};
use crate::aof::recovery::{self, RecoveryError};
use crate::clock::UnixMillis;
use crate::effect::{self, Effect, Malformed, Seq};
use crate::event::Event;
use crate::store::{Scope, Store};
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How often a long wait, and how many records' reading, let others know that there is somebody at work.
const WORKING_EVERY: Duration = Duration::from_millis(500);
const WORKING_RECORDS: u64 = 256;

impl Engine {
    /// Applies a record of the leader's and adds it to this node's log, byte for byte, under the locks of
    /// all that it changes: readers see a transaction whole or not at all, here too. `record` is the whole
    /// record, which the caller has checked against the last one. Returns what subscribers are to be told
    /// once the record is as safe as is promised.
    pub fn apply_record(
        &self,
        persistence: &Persistence,
        header: &Header,
        record: &[u8],
    ) -> Result<Vec<Event>, Malformed> {
        let payload = &record[record.len() - header.len as usize..];
        let mut keys = Vec::with_capacity(4);
        // All of it is judged before any of it is applied.
        effect::check(payload)?;
        let mut tx = if effect::keys(payload, |key| keys.push(key))? {
            self.store.begin(keys.iter().copied(), true, header.at)
        } else {
            self.store.begin_scope(Scope::All, true, header.at)
        };
        tx.tell_events(self.told_classes());
        effect::decode(payload, |effect| tx.apply_telling(effect))?;
        tx.commit_record(|| persistence.log.append_record(header, record));
        Ok(tx.take_events())
    }
}

impl Persistence {
    /// Whether the log's end may hold writes that this node took as a leader and that nobody else has.
    pub fn may_hold_writes_of_its_own(&self) -> bool {
        let last = self.log.last();
        last.seq > Seq(0) && self.own_epoch.load(Relaxed) == last.epoch.0
    }

    /// Takes over a full copy that waits in the directory for replacements: from here on, this node's
    /// history is the leader's. `working` is called now and then.
    ///
    /// # Panics
    /// As [`Persistence::rewind`].
    pub fn take_over_copy(&self, store: &Store, mut working: impl FnMut()) -> Position {
        let _steady = loop {
            if let Some(steady) = self.files.try_lock_for(WORKING_EVERY) {
                break steady;
            }
            working();
        };
        self.restart_from(store, working, |_| files::finish_replacement(&self.dir))
    }

    /// Cuts the log off behind a record, and makes the state what it was there. What is cut off has been
    /// saved.
    ///
    /// # Panics
    /// If the disk fails on the way: then the files are of one history and memory is of another, and what
    /// leads on is a restart, which reads back what is there.
    pub fn rewind(&self, store: &Store, last: Seq) -> Position {
        let _steady = self.files.lock();
        self.restart_from(store, || (), |still| still.cut_behind(&self.dir, last))
    }

    /// Changes the files, then makes memory and log go on from what the directory holds, as a restart would.
    fn restart_from(
        &self,
        store: &Store,
        working: impl FnMut(),
        change: impl FnOnce(&Still<'_>) -> io::Result<()>,
    ) -> Position {
        let io_error = |error| RecoveryError::Io(self.dir.clone(), error);
        let still = self.log.hold_still();
        let changed = change(&still).map_err(io_error);
        changed.and_then(|()| self.rebuild(store, still, working)).unwrap_or_else(|error| {
            log::error!("the leader's history cannot be taken over: {error}; restart the server");
            panic!("the data directory fails while it is read back: {error}")
        })
    }

    fn rebuild(
        &self,
        store: &Store,
        still: Still<'_>,
        mut working: impl FnMut(),
    ) -> Result<Position, RecoveryError> {
        let mut tx = store.begin_scope(Scope::All, true, UnixMillis::now());
        tx.apply(Effect::FlushAll);
        let mut records = 0u64;
        let recovered = recovery::read(&self.dir, |payload| {
            records += 1;
            if records.is_multiple_of(WORKING_RECORDS) {
                working();
            }
            effect::decode(payload, |effect| tx.apply(effect)).map(drop)
        })?;
        let last = recovered.tail.last;
        still
            .restart_at(recovered.tail, recovered.epochs, recovered.bytes)
            .map_err(|error| RecoveryError::Io(self.dir.clone(), error))?;
        tx.forget_changes();
        store.loaded(recovered.records);
        // Readers wait for what they read; all of this is on the disk.
        tx.commit_record(|| last.seq);
        self.size_at_compaction.store(self.log.size(), Relaxed);
        Ok(last)
    }
}
