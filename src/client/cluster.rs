//! The nodes of the client: finding the one that leads.
//!
//! Each node says in its greeting whether it leads. One that follows names its leader in the reply to ROLE, and in
//! the refusal of a write (`READONLY … The leader is 127.0.0.1:8081`). The client remembers the last leader and asks
//! again when a write is refused or a connection fails. While no node leads, calls ask all nodes every 25 ms or so:
//! at most one search per place in the pool, and none while the leader answers.
//!
//! Not promised: of two nodes that both lead, one is taken, and the client stays with it. A client that only reads
//! notices that its leader follows another one when a connection was idle for a second, or is replaced.

use super::connection::{Access, Connection};
use super::error::Error;
use super::pool::Dial;
use super::reply::Value;
use crate::lock::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// Nodes asked in one search, and nodes that a client may be given.
pub(super) const NODES_MAX: usize = 32;

/// The nodes that a client knows.
#[derive(Debug)]
pub(super) struct Nodes {
    /// How to connect to each.
    pub access: Access,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// `host:port` of the node that led last.
    leader: Option<String>,
    /// The nodes given by the user, those that failed last at the end.
    nodes: Vec<String>,
}

impl Nodes {
    /// These nodes, of which the leader is not known yet.
    pub fn new(nodes: Vec<String>, access: Access) -> Nodes {
        Nodes { access, known: Mutex::new(Known { leader: None, nodes }) }
    }

    /// The address of the node that led last.
    pub fn leader(&self) -> Option<String> {
        self.known.lock().leader.clone()
    }

    /// Sets the node that is to be asked first.
    pub fn learn(&self, leader: Option<String>) {
        self.known.lock().leader = leader;
    }

    /// Connects to the node that leads. Asks each node at most once.
    pub fn connect_to_leader(&self, deadline: Instant) -> Result<Connection, Error> {
        let (mut to_ask, mut asked) = (self.to_ask(), vec![]);
        let mut why = Error::Unavailable("no node leads".to_owned());
        while let Some(addr) = to_ask.pop_front() {
            if asked.contains(&addr) || asked.len() == NODES_MAX {
                continue;
            }
            match self.ask(&addr, deadline) {
                Ok((connection, _)) if connection.leads => {
                    self.learn(Some(addr));
                    return Ok(connection);
                }
                // Its leader is asked next.
                Ok((_, leader)) => leader.into_iter().for_each(|leader| to_ask.push_front(leader)),
                Err(error) => {
                    self.put_last(&addr);
                    // A wrong password is what the user has to know.
                    if !matches!(why, Error::Refused(_)) {
                        why = error;
                    }
                }
            }
            asked.push(addr);
        }
        self.learn(None);
        Err(why)
    }

    /// The last leader, then the others.
    fn to_ask(&self) -> VecDeque<String> {
        let known = self.known.lock();
        known.leader.iter().chain(&known.nodes).cloned().collect()
    }

    /// A node that does not answer costs time, so it is asked last.
    fn put_last(&self, addr: &str) {
        let mut known = self.known.lock();
        if let Some(at) = known.nodes.iter().position(|node| node == addr) {
            let node = known.nodes.remove(at);
            known.nodes.push(node);
        }
    }

    /// Connects to a node. If it follows, returns its leader's address as well.
    fn ask(&self, addr: &str, deadline: Instant) -> Result<(Connection, Option<String>), Error> {
        let mut connection = Connection::open(addr, &self.access, deadline)?;
        if connection.leads {
            return Ok((connection, None));
        }
        let deadline = deadline.min(Instant::now() + self.access.connect);
        let role = connection.ask(&[b"ROLE"], deadline);
        let role = role.map_err(|error| Error::Unavailable(format!("{addr}: {error}")))?;
        Ok((connection, leader_in_role(&role)))
    }
}

/// The leader's address in a follower's reply to ROLE: `slave`, host, port, …
fn leader_in_role(role: &Value) -> Option<String> {
    let Value::Array(fields) = role else { return None };
    match fields.as_slice() {
        [_, Value::Bytes(host), Value::Int(port), ..] if !host.is_empty() => {
            Some(format!("{}:{port}", String::from_utf8_lossy(host)))
        }
        _ => None,
    }
}

/// The leader's address in the refusal of a write.
pub(super) fn leader_in_refusal(text: &str) -> Option<String> {
    let (_, addr) = text.split_once("The leader is ")?;
    Some(addr.split_whitespace().next()?.to_owned())
}

/// The node, or the role, that a pool's connections lead to.
#[derive(Debug)]
pub(super) enum Target {
    /// Whichever node leads.
    Leader(Arc<Nodes>),
    /// The node with this address, whatever its role.
    Node(String, Access),
}

impl Dial for Target {
    type Conn = Connection;

    fn dial(&self, deadline: Instant) -> Result<Connection, Error> {
        match self {
            Target::Leader(nodes) => nodes.connect_to_leader(deadline),
            Target::Node(addr, access) => Connection::open(addr, access, deadline),
        }
    }

    /// ROLE costs what PING does, and also shows a leader that has become a follower.
    fn is_alive(&self, connection: &mut Connection, deadline: Instant) -> bool {
        let (command, access): (&[u8], _) = match self {
            Target::Leader(nodes) => (b"ROLE", &nodes.access),
            Target::Node(_, access) => (b"PING", access),
        };
        let deadline = deadline.min(Instant::now() + access.connect);
        match connection.ask(&[command], deadline) {
            Ok(Value::Array(role)) => role.first() == Some(&Value::Bytes(b"master".to_vec())),
            Ok(reply) => reply == Value::Text("PONG".to_owned()),
            Err(_) => false,
        }
    }

    fn is_reusable(&self, connection: &Connection) -> bool {
        connection.is_clean()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn followers_name_their_leader() {
        let role = |host: &str| {
            let host = Value::Bytes(host.as_bytes().to_vec());
            Value::Array(vec![Value::Bytes(b"slave".to_vec()), host, Value::Int(8081)])
        };
        assert_eq!(leader_in_role(&role("10.0.0.1")).as_deref(), Some("10.0.0.1:8081"));
        assert_eq!(leader_in_role(&role("")), None);
        assert_eq!(leader_in_role(&Value::Nil), None);
        let refusal = "READONLY You can't write against a read only replica. The leader is a:1";
        assert_eq!(leader_in_refusal(refusal).as_deref(), Some("a:1"));
        assert_eq!(leader_in_refusal("READONLY No leader is known"), None);
    }
}
