//! The worker pool: one thread per connection, started when needed, kept for the next one.
//!
//! The accepting thread hands a connection over a channel without capacity: the hand-over succeeds only
//! if an idle worker is waiting at this moment. If none is, a worker is started, as long as there are
//! fewer than connections allowed. Idle workers end after `worker-idle-timeout`.

use super::connection;
use super::threads::{Counted, Running};
use crate::config::Id;
use crate::engine::{Client, Engine};
use crate::lock::Mutex;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

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
    workers: Arc<Running>,
}

impl Pool {
    pub fn new(engine: Arc<Engine>) -> Pool {
        let (connection_tx, connection_rx) = bounded(0);
        Pool {
            engine,
            connection_tx: Mutex::new(Some(connection_tx)),
            connection_rx,
            workers: Arc::default(),
        }
    }

    /// Gives a connection to a worker. An error means that none could be had.
    pub fn hand_over(&self, client: Arc<Client>) -> Result<(), String> {
        let tx = self.connection_tx.lock().clone().ok_or("the server is shutting down")?;
        let client = match tx.try_send(client) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(client) | TrySendError::Disconnected(client)) => client,
        };
        if self.workers.count() < self.engine.maxclients() + self.engine.spare_connections() {
            return self.start(client).map_err(|error| error.to_string());
        }
        tx.send_timeout(client, HANDOVER_WAIT).map_err(|_| "all workers are busy".to_string())
    }

    fn start(&self, client: Arc<Client>) -> std::io::Result<()> {
        let counted = self.workers.begin();
        let (engine, rx) = (Arc::clone(&self.engine), self.connection_rx.clone());
        thread::Builder::new()
            .name(format!("conn-{}", client.id.0))
            .stack_size(WORKER_STACK_BYTES)
            .spawn(move || work(&engine, client, &rx, counted))
            .map(drop)
    }

    /// Ends the workers, all of which are idle by now; returns whether they have ended by the deadline.
    pub fn end(&self, deadline: Instant) -> bool {
        self.connection_tx.lock().take();
        self.workers.wait(Some(deadline))
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
