//! A server that does what a test's script says: answers, cuts an answer off, or says nothing.

use crate::common::resp::{Value, command_line};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// What the server does after it has received a command.
#[derive(Clone, Debug)]
pub enum Act {
    Reply(Vec<u8>),
    /// Sends these bytes and closes.
    Cut(Vec<u8>),
    /// Never answers.
    Silence,
}

/// Decides from the number of the command, which counts over all connections, and its words.
type Script = dyn Fn(usize, &str) -> Act + Send + Sync;

struct Shared {
    script: Box<Script>,
    /// The commands received, without greetings.
    received: Mutex<Vec<String>>,
    greeting: &'static str,
    is_closed: AtomicBool,
}

/// Listens on a free port until it is dropped.
pub struct Scripted {
    pub port: u16,
    shared: Arc<Shared>,
}

const LEADER: &str = "%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$4\r\nrole\r\n$6\r\nmaster\r\n";

impl Scripted {
    /// A leader with a script.
    pub fn start(script: impl Fn(usize, &str) -> Act + Send + Sync + 'static) -> Scripted {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("the address of a bound socket").port();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            received: Mutex::default(),
            greeting: LEADER,
            is_closed: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if accepting.is_closed.load(SeqCst) {
                    return;
                }
                let shared = Arc::clone(&accepting);
                thread::spawn(move || serve(&shared, socket));
            }
        });
        Scripted { port, shared }
    }

    /// A leader that answers the first commands with these, and each later one with OK.
    pub fn answering(acts: Vec<Act>) -> Scripted {
        Scripted::start(move |at, _| {
            acts.get(at).cloned().unwrap_or_else(|| Act::Reply(b"+OK\r\n".to_vec()))
        })
    }

    /// The commands received so far.
    pub fn received(&self) -> Vec<String> {
        self.shared.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

/// Ends when the client closes, or with the script's first cut.
fn serve(shared: &Shared, socket: TcpStream) {
    let mut from = BufReader::new(socket.try_clone().expect("a descriptor"));
    let mut to = socket;
    while let Some(words) = request(&mut from) {
        if words[0] == b"HELLO" {
            let _ = to.write_all(shared.greeting.as_bytes());
            continue;
        }
        let line = command_line(&words);
        let at = {
            let mut received = shared.received.lock().unwrap_or_else(PoisonError::into_inner);
            received.push(line.clone());
            received.len() - 1
        };
        match (shared.script)(at, &line) {
            Act::Reply(bytes) => {
                let _ = to.write_all(&bytes);
            }
            Act::Cut(bytes) => {
                let _ = to.write_all(&bytes);
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
            Act::Silence => {}
        }
    }
}

/// The words of the next command; None at the end.
fn request(from: &mut impl BufRead) -> Option<Vec<Vec<u8>>> {
    let count = number(from)?;
    (0..count).map(|_| word(from)).collect()
}

fn word(from: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut bytes = vec![0; number(from)? + 2];
    from.read_exact(&mut bytes).ok()?;
    bytes.truncate(bytes.len() - 2);
    Some(bytes)
}

/// The number of a line such as `*3`.
fn number(from: &mut impl BufRead) -> Option<usize> {
    let mut line = String::new();
    from.read_line(&mut line).ok()?;
    line.get(1..)?.trim_end().parse().ok()
}

/// The bytes of a reply.
pub fn bytes_of(value: &Value) -> Vec<u8> {
    match value {
        Value::Simple(text) => format!("+{text}\r\n").into_bytes(),
        Value::Error(text) => format!("-{text}\r\n").into_bytes(),
        Value::Int(number) => format!(":{number}\r\n").into_bytes(),
        Value::Bulk(bytes) => {
            [format!("${}\r\n", bytes.len()).as_bytes(), bytes, &b"\r\n"[..]].concat()
        }
        other => panic!("no script has {other:?}"),
    }
}
