//! The threads `peer-<n>`: each dials one other member and keeps up the connection.
//!
//! ```text
//! peers ──▶ peer-1      dial ─▶ AUTH ─▶ PEER ─▶ questions ─ … ─▶ pause ─▶ dial
//!                                         └──▶ peer-1-in    answers ─▶ the inbox of the thread `cluster`
//! ```
//!
//! Others put questions into an address's queue (`dialled.rs`), and only the thread `peer-<n>` waits for the socket.
//! A node to which packets get lost delays nothing but itself. Order is kept on one connection; nothing is promised
//! about what was sent before it broke.

use super::dialled::{Dialled, Quiet};
use super::lines::Lines;
use super::peers::{LineError, Peers};
use crate::cluster::greeting::{Misfit, Welcome};
use crate::replication::dial::{self, Purpose, connect_to};
use crate::shutdown::Shutdown;
use std::convert::Infallible;
use std::fmt;
use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread::{self, Scope};
use std::time::Duration;

/// The shortest pause before an address is dialled again.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// The pause at an address where this node has found itself.
const PAUSE_AT_ITSELF: Duration = Duration::from_secs(30);
/// The reading thread reads short lines and passes them on.
const READER_STACK_BYTES: usize = 128 << 10;

/// Gives the password for other nodes, if there is one.
pub type Password<'p> = &'p (dyn Fn() -> Option<String> + Sync);

/// The thread `peers`: has a thread for each address that is to be dialled. Runs until shutdown, which must wake
/// [`Peers::changed`].
pub fn run(peers: &Peers, shutdown: &Shutdown, password: Password<'_>) {
    thread::scope(|scope| {
        while !shutdown.is_requested() {
            let mut unstarted = Vec::new();
            peers.changed.wait_until(None, || {
                unstarted = peers.unstarted();
                !unstarted.is_empty() || shutdown.is_requested()
            });
            for dialled in unstarted {
                if let Err(error) = start(scope, peers, &dialled, password) {
                    peers.complain(&format!("no thread to dial {}: {error}", dialled.address));
                    dialled.set_started(false);
                    shutdown.wait_for(peers.timeout);
                }
            }
        }
        peers.all_dialled().iter().for_each(|dialled| dialled.end());
    });
}

fn start<'s>(
    scope: &'s Scope<'s, '_>,
    peers: &'s Peers,
    dialled: &Arc<Dialled>,
    password: Password<'s>,
) -> io::Result<()> {
    let dialled = Arc::clone(dialled);
    let name = format!("peer-{}", dialled.number);
    let dialler = move || Dialler { peers, dialled: &dialled, password }.keep_up();
    thread::Builder::new().name(name).spawn_scoped(scope, dialler).map(drop)
}

/// Why a connection has ended, or was none.
#[derive(Debug)]
enum LinkError {
    /// It broke.
    Io(io::Error),
    /// The other node refuses, with this text.
    Refused(String),
    /// The two nodes are no peers.
    Misfit(Misfit),
    /// Something was sent that is no answer.
    Line(LineError),
    /// A line had no answer for the whole timeout.
    Unanswered,
    /// This node has ended it.
    Ended,
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
            LinkError::Refused(text) => write!(f, "it says: {text}"),
            LinkError::Misfit(misfit) => misfit.fmt(f),
            LinkError::Line(error) => error.fmt(f),
            LinkError::Unanswered => f.write_str("it does not answer"),
            LinkError::Ended => f.write_str("the connection was ended here"),
        }
    }
}

/// Dials one address.
struct Dialler<'p> {
    peers: &'p Peers,
    dialled: &'p Dialled,
    password: Password<'p>,
}

impl Dialler<'_> {
    /// Connects, again and again, until the address is not wanted any more.
    fn keep_up(&self) {
        while !self.dialled.is_over() {
            let Err(why) = self.link();
            self.dialled.cut();
            if self.dialled.is_over() {
                break;
            }
            if !matches!(why, LinkError::Ended) {
                self.peers
                    .complain(&format!("peer {}: {why}; dialling again", self.dialled.address));
            }
            self.dialled.pause(match why {
                LinkError::Misfit(Misfit::Itself) => PAUSE_AT_ITSELF,
                _ => (self.peers.timeout / 10).max(PAUSE_MIN),
            });
        }
    }

    /// Keeps one connection until an error ends it.
    fn link(&self) -> Result<Infallible, LinkError> {
        let socket = self.connect()?;
        let mut lines = Lines::new(&socket, &[]);
        let welcome = self.agree(&socket, &mut lines)?;
        // From now on the sending thread finds out that answers are missing.
        socket.set_read_timeout(None)?;
        self.peers.link_up(self.dialled, &welcome);
        thread::scope(|scope| {
            let read = move || self.read(lines, &welcome);
            let name = format!("peer-{}-in", self.dialled.number);
            let reader = thread::Builder::new().name(name).stack_size(READER_STACK_BYTES);
            let reader = reader.spawn_scoped(scope, read)?;
            let Err(why) = self.write(&socket);
            self.dialled.cut();
            // If the reading thread has ended it, it knows why.
            match (why, reader.join()) {
                (LinkError::Ended, Ok(Err(why))) => Err(why),
                (why, _) => Err(why),
            }
        })
    }

    fn connect(&self) -> Result<TcpStream, LinkError> {
        let timeout = self.peers.timeout;
        let address = &self.dialled.address;
        let socket = connect_to(Purpose::Peer, &address.host, address.port, timeout)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(timeout))?;
        socket.set_write_timeout(Some(timeout))?;
        if self.dialled.begin(socket.try_clone()?) { Ok(socket) } else { Err(LinkError::Ended) }
    }

    /// Gives the password, says who this node is, and hears who the other one is.
    fn agree(
        &self,
        socket: &TcpStream,
        lines: &mut Lines<&TcpStream>,
    ) -> Result<Welcome, LinkError> {
        if let Some(password) = (self.password)() {
            dial::send(socket, &["AUTH", &password])?;
            if let Some(refusal) = dial::auth_refusal(&lines.next()?) {
                return Err(LinkError::Refused(refusal));
            }
        }
        dial::send(socket, &self.peers.greeting().words())?;
        let line = lines.next()?;
        if let Some(refusal) = line.strip_prefix(b"-") {
            return Err(LinkError::Refused(String::from_utf8_lossy(refusal).into_owned()));
        }
        let welcome = Welcome::parse(&line).map_err(LinkError::Misfit)?;
        self.peers.check(welcome.cluster, welcome.id).map_err(LinkError::Misfit)?;
        Ok(welcome)
    }

    /// Sends questions.
    fn write(&self, mut socket: &TcpStream) -> Result<Infallible, LinkError> {
        loop {
            let question = self.dialled.next(self.peers.timeout).map_err(|quiet| match quiet {
                Quiet::Ended => LinkError::Ended,
                Quiet::Unanswered => LinkError::Unanswered,
            })?;
            socket.write_all(&question.line())?;
        }
    }

    /// Takes answers.
    fn read(
        &self,
        mut lines: Lines<&TcpStream>,
        welcome: &Welcome,
    ) -> Result<Infallible, LinkError> {
        let mut read = || -> Result<(), LinkError> {
            let line = lines.next()?;
            self.peers.take_answer(self.dialled, welcome, &line).map_err(LinkError::Line)
        };
        loop {
            if let Err(why) = read() {
                self.dialled.cut();
                return Err(why);
            }
        }
    }
}
