//! The link to the leader, as a value, and the figures that operators see of it.

use crate::store::effect::Seq;
use std::fmt;

/// A leader that is this many links away does not exist: the nodes follow each other in a circle, where the
/// number of links grows by one with each heartbeat, or the chain of followers is longer than any should be.
pub const HOPS_MAX: u64 = 32;

/// Ends a link from another thread. The link's own thread makes it, since it alone has the socket. Returns
/// whether there was something to end.
pub type Cut = Box<dyn FnOnce() -> bool + Send>;

/// How far a link has come. Unless it is `None`, its thread may append to the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    None,
    /// The two nodes agree on where to go on.
    Connecting,
    /// A full copy comes in.
    Copying,
    /// Records come in. `hops` counts the links to the node that leads; 0 is unknown.
    Up { hops: u64 },
    /// It was cut, and its thread has not ended it yet.
    Ending,
}

/// The link, which `repl-in` owns.
#[derive(Default)]
pub(super) struct Link {
    pub(super) phase: Phase,
    cut: Option<Cut>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.phase.fmt(f)
    }
}

impl Link {
    /// A link whose socket is connected.
    pub(super) fn open(cut: Cut) -> Link {
        Link { phase: Phase::Connecting, cut: Some(cut) }
    }

    /// Cuts the link. Returns whether there was one.
    pub(super) fn cut(&mut self) -> bool {
        let Some(cut) = self.cut.take() else { return false };
        self.phase = Phase::Ending;
        cut()
    }

    /// Goes on to another phase, unless it was cut.
    pub(super) fn enter(&mut self, phase: Phase) {
        if self.cut.is_some() {
            self.phase = phase;
        }
    }

    /// The state in Redis's words.
    pub(super) fn state(&self) -> &'static str {
        match self.phase {
            Phase::Up { hops } if hops <= HOPS_MAX => "connected",
            Phase::Copying => "sync",
            Phase::Connecting | Phase::Up { .. } => "connecting",
            Phase::None | Phase::Ending => "connect",
        }
    }

    /// How many links lie between this node and the one that leads; 0 is unknown.
    pub(super) fn hops(&self) -> u64 {
        if let Phase::Up { hops } = self.phase { hops } else { 0 }
    }

    /// True if records come in, or would if there were any, from a node that leads or follows one that does.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up { hops } if hops <= HOPS_MAX)
    }
}

/// The link's figures in INFO, `/metrics` and the status page. Times are milliseconds on the
/// process's clock.
#[derive(Clone, Debug, Default)]
pub struct LinkFigures {
    /// Bytes received.
    pub received_bytes: u64,
    /// When bytes were last received.
    pub heard_at: u64,
    /// When the link last came up or went down.
    pub changed_at: u64,
    /// The newest record that the leader has named.
    pub leader_seq: Seq,
    /// Links that came up.
    pub links: u64,
    /// Full copies received.
    pub full_copies: u64,
    /// Times that the stream was found damaged.
    pub rejected: u64,
    /// Records that only this node had and gave up.
    pub diverged_records: u64,
    /// The file with the last of them.
    pub diverged_file: Option<String>,
    /// Why the link is down, if it is.
    pub error: Option<String>,
}
