//! The state of this node and of the nodes around it. Nothing here acts.
//!
//! ```text
//!  role        leads, follows, or neither while that changes; the link to the leader; PROMOTEs that wait
//!  freshness   how old a follower's data may be
//!  progress    how far each follower of this node has come
//! ```
//!
//! No file here starts a thread, owns a socket or reads a clock. Times are arguments, in milliseconds of the
//! process's own clock (`Engine::uptime_ms`), so each rule can be tested by itself. The threads and sockets
//! are in [`crate::replication`], and so are the steps of a change of role (`replication/transition.rs`).
//!
//! # Where votes will go
//!
//! Today a person, a script or Redis Sentinel decides which node leads, and the epoch is begun by the node
//! that was chosen. With votes, the term (epoch and vote) becomes one more file here, `Standing` in `state.rs`
//! gains a candidate, and the rule for what a majority has is read from `progress.rs`.

pub mod election;
pub(crate) mod freshness;
pub(crate) mod handover;
mod leading;
pub(crate) mod link;
pub mod members;
pub mod message;
pub mod mutant;
pub(crate) mod progress;
pub(crate) mod role;
pub(crate) mod state;
pub mod term;
