//! Instruments and their pages: INFO, `/metrics`, the status page, slow and sampled commands, latency, TRACE,
//! MONITOR. They look at the path of a request; the path does not need them to be understood.

pub(crate) mod cut;
mod figure;
mod figures;
pub mod http;
pub(crate) mod info;
mod json;
mod labelled;
pub mod latency;
pub mod monitor;
pub mod observed;
pub(crate) mod probe;
pub mod prometheus;
mod samples;
mod seen;
pub mod set_aside;
pub(crate) mod slowlog;
pub mod status;
pub(crate) mod trace;
mod value;

/// The version of Redis whose behaviour we follow. Tools choose their commands by it.
pub const REDIS_VERSION: &str = "7.0.15";
