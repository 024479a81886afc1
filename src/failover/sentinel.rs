//! SENTINEL: each node that elects its leader answers clients as Redis Sentinel does, so that they find the leader with
//! what they have for Sentinel, and no Sentinel runs.
//!
//! Three parts are played by the same nodes. The *master* is the leader, the *replicas* are the other members, and the
//! *Sentinels* are all members, on the port of the data. A node answers what it knows itself: the leader whose heartbeats
//! it hears, and nil if it has heard none for the election timeout. That may be late, and no promise depends on it: a
//! node that does not lead refuses writes.
//!
//! Each node tells its own subscribers of `+switch-master` when it knows of another leader, and of `+sdown` and `-sdown`
//! when another member does not answer, or does again: node-redis looks at the nodes anew after these only.
//!
//! ROLE tells of the part in the data. A client that wants it to say `sentinel` (the Rust crate `redis` 1.8) comes to
//! `sentinel-port`, where it does; all else is the same there.
//!
//! Left out: everything that changes something (SET, MONITOR, FAILOVER, …), the times of pings, and other events.

use crate::clients::Client;
use crate::clients::socket::Addr;
use crate::cluster::members::{Voter, majority};
use crate::cluster::shared::Cluster;
use crate::cluster::state::FollowerSeen;
use crate::cluster::term::NodeId;
use crate::commands::Family::Replication;
use crate::config::{Address, Id};
use crate::engine::Engine;
use crate::engine::table::{ADMIN, Row, ServerCall, container, sub, subcommands};
use crate::error::Failure;
use crate::protocol::{Args, Reply};
use crate::pubsub::LastMessage;
use crate::pubsub::notify::Notice;

/// The rows of these commands, for nodes with `cluster-nodes` only.
#[rustfmt::skip]
pub const COMMANDS: &[Row] = &[
    container(Replication, "sentinel", ADMIN, subcommands, "Finds the leader, as clients of Redis Sentinel do.",
        "SENTINEL GET-MASTER-ADDR-BY-NAME kvstore -> (the leader's address and port)"),
    sub(Replication, "sentinel|ckquorum", 3, ADMIN, ckquorum, "name", "Checks that enough nodes are there to elect a leader."),
    sub(Replication, "sentinel|get-master-addr-by-name", 3, ADMIN, address, "name",
        "Returns the leader's address and port, or nil if no leader is known here."),
    sub(Replication, "sentinel|help", 2, ADMIN, subcommands, "", "Lists the subcommands."),
    sub(Replication, "sentinel|is-master-down-by-addr", 6, ADMIN, is_down, "ip port epoch id",
        "Answers other Sentinels, which a cluster does not need: no."),
    sub(Replication, "sentinel|master", 3, ADMIN, master, "name", "Returns what is known of the leader."),
    sub(Replication, "sentinel|masters", 2, ADMIN, masters, "", "Returns the leader under each name by which it is known."),
    sub(Replication, "sentinel|myid", 2, ADMIN, myid, "", "Returns this node's id."),
    sub(Replication, "sentinel|replicas", 3, ADMIN, replicas, "name", "Returns the members that do not lead."),
    sub(Replication, "sentinel|sentinels", 3, ADMIN, sentinels, "name", "Returns the other members."),
    sub(Replication, "sentinel|slaves", 3, ADMIN, replicas, "name", "The same as SENTINEL REPLICAS."),
];

const NO_MASTER: Failure = Failure::fixed("ERR No such master with that name");
const NO_LEADER: Failure = Failure::fixed(
    "ERR No such master with that name: no leader is known here, an election is under way",
);

impl Engine {
    /// The node that leads, as far as this one knows.
    pub(crate) fn elected_leader(&self) -> Option<(NodeId, Address)> {
        self.elected_leader_if(self.role.as_follower().as_ref())
    }

    /// As [`Engine::elected_leader`], for a caller that has read this node's role.
    pub(crate) fn elected_leader_if(
        &self,
        follower: Option<&FollowerSeen>,
    ) -> Option<(NodeId, Address)> {
        let cluster = self.cluster.as_ref()?;
        let Some(follower) = follower else {
            return Some((cluster.id, cluster.settings.own.clone()));
        };
        let target = follower.target.as_ref()?;
        Some((target.elected?.0, target.leader.clone()))
    }

    /// For a client that has come to `sentinel-port`: the names under which the leader is known.
    pub(crate) fn names_for(&self, client: &Client) -> Option<Vec<String>> {
        let Addr::Tcp(at) = client.local_addr else { return None };
        let cluster = self.cluster.as_ref()?;
        (i64::from(at.port()) == self.config.int(Id::SentinelPort))
            .then(|| cluster.services.names())
    }

    /// Tells this node's subscribers if another node leads. Each node tells its own, so nothing is forwarded, and nothing
    /// waits for a majority. For the thread `cluster`, which keeps the order.
    pub(super) fn announce_leader(&self) {
        let (Some(cluster), Some((_, new))) = (&self.cluster, self.elected_leader()) else {
            return;
        };
        if let Some(old) = cluster.services.change_leader(&new) {
            self.tell_subscribers("+switch-master", cluster, |name| {
                format!("{name} {} {} {} {}", old.host, old.port, new.host, new.port)
            });
        }
    }

    /// Tells them which of the members that do not lead answer no longer, or again.
    pub(super) fn announce_reach(&self) {
        let (Some(cluster), Some((leads, leader))) = (&self.cluster, self.elected_leader()) else {
            return;
        };
        let answering = cluster.answering();
        let others = |voter: &Voter| voter.id != cluster.id && voter.id != leads;
        for Voter { id, address } in self.voters().into_iter().filter(others) {
            let is_up = answering.contains(&id);
            if cluster.services.change_reach(id, is_up) {
                let (host, port) = host_and_port(&address);
                let channel = if is_up { "-sdown" } else { "+sdown" };
                self.tell_subscribers(channel, cluster, |name| {
                    let Address { host: master, port: at } = &leader;
                    format!("slave {address} {host} {port} @ {name} {master} {at}")
                });
            }
        }
    }

    /// Publishes a message once for each name by which the leader is known.
    fn tell_subscribers(&self, channel: &str, cluster: &Cluster, text: impl Fn(&str) -> String) {
        let message =
            |name: &String| self.pubsub.address(channel.as_bytes(), text(name).as_bytes());
        let names = cluster.services.names();
        let messages = names.iter().filter_map(message).map(Notice::Message);
        self.deliver_notices(messages, &mut LastMessage::default());
    }

    fn voters(&self) -> Vec<Voter> {
        let members = self.persistence.as_ref().and_then(|persistence| persistence.members());
        members.map_or(Vec::new(), |members| members.voters)
    }
}

/// The cluster, if the leader is known by this name.
fn known<'e>(engine: &'e Engine, name: &[u8]) -> Result<&'e Cluster, Failure> {
    let cluster = engine.cluster.as_ref().filter(|cluster| cluster.services.knows(name));
    cluster.ok_or(NO_MASTER)
}

fn address(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let is_known = known(call.engine, &args[2]).is_ok();
    match call.engine.elected_leader() {
        Some((_, leader)) if is_known => {
            call.reply.array(2);
            call.reply.bulk(leader.host.as_bytes());
            call.reply.bulk(leader.port.to_string().as_bytes());
        }
        _ => call.reply.nil_array(),
    }
    Ok(())
}

fn master(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    known(call.engine, &args[2])?;
    let leader = call.engine.elected_leader().ok_or(NO_LEADER)?;
    let name = String::from_utf8_lossy(&args[2]);
    write_master(call.engine, call.reply, &name, &leader);
    Ok(())
}

fn masters(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    let ServerCall { engine, reply, .. } = call;
    let (Some(cluster), Some(leader)) = (&engine.cluster, engine.elected_leader()) else {
        reply.array(0);
        return Ok(());
    };
    let names = cluster.services.names();
    reply.array(names.len());
    names.iter().for_each(|name| write_master(engine, reply, name, &leader));
    Ok(())
}

fn replicas(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let ServerCall { engine, reply, .. } = call;
    let cluster = known(engine, &args[2])?;
    let (leads, leader) = engine.elected_leader().ok_or(NO_LEADER)?;
    let answering = cluster.answering();
    let mut voters = engine.voters();
    voters.retain(|voter| voter.id != leads);
    reply.array(voters.len());
    for Voter { id, address } in &voters {
        let is_up = answering.contains(id);
        let (link, applied) = link_of(engine, cluster, *id, is_up);
        write_node(
            reply,
            address,
            (address, *id),
            "slave",
            is_up,
            &[
                ("master-link-status", link.to_string()),
                ("master-host", leader.host.clone()),
                ("master-port", leader.port.to_string()),
                ("slave-repl-offset", applied.to_string()),
            ],
        );
    }
    Ok(())
}

/// The link of a member to the leader, and the last record that it has. Only the leader and the member itself know them;
/// elsewhere a member that answers is taken to have a link.
fn link_of(engine: &Engine, cluster: &Cluster, id: NodeId, answers: bool) -> (&'static str, u64) {
    let followers = engine.followers.all();
    let follower = followers.iter().find(|follower| follower.node_id == id.to_string());
    let log = engine.persistence.as_ref().map(|persistence| &persistence.log);
    let (is_up, applied) = match follower {
        Some(follower) => (true, follower.applied().0),
        None if id == cluster.id => {
            (engine.role.link_is_up(), log.map_or(0, |log| log.appended().0))
        }
        None => (engine.role.is_follower() && answers, 0),
    };
    (if is_up { "ok" } else { "err" }, applied)
}

fn sentinels(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let ServerCall { engine, reply, .. } = call;
    let cluster = known(engine, &args[2])?;
    let answering = cluster.answering();
    let mut voters = engine.voters();
    voters.retain(|voter| voter.id != cluster.id);
    reply.array(voters.len());
    for Voter { id, address } in &voters {
        let name = id.to_string();
        write_node(reply, &name, (address, *id), "sentinel", answering.contains(id), &[]);
    }
    Ok(())
}

fn ckquorum(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let answering = known(call.engine, &args[2])?.answering();
    let voters = call.engine.voters();
    let usable = voters.iter().filter(|voter| answering.contains(&voter.id)).count();
    if voters.is_empty() || usable < majority(voters.len()) {
        return Err(Failure::new(format!(
            "NOQUORUM {usable} usable Sentinels. Not enough available Sentinels to reach the majority and failover \
             authorization{}",
            call.engine.missing_members()
        )));
    }
    let text = "usable Sentinels. Quorum and failover authorization can be reached";
    call.reply.simple(&format!("OK {usable} {text}"));
    Ok(())
}

fn myid(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    let id = call.engine.cluster.as_ref().map(|cluster| cluster.id.to_string());
    call.reply.bulk_or_nil(id.as_ref().map(String::as_bytes));
    Ok(())
}

/// "Not down", and a vote for no node.
fn is_down(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    call.reply.array(3);
    call.reply.int(0);
    call.reply.bulk(b"*");
    call.reply.int(0);
    Ok(())
}

fn write_master(engine: &Engine, reply: &mut Reply, name: &str, (id, at): &(NodeId, Address)) {
    let epoch = engine.cluster.as_ref().map_or(0, |cluster| cluster.epoch().0);
    let voters = engine.voters().len();
    let others = voters.saturating_sub(1).to_string();
    write_node(
        reply,
        name,
        (&at.to_string(), *id),
        "master",
        true,
        &[
            ("config-epoch", epoch.to_string()),
            ("num-slaves", others.clone()),
            ("num-other-sentinels", others),
            ("quorum", majority(voters).to_string()),
        ],
    );
}

/// A node in one of its parts: a map with the fields of Sentinel that clients read.
fn write_node(
    reply: &mut Reply,
    name: &str,
    (address, id): (&str, NodeId),
    part: &str,
    is_up: bool,
    more: &[(&str, String)],
) {
    let (host, port) = host_and_port(address);
    let flags = if is_up { part.to_string() } else { format!("{part},s_down,disconnected") };
    let fields = [
        ("name", name.to_string()),
        ("ip", host.to_string()),
        ("port", port.to_string()),
        ("runid", id.to_string()),
        ("flags", flags),
    ];
    reply.map(fields.len() + more.len());
    for (field, value) in fields.iter().chain(more) {
        reply.bulk(field.as_bytes());
        reply.bulk(value.as_bytes());
    }
}

fn host_and_port(address: &str) -> (&str, &str) {
    address.rsplit_once(':').unwrap_or((address, "0"))
}
