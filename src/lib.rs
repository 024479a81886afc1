//! kvstore: a key-value server that a person can telnet to and any Redis client can use.

pub mod aof;
pub mod clock;
pub mod commands;
pub mod config;
pub mod effect;
pub mod engine;
pub mod error;
pub mod glob;
pub mod metrics;
pub mod outbox;
pub mod protocol;
pub mod random;
pub mod server;
pub mod shutdown;
pub mod store;
