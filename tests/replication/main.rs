//! Replication, hazard by hazard. Each module starts real nodes; between some of them stands a proxy that
//! plays the network (`common/proxy.rs`).
//!
//! `make chaos` runs the long forms.

#[path = "../common/mod.rs"]
mod common;

mod chaos;
mod copies;
mod divergence;
mod evidence;
mod handover;
mod holders;
mod misdirected;
mod notifications;
mod restarts;
mod same_bytes;
mod slow;
mod tokens;
