//! The status page, Prometheus's `/metrics`, and the checks of balancers: HTTP, just enough of it.
//!
//! ```text
//! thread `http`       accepts ─▶ starts a thread for each connection, at most CONNECTIONS_MAX
//! thread `http-conn`  reads one head ─▶ answers ─▶ closes
//! ```
//!
//! It listens before the data is read, so that `/readyz` can say "loading", and until the last client is
//! gone. What somebody out there can make it do: hold [`CONNECTIONS_MAX`] threads for twice [`TIME_MAX`], each
//! with [`HEAD_BYTES_MAX`] bytes. Some connections more are asked what they want, and only the checks of
//! balancers are answered: scrapes that pile up do not make a live server look dead. All others are told
//! that it is busy. No command can be run over
//! it, nothing is changed by it, and no answer can be read by a page of another site.
//!
//! # Two servers beside each other
//!
//! The default port is the one after the command port. So a server on 7000 shows its page on 7001, where
//! somebody may want the next server. A page that nobody asked for must not keep a server from starting:
//! if the port is taken, the server does without; if a kvstore wants it for its commands later, it asks
//! ([`ask_for_port`]), and the page is closed. A port that was chosen with `metrics-port` is kept. The
//! request bears a header of our own, which no web page can send to another site.
//!
//! Left out: TLS, passwords, keep-alive, compression. A proxy in front has all of them.

mod answer;
mod request;

use super::threads::Thread;
use super::{StartError, connection, listener};
use crate::config::{Config, Id, MetricsPort};
use crate::engine::Engine;
use crate::loading::Loading;
use crate::lock::Mutex;
use crate::shutdown::Shutdown;
use answer::{Answer, answer};
use request::{HEAD_BYTES_MAX, HEAD_END, Refusal, Request};
use rustix::net::SendFlags;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// Connections at once.
const CONNECTIONS_MAX: usize = 8;
/// Connections beyond those, for `/healthz` and `/readyz` only.
const CHECKS_MAX: usize = 4;
/// How long one of these may take to say what it wants.
const CHECK_TIME_MAX: Duration = Duration::from_millis(500);
/// How long a request may take to come, and an answer to be taken.
const TIME_MAX: Duration = Duration::from_secs(5);
/// Enough for a head and a page; nothing here is deep.
const STACK_BYTES: usize = 256 << 10;
/// After an `accept` that failed for want of something.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How long a server that starts waits for another one to leave its port.
pub const GIVE_WAY_TIME: Duration = Duration::from_secs(1);
const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// What the server can do at the moment.
#[derive(Debug)]
pub enum State {
    /// The data is being read.
    Loading,
    /// It serves; with what is wrong with the log, it only reads.
    Ready(Option<String>),
    /// It is ending.
    ShuttingDown,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Loading => "loading",
            State::Ready(None) => "ready",
            State::Ready(Some(_)) => "read only",
            State::ShuttingDown => "shutting down",
        })
    }
}

/// What the threads share.
#[derive(Debug)]
pub struct House {
    addresses: Vec<SocketAddr>,
    /// Whether nobody has asked for just this port.
    may_give_way: bool,
    /// Names that we go by, of `metrics-host`.
    hosts: Vec<String>,
    /// There once the data has been read.
    engine: OnceLock<Arc<Engine>>,
    /// How far the reading is.
    loading: Arc<Loading>,
    /// Until it is closed.
    listeners: Mutex<Vec<Arc<TcpListener>>>,
    closed: Shutdown,
    connections: AtomicUsize,
}

/// The HTTP side of a server.
#[derive(Debug)]
pub struct Http {
    house: Arc<House>,
    threads: Vec<Thread>,
}

impl Http {
    /// Listens, if it is wanted and if it can.
    pub fn start(config: &Config, loading: &Arc<Loading>) -> Result<Http, StartError> {
        let listeners: Vec<_> = listen(config)?.into_iter().map(Arc::new).collect();
        let house = Arc::new(House {
            addresses: listeners.iter().filter_map(|l| l.local_addr().ok()).collect(),
            may_give_way: matches!(config.metrics_port(), MetricsPort::Beside(1..)),
            hosts: config.text(Id::MetricsHost).split_whitespace().map(str::to_string).collect(),
            engine: OnceLock::new(),
            loading: Arc::clone(loading),
            listeners: Mutex::new(listeners.clone()),
            closed: Shutdown::new(),
            connections: AtomicUsize::new(0),
        });
        let start = |listener: Arc<TcpListener>| {
            let house = Arc::clone(&house);
            Thread::start("http", move || accept(&house, &listener))
        };
        let threads = listeners.into_iter().map(start).collect::<Result<_, _>>()?;
        house.addresses.iter().for_each(|addr| log::info!("status page on http://{addr}/"));
        Ok(Http { house, threads })
    }

    /// The data has been read: from now on there is something to see.
    pub fn open(&self, engine: &Arc<Engine>) {
        let first = self.house.addresses.first().filter(|_| !self.house.closed.is_requested());
        engine.metrics_port.store(first.map_or(0, SocketAddr::port), Relaxed);
        let _ = self.house.engine.set(Arc::clone(engine));
    }

    /// Where it is.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.house.addresses
    }

    /// Ends it; its threads are to be waited for. An answer that is on its way may be cut off by the end of
    /// the process.
    pub fn close(&self) -> &[Thread] {
        self.house.close();
        &self.threads
    }
}

/// Listens where the settings say. A default port that is taken is done without.
fn listen(config: &Config) -> Result<Vec<TcpListener>, StartError> {
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
            // The kernel chooses once, for all addresses.
            Ok(listener) => {
                addr.set_port(listener.local_addr().map_or(port, |addr| addr.port()));
                listeners.push(listener);
            }
            Err(error) if is_wanted => return Err(StartError::ListenHttp(addr, error)),
            Err(error) => {
                log::warn!("no status page on {addr}: {error}; metrics-port chooses another port");
                return Ok(Vec::new());
            }
        }
    }
    Ok(listeners)
}

/// Asks whoever listens on this port to leave it, if it is a kvstore with its status page; returns
/// whether it will.
pub fn ask_for_port(mut addr: SocketAddr) -> bool {
    if addr.ip().is_unspecified() {
        addr.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    let ask = || -> io::Result<String> {
        let mut socket = TcpStream::connect_timeout(&addr, GIVE_WAY_TIME)?;
        socket.set_read_timeout(Some(GIVE_WAY_TIME))?;
        socket.write_all(b"GET /port HTTP/1.0\r\nKvstore-Asks-For-Port: please\r\n\r\n")?;
        // Whoever else listens there need not wait for more.
        socket.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        socket.take(HEAD_BYTES_MAX as u64).read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
}

impl House {
    fn engine(&self) -> Option<&Engine> {
        self.engine.get().map(|engine| &**engine)
    }

    fn state(&self) -> State {
        let Some(engine) = self.engine() else { return State::Loading };
        if engine.shutdown.is_requested() {
            return State::ShuttingDown;
        }
        // A follower that is taking over a full copy.
        if engine.loading.is_active() {
            return State::Loading;
        }
        let failure = engine.persistence.as_ref().and_then(|p| p.log.check().err());
        State::Ready(failure.map(|error| error.to_string()))
    }

    /// Whether whoever can read the page could read all data anyway.
    fn is_open_book(&self, engine: &Engine) -> bool {
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

    fn close(&self) {
        self.closed.request();
        let listeners = std::mem::take(&mut *self.listeners.lock());
        listeners.iter().for_each(|listener| listener::close(listener));
    }

    /// Room for one connection more, as long as the permit lives.
    fn permit(self: &Arc<House>) -> Option<Permit> {
        let before = self.connections.fetch_add(1, Relaxed);
        let permit = Permit { house: Arc::clone(self), check: before >= CONNECTIONS_MAX };
        (before < CONNECTIONS_MAX + CHECKS_MAX).then_some(permit)
    }
}

/// Counts a connection, even if its thread panics.
struct Permit {
    house: Arc<House>,
    /// It is good for the checks of balancers only.
    check: bool,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.house.connections.fetch_sub(1, Relaxed);
    }
}

fn accept(house: &Arc<House>, listener: &TcpListener) {
    loop {
        let accepted = listener.accept();
        if house.closed.is_requested() {
            return;
        }
        match accepted {
            Ok((socket, _)) => admit(house, socket),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                log::error!("cannot accept on the status page's port: {error}; trying again");
                house.closed.wait_for(BACK_OFF);
            }
        }
    }
}

fn admit(house: &Arc<House>, socket: TcpStream) {
    let Some(permit) = house.permit() else {
        let _ = rustix::net::send(&socket, BUSY, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        return;
    };
    let thread = thread::Builder::new().name("http-conn".to_string()).stack_size(STACK_BYTES);
    let started = thread.spawn(move || serve(&permit, &socket));
    if let Err(error) = started {
        log::warn!("no thread for a connection to the status page: {error}");
    }
}

/// Says that there is no place, if the socket takes it at once.
fn refuse(socket: &TcpStream) {
    let _ = rustix::net::send(socket, BUSY, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    // Else what it has sent, and nobody reads, would reset the connection before it hears that.
    connection::linger(socket);
}

/// Serves one request.
fn serve(permit: &Permit, socket: &TcpStream) {
    let (house, mut head) = (&*permit.house, Vec::new());
    let time_max = if permit.check { CHECK_TIME_MAX } else { TIME_MAX };
    let read = read_head(socket, Instant::now() + time_max, &mut head);
    let is_check = |request: &Request<'_>| matches!(request.path, "/healthz" | "/readyz");
    if permit.check && !(read.is_ok() && request::parse(&head).is_ok_and(|r| is_check(&r))) {
        return refuse(socket);
    }
    let (answer, with_body) = match read {
        Ok(()) => match request::parse(&head) {
            Ok(request) => {
                let local = socket.local_addr().map_or(Ipv4Addr::UNSPECIFIED.into(), |a| a.ip());
                (answer(house, &request, local), request.method != "HEAD")
            }
            Err(refusal) => (Answer::from(refusal), true),
        },
        Err(Some(refusal)) => (Answer::from(refusal), true),
        Err(None) => return,
    };
    if write_all(socket, &answer.encode(with_body), Instant::now() + TIME_MAX).is_ok() {
        connection::linger(socket);
    }
}

/// Reads up to the end of the head; what may stand behind it is not ours. Fails with what to answer, or
/// with nothing if the peer has gone.
fn read_head(
    socket: &TcpStream,
    deadline: Instant,
    head: &mut Vec<u8>,
) -> Result<(), Option<Refusal>> {
    let mut chunk = [0; 1024];
    loop {
        let len = match within(deadline, |left| {
            socket.set_read_timeout(Some(left))?;
            (&*socket).read(&mut chunk)
        }) {
            Ok(0) => return Err(None),
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                return Err(Some((408, "the request took too long")));
            }
            Err(_) => return Err(None),
        };
        // The end may lie across two reads.
        let searched = head.len().saturating_sub(HEAD_END.len() - 1);
        head.extend_from_slice(&chunk[..len]);
        if let Some(at) = head[searched..].windows(HEAD_END.len()).position(|w| w == HEAD_END) {
            head.truncate(searched + at + HEAD_END.len());
        }
        if head.len() > HEAD_BYTES_MAX {
            return Err(Some((431, "the request is too long")));
        }
        if head.ends_with(HEAD_END) {
            return Ok(());
        }
    }
}

fn write_all(socket: &TcpStream, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = within(deadline, |left| {
            socket.set_write_timeout(Some(left))?;
            (&*socket).write(bytes)
        })?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Makes a call that is given the time left. Each call of a slow peer's could be in time, and all of them
/// together not: so the deadline is for the whole.
fn within(
    deadline: Instant,
    mut call: impl FnMut(Duration) -> io::Result<usize>,
) -> io::Result<usize> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        match call(left) {
            // What the system calls a timeout; the clock decides.
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            result => return result,
        }
    }
}
