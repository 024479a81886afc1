//! The first lines between two members: who they are, and whether they understand each other.
//!
//! ```text
//! PEER <cluster|-> <id> <host:port> <version> <list|-> <seal>   ──▶
//!                                                               ◀──  PEER <cluster|-> <id> <version> <seal>
//! ```
//!
//! The question is sent as a command, so its words may be typed by hand. After the answer the connection carries
//! [`Message`](super::message::Message)s only.

use super::term::{ClusterId, NodeId};
use crate::aof::numbers::{Words, canonical_number};
use crate::aof::sealed::{sealed, unsealed};
use crate::config::Address;
use std::fmt;

/// The version of everything that members say to each other.
pub const WIRE_VERSION: u64 = 1;
/// No line between members is longer, its end included.
pub const LINE_LEN_MAX: usize = 256;

/// The question of the node that dials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Its cluster, unless it has none yet.
    pub cluster: Option<ClusterId>,
    /// Its identity.
    pub id: NodeId,
    /// The address under which others dial it.
    pub address: Address,
    /// The hash of its list of members, if it has one.
    pub list: Option<u64>,
}

/// The answer of the node that was dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Its cluster, unless it has none yet.
    pub cluster: Option<ClusterId>,
    /// Its identity.
    pub id: NodeId,
}

/// Why two nodes do not become peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// What was sent is no greeting, or no answer to one.
    Unreadable,
    /// The other node speaks another version.
    Version(u64),
    /// The other node belongs to another cluster.
    Cluster {
        /// Its cluster.
        theirs: ClusterId,
        /// This node's.
        own: ClusterId,
    },
    /// The other node has this node's id.
    Itself,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misfit::Unreadable => f.write_str("PEER is for the nodes of a cluster; see HELP PEER"),
            Misfit::Version(theirs) => {
                write!(f, "version {theirs} of PEER is not this node's, {WIRE_VERSION}")
            }
            Misfit::Cluster { theirs, own } => {
                write!(f, "this node belongs to cluster {own} and not to {theirs}")
            }
            Misfit::Itself => f.write_str(
                "the id is this node's: it has dialled itself, or one of two nodes has a copy of the other's \
                 directory; then remove the file 'node' from the copy",
            ),
        }
    }
}

/// Checks that two nodes may be peers: different nodes, of one cluster or of none yet.
pub fn check_peers(
    (own_cluster, own_id): (Option<ClusterId>, NodeId),
    (cluster, id): (Option<ClusterId>, NodeId),
) -> Result<(), Misfit> {
    if id == own_id {
        return Err(Misfit::Itself);
    }
    match (cluster, own_cluster) {
        (Some(theirs), Some(own)) if theirs != own => Err(Misfit::Cluster { theirs, own }),
        _ => Ok(()),
    }
}

impl Greeting {
    /// The words of the command.
    pub fn words(&self) -> Vec<Vec<u8>> {
        let Greeting { cluster, id, address, list } = self;
        let list = list.map_or("-".to_string(), |list| list.to_string());
        let text =
            format!("PEER {} {id} {address} {WIRE_VERSION} {list}", ClusterId::word(*cluster));
        let line = sealed(text.as_bytes(), 0);
        line.trim_ascii_end().split(|byte| *byte == b' ').map(<[u8]>::to_vec).collect()
    }

    /// Reads the words after the command's name.
    pub fn parse(words: &[Vec<u8>]) -> Result<Greeting, Misfit> {
        let line = [b"PEER ", &words.join(&b' ')[..]].concat();
        let text = unsealed(&line, 0).ok_or(Misfit::Unreadable)?;
        let mut words = Words::after(b"PEER ", text).ok_or(Misfit::Unreadable)?;
        let (cluster, id) = names(&mut words).ok_or(Misfit::Unreadable)?;
        let address = words.word().and_then(address).ok_or(Misfit::Unreadable)?;
        check_version(&mut words)?;
        let list = words.word().and_then(list).ok_or(Misfit::Unreadable)?;
        words.end(Greeting { cluster, id, address, list }).ok_or(Misfit::Unreadable)
    }
}

impl Welcome {
    /// The line, with its end.
    pub fn line(&self) -> Vec<u8> {
        let text = format!("PEER {} {} {WIRE_VERSION}", ClusterId::word(self.cluster), self.id);
        sealed(text.as_bytes(), 0)
    }

    /// Reads a line without its end.
    pub fn parse(line: &[u8]) -> Result<Welcome, Misfit> {
        let text = unsealed(line, 0).ok_or(Misfit::Unreadable)?;
        let mut words = Words::after(b"PEER ", text).ok_or(Misfit::Unreadable)?;
        let (cluster, id) = names(&mut words).ok_or(Misfit::Unreadable)?;
        check_version(&mut words)?;
        words.end(Welcome { cluster, id }).ok_or(Misfit::Unreadable)
    }
}

fn names(words: &mut Words<'_>) -> Option<(Option<ClusterId>, NodeId)> {
    let cluster = ClusterId::parse_word(words.word()?)?;
    let id = NodeId::parse(str::from_utf8(words.word()?).ok()?)?;
    Some((cluster, id))
}

/// Later versions may have more words after theirs.
fn check_version(words: &mut Words<'_>) -> Result<(), Misfit> {
    match words.number() {
        Some(WIRE_VERSION) => Ok(()),
        Some(theirs) => Err(Misfit::Version(theirs)),
        None => Err(Misfit::Unreadable),
    }
}

fn address(word: &[u8]) -> Option<Address> {
    Address::parse(str::from_utf8(word).ok()?)
}

/// The hash of a list of members; `-` is none.
fn list(word: &[u8]) -> Option<Option<u64>> {
    if word == b"-" { Some(None) } else { canonical_number(word).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(cluster: Option<u64>, list: Option<u64>) -> Greeting {
        let address = Address { host: "node-1.example".to_string(), port: 8080 };
        Greeting { cluster: cluster.map(ClusterId), id: NodeId([7; 20]), address, list }
    }

    #[test]
    fn greetings_read_back_and_show_every_flipped_bit_and_cut() {
        for greeting in [greeting(None, None), greeting(Some(u64::MAX), Some(u64::MAX))] {
            let words = greeting.words();
            assert_eq!(words[0], b"PEER");
            assert_eq!(Greeting::parse(&words[1..]), Ok(greeting));
            let text = words[1..].join(&b' ');
            let read = |text: &[u8]| {
                let words: Vec<_> = text.split(|byte| *byte == b' ').map(<[u8]>::to_vec).collect();
                Greeting::parse(&words)
            };
            for bit in 0..text.len() * 8 {
                let mut bad = text.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(read(&bad), Err(Misfit::Unreadable), "bit {bit}");
            }
            for len in 0..text.len() {
                assert_eq!(read(&text[..len]), Err(Misfit::Unreadable), "{len} bytes");
            }
        }
    }

    #[test]
    fn answers_read_back_and_show_every_flipped_bit_and_cut() {
        for cluster in [None, Some(ClusterId(0x9c01))] {
            let welcome = Welcome { cluster, id: NodeId([7; 20]) };
            let line = welcome.line();
            let line = line.strip_suffix(b"\r\n").expect("a line end");
            assert_eq!(Welcome::parse(line), Ok(welcome));
            for bit in 0..line.len() * 8 {
                let mut bad = line.to_vec();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Welcome::parse(&bad), Err(Misfit::Unreadable), "bit {bit}");
            }
            for len in 0..line.len() {
                assert_eq!(Welcome::parse(&line[..len]), Err(Misfit::Unreadable), "{len} bytes");
            }
        }
    }

    #[test]
    fn another_version_is_named_whatever_follows_it() {
        let id = NodeId([7; 20]);
        let welcome = sealed(format!("PEER - {id} 2 and more").as_bytes(), 0);
        let welcome = welcome.strip_suffix(b"\r\n").expect("a line end");
        assert_eq!(Welcome::parse(welcome), Err(Misfit::Version(2)));
        let greeting = sealed(format!("PEER - {id} a:1 2 and more").as_bytes(), 0);
        let words: Vec<_> =
            greeting.trim_ascii_end().split(|byte| *byte == b' ').map(<[u8]>::to_vec).collect();
        assert_eq!(Greeting::parse(&words[1..]), Err(Misfit::Version(2)));
    }

    #[test]
    fn peers_are_different_nodes_of_one_cluster_or_of_none_yet() {
        let (a, b) = (NodeId([1; 20]), NodeId([2; 20]));
        let (one, two) = (ClusterId(1), ClusterId(2));
        for (own, theirs) in
            [(None, None), (Some(one), None), (None, Some(one)), (Some(one), Some(one))]
        {
            assert_eq!(check_peers((own, a), (theirs, b)), Ok(()));
            assert_eq!(check_peers((own, a), (theirs, a)), Err(Misfit::Itself));
        }
        let misfit = Misfit::Cluster { theirs: two, own: one };
        assert_eq!(check_peers((Some(one), a), (Some(two), b)), Err(misfit));
    }
}
