//! The lines of a replication link. All of them are text, so `nc` can watch a link.
//!
//! ```text
//! follower                                     leader
//! REPLICATE <id> <seq> <epoch> <crc> …   ──▶
//!                                        ◀──   CONTINUE <epoch> <end> <seal>              then records
//!                                        or    FULL <seq> <bytes> <end> <seal>            then a base, then records
//!                                        or    DIVERGED <seq> <epoch> <crc> <end> <seal>  ask again
//!                                        or    BEHIND <seq> <epoch> <crc> <end> <seal>    ask again later
//!                                        ◀──   #! <epoch> <seq> <unix ms> <behind ms> <echo> <hops> [<commit>] <seal>
//! ACK <received> <applied> <durable> <bytes> <clock> [<epoch>] <seal> ──▶
//! HANDOVER <seq> <seal>                   ──▶
//!                                        ◀──   #lead <seq> <seal>                   after the last record
//! DECLINE <seq> <seal>                    ──▶   if no PROMOTE waits any more
//!                                        ◀──   #message <length> <length> <seal>    channel and payload follow
//! ```
//!
//! `<end>` is the leader's last record: a follower that has more logs a warning.
//!
//! Between nodes that elect their leader, a request ends with the follower's cluster and epoch, and an answer with
//! the leader's cluster, id and epoch. The link is bound to that epoch.
//!
//! Each line ends in a seal, the CRC-32 of the text before it. The seal of an answer also covers the request
//! as the leader understood it, so a bit that flips on the way there cannot cause a needless full copy.

use crate::aof::numbers::{Words, canonical_number, hex, parse_crc};
use crate::aof::record::{Epoch, Position};
use crate::aof::sealed::{sealed, unsealed};
use crate::cluster::term::{ClusterId, NodeId};
use crate::store::effect::Seq;
use std::fmt;

/// No line is longer.
pub const LINE_LEN_MAX: usize = 256;

/// A follower's request for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its node's id.
    pub node_id: String,
    /// The last record that it has; zeros if it has none, or wants to start over.
    pub last: Position,
    /// The address at which others can reach it; empty if it is the connection's.
    pub host: String,
    /// The port at which others can reach it.
    pub port: u16,
    /// The process that asks, 40 hex digits; empty if it does not tell. Two processes with one node id have
    /// copies of one directory.
    pub run_id: String,
    /// If its leader was elected: its cluster, once it has one, and its epoch.
    pub cluster: Option<(Option<ClusterId>, Epoch)>,
}

impl Request {
    /// The words of the command.
    pub fn words(&self) -> Vec<Vec<u8>> {
        let mut words = self.sealed_words();
        words.push(self.run_id.clone().into_bytes());
        if let Some((cluster, epoch)) = self.cluster {
            words.extend([ClusterId::word(cluster), epoch.0.to_string()].map(String::into_bytes));
        }
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

    /// Reads the words after the command's name.
    pub fn parse<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<Request> {
        let node_id = String::from_utf8(words.next()?.to_vec()).ok()?;
        let valid = node_id.len() == 40 && node_id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let last = position(&mut words)?;
        let port = u16::try_from(canonical_number(words.next()?)?).ok()?;
        let host = words.next().unwrap_or_default();
        // It goes into INFO and into the configuration's file.
        let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || b".:-_%".contains(byte);
        let host = String::from_utf8(host.to_vec())
            .ok()
            .filter(|host| host.len() < 256 && host.as_bytes().iter().all(harmless))?;
        let run_id = String::from_utf8_lossy(words.next().unwrap_or_default()).into_owned();
        let cluster = match words.next() {
            None => None,
            Some(cluster) => {
                let epoch = Epoch(canonical_number(words.next()?)?);
                Some((ClusterId::parse_word(cluster)?, epoch))
            }
        };
        valid.then_some(Request { node_id, last, host, port, run_id, cluster })
    }

    /// The context of an answer's seal.
    fn seal(&self) -> u32 {
        crc32fast::hash(&self.sealed_words().join(&b' '))
    }
}

/// A leader's answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The record is here, too. The records after it follow.
    Continue(Epoch),
    /// A base follows, then the records after it. Without a base, all records from the first one on.
    Full {
        /// The base's record.
        seq: Seq,
        /// The base's length; 0 without a base.
        bytes: u64,
    },
    /// The record is not here. The histories part at this one or before: it is in the epoch named, and the
    /// crc is the one of that epoch's first record.
    Diverged(Position),
    /// The record is not here, and may still come: this node is a follower itself, and this is its last
    /// record, in the terms of `Diverged`.
    Behind(Position),
}

impl Answer {
    /// The line, with its end, from a leader whose log ends at `end`. It says who answers, if that node was elected.
    pub fn line(&self, request: &Request, end: Seq, elected: Option<&Elected>) -> Vec<u8> {
        let text = match self {
            Answer::Continue(epoch) => format!("CONTINUE {}", epoch.0),
            Answer::Full { seq, bytes } => format!("FULL {seq} {bytes}"),
            Answer::Diverged(at) => format!("DIVERGED {}", words(at)),
            Answer::Behind(at) => format!("BEHIND {}", words(at)),
        };
        let elected = elected.map_or(String::new(), |elected| format!(" {elected}"));
        sealed(format!("{text} {end}{elected}").as_bytes(), request.seal())
    }

    /// Reads a line without its end, the answer to this request, and where the leader's log ends. `elected` is the node
    /// that must have answered.
    pub fn parse(
        line: &[u8],
        request: &Request,
        elected: Option<&Elected>,
    ) -> Option<(Answer, Seq)> {
        let text = unsealed(line, request.seal())?;
        let mut words = Words::of(text);
        let answer = match words.word()? {
            b"CONTINUE" => Answer::Continue(Epoch(words.number()?)),
            b"FULL" => Answer::Full { seq: Seq(words.number()?), bytes: words.number()? },
            b"DIVERGED" => Answer::Diverged(Position::read(&mut words)?),
            b"BEHIND" => Answer::Behind(Position::read(&mut words)?),
            _ => return None,
        };
        let end = Seq(words.number()?);
        let by_elected = elected.is_none_or(|elected| {
            elected.to_string().split(' ').all(|word| words.word() == Some(word.as_bytes()))
        });
        if by_elected { Some((answer, end)) } else { None }
    }
}

/// A node that leads because it was elected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elected {
    /// The node.
    pub id: NodeId,
    /// Its epoch.
    pub epoch: Epoch,
}

impl fmt::Display for Elected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, self.epoch.0)
    }
}

/// A heartbeat: how far the sender's log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Its epoch.
    pub epoch: Epoch,
    /// Its last record.
    pub seq: Seq,
    /// Its wall clock, for people who read along.
    pub unix_ms: u64,
    /// If it is a follower itself, how old its data may be, in milliseconds; `u64::MAX` is unknown.
    pub behind_ms: u64,
    /// The receiver's own clock (see [`Ack`]) when this was sent, at least; 0 is unknown. So the receiver
    /// knows how old this is, however long it was on its way, and no two clocks need agree.
    pub echo: u64,
    /// Links between the sender and the node that leads: 0 from a leader; from a follower, one more than its
    /// own leader said. Where nodes follow each other in a circle it grows without end.
    pub hops: u64,
    /// From a leader that was elected: a majority has all records up to this one.
    pub commit: Option<Seq>,
}

/// The beginning of a heartbeat's line. No record begins so.
pub const HEARTBEAT: &[u8] = b"#! ";

impl Heartbeat {
    /// The line, with its end.
    pub fn line(&self) -> Vec<u8> {
        let Heartbeat { epoch, seq, unix_ms, behind_ms, echo, hops, commit } = self;
        let commit = commit.map_or(String::new(), |commit| format!(" {commit}"));
        let text = format!("#! {} {seq} {unix_ms} {behind_ms} {echo} {hops}{commit}", epoch.0);
        sealed(text.as_bytes(), 0)
    }

    /// Reads a line without its end.
    pub fn parse(line: &[u8]) -> Option<Heartbeat> {
        let ([epoch, seq, unix_ms, behind_ms, echo, hops], commit) = numbers_and(line, HEARTBEAT)?;
        let (epoch, seq, commit) = (Epoch(epoch), Seq(seq), commit.map(Seq));
        Some(Heartbeat { epoch, seq, unix_ms, behind_ms, echo, hops, commit })
    }
}

/// An acknowledgement: how far a follower has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The last record that it has received.
    pub received: Seq,
    /// The last one that it has applied: its readers see it.
    pub applied: Seq,
    /// The last one on its disk.
    pub durable: Seq,
    /// Bytes received after the leader's answer. Each record that is whole in them is among `received`.
    pub bytes: u64,
    /// Milliseconds on the sender's own clock; 0 if it need not be echoed.
    pub clock: u64,
    /// To a leader that was elected: the sender's epoch, read after the records above.
    pub epoch: Option<Epoch>,
}

impl Ack {
    /// The line, with its end.
    pub fn line(&self) -> Vec<u8> {
        let Ack { received, applied, durable, bytes, clock, epoch } = self;
        let epoch = epoch.map_or(String::new(), |epoch| format!(" {}", epoch.0));
        sealed(format!("ACK {received} {applied} {durable} {bytes} {clock}{epoch}").as_bytes(), 0)
    }

    /// Reads a line without its end.
    pub fn parse(line: &[u8]) -> Option<Ack> {
        let ([received, applied, durable, bytes, clock], epoch) = numbers_and(line, b"ACK ")?;
        let [received, applied, durable] = [received, applied, durable].map(Seq);
        Some(Ack { received, applied, durable, bytes, clock, epoch: epoch.map(Epoch) })
    }
}

/// A follower asks to become the leader, and names its last record.
pub const HANDOVER: &[u8] = b"HANDOVER ";
/// The leader leads no longer: the follower that has this record, the last, may lead, or declines.
pub const LEAD: &[u8] = b"#lead ";
/// A follower that was offered the lead declines it: no PROMOTE waits for it any more.
pub const DECLINE: &[u8] = b"DECLINE ";

/// A line that names one record; `kind` is its beginning.
pub fn seq_line(kind: &[u8], seq: Seq) -> Vec<u8> {
    sealed(&[kind, seq.to_string().as_bytes()].concat(), 0)
}

/// Reads a line of this kind, without its end.
pub fn parse_seq(kind: &[u8], line: &[u8]) -> Option<Seq> {
    let ([seq], None) = numbers_and(line, kind)? else { return None };
    Some(Seq(seq))
}

/// The beginning of a message's line.
pub const MESSAGE: &[u8] = b"#message ";

/// The bytes of a published message: its line, channel and payload, which the line's seal covers, a line end.
pub fn message(channel: &[u8], payload: &[u8]) -> Vec<u8> {
    let body = [channel, payload].concat();
    let text = format!("#message {} {}", channel.len(), payload.len());
    [&sealed(text.as_bytes(), crc32fast::hash(&body))[..], &body, b"\r\n"].concat()
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

/// The input is not what was sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Damaged;

/// Reads a [`message`] from the front of `bytes`, whose first line, without its end, is `line`. None if not
/// all of it is there yet.
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

fn words(at: &Position) -> String {
    format!("{} {} {:08x}", at.seq, at.epoch.0, at.crc)
}

fn position<'a>(words: &mut impl Iterator<Item = &'a [u8]>) -> Option<Position> {
    let seq = Seq(canonical_number(words.next()?)?);
    let epoch = Epoch(canonical_number(words.next()?)?);
    Some(Position { seq, epoch, crc: parse_crc(words.next()?)? })
}

/// The numbers of a line, and one more if there is one.
fn numbers_and<const N: usize>(line: &[u8], prefix: &[u8]) -> Option<([u64; N], Option<u64>)> {
    let mut words = Words::after(prefix, unsealed(line, 0)?)?;
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = words.number()?;
    }
    match words.word() {
        None => Some((numbers, None)),
        Some(word) => words.end((numbers, Some(canonical_number(word)?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        let last = Position { seq: Seq(9), epoch: Epoch(2), crc: 0xab };
        let (node_id, run_id) = ("0f".repeat(20), "1e".repeat(20));
        Request { node_id, last, host: String::new(), port: 8080, run_id, cluster: None }
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
            Answer::Diverged(Position { seq, epoch, crc: 7 }),
            Answer::Behind(Position { seq, epoch, crc: 7 }),
        ];
        for answer in answers {
            check((answer, seq), answer.line(&request, seq, None), |line| {
                Answer::parse(line, &request, None)
            });
        }
        for epoch in [None, Some(epoch)] {
            let (applied, durable) = (Seq(1), Seq(0));
            let ack = Ack { received: seq, applied, durable, bytes: u64::MAX, clock: 5, epoch };
            check(ack, ack.line(), Ack::parse);
        }
        for kind in [HANDOVER, LEAD, DECLINE] {
            check(seq, seq_line(kind, seq), |line| parse_seq(kind, line));
        }
        for commit in [None, Some(Seq(7))] {
            let (unix_ms, behind_ms, echo, hops) = (1, 2, 3, 4);
            let heartbeat = Heartbeat { epoch, seq, unix_ms, behind_ms, echo, hops, commit };
            check(heartbeat, heartbeat.line(), Heartbeat::parse);
        }
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
        let line = Answer::Continue(Epoch(1)).line(&understood, Seq(9), None);
        assert_eq!(Answer::parse(&line[..line.len() - 2], &asked, None), None);
    }

    #[test]
    fn an_answer_of_another_leader_or_epoch_is_none() {
        let (request, answer) = (request(), Answer::Continue(Epoch(1)));
        let elected = Elected { id: NodeId([7; 20]), epoch: Epoch(3) };
        let line = answer.line(&request, Seq(9), Some(&elected));
        assert!(line.len() < LINE_LEN_MAX);
        let parse = |by: Elected| Answer::parse(&line[..line.len() - 2], &request, Some(&by));
        assert_eq!(parse(elected), Some((answer, Seq(9))));
        assert_eq!(parse(Elected { id: NodeId([8; 20]), ..elected }), None);
        assert_eq!(parse(Elected { epoch: Epoch(4), ..elected }), None);
        let plain = answer.line(&request, Seq(9), None);
        assert_eq!(Answer::parse(&plain[..plain.len() - 2], &request, Some(&elected)), None);
    }

    #[test]
    fn requests_read_back() {
        let clusters = [None, Some((None, Epoch(3))), Some((Some(ClusterId(0x9c)), Epoch(3)))];
        for (host, cluster) in ["", "10.0.0.1", ""].into_iter().zip(clusters) {
            let request = Request { host: host.to_string(), cluster, ..request() };
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
