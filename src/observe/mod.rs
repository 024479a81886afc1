//! Instruments and their pages: INFO, `/metrics`, the status page, slow and sampled commands, latency, TRACE,
//! MONITOR. They look at the path of a request; the path does not need them to be understood.

pub(crate) mod cut;
mod figure;
mod figures;
pub mod history;
pub mod http;
pub(crate) mod info;
mod json;
mod labelled;
pub mod latency;
pub mod load;
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

use crate::metrics::latency::Latency;
use monitor::Monitors;
use observed::RecentCommands;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// The version of Redis whose behaviour we follow. Tools choose their commands by it.
pub const REDIS_VERSION: &str = "7.0.15";

/// What was seen of the commands that ran.
#[derive(Debug, Default)]
pub struct Instruments {
    /// Slow commands.
    pub slowlog: RecentCommands,
    /// Commands sampled by TRACE SAMPLE.
    pub samples: RecentCommands,
    /// TRACE SAMPLE: one command in so many is sampled; 0 is off.
    pub(crate) sample_every: AtomicU32,
    /// Slow events, by kind.
    pub latency: Latency,
    /// The last minutes, for the status page.
    pub history: history::History,
    /// MONITOR clients.
    pub monitors: Arc<Monitors>,
}
