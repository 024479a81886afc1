//! Hazard: the client library does a write twice, loses a connection, hands a reply to the wrong caller, or reads
//! from before its own write.

#[path = "../common/mod.rs"]
mod common;

mod failover;
mod pool;
mod program;
mod rules;
mod scripted;
mod sessions;
mod subscriptions;

use kvstore::client::{Builder, Client};
use std::time::Duration;

/// Settings for a client of these ports. The deadline is one that only a hang reaches.
fn builder(ports: &[u16]) -> Builder {
    Client::builder()
        .nodes(ports.iter().map(|port| format!("127.0.0.1:{port}")))
        .checkout(common::DEADLINE)
        .deadline(common::DEADLINE)
        .connect(Duration::from_secs(2))
}

fn client(ports: &[u16]) -> Client {
    builder(ports).build().expect("valid settings")
}
