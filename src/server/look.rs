//! A short look for the next request, before the thread waits for it.
//!
//! To put a thread to sleep and to wake it takes longer than to run a GET. A client that is near and waits for each
//! answer asks again before that would be done. So one connection at a time looks for bytes some microseconds long.
//! Each time it steps aside, and it stops as soon as another thread wants this core; after looks in vain it looks
//! less often. Measured with one client: 1.5 to 2 times the requests for less CPU each; with two clients, 1.2 times
//! for a quarter more CPU; with 4, 8 and 50, no difference that stands out.

use crate::clients::socket::Socket;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// A client that has its answer asks again within some 20 µs, if it is near and does nothing else.
const LOOK_TIME: Duration = Duration::from_micros(50);
/// Stepping aside takes longer only if another thread has run meanwhile.
const STEP_TIME: Duration = Duration::from_micros(4);

/// The looks of one connection. After looks in vain, the next 1, 3, 7 … 255 reads wait at once.
#[derive(Debug, Default)]
pub struct Look {
    /// Reads that wait at once before the next look, and how many there were before the last one.
    waits_left: u8,
    waits: u8,
}

impl Look {
    /// Reads from a socket as `read` does. May look some time for bytes first, if no other connection does.
    pub fn read(
        &mut self,
        looking: &AtomicBool,
        mut socket: &Socket,
        room: &mut [u8],
    ) -> io::Result<usize> {
        if self.waits_left > 0 {
            self.waits_left -= 1;
        } else if !looking.load(Relaxed) && !looking.swap(true, Relaxed) {
            let found = look(socket, room);
            looking.store(false, Relaxed);
            if let Some(result) = found {
                self.waits = 0;
                return result;
            }
            self.waits = self.waits.saturating_mul(2).saturating_add(1);
            self.waits_left = self.waits;
        }
        socket.read(room)
    }
}

/// None if it was in vain, or if other threads want this core.
fn look(socket: &Socket, room: &mut [u8]) -> Option<io::Result<usize>> {
    let began = Instant::now();
    let mut looked_at = Duration::ZERO;
    loop {
        match recv(socket, &mut *room, RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN) => {}
            result => return Some(result.map(|(n, _)| n).map_err(io::Error::from)),
        }
        let now = began.elapsed();
        if now > LOOK_TIME || now - looked_at > STEP_TIME {
            return None;
        }
        looked_at = now;
        thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn looks_in_vain_grow_rare_and_a_find_makes_them_frequent_again() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let socket = Socket::from(ours);
        socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let (mut look, looking, mut room) = (Look::default(), AtomicBool::new(false), [0; 8]);
        let mut waits = Vec::new();
        while waits.last() != Some(&u8::MAX) {
            look.waits_left = 0;
            let error = look.read(&looking, &socket, &mut room).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "it waits for as long as `read` does");
            assert!(!looking.load(Relaxed), "others may look");
            waits.push(look.waits);
        }
        assert_eq!(waits, [1, 3, 7, 15, 31, 63, 127, 255]);
        theirs.write_all(b"abc").unwrap();
        assert_eq!(look.read(&looking, &socket, &mut room).unwrap(), 3, "bytes that are here");
        assert_eq!(look.waits_left, u8::MAX - 1, "one read nearer to the next look");
        theirs.write_all(b"de").unwrap();
        look.waits_left = 0;
        assert_eq!(look.read(&looking, &socket, &mut room).unwrap(), 2);
        assert_eq!((look.waits, &room[..2]), (0, &b"de"[..]));
        drop(theirs);
        assert_eq!(look.read(&looking, &socket, &mut room).unwrap(), 0, "the end");
    }

    #[test]
    fn one_connection_looks_at_a_time() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let socket = Socket::from(ours);
        socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let (mut look, looking) = (Look::default(), AtomicBool::new(true));
        look.read(&looking, &socket, &mut [0; 8]).unwrap_err();
        assert_eq!(look.waits, 0, "it has not looked");
        assert!(looking.load(Relaxed), "another connection still does");
    }
}
