//! The settings of a cluster: the nodes that elect a leader among themselves, and which of them this node is.

use super::error::not_set;
use super::{Config, ConfigError, Id, Setting};
use crate::cluster::members::{Ack, Reads};
use crate::cluster::membership::VOTERS_MAX;
use crate::error::Failure;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

/// The list's length in bytes. It stands in one line of the log, with the nodes' ids, which must stay below 1,024.
const LIST_BYTES_MAX: usize = 512;
/// The longest host name that DNS allows.
const HOST_BYTES_MAX: usize = 253;

/// The address of a node, as others dial it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Its name or address, as it was given.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl Address {
    /// Reads `host:port`. The host is brought to lower case, since DNS knows no difference.
    pub fn parse(text: &str) -> Option<Address> {
        let (host, port) = text.rsplit_once(':')?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bracketed.unwrap_or(host).to_ascii_lowercase();
        let port: u16 = port.parse().ok().filter(|given: &u16| given.to_string() == port)?;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".:-_%".contains(&byte);
        let is_usable = (1..=HOST_BYTES_MAX).contains(&host.len()) && host.bytes().all(fits);
        if is_usable && port > 0 { Some(Address { host, port }) } else { None }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A cluster, as this node's settings describe it.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    /// The members at the first start (`cluster-nodes`). Later the log's members record names them.
    pub nodes: Vec<Address>,
    /// The address under which others dial this node.
    pub own: Address,
    /// Nodes whose hashes differ do not found a cluster together. Covers the addresses in any order, `ack` and
    /// `reads`.
    pub hash: u64,
    /// T: the silence, in milliseconds, after which a node asks for votes (`election-timeout`).
    pub timeout_ms: u64,
    /// What an OK waits for.
    pub ack: Ack,
    /// How the leader makes sure that it still leads.
    pub reads: Reads,
}

impl Config {
    /// The cluster that this node belongs to; None without `cluster-nodes`.
    pub fn cluster(&self) -> Option<ClusterSettings> {
        let nodes = self.cluster_nodes();
        let own = self.own_address(&nodes)?;
        let (ack, reads) = (self.choice(Id::Ack), self.choice(Id::Reads));
        Some(ClusterSettings {
            hash: hash(&nodes, ack, reads),
            nodes,
            own,
            timeout_ms: self.int(Id::ElectionTimeout) as u64,
            ack: Ack::parse(ack.as_bytes()).unwrap_or_default(),
            reads: Reads::parse(reads.as_bytes()).unwrap_or_default(),
        })
    }

    /// True if this node belongs to a cluster: votes decide who leads.
    pub fn is_in_cluster(&self) -> bool {
        !self.text(Id::ClusterNodes).is_empty()
    }

    fn cluster_nodes(&self) -> Vec<Address> {
        self.text(Id::ClusterNodes).split(',').filter_map(Address::parse).collect()
    }

    /// `cluster-announce`, or the listed address that can only be this node's.
    fn own_address(&self, nodes: &[Address]) -> Option<Address> {
        if nodes.is_empty() {
            return None;
        }
        if let Some(announced) = Address::parse(&self.text(Id::ClusterAnnounce)) {
            return Some(announced);
        }
        let bound = self.addresses(Id::Bind);
        let port = self.int(Id::Port) as u16;
        let candidates: Vec<&Address> = nodes.iter().filter(|node| node.port == port).collect();
        let find = |fits: &dyn Fn(&IpAddr) -> bool| {
            candidates.iter().find(|node| node.ip().is_some_and(|ip| fits(&ip)))
        };
        let own = find(&|ip| bound.contains(ip)).or_else(|| find(&IpAddr::is_loopback));
        // NB: not the first of several. Two nodes that take one address for their own never find the third.
        let only = if let [only] = &candidates[..] { Some(only) } else { None };
        own.or(only).map(|own| (*own).clone())
    }

    /// Refuses settings that a cluster cannot have.
    pub(super) fn validate_cluster(&self) -> Result<(), ConfigError> {
        if !self.is_in_cluster() {
            let asks = self.choice(Id::Ack) != "leader" || self.choice(Id::Reads) != "local";
            let problem = "ack majority and reads index need other nodes: give cluster-nodes, too";
            return if asks { Err(ConfigError::at("cluster-nodes", problem)) } else { Ok(()) };
        }
        if !self.flag(Id::Appendonly) {
            let problem = "a cluster agrees on a log, so its nodes cannot run with appendonly no";
            return Err(ConfigError::at("cluster-nodes", problem));
        }
        if self.leader().is_some() {
            let problem = "a cluster elects its leader; remove replicaof, or cluster-nodes";
            return Err(ConfigError::at("replicaof", problem));
        }
        if self.cluster().is_none() {
            let port = self.int(Id::Port);
            let problem = format!(
                "it cannot be told which of these addresses is this node's, which listens on port {port}; \
                 name it with --cluster-announce HOST:PORT"
            );
            return Err(ConfigError::at("cluster-nodes", problem));
        }
        Ok(())
    }
}

impl Address {
    fn ip(&self) -> Option<IpAddr> {
        let host = if self.host == "localhost" { "127.0.0.1" } else { &self.host };
        host.parse().ok()
    }
}

/// Refuses to change what is not this node's to change alone. `ack` and `reads` are the cluster's: they stand in its
/// members record, and the settings only say what the first record is to hold.
pub(super) fn check_change(config: &Config, row: &Setting) -> Result<(), Failure> {
    match row.id {
        Id::Ack | Id::Reads if config.is_in_cluster() => {
            Err(not_set(row.name, "it stands in the cluster's members record"))
        }
        Id::Ack | Id::Reads => Err(Failure::new(format!(
            "ERR {} is a setting of a cluster; this node has no cluster-nodes",
            row.name
        ))),
        _ => Ok(()),
    }
}

/// Checks `cluster-nodes`: addresses with commas or blanks between them; keeps them with commas.
pub(super) fn check_nodes(text: &str) -> Result<String, &'static str> {
    let words = text.split([',', ' ']).filter(|word| !word.is_empty());
    let nodes: Option<Vec<Address>> = words.map(Address::parse).collect();
    let nodes = nodes.ok_or("argument must be addresses such as a:8080,b:8080,c:8080")?;
    if nodes.len() > VOTERS_MAX {
        return Err("argument must be at most 9 addresses");
    }
    if nodes.iter().collect::<BTreeSet<_>>().len() < nodes.len() {
        return Err("argument must be different addresses");
    }
    let text = joined(&nodes);
    if text.len() > LIST_BYTES_MAX {
        return Err("argument must be at most 512 bytes long: it stands in one line of the log");
    }
    Ok(text)
}

/// Checks `cluster-announce`: one address, or nothing.
pub(super) fn check_address(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() {
        return Ok(String::new());
    }
    let address = Address::parse(text.trim());
    address.map(|address| address.to_string()).ok_or("argument must be an address such as a:8080")
}

fn joined(nodes: &[Address]) -> String {
    nodes.iter().map(Address::to_string).collect::<Vec<_>>().join(",")
}

/// FNV-1a [Fowler, Noll, Vo]: the same on every machine and in every version.
fn hash(nodes: &[Address], ack: &str, reads: &str) -> u64 {
    let mut nodes = nodes.to_vec();
    nodes.sort();
    let text = format!("{} {ack} {reads}", joined(&nodes));
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(settings: &[(&str, &str)]) -> ClusterSettings {
        Config::for_tests(settings).cluster().expect("a cluster")
    }

    fn refusal(settings: &[(&str, &str)]) -> String {
        let args: Vec<_> =
            settings.iter().map(|(name, value)| format!("--{name}={value}")).collect();
        let loaded = Config::load(&args, std::iter::empty());
        loaded.expect_err("should be refused").to_string()
    }

    const LOCAL: &str = "127.0.0.1:8079,127.0.0.1:8080,127.0.0.1:8081";

    #[test]
    fn without_nodes_there_is_no_cluster() {
        let config = Config::for_tests(&[("cluster-announce", "a:1")]);
        assert!(config.cluster().is_none() && !config.is_in_cluster());
    }

    #[test]
    fn lists_have_one_spelling() {
        assert_eq!(
            check_nodes(" B.example:1, [::1]:8080,c:2 "),
            Ok("b.example:1,::1:8080,c:2".into())
        );
        assert_eq!(check_nodes(""), Ok(String::new()));
        let nine = (1..=9).map(|port| format!("a:{port}")).collect::<Vec<_>>().join(",");
        assert_eq!(check_nodes(&nine), Ok(nine.clone()));
        assert!(check_nodes(&format!("{nine},a:10")).is_err());
        let long = "x".repeat(HOST_BYTES_MAX);
        assert!(check_nodes(&format!("{long}:1")).is_ok());
        for bad in [
            "a",
            "a:",
            ":1",
            "a:0",
            "a:01",
            "a:+1",
            "a:65536",
            "a:b:c",
            "a b:1",
            "a/b:1",
            "a=b:1",
            "a:1,A:1",
            &format!("x{long}:1"),
            &format!("a{0}:1,b{0}:1,c{0}:1", "x".repeat(200)),
        ] {
            assert!(check_nodes(bad).is_err(), "{bad}");
        }
        assert_eq!(check_address(" A:1 "), Ok("a:1".into()));
        assert!(check_address("a:1,b:1").is_err());
    }

    #[test]
    fn a_node_finds_its_own_address() {
        let own = |settings: &[(&str, &str)]| cluster(settings).own.to_string();
        assert_eq!(own(&[("cluster-nodes", LOCAL)]), "127.0.0.1:8080");
        assert_eq!(own(&[("cluster-nodes", LOCAL), ("cluster-announce", "d:7")]), "d:7");
        assert_eq!(
            own(&[("cluster-nodes", "a:1,b:8080,c:2")]),
            "b:8080",
            "the only one of our port"
        );
        let bound = [("cluster-nodes", "127.0.0.1:8080,127.0.0.2:8080"), ("bind", "127.0.0.2")];
        assert_eq!(own(&bound), "127.0.0.2:8080", "bound goes before loopback");
        let any = [
            ("cluster-nodes", "10.0.0.1:8080,localhost:8080"),
            ("bind", "*"),
            ("no-password", "yes"),
        ];
        assert_eq!(own(&any), "localhost:8080");
        for nodes in ["a:8080,b:8080", "a:1,b:2"] {
            let error = refusal(&[("cluster-nodes", nodes)]);
            assert!(error.contains("--cluster-announce HOST:PORT"), "{error}");
        }
    }

    #[test]
    fn a_cluster_needs_a_log_and_names_no_leader() {
        let error = refusal(&[("cluster-nodes", LOCAL), ("appendonly", "no")]);
        assert!(error.starts_with("cluster-nodes: ") && error.contains("appendonly no"), "{error}");
        let error = refusal(&[("cluster-nodes", LOCAL), ("replicaof", "a 1")]);
        assert!(error.starts_with("replicaof: "), "{error}");
        assert!(refusal(&[("ack", "majority")]).contains("give cluster-nodes"));
        assert!(refusal(&[("reads", "index")]).contains("give cluster-nodes"));
    }

    #[test]
    fn the_hash_covers_the_list_in_any_order_and_both_policies() {
        let of = |nodes, ack, reads| {
            let all = [("cluster-nodes", nodes), ("ack", ack), ("reads", reads)];
            cluster(&all).hash
        };
        let (one, other) = ("127.0.0.1:8080,b:1,c:2", "c:2,127.0.0.1:8080,b:1");
        let hash = of(one, "leader", "local");
        assert_eq!(of(other, "leader", "local"), hash);
        assert_ne!(of("127.0.0.1:8080,b:1,c:3", "leader", "local"), hash);
        assert_ne!(of(one, "majority", "local"), hash);
        assert_ne!(of(one, "leader", "index"), hash);
    }

    #[test]
    fn the_policies_are_not_one_nodes_to_change() {
        let set = |config: &Config| {
            let error =
                config.set_many(&[(b"hz", b"20"), (b"ack", b"majority")]).expect_err("shared");
            assert_eq!((config.int(Id::Hz), config.choice(Id::Ack)), (10, "leader"));
            error.to_string()
        };
        let error = set(&Config::default());
        assert_eq!(error, "ERR ack is a setting of a cluster; this node has no cluster-nodes");
        let error = set(&Config::for_tests(&[("cluster-nodes", LOCAL)]));
        assert!(
            error.starts_with("ERR CONFIG SET failed") && error.contains("members record"),
            "{error}"
        );
    }

    #[test]
    fn the_leader_that_was_elected_is_no_setting() {
        let config = Config::for_tests(&[("cluster-nodes", LOCAL)]);
        config.set_leader(Some(("a", 1)));
        assert_eq!((config.leader(), config.text(Id::Replicaof)), (None, String::new()));
    }
}
