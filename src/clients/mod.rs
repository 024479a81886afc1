//! The connected clients: CLIENT LIST shows them, CLIENT KILL ends them. Their threads are in `server/`.

pub(crate) mod aside;
pub(crate) mod blocked;
pub mod outbox;
pub(crate) mod pause;
pub mod socket;

use crate::clock::Stopwatch;
use crate::config::{ClientClass, OutputLimit};
use crate::lock::Mutex;
use crate::memory::account::{Account, Total};
use crate::protocol::{Dialect, Reply};
use crate::pubsub::Subscriber;
use crate::signal::Signal;
use aside::Aside;
use blocked::Blocked;
use outbox::{Outbox, SendError};
use socket::{Addr, Socket};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed},
};

/// The number of a connection, from 1; a server never uses one twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// The part of a connection that other threads may read and change. Its own thread keeps the figures up to
/// date.
#[derive(Debug)]
pub struct Client {
    /// The connection's number.
    pub id: ClientId,
    /// The peer's address.
    pub addr: Addr,
    /// The address of ours that it connected to.
    pub local_addr: Addr,
    /// Replies and messages on their way to it.
    pub outbox: Arc<Outbox>,
    /// Its subscriptions, as publishers see them.
    pub subscriber: Arc<Subscriber>,
    /// Set by CLIENT NO-EVICT.
    pub no_evict: AtomicBool,
    /// Set by CLIENT NO-TOUCH.
    pub no_touch: AtomicBool,
    /// True while it is a MONITOR.
    pub monitors: AtomicBool,
    /// True after a key that it watches has changed.
    pub watch_fired: Arc<AtomicBool>,
    since: Stopwatch,
    /// When its last request came, in seconds after `since`.
    last_used_seconds: AtomicU64,
    /// Index of its last command in the table, [`NO_COMMAND`] before the first.
    pub(crate) last_command: AtomicU32,
    /// Bytes received and not yet used.
    pub(crate) input_bytes: AtomicUsize,
    /// Bytes of its input buffer and of its thread's other buffers.
    pub(crate) buffers: Account,
    /// The RESP version: 2 or 3.
    pub(crate) dialect: AtomicU32,
    /// Commands queued since MULTI, -1 outside of one.
    pub(crate) multi_commands: AtomicI64,
    /// Bytes of queued commands and of watched keys.
    pub(crate) multi_bytes: Account,
    /// Its description of itself.
    pub(crate) labels: Mutex<Labels>,
    /// True if it came when there were `maxclients` others. Only another node of the cluster may stay.
    pub is_spare: bool,
    /// True if this node's log is sent to it.
    follower: AtomicBool,
    /// True if it is another member of the cluster.
    peer: AtomicBool,
    killed: AtomicBool,
    /// Its wait in a command.
    pub(crate) blocked: Blocked,
    /// Batches of replies that are parked.
    parked: AtomicUsize,
    /// Notified when the last parked batch has left, or the client is killed.
    unparked: Signal,
}

/// A client's description of itself.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// CLIENT SETNAME.
    pub name: String,
    /// CLIENT SETINFO LIB-NAME.
    pub library: String,
    /// CLIENT SETINFO LIB-VER.
    pub library_version: String,
}

/// [`Client::last_command`] before the first.
pub(crate) const NO_COMMAND: u32 = u32::MAX;

impl Client {
    /// Records a command by its index in the table.
    pub fn record_command(&self, index: usize) {
        self.last_command.store(index as u32, Relaxed);
    }

    /// Records how much input waits and how large its buffers are. Called before each wait for more input, so
    /// it also records the time.
    pub fn record_input(&self, waiting: usize, buffers: usize) {
        self.input_bytes.store(waiting, Relaxed);
        self.buffers.set(buffers);
        self.last_used_seconds.store(self.age_seconds(), Relaxed);
    }

    /// Records the RESP version.
    pub fn record_dialect(&self, dialect: Dialect) {
        self.dialect.store(if dialect == Dialect::Resp3 { 3 } else { 2 }, Relaxed);
    }

    /// Records how many commands are queued (-1: no transaction), and their bytes.
    pub fn record_transaction(&self, commands: i64, bytes: usize) {
        self.multi_commands.store(commands, Relaxed);
        self.multi_bytes.set(bytes);
    }

    /// True while replies to it are parked; later ones must be parked after them.
    pub fn has_parked(&self) -> bool {
        self.parked.load(Acquire) > 0
    }

    /// Waits until its parked replies have been sent: for a sync or two at most.
    pub fn wait_unparked(&self) {
        self.unparked.wait_until(None, || !self.has_parked() || self.is_killed());
    }

    /// Counts a batch of replies that is being parked, see [`Outbox::park`].
    pub(crate) fn park(&self, reply: &Reply, limit: OutputLimit) -> Result<(), SendError> {
        self.outbox.park(reply.bytes().len(), reply.largest_value(), limit)?;
        self.parked.fetch_add(1, AcqRel);
        Ok(())
    }

    /// A parked batch has been sent.
    pub(crate) fn unpark(&self) {
        if self.parked.fetch_sub(1, AcqRel) == 1 {
            self.unparked.notify();
        }
    }

    /// Its class, which decides its output limit.
    pub fn class(&self) -> ClientClass {
        match self.subscriber.listens() {
            _ if self.is_node() => ClientClass::Replica,
            true => ClientClass::PubSub,
            false => ClientClass::Normal,
        }
    }

    /// From now on this node's log is sent to it.
    pub fn becomes_follower(&self) {
        self.follower.store(true, Relaxed);
    }

    /// True if this node's log is sent to it.
    pub fn is_follower(&self) -> bool {
        self.follower.load(Relaxed)
    }

    /// From now on it is another member of the cluster, which says who leads.
    pub fn becomes_peer(&self) {
        self.peer.store(true, Relaxed);
    }

    fn is_node(&self) -> bool {
        self.is_follower() || self.peer.load(Relaxed)
    }

    /// Ends the connection from another thread.
    pub fn kill(&self) {
        self.killed.store(true, Relaxed);
        self.unparked.notify();
        self.outbox.cut();
        self.blocked.wake();
    }

    /// True if it is being ended.
    pub fn is_killed(&self) -> bool {
        self.killed.load(Relaxed)
    }

    /// Seconds since it connected.
    pub(crate) fn age_seconds(&self) -> u64 {
        self.since.micros() / 1_000_000
    }

    /// Seconds since its last request.
    pub(crate) fn idle_seconds(&self) -> u64 {
        self.age_seconds().saturating_sub(self.last_used_seconds.load(Relaxed))
    }
}

/// The registry.
#[derive(Debug, Default)]
pub struct Clients {
    by_id: Mutex<BTreeMap<ClientId, Arc<Client>>>,
    last_id: AtomicU64,
    memory: Total,
    /// The number of clients that output waits for.
    slow: Total,
    /// Notified when a client has left or has become a follower.
    pub changed: Signal,
    /// One connection at a time looks for its next request before it waits for it (`server/look.rs`).
    pub looking: AtomicBool,
    /// Where a connection steps aside before it waits.
    pub(crate) aside: Aside,
}

/// Takes the client out of the registry when its connection ends, however it ends.
#[derive(Debug)]
pub struct Registration<'a> {
    clients: &'a Clients,
    /// The client.
    pub client: Arc<Client>,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.client.outbox.cut();
        self.clients.by_id.lock().remove(&self.client.id);
        self.clients.changed.notify();
    }
}

impl Clients {
    /// Adds a new connection, unless there are `max` already. Of `spare` more, followers and members do not count,
    /// and others are marked as spare.
    pub fn register(
        &self,
        socket: impl Into<Socket>,
        addr: impl Into<Addr>,
        local_addr: impl Into<Addr>,
        max: usize,
        spare: usize,
    ) -> Result<Arc<Client>, Socket> {
        let (socket, addr, local_addr) = (socket.into(), addr.into(), local_addr.into());
        let mut by_id = self.by_id.lock();
        if by_id.len() >= max.saturating_add(spare) {
            return Err(socket);
        }
        let ordinary = || by_id.values().filter(|client| !client.is_node()).count();
        let is_spare = by_id.len() >= max && ordinary() >= max;
        let id = ClientId(self.last_id.fetch_add(1, Relaxed) + 1);
        let outbox = Arc::new(Outbox::new(socket, id.0, &self.memory, &self.slow));
        let client = Arc::new(Client {
            id,
            addr,
            local_addr,
            subscriber: Arc::new(Subscriber::new(Arc::clone(&outbox), addr)),
            outbox,
            no_evict: AtomicBool::new(false),
            no_touch: AtomicBool::new(false),
            monitors: AtomicBool::new(false),
            watch_fired: Arc::default(),
            since: Stopwatch::start(),
            last_used_seconds: AtomicU64::new(0),
            last_command: AtomicU32::new(NO_COMMAND),
            input_bytes: AtomicUsize::new(0),
            buffers: Account::new(&self.memory),
            dialect: AtomicU32::new(2),
            multi_commands: AtomicI64::new(-1),
            multi_bytes: Account::new(&self.memory),
            labels: Mutex::default(),
            is_spare,
            follower: AtomicBool::new(false),
            peer: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            blocked: Blocked::default(),
            parked: AtomicUsize::new(0),
            unparked: Signal::default(),
        });
        by_id.insert(id, Arc::clone(&client));
        Ok(client)
    }

    /// Ties a registered client to the life of its connection.
    pub fn hold(&self, client: Arc<Client>) -> Registration<'_> {
        Registration { clients: self, client }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.lock().len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, oldest first.
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.by_id.lock().values().cloned().collect()
    }

    /// The clients that output waits for. Usually there are none, which costs one relaxed load.
    pub fn slow(&self) -> Vec<Arc<Client>> {
        if self.slow.get() == 0 {
            return Vec::new();
        }
        let by_id = self.by_id.lock();
        by_id.values().filter(|client| client.outbox.queued_bytes() > 0).cloned().collect()
    }

    /// Bytes held for all clients: input buffers, transactions and waiting output. Kept up to date by each
    /// change.
    pub fn memory(&self) -> &Total {
        &self.memory
    }
}
