//! Instruments and their pages: INFO, `/metrics`, the status page, slow and sampled commands, latency, TRACE,
//! MONITOR. They look at the path of a request; the path does not need them to be understood.

pub(crate) mod info;
pub mod latency;
pub mod monitor;
pub mod observed;
pub(crate) mod probe;
pub mod prometheus;
pub(crate) mod replication_info;
pub mod set_aside;
pub(crate) mod slowlog;
pub mod status;
pub(crate) mod trace;
