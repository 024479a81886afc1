//! Two followers with one node id: somebody has copied a data directory, with the file `node` in it.
//!
//! To WAIT, and in INFO, they would be one node. So while one is connected, the other is refused
//! with words. A node that dials again after a lost link, or after a restart, must not be taken for a copy of
//! itself: its old link may look alive here for as long as `repl-timeout`. It is told apart so:
//!
//! - the same process (its run id is in the request) may always come again;
//! - another one may, unless the older link brings acknowledgements *after* the request. A living follower
//!   sends one for each heartbeat, ten times a second. A dead one sends none, but some may be on their way, so
//!   a few are waited for.

use super::{ClientId, Followers};
use crate::shutdown::Shutdown;
use crate::signal::Signal;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So many acknowledgements show that a link is alive.
const ACKS_ALIVE: u64 = 3;
/// How long they are waited for.
const PROBE: Duration = Duration::from_secs(2);

/// The processes that follow, or are being answered.
#[derive(Debug, Default)]
pub struct Twins {
    claims: Mutex<Vec<Claim>>,
    /// Moved by each acknowledgement, and when a claim ends.
    pub changed: Arc<Signal>,
}

#[derive(Clone, Debug)]
struct Claim {
    client: ClientId,
    node_id: String,
    run_id: String,
}

/// A follower's claim to its node id, held as long as its connection is a follower's.
pub struct Claimed<'t> {
    twins: &'t Twins,
    client: ClientId,
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        self.twins.claims.lock().retain(|claim| claim.client != self.client);
        self.twins.changed.notify();
    }
}

impl Followers {
    /// Claims a node id for a connection. An error is the address of the living follower that has it.
    pub fn claim(
        &self,
        client: ClientId,
        node_id: &str,
        run_id: &str,
        shutdown: &Shutdown,
    ) -> Result<Claimed<'_>, String> {
        let twins = &self.twins;
        let (node_id, run_id) = (node_id.to_string(), run_id.to_string());
        let is_older = |other: &&Claim| {
            other.node_id == node_id && (run_id.is_empty() || other.run_id != run_id)
        };
        let mut claims = twins.claims.lock();
        let older: Vec<ClientId> =
            claims.iter().filter(is_older).map(|claim| claim.client).collect();
        claims.push(Claim { client, node_id, run_id });
        drop(claims);
        let claimed = Claimed { twins, client };
        let acks: Vec<u64> = older.iter().map(|client| self.acks_of(*client)).collect();
        let alive = || {
            older
                .iter()
                .zip(&acks)
                .find(|(client, acks)| self.acks_of(**client) >= **acks + ACKS_ALIVE)
        };
        let is_gone =
            |client: &ClientId| !twins.claims.lock().iter().any(|claim| claim.client == *client);
        twins.changed.wait_until(Instant::now().checked_add(PROBE), || {
            shutdown.is_requested() || older.iter().all(is_gone) || alive().is_some()
        });
        match alive().filter(|(client, _)| !is_gone(client)) {
            Some((client, _)) => Err(self.address_of(*client)),
            None => Ok(claimed),
        }
    }

    fn acks_of(&self, client: ClientId) -> u64 {
        self.find(client).map_or(0, |follower| follower.acks())
    }

    fn address_of(&self, client: ClientId) -> String {
        let address =
            |follower: Arc<super::Follower>| format!("{}:{}", follower.host, follower.port);
        self.find(client).map_or(String::new(), address)
    }

    fn find(&self, client: ClientId) -> Option<Arc<super::Follower>> {
        self.all().into_iter().find(|follower| follower.client == client)
    }
}
