//! Nodes that elect their leader, as whole processes: between each two of them stand proxies, one for the members'
//! messages and one for the replication link, in each direction.
//!
//! The rules themselves are held against a simulator (`tests/cluster_sim`). Here it is shown that the server obeys them.
//!
//! `KVSTORE_LONG=1` runs more rounds (`make chaos`).

#[path = "../common/mod.rs"]
mod common;

mod elections;
mod fixture;
mod sentinel;
mod tool;
