//! The status page, Prometheus's `/metrics`, and the health checks of load balancers, over a little HTTP.
//!
//! ```text
//! thread `http`       accepts ─▶ starts a thread for each connection, at most CONNECTIONS_MAX
//! thread `http-conn`  reads one head ─▶ answers ─▶ closes
//! ```
//!
//! It listens from before the data is read, when `/readyz` says "loading", until the last client is gone. Peers can make it hold `CONNECTIONS_MAX` threads for twice `TIME_MAX`, each with a head of at most 8 KiB.
//! A few more connections are read, and only health checks among them are answered, so that scrapes which pile up
//! do not make a live server look dead. All others are told that the server is busy. No request runs a command or
//! changes anything, and a page of another site cannot read an answer.
//!
//! # Two servers side by side
//!
//! The default port is the one after the command port, where the next server may be wanted. A page that was not
//! asked for must not keep a server from starting. So if the port is taken, the server does without a page; and if
//! another kvstore wants the port for its commands later, it asks ([`bind_or_ask`]) and the page closes. A port
//! chosen with `metrics-port` is kept. The request has a header that no web page can send to another site.
//!
//! Left out: TLS, passwords, keep-alive, compression. A proxy in front has all of them.

mod answer;
mod request;
mod socket;

pub use socket::bind_or_ask;

use crate::config::{Config, Id, MetricsPort};
use crate::engine::Engine;
use crate::loading::Loading;
use crate::lock::Mutex;
use crate::server::connection::linger;
use crate::server::listener::{accept_all, close};
use crate::shutdown::Shutdown;
use answer::{Answer, answer};
use request::Request;
use rustix::net::SendFlags;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// Connections at once.
const CONNECTIONS_MAX: usize = 8;
/// Connections beyond those, for `/healthz` and `/readyz` only.
const CHECKS_MAX: usize = 4;
/// How long one of these may take to send its request.
const CHECK_TIME_MAX: Duration = Duration::from_millis(500);
/// How long a request may take to come, and an answer to be taken.
const TIME_MAX: Duration = Duration::from_secs(5);
/// Enough for a head and a page: no call here is deep.
const STACK_BYTES: usize = 256 << 10;
const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// The states that health checks and the page show.
const LOADING: &str = "loading";
const READY: &str = "ready";
const READ_ONLY: &str = "read only";
const SHUTTING_DOWN: &str = "shutting down";

/// The HTTP side of a server, shared by its threads.
#[derive(Debug)]
pub struct HttpState {
    addresses: Vec<SocketAddr>,
    /// The port is the default, so another kvstore may have it.
    may_give_way: bool,
    /// The names of `metrics-host`.
    hosts: Vec<String>,
    /// Set once the data has been read.
    engine: OnceLock<Arc<Engine>>,
    loading: Arc<Loading>,
    /// Empty once closed.
    listeners: Mutex<Vec<Arc<TcpListener>>>,
    closed: Shutdown,
    connections: AtomicUsize,
}

impl HttpState {
    /// Listens where the settings say. A default port that is taken is done without.
    pub fn listen(
        config: &Config,
        loading: &Arc<Loading>,
    ) -> Result<Arc<HttpState>, (SocketAddr, io::Error)> {
        let listeners: Vec<_> = listen(config)?.into_iter().map(Arc::new).collect();
        let addresses: Vec<_> = listeners.iter().filter_map(|l| l.local_addr().ok()).collect();
        addresses.iter().for_each(|addr| log::info!("status page on http://{addr}/"));
        Ok(Arc::new(HttpState {
            addresses,
            may_give_way: matches!(config.metrics_port(), MetricsPort::Beside(1..)),
            hosts: config.text(Id::MetricsHost).split_whitespace().map(str::to_string).collect(),
            engine: OnceLock::new(),
            loading: Arc::clone(loading),
            listeners: Mutex::new(listeners),
            closed: Shutdown::new(),
            connections: AtomicUsize::new(0),
        }))
    }

    /// One work for each address, to be run by a thread until the close: accepts connections.
    pub fn accepting(self: &Arc<Self>) -> Vec<impl FnOnce() + Send + 'static> {
        let accepting = |listener: &Arc<TcpListener>| {
            let (state, listener) = (Arc::clone(self), Arc::clone(listener));
            move || {
                let what = "on the status page's port";
                accept_all(
                    || listener.accept(),
                    &state.closed,
                    what,
                    |(socket, _)| admit(&state, socket),
                );
            }
        };
        self.listeners.lock().iter().map(accepting).collect()
    }

    /// The data has been read: from now on the pages have figures.
    pub fn open(&self, engine: &Arc<Engine>) {
        let first = self.addresses.first().filter(|_| !self.closed.is_requested());
        engine.metrics_port.store(first.map_or(0, SocketAddr::port), Relaxed);
        let _ = self.engine.set(Arc::clone(engine));
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Stops listening. An answer that is on its way may be cut off by the end of the process.
    pub fn close(&self) {
        self.closed.request();
        let listeners = std::mem::take(&mut *self.listeners.lock());
        listeners.iter().for_each(|listener| close(listener));
    }

    fn engine(&self) -> Option<&Engine> {
        self.engine.get().map(|engine| &**engine)
    }

    /// The state. If it is `READ_ONLY`, with the error of the log.
    fn state(&self) -> (&'static str, Option<String>) {
        self.state_while(self.loading.is_active())
    }

    /// As [`HttpState::state`], for a caller that has read whether data is being loaded.
    fn state_while(&self, is_loading: bool) -> (&'static str, Option<String>) {
        let Some(engine) = self.engine() else { return (LOADING, None) };
        if engine.shutdown.is_requested() {
            return (SHUTTING_DOWN, None);
        }
        // A follower that is taking over a full copy, or DEBUG RELOAD.
        if is_loading {
            return (LOADING, None);
        }
        let failure = engine.persistence.as_ref().and_then(|p| p.log.check().err());
        match failure {
            None => (READY, None),
            Some(error) => (READ_ONLY, Some(error.to_string())),
        }
    }

    /// A reader of the page could read all data anyway: it is for this machine only, and no password is set.
    fn may_show_data(&self, engine: &Engine) -> bool {
        let is_private = |addr: &SocketAddr| addr.ip().to_canonical().is_loopback();
        self.addresses.iter().all(is_private) && engine.config.text(Id::Requirepass).is_empty()
    }

    fn give_way(&self) {
        log::warn!(
            "another kvstore is started on the port of the status page, which is closed; \
             metrics-port chooses a port that it keeps"
        );
        if let Some(engine) = self.engine() {
            engine.metrics_port.store(0, Relaxed);
        }
        self.close();
    }

    /// Room for one more connection, as long as the permit lives.
    fn permit(self: &Arc<Self>) -> Option<Permit> {
        let before = self.connections.fetch_add(1, Relaxed);
        let permit = Permit { state: Arc::clone(self), only_checks: before >= CONNECTIONS_MAX };
        (before < CONNECTIONS_MAX + CHECKS_MAX).then_some(permit)
    }
}

/// Counts a connection, even if its thread panics.
struct Permit {
    state: Arc<HttpState>,
    /// Only a health check is answered.
    only_checks: bool,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.state.connections.fetch_sub(1, Relaxed);
    }
}

fn listen(config: &Config) -> Result<Vec<TcpListener>, (SocketAddr, io::Error)> {
    let (port, is_wanted) = match config.metrics_port() {
        MetricsPort::Off => return Ok(Vec::new()),
        MetricsPort::Beside(port) => (port, false),
        MetricsPort::Fixed(port) => (port, true),
    };
    let mut listeners = Vec::new();
    let mut addr = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    for ip in config.addresses(Id::MetricsBind) {
        addr.set_ip(ip);
        if !ip.to_canonical().is_loopback() {
            log::warn!("metrics-bind {ip}: other machines can read the status page");
        }
        match TcpListener::bind(addr) {
            // The kernel chooses a free port once, for all addresses.
            Ok(listener) => {
                addr.set_port(listener.local_addr().map_or(port, |addr| addr.port()));
                listeners.push(listener);
            }
            Err(error) if is_wanted => return Err((addr, error)),
            Err(error) => {
                log::warn!("no status page on {addr}: {error}; metrics-port chooses another port");
                return Ok(Vec::new());
            }
        }
    }
    Ok(listeners)
}

fn admit(state: &Arc<HttpState>, socket: TcpStream) {
    let Some(permit) = state.permit() else { return say_busy(&socket) };
    let thread = thread::Builder::new().name("http-conn".to_string()).stack_size(STACK_BYTES);
    let started = thread.spawn(move || serve(&permit, &socket));
    if let Err(error) = started {
        log::warn!("no thread for a connection to the status page: {error}");
    }
}

/// Sends the refusal, if the socket takes it at once.
fn say_busy(socket: &TcpStream) {
    let _ = rustix::net::send(socket, BUSY, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
}

/// Serves one request.
fn serve(permit: &Permit, socket: &TcpStream) {
    let mut head = Vec::new();
    let time_max = if permit.only_checks { CHECK_TIME_MAX } else { TIME_MAX };
    let read = socket::read_head(socket, Instant::now() + time_max, &mut head);
    let request = read.and_then(|()| request::parse(&head).map_err(Some));
    let is_check = |request: &Request<'_>| matches!(request.path, "/healthz" | "/readyz");
    if permit.only_checks && !request.as_ref().is_ok_and(is_check) {
        say_busy(socket);
        // Closing now would reset the connection, since its request is not read, and the refusal be lost.
        return linger(socket);
    }
    let (answer, with_body) = match request {
        Ok(request) => {
            let local = socket.local_addr().map_or(Ipv4Addr::UNSPECIFIED.into(), |addr| addr.ip());
            (answer(&permit.state, &request, local), request.method != "HEAD")
        }
        Err(Some(refusal)) => (Answer::from(refusal), true),
        Err(None) => return,
    };
    if socket::write_all(socket, &answer.encode(with_body), Instant::now() + TIME_MAX).is_ok() {
        linger(socket);
    }
}
