//! Input of the link to the leader, item by item. Each item is checked before it is handed over.

use super::wire::{
    self, Damaged, HEARTBEAT, Heartbeat, LEAD, LINE_LEN_MAX, MESSAGE, parse_message,
};
use crate::aof::record::{HEADER_LEN_MAX, Header, PAYLOAD_BYTES_MAX, Position, line_len};
use crate::protocol::Input;
use crate::store::effect::Seq;
use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::net::TcpStream;

/// The buffer's size, unless a record is larger.
const BUFFER_BYTES: usize = 256 << 10;

/// Why a link ends.
#[derive(Debug)]
pub enum LinkError {
    /// The connection broke.
    Io(io::Error),
    /// The leader refuses, with this text.
    Refused(String),
    /// The input is not what a leader sends: it is dropped, and asked for again.
    Garbled(&'static str),
    /// This node's own disk or log fails.
    Own(String),
    /// The link is to be dialled again at once: this node had to change its log first.
    Again,
    /// The leader has handed over to this node.
    Lead,
}

impl LinkError {
    /// An error of this node's own.
    pub fn own(error: impl fmt::Display) -> LinkError {
        LinkError::Own(error.to_string())
    }
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> LinkError {
        LinkError::Io(error)
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::Io(error) => error.fmt(f),
            LinkError::Refused(what) => write!(f, "the leader says: {what}"),
            LinkError::Garbled(what) => write!(f, "something was damaged on its way: {what}"),
            LinkError::Own(what) => write!(f, "this node cannot go on: {what}"),
            LinkError::Again => f.write_str("dialling again"),
            LinkError::Lead => f.write_str("the leader has handed over"),
        }
    }
}

/// An item of the stream.
#[derive(Debug)]
pub enum Item<'i> {
    /// The next record, whole and intact: its header, and all of its bytes.
    Record(Header, &'i [u8]),
    /// A heartbeat.
    Heartbeat(Heartbeat),
    /// The leader hands over after this record.
    Lead(Seq),
    /// A published message: channel and payload.
    Message(&'i [u8], &'i [u8]),
    /// More has to be read first.
    NeedMore,
}

/// The link's socket, and the bytes received and not yet used.
pub struct Incoming {
    socket: TcpStream,
    input: Input,
    /// See [`Incoming::received`].
    received: u64,
}

impl Incoming {
    pub fn new(socket: TcpStream) -> Incoming {
        Incoming { socket, input: Input::new(BUFFER_BYTES, BUFFER_BYTES), received: 0 }
    }

    /// Bytes received after the last line that [`Incoming::line`] has read.
    pub fn received(&self) -> u64 {
        self.received
    }

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// The bytes that wait to be used.
    pub fn waiting(&self) -> &[u8] {
        self.input.waiting()
    }

    /// The first `n` of them have been used.
    pub fn consume(&mut self, n: usize) {
        self.input.consume(n);
    }

    /// Waits for more. Returns how many bytes came.
    pub fn read(&mut self) -> io::Result<usize> {
        loop {
            match self.socket.read(self.input.room()) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    self.input.filled(n);
                    self.received += n as u64;
                    return Ok(n);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A line, without its end.
    pub fn line(&mut self) -> Result<Vec<u8>, LinkError> {
        loop {
            if let Some(len) = self.waiting().iter().position(|byte| *byte == b'\n') {
                let line = self.waiting()[..len].strip_suffix(b"\r").map(<[u8]>::to_vec);
                self.consume(len + 1);
                self.received = self.waiting().len() as u64;
                return line.ok_or(LinkError::Garbled("a line end"));
            }
            if self.waiting().len() > LINE_LEN_MAX {
                return Err(LinkError::Garbled("a line without an end"));
            }
            self.read()?;
        }
    }

    /// The next item, if it is here, and its length, which the caller then consumes. A record must follow
    /// `last`.
    pub fn item(&self, last: Position) -> Result<(Item<'_>, usize), LinkError> {
        next_item(self.waiting(), last)
    }
}

/// The item at the front of `rest`, see [`Incoming::item`].
fn next_item(rest: &[u8], last: Position) -> Result<(Item<'_>, usize), LinkError> {
    let Some(len) = line_len(rest) else {
        let too_long = rest.len() >= HEADER_LEN_MAX;
        return if too_long { Err(LinkError::Garbled("a header")) } else { need_more() };
    };
    if rest.starts_with(HEARTBEAT) {
        let line = rest[..len].strip_suffix(b"\r\n");
        let beat = line.and_then(Heartbeat::parse);
        let beat = beat.ok_or(LinkError::Garbled("a heartbeat"))?;
        return Ok((Item::Heartbeat(beat), len));
    }
    if rest.starts_with(MESSAGE) {
        let line = rest[..len].strip_suffix(b"\r\n").unwrap_or_default();
        return match parse_message(rest, line) {
            Ok(Some(message)) => Ok((Item::Message(message.channel, message.payload), message.len)),
            Ok(None) => need_more(),
            Err(Damaged) => Err(LinkError::Garbled("a message")),
        };
    }
    if rest.starts_with(LEAD) {
        let lead = rest[..len].strip_suffix(b"\r\n").and_then(|line| wire::parse_seq(LEAD, line));
        return Ok((Item::Lead(lead.ok_or(LinkError::Garbled("a handover"))?), len));
    }
    let (header, _) = Header::parse(rest).ok_or(LinkError::Garbled("a header"))?;
    if header.seq.0 != last.seq.0 + 1 || header.epoch < last.epoch {
        return Err(LinkError::Garbled("a record that does not follow the one before"));
    }
    if header.len > PAYLOAD_BYTES_MAX {
        return Err(LinkError::Garbled("a record's length"));
    }
    let total = len + header.len as usize;
    let Some(record) = rest.get(..total) else { return need_more() };
    if !header.is_intact(&record[..len], &record[len..], last.crc) {
        return Err(LinkError::Garbled("a record"));
    }
    Ok((Item::Record(header, record), total))
}

fn need_more<'i>() -> Result<(Item<'i>, usize), LinkError> {
    Ok((Item::NeedMore, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aof::record::{Epoch, append_header};
    use crate::clock::UnixMillis;
    use fastrand::Rng;

    const START: Position = Position { seq: Seq(41), epoch: Epoch(1), crc: 0xfeed };

    /// Records of two epochs, with heartbeats, a message and a handover between them.
    fn stream() -> Vec<u8> {
        let (mut bytes, mut last) = (Vec::new(), START);
        let beat = |seq| Heartbeat {
            epoch: Epoch(2),
            seq,
            unix_ms: 1_767_225_600_123,
            behind_ms: 0,
            echo: 9,
            hops: 0,
            commit: None,
        };
        for (epoch, payload) in [
            (1, &b"*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n"[..]),
            (2, b""),
            (2, b"*1\r\n$8\r\nFLUSHALL\r\n"),
        ] {
            let (at, crc) = (UnixMillis(1_767_225_600_123), crc32fast::hash(payload));
            last = append_header(&mut bytes, last, Epoch(epoch), at, payload.len(), crc);
            bytes.extend_from_slice(payload);
            bytes.extend_from_slice(&beat(last.seq).line());
        }
        bytes.extend_from_slice(&wire::message(b"news", b"#43 2\r\n"));
        bytes.extend_from_slice(&wire::seq_line(LEAD, last.seq));
        bytes
    }

    /// The items decoded from bytes that come in these pieces, up to the first error.
    fn items(bytes: &[u8], pieces: &[usize]) -> Vec<String> {
        let (mut items, mut last, mut start) = (Vec::new(), START, 0);
        for end in pieces.iter().copied().chain([bytes.len()]) {
            loop {
                let Ok((item, used)) = next_item(&bytes[start..end], last) else { return items };
                if matches!(item, Item::NeedMore) {
                    break;
                }
                if let Item::Record(Header { seq, epoch, crc, .. }, _) = item {
                    last = Position { seq, epoch, crc };
                }
                items.push(format!("{item:?}"));
                start += used;
            }
        }
        items
    }

    #[test]
    fn a_stream_is_the_same_however_it_is_cut() {
        let (bytes, mut random) = (stream(), Rng::new());
        let whole = items(&bytes, &[]);
        assert_eq!(whole.len(), 8, "{whole:#?}");
        let each: Vec<usize> = (1..bytes.len()).collect();
        assert_eq!(items(&bytes, &each), whole);
        for _ in 0..2000 {
            let mut pieces: Vec<usize> =
                (0..random.usize(..12)).map(|_| random.usize(..bytes.len())).collect();
            pieces.sort_unstable();
            assert_eq!(items(&bytes, &pieces), whole, "{pieces:?}");
        }
    }

    #[test]
    fn nothing_that_a_flipped_bit_has_touched_is_handed_over() {
        let (bytes, mut random) = (stream(), Rng::new());
        let whole = items(&bytes, &[]);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            for pieces in [vec![], vec![random.usize(..bytes.len())]] {
                let good = items(&bad, &pieces);
                assert!(good.len() < whole.len(), "bit {bit} is not noticed: {good:#?}");
                assert_eq!(good, whole[..good.len()], "bit {bit}");
            }
        }
    }

    #[test]
    fn records_out_of_place_are_refused() {
        let bytes = stream();
        let from = |seq, epoch, crc| Position { seq: Seq(seq), epoch: Epoch(epoch), crc };
        for last in [from(40, 1, 0xfeed), from(42, 1, 0xfeed), from(41, 2, 0xfeed), from(41, 1, 0)]
        {
            assert!(matches!(next_item(&bytes, last), Err(LinkError::Garbled(_))), "{last:?}");
        }
    }
}
