//! One connection to one node.
//!
//! Every operation has a deadline. A connection counts the replies that it still has to receive: it may be used by
//! another caller only when none is outstanding, or that caller would get the answer to an earlier question.

use super::error::{Error, code};
use super::reply::{Decoder, Value};
use crate::resp::array;
use std::io::{self, ErrorKind, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// How connections are made.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    /// The user's name; `default` if only a password is known.
    pub user: String,
    /// None if the server asks for none.
    pub password: Option<String>,
    /// The time for opening one connection, including the greeting.
    pub connect: Duration,
}

/// A connection in RESP3.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    decoder: Decoder,
    /// Replies that have been asked for and not received.
    outstanding: usize,
    /// The server said in its greeting that it leads.
    pub(super) leads: bool,
}

/// A failure to send: nothing of the bytes after `sent` has left.
#[derive(Debug)]
pub(super) struct SendError {
    /// Bytes that the system took, so that the server may have them.
    pub sent: usize,
    pub error: io::Error,
}

impl Connection {
    /// Connects and greets, within the access's time and before the deadline. The name is resolved by the system,
    /// without a limit on its time.
    pub(crate) fn open(
        addr: &str,
        access: &Access,
        deadline: Instant,
    ) -> Result<Connection, Error> {
        let deadline = deadline.min(Instant::now() + access.connect);
        let failed = |error: io::Error| Error::Unavailable(format!("{addr}: {error}"));
        let stream = dial(addr, deadline).map_err(failed)?;
        let decoder = Decoder::default();
        let mut connection = Connection { stream, decoder, outstanding: 0, leads: false };
        let greeting = connection.greet(access, deadline).map_err(failed)?;
        match greeting {
            Value::Error(text) if matches!(code(&text), "WRONGPASS" | "NOAUTH" | "NOPROTO") => {
                Err(Error::Refused(text))
            }
            // A server that is full says so, and closes.
            Value::Error(text) => Err(Error::Unavailable(format!("{addr}: {text}"))),
            greeting => {
                connection.leads = role(&greeting) == Some(b"master");
                Ok(connection)
            }
        }
    }

    fn greet(&mut self, access: &Access, deadline: Instant) -> io::Result<Value> {
        let mut hello: Vec<&[u8]> = vec![b"HELLO", b"3"];
        if let Some(password) = &access.password {
            hello.extend([&b"AUTH"[..], access.user.as_bytes(), password.as_bytes()]);
        }
        self.ask(&hello, deadline)
    }

    /// Sends a command and waits for its reply.
    pub(crate) fn ask(&mut self, args: &[&[u8]], deadline: Instant) -> io::Result<Value> {
        let mut bytes = vec![];
        array(&mut bytes, args);
        self.send(&bytes, 1, deadline).map_err(|failure| failure.error)?;
        self.receive(deadline)
    }

    /// Sends commands that so many replies will answer.
    pub(super) fn send(
        &mut self,
        bytes: &[u8],
        replies: usize,
        deadline: Instant,
    ) -> Result<(), SendError> {
        self.outstanding += replies;
        let mut sent = 0;
        while sent < bytes.len() {
            let step = left(deadline)
                .and_then(|time| self.stream.set_write_timeout(Some(time)))
                .and_then(|()| self.stream.write(&bytes[sent..]));
            match step {
                Ok(0) => return Err(SendError { sent, error: ErrorKind::WriteZero.into() }),
                Ok(len) => sent += len,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(SendError { sent, error: plain(error) }),
            }
        }
        Ok(())
    }

    /// The next reply; messages in between are left out.
    pub(super) fn receive(&mut self, deadline: Instant) -> io::Result<Value> {
        loop {
            match self.next(deadline)? {
                Value::Push(_) => {}
                reply => {
                    self.outstanding = self.outstanding.saturating_sub(1);
                    return Ok(reply);
                }
            }
        }
    }

    /// The next reply or message.
    pub(super) fn next(&mut self, deadline: Instant) -> io::Result<Value> {
        loop {
            if let Some(value) = self.decoder.next_reply()? {
                return Ok(value);
            }
            self.stream.set_read_timeout(Some(left(deadline)?))?;
            match self.decoder.read_from(&mut self.stream) {
                Ok(0) => return Err(closed()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(plain(error)),
            }
        }
    }

    /// True if another caller may use it: every reply has been received, and nothing else.
    pub(super) fn is_clean(&self) -> bool {
        self.outstanding == 0 && self.decoder.is_empty()
    }
}

/// Connects to the first address of a name that answers.
fn dial(addr: &str, deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for addr in addr.to_socket_addrs()? {
        match TcpStream::connect_timeout(&addr, left(deadline)?) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The role in the reply to HELLO.
fn role(greeting: &Value) -> Option<&[u8]> {
    let Value::Map(fields) = greeting else { return None };
    fields.iter().find_map(|field| match field {
        (Value::Bytes(name), Value::Bytes(role)) if name == b"role" => Some(role.as_slice()),
        _ => None,
    })
}

/// The time up to a deadline, never zero; an error if it has passed.
pub(super) fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(late()) } else { Ok(left) }
}

fn late() -> io::Error {
    io::Error::new(ErrorKind::TimedOut, "no answer before the deadline")
}

fn closed() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "the server closed the connection")
}

/// A read or write that timed out has an error that says "resource temporarily unavailable".
fn plain(error: io::Error) -> io::Error {
    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) { late() } else { error }
}
