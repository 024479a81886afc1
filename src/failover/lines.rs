//! The lines that come in over a connection between two members.

use crate::cluster::greeting::LINE_LEN_MAX;
use std::io::{self, ErrorKind, Read};

/// Reads lines, and holds no more than one of them and what came with it.
#[derive(Debug)]
pub struct Lines<S> {
    socket: S,
    /// Received and not used yet.
    waiting: Vec<u8>,
}

impl<S: Read> Lines<S> {
    /// `early` has the bytes that have been received already.
    pub fn new(socket: S, early: &[u8]) -> Lines<S> {
        Lines { socket, waiting: early.to_vec() }
    }

    /// The next line, without its end. Waits for it, as long as the socket's timeout allows between two pieces.
    pub fn next(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let end = self.waiting.iter().position(|byte| *byte == b'\n');
            if end.map_or(self.waiting.len(), |end| end + 1) > LINE_LEN_MAX {
                return Err(io::Error::other("it sent a line that is too long"));
            }
            if let Some(end) = end {
                let line: Vec<u8> = self.waiting.drain(..=end).collect();
                let line = line.strip_suffix(b"\r\n").map(<[u8]>::to_vec);
                return line.ok_or(io::Error::other("it sent a line without a proper end"));
            }
            let mut chunk = [0; 2 * LINE_LEN_MAX];
            match self.socket.read(&mut chunk) {
                Ok(0) => return Err(io::Error::other("it closed the connection")),
                Ok(n) => self.waiting.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return Err(io::Error::new(ErrorKind::TimedOut, "it is silent"));
                }
                Err(error) => return Err(error),
            }
        }
    }
}
