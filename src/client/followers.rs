//! The nodes that sessions may read from.

use super::cluster::Target;
use super::pool::Pool;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A follower that failed is not asked for this time.
const AVOIDED: Duration = Duration::from_secs(1);

/// One pool for each node that the user named. Connections are opened when a session reads from it.
#[derive(Debug)]
pub(super) struct Followers {
    all: Vec<Follower>,
    started: Instant,
}

/// A node as one to read from.
#[derive(Debug)]
pub(super) struct Follower {
    addr: String,
    pub pool: Pool<Target>,
    /// It is avoided until this time, in milliseconds since the client started.
    avoided_until_ms: AtomicU64,
}

impl Followers {
    /// These nodes, each with its pool.
    pub fn new(nodes: impl Iterator<Item = (String, Pool<Target>)>) -> Followers {
        let follower = |(addr, pool)| Follower { addr, pool, avoided_until_ms: AtomicU64::new(0) };
        Followers { all: nodes.map(follower).collect(), started: Instant::now() }
    }

    /// The first from number `turn` on that does not lead and has not failed lately.
    pub fn next(&self, turn: usize, leader: Option<&str>) -> Option<&Follower> {
        let (now_ms, count) = (self.now_ms(), self.all.len());
        let mut in_turn = (0..count).map(|at| &self.all[(turn + at) % count]);
        in_turn.find(|follower| {
            Some(follower.addr.as_str()) != leader
                && follower.avoided_until_ms.load(Relaxed) <= now_ms
        })
    }

    /// The follower has failed.
    pub fn avoid(&self, follower: &Follower) {
        let until_ms = self.now_ms() + AVOIDED.as_millis() as u64;
        follower.avoided_until_ms.store(until_ms, Relaxed);
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}
