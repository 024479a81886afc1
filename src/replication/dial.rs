//! Dialling another node: the connection and the password, for followers' links and for the members of a cluster.

use crate::config::{Config, Id};
use crate::error::NO_PASSWORD_SET;
use crate::resp;
use std::env;
use std::io::{self, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Tests put a proxy on the way to a port with it: `peer:8081=9001,link:8081=9002`.
const ROUTE: &str = "KVSTORE_ROUTE";

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A follower's link.
    Link,
    /// What members say to each other about who leads.
    Peer,
}

/// Tries each address that the name has, for this long each.
pub fn connect_to(
    purpose: Purpose,
    host: &str,
    port: u16,
    timeout: Duration,
) -> io::Result<TcpStream> {
    let port =
        env::var(ROUTE).ok().and_then(|routes| routed(&routes, purpose, port)).unwrap_or(port);
    let mut last = io::Error::other("the name has no address");
    for addr in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&addr, timeout) {
            Err(error) => last = error,
            dialled => return dialled,
        }
    }
    Err(last)
}

/// The port to dial instead of this one, if the routes name one.
fn routed(routes: &str, purpose: Purpose, port: u16) -> Option<u16> {
    let name = if purpose == Purpose::Link { "link" } else { "peer" };
    routes.split(',').find_map(|route| {
        let (from, to) = route.strip_prefix(name)?.strip_prefix(':')?.split_once('=')?;
        if from.parse() == Ok(port) { to.parse().ok() } else { None }
    })
}

/// The password for other nodes, if there is one.
pub fn password(config: &Config) -> Option<String> {
    let passwords = [config.text(Id::Masterauth), config.text(Id::Requirepass)];
    passwords.into_iter().find(|password| !password.is_empty())
}

/// The other node's words, if its answer to AUTH is a refusal. A node without a password needs none.
pub fn auth_refusal(answer: &[u8]) -> Option<String> {
    let refusal = answer.strip_prefix(b"-")?;
    let is_open = refusal.starts_with(NO_PASSWORD_SET.bytes());
    if is_open { None } else { Some(String::from_utf8_lossy(refusal).into_owned()) }
}

/// Sends a command as a RESP array.
pub fn send(mut socket: &TcpStream, words: &[impl AsRef<[u8]>]) -> io::Result<()> {
    let words: Vec<&[u8]> = words.iter().map(AsRef::as_ref).collect();
    let mut request = Vec::new();
    resp::array(&mut request, &words);
    socket.write_all(&request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_changes_the_port_of_one_purpose() {
        let routes = "peer:8081=9001,link:8081=9002,peer:x=1,peer:8083";
        assert_eq!(routed(routes, Purpose::Peer, 8081), Some(9001));
        assert_eq!(routed(routes, Purpose::Link, 8081), Some(9002));
        for port in [8080, 8083, 1] {
            assert_eq!(routed(routes, Purpose::Peer, port), None);
        }
        assert_eq!(routed("", Purpose::Peer, 8081), None);
    }

    #[test]
    fn a_node_without_a_password_refuses_none() {
        assert_eq!(auth_refusal(b"+OK"), None);
        let open = [b"-", NO_PASSWORD_SET.bytes()].concat();
        assert_eq!(auth_refusal(&open), None);
        assert_eq!(auth_refusal(b"-WRONGPASS x"), Some("WRONGPASS x".to_string()));
    }
}
