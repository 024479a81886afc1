//! The members record, as operators change it: MEMBERS ADD and REMOVE, and CONFIG SET of `ack` and `reads`, which are the
//! cluster's and not a node's. Only the leader takes them, and the reply waits for the record as for any other write.

use super::commands::NO_CLUSTER;
use crate::aof::record::Epoch;
use crate::cluster::members::{Ack, Members, Reads, Voter};
use crate::cluster::membership::{Change, Situation};
use crate::cluster::message::Input;
use crate::cluster::shared::Cluster;
use crate::cluster::term::NodeId;
use crate::commands::Family::Replication;
use crate::commands::Flags;
use crate::config::{Address, not_set};
use crate::engine::table::{ADMIN, Row, ServerCall, row};
use crate::engine::{Engine, Persistence, Session};
use crate::error::{Failure, SYNTAX};
use crate::protocol::{Args, Dialect};
use crate::store::effect::Seq;

/// The row of this command.
#[rustfmt::skip]
pub const COMMANDS: &[Row] = &[
    row(Replication, "members", -1, ADMIN.and(Flags::NO_MULTI), members)
        .help("[ADD host:port | REMOVE node-id]",
            "Lists the nodes of the cluster that vote; adds one that follows already, or removes one.",
            "MEMBERS -> ERR this node has no cluster-nodes"),
];

pub(super) const NO_MEMBERS: Failure =
    Failure::fixed("ERR the cluster has not been founded yet: its first leader is being elected");
const PAUSED: Failure =
    Failure::fixed("ERR writes are paused, or another node is about to lead; try again");
/// An id may be given by so many of its first digits.
const DIGITS_MIN: usize = 8;

fn members(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let ServerCall { engine, session, reply } = call;
    let (Some(cluster), Some(persistence)) = (&engine.cluster, &engine.persistence) else {
        return Err(NO_CLUSTER);
    };
    match args.len() {
        1 => {
            let members = persistence.members().ok_or(NO_MEMBERS)?;
            reply.array(members.voters.len());
            for Voter { id, address } in &members.voters {
                if reply.dialect() == Dialect::Text {
                    reply.bulk(format!("{address} {id}").as_bytes());
                } else {
                    reply.array(2);
                    reply.bulk(address.as_bytes());
                    reply.bulk(id.to_string().as_bytes());
                }
            }
            return Ok(());
        }
        3 if args.is(1, "add") => {
            let address = std::str::from_utf8(&args[2]).ok().and_then(Address::parse);
            let address = address.ok_or(Failure::fixed("ERR give the address as host:port"))?;
            engine.add_member(session, (cluster, persistence), &address)?;
        }
        3 if args.is(1, "remove") => {
            engine.remove_member(session, (cluster, persistence), &args[2])?;
        }
        _ => return Err(SYNTAX),
    }
    reply.ok();
    Ok(())
}

impl Engine {
    fn add_member(
        &self,
        session: &mut Session,
        (cluster, persistence): (&Cluster, &Persistence),
        address: &Address,
    ) -> Result<(), Failure> {
        let peer = cluster.peers.list().into_iter().find(|peer| peer.address == *address);
        let id = peer.filter(|peer| peer.is_connected).and_then(|peer| peer.id);
        let id = id.ok_or_else(|| {
            Failure::new(format!(
                "ERR there is no node at {address} that has this one among its cluster-nodes; start it first"
            ))
        })?;
        let voter = Voter { id, address: address.to_string() };
        self.change_voters(session, (cluster, persistence), id, Change::Add(voter))?;
        log::warn!("{address}, node {id}, is to vote from now on");
        Ok(())
    }

    fn remove_member(
        &self,
        session: &mut Session,
        (cluster, persistence): (&Cluster, &Persistence),
        digits: &[u8],
    ) -> Result<(), Failure> {
        let members = persistence.members().ok_or(NO_MEMBERS)?;
        let digits = String::from_utf8_lossy(digits).to_ascii_lowercase();
        let is_named =
            |id: &NodeId| digits.len() >= DIGITS_MIN && id.to_string().starts_with(&digits);
        let mut named = members.ids().filter(is_named);
        let (Some(id), None) = (named.next(), named.next()) else {
            return Err(Failure::fixed(
                "ERR no member has this id; MEMBERS lists them, and the first 8 digits are enough",
            ));
        };
        self.change_voters(session, (cluster, persistence), id, Change::Remove(id))?;
        log::warn!("node {id} is to vote no longer");
        Ok(())
    }

    fn change_voters(
        &self,
        session: &mut Session,
        (cluster, persistence): (&Cluster, &Persistence),
        id: NodeId,
        change: Change,
    ) -> Result<(), Failure> {
        self.append_members(session, |members| {
            let followers = self.followers.all();
            let link =
                followers.iter().find(|link| link.node_id == id.to_string() && link.acks() > 0);
            let appended = persistence.log.appended().0;
            let first = persistence.log.outline().epochs.last().map_or(Seq(0), |start| start.seq);
            let answering = Vec::from_iter(cluster.answering());
            let now = Situation {
                leader: cluster.id,
                answering: &answering,
                commit: cluster.commit(),
                first,
                lag: link.map(|link| appended.saturating_sub(link.applied().0)),
            };
            members.change(change, &now).map_err(|refusal| Failure::new(format!("ERR {refusal}")))
        })
    }

    /// The policies of the cluster with these changes, if CONFIG SET may make them here; None without a change.
    pub(crate) fn policies(
        &self,
        pairs: &[(&[u8], &[u8])],
    ) -> Result<Option<(Ack, Reads)>, Failure> {
        let Some(persistence) = self.persistence.as_ref().filter(|_| !pairs.is_empty()) else {
            return Ok(None);
        };
        let members = persistence.log.members().filter(|_| !self.role.is_follower());
        let members = members.ok_or_else(|| self.readonly())?;
        let (mut ack, mut reads) = (members.ack, members.reads);
        for (name, value) in pairs {
            let value = value.to_ascii_lowercase();
            if name.eq_ignore_ascii_case(b"ack") {
                let problem = || not_set("ack", "argument must be leader or majority");
                ack = Ack::parse(&value).ok_or_else(problem)?;
            } else {
                let problem = || not_set("reads", "argument must be local or index");
                reads = Reads::parse(&value).ok_or_else(problem)?;
            }
        }
        Ok(Some((ack, reads)))
    }

    /// CONFIG SET of what is the cluster's.
    pub(crate) fn set_policies(
        &self,
        session: &mut Session,
        policies: Option<(Ack, Reads)>,
    ) -> Result<(), Failure> {
        let Some((ack, reads)) = policies else { return Ok(()) };
        self.append_members(session, |members| Ok(Members { ack, reads, ..members.clone() }))
    }

    /// Appends a members record, made from the newest one. The session's reply waits for it.
    fn append_members(
        &self,
        session: &mut Session,
        change: impl FnOnce(&Members) -> Result<Members, Failure>,
    ) -> Result<(), Failure> {
        let (Some(cluster), Some(persistence)) = (&self.cluster, &self.persistence) else {
            return Err(NO_CLUSTER);
        };
        persistence.admit()?;
        // A later epoch is adopted, and the lead given up, with all shards locked.
        let all = self.store.begin_all(true, || self.clock.now());
        if self.pause.is_active() {
            return Err(PAUSED);
        }
        let members = persistence.log.members().filter(|_| !self.role.is_follower());
        let next = change(&members.ok_or_else(|| self.readonly())?)?;
        let appended = persistence.log.append_members(next, cluster.led(), self.clock.now());
        drop(all);
        let members = appended.ok_or_else(|| self.readonly())?;
        session.depend_on_write(members.seq);
        cluster.follow_policy(&members);
        // A node that loses power must not have forgotten who votes. An error shows at the gate.
        let _ = persistence.log.sync();
        cluster.inbox.order(Input::Members(None, Epoch(0)));
        Ok(())
    }
}
