//! Failover: the threads and sockets around the election of a leader ([`crate::cluster::election`]).
//!
//! ```text
//!  node a                                                           node b
//!  peers ─ peer-1   ══ PEER, ASK, BEAT ══▶   conn-9   ─▶ inbox of b
//!                   ◀═══ GIVE, HEARD ════   (thread `cluster` of b)
//!  conn-7           ◀══ PEER, ASK, BEAT ══   peer-1 ─ peers
//! ```
//!
//! Each member dials each other one on the port of its clients, gives the same password as a follower does, and sends
//! PEER. So there are two connections between two nodes, and each carries questions in one direction and their
//! answers in the other. All lines are text with a seal, and `nc` can watch them.
//!
//! What the election decides is based on silence, so no thread here may add to it:
//! - Only `peer-<n>` waits for the network. Others leave their lines in its queue, or give them to the kernel.
//! - A line that nobody answers within the election timeout means that the connection is dead, whatever TCP says: it
//!   is dialled again. For such a time nothing is known of the node at its other end, and nothing is assumed.
//! - A queue that is full drops its oldest line. A newer heartbeat says all that an older one did.
//!
//! Left out: one connection for both directions (which of the two dials, and what if it cannot?), and TLS.
//!
//! The thread `cluster` hands what comes in to the election and does what it says (`driver`); the thread `cluster-log`
//! syncs the log and begins epochs (`begin`). Without `cluster-nodes` none of them runs: then a person, a script or Redis
//! Sentinel decides which node leads.
//!
//! Reading order: [`driver`], `own_log`, `begin`, `roles`, `members`; `lines`, `dialled` (one address), [`peers`] (all of them), `accepted`, [`dialler`], `serve`, `commands`, `force`;
//! for clients: `sentinel`, [`services`].

mod accepted;
mod begin;
pub(crate) mod commands;
mod dialled;
pub mod dialler;
pub mod driver;
pub(crate) mod force;
mod lines;
pub(crate) mod members;
mod own_log;
pub mod peers;
mod roles;
pub(crate) mod sentinel;
mod serve;
pub mod services;
#[cfg(test)]
mod tests;

use crate::engine::Engine;
use crate::replication::dial;

/// The thread `peers`, if this node belongs to a cluster. Runs until shutdown.
pub fn dial_peers(engine: &Engine) {
    if let Some(cluster) = &engine.cluster {
        dialler::run(&cluster.peers, &engine.shutdown, &|| dial::password(&engine.config));
    }
}
