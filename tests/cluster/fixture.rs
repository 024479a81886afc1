//! Some nodes of a cluster, and the network between them.

use crate::common::nodes::{info, last_record};
use crate::common::proxy::{Proxy, Way};
use crate::common::resp::{Resp, Value};
use crate::common::server::{Server, lasting_port};
use crate::common::{DEADLINE, note, wait_until};
use kvstore::aof::files::{self, segment_name};
use kvstore::aof::mark;
use kvstore::aof::record::Header;
use kvstore::cluster::term::Term;
use std::fs::{self, OpenOptions};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// The time that an election may take on a loaded machine.
pub const ELECTED_WITHIN: Duration = Duration::from_secs(30);

/// The election timeout of these nodes, unless a test says otherwise.
pub const TIMEOUT_MS: u64 = 300;

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
    /// Settings of this node only.
    pub own: Vec<(String, String)>,
}

/// A cluster.
pub struct Cluster {
    pub nodes: Vec<Node>,
    /// From a node (first index) to another one.
    pub paths: Vec<Vec<Option<Path>>>,
    settings: Vec<(String, String)>,
}

/// Starting, and losing memory.
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
            own: Vec::new(),
        };
        let nodes: Vec<Node> = (0..nodes).map(node).collect();
        let path = |from: usize, to: usize| {
            let proxy = || Proxy::to(nodes[to].port, (from * 16 + to) as u64);
            (from != to).then(|| Path { messages: proxy(), link: proxy() })
        };
        let all = 0..nodes.len();
        let paths = all.clone().map(|from| all.clone().map(|to| path(from, to)).collect());
        let list: Vec<_> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        let given = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut settings: Vec<_> = given.collect();
        settings.push(("cluster-nodes".to_owned(), list.join(",")));
        // A status page would be on the port of the next node, which may be down.
        settings.push(("metrics-port".to_owned(), "0".to_owned()));
        if settings.iter().all(|(name, _)| name != "election-timeout") {
            settings.push(("election-timeout".to_owned(), TIMEOUT_MS.to_string()));
        }
        Cluster { paths: paths.collect(), settings, nodes }
    }

    /// Starts a node.
    pub fn spawn(&mut self, at: usize) {
        let port = self.nodes[at].port.to_string();
        let all = self.settings.iter().chain(&self.nodes[at].own);
        let mut settings: Vec<(&str, &str)> =
            all.map(|(name, value)| (name.as_str(), value.as_str())).collect();
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

    /// Ends a node as an init system does, and starts it again.
    pub fn restart(&mut self, at: usize) {
        let server = self.nodes[at].server.take().expect("it runs");
        assert!(server.stop().success());
        self.spawn(at);
    }

    /// The machine of a node loses power: its log ends where it was last synced. Returns how many records are gone.
    pub fn cut_power(&mut self, at: usize) -> u64 {
        self.kill(at);
        self.nodes[at].boot += 1;
        lose_unsynced(&self.data(at))
    }

    /// Removes a node's data directory. The node does not run.
    pub fn empty(&self, at: usize) {
        assert!(self.nodes[at].server.is_none());
        fs::remove_dir_all(self.data(at)).expect("a data directory");
    }

    /// A node's data directory.
    pub fn data(&self, at: usize) -> PathBuf {
        self.nodes[at].dir.path().join("data")
    }

    /// What a node has promised, as its file says.
    pub fn term(&self, at: usize) -> Term {
        let text = fs::read_to_string(self.data(at).join("node")).expect("the file 'node'");
        Term::parse(&text).expect("an undamaged file")
    }

    /// The nodes that run.
    pub fn running(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|at| self.nodes[*at].server.is_some())
    }

    /// All nodes but this one.
    pub fn others(&self, than: usize) -> Vec<usize> {
        (0..self.nodes.len()).filter(|at| *at != than).collect()
    }

    pub fn port(&self, at: usize) -> u16 {
        self.nodes[at].port
    }

    /// What a node has logged.
    pub fn log(&self, at: usize) -> String {
        self.nodes[at].server.as_ref().expect("it runs").stderr()
    }

    /// Sends a signal to a node that runs.
    pub fn signal(&self, at: usize, name: &str) {
        self.nodes[at].server.as_ref().expect("it runs").signal(name);
    }
}

/// The network.
impl Cluster {
    pub fn path(&self, from: usize, to: usize) -> &Path {
        self.paths[from][to].as_ref().expect("two nodes")
    }

    /// Cuts a node off from all others, in both directions; or ends that.
    pub fn isolate(&self, at: usize, cut: bool) {
        for other in self.others(at) {
            self.cut(at, other, cut);
            self.cut(other, at, cut);
        }
    }

    /// What `from` dials to reach `to` passes nothing on, and takes no new connections; or does again.
    pub fn cut(&self, from: usize, to: usize, cut: bool) {
        self.cut_messages(from, to, cut);
        self.cut_link(from, to, cut);
    }

    /// As [`Cluster::cut`], for messages about who leads.
    pub fn cut_messages(&self, from: usize, to: usize, cut: bool) {
        let Path { messages, .. } = self.path(from, to);
        messages.stall(cut);
        messages.refuse(cut);
    }

    /// As [`Cluster::cut`], for the log.
    pub fn cut_link(&self, from: usize, to: usize, cut: bool) {
        let Path { link, .. } = self.path(from, to);
        link.stall(cut);
        link.refuse(cut);
    }

    /// What is sent to a node gets lost, and what it sends arrives.
    pub fn deafen(&self, at: usize, deaf: bool) {
        for other in self.others(at) {
            for (path, way) in [(self.path(at, other), Way::Down), (self.path(other, at), Way::Up)]
            {
                path.messages.stall_way(way, deaf);
                path.link.stall_way(way, deaf);
            }
        }
    }

    /// An honest network again.
    pub fn heal(&self) {
        for Path { messages, link } in self.paths.iter().flatten().flatten() {
            messages.heal();
            link.heal();
        }
    }
}

/// What the nodes say.
impl Cluster {
    /// Waits until one of these nodes leads and the others of them follow it. Returns it.
    pub fn leader_among(&self, nodes: &[usize]) -> usize {
        let mut leader = None;
        let agreed = wait_until(ELECTED_WITHIN, || {
            let leads: Vec<_> = nodes.iter().filter(|at| self.leads(**at)).collect();
            leader = if let [at] = leads[..] { Some(*at) } else { None };
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

    /// True if a node says that it leads.
    pub fn leads(&self, at: usize) -> bool {
        info(self.port(at), "role") == "master"
    }

    /// PROMOTE, again until it is done.
    pub fn promote(&self, at: usize) {
        let promoted = wait_until(ELECTED_WITHIN, || {
            self.leads(at) || self.connect(at).call(&["PROMOTE", "2000"]) == Value::ok()
        });
        assert!(promoted, "node {at} is not elected");
        self.wait_for(at, "role", |role| role == "master");
    }

    /// Fails if one of these nodes leads within the time in which it would, if it could.
    pub fn expect_no_leader(&self, among: &[usize], why: &str) {
        let enough = Duration::from_millis(6 * TIMEOUT_MS);
        let leads = || among.iter().copied().find(|at| self.leads(*at));
        assert!(!wait_until(enough, || leads().is_some()), "{:?} leads: {why}", leads());
    }

    fn takes_writes(&self, at: usize) -> bool {
        self.set(at, "is:written", "1") == Value::ok()
    }

    fn page(&self, at: usize) -> String {
        let page = Resp::connect(self.port(at)).call(&["INFO", "everything"]);
        String::from_utf8_lossy(page.as_bytes()).into_owned()
    }

    /// A connection to a node.
    pub fn connect(&self, at: usize) -> Resp {
        Resp::connect(self.port(at))
    }

    pub fn set(&self, at: usize, key: &str, value: &str) -> Value {
        self.connect(at).call(&["SET", key, value])
    }

    pub fn get(&self, at: usize, key: &str) -> Value {
        self.connect(at).call(&["GET", key])
    }

    /// Writes until it is answered with OK: a leader that waits for others may have to begin with.
    pub fn write(&self, at: usize, key: &str, value: &str) {
        let mut last = Value::Null;
        let is_written = wait_until(DEADLINE, || {
            last = self.set(at, key, value);
            last == Value::ok()
        });
        assert!(is_written, "SET {key} on node {at}: {last:?}");
    }

    /// A field of a node's INFO.
    pub fn info(&self, at: usize, field: &str) -> String {
        info(self.port(at), field)
    }

    /// Waits until a field of a node's INFO satisfies a condition.
    pub fn wait_for(&self, at: usize, field: &str, is: impl Fn(&str) -> bool) {
        let met = wait_until(ELECTED_WITHIN, || is(&self.info(at, field)));
        assert!(met, "node {at}: {field} is {:?}", self.info(at, field));
    }

    /// Waits until a node knows that it has forgotten nothing.
    pub fn wait_whole(&self, at: usize) {
        self.wait_for(at, "kvstore_cluster_memory", |memory| memory == "whole");
    }

    /// Waits until all nodes of a cluster do.
    pub fn wait_all_whole(&self) {
        (0..self.nodes.len()).for_each(|at| self.wait_whole(at));
    }

    /// Waits until a node has all records of another one.
    pub fn wait_level(&self, at: usize, with: usize) {
        let has_all = || last_record(self.port(at)) >= last_record(self.port(with));
        assert!(wait_until(ELECTED_WITHIN, has_all), "node {at}: {}", self.page(at));
    }

    /// Waits until all nodes that run have the same log as the leader. Returns it.
    pub fn converge(&self) -> usize {
        let leader = self.leader();
        let others: Vec<u16> =
            self.running().filter(|at| *at != leader).map(|at| self.port(at)).collect();
        crate::common::nodes::converge(self.port(leader), &others);
        leader
    }

    /// The text of everything that a node has set aside, as `kvstore log` shows it.
    pub fn diverged(&self, at: usize) -> String {
        let paths = log_files(&self.data(at).join("diverged"));
        let shown = |path: PathBuf| {
            let output = Server::command().arg("log").arg(&path).output().expect("kvstore log");
            assert!(output.status.success(), "{path:?}: {output:?}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        paths.into_iter().map(shown).collect()
    }
}

/// A thread's answer, which may come much later.
pub type Pending<T> = thread::JoinHandle<T>;

/// Sends commands at once over a new connection; their replies come from the thread.
pub fn pipeline(mut client: Resp, commands: &[&[&str]]) -> Pending<Vec<Value>> {
    let mut bytes = Vec::new();
    commands.iter().for_each(|words| crate::common::resp::encode(words, &mut bytes));
    client.send_raw(&bytes);
    let count = commands.len();
    thread::spawn(move || (0..count).map(|_| client.read_reply()).collect())
}

/// Log files in a directory, and in those below it: a whole log that was set aside has one.
pub fn log_files(dir: &FilePath) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    list(dir, &mut paths);
    paths
}

fn list(dir: &FilePath, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            list(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "aof") {
            into.push(path);
        }
    }
}

/// Cuts the log after the last record that was synced. Returns how many records that takes away.
fn lose_unsynced(dir: &FilePath) -> u64 {
    let synced = mark::read(dir).expect("a readable mark").expect("a mark");
    let mut lost = 0;
    for first in files::list(dir).expect("a data directory").segments {
        let path = dir.join(segment_name(first));
        let bytes = fs::read(&path).expect("a segment");
        let (mut kept, mut rest) = (0, &bytes[..]);
        while let Some((header, line_len)) = Header::parse(rest) {
            let len = line_len + header.len as usize;
            if header.seq <= synced {
                kept += len;
            } else {
                lost += 1;
            }
            rest = rest.get(len..).unwrap_or_default();
        }
        if first > synced {
            fs::remove_file(&path).expect("a segment");
        } else {
            let file = OpenOptions::new().write(true).open(&path).expect("a segment");
            file.set_len(kept as u64).expect("a shorter file");
        }
    }
    lost
}
