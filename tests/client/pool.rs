//! The pool against its promises: never more than its size, first come first served, nothing lost by a panic or a
//! timeout.

use super::{builder, client};
use crate::common::rng::{Rng, fresh_seed};
use crate::common::server::Server;
use crate::common::{DEADLINE, long_form, note, number_from_env, wait_until};
use kvstore::client::Error;
use kvstore::client::pool::{Dial, Limits, Pool};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Counts the connections that are open.
#[derive(Default)]
struct Counts {
    open: AtomicUsize,
    most: AtomicUsize,
    dialled: AtomicUsize,
    checked: AtomicUsize,
    is_dead: AtomicBool,
    /// A dial waits for a message.
    gate: Mutex<Option<Receiver<()>>>,
    /// The next dials fail, or panic.
    failing: AtomicBool,
    panicking: AtomicBool,
}

struct Fake(Arc<Counts>);

struct Conn {
    counts: Arc<Counts>,
    is_broken: bool,
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.counts.open.fetch_sub(1, SeqCst);
    }
}

impl Dial for Fake {
    type Conn = Conn;

    fn dial(&self, _: Instant) -> Result<Conn, Error> {
        let counts = &self.0;
        assert!(!counts.panicking.load(SeqCst), "a dial that panics");
        if counts.failing.load(SeqCst) {
            return Err(Error::Unavailable("nothing listens".to_owned()));
        }
        let gate = counts.gate.lock().expect("not poisoned").take();
        if let Some(gate) = gate {
            gate.recv_timeout(DEADLINE).expect("a message");
        }
        counts.dialled.fetch_add(1, SeqCst);
        let open = counts.open.fetch_add(1, SeqCst) + 1;
        counts.most.fetch_max(open, SeqCst);
        Ok(Conn { counts: Arc::clone(counts), is_broken: false })
    }

    fn is_alive(&self, _: &mut Conn, _: Instant) -> bool {
        self.0.checked.fetch_add(1, SeqCst);
        !self.0.is_dead.load(SeqCst)
    }

    fn is_reusable(&self, conn: &Conn) -> bool {
        !conn.is_broken
    }
}

const LIMITS: Limits =
    Limits { size: 1, idle_max: Duration::from_secs(3600), age_max: Duration::from_secs(3600) };

fn pool(size: usize) -> (Pool<Fake>, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    (Pool::new(Fake(Arc::clone(&counts)), Limits { size, ..LIMITS }), counts)
}

fn late() -> Instant {
    Instant::now() + DEADLINE
}

/// Nothing is in use or waited for, and every open connection is an idle one.
fn assert_at_rest(pool: &Pool<Fake>, counts: &Counts) {
    let figures = pool.figures();
    assert_eq!((figures.in_use, figures.waiting), (0, 0));
    assert_eq!(counts.open.load(SeqCst), figures.idle);
}

#[test]
fn the_longest_waiter_is_first() {
    const WAITERS: usize = 20;
    const GIVES_UP: usize = 7;
    let (pool, counts) = pool(1);
    let order = Mutex::new(vec![]);
    thread::scope(|scope| {
        let held = pool.checkout(late(), late()).expect("the first");
        for waiter in 0..WAITERS {
            let (pool, order) = (&pool, &order);
            scope.spawn(move || {
                let patience = if waiter == GIVES_UP { Duration::from_millis(1) } else { DEADLINE };
                match pool.checkout(Instant::now() + patience, late()) {
                    Ok(_connection) => order.lock().expect("not poisoned").push(waiter),
                    Err(error) => assert!(matches!(error, Error::Exhausted { .. }), "{error}"),
                }
            });
            let waiting = if waiter >= GIVES_UP { waiter } else { waiter + 1 };
            assert!(wait_until(DEADLINE, || pool.figures().waiting == waiting), "{waiter} waits");
        }
        let overtaking = pool.checkout(Instant::now(), late()).map(drop);
        assert!(matches!(overtaking, Err(Error::Exhausted { .. })), "{overtaking:?}");
        drop(held);
        assert!(wait_until(DEADLINE, || pool.figures().in_use == 0));
    });
    let expected: Vec<usize> = (0..WAITERS).filter(|waiter| *waiter != GIVES_UP).collect();
    assert_eq!(*order.lock().expect("not poisoned"), expected);
    assert_eq!(counts.dialled.load(SeqCst), 1, "all used the same connection");
    assert_at_rest(&pool, &counts);
}

/// A waiter that has been given a place, and not a connection, opens one.
#[test]
fn a_broken_connection_leaves_its_place_to_the_longest_waiter() {
    let (pool, counts) = pool(1);
    thread::scope(|scope| {
        let mut held = pool.checkout(late(), late()).expect("the first");
        let waiting = scope.spawn(|| pool.checkout(late(), late()).map(drop));
        assert!(wait_until(DEADLINE, || pool.figures().waiting == 1));
        held.is_broken = true;
        drop(held);
        assert_eq!(waiting.join().expect("no panic"), Ok(()));
    });
    assert_eq!((counts.dialled.load(SeqCst), counts.most.load(SeqCst)), (2, 1));
    assert_at_rest(&pool, &counts);
}

#[test]
fn a_place_outlives_failures_and_panics() {
    let (pool, counts) = pool(1);
    for fault in [&counts.failing, &counts.panicking] {
        fault.store(true, SeqCst);
        let dialled = catch_unwind(AssertUnwindSafe(|| pool.checkout(late(), late()).map(drop)));
        assert!(!matches!(dialled, Ok(Ok(()))), "a dial that fails");
        fault.store(false, SeqCst);
        assert_at_rest(&pool, &counts);
    }
    let used = catch_unwind(AssertUnwindSafe(|| {
        let _connection = pool.checkout(late(), late());
        panic!("while it is in use");
    }));
    assert!(used.is_err());
    assert_at_rest(&pool, &counts);
    assert!(pool.checkout(Instant::now(), late()).is_ok());
}

/// A node that does not answer holds up only the caller that dials it.
#[test]
fn a_slow_dial_keeps_no_other_caller_waiting() {
    let (pool, counts) = pool(2);
    let (gate_tx, gate_rx) = channel();
    *counts.gate.lock().expect("not poisoned") = Some(gate_rx);
    thread::scope(|scope| {
        let dialling = scope.spawn(|| pool.checkout(late(), late()).map(drop));
        assert!(wait_until(DEADLINE, || counts.gate.lock().expect("not poisoned").is_none()));
        for _ in 0..3 {
            assert_eq!(pool.checkout(late(), late()).map(drop), Ok(()));
        }
        assert_eq!(pool.figures().in_use, 1, "the dial goes on");
        gate_tx.send(()).expect("it waits");
        assert_eq!(dialling.join().expect("no panic"), Ok(()));
    });
    assert_at_rest(&pool, &counts);
}

#[test]
fn a_connection_is_checked_after_a_second() {
    let (pool, counts) = pool(1);
    let began = Instant::now();
    for _ in 0..2 {
        drop(pool.checkout(late(), late()).expect("a connection"));
    }
    if began.elapsed() < Duration::from_secs(1) {
        assert_eq!(counts.checked.load(SeqCst), 0, "it was in use just now");
    }
    for (is_dead, dialled) in [(false, 1), (true, 2)] {
        thread::sleep(Duration::from_millis(1010));
        counts.is_dead.store(is_dead, SeqCst);
        drop(pool.checkout(late(), late()).expect("a connection"));
        assert_eq!(counts.dialled.load(SeqCst), dialled);
    }
    assert_eq!(counts.checked.load(SeqCst), 2);
    assert_at_rest(&pool, &counts);
}

#[test]
fn a_new_generation_ends_all_connections() {
    let (pool, counts) = pool(3);
    let one = pool.checkout(late(), late()).expect("a connection");
    let two = pool.checkout(late(), late()).expect("a connection");
    drop(two);
    let generation = one.generation();
    pool.retire(generation);
    assert_eq!((pool.figures().idle, counts.open.load(SeqCst)), (0, 1), "the idle one at once");
    drop(one);
    assert_eq!((pool.figures().idle, counts.open.load(SeqCst)), (0, 0), "the other on its return");
    drop(pool.checkout(late(), late()).expect("a new one"));
    // A second caller that noticed the same change does not end the new one.
    pool.retire(generation);
    assert_eq!(pool.figures().idle, 1);
    assert_at_rest(&pool, &counts);
}

#[test]
fn idle_time_and_age_are_limited() {
    let counts = Arc::new(Counts::default());
    let make = |idle_max, age_max| {
        Pool::new(Fake(Arc::clone(&counts)), Limits { size: 3, idle_max, age_max })
    };
    let long = Duration::from_secs(3600);
    let pool = make(Duration::ZERO, long);
    let both = [(); 2].map(|()| pool.checkout(late(), late()).expect("a connection"));
    drop(both);
    thread::sleep(Duration::from_millis(2));
    drop(pool.checkout(late(), late()).expect("a connection"));
    assert_eq!(counts.dialled.load(SeqCst), 3, "an overdue one is not used");
    assert!(pool.figures().idle <= 1, "a return closes the overdue: {:?}", pool.figures());
    let pool = make(long, Duration::ZERO);
    let connection = pool.checkout(late(), late()).expect("a connection");
    thread::sleep(Duration::from_millis(2));
    drop(connection);
    assert_eq!(pool.figures().idle, 0, "one that is too old is closed on its return");
}

/// Threads that use, break, drop and give up, at random.
#[test]
fn never_more_than_its_size() {
    const THREADS: usize = 16;
    const SIZE: usize = 3;
    let rounds = if long_form() { 20_000 } else { 1500 };
    let seed = number_from_env("KVSTORE_SEED").unwrap_or_else(fresh_seed);
    let (pool, counts) = pool(SIZE);
    let (served, gave_up) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (pool, counts, served, gave_up) = (&pool, &counts, &served, &gave_up);
            scope.spawn(move || {
                let mut rng = Rng::new(seed ^ thread as u64);
                for _ in 0..rounds {
                    let patience = Duration::from_micros(rng.pick(&[0, 50, 1000, 1_000_000]));
                    match pool.checkout(Instant::now() + patience, late()) {
                        Ok(mut connection) => {
                            served.fetch_add(1, SeqCst);
                            connection.is_broken = rng.chance(10);
                            if rng.chance(20) {
                                thread::yield_now();
                            }
                            if rng.chance(1) {
                                pool.retire(connection.generation());
                            }
                        }
                        Err(Error::Exhausted { .. }) => drop(gave_up.fetch_add(1, SeqCst)),
                        Err(other) => panic!("{other}"),
                    }
                    assert!(counts.open.load(SeqCst) <= SIZE);
                }
            });
        }
    });
    let most = counts.most.load(SeqCst);
    note(&format!(
        "pool: {served:?} served, {gave_up:?} gave up, most open {most} (KVSTORE_SEED={seed})"
    ));
    assert_eq!(most, SIZE);
    assert!(gave_up.load(SeqCst) > 0, "the queue was never tried");
    assert_eq!(pool.figures().waits.iter().sum::<u64>(), served.load(SeqCst) as u64);
    assert_at_rest(&pool, &counts);
}

#[test]
fn many_threads_share_few_connections() {
    const THREADS: usize = 64;
    let server = Server::start(&[]);
    let client = builder(&[server.port()]).pool(8).build().expect("valid settings");
    let time = Duration::from_secs(if long_form() { 60 } else { 1 });
    let calls: Vec<u64> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let client = client.clone();
                scope.spawn(move || {
                    let (start, mut calls) = (Instant::now(), 0);
                    while start.elapsed() < time {
                        client.incr("all").expect("a connection and an answer");
                        let own = format!("own:{thread}");
                        client.set(&own, calls.to_string()).expect("a connection and an answer");
                        assert_eq!(client.get(&own), Ok(calls), "an answer to another question");
                        calls += 1;
                    }
                    calls
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let counted: u64 = calls.iter().sum();
    assert_eq!(client.get("all"), Ok(counted));
    let figures = client.figures();
    let [least, most] =
        [calls.iter().min(), calls.iter().max()].map(|calls| 3 * calls.expect("a thread"));
    note(&format!(
        "{} calls of {THREADS} threads over 8 connections, {least} to {most} of each: {figures:?}",
        3 * counted
    ));
    if long_form() {
        assert!(most < 2 * least, "one thread got {least} calls, another one {most}");
    }
    assert!(figures.in_use == 0 && figures.waiting == 0 && figures.idle <= 8, "{figures:?}");
    assert!(figures.waits[4..].iter().sum::<u64>() > 0, "no thread had to wait");
}

#[test]
fn an_exhausted_pool_says_so() {
    let server = Server::start(&[]);
    let brief = builder(&[server.port()]).pool(1).checkout(Duration::from_millis(20));
    let client = brief.build().expect("valid settings");
    thread::scope(|scope| {
        let slow = client.clone();
        let sleeping = scope.spawn(move || slow.command(["DEBUG", "SLEEP", "1"]).query::<()>());
        assert!(wait_until(DEADLINE, || client.figures().in_use == 1));
        let refused = client.set("k", "v");
        assert!(matches!(refused, Err(Error::Exhausted { .. })), "{refused:?}");
        assert_eq!(sleeping.join().expect("no panic"), Ok(()));
    });
    assert_eq!(client.set("k", "v"), Ok(()));
}

#[test]
fn dropping_the_client_closes_its_connections() {
    let server = Server::start(&[]);
    let before = server.descriptors();
    let own = client(&[server.port()]);
    own.set("k", "v").expect("an answer");
    assert!(server.descriptors() > before);
    drop(own);
    assert!(wait_until(DEADLINE, || server.descriptors() == before));
}
