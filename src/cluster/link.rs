//! The link to the leader, as one value, and the figures that operators see of it.
//!
//! The thread `repl-in` owns the link; [`super::role::Role`] holds its state, so that a change of role and
//! the link never contradict each other.

use crate::store::effect::Seq;
use std::fmt;

/// A leader that is this many links away does not exist: the nodes follow each other in a circle, where the
/// number of links grows by one with each heartbeat, or the chain of followers is longer than any should be.
pub const HOPS_MAX: u64 = 32;

/// Ends a link from another thread. The link's own thread makes it, since it alone has the socket. Returns
/// whether there was something to end.
pub struct Cut(Box<dyn FnOnce() -> bool + Send>);

impl Cut {
    /// A way to end a link.
    pub fn new(cut: impl FnOnce() -> bool + Send + 'static) -> Cut {
        Cut(Box::new(cut))
    }
}

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cut")
    }
}

/// The link. Until it is `None` again, its thread may append to the log.
#[derive(Debug, Default)]
pub(super) enum Link {
    /// There is none.
    #[default]
    None,
    /// A socket is connected to the leader.
    Open(Phase, Cut),
    /// It was cut, and its thread has not ended it yet.
    Ending,
}

/// How far an open link has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The two nodes agree on where to go on.
    Connecting,
    /// A full copy comes in.
    Copying,
    /// Records come in.
    Up {
        /// Links between this node and the one that leads; 0 until the first heartbeat.
        hops: u64,
    },
}

impl Link {
    /// Cuts an open link. Returns whether there was one.
    pub(super) fn cut(&mut self) -> bool {
        match std::mem::take(self) {
            Link::None => false,
            Link::Ending => {
                *self = Link::Ending;
                false
            }
            Link::Open(_, cut) => {
                *self = Link::Ending;
                (cut.0)()
            }
        }
    }

    /// The phase of an open link.
    pub(super) fn phase(&self) -> Option<Phase> {
        if let Link::Open(phase, _) = self { Some(*phase) } else { None }
    }

    /// Moves an open link to another phase. One that was cut stays so.
    pub(super) fn enter(&mut self, next: Phase) {
        if let Link::Open(phase, _) = self {
            *phase = next;
        }
    }

    /// Links to the node that leads; 0 is unknown, and more than [`HOPS_MAX`] is a circle.
    pub(super) fn hops(&self) -> u64 {
        if let Some(Phase::Up { hops }) = self.phase() { hops } else { 0 }
    }

    /// Whether records come in, or would if there were any, from a node that leads or follows one that does.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.phase(), Some(Phase::Up { hops }) if hops <= HOPS_MAX)
    }
}

/// What operators see of the link: INFO, `/metrics` and the status page. Its thread keeps them up to date.
#[derive(Clone, Debug, Default)]
pub struct LinkFigures {
    /// Bytes received.
    pub received_bytes: u64,
    /// Milliseconds on the process's clock when bytes were last received.
    pub heard_at: u64,
    /// Milliseconds on the process's clock when the link last came up or went down.
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
