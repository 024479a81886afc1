//! The settings that a batch of requests reads: copied once, so that the path of a request takes no lock for
//! them and all of a batch runs under the same ones.

use super::{ClientClass, Config, Id, OutputLimit};

/// A copy of the settings as of a generation of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct ConfigSnapshot {
    generation: u64,
    /// `proto-max-bulk-len`
    pub value_len_max: usize,
    /// `client-query-buffer-limit`: also the bound of a transaction's queue, watches and record.
    pub query_bytes_max: usize,
    /// `inline-replies resp`: lines of all clients are answered in RESP.
    pub is_inline_resp: bool,
    /// `slowlog-log-slower-than`, in microseconds.
    pub slow_from: u64,
    /// `latency-monitor-threshold`, in microseconds.
    pub spike_from: u64,
    /// `client-output-buffer-limit`, by class.
    output: [OutputLimit; 3],
}

impl ConfigSnapshot {
    /// A copy of the present settings.
    pub fn of(config: &Config) -> ConfigSnapshot {
        use ClientClass::{Normal, PubSub, Replica};
        // Read first, so that a change during the copy is seen by the next refresh.
        let generation = config.generation();
        let spike_millis = config.int(Id::LatencyMonitorThreshold);
        ConfigSnapshot {
            generation,
            value_len_max: config.int(Id::ProtoMaxBulkLen) as usize,
            query_bytes_max: config.int(Id::ClientQueryBufferLimit) as usize,
            is_inline_resp: config.choice(Id::InlineReplies) == "resp",
            // A negative number turns it off.
            slow_from: u64::try_from(config.int(Id::SlowlogLogSlowerThan)).unwrap_or(u64::MAX),
            spike_from: if spike_millis > 0 { spike_millis as u64 * 1000 } else { u64::MAX },
            output: [Normal, Replica, PubSub].map(|class| config.output_limit(class)),
        }
    }

    /// Copies the settings again if they have changed; costs one load if not.
    pub fn refresh(&mut self, config: &Config) {
        if self.generation != config.generation() {
            *self = ConfigSnapshot::of(config);
        }
    }

    /// The limit on output that waits for a client of this class.
    pub fn output_limit(&self, class: ClientClass) -> OutputLimit {
        self.output[class as usize]
    }
}
