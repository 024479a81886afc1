//! Hazard: files are lost, nodes die, others lead, old ones come back, all in any order. Each step alone is
//! handled; together they once emptied followers and started servers on half a log.
//!
//! Three nodes, and a model that knows each write and reads the nodes' files: a key stands in a log as it was
//! written, so a look at the bytes shows which node still has it. In each round there are writes, kills,
//! compactions, promotions; sometimes files of a dead node are removed or cut. At the end one node leads, the
//! others follow it, and then
//!
//! - each write that any node's files held (after what the test itself destroyed) is in the leader's data, or
//!   in some node's `diverged/` or `quarantine/`;
//! - a node whose log ends before its `synced` mark has refused to start and has said why: file, both seqs,
//!   ways out. The operator of this test then takes one of them: puts the files back, repairs, or wipes the
//!   directory.

use crate::common::nodes::{CATCH_UP, converge, info, records};
use crate::common::resp::{Resp, Value};
use crate::common::rng::{Rng, fresh_seed};
use crate::common::server::Server;
use crate::common::{long_form, note, number_from_env, wait_until};
use kvstore::aof::files;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// Writes by number. Each sets a key that no other write touches, and is never deleted.
type Writes = BTreeSet<u64>;

/// New nodes after so many rounds: what is kept aside grows with each.
const ROUNDS_PER_CLUSTER: u64 = 25;

struct Node {
    dir: Arc<TempDir>,
    /// None while it is down.
    server: Option<Server>,
}

struct Cluster {
    nodes: [Node; 3],
    leader: usize,
    settings: Vec<(&'static str, &'static str)>,
    rng: Rng,
    next_write: u64,
    /// The writes that must be found again.
    held: Writes,
    events: BTreeMap<&'static str, u64>,
    /// To be shown when a round fails.
    story: Vec<String>,
}

#[test]
fn each_write_that_a_node_held_is_found_again() {
    let rounds = number_from_env("KVSTORE_ROUNDS").unwrap_or(if long_form() { 1000 } else { 30 });
    let seed = number_from_env("KVSTORE_SEED").unwrap_or_else(fresh_seed);
    let mut events = BTreeMap::new();
    let mut writes = 0;
    let mut done = 0;
    while done < rounds {
        let mut cluster = Cluster::start(seed + done);
        for round in done..(done + ROUNDS_PER_CLUSTER).min(rounds) {
            cluster.story = vec![format!("round {round} of KVSTORE_SEED={}", seed + done)];
            cluster.round();
        }
        done += ROUNDS_PER_CLUSTER;
        writes += cluster.next_write;
        for (name, count) in std::mem::take(&mut cluster.events) {
            *events.entry(name).or_default() += count;
        }
    }
    note(&format!(
        "{rounds} rounds, {writes} writes, none dropped unsaved: {events:?} (KVSTORE_SEED={seed})"
    ));
    let _: BTreeMap<&str, u64> = events;
}

impl Cluster {
    fn start(seed: u64) -> Cluster {
        let mut rng = Rng::new(seed);
        let settings = vec![
            ("appendfsync", rng.pick(&["always", "20ms"])),
            ("repl-backlog-size", rng.pick(&["0", "16kb", "64mb"])),
            ("segment-size", "4kb"),
            ("auto-compact-percentage", "0"),
            ("repl-timeout", "2"),
        ];
        let node =
            || Node { dir: Arc::new(tempfile::tempdir().expect("a directory")), server: None };
        let nodes = [node(), node(), node()];
        let mut cluster = Cluster {
            nodes,
            leader: 0,
            settings,
            rng,
            next_write: 0,
            held: Writes::new(),
            events: BTreeMap::new(),
            story: vec![format!("start of KVSTORE_SEED={seed}")],
        };
        (0..3).for_each(|node| cluster.start_node(node));
        cluster.gather();
        cluster
    }

    fn round(&mut self) {
        for _ in 0..self.rng.between(3, 9) {
            let node = self.rng.below(3);
            match self.rng.below(16) {
                0..5 => self.write(),
                5 => self.end(node, "TERM"),
                6 | 7 => self.end(node, "KILL"),
                8 => self.lose_files(node),
                9 => self.wipe(node),
                10 | 11 => self.compact(node),
                12 | 13 => self.promote(node),
                _ => self.start_node(node),
            }
        }
        // A leader is chosen without regard to what it holds: any mistake of an operator.
        self.leader = self.rng.below(3);
        self.gather();
        self.check();
    }

    /// Everybody is up and follows the leader, some through another follower.
    fn gather(&mut self) {
        (0..3).for_each(|node| self.start_node(node));
        let leader = self.leader;
        self.tell(leader, &["REPLICAOF", "NO", "ONE"]);
        let others = [(leader + 1) % 3, (leader + 2) % 3];
        let in_chain = self.rng.chance(30);
        self.follow(others[0], leader);
        self.follow(others[1], if in_chain { others[0] } else { leader });
        self.story.push(format!("node {leader} leads, in a chain: {in_chain}"));
        let ports = others.map(|node| self.port(node));
        converge(self.port(leader), &ports);
    }

    fn check(&mut self) {
        let leading = self.state(self.leader);
        let aside: Writes =
            (0..3).flat_map(|node| self.aside(node)).flat_map(|path| seen_in(&path)).collect();
        let lost: Vec<_> =
            self.held.iter().filter(|w| !leading.contains(w) && !aside.contains(w)).collect();
        if !lost.is_empty() {
            panic!("writes {lost:?} are gone without a trace; {:#?}", self.story);
        }
        for node in (0..3).filter(|node| *node != self.leader) {
            assert_eq!(self.state(node), leading, "node {node}; {:#?}", self.story);
        }
    }

    /// Writes to the leader, if it is up and leads; waits for some followers, sometimes.
    fn write(&mut self) {
        let Some(server) = &self.nodes[self.leader].server else { return };
        let mut client = Resp::connect(server.port());
        let (first, count) = (self.next_write, self.rng.between(1, 20) as u64);
        for write in first..first + count {
            self.next_write += 1;
            match client.call(&["SET", &key(write), "a value"]) {
                Value::Simple(_) => self.held.insert(write),
                Value::Error(_) => break,
                other => panic!("SET: {other:?}"),
            };
        }
        if self.rng.chance(50) {
            client.call(&["WAIT", "1", "20"]);
        }
        self.note("write", format!("{first} and {count} more on node {}", self.leader));
    }

    /// Starts a node that is down, as a leader or as a follower of one that is up. One that refuses is mended
    /// as an operator would.
    fn start_node(&mut self, node: usize) {
        if self.nodes[node].server.is_some() {
            return;
        }
        let other = (node + 1 + self.rng.below(2)) % 3;
        let leader =
            self.nodes[other].server.as_ref().map(|other| format!("127.0.0.1 {}", other.port()));
        let mut settings = self.settings.clone();
        if let Some(leader) = leader.as_deref().filter(|_| self.rng.chance(60)) {
            settings.push(("replicaof", leader));
        }
        self.story.push(format!("node {node} starts with {:?}", settings.last()));
        self.nodes[node].server = Some(Server::start_in(&self.nodes[node].dir, &settings));
    }

    fn end(&mut self, node: usize, signal: &'static str) {
        if let Some(mut server) = self.nodes[node].server.take() {
            server.signal(signal);
            server.exit_status();
            self.note(signal, format!("node {node}"));
        }
    }

    fn compact(&mut self, node: usize) {
        if self.nodes[node].server.is_some() {
            self.tell(node, &["SAVE"]);
            self.note("SAVE", format!("node {node}"));
        }
    }

    /// A node leads; the others may go on following whom they followed.
    fn promote(&mut self, node: usize) {
        if self.nodes[node].server.is_none() {
            return;
        }
        self.tell(node, &["REPLICAOF", "NO", "ONE"]);
        self.leader = node;
        self.note("promotion", format!("node {node}"));
        for other in (0..3).filter(|other| *other != node) {
            if self.nodes[other].server.is_some() && self.rng.chance(50) {
                self.follow(other, node);
            }
        }
    }

    fn follow(&mut self, node: usize, leader: usize) {
        let port = self.port(leader).to_string();
        let reply = self.tell(node, &["REPLICAOF", "127.0.0.1", &port]);
        assert!(matches!(&reply, Value::Simple(_)), "{reply:?}; {:#?}", self.story);
    }

    /// The whole directory is gone: a disk was replaced. The node has nothing that could tell.
    fn wipe(&mut self, node: usize) {
        self.end(node, "KILL");
        let data = self.data(node);
        if data.exists() {
            fs::remove_dir_all(data).expect("removed");
        }
        self.destroyed("wipe", format!("node {node}"));
    }

    /// Some of the log is removed or cut. If the mark says that it was once there, the node must refuse to
    /// start, and then the operator takes a way out.
    fn lose_files(&mut self, node: usize) {
        self.end(node, "KILL");
        let data = self.data(node);
        let Some(backup) = copy_of(&data) else { return };
        let how = self.damage(&data);
        let mark = mark(&data);
        let end = log_end(&data);
        let what = format!("node {node}: {how}; the mark is {mark:?}, the log ends at {end}");
        self.destroyed("damage", what);
        let mut server = Server::spawn_in(&self.nodes[node].dir, &self.settings);
        let decided = wait_until(CATCH_UP, || !server.is_alive() || !server.stdout().is_empty());
        assert!(decided, "node {node} neither starts nor ends: {}", server.stderr());
        if server.is_alive() {
            let lost = mark.is_some_and(|mark| mark > end);
            assert!(!lost, "node {node} has started on what is left; {:#?}", self.story);
            server.kill();
            return;
        }
        assert!(!server.exit_status().success());
        let log = server.stderr();
        let error = log.lines().last().unwrap_or_default().to_owned();
        let says_all = error.contains("data/") && error.contains("--repair");
        assert!(says_all, "{error}; {:#?}", self.story);
        self.mend(node, &backup, error);
    }

    fn mend(&mut self, node: usize, backup: &TempDir, error: String) {
        let data = self.data(node);
        match self.rng.below(3) {
            0 => {
                fs::remove_dir_all(&data).expect("removed");
                fs::rename(backup.path().join("data"), &data).expect("put back");
                self.held.extend(self.in_files());
                self.note("refused, restored", error);
            }
            1 if self.repair(node) => self.note("refused, repaired", error),
            _ => {
                fs::remove_dir_all(&data).expect("removed");
                self.destroyed("refused, wiped", error);
            }
        }
    }

    /// True if it can be repaired. If the very beginning is gone, a base or the first segment, nothing leads to
    /// the rest, and that is said.
    fn repair(&self, node: usize) -> bool {
        let data = self.data(node);
        let repair = Server::command().args(["check", "--repair"]).arg(&data).output();
        let repair = repair.expect("kvstore check runs");
        let said = String::from_utf8_lossy(&repair.stderr).into_owned();
        let is_hopeless = log_end(&data) == 0 || said.contains("base");
        assert!(repair.status.success() || is_hopeless, "{said}; {:#?}", self.story);
        repair.status.success()
    }

    /// Removes or cuts something; says what.
    fn damage(&mut self, data: &Path) -> String {
        let listing = files::list(data).expect("a directory");
        let (segments, bases) = (listing.segments, listing.bases);
        let remove = |name: &String| fs::remove_file(data.join(name)).expect("removed");
        let names: Vec<String> = segments.iter().map(|first| files::segment_name(*first)).collect();
        let which = self.rng.below(names.len().max(1));
        match self.rng.below(6) {
            0 if !bases.is_empty() => {
                let name = files::base_name(*bases.last().expect("a base"));
                remove(&name);
                format!("{name} removed")
            }
            1 => {
                names.iter().for_each(remove);
                bases.iter().for_each(|base| remove(&files::base_name(*base)));
                "all of the log removed".to_owned()
            }
            2 if !names.is_empty() => {
                remove(&names[which]);
                format!("{} removed", names[which])
            }
            3 if !names.is_empty() => {
                let kept = names[which].clone();
                names.iter().filter(|name| **name != kept).for_each(remove);
                format!("all segments but {kept} removed")
            }
            _ if !names.is_empty() => {
                let name = names.last().expect("a segment");
                let path = data.join(name);
                let len = fs::metadata(&path).expect("a segment").len();
                let kept = self.rng.pick(&[0, len / 2, len.saturating_sub(3)]);
                let file = fs::File::options().write(true).open(&path).expect("a segment");
                file.set_len(kept).expect("cut");
                format!("{name} cut from {len} to {kept} bytes")
            }
            _ => "nothing".to_owned(),
        }
    }

    /// From here on, only what is still in the files must be found again.
    fn destroyed(&mut self, name: &'static str, what: String) {
        self.held = self.in_files();
        self.note(name, what);
    }

    /// Each write that any node's files hold.
    fn in_files(&self) -> Writes {
        (0..3).flat_map(|node| seen_in(&self.data(node))).collect()
    }

    fn note(&mut self, name: &'static str, what: String) {
        self.story.push(format!("{name}: {what}"));
        *self.events.entry(name).or_default() += 1;
    }

    fn tell(&self, node: usize, words: &[&str]) -> Value {
        Resp::connect(self.port(node)).call(words)
    }

    fn port(&self, node: usize) -> u16 {
        self.nodes[node].server.as_ref().expect("a node that is up").port()
    }

    fn data(&self, node: usize) -> PathBuf {
        self.nodes[node].dir.path().join("data")
    }

    fn aside(&self, node: usize) -> [PathBuf; 2] {
        ["diverged", "quarantine"].map(|name| self.data(node).join(name))
    }

    /// The keys and values that a node answers with.
    fn state(&self, node: usize) -> Writes {
        let mut client = Resp::connect(self.port(node));
        let loaded = wait_until(CATCH_UP, || info(self.port(node), "loading") == "0");
        assert!(loaded, "node {node} is loading; {:#?}", self.story);
        let keys = client.call(&["KEYS", "w:*"]);
        keys.as_array().iter().flat_map(|key| writes_of(key.as_bytes())).collect()
    }
}

/// A key that no other text contains.
fn key(write: u64) -> String {
    format!("w:{write:08};")
}

/// The writes that are named in these bytes.
fn writes_of(bytes: &[u8]) -> Writes {
    let starts = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"w:"));
    let number = |at: usize| {
        let text = bytes.get(at + 2..at + 11)?.strip_suffix(b";")?;
        std::str::from_utf8(text).ok()?.parse().ok()
    };
    starts.filter_map(number).collect()
}

/// The writes that are named in a file, or in the files of a directory and of those in it. A full copy that is
/// on its way and unfinished files are not yet part of any history.
fn seen_in(path: &Path) -> Writes {
    if !path.is_dir() {
        return fs::read(path).map(|bytes| writes_of(&bytes)).unwrap_or_default();
    }
    let entries = fs::read_dir(path).expect("a directory").flatten().map(|entry| entry.path());
    let counts = |path: &PathBuf| {
        !path.ends_with("incoming") && path.extension().is_none_or(|end| end != "tmp")
    };
    entries.filter(counts).flat_map(|path| seen_in(&path)).collect()
}

/// The content of the file `synced`. Read here by hand: the model must not trust what it tests.
fn mark(data: &Path) -> Option<u64> {
    fs::read_to_string(data.join("synced")).ok()?.get(..20)?.parse().ok()
}

/// The last record that can be reached: from the newest base, or from the first record, without a gap.
fn log_end(data: &Path) -> u64 {
    let listing = files::list(data).expect("a directory");
    let mut end = listing.bases.last().map_or(0, |base| base.0);
    let records = records(data);
    while records.contains_key(&(end + 1)) {
        end += 1;
    }
    end
}

/// A copy of a directory to be put back later.
fn copy_of(data: &Path) -> Option<TempDir> {
    let backup = tempfile::tempdir().expect("a directory");
    let status = std::process::Command::new("cp").arg("-a").arg(data).arg(backup.path()).output();
    status.expect("cp runs").status.success().then_some(backup)
}
