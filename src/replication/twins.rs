//! Two followers with one node id: a data directory was copied together with its file `node`.
//!
//! To WAIT, and in INFO, they would be one node. So while one is connected, the other is refused with an
//! explanation. A node that dials again after a lost link, or after a restart, must not be taken for a copy of
//! itself, although its old link may look alive here for as long as `repl-timeout`:
//!
//! - The same process (its run id is in the request) may always come again. Its older link ends by itself, or
//!   by `repl-timeout`, and both count once.
//! - Another process may come unless the older link brings acknowledgements *after* the request. A living
//!   follower sends several a second. A dead one sends none, but some may be on their way, so several are
//!   waited for. The link of a dead follower is ended: should it wake up, it has to ask again.

use super::wire::Request;
use crate::cluster::progress::{Claim, LinkId, Progress, ReplicaProgress};
use crate::engine::{Client, Engine};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// This many acknowledgements show that a link is alive.
const ACKS_ALIVE: u64 = 3;
/// How long they are waited for.
const PROBE: Duration = Duration::from_secs(2);

/// A follower's claim to its node id, held as long as its connection is a follower's.
pub struct Claimed<'p> {
    followers: &'p Progress,
    link: LinkId,
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        self.followers.claims.lock().retain(|claim| claim.link != self.link);
        self.followers.acknowledged.notify();
    }
}

/// Claims the node id of a request for its connection, and ends older links that are dead. An error is the
/// address of the living follower that has the id.
pub fn claim<'e>(
    engine: &'e Engine,
    client: &Client,
    request: &Request,
) -> Result<Claimed<'e>, String> {
    let followers = &engine.followers;
    let Request { node_id, run_id, .. } = request.clone();
    let link = LinkId(client.id.0);
    let mut claims = followers.claims.lock();
    let mut others: Vec<Claim> =
        claims.iter().filter(|it| it.node_id == node_id).cloned().collect();
    claims.push(Claim { link, node_id, run_id });
    drop(claims);
    let claimed = Claimed { followers, link };
    others.retain(|other| request.run_id.is_empty() || other.run_id != request.run_id);
    let others: Vec<LinkId> = others.into_iter().map(|other| other.link).collect();
    if let Some(alive) = living(engine, &others) {
        return Err(format!("{}:{}", alive.host, alive.port));
    }
    let is_other = |client: &&Arc<Client>| others.contains(&LinkId(client.id.0));
    engine.clients.all().iter().filter(is_other).for_each(|client| client.kill());
    Ok(claimed)
}

/// One of these that acknowledges what it is sent, if there is one. Waits for its acknowledgements.
fn living(engine: &Engine, links: &[LinkId]) -> Option<Arc<ReplicaProgress>> {
    let followers = &engine.followers;
    let acks = |link| followers.find(link).map_or(0, |follower| follower.acks());
    let before: Vec<(LinkId, u64)> = links.iter().map(|link| (*link, acks(*link))).collect();
    let living = || {
        before.iter().find_map(|(link, acks)| {
            followers.find(*link).filter(|follower| follower.acks() >= acks + ACKS_ALIVE)
        })
    };
    let all_gone = || !followers.claims.lock().iter().any(|claim| links.contains(&claim.link));
    followers.acknowledged.wait_until(Instant::now().checked_add(PROBE), || {
        engine.shutdown.is_requested() || all_gone() || living().is_some()
    });
    living()
}
