//! kvstore: a key-value server that a person can telnet to and any Redis client can use.

pub mod config;
