//! `kvstore cluster`: asks each member of a cluster what it knows, and prints a line for each. `kvstore cluster forget`
//! takes a directory out of its cluster (`forget.rs`).

use super::forget::forget;
use super::{Arguments, Error, Tool, say};
use crate::client::connection::{Access, Connection};
use crate::client::{Error as ClientError, Value};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// A node that says nothing for so long is taken to be down.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// Interval of `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

pub(super) const TOOL: Tool = Tool {
    name: "cluster",
    help: "\
kvstore cluster HOST:PORT [--watch]
kvstore cluster forget DIR

The first asks a member of a cluster for the others, and each of them for its state. Prints a line for each:
  address  leader, follower or down  epoch  commit  lag  memory
The commit is the last record that a majority has, as far as that node knows. The lag is in records,
as the leader knows it. A node whose memory is 'recovering' may have forgotten records: until a leader
has brought it up to date, it counts for no majority. The last line says whether a majority is there.
The password, if the nodes want one, is taken from the environment: KVSTORE_REQUIREPASS.

  --watch   again each second, until Ctrl-C

The second takes a data directory out of its cluster: after PROMOTE FORCE on another node, which began
a new cluster, so that MEMBERS ADD there can take this one in. The directory becomes a new node, with
another id. Its log stays; what the new cluster does not have is saved in DIR/diverged when the node
follows its leader. No server may run on DIR.

Exit code: 0 if there is a leader, or DIR is out; 1 if there is none, HOST:PORT does not answer, or DIR is
in use, belongs to no cluster or cannot be read; 2 wrong usage.
",
    words: (1, 2),
    switches: &["watch"],
    values: &[],
    run,
};

/// A node's INFO, or why there is none.
struct Node {
    address: String,
    page: Result<String, String>,
}

fn run(arguments: &Arguments) -> Result<(), Error> {
    match &arguments.words[..] {
        [order, dir] if order == "forget" && !arguments.has("watch") => {
            return forget(Path::new(dir));
        }
        [node] if node != "forget" => {}
        words => return Err(Error::Usage(format!("{}: not understood", words.join(" ")))),
    }
    let mut known = vec![arguments.words[0].clone()];
    loop {
        // A member may die while it is watched; the others go on.
        let first = known.iter().map(|address| Node::ask(address)).find(|node| node.page.is_ok());
        let first = first.ok_or_else(|| Error::Failed(format!("{}: no answer", known.join(", "))));
        let result = first.and_then(|first| {
            known = first.members()?;
            print(first, &known)
        });
        if !arguments.has("watch") || matches!(result, Err(Error::ReaderLeft)) {
            return result;
        }
        if let Err(Error::Failed(text)) = result {
            say(text)?;
        }
        thread::sleep(WATCH_INTERVAL);
        say("")?;
    }
}

fn print(first: Node, members: &[String]) -> Result<(), Error> {
    let (asked, mut first) = (first.address.clone(), Some(first));
    let answer = |address: &String| match first.take_if(|_| *address == asked) {
        Some(node) => node,
        None => Node::ask(address),
    };
    let nodes: Vec<Node> = members.iter().map(answer).collect();
    let leader = nodes.iter().find(|node| node.field("role") == "master");
    let width = members.iter().map(String::len).max().unwrap_or(0);
    for node in &nodes {
        say(format!("{:width$}  {}", node.address, node.line(leader)))?;
    }
    let missing: Vec<&str> =
        nodes.iter().filter(|node| !node.counts()).map(|node| &*node.address).collect();
    let (there, quorum) = (nodes.len() - missing.len(), nodes.len() / 2 + 1);
    let missing = if missing.is_empty() { "none".to_string() } else { missing.join(", ") };
    let verdict = if there >= quorum { "a majority is there" } else { "no majority is there" };
    say(format!(
        "{there} of {} count, {quorum} are needed: {verdict}; missing: {missing}",
        nodes.len()
    ))?;
    if leader.is_some() { Ok(()) } else { Err(Error::Damaged) }
}

impl Node {
    fn ask(address: &str) -> Node {
        let password = std::env::var("KVSTORE_REQUIREPASS").ok().filter(|word| !word.is_empty());
        let access = Access { user: "default".into(), password, connect: ANSWERS_WITHIN };
        let deadline = Instant::now() + ANSWERS_WITHIN;
        let ask = || -> Result<String, ClientError> {
            let mut connection = Connection::open(address, &access, deadline)?;
            match connection.ask(&[b"INFO", b"everything"], deadline) {
                Ok(Value::Bytes(page)) => Ok(String::from_utf8_lossy(&page).into_owned()),
                Ok(other) => Err(ClientError::Unexpected(format!("{other:?}"))),
                Err(error) => Err(ClientError::Unavailable(error.to_string())),
            }
        };
        Node { address: address.to_string(), page: ask().map_err(|error| error.to_string()) }
    }

    /// A field of INFO; empty if there is none.
    fn field(&self, name: &str) -> &str {
        let lines = self.page.as_deref().unwrap_or_default().lines();
        lines
            .filter_map(|line| line.split_once(':'))
            .find(|(field, _)| *field == name)
            .map_or("", |it| it.1)
    }

    /// The line about each member, as this node knows it.
    fn member_lines(&self) -> impl Iterator<Item = &str> {
        let lines = (0..).map(|number| self.field(&format!("kvstore_member{number}")));
        lines.take_while(|line| !line.is_empty())
    }

    /// The members' addresses. Before the first election this node knows only itself.
    fn members(&self) -> Result<Vec<String>, Error> {
        if self.field("kvstore_cluster_epoch").is_empty() {
            let text = format!("{}: it has no cluster-nodes, so it elects no leader", self.address);
            return Err(Error::Failed(text));
        }
        let members: Vec<String> =
            self.member_lines().map(|line| part(line, "address").to_string()).collect();
        Ok(if members.is_empty() { vec![self.address.clone()] } else { members })
    }

    /// True if it helps to make a majority.
    fn counts(&self) -> bool {
        self.field("kvstore_cluster_memory") == "whole"
    }

    fn line(&self, leader: Option<&Node>) -> String {
        if let Err(why) = &self.page {
            return format!("down      {why}");
        }
        let role = if self.field("role") == "master" { "leader" } else { "follower" };
        let of_this = |line: &&str| part(line, "address") == self.address;
        let line = leader.and_then(|leader| leader.member_lines().find(of_this)).unwrap_or("");
        let lag = if role == "leader" { "0" } else { part(line, "lag_records") };
        let lag = if lag.is_empty() { "unknown" } else { lag };
        let of = |name: &str| self.field(&format!("kvstore_cluster_{name}"));
        let (epoch, commit, memory) = (of("epoch"), of("commit"), of("memory"));
        format!("{role:8}  epoch {epoch}  commit {commit}  lag {lag}  memory {memory}")
    }
}

/// `value` of `name=value` in a line of such pairs; empty if there is none.
fn part<'l>(line: &'l str, name: &str) -> &'l str {
    let pairs = line.split(',').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
}
