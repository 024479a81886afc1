//! A client that sends random commands and records each with its answer, and when it was sent and answered.
//!
//! Among nodes that elect their leader, only the leader's reads are the newest, and a client that was connected before
//! does not see that it leads no longer. So there each read is a MULTI with ROLE in it.

use crate::common::DEADLINE;
use crate::common::linear::{Answer, Call, Op};
use crate::common::resp::encode;
use crate::common::rng::Rng;
use crate::common::server::set_deadline;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

/// The reason why a client cannot go on.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// The server is gone.
    Gone,
    /// The node does not lead, or is not sure of it. What it refused was not executed.
    Refused,
}

/// One key; or two keys that only change together, in one MULTI, and so are one register too. Half of the reads
/// of a pair are a plain GET of one of them.
#[derive(Clone, Debug)]
pub struct Register(pub Vec<String>);

/// The commands that a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    All,
    Reads,
    /// Those that a follower refuses.
    Writes,
}

/// The work of all clients in a round.
#[derive(Clone, Copy)]
pub struct Load<'a> {
    pub registers: &'a [Register],
    /// Commands sent at once, at most one for each register.
    pub pipelines: &'a [usize],
    /// The time of all clients counts from here.
    pub clock: Instant,
}

pub struct Client {
    pub id: usize,
    pub mix: Mix,
    /// Among nodes that elect their leader: a node that is silent for so long is left.
    pub patience: Option<Duration>,
    /// Each with the number of its register.
    pub calls: Vec<(usize, Call)>,
    rng: Rng,
    /// The number read last from each register, for a compare-and-set with prospects.
    last_read: Vec<i64>,
    values: i64,
}

/// A reply to a command.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Answer(Answer),
    Queued,
    Text(String),
    Error(String),
    Array(Vec<Reply>),
}

type Connection = BufReader<TcpStream>;

impl Client {
    pub fn new(id: usize, seed: u64, mix: Mix, registers: usize) -> Client {
        let rng = Rng::new(seed ^ (id as u64) << 32);
        Client {
            id,
            mix,
            patience: None,
            calls: Vec::new(),
            rng,
            last_read: vec![0; registers],
            values: 0,
        }
    }

    /// Sends so many commands, or as many as it can.
    pub fn run(&mut self, port: u16, load: Load<'_>, commands: usize) -> Result<(), Stop> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(|_| Stop::Gone)?;
        set_deadline(&stream, self.patience.unwrap_or(DEADLINE));
        stream.set_nodelay(true).map_err(|_| Stop::Gone)?;
        let mut connection = BufReader::new(stream);
        let end = self.calls.len().saturating_add(commands);
        while self.calls.len() < end {
            self.batch(&mut connection, load)?;
        }
        Ok(())
    }

    /// Sends a few commands at once, each to another register, and reads their answers.
    fn batch(&mut self, connection: &mut Connection, load: Load<'_>) -> Result<(), Stop> {
        let (len, first) = (self.rng.pick(load.pipelines), self.rng.below(load.registers.len()));
        let (mut bytes, mut replies) = (Vec::new(), Vec::new());
        let start = self.calls.len();
        for number in 0..len {
            let at = (first + number) % load.registers.len();
            let op = self.random_op(at);
            let keys = self.keys(&load.registers[at], op);
            let asks_role = self.patience.is_some() && op == Op::Get;
            encode_all(op, keys, asks_role, &mut bytes);
            replies.push((keys.len(), asks_role));
            self.calls.push((at, Call { client: self.id, op, called: 0, answered: None }));
        }
        let called = now(load.clock);
        self.calls[start..].iter_mut().for_each(|(_, call)| call.called = called);
        connection.get_mut().write_all(&bytes).map_err(|_| Stop::Gone)?;
        let mut refused = Vec::new();
        for (number, (keys, asks_role)) in (start..).zip(replies) {
            let reply = match read_all(connection, keys, asks_role) {
                Err(error) => return Err(self.left(&error)),
                Ok(reply) => reply,
            };
            if self.record(number, reply, now(load.clock)) == Err(Stop::Refused) {
                refused.push(number);
            }
        }
        // They were not executed: as if they had not been sent.
        for &number in refused.iter().rev() {
            self.calls.remove(number);
        }
        if refused.is_empty() { Ok(()) } else { Err(Stop::Refused) }
    }

    /// Records the answer to a call.
    fn record(&mut self, number: usize, reply: Reply, at: u64) -> Result<(), Stop> {
        let (register, call) = &mut self.calls[number];
        match reply {
            Reply::Answer(answer) => {
                call.answered = Some((at, answer));
                if let Answer::Number(value) = answer
                    && call.op != Op::Del
                {
                    self.last_read[*register] = value;
                }
                Ok(())
            }
            Reply::Error(text) if text.starts_with("READONLY") => Err(Stop::Refused),
            // It was executed, and may survive: a call without an answer.
            Reply::Error(text) if self.patience.is_some() && text.starts_with("INDOUBT") => Ok(()),
            Reply::Error(text) if self.patience.is_some() && is_refusal(call.op, &text) => {
                Err(Stop::Refused)
            }
            Reply::Array(answers) => {
                let Call { client, op, .. } = call;
                panic!("half of a transaction: client {client}, {op:?}, {register}: {answers:?}")
            }
            other => panic!("client {}, {:?}: {other:?}", self.id, call.op),
        }
    }

    /// A server that neither answers nor ends is a fault, unless it may be left.
    fn left(&self, error: &io::Error) -> Stop {
        let is_late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        assert!(!is_late || self.patience.is_some(), "no reply for too long, and no end either");
        Stop::Gone
    }

    fn random_op(&mut self, register: usize) -> Op {
        let below = match self.mix {
            Mix::All => self.rng.below(100),
            Mix::Reads => 0,
            Mix::Writes => self.rng.between(40, 99) as usize,
        };
        self.values += 1;
        // Far apart, so that an INCR does not lead to another one's value.
        let value = (self.id as i64 + 1) * 1_000_000_000 + self.values * 1_000;
        match below {
            0..40 => Op::Get,
            40..60 => Op::Set(value),
            60..70 => Op::Del,
            70..85 => Op::Incr,
            _ => Op::SetIfEq { expected: self.last_read[register], value },
        }
    }

    /// The keys that a command is sent for: all of the register's, or one of them.
    fn keys<'r>(&mut self, register: &'r Register, op: Op) -> &'r [String] {
        let keys = &register.0[..];
        if op != Op::Get || self.rng.chance(50) {
            return keys;
        }
        let one = self.rng.below(keys.len());
        &keys[one..=one]
    }
}

/// True if a node that does not lead has not executed the command, or if the command has only read.
fn is_refusal(op: Op, text: &str) -> bool {
    op == Op::Get || text.starts_with("STALE") || text.starts_with("LOADING")
}

fn now(clock: Instant) -> u64 {
    clock.elapsed().as_nanos() as u64
}

/// A command for one key, or a MULTI with the command for each of the keys, and with ROLE before them.
fn encode_all(op: Op, keys: &[String], asks_role: bool, into: &mut Vec<u8>) {
    if let [key] = keys
        && !asks_role
    {
        return encode_one(op, key, into);
    }
    encode(&["MULTI"], into);
    if asks_role {
        encode(&["ROLE"], into);
    }
    keys.iter().for_each(|key| encode_one(op, key, into));
    encode(&["EXEC"], into);
}

fn encode_one(op: Op, key: &str, into: &mut Vec<u8>) {
    match op {
        Op::Get => encode(&["GET", key], into),
        Op::Set(value) => encode(&["SET", key, &value.to_string()], into),
        Op::Del => encode(&["DEL", key], into),
        Op::Incr => encode(&["INCR", key], into),
        Op::SetIfEq { expected, value } => {
            encode(&["SET", key, &value.to_string(), "IFEQ", &expected.to_string()], into);
        }
    }
}

/// The answer to what `encode_all` made: one, if those of the keys are the same, as they must be. That of a node which
/// does not lead is an error.
fn read_all(connection: &mut Connection, keys: usize, asks_role: bool) -> io::Result<Reply> {
    if keys == 1 && !asks_role {
        return read_reply(connection);
    }
    for _ in 0..=keys + usize::from(asks_role) {
        read_reply(connection)?;
    }
    let mut reply = read_reply(connection)?;
    if asks_role && let Reply::Array(parts) = &mut reply {
        let leads = matches!(parts.remove(0), Reply::Array(role) if role[0] == Reply::Text("master".to_owned()));
        if !leads {
            return Ok(Reply::Error("it does not lead".to_owned()));
        }
    }
    match reply {
        Reply::Array(mut answers) if answers.windows(2).all(|pair| pair[0] == pair[1]) => {
            Ok(answers.pop().expect("an answer for each key"))
        }
        other => Ok(other),
    }
}

fn read_reply(connection: &mut Connection) -> io::Result<Reply> {
    let line = read_line(connection)?;
    let (kind, text) = line.split_at(1);
    let number = || text.parse::<i64>().unwrap_or_else(|_| panic!("not a number: {line}"));
    Ok(match kind {
        "+" if text == "OK" => Reply::Answer(Answer::Ok),
        "+" if text == "QUEUED" => Reply::Queued,
        ":" => Reply::Answer(Answer::Number(number())),
        "$" if text == "-1" => Reply::Answer(Answer::Nil),
        "$" => {
            let text = read_text(connection, number())?;
            text.parse().map_or(Reply::Text(text), |number| Reply::Answer(Answer::Number(number)))
        }
        "*" => {
            Reply::Array((0..number()).map(|_| read_reply(connection)).collect::<Result<_, _>>()?)
        }
        "-" => Reply::Error(text.to_owned()),
        _ => panic!("not an answer to any of these commands: {line}"),
    })
}

fn read_text(connection: &mut Connection, len: i64) -> io::Result<String> {
    let mut text = vec![0; len as usize + 2];
    connection.read_exact(&mut text)?;
    Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
}

fn read_line(connection: &mut Connection) -> io::Result<String> {
    let mut line = String::new();
    connection.read_line(&mut line)?;
    if line.ends_with("\r\n") {
        Ok(line.trim_end().to_owned())
    } else {
        Err(ErrorKind::UnexpectedEof.into())
    }
}
