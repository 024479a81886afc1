//! The names under which clients ask this node for the leader, and what subscribers were last told of the members.
//!
//! A cluster has one leader, so all names mean the same. They are remembered because a change of leader is published with
//! the name, and some libraries (Jedis, go-redis) take no notice of another name than theirs. They ask first and
//! subscribe afterwards, at the same node, so it is enough that each node remembers what it was asked for. redis-py
//! never sends its name: it looks for it in the list of all masters, where only [`SERVICE`] is sure to be.

use crate::cluster::term::NodeId;
use crate::config::Address;
use crate::lock::Mutex;
use std::collections::BTreeSet;

/// The name that is always known.
pub const SERVICE: &str = "kvstore";
/// Names that are remembered at most. Another one is unknown, so that no client is answered and then not told of a
/// change.
const NAMES_MAX: usize = 16;
/// The longest name that is remembered, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// The names, and what subscribers were told.
#[derive(Debug, Default)]
pub struct Services {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Names besides [`SERVICE`] that clients have asked for.
    asked: Vec<String>,
    leader: Option<Address>,
    /// Members that do not answer.
    down: BTreeSet<NodeId>,
}

impl Services {
    /// True if the leader is known by this name, from now on at the latest.
    pub fn knows(&self, name: &[u8]) -> bool {
        let Some(name) = std::str::from_utf8(name).ok().filter(|name| is_name(name)) else {
            return false;
        };
        let mut state = self.state.lock();
        let is_known = name == SERVICE || state.asked.iter().any(|asked| asked == name);
        let has_room = state.asked.len() + 1 < NAMES_MAX;
        if !is_known && has_room {
            state.asked.push(name.to_string());
        }
        is_known || has_room
    }

    /// All names, [`SERVICE`] first.
    pub fn names(&self) -> Vec<String> {
        let asked = self.state.lock().asked.clone();
        std::iter::once(SERVICE.to_string()).chain(asked).collect()
    }

    /// This node leads. Returns the leader before it, if there was one and it is another.
    pub fn change_leader(&self, leader: &Address) -> Option<Address> {
        self.state.lock().leader.replace(leader.clone()).filter(|old| old != leader)
    }

    /// This member answers, or does not. Returns whether that is news; at first all are taken to answer.
    pub fn change_reach(&self, id: NodeId, is_up: bool) -> bool {
        let down = &mut self.state.lock().down;
        if is_up { down.remove(&id) } else { down.insert(id) }
    }
}

/// True for a name that Sentinel allows, too.
fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_remembered_up_to_a_limit() {
        let services = Services::default();
        assert!(services.knows(b"kvstore") && services.knows(b"mymaster"));
        assert!(services.knows(b"mymaster") && services.knows(b"My-master.2_a"));
        assert_eq!(services.names(), ["kvstore", "mymaster", "My-master.2_a"]);
        for bad in [&b""[..], b"a b", b"a\r\nb", b"\xff", &[b'x'; NAME_BYTES_MAX + 1]] {
            assert!(!services.knows(bad), "{bad:?}");
        }
        let known = (0..100).filter(|n| services.knows(format!("name{n}").as_bytes())).count();
        assert_eq!((known, services.names().len()), (NAMES_MAX - 3, NAMES_MAX));
        assert!(services.knows(b"name0") && !services.knows(b"name99"));
    }

    #[test]
    fn a_change_has_an_old_and_a_new_leader() {
        let services = Services::default();
        let [a, b] = ["a:1", "b:1"].map(|text| Address::parse(text).expect("an address"));
        assert_eq!(services.change_leader(&a), None, "the first one");
        assert_eq!(services.change_leader(&a), None, "the same again");
        assert_eq!(services.change_leader(&b), Some(a));
    }

    #[test]
    fn each_change_of_reach_is_news_once() {
        let services = Services::default();
        let news =
            [true, false, false, true, true].map(|up| services.change_reach(NodeId([1; 20]), up));
        assert_eq!(news, [false, true, false, true, false]);
    }
}
