//! The thread of a connection that another member has dialled: the one of the client that it was. It answers PEER, and
//! then reads questions.

use super::accepted::{ANSWERS_LIMIT, Accepted};
use super::lines::Lines;
use super::peers::Peers;
use crate::clients::outbox::Outbox;
use crate::clients::socket::Addr;
use crate::cluster::greeting::{Greeting, Misfit};
use crate::error::Failure;
use std::fmt;
use std::sync::Arc;

/// Serves a node that has sent PEER with these words until it leaves; `early` has the bytes that were received after
/// them. An error is for the node: it does not become a peer. `begins` is called when it does.
pub fn serve(
    peers: &Peers,
    (outbox, addr): (&Arc<Outbox>, Addr),
    words: &[Vec<u8>],
    early: &[u8],
    begins: impl FnOnce(),
) -> Result<(), Failure> {
    let refuse = |why: &dyn fmt::Display| {
        peers.complain(&format!("client {} is refused as a peer: {why}", addr.ip()));
        Failure::new(format!("ERR {why}"))
    };
    let greeting = Greeting::parse(words).map_err(|misfit| refuse(&misfit))?;
    match peers.check(greeting.cluster, greeting.id) {
        Ok(()) => {}
        Err(Misfit::Itself) => {
            // A node that has dialled itself learns it from the answer.
            let _ = outbox.send(&peers.welcome().line(), 0, ANSWERS_LIMIT);
            return Ok(());
        }
        Err(misfit) => return Err(refuse(&misfit)),
    }
    peers.compare_lists(&greeting);
    let Greeting { cluster, id, address, .. } = greeting;
    let peer = Arc::new(Accepted { id, address, cluster, outbox: Arc::clone(outbox) });
    // Other threads send answers to it as soon as it is registered; this one goes first.
    let turn = outbox.turn();
    let replaced = peers.register(&peer).ok_or_else(|| refuse(&"this node has too many peers"))?;
    begins();
    let sent = turn.send(&peers.welcome().line(), 0, ANSWERS_LIMIT);
    peers.end_replaced(&replaced, &peer);
    if sent.is_ok() {
        let why = read(peers, &peer, early);
        peers.report(&format!("peer {}: its connection has ended: {why}", peer.address));
    }
    peers.forget(&peer);
    Ok(())
}

/// Reads questions until the connection ends. Returns why it did.
fn read(peers: &Peers, peer: &Accepted, early: &[u8]) -> String {
    let socket = peer.outbox.socket();
    // A follower's peers have nothing to ask for as long as the leader lives.
    if let Err(error) = socket.set_read_timeout(None) {
        return error.to_string();
    }
    let mut lines = Lines::new(socket, early);
    loop {
        let line = match lines.next() {
            Ok(line) => line,
            Err(error) => return error.to_string(),
        };
        if let Err(why) = peers.take_question(peer, &line) {
            return why.to_string();
        }
    }
}
