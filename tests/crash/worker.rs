//! One connection of the load. It works on its own keys, so that it knows what they hold, and on a few
//! that all connections share.

use crate::common::DEADLINE;
use crate::common::resp::encode;
use crate::common::rng::Rng;
use crate::common::server::set_deadline;
use crate::model::{Model, Op};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, RwLock};

pub const SHARED_COUNTERS: usize = 3;

/// The state that all connections share.
#[derive(Debug, Default)]
pub struct Shared {
    /// Taken for reading during a batch and for writing during FLUSHALL, so that no write is under way
    /// while everything is removed.
    pub flush: RwLock<Flush>,
    /// Acknowledged INCRs of each shared counter since the last FLUSHALL, and those without an answer.
    pub acked: [AtomicU64; SHARED_COUNTERS],
    pub unknown: [AtomicU64; SHARED_COUNTERS],
    /// Acknowledged writes of all kinds.
    pub acked_writes: AtomicU64,
    /// Replies that were wrong, before any crash.
    pub wrong: Mutex<Vec<String>>,
}

#[derive(Debug, Default)]
pub struct Flush {
    /// The number of FLUSHALLs so far.
    pub count: u64,
    /// The last one was not answered.
    pub unknown: bool,
}

/// A connection's keys, and how far it came.
pub struct Worker {
    pub model: Model,
    /// Sent and not answered, in order: a front part of it may have happened.
    pub pending: Vec<Op>,
    rng: Rng,
    /// FLUSHALLs that `model` knows of.
    flushes: u64,
}

/// The server is gone.
struct Gone;

impl Worker {
    pub fn new(id: usize, seed: u64) -> Worker {
        let rng = Rng::new(seed ^ (id as u64) << 32);
        Worker { model: Model::new(id), pending: Vec::new(), rng, flushes: 0 }
    }

    /// Works until the server is gone.
    pub fn run(&mut self, port: u16, shared: &Shared) {
        // A kill may come before the connection.
        let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return };
        set_deadline(&stream, DEADLINE);
        let mut stream = BufReader::new(stream);
        while self.step(&mut stream, shared).is_ok() {}
    }

    fn step(&mut self, stream: &mut BufReader<TcpStream>, shared: &Shared) -> Result<(), Gone> {
        if self.rng.below(3000) == 0 {
            return flush_all(stream, shared);
        }
        let flush = shared.flush.read().expect("no worker panics with it");
        if flush.unknown {
            return Err(Gone);
        }
        self.learn_of(&flush);
        match self.rng.below(100) {
            0..70 => self.own_batch(stream, shared),
            70..90 => self.count_together(stream, shared),
            90..96 => self.set_together(stream, shared),
            96..99 => {
                // Gone at once, to give the sweeper something to log.
                let key = format!("brief:{}", self.rng.below(100));
                call(stream, &["SET", &key, "v", "PX", "5"]).map(drop)
            }
            // An error says only that one is going on.
            _ => call(stream, &["BGREWRITEAOF"]).map(drop),
        }
    }

    /// Learns, after a crash, of a FLUSHALL that it did not see; then none of its writes was under way.
    pub fn settle(&mut self, shared: &Shared, flushed: bool) {
        self.learn_of(&shared.flush.read().expect("no worker panics with it"));
        if flushed {
            self.pending.clear();
        }
    }

    fn learn_of(&mut self, flush: &Flush) {
        if self.flushes < flush.count {
            self.flushes = flush.count;
            self.model.held.clear();
        }
    }

    /// A few commands at once on its own keys; each answer is known beforehand.
    fn own_batch(
        &mut self,
        stream: &mut BufReader<TcpStream>,
        shared: &Shared,
    ) -> Result<(), Gone> {
        let (mut bytes, mut future) = (Vec::new(), self.model.clone());
        for _ in 0..self.rng.pick(&[1, 1, 1, 4, 16]) {
            let op = future.random_op(&mut self.rng);
            future.encode(&op, &mut bytes);
            future.apply(&op);
            self.pending.push(op);
        }
        stream.get_mut().write_all(&bytes).map_err(|_| Gone)?;
        for _ in 0..self.pending.len() {
            let reply = read_line(stream)?;
            let op = self.pending.remove(0);
            let expected = self.model.apply(&op);
            if reply != expected {
                let text = format!("{op:?}: {reply} in place of {expected}");
                shared.wrong.lock().expect("no worker panics with it").push(text);
            }
            shared.acked_writes.fetch_add(1, SeqCst);
        }
        Ok(())
    }

    fn count_together(
        &mut self,
        stream: &mut BufReader<TcpStream>,
        shared: &Shared,
    ) -> Result<(), Gone> {
        let counter = self.rng.below(SHARED_COUNTERS);
        shared.unknown[counter].fetch_add(1, SeqCst);
        call(stream, &["INCR", &format!("shared:{counter}")])?;
        shared.acked[counter].fetch_add(1, SeqCst);
        shared.unknown[counter].fetch_sub(1, SeqCst);
        shared.acked_writes.fetch_add(1, SeqCst);
        Ok(())
    }

    /// Everybody's keys, which must always hold the same.
    fn set_together(
        &mut self,
        stream: &mut BufReader<TcpStream>,
        shared: &Shared,
    ) -> Result<(), Gone> {
        let value = format!("{:x}", self.rng.next_u64());
        call(stream, &["MSET", "all:a", &value, "all:b", &value, "all:c", &value])?;
        shared.acked_writes.fetch_add(1, SeqCst);
        Ok(())
    }
}

/// Removes everything while no other connection writes.
fn flush_all(stream: &mut BufReader<TcpStream>, shared: &Shared) -> Result<(), Gone> {
    let mut flush = shared.flush.write().expect("no worker panics with it");
    if flush.unknown {
        return Err(Gone);
    }
    flush.unknown = true;
    call(stream, &["FLUSHALL"])?;
    flush.unknown = false;
    flush.count += 1;
    shared.acked.iter().for_each(|acked| acked.store(0, SeqCst));
    shared.acked_writes.fetch_add(1, SeqCst);
    Ok(())
}

fn call(stream: &mut BufReader<TcpStream>, words: &[&str]) -> Result<String, Gone> {
    let mut bytes = Vec::new();
    encode(words, &mut bytes);
    stream.get_mut().write_all(&bytes).map_err(|_| Gone)?;
    read_line(stream)
}

/// All replies to these commands are one line.
fn read_line(stream: &mut BufReader<TcpStream>) -> Result<String, Gone> {
    let mut line = String::new();
    match stream.read_line(&mut line) {
        Ok(_) if line.ends_with("\r\n") => Ok(line.trim_end().to_owned()),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            panic!("no reply for too long, and no end either")
        }
        _ => Err(Gone),
    }
}
