//! A raw RESP client. It decodes every type of RESP2 and RESP3 and keeps each reply's bytes as they
//! came.
//!
//! It is deliberately not kvstore's own codec: a test that decodes with the encoder's author sees
//! only what that author thought of.

use super::server::connect;
use std::fmt;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

/// A reply. RESP2's two null forms and RESP3's own are one `Null`; who cares which it was compares
/// the raw bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    Null,
    Int(i64),
    Bool(bool),
    /// As it was written, since two spellings of a number are two replies.
    Double(String),
    BigNumber(String),
    Simple(String),
    Error(String),
    Bulk(Vec<u8>),
    /// The format's three letters, and the text.
    Verbatim(String, Vec<u8>),
    Array(Vec<Value>),
    Set(Vec<Value>),
    Push(Vec<Value>),
    Map(Vec<(Value, Value)>),
}

impl Value {
    pub fn ok() -> Value {
        Value::simple("OK")
    }

    pub fn simple(text: &str) -> Value {
        Value::Simple(text.to_owned())
    }

    pub fn error(text: &str) -> Value {
        Value::Error(text.to_owned())
    }

    pub fn bulk(bytes: impl AsRef<[u8]>) -> Value {
        Value::Bulk(bytes.as_ref().to_vec())
    }

    pub fn is_error(&self) -> bool {
        matches!(self, Value::Error(_))
    }

    pub fn as_int(&self) -> i64 {
        match self {
            Value::Int(n) => *n,
            other => panic!("expected an integer, got {other:?}"),
        }
    }

    /// The bytes of any of the string types.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Value::Bulk(bytes) | Value::Verbatim(_, bytes) => bytes,
            Value::Simple(text) | Value::Error(text) => text.as_bytes(),
            other => panic!("expected a string, got {other:?}"),
        }
    }

    /// The elements of any of the sequence types.
    pub fn as_array(&self) -> &[Value] {
        match self {
            Value::Array(items) | Value::Set(items) | Value::Push(items) => items,
            other => panic!("expected an array, got {other:?}"),
        }
    }
}

/// As `redis-cli` would show it on one line.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => write!(f, "(nil)"),
            Value::Int(n) => write!(f, "(integer) {n}"),
            Value::Bool(b) => write!(f, "({b})"),
            Value::Double(d) => write!(f, "(double) {d}"),
            Value::BigNumber(n) => write!(f, "(big number) {n}"),
            Value::Simple(text) => write!(f, "{text}"),
            Value::Error(text) => write!(f, "(error) {text}"),
            Value::Bulk(bytes) => write!(f, "{}", quote(bytes)),
            Value::Verbatim(format, bytes) => write!(f, "{format}:{}", quote(bytes)),
            Value::Array(items) => f.debug_list().entries(items).finish(),
            Value::Set(items) => f.debug_set().entries(items).finish(),
            Value::Push(items) => write!(f, "push{items:?}"),
            Value::Map(pairs) => f.debug_map().entries(pairs.iter().map(|(k, v)| (k, v))).finish(),
        }
    }
}

/// One word of a command line, quoted only if it has to be, so that a printed command can be pasted
/// into `redis-cli`.
pub fn quote(bytes: &[u8]) -> String {
    let is_plain = |b: &u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'\\');
    if !bytes.is_empty() && bytes.iter().all(is_plain) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let mut quoted = String::from("\"");
    for &b in bytes {
        match b {
            b'"' => quoted.push_str("\\\""),
            b'\\' => quoted.push_str("\\\\"),
            b'\r' => quoted.push_str("\\r"),
            b'\n' => quoted.push_str("\\n"),
            b' '..=b'~' => quoted.push(b as char),
            _ => quoted.push_str(&format!("\\x{b:02x}")),
        }
    }
    quoted + "\""
}

/// A command as one would type it.
pub fn command_line(args: &[impl AsRef<[u8]>]) -> String {
    args.iter().map(|arg| quote(arg.as_ref())).collect::<Vec<_>>().join(" ")
}

/// Appends a command in the form in which clients send it: an array of bulk strings.
pub fn encode(args: &[impl AsRef<[u8]>], into: &mut Vec<u8>) {
    into.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args.iter().map(AsRef::as_ref) {
        into.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        into.extend_from_slice(arg);
        into.extend_from_slice(b"\r\n");
    }
}

/// A connection that speaks RESP.
pub struct Resp {
    stream: TcpStream,
    /// Received bytes, of which those before `pos` have been decoded.
    buffer: Vec<u8>,
    pos: usize,
    /// The bytes of the last reply that was read.
    last_raw: Vec<u8>,
    /// The request sent last, for the report of a failure.
    last_sent: String,
}

impl Resp {
    pub fn connect(port: u16) -> Resp {
        Resp {
            stream: connect(port),
            buffer: vec![],
            pos: 0,
            last_raw: vec![],
            last_sent: String::new(),
        }
    }

    pub fn send(&mut self, args: &[impl AsRef<[u8]>]) {
        let mut bytes = vec![];
        encode(args, &mut bytes);
        self.send_raw(&bytes);
        self.last_sent = command_line(args);
    }

    /// Sends bytes as they are: several commands at once, half a command, or garbage.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.last_sent = quote(&bytes[..bytes.len().min(400)]);
        let sent = self.stream.write_all(bytes);
        sent.unwrap_or_else(|error| panic!("sending {}: {error}", self.last_sent));
    }

    /// Says which command of a pipeline the next reply belongs to, for the report of a failure.
    pub fn expect_reply_to(&mut self, args: &[impl AsRef<[u8]>]) {
        self.last_sent = command_line(args);
    }

    /// Sends a command and returns its reply.
    pub fn call(&mut self, args: &[impl AsRef<[u8]>]) -> Value {
        self.send(args);
        self.read_reply()
    }

    /// Sends commands, so many at a time; none may fail. Returns the replies.
    pub fn call_all(&mut self, commands: &[Vec<Vec<u8>>], at_a_time: usize) -> Vec<Value> {
        let mut replies = Vec::with_capacity(commands.len());
        for batch in commands.chunks(at_a_time) {
            let mut bytes = Vec::new();
            batch.iter().for_each(|command| encode(command, &mut bytes));
            self.send_raw(&bytes);
            for command in batch {
                self.expect_reply_to(command);
                let reply = self.read_reply();
                assert!(!reply.is_error(), "{reply:?} to {}", command_line(command));
                replies.push(reply);
            }
        }
        replies
    }

    pub fn read_reply(&mut self) -> Value {
        let start = self.pos;
        let value = self.decode();
        self.last_raw.clear();
        self.last_raw.extend_from_slice(&self.buffer[start..self.pos]);
        // Emptying the buffer only when all of it is used up keeps a long pipeline from moving it
        // for each reply.
        if self.pos == self.buffer.len() {
            self.buffer.clear();
            self.pos = 0;
        }
        value
    }

    /// The bytes of the reply that `read_reply` or `call` returned last.
    pub fn last_raw(&self) -> &[u8] {
        &self.last_raw
    }

    /// Everything up to the server's closing, undecoded.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while self.fill() > 0 {}
        self.buffer.split_off(std::mem::take(&mut self.pos))
    }

    /// Says that no more commands come, while replies are still read.
    pub fn finish_sending(&self) {
        self.stream.shutdown(Shutdown::Write).expect("half-close");
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn decode(&mut self) -> Value {
        let line = self.line();
        let (kind, text) = line.split_at(1);
        match kind {
            "+" => Value::simple(text),
            "-" => Value::error(text),
            ":" => Value::Int(self.number(text)),
            "_" => Value::Null,
            "#" => Value::Bool(text == "t"),
            "," => Value::Double(text.to_owned()),
            "(" => Value::BigNumber(text.to_owned()),
            "$" | "*" if text == "-1" => Value::Null,
            "$" => Value::Bulk(self.blob(text)),
            "!" => Value::Error(String::from_utf8_lossy(&self.blob(text)).into_owned()),
            "=" => self.verbatim(text),
            "*" => Value::Array(self.items(text)),
            "~" => Value::Set(self.items(text)),
            ">" => Value::Push(self.items(text)),
            "%" => Value::Map(self.pairs(text)),
            // An attribute stands in front of the reply that it is about.
            "|" => {
                self.pairs(text);
                self.decode()
            }
            _ => panic!("not RESP: {line:?} in reply to {}", self.last_sent),
        }
    }

    fn number(&self, text: &str) -> i64 {
        text.parse()
            .unwrap_or_else(|_| panic!("not a number: {text:?} in reply to {}", self.last_sent))
    }

    fn items(&mut self, len: &str) -> Vec<Value> {
        (0..self.number(len)).map(|_| self.decode()).collect()
    }

    fn pairs(&mut self, len: &str) -> Vec<(Value, Value)> {
        (0..self.number(len)).map(|_| (self.decode(), self.decode())).collect()
    }

    fn verbatim(&mut self, len: &str) -> Value {
        let blob = self.blob(len);
        let (format, text) = blob.split_at(4);
        Value::Verbatim(String::from_utf8_lossy(&format[..3]).into_owned(), text.to_vec())
    }

    fn blob(&mut self, len: &str) -> Vec<u8> {
        let len = self.number(len) as usize;
        while self.buffer.len() < self.pos + len + 2 {
            self.fill_or_fail();
        }
        let bytes = self.buffer[self.pos..self.pos + len].to_vec();
        let end = &self.buffer[self.pos + len..self.pos + len + 2];
        assert_eq!(
            end, b"\r\n",
            "a bulk string longer than announced, in reply to {}",
            self.last_sent
        );
        self.pos += len + 2;
        bytes
    }

    fn line(&mut self) -> String {
        let mut searched = self.pos;
        loop {
            if let Some(len) = self.buffer[searched..].iter().position(|&b| b == b'\n') {
                let line = &self.buffer[self.pos..searched + len];
                assert_eq!(
                    line.last(),
                    Some(&b'\r'),
                    "a bare newline in reply to {}",
                    self.last_sent
                );
                let text = String::from_utf8_lossy(&line[..line.len() - 1]).into_owned();
                assert!(!text.is_empty(), "an empty line in reply to {}", self.last_sent);
                self.pos = searched + len + 1;
                return text;
            }
            searched = self.buffer.len();
            self.fill_or_fail();
        }
    }

    fn fill_or_fail(&mut self) {
        if self.fill() == 0 {
            let rest = quote(&self.buffer[self.pos..]);
            panic!("the server closed; received {rest} in reply to {}", self.last_sent);
        }
    }

    /// Waits for more bytes, up to the deadline; 0 means that the server has closed.
    fn fill(&mut self) -> usize {
        let mut chunk = [0; 64 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(len) => {
                self.buffer.extend_from_slice(&chunk[..len]);
                len
            }
            // A server that closes with bytes unread makes the kernel send a reset: closed all the
            // same.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
            // On some kernels a child of this process that ends interrupts a read with a deadline.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => self.fill(),
            Err(error) => {
                let rest = quote(&self.buffer[self.pos..]);
                panic!("no reply to {}: {error}; received {rest}", self.last_sent);
            }
        }
    }
}
