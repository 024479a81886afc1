//! What goes out to one client.
//!
//! A connection's thread reads requests and sends replies. If it blocked while sending, it would stop
//! reading; a client that sends a hundred thousand commands before it reads one reply would block too,
//! and both would wait for ever. So nobody blocks on a client's socket but the thread made for it:
//!
//! ```text
//! conn-7       ──── send ────▶ socket            usually: the kernel takes all of it at once
//!                  └─ rest ──▶ queue ──▶ conn-7-push ──▶ socket
//! ```
//!
//! The push thread is started by the first send that stalls and ends when the queue is empty. Order is
//! kept: as long as anything is queued, whatever is sent joins the queue. The queue is bounded by the
//! client's [`OutputLimit`]: whoever has more waiting and asks for more is cut off, because the alternatives are to stop
//! reading (above) or to let one client take all memory.
//!
//! Out of scope: who decides what to send.

use crate::config::OutputLimit;
use crate::held::{Held, Sum};
use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// How long a client may take nothing at all of its last replies, before a connection that is ending
/// stops waiting for it.
const STALL_MAX: Duration = Duration::from_secs(60);
/// The push thread calls only `write`.
const PUSH_STACK_BYTES: usize = 64 << 10;
/// Replies are gathered into pieces of about this size, so that small ones do not become small writes.
const PIECE_BYTES: usize = 64 << 10;

/// Why nothing more can be sent.
#[derive(Debug)]
pub enum SendError {
    /// The socket is closed or broken.
    Closed(io::Error),
    /// More was waiting already than the limit allows; the number of bytes.
    OverLimit(usize),
    /// The rest needs a push thread, and none can be had: the connection has been cut.
    NoThread(io::Error),
}

/// The way to one client.
#[derive(Debug)]
pub struct Outbox {
    socket: TcpStream,
    /// The push thread's name.
    name: String,
    queue: Mutex<Queue>,
    /// Signalled when a piece has been written, and when the socket breaks.
    progress: Condvar,
    sent_bytes: AtomicU64,
    /// The queue's bytes, for the sum over all clients.
    held: Held,
}

#[derive(Debug, Default)]
struct Queue {
    pieces: VecDeque<Vec<u8>>,
    /// Bytes in `pieces` and in the hands of the push thread.
    bytes: usize,
    pushing: bool,
    broken: bool,
    over_soft_since: Option<Instant>,
}

impl Outbox {
    /// The way out through this socket, for the client of this number. What is queued is part of `memory`.
    pub fn new(socket: TcpStream, client: u64, memory: &Sum) -> Outbox {
        Outbox {
            socket,
            name: format!("conn-{client}-push"),
            queue: Mutex::default(),
            progress: Condvar::new(),
            sent_bytes: AtomicU64::new(0),
            held: Held::new(memory),
        }
    }

    /// The socket, for reading from it.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Bytes waiting for the client to read them.
    pub fn queued_bytes(&self) -> usize {
        self.held.get()
    }

    /// Bytes handed to the kernel so far.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Relaxed)
    }

    /// Sends without ever blocking on the client. What the kernel does not take is queued.
    pub fn send(self: &Arc<Self>, bytes: &[u8], limit: OutputLimit) -> Result<(), SendError> {
        self.turn().send(bytes, limit)
    }

    /// Keeps everybody else from sending: what is decided during the turn is so when its bytes leave.
    pub fn turn(self: &Arc<Self>) -> Turn<'_> {
        Turn { outbox: self, queue: self.queue.lock() }
    }

    /// Waits until everything queued is sent. Gives up when the socket breaks, or when the client has
    /// taken nothing for a minute.
    pub fn drain(&self) {
        let mut queue = self.queue.lock();
        while queue.bytes > 0 && !queue.broken {
            let before = self.sent_bytes();
            let timed_out = self.progress.wait_for(&mut queue, STALL_MAX).timed_out();
            if timed_out && self.sent_bytes() == before {
                break;
            }
        }
    }

    /// Breaks the connection off in both directions: whoever reads from or writes to it is woken.
    pub fn cut(&self) {
        self.queue.lock().broken = true;
        // It fails if the peer is gone already, which is as well.
        let _ = self.socket.shutdown(Shutdown::Both);
        self.progress.notify_all();
    }

    fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut sent = 0;
        while sent < bytes.len() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::send(&self.socket, &bytes[sent..], flags) {
                Ok(n) => sent += n,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.sent_bytes.fetch_add(sent as u64, Relaxed);
        Ok(sent)
    }

    fn start_pushing(self: &Arc<Self>) -> io::Result<()> {
        let outbox = Arc::clone(self);
        let thread = thread::Builder::new().name(self.name.clone()).stack_size(PUSH_STACK_BYTES);
        // Not joined: it ends by itself when the queue is empty or the socket is cut, and `drain` and
        // `cut` are how the connection's thread waits for or causes that.
        thread.spawn(move || outbox.push_all()).map(drop)
    }

    fn push_all(&self) {
        loop {
            let mut queue = self.queue.lock();
            let Some(piece) = queue.pieces.pop_front().filter(|_| !queue.broken) else {
                queue.pushing = false;
                return;
            };
            drop(queue);
            let result = self.push(&piece);
            let mut queue = self.queue.lock();
            queue.bytes -= piece.len();
            self.held.set(queue.bytes);
            queue.broken |= result.is_err();
            drop(queue);
            self.progress.notify_all();
        }
    }

    fn push(&self, mut piece: &[u8]) -> io::Result<()> {
        while !piece.is_empty() {
            let n = (&self.socket).write(piece)?;
            self.sent_bytes.fetch_add(n as u64, Relaxed);
            piece = &piece[n..];
        }
        Ok(())
    }
}

/// The right to send the next bytes; see [`Outbox::turn`].
pub struct Turn<'a> {
    outbox: &'a Arc<Outbox>,
    queue: MutexGuard<'a, Queue>,
}

impl Turn<'_> {
    /// Sends, see [`Outbox::send`], and ends the turn.
    pub fn send(self, bytes: &[u8], limit: OutputLimit) -> Result<(), SendError> {
        let Turn { outbox, mut queue } = self;
        if queue.broken {
            return Err(SendError::Closed(io::ErrorKind::BrokenPipe.into()));
        }
        let sent =
            if queue.bytes == 0 { outbox.send_now(bytes).map_err(SendError::Closed)? } else { 0 };
        if sent == bytes.len() {
            return Ok(());
        }
        // What was waiting before counts, and not this reply: a client that reads gets a reply of any
        // length.
        if queue.is_over(limit) {
            let waiting = queue.bytes;
            // At once, so that of several who send only one finds it over its limit.
            queue.broken = true;
            drop(queue);
            outbox.cut();
            return Err(SendError::OverLimit(waiting));
        }
        queue.add(&bytes[sent..]);
        outbox.held.set(queue.bytes);
        if !queue.pushing {
            queue.pushing = true;
            drop(queue);
            if let Err(error) = outbox.start_pushing() {
                // Nothing else would send what is queued, and the client would wait for ever.
                outbox.cut();
                return Err(SendError::NoThread(error));
            }
        }
        Ok(())
    }
}

impl Queue {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        match self.pieces.back_mut().filter(|piece| piece.len() + bytes.len() <= PIECE_BYTES) {
            Some(piece) => piece.extend_from_slice(bytes),
            None => self.pieces.push_back(bytes.to_vec()),
        }
    }

    fn is_over(&mut self, limit: OutputLimit) -> bool {
        let waiting = self.bytes as u64;
        if limit.hard_bytes > 0 && waiting > limit.hard_bytes {
            return true;
        }
        if limit.soft_bytes == 0 || waiting <= limit.soft_bytes {
            self.over_soft_since = None;
            return false;
        }
        let since = *self.over_soft_since.get_or_insert_with(Instant::now);
        since.elapsed() >= Duration::from_secs(limit.soft_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    const LIMIT: OutputLimit = OutputLimit { hard_bytes: 64 << 20, soft_bytes: 0, soft_seconds: 0 };

    fn pair() -> (Arc<Outbox>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Arc::new(Outbox::new(listener.accept().unwrap().0, 1, &Sum::default())), peer)
    }

    #[test]
    fn a_slow_reader_gets_everything_in_order() {
        let (outbox, mut peer) = pair();
        for n in 0..1_000_000u32 {
            outbox.send(&n.to_le_bytes(), LIMIT).unwrap();
        }
        let reader = thread::spawn(move || {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).map(|_| all)
        });
        outbox.drain();
        outbox.cut();
        let all = reader.join().unwrap().unwrap();
        assert_eq!(all.len(), 4_000_000);
        let numbers = all.chunks(4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap()));
        assert!(numbers.eq(0..1_000_000));
    }

    #[test]
    fn a_client_that_does_not_read_is_cut_at_its_limit() {
        let (outbox, _peer) = pair();
        let piece = vec![0; 1 << 20];
        let error = (0..200).find_map(|_| outbox.send(&piece, LIMIT).err());
        assert!(matches!(error, Some(SendError::OverLimit(_))), "{error:?}");
        outbox.drain();
        assert!(matches!(outbox.send(b"x", LIMIT), Err(SendError::Closed(_))));
    }
}
