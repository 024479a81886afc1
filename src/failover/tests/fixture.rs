//! Two nodes' connections to each other, and nodes that a test plays itself.

use super::super::peers::Peers;
use super::super::{dialler, serve::serve as serve_peer};
use crate::aof::record::Epoch;
use crate::clients::outbox::Outbox;
use crate::cluster::greeting::{Greeting, Welcome};
use crate::cluster::inbox::Inbox;
use crate::cluster::members::{Ack, Reads};
use crate::cluster::message::{Input, Message};
use crate::cluster::term::{ClusterId, NodeId};
use crate::config::{Address, ClusterSettings};
use crate::memory::account::Total;
use crate::replication::dial;
use crate::shutdown::Shutdown;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown as Half, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Only a hang takes so long.
pub const DEADLINE: Duration = Duration::from_secs(20);
pub const T_MS: u64 = 400;
pub const PASSWORD: &str = "secret";

pub fn id(number: u8) -> NodeId {
    NodeId([number; 20])
}

pub fn beat(round: u64) -> Message {
    Message::Beat { epoch: Epoch(1), round, promise: 0 }
}

pub fn heard(round: u64) -> Message {
    Message::Heard { epoch: Epoch(1), round, promised: 0, own: Epoch(1) }
}

pub fn listen() -> (TcpListener, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    (listener, Address { host: "127.0.0.1".to_string(), port })
}

pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

pub fn settings(own: &Address, nodes: &[Address]) -> ClusterSettings {
    ClusterSettings {
        nodes: nodes.to_vec(),
        own: own.clone(),
        hash: 7,
        timeout_ms: T_MS,
        ack: Ack::Leader,
        reads: Reads::Local,
    }
}

/// A node: its peers, the thread that dials them, and a listener as the server has one.
pub struct Node {
    pub id: NodeId,
    pub peers: Arc<Peers>,
    pub inbox: Arc<Inbox>,
    pub address: Address,
    pub shutdown: Arc<Shutdown>,
    pub threads: Vec<JoinHandle<()>>,
}

impl Node {
    pub fn start(
        number: u8,
        cluster: Option<ClusterId>,
        own: (TcpListener, Address),
        nodes: &[Address],
    ) -> Node {
        let ((listener, address), inbox) = (own, Arc::new(Inbox::default()));
        let settings = settings(&address, nodes);
        let peers = Arc::new(Peers::new(&settings, id(number), cluster, Arc::clone(&inbox)));
        let shutdown = Arc::new(Shutdown::new());
        shutdown.wakes(&peers.changed);
        let (dialling, ended) = (Arc::clone(&peers), Arc::clone(&shutdown));
        let dial = move || dialler::run(&dialling, &ended, &|| Some(PASSWORD.to_string()));
        let (accepting, ended) = (Arc::clone(&peers), Arc::clone(&shutdown));
        let accept = move || {
            for socket in listener.incoming().take_while(|_| !ended.is_requested()) {
                let (peers, socket) = (Arc::clone(&accepting), socket.expect("a connection"));
                thread::spawn(move || serve(&peers, socket));
            }
        };
        let threads = vec![thread::spawn(dial), thread::spawn(accept)];
        Node { id: id(number), peers, inbox, address, shutdown, threads }
    }

    pub fn next(&self) -> Input {
        self.inbox.next(Instant::now() + DEADLINE).expect("an input").input
    }

    pub fn is_connected(&self) -> bool {
        let all = self.peers.list();
        all.iter().all(|peer| peer.is_connected)
    }

    /// Connects as another node does. Returns the socket after the answer.
    pub fn greet(
        &self,
        cluster: Option<ClusterId>,
        number: u8,
        own: &Address,
    ) -> BufReader<TcpStream> {
        let mut socket = self.dial();
        let greeting = Greeting { cluster, id: id(number), address: own.clone(), list: Some(7) };
        dial::send(socket.get_ref(), &greeting.words()).expect("to send");
        let welcome = Welcome::parse(line(&mut socket).as_bytes());
        assert_eq!(welcome, Ok(Welcome { cluster: self.peers.cluster(), id: self.id }));
        socket
    }

    pub fn dial(&self) -> BufReader<TcpStream> {
        let socket =
            TcpStream::connect((&*self.address.host, self.address.port)).expect("to connect");
        socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        BufReader::new(socket)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shutdown.request();
        // Wakes the accepting thread.
        let _ = TcpStream::connect((&*self.address.host, self.address.port));
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking());
        }
    }
}

/// Two nodes that list each other.
pub fn pair() -> (Node, Node) {
    let (a, b) = (listen(), listen());
    let nodes = [a.1.clone(), b.1.clone()];
    let (a, b) = (Node::start(1, None, a, &nodes), Node::start(2, None, b, &nodes));
    wait_until("both connections", || a.is_connected() && b.is_connected());
    (a, b)
}

/// Answers AUTH and PEER as the server does.
pub fn serve(peers: &Peers, socket: TcpStream) {
    let mut input = BufReader::new(socket.try_clone().expect("a handle"));
    while let Some(words) = command(&mut input) {
        if words[0] == b"AUTH" {
            let answer =
                if words[1] == PASSWORD.as_bytes() { "+OK\r\n" } else { "-WRONGPASS no\r\n" };
            (&socket).write_all(answer.as_bytes()).expect("to answer");
            continue;
        }
        assert_eq!(words[0], b"PEER");
        let (addr, half) = (socket.peer_addr(), socket.try_clone());
        let Ok(addr) = addr else { return };
        let totals = (Total::default(), Total::default());
        let outbox = Outbox::new(half.expect("a handle"), 1, &totals.0, &totals.1);
        let refused =
            serve_peer(peers, (&Arc::new(outbox), addr.into()), &words[1..], input.buffer(), || ());
        if let Err(failure) = refused {
            let _ = (&socket).write_all(format!("-{failure}\r\n").as_bytes());
        }
        let _ = socket.shutdown(Half::Both);
        return;
    }
}

/// A RESP array of strings.
pub fn command(input: &mut BufReader<TcpStream>) -> Option<Vec<Vec<u8>>> {
    let count: usize = line_if_any(input)?.strip_prefix('*')?.parse().ok()?;
    (0..count)
        .map(|_| {
            line_if_any(input)?;
            line_if_any(input).map(String::into_bytes)
        })
        .collect()
}

/// A line without its end.
pub fn line(input: &mut BufReader<TcpStream>) -> String {
    line_if_any(input).expect("a line")
}

pub fn line_if_any(input: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    input.read_line(&mut line).ok().filter(|n| *n > 0)?;
    Some(line.trim_end().to_string())
}

/// A node that a test plays: takes a connection, and answers AUTH and PEER.
pub fn play(listener: &TcpListener, welcome: &[u8]) -> BufReader<TcpStream> {
    let (socket, _) = listener.accept().expect("a connection");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let mut input = BufReader::new(socket);
    assert_eq!(command(&mut input).expect("AUTH")[0], b"AUTH");
    input.get_ref().write_all(b"+OK\r\n").expect("to answer");
    assert_eq!(command(&mut input).expect("PEER")[0], b"PEER");
    let _ = input.get_ref().write_all(welcome);
    input
}

pub fn has_ended(socket: &mut BufReader<TcpStream>) -> bool {
    match socket.read(&mut [0; 512]) {
        Ok(n) => n == 0,
        // A reset is an end, and a timeout is none.
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}
