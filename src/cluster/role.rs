//! Leader or follower: this node's role and its link to the leader, as one state under one lock.
//!
//! ```text
//!            stop_writes          follow
//!  Leading ──────────────▶ Idle ◀────────▶ Following ── link: None ─▶ Open ─▶ Ending ─▶ None
//!     ▲                     │  stop_following
//!     └─────── lead ────────┘
//! ```
//!
//! A **leader** takes writes; each restart and each promotion begins a new epoch. A **follower** takes only
//! what its leader sends; the thread `repl-in` keeps up its link. Between the two a node is **idle**.
//!
//! Invariants:
//! - Only the holder of the [`Change`] moves the role, so each change is whole before the next one begins.
//! - A node that leads has no link: only one kind of writer, clients or `repl-in`, can reach the log.
//! - A link opens only for the target in force. Another target cuts it, and its end is waited for.
//! - `hot` agrees with the state whenever the lock is free. A write reads it (one relaxed load) with its
//!   shards locked, and `stop_writes` is called with all shards locked. So after it returns, no local write
//!   can reach the log.

use super::freshness::Freshness;
use super::link::{Cut, HOPS_MAX, Link, LinkFigures, Phase};
use super::state::{FollowState, FollowTarget, FollowerSeen, LeaderAddr, RoleState, Standing};
use super::term::NodeId;
use crate::aof::record::Epoch;
use crate::config::{Config, Id};
use crate::error::{Failure, Kind};
use crate::lock::{Mutex, MutexGuard, rank};
use crate::signal::Signal;
use crate::store::effect::Seq;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// The part of the state that commands read without its lock.
const LEADS: u8 = 0;
const LINK_DOWN: u8 = 1;
const LINK_UP: u8 = 2;

/// This node's role, and what belongs to following.
#[derive(Debug, Default)]
pub struct Role {
    /// Held while the role changes. It guards no data.
    changing: Mutex<(), { rank::ROLE_CHANGE }>,
    state: Mutex<RoleState>,
    /// `LEADS`, or how a follower's link is.
    hot: AtomicU8,
    /// The nodes elect their leader.
    elects: bool,
    /// Notified after every change of the state. Shutdown notifies it, too.
    pub changed: Arc<Signal>,
    /// How old a follower's data may be.
    pub freshness: Freshness,
    /// The link's figures for operators.
    pub figures: Mutex<LinkFigures>,
}

/// The right to change the role, held by one thread at a time, possibly for seconds.
pub struct Change<'r> {
    role: &'r Role,
    _changing: MutexGuard<'r, ()>,
}

impl Change<'_> {
    /// Takes no more writes. The caller holds the locks of all shards.
    pub fn stop_writes(&self) {
        self.role.update(|state| {
            if matches!(state.standing, Standing::Leading) {
                state.standing = Standing::Idle;
            }
        });
    }

    /// Follows a node; the link to another one is cut. Writes have been stopped. `handed_over` is
    /// the new leader's id and the last record before it, if this node has handed over to it.
    pub fn follow(&self, leader: LeaderAddr, handed_over: Option<(String, Seq)>, now: u64) {
        assert!(self.role.is_follower(), "a node that takes writes must not follow");
        self.role.drop_link(now, |state| state.follow(leader, handed_over));
    }

    /// As [`Change::follow`], a node that was elected.
    pub fn follow_elected(&self, leader: LeaderAddr, elected: (NodeId, Epoch), now: u64) {
        assert!(self.role.is_follower(), "a node that takes writes must not follow");
        self.role.drop_link(now, |state| state.follow_elected(leader, elected));
    }

    /// Follows no node; the link is cut. Returns what [`Change::resume`] needs.
    pub fn stop_following(&self, now: u64) -> Option<FollowState> {
        self.role.drop_link(now, |state| {
            match std::mem::replace(&mut state.standing, Standing::Idle) {
                Standing::Following(before) => Some(before),
                _ => None,
            }
        })
    }

    /// Follows again, after the attempt to lead has failed.
    pub fn resume(&self, before: Option<FollowState>) {
        if let Some(before) = before {
            self.role.update(|state| state.follow(before.target.leader, before.handed_over));
        }
    }

    /// Leads. Its epoch is durable, and it has no link.
    pub fn lead(&self) {
        self.lead_if(|| true);
    }

    /// Leads, if the condition holds at the moment of the change. Returns whether it did.
    pub fn lead_if(&self, condition: impl FnOnce() -> bool) -> bool {
        self.role.update(|state| {
            let leads = condition();
            if leads {
                assert!(state.link.phase == Phase::None, "a leader's log has another writer");
                state.standing = Standing::Leading;
            }
            leads
        })
    }
}

impl Role {
    /// The role that the settings ask for.
    pub fn new(config: &Config) -> Role {
        let role = Role { elects: config.is_in_cluster(), ..Role::default() };
        if role.elects {
            role.update(|state| state.standing = Standing::Idle);
        }
        if let Some((host, port)) = config.leader() {
            role.update(|state| state.follow(LeaderAddr { host, port }, None));
        }
        role
    }

    /// Changes the state, and then all that depends on it.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut RoleState) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state);
        let hot = match state.standing {
            Standing::Leading => LEADS,
            _ if state.link.is_up() => LINK_UP,
            _ => LINK_DOWN,
        };
        self.hot.store(hot, Relaxed);
        drop(state);
        self.changed.notify();
        result
    }

    /// Reads the state.
    pub(super) fn read<T>(&self, read: impl FnOnce(&mut RoleState) -> T) -> T {
        read(&mut self.state.lock())
    }

    /// Waits until no other change of the role is under way.
    pub fn begin_change(&self) -> Change<'_> {
        Change { role: self, _changing: self.changing.lock() }
    }

    /// True if this node takes no writes.
    pub fn is_follower(&self) -> bool {
        self.hot.load(Relaxed) != LEADS
    }

    /// True if it takes no writes and follows no node.
    pub fn is_idle(&self) -> bool {
        self.read(|state| matches!(state.standing, Standing::Idle))
    }

    /// This node as a follower, read at one moment; none if it leads.
    pub fn as_follower(&self) -> Option<FollowerSeen> {
        self.read(RoleState::as_follower)
    }

    /// The node that this one is to follow.
    pub fn target(&self) -> Option<FollowTarget> {
        self.read(|state| state.following().map(|following| following.target.clone()))
    }

    /// The address of the node that this one follows.
    pub fn leader(&self) -> Option<LeaderAddr> {
        self.target().map(|target| target.leader)
    }

    /// True if a target is still the one to follow.
    pub fn is_in_force(&self, target: &FollowTarget) -> bool {
        self.read(|state| state.in_force(target).is_some())
    }

    /// Checks that data may be read here, as far as the role is concerned. `now` is asked only on a follower with
    /// a limit on staleness.
    pub fn may_read(&self, config: &Config, now: impl FnOnce() -> u64) -> Result<(), Failure> {
        let hot = self.hot.load(Relaxed);
        if hot == LEADS {
            return Ok(());
        }
        if hot == LINK_DOWN && !config.flag(Id::ReplicaServeStaleData) {
            let refusal = Failure::fixed(
                "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            );
            return Err(refusal.of_kind(Kind::Unavailable));
        }
        let allowed = config.int(Id::ReplicaMaxStaleness) as u64;
        if allowed == 0 {
            return Ok(());
        }
        match self.freshness.staleness_ms(now()) {
            Some(behind) if behind <= allowed => Ok(()),
            behind => Err(self.stale(behind)),
        }
    }

    /// The refusal of a write on a follower.
    pub fn readonly(&self) -> Failure {
        let leader = match self.leader() {
            Some(leader) => format!(" The leader is {leader}"),
            None if self.elects => " No leader is known, an election is under way".to_string(),
            None => String::new(),
        };
        Failure::new(format!("READONLY You can't write against a read only replica.{leader}"))
            .of_kind(Kind::ReadOnly)
    }

    /// The refusal of a read that a majority has not confirmed.
    pub fn unconfirmed(&self) -> Failure {
        let leader = match self.leader() {
            Some(leader) => format!("the leader is {leader}"),
            None => "no leader is known, an election is under way".to_string(),
        };
        Failure::new(format!("STALE a majority has not confirmed what this node has; {leader}"))
            .of_kind(Kind::Unavailable)
    }

    fn stale(&self, behind: Option<u64>) -> Failure {
        let behind = behind.map_or("an unknown time".to_string(), |ms| format!("{ms} ms"));
        let leader = self.leader().map_or("unknown".to_string(), |leader| leader.to_string());
        Failure::new(format!("STALE this follower is {behind} behind its leader, {leader}"))
            .of_kind(Kind::Unavailable)
    }
}

/// The link to the leader.
impl Role {
    /// A socket is connected to the target: from here on, a promotion waits for [`Role::end_link`]. Not while
    /// it is dialled, for that takes long if the host is gone. Returns false if the target is no longer in
    /// force.
    pub fn begin_link(&self, target: &FollowTarget, cut: Cut) -> bool {
        self.update(|state| {
            let is_in_force = state.in_force(target).is_some();
            if is_in_force {
                state.link = Link::open(cut);
            }
            is_in_force
        })
    }

    /// A full copy comes in.
    pub fn link_copies(&self) {
        self.update(|state| state.link.enter(Phase::Copying));
        self.figures.lock().full_copies += 1;
    }

    /// Records come in.
    pub fn link_came_up(&self, now: u64) {
        self.update(|state| state.link.enter(Phase::Up { hops: 0 }));
        let mut figures = self.figures.lock();
        figures.links += 1;
        figures.changed_at = now;
        figures.error = None;
    }

    /// The leader said how many links lie between it and the node that leads. Returns whether that node has
    /// just been found (true) or lost to a circle (false).
    pub fn record_hops(&self, hops: u64, now: u64) -> Option<bool> {
        let next = Phase::Up { hops: hops.saturating_add(1).min(HOPS_MAX + 1) };
        if self.read(|state| state.link.phase) == next {
            return None;
        }
        let was_up = self.link_is_up();
        self.update(|state| state.link.enter(next));
        let is_up = self.link_is_up();
        if was_up == is_up {
            return None;
        }
        self.figures.lock().changed_at = now;
        Some(is_up)
    }

    /// The link has ended: its thread appends nothing more to the log.
    pub fn end_link(&self, now: u64) {
        self.drop_link(now, |state| state.link = Link::default());
    }

    /// Cuts the link; its thread then ends it. Returns whether there was one.
    pub fn cut_link(&self) -> bool {
        self.update(|state| state.link.cut())
    }

    /// Cuts the link, if there is one, and changes the state.
    fn drop_link<T>(&self, now: u64, change: impl FnOnce(&mut RoleState) -> T) -> T {
        let (phase, result) = self.update(|state| {
            let phase = state.link.phase;
            state.link.cut();
            (phase, change(state))
        });
        if matches!(phase, Phase::Up { .. }) {
            self.figures.lock().changed_at = now;
        }
        self.freshness.link_ended();
        result
    }

    /// True if the thread of the link may still append to the log.
    pub fn is_linked(&self) -> bool {
        self.read(|state| state.link.phase != Phase::None)
    }

    /// True if records come in, or would if there were any, from a node that leads or follows one that does.
    pub fn link_is_up(&self) -> bool {
        self.hot.load(Relaxed) == LINK_UP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader() -> LeaderAddr {
        LeaderAddr { host: "a".to_string(), port: 1 }
    }

    fn following() -> (Role, FollowTarget) {
        let role = Role::default();
        let change = role.begin_change();
        change.stop_writes();
        assert!(role.is_idle() && role.is_follower());
        change.follow(leader(), None, 0);
        drop(change);
        let target = role.target().unwrap();
        (role, target)
    }

    #[test]
    fn a_new_target_ends_the_link_to_the_old_one() {
        let (role, target) = following();
        assert_eq!(target.leader, leader());
        assert!(role.begin_link(&target, Box::new(|| true)));
        let before = role.begin_change().stop_following(0);
        assert!(!role.is_in_force(&target) && role.is_linked(), "its thread has not ended it yet");
        role.end_link(0);
        assert!(!role.is_linked());
        assert!(!role.begin_link(&target, Box::new(|| true)), "an old target links no more");
        role.begin_change().resume(before);
        let again = role.target().unwrap();
        assert_eq!((again.leader, again.number), (leader(), target.number + 1));
    }

    #[test]
    fn a_link_that_was_cut_is_down_until_it_has_ended() {
        let state = |role: &Role| role.as_follower().unwrap().link_state;
        let (role, target) = following();
        assert!(role.begin_link(&target, Box::new(|| true)));
        assert_eq!(state(&role), "connecting");
        role.link_copies();
        assert_eq!(state(&role), "sync");
        role.link_came_up(7);
        assert_eq!((state(&role), role.link_is_up()), ("connected", true));
        assert!(role.cut_link() && !role.cut_link());
        role.link_came_up(8);
        assert_eq!((state(&role), role.link_is_up()), ("connect", false));
        role.end_link(9);
        role.begin_change().stop_following(9);
        role.begin_change().lead();
        assert!(!role.is_follower() && role.target().is_none());
    }

    #[test]
    fn a_leader_that_gets_further_away_without_end_does_not_exist() {
        let linked = || {
            let (role, target) = following();
            assert!(role.begin_link(&target, Box::new(|| true)));
            role.link_came_up(0);
            role
        };
        let hops = |role: &Role| role.as_follower().unwrap().hops;
        // Two nodes that tell each other how far away the leader is.
        let (one, other) = (linked(), linked());
        assert_eq!((one.record_hops(0, 1), hops(&one)), (None, 1));
        let rounds = 2 * HOPS_MAX;
        let turns = (0..rounds)
            .map(|_| (one.record_hops(hops(&other), 2), other.record_hops(hops(&one), 2)));
        let lost = turns.filter(|turn| turn.0 == Some(false) || turn.1 == Some(false)).count();
        assert!((1..=2).contains(&lost) && !one.link_is_up() && !other.link_is_up());
        assert_eq!(one.record_hops(0, 3), Some(true), "a node leads again");
        assert!(one.link_is_up());
    }
}
