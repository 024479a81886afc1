//! A connection that another member has dialled. Answers are sent by the thread that has them, without waiting.

use crate::clients::outbox::Outbox;
use crate::cluster::greeting::LINE_LEN_MAX;
use crate::cluster::message::Message;
use crate::cluster::term::{ClusterId, NodeId};
use crate::config::{Address, OutputLimit};
use std::sync::Arc;

/// Answers that may wait for a node to read them: 64 lines. It is cut off when more would.
pub(super) const ANSWERS_LIMIT: OutputLimit =
    OutputLimit { hard_bytes: 64 * LINE_LEN_MAX as u64, soft_bytes: 0, soft_seconds: 0 };

/// A node that has dialled this one.
#[derive(Debug)]
pub(super) struct Accepted {
    pub id: NodeId,
    /// The address under which it says that it is dialled.
    pub address: Address,
    /// The cluster that it named.
    pub cluster: Option<ClusterId>,
    pub outbox: Arc<Outbox>,
}

impl Accepted {
    /// Sends an answer. If that fails the connection is at its end, which its thread finds out.
    pub fn send(&self, message: &Message) {
        let _ = self.outbox.send(&message.line(), 0, ANSWERS_LIMIT);
    }
}
