//! The worker pool: one thread per connection, started when needed, kept for the next one.
//!
//! The accepting thread hands a connection over a channel without capacity: the hand-over succeeds only
//! if an idle worker is waiting at this moment. If none is, a worker is started, as long as there are
//! fewer than connections allowed. Idle workers end after `worker-idle-timeout`.

use super::connection;
use crate::config::Id;
use crate::engine::{Client, Engine};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A worker's stack. Commands keep what is large on the heap; only touched pages count as memory.
const WORKER_STACK_BYTES: usize = 256 << 10;
/// How long the accepting thread waits for a worker that is just about to become idle.
const HANDOVER_WAIT: Duration = Duration::from_secs(1);

/// The workers of a server.
pub struct Pool {
    pub engine: Arc<Engine>,
    /// Dropped at the end, which ends idle workers.
    connection_tx: Mutex<Option<Sender<Arc<Client>>>>,
    connection_rx: Receiver<Arc<Client>>,
    workers: Arc<AtomicUsize>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Counts a worker for as long as it lives, even if it panics.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Pool {
    pub fn new(engine: Arc<Engine>) -> Pool {
        let (connection_tx, connection_rx) = bounded(0);
        Pool {
            engine,
            connection_tx: Mutex::new(Some(connection_tx)),
            connection_rx,
            workers: Arc::default(),
            threads: Mutex::default(),
        }
    }

    /// Gives a connection to a worker. An error means that none could be had.
    pub fn hand_over(&self, client: Arc<Client>) -> Result<(), String> {
        let tx = self.connection_tx.lock().clone().ok_or("the server is shutting down")?;
        let client = match tx.try_send(client) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(client) | TrySendError::Disconnected(client)) => client,
        };
        if self.workers.load(Relaxed) < self.engine.maxclients() {
            return self.start(client).map_err(|error| error.to_string());
        }
        tx.send_timeout(client, HANDOVER_WAIT).map_err(|_| "all workers are busy".to_string())
    }

    fn start(&self, client: Arc<Client>) -> std::io::Result<()> {
        self.workers.fetch_add(1, Relaxed);
        let counted = Counted(Arc::clone(&self.workers));
        let (engine, rx) = (Arc::clone(&self.engine), self.connection_rx.clone());
        let thread = thread::Builder::new()
            .name(format!("conn-{}", client.id.0))
            .stack_size(WORKER_STACK_BYTES)
            .spawn(move || work(&engine, client, &rx, counted))?;
        let mut threads = self.threads.lock();
        // Ended ones need no join; a burst of short connections must not pile up handles.
        if threads.len() > 2 * self.workers.load(Relaxed) + 16 {
            threads.retain(|thread| !thread.is_finished());
        }
        threads.push(thread);
        Ok(())
    }

    /// Ends the workers, all of which are idle by now.
    pub fn join(&self) {
        self.connection_tx.lock().take();
        let threads = std::mem::take(&mut *self.threads.lock());
        threads.into_iter().for_each(|thread| drop(thread.join()));
    }
}

fn work(engine: &Engine, first: Arc<Client>, rx: &Receiver<Arc<Client>>, _counted: Counted) {
    let mut next = Some(first);
    while let Some(client) = next {
        connection::serve(engine, client);
        let idle_max = Duration::from_secs(engine.config.int(Id::WorkerIdleTimeout) as u64);
        next = rx.recv_timeout(idle_max).ok();
    }
}
