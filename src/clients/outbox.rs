//! Output to one client.
//!
//! A connection's thread reads requests and sends replies. If it blocked while sending, it would stop
//! reading. A client that sends a hundred thousand commands before it reads one reply would block too, and
//! both would wait for ever. So only the push thread blocks on a client's socket:
//!
//! ```text
//! conn-7       ──── send ────▶ socket            usually: the kernel takes all of it at once
//!                  └─ rest ──▶ queue ──▶ conn-7-push ──▶ socket
//! ```
//!
//! The push thread is started by the first send that stalls and ends when the queue is empty. Order is kept:
//! while anything is queued, all that is sent joins the queue.
//!
//! The bytes that wait, parked replies included, are bounded by the client's [`OutputLimit`]. A client over it
//! is cut off; the alternatives are to stop reading (above) or to let one client take all memory. One value
//! that is a whole reply may exceed the limit, so that every value can be read. The sweeper checks clients with
//! waiting output ([`Outbox::check`]), so a client over its soft limit is cut off even if it sends nothing more.

use super::socket::Socket;
use crate::config::OutputLimit;
use crate::lock::{Mutex, MutexGuard, rank};
use crate::memory::account::{Account, Total};
use parking_lot::Condvar;
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// A connection that is ending stops waiting for its client when the client has read nothing for this long.
const STALL_MAX: Duration = Duration::from_secs(60);
/// The push thread calls only `write`.
const PUSH_STACK_BYTES: usize = 64 << 10;
/// Replies are gathered into pieces of about this size, so that small ones do not become small writes.
const PIECE_BYTES: usize = 64 << 10;

/// The reason why nothing more can be sent.
#[derive(Debug)]
pub enum SendError {
    /// The socket is closed or broken.
    Closed(io::Error),
    /// More bytes would wait than the limit allows: this many.
    OverLimit(usize),
    /// The rest needs a push thread, and none can be had: the connection has been cut.
    NoThread(io::Error),
}

/// The way to one client.
#[derive(Debug)]
pub struct Outbox {
    socket: Socket,
    /// The push thread's name.
    name: String,
    queue: Mutex<Queue, { rank::OUTBOX }>,
    /// Signalled when a piece has been written, and when the socket breaks.
    progress: Condvar,
    sent_bytes: AtomicU64,
    /// The bytes that wait, for the sum over all clients.
    held: Account,
    /// 1 while anything waits, for the number of such clients.
    waits: Account,
}

#[derive(Debug, Default)]
struct Queue {
    pieces: VecDeque<Vec<u8>>,
    /// Bytes in `pieces` and in the hands of the push thread.
    bytes: usize,
    /// Bytes of parked replies. They join the queue, or the socket, when they leave.
    parked: usize,
    /// The largest value that was queued as a whole reply, since the queue was empty.
    largest_value: usize,
    pushing: bool,
    broken: bool,
    /// The soft limit at the last look, and since when more than that waits.
    soft_bytes: u64,
    over_soft_since: Option<Instant>,
}

impl Outbox {
    /// An outbox for the client with this number. Waiting bytes are part of `memory`; `slow` counts the
    /// clients with waiting output.
    pub fn new(socket: impl Into<Socket>, client: u64, memory: &Total, slow: &Total) -> Outbox {
        Outbox {
            socket: socket.into(),
            name: format!("conn-{client}-push"),
            queue: Mutex::default(),
            progress: Condvar::new(),
            sent_bytes: AtomicU64::new(0),
            held: Account::new(memory),
            waits: Account::new(slow),
        }
    }

    /// The socket, for reading from it.
    pub fn socket(&self) -> &Socket {
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

    /// Sends without blocking on the client; bytes that the kernel does not take are queued. One value of
    /// `largest_value` bytes may exceed the limit.
    pub fn send(
        self: &Arc<Self>,
        bytes: &[u8],
        largest_value: usize,
        limit: OutputLimit,
    ) -> Result<(), SendError> {
        self.turn().send(bytes, largest_value, limit)
    }

    /// How many bytes more may wait.
    pub fn room(&self, limit: OutputLimit) -> usize {
        match limit.hard_bytes as usize {
            0 => usize::MAX,
            hard if self.queued_bytes() == 0 => hard,
            hard => {
                let queue = self.queue.lock();
                hard.saturating_add(queue.largest_value).saturating_sub(queue.waiting())
            }
        }
    }

    /// Counts bytes that wait elsewhere, until [`Outbox::unpark`].
    pub fn park(
        &self,
        bytes: usize,
        largest_value: usize,
        limit: OutputLimit,
    ) -> Result<(), SendError> {
        let mut queue = self.queue.lock();
        queue.largest_value = queue.largest_value.max(largest_value);
        if queue.is_over(bytes, limit) {
            return Err(SendError::OverLimit(self.cut_off(queue, bytes)));
        }
        queue.parked += bytes;
        self.count(&mut queue);
        Ok(())
    }

    /// The opposite of [`Outbox::park`], before they are sent or dropped.
    pub fn unpark(&self, bytes: usize) {
        let mut queue = self.queue.lock();
        queue.parked -= bytes;
        self.count(&mut queue);
    }

    /// Cuts the client off if more waits than the limit allows; then returns how much.
    pub fn check(&self, limit: OutputLimit) -> Option<usize> {
        let mut queue = self.queue.lock();
        let is_over = !queue.broken && queue.is_over(0, limit);
        is_over.then(|| self.cut_off(queue, 0))
    }

    /// Returns how much waited.
    fn cut_off(&self, mut queue: MutexGuard<'_, Queue>, added: usize) -> usize {
        let waiting = queue.waiting() + added;
        // At once, so that of several sending threads only one finds it over its limit.
        queue.broken = true;
        drop(queue);
        self.cut();
        waiting
    }

    /// Records how much waits.
    fn count(&self, queue: &mut Queue) {
        let waiting = queue.waiting();
        if waiting == 0 {
            queue.largest_value = 0;
        }
        if waiting as u64 <= queue.soft_bytes {
            queue.over_soft_since = None;
        }
        self.held.set(waiting);
        self.waits.set(usize::from(waiting > 0));
    }

    /// Keeps other threads from sending: a decision made during the turn still holds when its bytes leave.
    pub fn turn(self: &Arc<Self>) -> Turn<'_> {
        Turn { outbox: self, queue: self.queue.lock() }
    }

    /// Waits until everything queued is sent. Gives up when the socket breaks, or when the client has
    /// taken nothing for a minute.
    pub fn drain(&self) {
        let mut queue = self.queue.lock();
        while queue.bytes > 0 && !queue.broken {
            let before = self.sent_bytes();
            let timed_out = self.progress.wait_for(queue.raw(), STALL_MAX).timed_out();
            if timed_out && self.sent_bytes() == before {
                break;
            }
        }
    }

    /// Shuts the connection down in both directions, which wakes threads that read from or write to it.
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
            self.count(&mut queue);
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
    pub fn send(
        self,
        bytes: &[u8],
        largest_value: usize,
        limit: OutputLimit,
    ) -> Result<(), SendError> {
        let Turn { outbox, mut queue } = self;
        if queue.broken {
            return Err(SendError::Closed(io::ErrorKind::BrokenPipe.into()));
        }
        let sent =
            if queue.bytes == 0 { outbox.send_now(bytes).map_err(SendError::Closed)? } else { 0 };
        if sent == bytes.len() {
            return Ok(());
        }
        queue.largest_value = queue.largest_value.max(largest_value);
        if queue.is_over(bytes.len() - sent, limit) {
            return Err(SendError::OverLimit(outbox.cut_off(queue, bytes.len() - sent)));
        }
        queue.add(&bytes[sent..]);
        outbox.count(&mut queue);
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
    fn waiting(&self) -> usize {
        self.bytes + self.parked
    }

    fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        match self.pieces.back_mut().filter(|piece| piece.len() + bytes.len() <= PIECE_BYTES) {
            Some(piece) => piece.extend_from_slice(bytes),
            None => {
                // The second piece and later ones will be filled: no room is left over in them.
                let room = if self.pieces.is_empty() { 0 } else { PIECE_BYTES };
                let mut piece = Vec::with_capacity(bytes.len().max(room));
                piece.extend_from_slice(bytes);
                self.pieces.push_back(piece);
            }
        }
    }

    /// True if with these bytes added too much waits, or, for the soft limit, has waited for too long.
    fn is_over(&mut self, added: usize, limit: OutputLimit) -> bool {
        let waiting = (self.waiting() + added) as u64;
        if limit.hard_bytes > 0
            && waiting > limit.hard_bytes.saturating_add(self.largest_value as u64)
        {
            return true;
        }
        self.soft_bytes = if limit.soft_bytes > 0 { limit.soft_bytes } else { u64::MAX };
        if waiting <= self.soft_bytes {
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
    use std::net::{TcpListener, TcpStream};

    const LIMIT: OutputLimit = OutputLimit { hard_bytes: 64 << 20, soft_bytes: 0, soft_seconds: 0 };

    fn pair() -> (Arc<Outbox>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (memory, slow) = (Total::default(), Total::default());
        (Arc::new(Outbox::new(listener.accept().unwrap().0, 1, &memory, &slow)), peer)
    }

    #[test]
    fn a_slow_reader_gets_everything_in_order() {
        let (outbox, mut peer) = pair();
        for n in 0..1_000_000u32 {
            outbox.send(&n.to_le_bytes(), 0, LIMIT).unwrap();
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
        let error = (0..200).find_map(|_| outbox.send(&piece, 0, LIMIT).err());
        assert!(matches!(error, Some(SendError::OverLimit(_))), "{error:?}");
        outbox.drain();
        assert!(matches!(outbox.send(b"x", 0, LIMIT), Err(SendError::Closed(_))));
    }

    /// Fills the kernel's buffers, so that whatever is sent next waits.
    fn stalled() -> (Arc<Outbox>, TcpStream) {
        let (outbox, peer) = pair();
        while outbox.queued_bytes() == 0 {
            outbox.send(&[0; 1 << 20], 0, OutputLimit::default()).unwrap();
        }
        (outbox, peer)
    }

    fn hard(bytes: usize) -> OutputLimit {
        OutputLimit { hard_bytes: bytes as u64, ..OutputLimit::default() }
    }

    #[test]
    fn the_bytes_being_sent_count() {
        let (outbox, _peer) = stalled();
        let limit = hard(outbox.queued_bytes() + 1000);
        assert!(outbox.room(limit) >= 1000);
        assert!(matches!(outbox.send(&[0; 2 << 20], 0, limit), Err(SendError::OverLimit(_))));
    }

    #[test]
    fn one_value_may_exceed_the_limit_and_no_second_one() {
        let (outbox, _peer) = stalled();
        let limit = hard(outbox.queued_bytes() + 1000);
        let value = vec![0; 4 << 20];
        outbox.send(&value, value.len(), limit).unwrap();
        outbox.send(b"+PONG\r\n", 0, limit).unwrap();
        let second = outbox.send(&value, value.len(), limit);
        assert!(matches!(second, Err(SendError::OverLimit(_))), "{second:?}");
    }

    #[test]
    fn what_is_parked_counts_until_it_is_not() {
        let (outbox, _peer) = pair();
        let limit = hard(1000);
        outbox.park(600, 0, limit).unwrap();
        assert_eq!((outbox.queued_bytes(), outbox.room(limit)), (600, 400));
        outbox.unpark(600);
        outbox.park(600, 0, limit).unwrap();
        assert!(matches!(outbox.park(600, 0, limit), Err(SendError::OverLimit(1200))));
    }

    #[test]
    fn a_soft_limit_needs_no_further_send_and_forgives_who_reads() {
        let (outbox, peer) = stalled();
        let soft = |soft_seconds| OutputLimit { hard_bytes: 0, soft_bytes: 1000, soft_seconds };
        outbox.send(&[0; 1 << 20], 0, soft(3600)).unwrap();
        assert_eq!(outbox.check(soft(3600)), None);
        assert!(outbox.queue.lock().over_soft_since.is_some());
        let mut rest = peer.try_clone().unwrap();
        thread::spawn(move || io::copy(&mut rest, &mut io::sink()));
        outbox.drain();
        assert!(outbox.queue.lock().over_soft_since.is_none(), "it has read everything");
        assert_eq!(outbox.check(soft(0)), None);
        let (outbox, _peer) = stalled();
        outbox.send(&[0; 1 << 20], 0, soft(3600)).unwrap();
        assert!(outbox.check(soft(0)).is_some());
    }
}
