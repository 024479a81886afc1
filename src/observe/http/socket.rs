//! Reads and writes with one deadline for the whole, and asks another kvstore for its port.

use super::request::{HEAD_BYTES_MAX, HEAD_END, Refusal};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// How long a server that starts waits for another one to leave its port.
const GIVE_WAY_TIME: Duration = Duration::from_secs(1);

/// Binds. The port may be taken by the status page of another kvstore, which then makes room.
pub fn bind_or_ask(addr: SocketAddr) -> io::Result<TcpListener> {
    let bound = TcpListener::bind(addr);
    let is_taken = |error: &io::Error| error.kind() == ErrorKind::AddrInUse;
    if !bound.as_ref().is_err_and(is_taken) || !ask_for_port(addr) {
        return bound;
    }
    let deadline = Instant::now() + GIVE_WAY_TIME;
    loop {
        match TcpListener::bind(addr) {
            Err(error) if is_taken(&error) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            bound => return bound,
        }
    }
}

/// Asks the process that listens on this port to leave it. Returns true if it is a kvstore with its status page
/// there, and it will.
fn ask_for_port(mut addr: SocketAddr) -> bool {
    if addr.ip().is_unspecified() {
        addr.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    let ask = || -> io::Result<String> {
        let mut socket = TcpStream::connect_timeout(&addr, GIVE_WAY_TIME)?;
        socket.set_read_timeout(Some(GIVE_WAY_TIME))?;
        socket.write_all(b"GET /port HTTP/1.0\r\nKvstore-Asks-For-Port: please\r\n\r\n")?;
        // Another program there need not wait for more.
        socket.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        socket.take(HEAD_BYTES_MAX as u64).read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
}

/// Reads up to the end of the head; bytes after it are not ours. Fails with the answer to send, or with `None`
/// if the peer has gone.
pub fn read_head(
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

/// Writes all bytes, or fails.
pub fn write_all(socket: &TcpStream, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = within(deadline, |left| {
            socket.set_write_timeout(Some(left))?;
            (&*socket).write(bytes)
        })?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Makes a call that is given the time left. A timeout for each call would let a slow peer take for ever.
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
            // The system calls a timeout WouldBlock. The clock decides.
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            result => return result,
        }
    }
}
