//! A hostile network: a TCP proxy between two nodes that delays, throttles, stalls, cuts, flips bits and
//! replays, as a test tells it to.
//!
//! Each connection has two threads, one per direction: *down* is from the target to whoever dialled, which
//! for a follower is the leader's log; *up* is the other way.

use super::rng::Rng;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU16, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Passed on at a time: small, so that what is told takes effect at once.
const CHUNK_BYTES: usize = 4 << 10;
const STEP: Duration = Duration::from_millis(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Up,
    Down,
}

/// The disturbances of the traffic. All of them are off at first.
#[derive(Default)]
struct Faults {
    target: AtomicU16,
    closed: AtomicBool,
    refusing: AtomicBool,
    stalled_up: AtomicBool,
    stalled_down: AtomicBool,
    /// Only the first bytes of each connection go up.
    mute: AtomicBool,
    /// The end of a connection is not passed on.
    quiet: AtomicBool,
    delay_ms: AtomicU64,
    /// Bytes a second in each direction; 0: unlimited.
    rate: AtomicU64,
    /// Cuts every connection when so many more bytes have gone down; none below zero.
    cut_in: AtomicI64,
    /// Bits still to be flipped.
    flip_up: AtomicU64,
    flip_down: AtomicU64,
    flipped: AtomicU64,
    /// Connections whose opening is still to be replayed.
    replay: AtomicU64,
    /// Bytes to replace once in the leader's stream, and their replacement.
    forged: Mutex<Option<(Vec<u8>, Vec<u8>)>>,
    open: Mutex<Vec<TcpStream>>,
    /// Of these, the sides of those who have dialled.
    near: Mutex<Vec<TcpStream>>,
    rng: Mutex<Option<Rng>>,
}

/// Ends its connections and stops listening on drop.
pub struct Proxy {
    port: u16,
    faults: Arc<Faults>,
}

impl Proxy {
    /// Listens on a free port and passes connections on to this one.
    pub fn to(target: u16, seed: u64) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("the address of a bound socket").port();
        let faults = Arc::new(Faults::default());
        faults.target.store(target, SeqCst);
        faults.cut_in.store(-1, SeqCst);
        *faults.rng.lock().expect("not poisoned") = Some(Rng::new(seed));
        let accepting = Arc::clone(&faults);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if accepting.closed.load(SeqCst) {
                    return;
                }
                if !accepting.refusing.load(SeqCst) {
                    pass_on(&accepting, socket);
                }
            }
        });
        Proxy { port, faults }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// New connections go here from now on.
    pub fn set_target(&self, port: u16) {
        self.faults.target.store(port, SeqCst);
    }

    /// New connections are closed at once.
    pub fn refuse(&self, refuse: bool) {
        self.faults.refusing.store(refuse, SeqCst);
        if refuse {
            self.cut();
        }
    }

    /// Nothing is passed on, and nothing is closed.
    pub fn stall(&self, stall: bool) {
        self.stall_way(Way::Up, stall);
        self.stall_way(Way::Down, stall);
    }

    /// Nothing is passed on in one direction.
    pub fn stall_way(&self, way: Way, stall: bool) {
        self.faults.stalled(way).store(stall, SeqCst);
    }

    /// Of a connection that begins from now on, only the first bytes go up, and nothing is closed.
    pub fn mute(&self, mute: bool) {
        self.faults.mute.store(mute, SeqCst);
    }

    /// Closes all connections for those who have dialled. The other side is not told, as by a router that was
    /// restarted.
    pub fn forget(&self) {
        self.faults.quiet.store(true, SeqCst);
        for socket in self.faults.near.lock().expect("not poisoned").drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Each chunk waits for so long.
    pub fn delay(&self, ms: u64) {
        self.faults.delay_ms.store(ms, SeqCst);
    }

    /// Bytes a second; 0: unlimited.
    pub fn throttle(&self, rate: u64) {
        self.faults.rate.store(rate, SeqCst);
    }

    /// Closes all connections.
    pub fn cut(&self) {
        self.faults.cut();
    }

    /// Closes all connections after so many more bytes of the leader's, wherever that is.
    pub fn cut_in(&self, bytes: u64) {
        self.faults.cut_in.store(bytes as i64, SeqCst);
    }

    /// Flips a random bit of the next chunk.
    pub fn flip(&self, way: Way) {
        let flips = if way == Way::Up { &self.faults.flip_up } else { &self.faults.flip_down };
        flips.fetch_add(1, SeqCst);
    }

    /// Puts these bytes in the place of those, once, in a chunk that comes down; both are of one length.
    pub fn forge(&self, from: &[u8], to: &[u8]) {
        assert_eq!(from.len(), to.len());
        *self.faults.forged.lock().expect("not poisoned") = Some((from.to_vec(), to.to_vec()));
    }

    /// The number of bits flipped so far.
    pub fn flipped(&self) -> u64 {
        self.faults.flipped.load(SeqCst)
    }

    /// The first bytes of the next connection are sent once more, over another connection.
    pub fn replay(&self) {
        self.faults.replay.fetch_add(1, SeqCst);
    }

    /// An honest network again.
    pub fn heal(&self) {
        let Faults { refusing, stalled_up, stalled_down, mute, quiet, .. } = &*self.faults;
        [refusing, stalled_up, stalled_down, mute, quiet]
            .into_iter()
            .for_each(|fault| fault.store(false, SeqCst));
        let Faults { delay_ms, rate, .. } = &*self.faults;
        let Faults { flip_up, flip_down, replay, .. } = &*self.faults;
        [delay_ms, rate, flip_up, flip_down, replay]
            .into_iter()
            .for_each(|fault| fault.store(0, SeqCst));
        self.faults.cut_in.store(-1, SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.faults.closed.store(true, SeqCst);
        self.cut();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl Faults {
    fn cut(&self) {
        for socket in self.open.lock().expect("not poisoned").drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn stalled(&self, way: Way) -> &AtomicBool {
        if way == Way::Up { &self.stalled_up } else { &self.stalled_down }
    }

    fn random(&self, below: usize) -> usize {
        self.rng.lock().expect("not poisoned").as_mut().expect("seeded").below(below)
    }

    fn forge(&self, chunk: &mut [u8]) {
        let mut forged = self.forged.lock().expect("not poisoned");
        let Some((from, to)) = &*forged else { return };
        if let Some(at) = chunk.windows(from.len()).position(|part| part == from) {
            chunk[at..at + to.len()].copy_from_slice(to);
            *forged = None;
            self.flipped.fetch_add(1, SeqCst);
        }
    }

    /// Changes a chunk on its way; false if the connection ends with it.
    fn mistreat(&self, way: Way, chunk: &mut Vec<u8>) -> bool {
        let flips = if way == Way::Up { &self.flip_up } else { &self.flip_down };
        let take = |flips: &AtomicU64| {
            flips.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok()
        };
        if take(flips) {
            let bit = self.random(chunk.len() * 8);
            chunk[bit / 8] ^= 1 << (bit % 8);
            self.flipped.fetch_add(1, SeqCst);
        }
        if way == Way::Down {
            self.forge(chunk);
        }
        thread::sleep(Duration::from_millis(self.delay_ms.load(SeqCst)));
        if let Some(micros) = (chunk.len() as u64 * 1_000_000).checked_div(self.rate.load(SeqCst)) {
            thread::sleep(Duration::from_micros(micros));
        }
        while self.stalled(way).load(SeqCst) && !self.closed.load(SeqCst) {
            thread::sleep(STEP);
        }
        if way == Way::Down {
            let left = self.cut_in.load(SeqCst);
            if left >= 0 && left <= chunk.len() as i64 {
                chunk.truncate(left as usize);
                self.cut_in.store(-1, SeqCst);
                return false;
            }
            if left >= 0 {
                self.cut_in.fetch_sub(chunk.len() as i64, SeqCst);
            }
        }
        true
    }
}

fn pass_on(faults: &Arc<Faults>, near: TcpStream) {
    let target = (Ipv4Addr::LOCALHOST, faults.target.load(SeqCst));
    // The other side is down: so is this one.
    let Ok(far) = TcpStream::connect(target) else { return };
    for socket in [&near, &far] {
        let _ = socket.set_nodelay(true);
        let handle = socket.try_clone().expect("a descriptor");
        faults.open.lock().expect("not poisoned").push(handle);
    }
    let handle = near.try_clone().expect("a descriptor");
    faults.near.lock().expect("not poisoned").push(handle);
    for (way, from, to) in [(Way::Up, &near, &far), (Way::Down, &far, &near)] {
        let (from, to) = (from.try_clone().expect("a descriptor"), to.try_clone());
        let (to, faults) = (to.expect("a descriptor"), Arc::clone(faults));
        thread::spawn(move || pump(&faults, way, from, to));
    }
}

fn pump(faults: &Faults, way: Way, mut from: TcpStream, mut to: TcpStream) {
    let (mut buffer, mut first) = ([0; CHUNK_BYTES], way == Way::Up);
    let is_mute = way == Way::Up && faults.mute.load(SeqCst);
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0 {
            break;
        }
        let mut chunk = buffer[..n].to_vec();
        if is_mute && !first && faults.mute.load(SeqCst) {
            continue;
        }
        if std::mem::take(&mut first)
            && faults.replay.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok()
        {
            replay(faults.target.load(SeqCst), chunk.clone());
        }
        let goes_on = faults.mistreat(way, &mut chunk);
        if to.write_all(&chunk).is_err() {
            break;
        }
        if !goes_on {
            faults.cut();
            break;
        }
    }
    if !faults.quiet.load(SeqCst) {
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}

/// A connection that no test counts: it sends what another one has sent, and reads for a while.
fn replay(target: u16, opening: Vec<u8>) {
    thread::spawn(move || {
        let Ok(mut socket) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else { return };
        let _ = socket.set_read_timeout(Some(Duration::from_millis(100)));
        let _ = socket.write_all(&opening);
        let mut scrap = [0; CHUNK_BYTES];
        for _ in 0..20 {
            let _ = socket.read(&mut scrap);
        }
    });
}
