//! The command PEER, which other members send.

use super::peers::Peers;
use super::serve::serve;
use crate::commands::{Family::Replication, Flags};
use crate::engine::Engine;
use crate::engine::session::Ending;
use crate::engine::table::{ADMIN, Row, ServerCall, row};
use crate::error::Failure;
use crate::observe::monitor::Monitoring;
use crate::protocol::Args;

/// Between members, so it neither waits for a pause nor for a copy that is being loaded.
const TAKES_OVER: Flags = ADMIN.and(Flags::NO_MULTI).and(Flags::CONNECTION).and(Flags::UNPAUSED);

pub(super) const NO_CLUSTER: Failure = Failure::fixed("ERR this node has no cluster-nodes");

/// The row of this command.
#[rustfmt::skip]
pub const COMMANDS: &[Row] = &[
    row(Replication, "peer", 7, TAKES_OVER, peer)
        .help("cluster node-id host:port version list seal",
            "Sent by another node of the cluster: turns this connection into one about who leads.",
            "PEER - 0123456789abcdef0123456789abcdef01234567 a:8080 1 - 00000000 -> ERR this node has no cluster-nodes"),
];

/// The peers of this node, if it belongs to a cluster.
fn peers_of(engine: &Engine) -> Option<&Peers> {
    engine.cluster.as_ref().map(|cluster| &*cluster.peers)
}

/// The connection becomes one of a member.
fn peer(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let words: Vec<Vec<u8>> = args.from(1).map(<[u8]>::to_vec).collect();
    call.session.ending = Ending::HandOver(Box::new(move |engine, session, early| {
        let peers = peers_of(engine).ok_or(NO_CLUSTER)?;
        // From here on, only lines of members may come over the connection.
        session.subscriptions.leave_all();
        session.monitoring = Monitoring::Off;
        let client = &session.client;
        let begins = || client.becomes_peer();
        serve(peers, (&client.outbox, client.addr), &words, early, begins).map(|()| true)
    }));
    Ok(())
}
