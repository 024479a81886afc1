//! The accepting thread: takes connections, says no to those over the limit.

use super::pool::Pool;
use crate::clients::socket::{Addr, Socket};
use crate::config::Id;
use crate::engine::Engine;
use crate::metrics::Stat;
use crate::shutdown::Shutdown as Latch;
use rustix::net::{SendFlags, sockopt};
use std::io;
use std::net::{Shutdown, TcpListener};
use std::sync::Arc;
use std::time::Duration;

/// How long to wait after an error that will not pass at once, such as having no descriptors left.
const BACK_OFF: Duration = Duration::from_millis(100);
const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";

/// Accepts clients until shutdown.
pub fn accept(listener: &TcpListener, pool: &Pool) {
    let shutdown = &pool.engine.shutdown;
    accept_all(
        || listener.accept(),
        shutdown,
        "connections",
        |(socket, addr)| {
            let local_addr = socket.local_addr().unwrap_or(addr);
            admit(pool, socket.into(), addr.into(), local_addr.into());
        },
    );
}

/// Accepts until the latch is closed. `what` is what an error prevents, for the log.
pub(crate) fn accept_all<S>(
    accept: impl Fn() -> io::Result<S>,
    closed: &Latch,
    what: &str,
    admit: impl Fn(S),
) {
    loop {
        let accepted = accept();
        if closed.is_requested() {
            return;
        }
        match accepted {
            Ok(socket) => admit(socket),
            // The peer left again between the kernel's accept and ours.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                log::error!("cannot accept {what}: {error}; trying again");
                closed.wait_for(BACK_OFF);
            }
        }
    }
}

/// Stops listening; the accepting thread wakes with an error.
pub fn close(listener: &TcpListener) {
    // It fails only if that has happened already.
    let _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Both);
}

/// Serves a connection, or tells it that there are too many.
pub(super) fn admit(pool: &Pool, socket: Socket, addr: Addr, local_addr: Addr) {
    let engine = &pool.engine;
    engine.metrics[Stat::ConnectionsReceived].increment();
    if let Err(error) = prepare(engine, &socket) {
        log::debug!("client {addr}: left before it was served: {error}");
        return;
    }
    let (max, spare) = (engine.maxclients(), engine.spare_connections());
    match engine.clients.register(socket, addr, local_addr, max, spare) {
        Err(socket) => refuse(engine, &socket),
        Ok(client) => {
            if let Err(reason) = pool.hand_over(Arc::clone(&client)) {
                log::warn!("client {addr}: no thread for it: {reason}");
                refuse(engine, client.outbox.socket());
                drop(engine.clients.hold(client));
            }
        }
    }
}

/// Replies are complete when they are written, so waiting for more of them (Nagle) only delays. The other end of a Unix
/// socket cannot vanish without a word.
fn prepare(engine: &Engine, socket: &Socket) -> io::Result<()> {
    let Socket::Tcp(socket) = socket else { return Ok(()) };
    socket.set_nodelay(true)?;
    let idle_seconds = engine.config.int(Id::TcpKeepalive) as u64;
    if idle_seconds > 0 {
        let probe = Duration::from_secs((idle_seconds / 3).max(1));
        sockopt::set_socket_keepalive(socket, true)?;
        sockopt::set_tcp_keepidle(socket, Duration::from_secs(idle_seconds))?;
        sockopt::set_tcp_keepintvl(socket, probe)?;
        sockopt::set_tcp_keepcnt(socket, 3)?;
    }
    Ok(())
}

fn refuse(engine: &Engine, socket: &Socket) {
    engine.metrics[Stat::ConnectionsRejected].increment();
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    // It is told if its socket takes the line at once; it is closed in any case.
    let _ = rustix::net::send(socket, TOO_MANY, flags);
    let _ = socket.shutdown(Shutdown::Write);
}
