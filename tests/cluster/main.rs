//! Nodes that elect their leader, as whole processes: between each two of them stand proxies, one for the members'
//! messages and one for the replication link, in each direction.
//!
//! The rules themselves are held against a simulator (`tests/cluster_sim`). Here it is shown that the server obeys them.
//!
//! `KVSTORE_LONG=1` runs more rounds (`make chaos`).

#[allow(dead_code, reason = "the commands of those who only read or only write are not used here")]
#[path = "../linearizable/client.rs"]
mod client;
#[path = "../common/mod.rs"]
mod common;

mod changes;
mod chaos;
mod elections;
mod faults;
mod fixture;
mod force;
mod founding;
mod gate;
mod handover;
mod linear;
mod members;
mod network;
mod power;
mod sentinel;
mod tool;
mod votes;
