//! The log of a running server: opened and recovered at the start, begun anew by a new leader. `gate.rs` says
//! when replies may leave because of it.

use super::gate::{Gate, misconf};
use super::parking::Parking;
use crate::aof::cleanup;
use crate::aof::dir_lock::DirLock;
use crate::aof::disk::Directory;
use crate::aof::log::{Log, PENDING_BYTES_MAX};
use crate::aof::mark;
use crate::aof::record::{Epoch, Position};
use crate::aof::recovery::{self, Recovered, RecoveryError};
use crate::clock::{Stopwatch, UnixMillis};
use crate::cluster::members::Members;
use crate::cluster::node;
use crate::cluster::term::{Boot, Term};
use crate::config::{Config, Fsync, FsyncCell, Id};
use crate::error::Failure;
use crate::loading::Loading;
use crate::lock::{Mutex, rank};
use crate::observe::set_aside::SetAside;
use crate::replication::replica::settle_copy;
use crate::store::Store;
use crate::store::effect;
use crate::store::effect::Seq;
use crossbeam_channel::bounded;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::thread;

/// Payloads on their way from reading to applying, during recovery: two threads, so that both cores
/// work.
const LOAD_BATCH_BYTES: usize = 256 << 10;
const LOAD_BATCHES_MAX: usize = 16;

/// The log of a running server.
#[derive(Debug)]
pub struct Persistence {
    /// The log.
    pub log: Log,
    /// Where it is.
    pub dir: PathBuf,
    /// This node's permanent name: 40 hex digits.
    pub node_id: String,
    /// The contents of the file `node`.
    term: Mutex<Term>,
    /// The epoch of this node's last leadership.
    pub(crate) own_epoch: AtomicU64,
    /// The crc of that epoch's first record; 0 if this process did not begin it.
    pub(crate) own_epoch_crc: AtomicU32,
    /// Held as long as the server runs.
    lock: DirLock,
    /// When replies may leave.
    pub(crate) gate: Gate,
    /// Held while files are replaced or read back: no file may go while it is read. Taken before any shard's
    /// lock.
    pub(crate) files: Mutex<(), { rank::FILES }>,
    /// True if the sync thread is to end.
    pub(crate) is_stopping: AtomicBool,
    /// Bytes that recovery put aside at this start.
    pub quarantined_bytes: u64,
    /// All that was put aside, by this and earlier starts and by changes of leader.
    pub aside: SetAside,
    /// Recovery's milliseconds, and the records it read.
    pub recovery: (u64, u64),
    /// The progress of reading back.
    pub(crate) loading: Arc<Loading>,
    /// Bytes of all files of the log at the last compaction or start.
    pub(crate) size_at_compaction: AtomicU64,
}

impl Persistence {
    /// Locks the directory and recovers its data into `store`. The caller decides whether this node leads
    /// ([`Persistence::begin_epoch`]).
    pub fn open(
        config: &Config,
        store: &Store,
        loading: Arc<Loading>,
    ) -> Result<Persistence, RecoveryError> {
        let dir = PathBuf::from(config.text(Id::Dir));
        let named = dir.clone();
        let io_error = RecoveryError::at(&named);
        let lock = DirLock::hold(&dir).map_err(io_error)?;
        let mut term = node::read(&dir).map_err(io_error)?;
        let leader = config.leader().map(|(host, port)| format!("{host} {port}"));
        settle_copy(&dir, leader.as_deref())?;
        let watch = Stopwatch::start();
        let recovered = load(&dir, store, &loading)?;
        loading.set_active(false);
        store.loaded(recovered.records);
        cleanup::clean_up(&dir, &recovered)?;
        let millis = watch.micros() / 1000;
        if term.led > recovered.end.last.epoch {
            warn_of_older_log(&dir, term.led, &recovered).map_err(io_error)?;
        }
        if config.cluster().is_some() {
            begin_to_promise(&mut term, &dir, config, recovered.torn.is_some())
                .map_err(io_error)?;
            // A reader waits until what it reads is committed, and nothing of this is known to be.
            store.begin_all(true, UnixMillis::now).commit_record(|| recovered.end.last.seq);
        }
        let (keys, bytes) = (store.totals().keys, recovered.bytes);
        log::info!(
            "{}: {keys} keys from {} log records and {bytes} bytes in {millis} ms",
            dir.display(),
            recovered.records
        );

        let segment_size = config.int(Id::SegmentSize) as u64;
        let disk = Box::new(Directory::open(&dir).map_err(io_error)?);
        let log = Log::resume(disk, recovered.end, recovered.outline, segment_size, bytes)
            .map_err(io_error)?;
        log.continue_after(recovered.at);
        // A new directory's id is for ever, also if this node never leads.
        node::write(&dir, &term).map_err(io_error)?;
        let persistence = Persistence {
            log,
            node_id: term.id.to_string(),
            own_epoch: AtomicU64::new(term.led.0),
            term: Mutex::new(term),
            own_epoch_crc: AtomicU32::new(0),
            lock,
            gate: Gate {
                policy: FsyncCell::new(config.fsync()),
                is_crowded: AtomicBool::new(false),
                parking: Parking::default(),
            },
            files: Mutex::new(()),
            is_stopping: AtomicBool::new(false),
            quarantined_bytes: recovered.torn.map_or(0, |torn| torn.len),
            aside: SetAside::of(&dir),
            recovery: (millis, recovered.records),
            loading,
            size_at_compaction: AtomicU64::new(recovered.base.map_or(0, |_| bytes)),
            dir,
        };
        persistence.reconfigure(config);
        if let Some(base) = recovered.base {
            persistence.log.remove_replaced_by(base.position.seq).map_err(io_error)?;
        }
        Ok(persistence)
    }

    /// Fails if the path no longer leads to the directory that was opened.
    pub fn check_directory(&self) -> io::Result<()> {
        self.lock.check()
    }

    /// Begins a leadership with an epoch that no node known to this one has had. The epoch is on disk before its
    /// first record.
    pub fn begin_epoch(&self, now: UnixMillis) -> io::Result<Epoch> {
        self.lock.check()?;
        let newest = self.log.epoch();
        let epoch = {
            let mut term = self.term.lock();
            let mut next = term.clone();
            next.lead(Epoch(newest.max(term.epoch).0 + 1));
            node::write(&self.dir, &next)?;
            *term = next;
            term.led
        };
        self.own_epoch.store(epoch.0, Relaxed);
        let first = self.log.begin_epoch(epoch, now);
        let first = first.map_err(|error| io::Error::other(error.to_string()))?;
        self.own_epoch_crc.store(first.crc, Relaxed);
        Ok(epoch)
    }

    /// The members of this node's cluster, as the log's newest record of them says. None if that is of another cluster.
    pub fn members(&self) -> Option<Members> {
        let members = self.log.members()?;
        self.term.lock().counts(members.cluster).then_some(members)
    }

    /// The number of that record.
    pub fn members_seq(&self) -> Option<Seq> {
        let newest = self.log.outline().members().map(|members| (members.cluster, members.seq));
        newest.and_then(|(cluster, seq)| self.term.lock().counts(cluster).then_some(seq))
    }

    /// What this node has promised.
    pub fn term(&self) -> Term {
        self.term.lock().clone()
    }

    /// Writes what this node promises from now on, durably.
    pub fn write_term(&self, next: Term) -> io::Result<()> {
        let mut term = self.term.lock();
        node::write(&self.dir, &next)?;
        *term = next;
        Ok(())
    }

    /// An epoch that this node was elected for has begun with this record.
    pub fn begun(&self, epoch: Epoch, first: Position) {
        self.own_epoch.store(epoch.0, Relaxed);
        self.own_epoch_crc.store(first.crc, Relaxed);
    }

    /// The very last act of a clean stop: nothing that this node has acknowledged can be forgotten any more.
    pub fn note_clean_stop(&self) {
        let term = Term { boot: None, ..self.term() };
        let is_safe = !self.log.has_failed() && self.log.durable() == self.log.appended();
        if is_safe && let Err(error) = self.write_term(term) {
            log::warn!("the clean stop cannot be noted: {error}");
        }
    }

    /// The last leadership of this node: its epoch, and the crc of its first record.
    pub(crate) fn own_epoch(&self) -> (Epoch, u32) {
        (Epoch(self.own_epoch.load(Relaxed)), self.own_epoch_crc.load(Relaxed))
    }

    /// Ends the sync thread, with a last sync.
    pub fn stop_syncing(&self) {
        self.is_stopping.store(true, SeqCst);
        self.log.work.notify();
    }

    /// Follows a change of the settings.
    pub fn reconfigure(&self, config: &Config) {
        self.gate.policy.set(config.fsync());
        let limits = &self.log.limits;
        for (limit, id) in [
            (&limits.segment_bytes, Id::SegmentSize),
            (&limits.backlog_bytes, Id::ReplBacklogSize),
            (&limits.pinned_bytes, Id::ReplRetentionBytes),
        ] {
            limit.store(config.int(id) as u64, Relaxed);
        }
        limits.pending_bytes.store(config.pending_bytes_max().min(PENDING_BYTES_MAX), Relaxed);
        self.log.work.notify();
    }

    /// Returns once a write may begin, and whether it had to wait; or the refusal for the client.
    pub fn admit(&self) -> Result<bool, Failure> {
        self.log.admit().map_err(|error| misconf(&error))
    }

    /// Hands the pending records to the kernel if they are more than `bytes`.
    pub fn write_pending(&self, bytes: u64) -> Result<(), Failure> {
        if self.log.pending_bytes() <= bytes {
            return Ok(());
        }
        self.log.ensure_written(self.log.appended()).map(drop).map_err(|error| misconf(&error))
    }
}

/// A node that has led wrote a record of that epoch. It may have given the record up for another leader. A mark
/// would prove what was on the disk; without one, a warning is all that can be done.
fn warn_of_older_log(dir: &Path, led: Epoch, recovered: &Recovered) -> io::Result<()> {
    if mark::read(dir)?.is_none() {
        log::warn!(
            "{}: this node has led in epoch {}, but the log ends with record {} of epoch {}, and no mark proves \
             that this is its end. If the log was not cut on purpose, stop the server and restore a backup",
            dir.display(),
            led.0,
            recovered.end.last.seq,
            recovered.end.last.epoch.0
        );
    }
    Ok(())
}

/// A member of a cluster starts: it may have forgotten what it acknowledged, and may acknowledge what is not durable.
fn begin_to_promise(
    term: &mut Term,
    dir: &Path,
    config: &Config,
    is_damaged: bool,
) -> io::Result<()> {
    let now = Boot::now(dir)?;
    term.start(&now, is_damaged);
    term.boot = (config.fsync() != Fsync::Always).then_some(now);
    Ok(())
}

/// Reads and checks in one thread, applies in another.
fn load(dir: &Path, store: &Store, loading: &Loading) -> Result<Recovered, RecoveryError> {
    let (batch_tx, batch_rx) = bounded::<Vec<u8>>(LOAD_BATCHES_MAX);
    thread::scope(|scope| {
        let applying = scope.spawn(move || {
            let mut tx = store.begin_all(true, UnixMillis::now);
            for payloads in batch_rx {
                // No client reads meanwhile, so records need no boundary between them.
                effect::decode(&payloads, |effect| tx.apply(effect))
                    .expect("the reading thread has checked the payloads");
            }
            tx.forget_changes();
        });
        let mut batch = Vec::with_capacity(LOAD_BATCH_BYTES);
        let send = |batch: Vec<u8>| batch_tx.send(batch).expect("the applying thread is there");
        let result = recovery::load(dir, loading, |payload| {
            if effect::check(payload)? == 0 {
                return Ok(());
            }
            if batch.len() + payload.len() > LOAD_BATCH_BYTES && !batch.is_empty() {
                send(std::mem::replace(&mut batch, Vec::with_capacity(LOAD_BATCH_BYTES)));
            }
            batch.extend_from_slice(payload);
            Ok(())
        });
        send(batch);
        drop(batch_tx);
        applying.join().expect("applying does not panic");
        result
    })
}
