//! Receiving a full copy: a base, and the log up to where the leader's log ended when it answered.
//!
//! It is stored in `incoming/` as log files, checked as in recovery, and made durable. It shows whether this
//! node's records are in the leader's history. Only then does it take the place of the old log ([`super::replacement`]). Until then the old data stays as it is, and can be read.

use super::incoming::{Incoming, Item, LinkError};
use super::replacement::INCOMING;
use super::wire::Ack;
use crate::aof::epochs::Epochs;
use crate::aof::files::{base_name, segment_name};
use crate::aof::outline;
use crate::aof::record::Position;
use crate::aof::recovery;
use crate::engine::Persistence;
use crate::file_error::{if_there, named};
use crate::replace::sync_dir;
use crate::store::effect::{self, Seq};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often the leader gets a sign of life, whatever else there is to do.
pub const ACK_EVERY: Duration = Duration::from_millis(250);
/// Synced after this many bytes, so that the last sync is short.
const SYNC_EVERY_BYTES: u64 = 8 << 20;

/// The base that was announced; without one, `seq` and `bytes` are 0.
#[derive(Clone, Copy, Debug)]
pub struct Base {
    /// Its record; the log goes on after it.
    pub seq: Seq,
    /// Its length in bytes.
    pub bytes: u64,
}

/// The history of a copy, as far as it was received.
#[derive(Debug)]
pub struct Arrived {
    /// Its last record.
    pub last: Position,
    /// Its epochs.
    pub epochs: Epochs,
}

/// Receives a copy into `incoming/`, at least up to the record `upto`, which the leader has.
pub fn receive(
    persistence: &Persistence,
    incoming: &mut Incoming,
    base: Base,
    upto: Seq,
    heard: impl Fn(usize),
) -> Result<Arrived, LinkError> {
    let dir = persistence.dir.join(INCOMING);
    if_there(fs::remove_dir_all(&dir)).map_err(named(&dir))?;
    fs::create_dir(&dir).map_err(named(&dir))?;
    let (mut arrived, end_seq) = if base.bytes == 0 {
        (Arrived { last: Position::default(), epochs: Epochs::default() }, Seq(0))
    } else {
        receive_base(&dir, incoming, base, &heard)?
    };
    receive_log(&dir, incoming, &mut arrived, end_seq.max(upto), &heard)?;
    sync_dir(&dir)?;
    Ok(arrived)
}

fn receive_base(
    dir: &Path,
    incoming: &mut Incoming,
    base: Base,
    heard: &impl Fn(usize),
) -> Result<(Arrived, Seq), LinkError> {
    let mut file = File::create_new(dir.join(base_name(base.seq)))?;
    let mut alive = Alive::new(incoming);
    let (mut left, mut unsynced) = (base.bytes, 0);
    while left > 0 {
        if incoming.waiting().is_empty() {
            heard(incoming.read()?);
        }
        let part = incoming.waiting();
        let part = &part[..part.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        file.write_all(part)?;
        let n = part.len();
        incoming.consume(n);
        (left, unsynced) = (left - n as u64, unsynced + n as u64);
        if unsynced >= SYNC_EVERY_BYTES {
            file.sync_data()?;
            unsynced = 0;
        }
        alive.signal();
    }
    file.sync_all()?;
    let checked = recovery::read_base(dir, base.seq, |payload| {
        alive.signal();
        effect::check(payload).map(drop)
    });
    let (frame, epochs) = checked.map_err(|_| LinkError::Garbled("a base"))?;
    Ok((Arrived { last: frame.position, epochs }, frame.end_seq))
}

/// Receives the log after the base, up to the record `upto`.
fn receive_log(
    dir: &Path,
    incoming: &mut Incoming,
    arrived: &mut Arrived,
    upto: Seq,
    heard: &impl Fn(usize),
) -> Result<(), LinkError> {
    let Arrived { last, epochs } = arrived;
    let file = File::create_new(dir.join(segment_name(Seq(last.seq.0 + 1))))?;
    let mut file = BufWriter::new(file);
    let (mut beaten, mut acked) = (false, Instant::now());
    while last.seq < upto {
        let (item, used) = incoming.item(*last)?;
        match item {
            Item::NeedMore => {
                if std::mem::take(&mut beaten) || acked.elapsed() >= ACK_EVERY {
                    acked = Instant::now();
                    let (applied, durable) = (Seq(0), Seq(0));
                    let bytes = incoming.received();
                    let ack =
                        Ack { received: last.seq, applied, durable, bytes, clock: 0, epoch: None };
                    incoming.socket().write_all(&ack.line())?;
                }
                heard(incoming.read()?);
            }
            Item::Message(..) => {}
            Item::Lead(_) => return Err(LinkError::Garbled("a handover during a copy")),
            Item::Heartbeat(_) => beaten = true,
            Item::Record(header, record) => {
                outline::check(&record[record.len() - header.len as usize..])
                    .map_err(|malformed| LinkError::Garbled(malformed.0))?;
                file.write_all(record)?;
                if header.epoch > last.epoch {
                    epochs.note(header.position());
                }
                *last = header.position();
            }
        }
        incoming.consume(used);
    }
    file.flush()?;
    Ok(file.get_ref().sync_all()?)
}

/// Sends the leader signs of life while there is nothing to acknowledge.
pub struct Alive {
    socket: io::Result<TcpStream>,
    told: Instant,
}

impl Alive {
    pub fn new(incoming: &Incoming) -> Alive {
        Alive { socket: incoming.socket().try_clone(), told: Instant::now() }
    }

    /// Sends one if it is time. An error shows when the link is used next.
    pub fn signal(&mut self) {
        if self.told.elapsed() >= ACK_EVERY
            && let Ok(socket) = &mut self.socket
        {
            self.told = Instant::now();
            let ack = Ack {
                received: Seq(0),
                applied: Seq(0),
                durable: Seq(0),
                bytes: 0,
                clock: 0,
                epoch: None,
            };
            let _ = socket.write_all(&ack.line());
        }
    }
}
