//! The end of the log in memory: records for which no write call has been made yet.

use crate::aof::epochs::Epochs;
use crate::aof::record::{Epoch, Position, append_header};
use crate::clock::UnixMillis;
use crate::lock::{Mutex, RwLock, rank};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Takes records, in the order in which their effects are applied.
#[derive(Debug)]
pub(super) struct Appender {
    /// A leaf lock, held for a memcpy.
    pub pending: Mutex<Pending, { rank::PENDING }>,
    /// Bytes appended and not yet written, those that the writer has taken included.
    pub pending_bytes: AtomicU64,
    /// Every epoch so far. Changed only while `pending` is locked; otherwise a leaf lock.
    pub epochs: RwLock<Epochs, { rank::EPOCHS }>,
}

/// The pending records.
///
/// - Each record follows the one before: the next seq, no older epoch, no earlier time, the crc chained.
/// - When the writer takes `bytes`, it takes all of it. So if `bytes` is empty and the writer has written all it
///   took, then the last record is written (asserted in `Log::write`).
#[derive(Debug)]
pub(super) struct Pending {
    pub bytes: Vec<u8>,
    /// The last record appended.
    pub last: Position,
    /// The epoch of the next record.
    pub epoch: Epoch,
    /// The time of the last record.
    pub at: UnixMillis,
}

impl Appender {
    pub fn new(last: Position, epochs: Epochs) -> Appender {
        let pending = Pending { bytes: Vec::new(), last, epoch: last.epoch, at: UnixMillis(0) };
        Appender {
            pending: Mutex::new(pending),
            pending_bytes: AtomicU64::new(0),
            epochs: RwLock::new(epochs),
        }
    }

    /// Adds a record of this node's own.
    pub fn add(&self, pending: &mut Pending, payload: &[u8], payload_crc: u32, now: UnixMillis) {
        let before = pending.bytes.len();
        pending.at = pending.at.max(now);
        let Pending { bytes, last, epoch, at } = pending;
        *last = append_header(bytes, *last, *epoch, *at, payload.len(), payload_crc);
        bytes.extend_from_slice(payload);
        self.pending_bytes.fetch_add((bytes.len() - before) as u64, Relaxed);
    }
}
