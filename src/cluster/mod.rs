//! What this node is among others: its role, the link to its leader, the progress of its followers.

pub(crate) mod link;
pub(crate) mod progress;
pub(crate) mod role;
pub(crate) mod twins;
pub(crate) mod wishes;
