//! Two followers with one node id: somebody has copied a data directory, with the file `node` in it.
//!
//! To WAIT, and in INFO, they would be one node. So while one is connected, the other is refused with words. A
//! node that dials again after a lost link, or after a restart, must not be taken for a copy of itself: its old
//! link may look alive here for as long as `repl-timeout`. It is told apart so:
//!
//! - the same process (its run id is in the request) may always come again; its older link ends by itself, or
//!   by `repl-timeout`, and both count once;
//! - another one may, unless the older link brings acknowledgements *after* the request. A living follower
//!   sends several a second. A dead one sends none, but some may be on their way, so a few are waited for. The
//!   link of a dead one is ended: should it wake up, it has to ask again.

use super::progress::{Progress, ReplicaProgress};
use crate::engine::{Client, ClientId};
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
    client: Arc<Client>,
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
        self.twins.claims.lock().retain(|claim| claim.client.id != self.client);
        self.twins.changed.notify();
    }
}

impl Progress {
    /// Claims a node id for a connection, and ends older ones that are dead. An error is the address of the
    /// living follower that has the id.
    pub fn claim(
        &self,
        client: &Arc<Client>,
        node_id: &str,
        run_id: &str,
        shutdown: &Shutdown,
    ) -> Result<Claimed<'_>, String> {
        let twins = &self.twins;
        let (node_id, run_id) = (node_id.to_string(), run_id.to_string());
        let mut claims = twins.claims.lock();
        let older: Vec<Claim> =
            claims.iter().filter(|other| other.node_id == node_id).cloned().collect();
        claims.push(Claim { client: Arc::clone(client), node_id, run_id: run_id.clone() });
        drop(claims);
        let claimed = Claimed { twins, client: client.id };
        let is_other = |claim: &&Claim| run_id.is_empty() || claim.run_id != run_id;
        if let Some(alive) = self.living(older.iter().filter(is_other), shutdown) {
            return Err(format!("{}:{}", alive.host, alive.port));
        }
        older.iter().filter(is_other).for_each(|claim| claim.client.kill());
        Ok(claimed)
    }

    /// One of these that acknowledges what it is sent, if there is one; looks for some time.
    fn living<'c>(
        &self,
        claims: impl Iterator<Item = &'c Claim>,
        shutdown: &Shutdown,
    ) -> Option<Arc<ReplicaProgress>> {
        let find = |client| self.all().into_iter().find(|follower| follower.client == client);
        let before: Vec<(ClientId, u64)> = claims
            .map(|claim| claim.client.id)
            .map(|client| (client, find(client).map_or(0, |follower| follower.acks())))
            .collect();
        let living = || {
            let is_alive =
                |follower: &Arc<ReplicaProgress>, acks: u64| follower.acks() >= acks + ACKS_ALIVE;
            before.iter().find_map(|(client, acks)| find(*client).filter(|it| is_alive(it, *acks)))
        };
        let all_gone = || {
            let claims = self.twins.claims.lock();
            !before.iter().any(|(client, _)| claims.iter().any(|claim| claim.client.id == *client))
        };
        self.twins.changed.wait_until(Instant::now().checked_add(PROBE), || {
            shutdown.is_requested() || all_gone() || living().is_some()
        });
        living()
    }
}
