//! The memory limit: how much is in use, and which keys go when it is too much.

pub mod account;
pub mod arenas;
pub(crate) mod evict;
pub mod evictor;
pub(crate) mod limit;
pub mod recency;
pub mod sample;
