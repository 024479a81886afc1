//! The thread `compactor`: replaces the log by the state that it describes.
//!
//! No fork and no pause: the store is copied in small parts, each under its shard's read lock for the time of
//! copying some tens of kilobytes, at a bounded rate. [`compaction`] has the order of steps that makes a crash
//! at any point harmless.

use super::{Engine, Persistence};
use crate::aof::base::BaseWriter;
use crate::aof::compaction;
use crate::aof::errors::CompactError;
use crate::aof::log::Log;
use crate::clock::UnixMillis;
use crate::config::Id;
use crate::lock::Mutex;
use crate::shutdown::Shutdown;
use crate::signal::Signal;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How often the growth of the log is checked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A request for a compaction, with the channel for its result.
type Request = Option<Sender<Result<(), String>>>;

/// Compactions so far.
#[derive(Clone, Debug, Default)]
pub struct Compactions {
    /// When the current one began.
    began: Option<Instant>,
    /// Unix seconds of the last success, at first of the start.
    pub last_success: u64,
    /// Milliseconds that the last one took, whether it succeeded or not.
    pub last_millis: u64,
    /// Successes so far.
    pub count: u64,
    /// The error of the last one, if it failed.
    pub last_error: Option<String>,
    /// After a failure: the size that the log must reach before the next one begins by itself.
    retry_at_size: u64,
}

impl Compactions {
    /// Seconds since the current one began.
    pub fn current_seconds(&self) -> Option<u64> {
        self.began.map(|began| began.elapsed().as_secs())
    }

    /// Seconds that the last one took, if there was one.
    pub fn last_seconds(&self) -> Option<u64> {
        let is_known = self.count > 0 || self.last_error.is_some();
        is_known.then_some(self.last_millis / 1000)
    }
}

/// The way to ask for a compaction, and what became of those before.
#[derive(Debug)]
pub struct Compactor {
    request_tx: Sender<Request>,
    request_rx: Receiver<Request>,
    /// Notified by a request and by shutdown.
    pub(crate) wanted: Arc<Signal>,
    /// The compactions so far.
    pub state: Mutex<Compactions>,
}

impl Default for Compactor {
    fn default() -> Self {
        let (request_tx, request_rx) = bounded(1);
        let last_success = UnixMillis::now().seconds();
        let state = Mutex::new(Compactions { last_success, ..Compactions::default() });
        Compactor { request_tx, request_rx, wanted: Arc::default(), state }
    }
}

impl Compactor {
    /// Asks for a compaction in the background; returns false if one is asked for or going on.
    pub fn request(&self) -> bool {
        let is_running = self.state.lock().began.is_some();
        let asked = !is_running && self.request_tx.try_send(None).is_ok();
        self.wanted.notify();
        asked
    }

    /// Asks for one and waits for it.
    pub fn request_and_wait(&self, shutdown: &Shutdown) -> Result<(), String> {
        let (done_tx, done_rx) = bounded(1);
        if self.request_tx.try_send(Some(done_tx)).is_err() {
            return Err("Background save already in progress".into());
        }
        self.wanted.notify();
        if shutdown.is_requested() {
            // The thread may have ended before the request came.
            self.drop_requests();
        }
        done_rx.recv().unwrap_or_else(|_| Err("the server is shutting down".into()))
    }

    /// The end of their channels tells those who wait.
    fn drop_requests(&self) {
        self.request_rx.try_iter().for_each(drop);
    }
}

/// Runs until shutdown.
pub fn run(engine: &Engine) {
    let Some(persistence) = &engine.persistence else { return };
    let compactor = &engine.compactor;
    while !engine.shutdown.is_requested() {
        let is_wanted = || !compactor.request_rx.is_empty() || engine.shutdown.is_requested();
        compactor.wanted.wait_until(Some(Instant::now() + LOOK_EVERY), is_wanted);
        let request = match compactor.request_rx.try_recv() {
            Ok(request) => request,
            Err(_) if is_due(engine, persistence) => None,
            Err(_) => continue,
        };
        let result = compact(engine, persistence).map_err(|error| error.to_string());
        if let Some(done_tx) = request {
            // The requester may have left.
            let _ = done_tx.send(result);
        }
    }
    compactor.drop_requests();
}

fn compact(engine: &Engine, persistence: &Persistence) -> Result<(), CompactError> {
    let state = &engine.compactor.state;
    let began = Instant::now();
    state.lock().began = Some(began);
    let steady = persistence.files.lock();
    let mut changes = 0;
    let result = compaction::compact(&persistence.log, |base| {
        changes = engine.store.changes();
        copy_store(engine, &persistence.log, base)
    });
    drop(steady);
    let (size_now, took) = (persistence.log.size(), began.elapsed());
    let mut state = state.lock();
    state.began = None;
    state.last_millis = took.as_millis() as u64;
    state.last_error = result.as_ref().err().map(CompactError::to_string);
    match &result {
        Ok(size) => {
            // With what was written meanwhile: growth is counted from here on.
            persistence.size_at_compaction.store(size_now, Relaxed);
            engine.store.saved(changes);
            state.last_success = UnixMillis::now().seconds();
            state.count += 1;
            state.retry_at_size = 0;
            log::info!("compacted the log to {size} bytes in {took:?}");
        }
        Err(_) if engine.shutdown.is_requested() => {
            log::info!("compaction given up for the shutdown; the log is as it was");
        }
        Err(error) => {
            state.retry_at_size = size_now + size_now / 8;
            log::error!("cannot compact the log: {error}");
        }
    }
    result.map(drop)
}

/// True if the log has grown enough to be compacted by itself.
fn is_due(engine: &Engine, persistence: &Persistence) -> bool {
    let percentage = engine.config.int(Id::AutoCompactPercentage) as u64;
    let size = persistence.log.size();
    let before = persistence.size_at_compaction.load(Relaxed);
    let grown = size.saturating_sub(before);
    // A failed attempt is not repeated at once: the log must first grow again.
    percentage > 0
        && size >= engine.config.int(Id::AutoCompactMinSize) as u64
        && grown >= before / 100 * percentage
        && size >= engine.compactor.state.lock().retry_at_size
        && persistence.log.check().is_ok()
}

fn copy_store(engine: &Engine, log: &Log, base: &mut BaseWriter<'_>) -> Result<(), CompactError> {
    let began = Instant::now();
    compaction::each_part(&engine.store, |payload, keys| {
        // No earlier than what it holds, also if the clock was set back.
        base.add(payload, keys, engine.clock.now().max(log.last_at()))?;
        let rate = engine.config.int(Id::CompactRate) as u64;
        if keep_pace(engine, base.len, rate, began) {
            return Err(CompactError::ShuttingDown);
        }
        Ok(())
    })
}

/// Waits until `written` bytes fit the rate since the start; returns whether the server is shutting down.
fn keep_pace(engine: &Engine, written: u64, rate: u64, began: Instant) -> bool {
    let due = Duration::from_secs_f64(written as f64 / rate.max(1) as f64);
    let early = due.saturating_sub(began.elapsed());
    if rate == 0 || early < Duration::from_millis(1) {
        return engine.shutdown.is_requested();
    }
    engine.shutdown.wait_for(early)
}
