//! A session reads its own writes, on followers too.
//!
//! ```text
//! session.set("name", "Ada")    SET name Ada │ LASTSEQ          to the leader, in one packet; the token is 3.0c1199aa:151
//! session.get("name")           WAITSEQ 3.0c1199aa:151 50 │ GET name      to a follower, in one packet
//! ```
//!
//! The follower answers when it has record 151. If it does not have it after 50 ms, or does not answer, the leader is
//! asked. The leader gets the token as well: if a failover lost the write, the session says so ([`Error::Lost`])
//! and does not return a value from before it.
//!
//! Promised: a read shows every earlier write of its session, or a later value. Not promised: that two reads without
//! a write in between do not go back in time, since each may go to another follower.

use super::command::Command;
use super::convert::FromValue;
use super::error::{Error, code};
use super::executor::Executor;
use super::reply::Value;
use super::retry::Outcome;
use super::token::Token;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The nodes that a session reads from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// The leader.
    Leader,
    /// A follower once it has the session's last write; the leader if that takes longer than `wait`.
    Followers {
        /// How long a follower may let a read wait.
        wait: Duration,
    },
    /// A follower as it is. Such a read may be stale: it may miss a write of its own session.
    Local,
}

/// A sequence of calls that sees its own writes.
#[derive(Debug)]
pub struct Session {
    executor: Arc<Executor>,
    reads: Reads,
    /// The last write.
    token: Option<Token>,
    /// A write may have been executed whose token is unknown. From then on the session reads from the leader.
    is_unsure: bool,
    /// Reads so far: followers take turns.
    turn: usize,
}

impl Session {
    pub(super) fn new(executor: Arc<Executor>, reads: Reads) -> Session {
        Session { executor, reads, token: None, is_unsure: false, turn: 0 }
    }

    /// The token of the last write, to be handed to a session elsewhere. None if there was no write.
    pub fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    /// From now on, reads show this write too.
    pub fn observe(&mut self, token: Token) {
        if self.token.as_ref().is_none_or(|own| own.is_older_than(&token)) {
            self.token = Some(token);
        }
    }

    /// Executes any command. One that reads goes where the session reads, any other to the leader.
    pub fn query<T: FromValue>(
        &mut self,
        args: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<T, Error> {
        let command = Command::new(args)?;
        let value = if command.is_read { self.read(command) } else { self.write(command) };
        T::from_value(value?)
    }

    /// The value of a key.
    pub fn get<T: FromValue>(&mut self, key: impl AsRef<[u8]>) -> Result<T, Error> {
        self.query([b"GET", key.as_ref()])
    }

    /// Sets a key.
    pub fn set(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.query([b"SET", key.as_ref(), value.as_ref()])
    }

    /// Adds 1 to a number; returns the new one.
    pub fn incr(&mut self, key: impl AsRef<[u8]>) -> Result<i64, Error> {
        self.query([b"INCR", key.as_ref()])
    }

    fn write(&mut self, mut command: Command) -> Result<Value, Error> {
        command.wants_token = true;
        let answer = self.executor.execute(&command, self.executor.deadline());
        match answer {
            Ok(answer) => {
                match answer.token {
                    Some(Value::Bytes(text)) => {
                        let token = Token::parse(&String::from_utf8_lossy(&text));
                        token.into_iter().for_each(|token| self.observe(token));
                    }
                    _ => self.is_unsure = true,
                }
                Ok(answer.value)
            }
            Err(error) => {
                self.is_unsure |= error.may_be_executed();
                Err(error)
            }
        }
    }

    fn read(&mut self, mut command: Command) -> Result<Value, Error> {
        let deadline = self.executor.deadline();
        if let Some(value) = self.read_from_follower(&mut command, deadline) {
            return Ok(value);
        }
        let token = if self.reads == Reads::Local { None } else { self.token.clone() };
        command.after = token.map(|token| (token, Duration::ZERO));
        match self.executor.execute(&command, deadline) {
            Err(Error::Refused(text)) if code(&text) == "DIVERGED" => Err(self.lost(text)),
            answer => Ok(answer?.value),
        }
    }

    /// None if the leader is to be asked.
    fn read_from_follower(&mut self, command: &mut Command, deadline: Instant) -> Option<Value> {
        let wait = match self.reads {
            Reads::Followers { wait } if !self.is_unsure => wait,
            Reads::Local => Duration::ZERO,
            _ => return None,
        };
        if self.reads != Reads::Local {
            command.after = self.token.clone().map(|token| (token, wait));
        }
        self.turn += 1;
        let outcome = self.executor.ask_follower(command, wait, self.turn, deadline)?;
        match outcome {
            // A follower may refuse because it is behind, or has itself parted from the leader: the leader knows.
            Outcome::Answered(answer) => match answer.value {
                Value::Error(_) => None,
                value => Some(value),
            },
            _ => None,
        }
    }

    /// The leader does not have the session's write. The session goes on without it.
    fn lost(&mut self, refusal: String) -> Error {
        match self.token.take() {
            Some(token) => Error::Lost(token),
            None => Error::Refused(refusal),
        }
    }
}
