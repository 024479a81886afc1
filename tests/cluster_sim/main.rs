//! The election against a model of everything that can go wrong, with time and chance from a seed.

mod check;
mod clients;
mod faults;
mod node;
mod replication;
mod world;

use kvstore::cluster::mutant::Mutant;
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

#[test]
fn each_broken_rule_is_noticed() {
    let max = env("KVSTORE_SIM_MUTANT_SEEDS").unwrap_or(MUTANT_SEEDS);
    let only = std::env::var("KVSTORE_SIM_MUTANT").ok();
    let mut missed = Vec::new();
    if let (Some(seed), Some(only)) = (env("KVSTORE_SIM_SEED"), &only) {
        let mutant = Mutant::ALL.into_iter().find(|mutant| format!("{mutant:?}") == *only);
        fail(seed, Some(mutant.expect("a name of Mutant")));
    }
    for mutant in Mutant::ALL {
        let name = format!("{mutant:?}");
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let start = Instant::now();
        let noticed = search(1, |seed| match run(seed, Some(mutant), false) {
            Err((what, _)) => Some(Some((seed, what))),
            Ok(_) => (seed >= max).then_some(None),
        });
        match noticed {
            Some((seed, what)) => println!("{name}: seed {seed}, {:?}: {what}", start.elapsed()),
            None => missed.push(name),
        }
    }
    assert!(missed.is_empty(), "not noticed within {max} seeds: {missed:?}");
}
