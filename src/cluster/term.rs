//! What a node has promised and must remember across a power cut.
//!
//! It is written to the file `node` and fsynced before any answer that depends on it. A node that cannot write it
//! stays silent.

use crate::aof::record::Epoch;
use std::fmt;

/// Milliseconds on a clock that goes on while the machine sleeps and that nobody can set.
pub type Millis = u64;

/// A node's identity: 40 hex digits, drawn once for a directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 20]);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}{:02x}", self.0[18], self.0[19])
    }
}

/// A cluster's identity, made by its first leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClusterId(pub u64);

/// Tells whether a node can have forgotten what it acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// It has every record that it acknowledged.
    #[default]
    Whole,
    /// It may lack some. It follows and acknowledges, but its vote alone makes no majority.
    Recovering,
}

/// When and where this process could last have acknowledged a record that was not durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// The kernel's id of this boot. Empty if it cannot be read.
    pub id: String,
    /// The clock when the line was written.
    pub at: Millis,
    /// The device of the directory.
    pub device: u64,
}

impl Boot {
    /// True if all that was written before `self` is still in the page cache `now`: the same boot of the machine,
    /// the same disk. An unreadable id equals nothing.
    pub fn is_still(&self, now: &Boot) -> bool {
        !self.id.is_empty() && self.id == now.id && self.device == now.device && self.at <= now.at
    }
}

/// The promises of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// This node.
    pub id: NodeId,
    /// Its cluster, from the first members record on.
    pub cluster: Option<ClusterId>,
    /// The highest epoch promised: nothing older is answered, acknowledged or followed.
    pub epoch: Epoch,
    /// The node that has this node's vote in that epoch.
    pub vote: Option<NodeId>,
    /// The last epoch that this node led.
    pub led: Epoch,
    /// What this node may have forgotten.
    pub memory: Memory,
    /// None after a clean stop: the log was synced as the very last act.
    pub boot: Option<Boot>,
    /// True if it may have acknowledged a record under `ack majority`.
    pub strict: bool,
    /// The longest promise, in milliseconds, that may have been given in this epoch or an earlier one.
    pub promise: Millis,
}

impl Term {
    /// A node without a history.
    pub fn new(id: NodeId) -> Term {
        Term {
            id,
            cluster: None,
            epoch: Epoch(0),
            vote: None,
            led: Epoch(0),
            memory: Memory::Recovering,
            boot: None,
            strict: false,
            promise: 0,
        }
    }

    /// A process starts. `damaged` is true if records were cut off, a copy was interrupted or an fsync failed.
    pub fn start(&mut self, now: &Boot, damaged: bool) {
        let is_still = self.boot.as_ref().is_none_or(|boot| boot.is_still(now));
        if self.strict && (damaged || !is_still) {
            self.memory = Memory::Recovering;
        }
    }
}
