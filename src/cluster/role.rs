//! LeaderAddr or follower: which of the two this node is, and how that changes.
//!
//! A **leader** takes writes; each restart and each promotion begins a new epoch. A **follower** takes none
//! but what its leader sends; the thread `repl-in` carries out its orders: whom to follow, or nobody.
//!
//! ```text
//!                 REPLICAOF host port
//!      ┌──────────────────────────────────────────┐
//!      │  all shards locked: no write is half done │
//!   leader                                      follower
//!      │  the link has ended, a new epoch begins  │
//!      └──────────────────────────────────────────┘
//!                 REPLICAOF NO ONE
//! ```
//!
//! A write looks at the role while it holds the lock of its shard, and the step down takes all those locks.
//! So behind it no write of ours can come to the log any more, and a look costs one relaxed load.

use super::link::Link;
use super::wishes::Wishes;
use crate::config::{Config, Id};
use crate::engine::Engine;
use crate::engine::execute::LOADING;
use crate::error::Failure;
use crate::loading::Loading;
use crate::replication::replacement;
use crate::shutdown::Shutdown;
use crate::signal::Signal;
use crate::store::Scope;
use crate::store::effect::Seq;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long a promotion waits for the link to end: its thread may be taking over a full copy.
const STOP_WAIT_MAX: Duration = Duration::from_secs(5);

/// Whom to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderAddr {
    /// Its name or address, as it was given.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// What `repl-in` is to do.
#[derive(Clone, Debug)]
pub struct FollowTarget {
    /// Whom to follow.
    pub leader: LeaderAddr,
    /// Counts orders: a link of an older one is to end.
    pub number: u64,
}

#[derive(Debug, Default)]
struct FollowState {
    leader: Option<LeaderAddr>,
    number: u64,
    /// `repl-in` has a link, and so may come to the log.
    linked: bool,
}

/// What this node is, and how well it does as a follower.
#[derive(Debug, Default)]
pub struct Role {
    follower: AtomicBool,
    /// Data is being read back: there is nothing to see.
    pub loading: Arc<Loading>,
    /// PROMOTEs that wait for the leader to hand over.
    pub wishes: Wishes,
    /// The node that this one has handed the lead to, and the last record before.
    handed_over: Mutex<Option<(String, Seq)>>,
    /// Held while the role changes.
    changing: Mutex<()>,
    orders: Mutex<FollowState>,
    /// An order has come, a link has ended, a leader was dialled. Shutdown wakes it, too.
    pub moved: Arc<Signal>,
    /// The link to the leader.
    pub link: Link,
}

impl Role {
    /// The role that the settings ask for.
    pub fn new(config: &Config, loading: Arc<Loading>) -> Role {
        let role = Role { loading, ..Role::default() };
        if let Some((host, port)) = config.leader() {
            role.follower.store(true, Relaxed);
            *role.orders.lock() =
                FollowState { leader: Some(LeaderAddr { host, port }), number: 1, linked: false };
        }
        role
    }

    /// Whether this node follows another.
    pub fn is_follower(&self) -> bool {
        self.follower.load(Relaxed)
    }

    /// Whether data is being read back.
    pub fn is_loading(&self) -> bool {
        self.loading.is_active()
    }

    /// While a full copy is taken over, reads are refused.
    pub fn set_loading(&self, loading: bool) {
        self.loading.set_active(loading);
    }

    /// This node no longer leads behind a record: another is to.
    pub fn note_handed_over(&self, node_id: String, last: Seq) {
        *self.handed_over.lock() = Some((node_id, last));
    }

    /// Whether that node is to lead behind this record, and has perhaps not heard of it.
    pub fn has_handed_over(&self, node_id: &str, last: Seq) -> bool {
        let is_it = |(id, seq): &(String, Seq)| id == node_id && *seq == last;
        self.is_follower() && self.handed_over.lock().as_ref().is_some_and(is_it)
    }

    /// Whom this node follows.
    pub fn leader(&self) -> Option<LeaderAddr> {
        self.orders.lock().leader.clone()
    }

    /// For `repl-in`, which has nothing to do: waits for an order. None at shutdown.
    pub fn next_order(&self, shutdown: &Shutdown) -> Option<FollowTarget> {
        let mut order = None;
        self.moved.wait_until(None, || {
            let FollowState { leader, number, .. } = &*self.orders.lock();
            order = leader.clone().map(|leader| FollowTarget { leader, number: *number });
            order.is_some() || shutdown.is_requested()
        });
        order.filter(|_| !shutdown.is_requested())
    }

    /// Whether an order is still in force.
    pub fn is_in_force(&self, order: &FollowTarget) -> bool {
        self.orders.lock().number == order.number
    }

    /// A link has been dialled: from here on, a promotion waits for its end. Not before, for dialling a
    /// host that is gone takes its time. Returns false if the order is no longer in force.
    pub fn begin_link(&self, order: &FollowTarget) -> bool {
        let mut orders = self.orders.lock();
        orders.linked = orders.number == order.number;
        orders.linked
    }

    /// The link has ended: nothing that came over it comes to the log any more.
    pub fn end_link(&self) {
        self.link.went_down();
        self.set_loading(false);
        self.orders.lock().linked = false;
        self.moved.notify();
    }

    /// Waits before the next try, unless the order changes or the server ends.
    pub fn pause(&self, order: &FollowTarget, time: Duration, shutdown: &Shutdown) {
        let deadline = Instant::now() + time;
        let over = || !self.is_in_force(order) || shutdown.is_requested();
        self.moved.wait_until(Some(deadline), over);
    }

    /// Replaces the order and cuts the link of the one before.
    fn give_order(&self, leader: Option<LeaderAddr>) {
        let mut orders = self.orders.lock();
        orders.leader = leader;
        orders.number += 1;
        self.link.went_down();
        drop(orders);
        self.moved.notify();
    }

    /// Waits until the link of the order before has ended.
    fn wait_unlinked(&self) -> bool {
        let deadline = Instant::now() + STOP_WAIT_MAX;
        self.moved.wait_until(Some(deadline), || !self.orders.lock().linked)
    }

    /// Whether data may be read here, as far as the role is concerned.
    pub fn may_read(&self, config: &Config) -> Result<(), Failure> {
        if !self.is_follower() {
            return Ok(());
        }
        if !self.link.is_up() && !config.flag(Id::ReplicaServeStaleData) {
            return Err(Failure::fixed(
                "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            ));
        }
        let allowed = config.int(Id::ReplicaMaxStaleness) as u64;
        match self.link.staleness_ms() {
            _ if allowed == 0 => Ok(()),
            Some(behind) if behind <= allowed => Ok(()),
            behind => Err(self.stale(behind)),
        }
    }

    /// The refusal of a write on a follower.
    pub fn readonly(&self) -> Failure {
        let leader = self.leader().map_or(String::new(), |leader| {
            format!(" The leader is {}:{}", leader.host, leader.port)
        });
        Failure::new(format!("READONLY You can't write against a read only replica.{leader}"))
    }

    fn stale(&self, behind: Option<u64>) -> Failure {
        let behind = behind.map_or("an unknown time".to_string(), |ms| format!("{ms} ms"));
        let leader = self
            .leader()
            .map_or("unknown".to_string(), |leader| format!("{}:{}", leader.host, leader.port));
        Failure::new(format!("STALE this follower is {behind} behind its leader, {leader}"))
    }
}

impl Engine {
    /// Follows another node from now on; what only this one has is saved and given up once that is known.
    /// Returns false if it does so already.
    pub fn follow(&self, leader: LeaderAddr) -> Result<bool, Failure> {
        if self.persistence.is_none() {
            return Err(Failure::fixed("ERR a follower needs a log: start with appendonly yes"));
        }
        let _changing = self.role.changing.lock();
        if self.role.leader().as_ref() == Some(&leader) {
            return Ok(false);
        }
        // To step down takes all shards, which a load holds.
        if !self.role.is_follower() && self.role.is_loading() {
            return Err(LOADING);
        }
        self.take_no_writes();
        log::warn!("this node follows {}:{} from now on", leader.host, leader.port);
        self.config.set_leader(Some((&leader.host, leader.port)));
        *self.role.handed_over.lock() = None;
        self.role.give_order(Some(leader));
        Ok(true)
    }

    /// From when this returns on, no write of a client's comes to the log.
    fn take_no_writes(&self) {
        if !self.role.is_follower() {
            // With all shards locked, no write is between its look at the role and the log.
            let all = self.store.begin_scope(Scope::All, true, || self.clock.now());
            self.role.follower.store(true, Relaxed);
            drop(all);
            // WAIT would wait in vain.
            self.followers.acknowledged.notify();
        }
    }

    /// Takes no writes any more, and follows nobody yet: the first step of handing over.
    pub fn step_down(&self) -> Result<(), &'static str> {
        let _changing = self.role.changing.lock();
        if self.role.is_follower() {
            return Err("this node does not lead");
        }
        self.take_no_writes();
        Ok(())
    }

    /// For `repl-in`, whose leader has handed over: leads from now on.
    pub fn take_lead(&self, order: &FollowTarget) -> Result<(), Failure> {
        let _changing = self.role.changing.lock();
        if !self.role.is_in_force(order) {
            return Ok(());
        }
        self.begin_to_lead().map_err(cannot_lead)?;
        let mut orders = self.role.orders.lock();
        (orders.leader, orders.number) = (None, orders.number + 1);
        Ok(())
    }

    /// Leads from now on, in a new epoch that is durable before the first write. Returns false if it does
    /// so already.
    pub fn lead(&self) -> Result<bool, Failure> {
        let _changing = self.role.changing.lock();
        self.end_link_and_lead()
    }

    /// Leads again: the node that this one has handed over to, at this record, has declined.
    pub fn take_back_lead(&self, node_id: &str, last: Seq) -> Result<(), Failure> {
        let _changing = self.role.changing.lock();
        if self.role.has_handed_over(node_id, last) {
            self.end_link_and_lead()?;
        }
        Ok(())
    }

    /// While the role is locked.
    fn end_link_and_lead(&self) -> Result<bool, Failure> {
        if !self.role.is_follower() {
            return Ok(false);
        }
        let before = self.role.leader();
        self.role.give_order(None);
        let result = match self.role.wait_unlinked() {
            true => self.begin_to_lead(),
            false => Err("a full copy is being taken over; try again later".to_string()),
        };
        result.map_err(|why| {
            self.role.give_order(before);
            cannot_lead(why)
        })?;
        Ok(true)
    }

    /// `repl-in` has no link: nobody else appends.
    fn begin_to_lead(&self) -> Result<(), String> {
        let persistence = self.persistence.as_ref().ok_or("there is no log")?;
        if self.role.is_loading() {
            return Err("the data is being loaded".to_string());
        }
        // A copy of the leader's data that was not taken over must never replace what is written from now on.
        replacement::drop_pending(&persistence.dir).map_err(|error| {
            format!("a full copy of the leader's data waits, and cannot be set aside: {error}")
        })?;
        persistence.aside.note_change();
        let epoch = persistence.begin_epoch(self.clock.now()).map_err(|error| error.to_string())?;
        self.config.set_leader(None);
        *self.role.handed_over.lock() = None;
        self.role.follower.store(false, Relaxed);
        self.role.wishes.changed.notify();
        log::warn!("this node leads from now on, in epoch {}", epoch.0);
        Ok(())
    }
}

fn cannot_lead(why: String) -> Failure {
    Failure::new(format!("ERR cannot lead: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_order_ends_what_the_old_one_said() {
        let (role, shutdown) = (Role::default(), Shutdown::new());
        let leader = LeaderAddr { host: "a".to_string(), port: 1 };
        role.give_order(Some(leader.clone()));
        let order = role.next_order(&shutdown).unwrap();
        assert_eq!(order.leader, leader);
        assert!(role.begin_link(&order));
        role.give_order(None);
        assert!(!role.is_in_force(&order) && role.orders.lock().linked);
        role.end_link();
        assert!(role.wait_unlinked() && !role.begin_link(&order), "an old order links no more");
        shutdown.request();
        assert!(role.next_order(&shutdown).is_none());
    }
}
