//! The election against a model of everything that can go wrong, with time and chance from a seed.
//!
//! The rules under test are the real ones (`kvstore::cluster::election`). Around them stands a model of the rest:
//! three or five machines with a disk, a clock and a process ([`node`]), a network and the drivers of the elections
//! ([`world`], [`driver`]), replication links ([`replication`]), clients whose batches are slow to reach the gate ([`clients`]).
//!
//! Faults ([`faults`]): lost, doubled, overtaken and late messages; paths cut in one or both directions, heartbeats and
//! links apart; groups that do not reach each other; kill -9, power cuts that take what was not synced, failed fsyncs,
//! clean stops, full disks, pauses, clocks that run up to 4.5 % too fast or slow, late and slow threads; full copies
//! that begin with an older base; handovers that fail; `appendfsync`, `ack`, `election-timeout` and voters that change.
//!
//! Checked after every step ([`check`]): one leader per epoch, one vote per epoch and node, every leader has all that a
//! client saw confirmed under `ack majority`, nothing committed is given up, no read is older than what was confirmed
//! before it, a leader with a live quorum is not deposed by an election; under `ack leader`, no OK in an epoch after a
//! later one began whose leader lacks the write, and every lost OK is in a log kept aside. After the last fault there is
//! a leader, and a write is confirmed, within 20 timeouts, and all nodes end with what was confirmed.
//!
//! A simulator that finds nothing proves nothing, so [`Mutant`] breaks one rule at a time, and each must be noticed.
//!
//! Four of them have a story each ([`stories`]), which takes the shortest way to the harm, with the rule and without it.
//!
//! Not modelled: nodes that never were members, two clusters that meet, a disk that goes back in time.
//!
//! `make sim` runs a billion steps. A failure prints its seed and the end of its trace; KVSTORE_SIM_SEED runs it again,
//! KVSTORE_SIM_LINES prints more, KVSTORE_SIM_MUTANT selects one broken rule.

mod check;
mod clients;
mod driver;
mod event;
mod faults;
mod mix;
mod node;
mod replication;
mod stories;
mod world;

use kvstore::cluster::mutant::Mutant;
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;
use world::World;

/// Each broken rule is to be noticed within so many runs.
const MUTANT_SEEDS: u64 = 3000;

/// Runs one seed. Returns the steps and OKs, or what was violated.
fn run(
    seed: u64,
    mutant: Option<Mutant>,
    traces: bool,
) -> Result<(u64, u64), (String, Vec<String>)> {
    let mut world = World::new(seed, mutant);
    world.trace = traces.then(Vec::new);
    let violated = |world: &mut World, until: u64| {
        while world.step(until) {
            if world.checks.violation.is_some() {
                return true;
            }
        }
        false
    };
    let ends = world.timeout * 120;
    let fails = violated(&mut world, ends) || {
        world.heal();
        let before = world.checks.oks;
        let done = ends + 20 * world.timeout;
        let fails = violated(&mut world, done);
        if !fails && mutant.is_none() {
            if world.checks.oks == before || world.leader().is_none() {
                world.checks.fail("no leader, or no write, 20 timeouts after the last fault");
            }
            world.settle(done);
            world.checks.end(&world.nodes);
        }
        world.checks.violation.is_some()
    };
    if fails {
        let what = world.checks.violation.take().unwrap_or_default();
        return Err((what, world.trace.take().unwrap_or_default()));
    }
    Ok((world.steps, world.checks.oks))
}

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Prints the end of a failed run.
fn fail(seed: u64, mutant: Option<Mutant>) -> ! {
    let (what, trace) = run(seed, mutant, true).expect_err("it failed before");
    let from = trace.len().saturating_sub(env("KVSTORE_SIM_LINES").unwrap_or(120) as usize);
    trace[from..].iter().for_each(|line| println!("{line}"));
    panic!("seed {seed}: {what}");
}

/// Calls `work` on two threads with the numbers from `first` on, until one of them returns something.
fn search<T: Send>(first: u64, work: impl Fn(u64) -> Option<T> + Sync) -> T {
    let next = AtomicU64::new(first);
    let found = Mutex::new(None);
    let search = || {
        while found.lock().expect("no thread panics").is_none() {
            let result = work(next.fetch_add(1, Relaxed));
            if result.is_some() {
                *found.lock().expect("no thread panics") = result;
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(search);
        scope.spawn(search);
    });
    found.into_inner().expect("no thread panics").expect("the search ends with a result")
}

#[test]
fn no_schedule_of_faults_breaks_a_promise() {
    let budget = env("KVSTORE_SIM_STEPS").unwrap_or(20_000_000);
    let first = env("KVSTORE_SIM_SEED").unwrap_or(1);
    let (steps, oks) = (AtomicU64::new(0), AtomicU64::new(0));
    let start = Instant::now();
    let failed = AtomicU64::new(u64::MAX);
    search(first, |seed| {
        match run(seed, None, false) {
            Ok((more, answered)) => {
                steps.fetch_add(more, Relaxed);
                oks.fetch_add(answered, Relaxed);
            }
            Err(_) => _ = failed.fetch_min(seed, Relaxed),
        }
        let is_over = steps.load(Relaxed) >= budget || failed.load(Relaxed) < u64::MAX;
        is_over.then_some(())
    });
    if failed.load(Relaxed) < u64::MAX {
        fail(failed.load(Relaxed), None);
    }
    println!("{steps:?} steps, {oks:?} OKs, {:?}", start.elapsed());
}

/// Each rule, and the first run that notices when it is broken.
const NOTICED: [(Mutant, u64); 23] = [
    (Mutant::OffsetWithoutEpoch, 145),
    (Mutant::CommitOfOldEpochs, 281),
    (Mutant::NoWaitAfterRestart, 170),
    (Mutant::RecoveringVotesCounted, 7),
    (Mutant::FenceWithOwnTimeout, 4),
    (Mutant::AskDeposes, 2),
    (Mutant::VoteTwice, 34),
    (Mutant::VoteNotSynced, 4),
    (Mutant::CachedLogEnd, 153),
    (Mutant::LinkSurvivesEpoch, 1833),
    (Mutant::GateWithoutHistory, 5),
    (Mutant::HandshakeAsAck, 421),
    (Mutant::LoadWithoutLastSeq, 5),
    (Mutant::ReadersLetThrough, 5),
    (Mutant::CopyWithoutFlag, 216),
    (Mutant::WholeFromNonLeader, 29),
    (Mutant::AnyWriteConfirmsRead, 113),
    (Mutant::RoundOfAnotherEpoch, 601),
    (Mutant::PolicyWeakenedWithoutBoot, 835),
    (Mutant::BootIgnored, 5),
    (Mutant::CommitFromBeat, 11),
    (Mutant::HeardByAddress, 11),
    (Mutant::TwoMembersChanges, 1678),
];

/// Chance hardly ever makes the schedules that the others need, or checks of every step would not see them. Unit tests
/// of `cluster/election` make them, and [`stories`].
const BY_HAND: [Mutant; 7] = [
    Mutant::AckWithoutEpoch,
    Mutant::OwnLevelWithoutEpoch,
    Mutant::PromiseNotBindingCandidate,
    Mutant::LateBeatLowersPromise,
    Mutant::NoPreVote,
    Mutant::RemovedNeverAsk,
    Mutant::ForgetsHowFar,
];

/// No run notices it any more: a members record is durable before it is acknowledged, and so is all that comes before it.
/// The rule stays for a disk that has failed.
const COVERED: [Mutant; 1] = [Mutant::StrictClearedOnAppend];

/// The search begins at the run that is known to notice; with KVSTORE_SIM_SEED at that one.
#[test]
fn each_broken_rule_is_noticed() {
    let only = std::env::var("KVSTORE_SIM_MUTANT").ok();
    let mut missed = Vec::new();
    for (mutant, known) in NOTICED {
        let name = format!("{mutant:?}");
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let (first, start) = (env("KVSTORE_SIM_SEED").unwrap_or(known), Instant::now());
        let noticed = search(first, |seed| match run(seed, Some(mutant), false) {
            Err((what, _)) => Some(Some((seed, what))),
            Ok(_) => (seed >= first + MUTANT_SEEDS).then_some(None),
        });
        match noticed {
            Some((seed, what)) => println!("{name}: seed {seed}, {:?}: {what}", start.elapsed()),
            None => missed.push(name),
        }
    }
    assert!(missed.is_empty(), "not noticed within {MUTANT_SEEDS} runs: {missed:?}");
    let all: HashSet<Mutant> =
        NOTICED.map(|(mutant, _)| mutant).into_iter().chain(BY_HAND).chain(COVERED).collect();
    assert_eq!(all.len(), Mutant::ALL.len(), "a rule has no run and no test");
}
