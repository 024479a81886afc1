//! Replication: followers have the leader's log, byte for byte, and therefore its data.
mod copy;
pub mod cursor;
pub mod follower;
mod incoming;
pub mod leader;
pub mod wire;
