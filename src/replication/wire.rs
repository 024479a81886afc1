//! The lines of a replication link. All of them are text, so `nc` can watch a link.
//!
//! ```text
//! follower                                     leader
//! REPLICATE <id> <seq> <epoch> <crc> …   ──▶
//!                                        ◀──   CONTINUE <epoch> <end> <seal>              then records
//!                                        or    FULL <seq> <bytes> <end> <seal>            then a base, then records
//!                                        or    DIVERGED <seq> <epoch> <crc> <end> <seal>  ask again
//!                                        or    BEHIND <seq> <epoch> <crc> <end> <seal>    ask again later
//!                                        ◀──   #! <epoch> <seq> <unix ms> <behind ms> <echo> <hops> <seal>
//! ACK <received> <applied> <durable> <bytes> <clock> <seal> ──▶
//! HANDOVER <seq> <seal>                   ──▶
//!                                        ◀──   #lead <seq> <seal>                   behind the last record
//! DECLINE <seq> <seal>                    ──▶   only if PROMOTE waits no longer
//!                                        ◀──   #message <length> <length> <seal>    channel and payload follow
//! ```
//!
//! `<end>` is the leader's last record: a follower that has more says so.
//!
//! Each line ends in a seal, the CRC-32 of what is before it. The seal of an answer also covers the request,
//! as the leader understood it, so a bit that flips on the way there cannot cause a needless full copy.

use crate::aof::numbers::{Words, canonical_number, hex, parse_crc};
use crate::aof::record::{Epoch, Position};
use crate::store::effect::Seq;

/// No line is longer.
pub const LINE_LEN_MAX: usize = 256;

/// What a follower asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its node's id.
    pub node_id: String,
    /// The last record that it has; zeros if it has none, or wants to start over.
    pub last: Position,
    /// Where others can reach it: an address, if it is not where the connection comes from, and a port.
    pub host: String,
    /// See `host`.
    pub port: u16,
    /// The process that asks, 40 hex digits; empty if it does not say. Two processes with one node id have
    /// copies of one directory.
    pub run_id: String,
}

impl Request {
    /// The words of the command.
    pub fn words(&self) -> Vec<Vec<u8>> {
        let mut words = self.sealed_words();
        words.push(self.run_id.clone().into_bytes());
        words
    }

    fn sealed_words(&self) -> Vec<Vec<u8>> {
        let Position { seq, epoch, crc } = self.last;
        vec![
            b"REPLICATE".to_vec(),
            self.node_id.clone().into_bytes(),
            seq.to_string().into_bytes(),
            epoch.0.to_string().into_bytes(),
            hex(crc).to_vec(),
            self.port.to_string().into_bytes(),
            self.host.clone().into_bytes(),
        ]
    }

    /// Reads the words behind the command's name.
    pub fn parse<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<Request> {
        let node_id = String::from_utf8(words.next()?.to_vec()).ok()?;
        let valid = node_id.len() == 40 && node_id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let seq = Seq(canonical_number(words.next()?)?);
        let epoch = Epoch(canonical_number(words.next()?)?);
        let crc = parse_crc(words.next()?)?;
        let port = u16::try_from(canonical_number(words.next()?)?).ok()?;
        let host = words.next().unwrap_or_default();
        // It goes into INFO and into the configuration's file.
        let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || b".:-_%".contains(byte);
        let host = String::from_utf8(host.to_vec())
            .ok()
            .filter(|host| host.len() < 256 && host.as_bytes().iter().all(harmless))?;
        let run_id = String::from_utf8_lossy(words.next().unwrap_or_default()).into_owned();
        let last = Position { seq, epoch, crc };
        valid.then_some(Request { node_id, last, host, port, run_id })
    }

    /// What the seal of an answer covers besides the answer.
    fn seal(&self) -> u32 {
        crc32fast::hash(&self.sealed_words().join(&b' '))
    }
}

/// What a leader answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The record is here, too; those behind it follow.
    Continue(Epoch),
    /// A base of so many bytes follows, then the records behind this one. Without a base, everything from
    /// the first record on.
    Full {
        /// The base's record.
        seq: Seq,
        /// The base's length.
        bytes: u64,
    },
    /// The record is not here. The histories part no later than here, where this one is in the epoch that
    /// began with a record with this crc.
    Diverged {
        /// Where.
        seq: Seq,
        /// The epoch there.
        epoch: Epoch,
        /// The crc of that epoch's first record.
        crc: u32,
    },
    /// The record is not here, and may still come: this node is a follower itself, and this is its last
    /// record, told as in `Diverged`.
    Behind {
        /// Where.
        seq: Seq,
        /// The epoch there.
        epoch: Epoch,
        /// The crc of that epoch's first record.
        crc: u32,
    },
}

impl Answer {
    /// The line, with its end, from a leader whose log ends at `end`.
    pub fn line(&self, request: &Request, end: Seq) -> Vec<u8> {
        let text = match self {
            Answer::Continue(epoch) => format!("CONTINUE {}", epoch.0),
            Answer::Full { seq, bytes } => format!("FULL {seq} {bytes}"),
            Answer::Diverged { seq, epoch, crc } => {
                format!("DIVERGED {seq} {} {crc:08x}", epoch.0)
            }
            Answer::Behind { seq, epoch, crc } => format!("BEHIND {seq} {} {crc:08x}", epoch.0),
        };
        sealed(&format!("{text} {end}"), request.seal())
    }

    /// Reads a line without its end, the answer to this request, and where the leader's log ends.
    pub fn parse(line: &[u8], request: &Request) -> Option<(Answer, Seq)> {
        let text = unsealed(line, request.seal())?;
        let mut words = Words::of(text);
        let answer = match words.word()? {
            b"CONTINUE" => Answer::Continue(words.epoch()?),
            b"FULL" => Answer::Full { seq: words.seq()?, bytes: words.number()? },
            kind => {
                let Position { seq, epoch, crc } = words.position()?;
                match kind {
                    b"DIVERGED" => Answer::Diverged { seq, epoch, crc },
                    b"BEHIND" => Answer::Behind { seq, epoch, crc },
                    _ => return None,
                }
            }
        };
        Some((answer, words.seq()?))
    }
}

/// A heartbeat: how far the sender's log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Its epoch.
    pub epoch: Epoch,
    /// Its last record.
    pub seq: Seq,
    /// Its wall clock, for people who watch.
    pub unix_ms: u64,
    /// How old what it has may be, in milliseconds, if it is a follower itself.
    pub behind_ms: u64,
    /// What the receiver's clock (see [`Ack`]) showed at least when this was sent; 0 if that is unknown. So
    /// the receiver knows how old this is, however long it was on its way, and no two clocks need agree.
    pub echo: u64,
    /// How many links lie between the sender and the node that leads: 0 from a leader, and one more than its
    /// own leader said from a follower. Where nodes follow each other in a circle it grows without end.
    pub hops: u64,
}

/// How a heartbeat's line begins, which no record's does.
pub const HEARTBEAT: &[u8] = b"#! ";

impl Heartbeat {
    /// The line, with its end.
    pub fn line(&self) -> Vec<u8> {
        let Heartbeat { epoch, seq, unix_ms, behind_ms, echo, hops } = self;
        sealed(&format!("#! {} {seq} {unix_ms} {behind_ms} {echo} {hops}", epoch.0), 0)
    }

    /// Reads a line without its end.
    pub fn parse(line: &[u8]) -> Option<Heartbeat> {
        let [epoch, seq, unix_ms, behind_ms, echo, hops] = numbers(line, HEARTBEAT)?;
        Some(Heartbeat { epoch: Epoch(epoch), seq: Seq(seq), unix_ms, behind_ms, echo, hops })
    }
}

/// How far a follower has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The last record that it has received.
    pub received: Seq,
    /// The last one that it has applied: its readers see it.
    pub applied: Seq,
    /// The last one on its disk.
    pub durable: Seq,
    /// Bytes behind the leader's answer in which there is nothing whole any more that is not received.
    pub bytes: u64,
    /// Milliseconds on the sender's own clock; 0 if it does not want to have them back.
    pub clock: u64,
}

impl Ack {
    /// The line, with its end.
    pub fn line(&self) -> Vec<u8> {
        let Ack { received, applied, durable, bytes, clock } = self;
        sealed(&format!("ACK {received} {applied} {durable} {bytes} {clock}"), 0)
    }

    /// Reads a line without its end.
    pub fn parse(line: &[u8]) -> Option<Ack> {
        let [received, applied, durable, bytes, clock] = numbers(line, b"ACK ")?;
        let [received, applied, durable] = [received, applied, durable].map(Seq);
        Some(Ack { received, applied, durable, bytes, clock })
    }
}

/// A follower asks to become the leader; its last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handover(pub Seq);

impl Handover {
    /// The line, with its end.
    pub fn line(&self) -> Vec<u8> {
        sealed(&format!("HANDOVER {}", self.0), 0)
    }

    /// Reads a line without its end.
    pub fn parse(line: &[u8]) -> Option<Handover> {
        let [seq] = numbers(line, b"HANDOVER ")?;
        Some(Handover(Seq(seq)))
    }
}

/// A follower that was offered the lead does not take it: no PROMOTE waits for it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decline(pub Seq);

impl Decline {
    /// The line, with its end.
    pub fn line(&self) -> Vec<u8> {
        sealed(&format!("DECLINE {}", self.0), 0)
    }

    /// Reads a line without its end.
    pub fn parse(line: &[u8]) -> Option<Decline> {
        let [seq] = numbers(line, b"DECLINE ")?;
        Some(Decline(Seq(seq)))
    }
}

/// The leader no longer leads: the follower that has this record, its last, may, or declines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lead(pub Seq);

/// How its line begins.
pub const LEAD: &[u8] = b"#lead ";

impl Lead {
    /// The line, with its end.
    pub fn line(&self) -> Vec<u8> {
        sealed(&format!("#lead {}", self.0), 0)
    }

    /// Reads a line without its end.
    pub fn parse(line: &[u8]) -> Option<Lead> {
        let [seq] = numbers(line, LEAD)?;
        Some(Lead(Seq(seq)))
    }
}

/// How the line of a message begins.
pub const MESSAGE: &[u8] = b"#message ";

/// A published message: its line, the channel and the payload, which the line's seal covers, and a line end.
pub fn message(channel: &[u8], payload: &[u8]) -> Vec<u8> {
    let body = [channel, payload].concat();
    let text = format!("#message {} {}", channel.len(), payload.len());
    [&sealed(&text, crc32fast::hash(&body))[..], &body, b"\r\n"].concat()
}

/// A message as it was received.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'b> {
    /// The channel.
    pub channel: &'b [u8],
    /// The payload.
    pub payload: &'b [u8],
    /// Bytes that it took on the link.
    pub len: usize,
}

/// What came is not what was sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Damaged;

/// Reads what [`message`] made from the front of `bytes`, whose first line, without its end, is `line`.
/// None if not all of it is there yet.
pub fn parse_message<'b>(bytes: &'b [u8], line: &[u8]) -> Result<Option<Message<'b>>, Damaged> {
    let text = line.len().checked_sub(9).map(|len| &line[..len]).ok_or(Damaged)?;
    let lengths = text.strip_prefix(MESSAGE).ok_or(Damaged)?.split(|&byte| byte == b' ');
    let lengths: Option<Vec<u64>> = lengths.map(canonical_number).collect();
    let Some([channel, payload]) = lengths.and_then(|both| <[u64; 2]>::try_from(both).ok()) else {
        return Err(Damaged);
    };
    let total = channel.checked_add(payload).filter(|total| *total < u64::from(u32::MAX));
    let start = line.len() + 2;
    let len = start + total.ok_or(Damaged)? as usize + 2;
    let Some(body) = bytes.get(start..len) else { return Ok(None) };
    let body = body.strip_suffix(b"\r\n").ok_or(Damaged)?;
    unsealed(line, crc32fast::hash(body)).ok_or(Damaged)?;
    let (channel, payload) = body.split_at(channel as usize);
    Ok(Some(Message { channel, payload, len }))
}

fn numbers<const N: usize>(line: &[u8], prefix: &[u8]) -> Option<[u64; N]> {
    let words = unsealed(line, 0)?.strip_prefix(prefix)?.split(|&byte| byte == b' ');
    let numbers: Option<Vec<u64>> = words.map(canonical_number).collect();
    numbers?.try_into().ok()
}

fn sealed(text: &str, context: u32) -> Vec<u8> {
    let mut line = text.as_bytes().to_vec();
    let crc = seal(&line, context);
    line.push(b' ');
    line.extend_from_slice(&hex(crc));
    line.extend_from_slice(b"\r\n");
    line
}

fn unsealed(line: &[u8], context: u32) -> Option<&[u8]> {
    let (text, crc) = line.split_at_checked(line.len().checked_sub(9)?)?;
    (parse_crc(crc.strip_prefix(b" ")?)? == seal(text, context)).then_some(text)
}

fn seal(text: &[u8], context: u32) -> u32 {
    crate::aof::record::seal(context, text, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        let last = Position { seq: Seq(9), epoch: Epoch(2), crc: 0xab };
        let (node_id, run_id) = ("0f".repeat(20), "1e".repeat(20));
        Request { node_id, last, host: String::new(), port: 8080, run_id }
    }

    /// The line reads back, and with any bit flipped it does not.
    fn check<T: PartialEq + std::fmt::Debug>(
        value: T,
        line: Vec<u8>,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) {
        let line = line.strip_suffix(b"\r\n").expect("a line end");
        assert!(line.len() < LINE_LEN_MAX);
        assert_eq!(parse(line), Some(value));
        for bit in 0..line.len() * 8 {
            let mut bad = line.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse(&bad), None, "{}", String::from_utf8_lossy(&bad));
        }
    }

    #[test]
    fn lines_read_back_and_show_every_flipped_bit() {
        let request = request();
        let (seq, epoch) = (Seq(u64::MAX), Epoch(u64::MAX));
        let answers = [
            Answer::Continue(epoch),
            Answer::Full { seq, bytes: u64::MAX },
            Answer::Diverged { seq, epoch, crc: 7 },
            Answer::Behind { seq, epoch, crc: 7 },
        ];
        for answer in answers {
            check((answer, seq), answer.line(&request, seq), |line| Answer::parse(line, &request));
        }
        let ack =
            Ack { received: seq, applied: Seq(1), durable: Seq(0), bytes: u64::MAX, clock: 5 };
        check(ack, ack.line(), Ack::parse);
        check(Handover(seq), Handover(seq).line(), Handover::parse);
        check(Lead(seq), Lead(seq).line(), Lead::parse);
        check(Decline(seq), Decline(seq).line(), Decline::parse);
        let heartbeat = Heartbeat { epoch, seq, unix_ms: 1, behind_ms: 2, echo: 3, hops: 4 };
        check(heartbeat, heartbeat.line(), Heartbeat::parse);
    }

    #[test]
    fn messages_read_back_and_show_every_flipped_bit() {
        let bytes = message(b"news", b"two\r\nlines");
        let read = |bytes: &[u8]| {
            let len = bytes.windows(2).position(|end| end == b"\r\n").ok_or(Damaged)?;
            let found = parse_message(bytes, &bytes[..len])?;
            Ok::<_, Damaged>(found.map(|found| (found.channel.to_vec(), found.payload.to_vec())))
        };
        assert_eq!(read(&bytes), Ok(Some((b"news".to_vec(), b"two\r\nlines".to_vec()))));
        assert_eq!(read(&bytes[..bytes.len() - 1]), Ok(None));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(read(&bad), Ok(Some(_))), "{}", String::from_utf8_lossy(&bad));
        }
    }

    #[test]
    fn an_answer_to_another_request_is_none() {
        let (asked, mut understood) = (request(), request());
        understood.last.seq = Seq(8);
        let line = Answer::Continue(Epoch(1)).line(&understood, Seq(9));
        assert_eq!(Answer::parse(&line[..line.len() - 2], &asked), None);
    }

    #[test]
    fn requests_read_back() {
        for host in ["", "10.0.0.1"] {
            let request = Request { host: host.to_string(), ..request() };
            let words = request.words();
            let read = Request::parse(words[1..].iter().map(Vec::as_slice));
            assert_eq!(read, Some(request));
        }
        for host in ["a\r\nreplicaof b", "a,port=1", "a b"] {
            let words = Request { host: host.to_string(), ..request() }.words();
            assert_eq!(Request::parse(words[1..].iter().map(Vec::as_slice)), None, "{host}");
        }
        assert_eq!(
            Request::parse([&b"short"[..], b"1", b"1", b"00000000", b"1"].into_iter()),
            None
        );
    }
}
