//! Some nodes of a cluster, and the network between them.

use crate::common::nodes::info;
use crate::common::proxy::Proxy;
use crate::common::resp::{Resp, Value};
use crate::common::server::{Server, lasting_port};
use crate::common::{note, wait_until};
use std::sync::Arc;
use std::time::Duration;

/// The time that an election may take on a loaded machine.
pub const ELECTED_WITHIN: Duration = Duration::from_secs(30);

/// What one node dials to reach another one.
pub struct Path {
    pub messages: Proxy,
    pub link: Proxy,
}

/// A node, which may run or not.
pub struct Node {
    pub port: u16,
    pub dir: Arc<tempfile::TempDir>,
    pub server: Option<Server>,
    /// The id of the boot of its machine: another one after a power cut.
    pub boot: u64,
}

/// A cluster.
pub struct Cluster {
    pub nodes: Vec<Node>,
    /// From a node (first index) to another one.
    pub paths: Vec<Vec<Option<Path>>>,
    settings: Vec<(String, String)>,
}

impl Cluster {
    /// Starts so many nodes with these settings; they have no data.
    pub fn start(nodes: usize, settings: &[(&str, &str)]) -> Cluster {
        let mut cluster = Cluster::prepare(nodes, settings);
        (0..nodes).for_each(|at| cluster.spawn(at));
        cluster
    }

    /// As [`Cluster::start`], without starting any.
    pub fn prepare(nodes: usize, settings: &[(&str, &str)]) -> Cluster {
        let node = |_| Node {
            port: lasting_port(),
            dir: Arc::new(tempfile::tempdir().expect("a temporary directory")),
            server: None,
            boot: 1,
        };
        let nodes: Vec<Node> = (0..nodes).map(node).collect();
        let path = |from: usize, to: usize| {
            let proxy = || Proxy::to(nodes[to].port, (from * 16 + to) as u64);
            (from != to).then(|| Path { messages: proxy(), link: proxy() })
        };
        let all = 0..nodes.len();
        let paths = all.clone().map(|from| all.clone().map(|to| path(from, to)).collect());
        let list: Vec<_> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        let own = [("cluster-nodes", list.join(",")), ("election-timeout", "300".to_owned())];
        let own = own.map(|(name, value)| (name.to_owned(), value));
        let given = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Cluster { paths: paths.collect(), settings: own.into_iter().chain(given).collect(), nodes }
    }

    /// Starts a node.
    pub fn spawn(&mut self, at: usize) {
        let port = self.nodes[at].port.to_string();
        let mut settings: Vec<(&str, &str)> =
            self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        settings.push(("port", &port));
        let routes = self.paths[at].iter().zip(&self.nodes).filter_map(|(path, to)| {
            let Path { messages, link } = path.as_ref()?;
            let (to, messages, link) = (to.port, messages.port(), link.port());
            Some(format!("peer:{to}={messages},link:{to}={link}"))
        });
        let routes = routes.collect::<Vec<_>>().join(",");
        let boot = format!("boot-{}", self.nodes[at].boot);
        let environment = [("KVSTORE_ROUTE", routes.as_str()), ("KVSTORE_BOOT_ID", boot.as_str())];
        let server = Server::start_with(&self.nodes[at].dir, &settings, &environment);
        self.nodes[at].server = Some(server);
    }

    /// Kills a node as `kill -9` does.
    pub fn kill(&mut self, at: usize) {
        let mut server = self.nodes[at].server.take().expect("it runs");
        server.kill();
    }

    /// The nodes that run.
    pub fn running(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|at| self.nodes[*at].server.is_some())
    }

    pub fn port(&self, at: usize) -> u16 {
        self.nodes[at].port
    }

    /// Sends signals to a node that runs.
    pub fn signal(&self, at: usize, name: &str) {
        self.nodes[at].server.as_ref().expect("it runs").signal(name);
    }

    /// Cuts a node off from all others, in both directions; or ends that.
    pub fn isolate(&self, at: usize, cut: bool) {
        for other in (0..self.nodes.len()).filter(|other| *other != at) {
            self.cut(at, other, cut);
            self.cut(other, at, cut);
        }
    }

    /// What `from` dials to reach `to` passes nothing on, and takes no new connections; or does again.
    pub fn cut(&self, from: usize, to: usize, cut: bool) {
        let Path { messages, link } = self.paths[from][to].as_ref().expect("two nodes");
        for proxy in [messages, link] {
            proxy.stall(cut);
            proxy.refuse(cut);
        }
    }

    /// An honest network again.
    pub fn heal(&self) {
        for Path { messages, link } in self.paths.iter().flatten().flatten() {
            messages.heal();
            link.heal();
        }
    }

    /// Waits until one of these nodes leads and the others of them follow it. Returns it.
    pub fn leader_among(&self, nodes: &[usize]) -> usize {
        let mut leader = None;
        let agreed = wait_until(ELECTED_WITHIN, || {
            let roles: Vec<_> = nodes.iter().map(|at| (*at, self.role(*at))).collect();
            let leads: Vec<_> = roles.iter().filter(|(_, role)| role == "master").collect();
            leader = if let [(at, _)] = leads[..] { Some(*at) } else { None };
            let follows = |at: usize| {
                let port = leader.map(|leader| self.port(leader).to_string());
                Some(info(self.port(at), "master_port")) == port
                    && info(self.port(at), "master_link_status") == "up"
            };
            leader.is_some_and(|leader| {
                nodes.iter().all(|at| *at == leader || follows(*at)) && self.takes_writes(leader)
            })
        });
        if !agreed {
            nodes.iter().for_each(|at| note(&self.page(*at)));
        }
        assert!(agreed, "no leader among {nodes:?}");
        leader.expect("just found")
    }

    /// Waits until one of the nodes that run leads and the others follow it. Returns it.
    pub fn leader(&self) -> usize {
        self.leader_among(&self.running().collect::<Vec<_>>())
    }

    fn role(&self, at: usize) -> String {
        info(self.port(at), "role")
    }

    fn takes_writes(&self, at: usize) -> bool {
        Resp::connect(self.port(at)).call(&["SET", "is:written", "1"]) == Value::ok()
    }

    fn page(&self, at: usize) -> String {
        let page = Resp::connect(self.port(at)).call(&["INFO", "everything"]);
        String::from_utf8_lossy(page.as_bytes()).into_owned()
    }

    /// A connection to a node.
    pub fn connect(&self, at: usize) -> Resp {
        Resp::connect(self.port(at))
    }

    /// Waits until all nodes that run have the same log as the leader.
    pub fn converge(&self) {
        let leader = self.leader();
        let others: Vec<u16> =
            self.running().filter(|at| *at != leader).map(|at| self.port(at)).collect();
        crate::common::nodes::converge(self.port(leader), &others);
    }
}
