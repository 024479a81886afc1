//! The server: sockets and threads around the engine, and the order in which they begin and end.
//!
//! Start: listen, show the status page, read the log, start the long-lived threads, accept. End, on
//! SIGINT, SIGTERM or SHUTDOWN:
//!
//! 0. an elected leader hands over to another node
//! 1. the link to a leader is cut and a load is given up: this node's log has come to its end
//! 2. the listeners close: no new clients
//! 3. each connection is closed for reading: its thread answers what it has received, then ends
//! 4. followers are sent the rest of the log
//! 5. who is not done within `shutdown-timeout` is cut off
//! 6. the status page closes; the sweeper, the compactor and the link's thread end, or are abandoned
//!    when the time is over
//! 7. the log is written and synced a last time, however long the disk takes
//!
//! A second signal exits at once. `signals.rs` says what SIGHUP does.

pub(crate) mod connection;
pub(crate) mod listener;
mod look;
mod pool;
mod readiness;
mod signals;
mod threads;
mod unix;

use crate::admin;
use crate::aof::recovery::RecoveryError;
use crate::cluster::shared::Cluster;
use crate::config::{Config, Id};
use crate::engine::{self, Engine};
use crate::failover;
use crate::loading::Loading;
use crate::observe::http::{self, HttpState};
use crate::replication;
use pool::Pool;
use signals::SignalThread;
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use std::{fmt, io, iter};
use threads::{Thread, with_grace};
use unix::UnixSocket;

/// Descriptors for everything but connections: listeners, files, standard streams.
const DESCRIPTORS_RESERVED: u64 = 32;

/// Why the server did not start.
#[derive(Debug)]
pub enum StartError {
    /// The address of this setting's port cannot be listened on.
    Listen(Id, SocketAddr, io::Error),
    /// The status page's address cannot be.
    ListenHttp(SocketAddr, io::Error),
    /// The Unix socket cannot be.
    ListenUnix(PathBuf, io::Error),
    /// The data cannot be read back.
    Recovery(RecoveryError),
    /// A thread or a signal handler cannot be had.
    Resource(&'static str, String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Listen(id, addr, error) if error.kind() == ErrorKind::AddrInUse => write!(
                f,
                "cannot listen on {addr}: the port is in use; stop what uses it, or choose another with --{}",
                id.setting().name
            ),
            StartError::Listen(_, addr, error) => write!(f, "cannot listen on {addr}: {error}"),
            StartError::ListenHttp(addr, error) => write!(
                f,
                "cannot listen on {addr}: {error}; choose another --metrics-port, or 0 for no status page"
            ),
            StartError::ListenUnix(path, error) => {
                write!(f, "cannot listen on unixsocket {}: {error}", path.display())
            }
            StartError::Recovery(error) => write!(f, "cannot read the data: {error}"),
            StartError::Resource(what, error) => write!(f, "cannot {what}: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Runs a server until it is told to end. Returns whether every connection and every thread ended by
/// itself.
pub fn serve(config: Config) -> Result<bool, StartError> {
    // Listen before anything is read, so that a taken port costs nothing.
    let listeners: Vec<_> = listen(&config)?.into_iter().map(Arc::new).collect();
    let addresses: Vec<SocketAddr> =
        listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let unix = UnixSocket::listen(&config)?.map(Arc::new);
    config.warnings().iter().for_each(|warning| log::warn!("{warning}"));

    // The status page says that the server is loading.
    let loading = Arc::new(Loading::default());
    let http = HttpState::listen(&config, &loading)
        .map_err(|(addr, error)| StartError::ListenHttp(addr, error))?;
    let page = http.accepting().into_iter().map(|accept| Thread::start("http", accept));
    let page = page.collect::<Result<Vec<_>, _>>()?;
    // Read the log.
    let commands = admin::commands_for(&config);
    let engine = Engine::open(config, commands, loading).map_err(StartError::Recovery)?;
    let engine = Arc::new(engine);
    engine.port.store(addresses.first().map_or(0, SocketAddr::port), Relaxed);
    http.open(&engine);
    limit_connections(&engine);
    engine.advise(|_| true);

    // Signals only close the latch; the main thread does the rest.
    let signals = SignalThread::start(&engine)?;

    // The sweeper removes expired keys.
    let sweeper = spawn("sweeper", &engine, engine::sweep)?;
    // The log is synced at its pace, until the last connection has ended.
    let syncer = spawn("aof-sync", &engine, engine::syncer::run)?;
    // The log is compacted when it has grown.
    let compactor = spawn("compactor", &engine, engine::compactor::run)?;
    // The link to a leader, if this node follows one.
    let link = spawn("repl-in", &engine, replication::link::run)?;
    // The nodes elect their leader, if they are told of each other.
    let electing = spawn("cluster", &engine, failover::driver::run)?;
    let peers = spawn("peers", &engine, failover::dial_peers)?;
    // One thread accepts for each address.
    let pool = Arc::new(Pool::new(Arc::clone(&engine)));
    let mut accepting = Vec::new();
    for listener in &listeners {
        let (listener, pool) = (Arc::clone(listener), Arc::clone(&pool));
        accepting.push(spawn("accept", &engine, move |_| listener::accept(&listener, &pool))?);
    }
    if let Some(socket) = unix.clone() {
        let pool = Arc::clone(&pool);
        accepting.push(spawn("accept", &engine, move |_| socket.accept(&pool))?);
    }
    announce(&addresses, unix.as_deref().map(UnixSocket::path), http.addresses());

    engine.shutdown.wait();
    log::info!("shutting down");
    engine.hand_over_at_end();
    engine.cluster.iter().for_each(Cluster::end);
    let timeout = Duration::from_secs(engine.config.int(Id::ShutdownTimeout) as u64);
    let deadline = Instant::now() + timeout;
    engine.loading.give_up();
    engine.role.cut_link();
    stop_listening(listeners, unix.as_deref());
    let mut in_time = end_all(&accepting, deadline);
    in_time &= close_connections(&engine, timeout, deadline) && pool.end(with_grace(deadline));
    http.close();
    in_time &= end_all(&page, deadline);
    in_time &= end_all(&[sweeper, compactor, link, electing, peers], deadline);
    sync_last(&engine, &syncer, deadline);
    signals.end();
    log::info!("bye");
    Ok(in_time)
}

/// The accepting threads wake with an error.
fn stop_listening(listeners: Vec<Arc<TcpListener>>, unix: Option<&UnixSocket>) {
    listeners.iter().for_each(|listener| listener::close(listener));
    unix.iter().for_each(|socket| socket.close());
}

fn end_all(threads: &[Thread], deadline: Instant) -> bool {
    // Each is waited for, also after one that is abandoned.
    threads.iter().filter(|thread| !thread.end(deadline)).count() == 0
}

/// The last sync is never skipped: without it, what `appendfsync` promises would not hold. A disk that
/// hangs holds up the end.
fn sync_last(engine: &Engine, syncer: &Thread, deadline: Instant) {
    if let Some(persistence) = &engine.persistence {
        persistence.stop_syncing();
    }
    if !syncer.wait(Some(with_grace(deadline))) {
        log::warn!(
            "the last sync of the log takes longer than shutdown-timeout; the server ends when the disk \
             is done; a second signal ends it at once, without the sync"
        );
        syncer.wait(None);
    }
    if let Some(persistence) = engine.persistence.as_ref().filter(|_| engine.cluster.is_some()) {
        persistence.note_clean_stop();
    }
}

fn spawn(
    name: &'static str,
    engine: &Arc<Engine>,
    run: impl FnOnce(&Engine) + Send + 'static,
) -> Result<Thread, StartError> {
    let engine = Arc::clone(engine);
    Thread::start(name, move || run(&engine))
}

/// Asks for as many descriptors as `maxclients` needs; with fewer, fewer clients may come.
fn limit_connections(engine: &Engine) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let wanted = engine.config.int(Id::Maxclients) as u64;
    let reserved = DESCRIPTORS_RESERVED + engine.spare_connections() as u64;
    let needed = wanted + reserved;
    let mut limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    if limit.current.is_some_and(|soft| soft < needed) {
        let raised = rustix::process::Rlimit { current: Some(needed.min(hard)), ..limit };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            limit = getrlimit(Resource::Nofile);
        }
    }
    let soft = limit.current.unwrap_or(u64::MAX);
    if soft < needed {
        let possible = soft.saturating_sub(reserved).max(1);
        engine.connections_possible.store(possible as usize, Relaxed);
        log::warn!(
            "maxclients is lowered from {wanted} to {possible}: this process may open only {soft} \
             files; raise the limit with 'ulimit -n {needed}'"
        );
    }
}

fn listen(config: &Config) -> Result<Vec<TcpListener>, StartError> {
    let sentinel = Some(Id::SentinelPort).filter(|id| config.int(*id) > 0);
    let backlog = config.int(Id::TcpBacklog) as i32;
    let bind = |(id, ip): (Id, IpAddr)| {
        let addr = SocketAddr::new(ip, config.int(id) as u16);
        let failed = |error| StartError::Listen(id, addr, error);
        let listener = http::bind_or_ask(addr).map_err(failed)?;
        // std listens with a fixed backlog; listening again sets ours.
        let set = rustix::net::listen(&listener, backlog);
        set.map(|()| listener).map_err(|error| failed(error.into()))
    };
    let on_all = |id| config.addresses(Id::Bind).into_iter().map(move |ip| (id, ip));
    iter::once(Id::Port).chain(sentinel).flat_map(on_all).map(bind).collect()
}

/// Says on standard output, for scripts and tests, where the server can be reached; and to systemd that it is ready.
fn announce(addresses: &[SocketAddr], unix: Option<&str>, pages: &[SocketAddr]) {
    let unix = unix.map(str::to_string);
    let list: Vec<String> = addresses.iter().map(SocketAddr::to_string).chain(unix).collect();
    let version = env!("CARGO_PKG_VERSION");
    log::info!("kvstore {version} listens on {}", list.join(" "));
    let mut lines = format!("kvstore {version} ready on {}\n", list.join(" "));
    lines.extend(pages.first().map(|addr| format!("status page on http://{addr}/\n")));
    let mut out = io::stdout();
    // A closed standard output is no reason not to serve.
    let _ = out.write_all(lines.as_bytes());
    let _ = out.flush();
    readiness::notify();
}

/// Lets every connection answer what it has received; returns whether all were done in time.
fn close_connections(engine: &Engine, timeout: Duration, deadline: Instant) -> bool {
    let clients = &engine.clients;
    // One that becomes a follower after this look is fed all the same, see `replication::leader`.
    for client in clients.all().iter().filter(|client| !client.is_follower()) {
        let _ = client.outbox.socket().shutdown(std::net::Shutdown::Read);
    }
    let only_followers = || clients.all().iter().all(|client| client.is_follower());
    clients.changed.wait_until(Some(deadline), only_followers);
    // Followers last: they get what the others have just written.
    engine.followers.close();
    if clients.changed.wait_until(Some(deadline), || clients.is_empty()) {
        return true;
    }
    let late = clients.all();
    log::warn!("{} connections were not done after {timeout:?}; cutting them off", late.len());
    late.iter().for_each(|client| client.kill());
    false
}
