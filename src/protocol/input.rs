//! The read buffer of a connection.
//!
//! ```text
//! [ used │ waiting │ room ]      read into the room, decode what waits, consume what is decoded
//!        start     end
//! ```
//!
//! It grows only by bytes that arrived, never by a length that was announced, and gives memory back once a
//! large request is over.

/// Bytes received and not yet used.
#[derive(Debug)]
pub struct Input {
    /// All of it is initialised, so that reading needs no clearing.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Its first size.
    size_min: usize,
    /// Reads that fill it let it grow up to here; beyond, only what does not fit does.
    size_usual: usize,
}

impl Input {
    /// An empty buffer, which takes no memory yet.
    pub fn new(size_min: usize, size_usual: usize) -> Input {
        Input { bytes: Vec::new(), start: 0, end: 0, size_min, size_usual }
    }

    /// The bytes that wait to be used.
    pub fn waiting(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Bytes of memory that it takes.
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// The first `n` waiting bytes have been used.
    pub fn consume(&mut self, n: usize) {
        self.start += n;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Room for the next read; never empty.
    pub fn room(&mut self) -> &mut [u8] {
        if self.start > 0 && self.end == self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == 0 && self.bytes.len() > self.size_usual {
            // A large request is over.
            self.bytes = Vec::new();
        }
        if self.end == self.bytes.len() {
            let size = (2 * self.bytes.len()).max(self.size_min);
            self.bytes.reserve_exact(size - self.bytes.len());
            self.bytes.resize(size, 0);
        }
        &mut self.bytes[self.end..]
    }

    /// A read has put `n` bytes into the room.
    pub fn filled(&mut self, n: usize) {
        self.end += n;
        // The read filled the buffer: there is probably more.
        if self.end == self.bytes.len() && self.bytes.len() < self.size_usual {
            self.bytes.resize(2 * self.bytes.len(), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_by_what_arrives_and_shrinks_when_it_is_used() {
        let mut input = Input::new(4, 8);
        assert_eq!((input.capacity(), input.room().len()), (0, 4));
        input.room().copy_from_slice(b"abcd");
        input.filled(4);
        assert_eq!(input.capacity(), 8, "a read that fills it is probably not the last");
        input.consume(3);
        assert_eq!((input.room().len(), input.waiting()), (4, &b"d"[..]));
        input.room().copy_from_slice(b"efgh");
        input.filled(4);
        // The used part is given up first, then the buffer grows.
        assert_eq!((input.room().len(), input.waiting()), (3, &b"defgh"[..]));
        input.room().fill(b'x');
        input.filled(3);
        assert_eq!((input.room().len(), input.capacity()), (8, 16));
        input.consume(8);
        assert_eq!((input.room().len(), input.capacity()), (4, 4), "the large request is over");
    }
}
