//! A leader, two followers and three Sentinels, all real processes on ports of 127.0.0.1.

use crate::common::server::{Process, Server, lasting_port};
use crate::common::{DEADLINE, wait_until};
use redis::{Connection, FromRedisValue, RedisResult};
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longer than any step of Sentinel's: it tells an ex-leader of its new role after about ten seconds.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// After this long without an answer a Sentinel takes a node for dead.
const DOWN_AFTER_MS: u64 = 1000;
const SENTINELS: usize = 3;

/// A node whose port outlives it: Sentinel knows it by that.
pub struct Node {
    pub port: u16,
    pub dir: Arc<tempfile::TempDir>,
    /// None while it is dead.
    pub server: Option<Server>,
    /// True if it is stopped.
    stalled: bool,
}

/// The fate of a node.
#[derive(Clone, Copy)]
pub enum Fate {
    /// `kill -9`.
    Dies,
    /// `kill -STOP`: its machine hangs, and it will go on as if nothing had happened.
    Stalls,
}

impl Node {
    /// Starts one with a configuration file of these lines.
    pub fn start(lines: &[String]) -> Node {
        let dir = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        let port = lasting_port();
        let text = format!("port {port}\nmetrics-port 0\n{}\n", lines.join("\n"));
        fs::write(dir.path().join("kv.conf"), text).expect("to write a file");
        let mut node = Node { port, dir, server: None, stalled: false };
        node.start_again();
        node
    }

    /// Starts it where it died, with the file as it is now.
    pub fn start_again(&mut self) {
        let port = self.port.to_string();
        let settings = [("config", "kv.conf"), ("port", &port)];
        self.server = Some(Server::start_in(&self.dir, &settings));
    }

    pub fn kill(&mut self) {
        self.server.take().expect("a node that lives").kill();
    }

    pub fn meets(&mut self, fate: Fate) {
        match fate {
            Fate::Dies => self.kill(),
            Fate::Stalls => self.server.as_ref().expect("a node that lives").signal("STOP"),
        }
        self.stalled = matches!(fate, Fate::Stalls);
    }

    pub fn comes_back(&mut self) {
        match &self.server {
            Some(server) => server.signal("CONT"),
            None => self.start_again(),
        }
        self.stalled = false;
    }

    fn is_up(&self) -> bool {
        self.server.is_some() && !self.stalled
    }

    pub fn config_file(&self) -> String {
        fs::read_to_string(self.dir.path().join("kv.conf")).expect("to read a file")
    }
}

/// The field of INFO, or what a node that does not answer would say: nothing.
pub fn info(port: u16, password: &str, field: &str) -> String {
    let page: String = ask(port, password, &["INFO"]).unwrap_or_default();
    let line = page.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().to_string()
}

/// Asks over a separate connection: Sentinel may end the others.
pub fn ask<T: FromRedisValue>(port: u16, password: &str, words: &[&str]) -> RedisResult<T> {
    let mut command = redis::cmd(words[0]);
    words[1..].iter().for_each(|word| _ = command.arg(word));
    command.query(&mut connect(port, password)?)
}

pub fn connect(port: u16, password: &str) -> RedisResult<Connection> {
    let client = redis::Client::open(format!("redis://:{password}@127.0.0.1:{port}"))?;
    let connection = client.get_connection_with_timeout(DEADLINE)?;
    connection.set_read_timeout(Some(DEADLINE))?;
    connection.set_write_timeout(Some(DEADLINE))?;
    Ok(connection)
}

pub struct Cluster {
    pub nodes: Vec<Node>,
    sentinels: Vec<(u16, Process)>,
    pub password: String,
}

impl Cluster {
    /// Starts all of it and waits until everybody knows everybody. The first node leads; the others have
    /// these priorities.
    pub fn start(password: &str, priorities: [u32; 2], line: &str) -> Cluster {
        let mut common = vec![line.to_string()];
        if !password.is_empty() {
            common.extend([format!("requirepass {password}"), format!("masterauth {password}")]);
        }
        let mut nodes = vec![Node::start(&common)];
        for priority in priorities {
            let leader = format!("replicaof 127.0.0.1 {}", nodes[0].port);
            let own = [leader, format!("replica-priority {priority}")];
            nodes.push(Node::start(&[&common[..], &own].concat()));
        }
        let sentinels = (0..SENTINELS).map(|_| sentinel(nodes[0].port, password)).collect();
        let cluster = Cluster { nodes, sentinels, password: password.to_string() };
        cluster.wait_for("all to know each other", || cluster.is_complete());
        cluster
    }

    fn is_complete(&self) -> bool {
        self.sentinels.iter().all(|(port, _)| {
            let of = |field: &str| sentinel_field(*port, field);
            of("num-slaves") == "2" && of("num-other-sentinels") == "2" && of("flags") == "master"
        })
    }

    /// The node that the Sentinels agree on as the leader; None while they do not.
    pub fn leader(&self) -> Option<usize> {
        let mut said = self.sentinels.iter().map(|(port, _)| leader_port(*port));
        let port = said.next()??;
        let agreed = said.all(|other| other == Some(port));
        self.nodes.iter().position(|node| agreed && node.port == port)
    }

    /// Waits until a living node leads, as the Sentinels agree, and all other living ones follow it.
    pub fn wait_settled(&self) -> usize {
        self.wait_for("a leader that the others follow", || self.settled().is_some());
        self.settled().expect("nobody kills nodes meanwhile")
    }

    /// Waits until each Sentinel has had an answer from the leader that is younger than this call, and thinks no
    /// longer that it is dead. One that has had none since it was told of a new leader takes a short restart for
    /// its death; one that asks while it restarts asks again only a second later, and does so too.
    pub fn wait_heard(&self) {
        let began = Instant::now();
        self.wait_for("an answer to each Sentinel", || {
            self.sentinels.iter().all(|(port, _)| {
                let of = |field: &str| sentinel_field(*port, field);
                let answered_ms = of("last-ok-ping-reply").parse().unwrap_or(u128::MAX);
                of("flags") == "master" && answered_ms < began.elapsed().as_millis()
            })
        });
    }

    fn settled(&self) -> Option<usize> {
        let leader = self.leader().filter(|leader| self.nodes[*leader].is_up())?;
        let port = self.nodes[leader].port.to_string();
        let follows = |node: &Node| {
            let says = |field: &str| info(node.port, &self.password, field);
            says("master_port") == port && says("master_link_status") == "up"
        };
        let others = self.nodes.iter().filter(|node| node.is_up());
        let all_follow = others.filter(|node| node.port != self.nodes[leader].port).all(follows);
        let leads = info(self.nodes[leader].port, &self.password, "role") == "master";
        (leads && all_follow).then_some(leader)
    }

    /// Waits; a failure shows what the Sentinels thought.
    pub fn wait_for(&self, what: &str, condition: impl FnMut() -> bool) {
        if !wait_until(PATIENCE, condition) {
            let logs = self.sentinels.iter().map(|(_, process)| process.stdout());
            panic!("waited in vain for {what}:\n{}", logs.collect::<Vec<_>>().join("\n"));
        }
    }

    /// Asks a node.
    pub fn ask<T: FromRedisValue>(&self, node: usize, words: &[&str]) -> RedisResult<T> {
        ask(self.nodes[node].port, &self.password, words)
    }

    pub fn info(&self, node: usize, field: &str) -> String {
        info(self.nodes[node].port, &self.password, field)
    }
}

fn sentinel(leader: u16, password: &str) -> (u16, Process) {
    let port = lasting_port();
    let mut lines = vec![
        format!("port {port}"),
        "bind 127.0.0.1".to_string(),
        format!("sentinel monitor kv 127.0.0.1 {leader} 2"),
        format!("sentinel down-after-milliseconds kv {DOWN_AFTER_MS}"),
        "sentinel failover-timeout kv 10000".to_string(),
    ];
    if !password.is_empty() {
        lines.push(format!("sentinel auth-pass kv {password}"));
    }
    let dir = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    fs::write(dir.path().join("sentinel.conf"), lines.join("\n")).expect("to write a file");
    let process = Process::spawn_in(dir, Command::new("redis-sentinel").arg("sentinel.conf"));
    (port, process)
}

fn sentinel_field(port: u16, field: &str) -> String {
    let pairs: RedisResult<Vec<(String, String)>> = ask(port, "", &["SENTINEL", "MASTER", "kv"]);
    let of = |(name, value): (String, String)| (name == field).then_some(value);
    pairs.unwrap_or_default().into_iter().find_map(of).unwrap_or_default()
}

fn leader_port(sentinel: u16) -> Option<u16> {
    let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "kv"];
    let address: RedisResult<(String, u16)> = ask(sentinel, "", &words);
    address.ok().map(|(_, port)| port)
}
