//! Four stories, each told twice: with a rule in force, and with that rule broken.
//!
//! The runs of chance find that a broken rule does harm. A story shows how: a few nodes, a calm network, and only what
//! is needed. It prints what happens, without heartbeats: `cargo test --test cluster_sim stories -- --nocapture`.

use crate::world::{Path, World};
use kvstore::cluster::mutant::Mutant;
use kvstore::cluster::term::Memory;

/// T of all nodes, in milliseconds.
const T: u64 = 200;

/// A kind of batch that writes once.
const WRITE: u8 = 0;

/// A calm world in which all nodes have the same log, and its leader.
fn begin(len: usize, mutant: Option<Mutant>) -> (World, usize) {
    let mut world = World::calm(len, T, mutant);
    let leader = |world: &World| {
        let leader = world.leader()?;
        let end = world.nodes[leader].log.len();
        let is_level = |at: usize| {
            let node = &world.nodes[at];
            let commit = node.process.as_ref().map_or(0, |process| process.commit);
            node.log.len() == end && commit == end && node.term.memory == Memory::Whole
        };
        (0..len).all(is_level).then_some(leader)
    };
    until(&mut world, "a leader, and equal logs", |world| leader(world).is_some());
    let leader = leader(&world).expect("just found");
    world.trace = Some(Vec::new());
    (world, leader)
}

/// Goes on until this is so.
fn until(world: &mut World, what: &str, is: impl Fn(&World) -> bool) {
    let end = world.now + 100 * T;
    while !is(world) {
        assert!(world.checks.violation.is_none(), "{:?}, before {what}", world.checks.violation);
        let goes_on = world.step(end);
        assert!(goes_on, "100 timeouts without {what}: {:#?}", world.trace);
    }
}

/// Goes on for so many milliseconds, or until a promise is broken.
fn wait(world: &mut World, millis: u64) {
    let end = world.now + millis;
    while world.checks.violation.is_none() && world.step(end) {}
}

fn say(world: &mut World, text: &str) {
    world.trace(|| format!("--- {text}"));
}

/// What `from` sends to `to` gets lost, or arrives again.
fn cut(world: &mut World, from: usize, to: usize, path: Path) {
    world.paths[from][to] = path;
}

const GONE: Path = Path { peers_cut: true, links_cut: true };
const NO_LOG: Path = Path { peers_cut: false, links_cut: true };
const WHOLE: Path = Path { peers_cut: false, links_cut: false };

fn leads(world: &World, at: usize) -> bool {
    world.nodes[at].process.as_ref().is_some_and(|process| process.leads.is_some())
}

/// All paths between a node and the others.
fn cut_around(world: &mut World, at: usize, path: Path) {
    for other in (0..world.nodes.len()).filter(|other| *other != at) {
        cut(world, at, other, path);
        cut(world, other, at, path);
    }
}

fn heal(world: &mut World) {
    (0..world.nodes.len()).for_each(|at| cut_around(world, at, WHOLE));
    say(world, "the network is whole again");
}

fn kill(world: &mut World, at: usize) {
    world.nodes[at].process = None;
    say(world, &format!("n{at} is killed"));
}

/// Power fails at a node's machine: all that was not synced is gone.
fn cut_power(world: &mut World, at: usize) {
    kill(world, at);
    let now = world.now;
    let node = &mut world.nodes[at];
    let lost = node.log.cut(node.log.durable);
    (node.boot, node.clock_zero) = (node.boot + 1000, now);
    assert!(!lost.is_empty(), "all was synced");
    world.checks.lost.extend(&lost);
    world.forget_lost();
    say(world, &format!("n{at} had lost power: records not synced and gone: {}", lost.len()));
}

/// Tells a story with the rule and without it. Returns what the checks say to each.
fn tell(title: &str, rule: Mutant, story: fn(Option<Mutant>) -> World) -> [Option<String>; 2] {
    println!("\n{title}");
    [None, Some(rule)].map(|mutant| {
        let mut world = story(mutant);
        println!(
            "  {}:",
            mutant.map_or("with the rule".into(), |rule| format!("without it, {rule:?}"))
        );
        let trace = world.trace.take().unwrap_or_default();
        trace.iter().filter_map(|line| shortened(line)).for_each(|line| println!("  {line}"));
        let violation = world.checks.violation;
        println!("     => {}", violation.as_deref().unwrap_or("no promise is broken"));
        violation
    })
}

/// A line of the trace, if it belongs into a story.
fn shortened(line: &str) -> Option<&str> {
    let is_told = ["---", "StepDown", "begins epoch", "gives up", "answers"]
        .iter()
        .any(|word| line.contains(word));
    let end = line.find(" Batch").unwrap_or(line.len());
    is_told.then_some(&line[..end])
}

/// A node without a leader moves on by itself, and deposes the leader when it comes back.
fn flapping(mutant: Option<Mutant>) -> World {
    let (mut world, leader) = begin(3, mutant);
    let flapping = (leader + 1) % 3;
    let highest = |world: &World| world.nodes.iter().map(|node| node.term.epoch.0).max();
    let (epoch, leaders) = (highest(&world), world.checks.leaders());
    world.trace = None;
    let end = world.now + 60_000;
    while world.now < end {
        cut_around(&mut world, flapping, GONE);
        wait(&mut world, 4 * T);
        cut_around(&mut world, flapping, WHOLE);
        wait(&mut world, 4 * T);
    }
    let moved = highest(&world).zip(epoch).map_or(0, |(now, before)| now - before);
    let elected = world.checks.leaders() - leaders;
    world.trace = Some(Vec::new());
    let about = format!("n{leader} leads; for a minute, n{flapping} is cut off and comes back");
    say(&mut world, &about);
    say(&mut world, &format!("epochs per minute: {moved}; leaders elected anew: {elected}"));
    if moved > 0 {
        world.checks.fail("an epoch has moved, although a majority had a leader all the time");
    }
    world
}

#[test]
fn a_flapping_link_moves_no_epoch() {
    let [with, without] = tell("A link that comes and goes", Mutant::NoPreVote, flapping);
    assert_eq!(with, None);
    assert!(without.is_some(), "the broken rule is not noticed");
}

/// Two of three acknowledge a write. One of them loses power before its log is synced, the other one dies.
fn unsynced(mutant: Option<Mutant>) -> World {
    let (mut world, leader) = begin(3, mutant);
    let [forgets, behind] = [1, 2].map(|next| (leader + next) % 3);
    cut(&mut world, leader, behind, NO_LOG);
    say(&mut world, &format!("n{leader} leads; its log does not get to n{behind} any more"));
    let (oks, end) = (world.checks.oks, world.nodes[leader].log.len() + 1);
    world.send_batch(leader, WRITE);
    until(&mut world, "an OK", |world| world.checks.oks > oks);
    say(&mut world, &format!("a client has an OK: n{leader} and n{forgets} have record {end}"));
    cut_power(&mut world, forgets);
    kill(&mut world, leader);
    heal(&mut world);
    world.start(forgets);
    wait(&mut world, 20 * T);
    if world.checks.violation.is_none() {
        assert!(world.leader().is_none(), "a leader without the record");
        say(&mut world, &format!("no leader for 20 timeouts; n{leader} starts again"));
        world.start(leader);
        until(&mut world, "a leader", |world| world.leader().is_some());
    }
    world
}

#[test]
fn a_vote_of_a_node_that_lost_power_loses_no_write() {
    let [with, without] =
        tell("An OK before fsync, and a power cut", Mutant::BootIgnored, unsynced);
    assert_eq!(with, None);
    assert!(without.is_some_and(|what| what.contains("which a client saw confirmed")));
}

/// A batch writes, sleeps through a failover and comes to the gate when its write has been given up.
fn asleep(mutant: Option<Mutant>) -> World {
    let (mut world, old) = begin(3, mutant);
    let others = [1, 2].map(|next| (old + next) % 3);
    others.iter().for_each(|other| cut(&mut world, old, *other, NO_LOG));
    let (oks, record) = (world.checks.oks, world.nodes[old].log.len() + 1);
    world.nap = Some(30 * T);
    world.send_batch(old, WRITE);
    say(&mut world, &format!("n{old} leads; a batch writes record {record} there, and sleeps"));
    cut_around(&mut world, old, GONE);
    say(&mut world, &format!("n{old} is cut off"));
    until(&mut world, "another leader", |world| others.iter().any(|at| leads(world, *at)));
    let new = others.into_iter().find(|at| leads(&world, *at)).expect("just found");
    for _ in 0..3 {
        let oks = world.checks.oks;
        world.send_batch(new, WRITE);
        until(&mut world, "an OK", |world| world.checks.oks > oks);
    }
    say(&mut world, &format!("a client has three OKs from n{new}"));
    heal(&mut world);
    let before = world.checks.oks;
    wait(&mut world, 40 * T);
    if world.checks.violation.is_none() {
        assert_eq!((before, world.checks.oks), (oks + 3, oks + 3), "the sleeper has an OK");
        say(&mut world, "the batch came to the gate, and has no OK: it is INDOUBT");
    }
    world
}

#[test]
fn a_batch_that_sleeps_through_a_failover_has_no_ok() {
    let [with, without] =
        tell("A batch that sleeps through a failover", Mutant::GateWithoutHistory, asleep);
    assert_eq!(with, None);
    assert!(without.is_some_and(|what| what.contains("which is not in the history")));
}

/// Figure 8 of the Raft paper. S2, S3 and S4 do not hear each other, so none of them is elected.
fn figure_8(mutant: Option<Mutant>) -> World {
    let (mut world, s1) = begin(5, mutant);
    let [s2, s3, s4, s5] = [1, 2, 3, 4].map(|next| (s1 + next) % 5);
    for (one, other) in [(s2, s3), (s3, s4), (s4, s2)] {
        cut(&mut world, one, other, GONE);
        cut(&mut world, other, one, GONE);
    }
    let names = [(s1, "S1"), (s2, "S2"), (s3, "S3"), (s4, "S4"), (s5, "S5")];
    let names = names.map(|(at, name)| format!("{name} is n{at}")).join(", ");
    say(&mut world, &format!("S1 leads: {names}"));
    let record = world.nodes[s1].log.len() + 1;
    let has = |world: &World, at: usize| world.nodes[at].log.len() == record;
    [s3, s4, s5].iter().for_each(|at| cut(&mut world, s1, *at, NO_LOG));
    world.nap = Some(100 * T);
    world.send_batch(s1, WRITE);
    until(&mut world, "a copy", |world| has(world, s2));
    kill(&mut world, s1);
    say(&mut world, &format!("(a) record {record} is on S1 and S2, and S1 is dead"));
    [s2, s3, s4].iter().for_each(|at| cut(&mut world, s5, *at, NO_LOG));
    until(&mut world, "the lead of S5", |world| leads(world, s5));
    kill(&mut world, s5);
    say(
        &mut world,
        &format!("(b) another record {record}, S5's first, is on S5 only, and S5 is dead"),
    );
    world.start(s1);
    cut(&mut world, s1, s2, NO_LOG);
    until(&mut world, "the lead of S1", |world| leads(world, s1));
    [s2, s3].iter().for_each(|at| cut(&mut world, s1, *at, WHOLE));
    until(&mut world, "a copy", |world| has(world, s3));
    [s2, s3].iter().for_each(|at| cut(&mut world, s1, *at, NO_LOG));
    say(
        &mut world,
        &format!("(c) S1 leads again; record {record} is on S1, S2 and S3, a majority"),
    );
    wait(&mut world, T / 2);
    let commit = world.process(s1).map_or(0, |process| process.commit);
    say(&mut world, &format!("S1 takes the records up to {commit} for committed"));
    kill(&mut world, s1);
    world.start(s5);
    [s2, s3, s4].iter().for_each(|at| cut(&mut world, s5, *at, WHOLE));
    wait(&mut world, 5 * T);
    if world.checks.violation.is_none() {
        assert!(leads(&world, s5) && commit < record);
        say(&mut world, &format!("(d) S5 leads, and its record {record} replaces S1's everywhere"));
    }
    world
}

#[test]
fn figure_8_of_the_raft_paper_loses_no_ok() {
    let [with, without] = tell("Figure 8 of the Raft paper", Mutant::CommitOfOldEpochs, figure_8);
    assert_eq!(with, None);
    assert!(without.is_some_and(|what| what.contains("leads without record")));
}
