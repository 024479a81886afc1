//! A pool whose connections are all in use. Usage: `exhaustion HOST:PORT SIZE queue|order|held|returned`
//!
//! - `queue`: some callers keep all connections, and three others wait in vain. Prints the pool's figures.
//! - `order`: five callers wait for connections, and come back as soon as they have had one. Prints who got one.
//! - `held`: sixteen callers make five calls each. A call is a command that takes the server a moment, and work of 100 ms
//!   that needs no server. The connection is returned after the work.
//! - `returned`: the same, with the connection returned before the work.
//!
//! The callers use the pool itself. A `Client` does not lend its connections: each call returns its own before it ends.

use kvstore::client::Error;
use kvstore::client::pool::{Dial, Limits, Pool, Pooled};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const CALLERS: usize = 16;
const CALLS: usize = 5;
const WORK: Duration = Duration::from_millis(100);
/// Longer than two callers work one after the other, shorter than three.
const CHECKOUT: Duration = Duration::from_millis(250);
/// For what has to come.
const LONG: Duration = Duration::from_secs(30);

struct Server(String);

impl Dial for Server {
    type Conn = TcpStream;

    fn dial(&self, _: Instant) -> Result<TcpStream, Error> {
        TcpStream::connect(&self.0).map_err(|error| Error::Unavailable(error.to_string()))
    }

    fn is_alive(&self, _: &mut TcpStream, _: Instant) -> bool {
        true
    }

    fn is_reusable(&self, _: &TcpStream) -> bool {
        true
    }
}

fn main() -> Result<(), Error> {
    let [addr, size, story] = [1, 2, 3].map(|at| std::env::args().nth(at).unwrap_or_default());
    let size = size.parse().map_err(|_| Error::Invalid(format!("{size} is no size of a pool")))?;
    let pool = Pool::new(Server(addr), Limits { size, idle_max: LONG, age_max: LONG });
    match story.as_str() {
        "queue" => queue(&pool, size),
        "order" => order(&pool, size),
        "held" => load(&pool, true),
        "returned" => load(&pool, false),
        other => Err(Error::Invalid(format!("{other} is no story"))),
    }
}

fn checkout(pool: &Pool<Server>, patience: Duration) -> Result<Pooled<'_, Server>, Error> {
    pool.checkout(Instant::now() + patience, Instant::now() + LONG)
}

/// Takes a connection and uses it: one command, one line of an answer.
fn visit(pool: &Pool<Server>, patience: Duration) -> Result<Pooled<'_, Server>, Error> {
    let connection = checkout(pool, patience)?;
    let mut stream: &TcpStream = &connection;
    let answered = stream
        .write_all(b"INCR visits\r\n")
        .and_then(|()| BufReader::new(stream).read_line(&mut String::new()));
    answered.map_err(|error| Error::InDoubt(error.to_string()))?;
    Ok(connection)
}

fn show(when: &str, pool: &Pool<Server>) {
    let figures = pool.figures();
    println!(
        "{when}: in use {}, idle {}, waiting {}",
        figures.in_use, figures.idle, figures.waiting
    );
}

/// Until so many callers wait, or the last of them has ended.
fn wait_for_waiters<T>(pool: &Pool<Server>, count: usize, last: &thread::ScopedJoinHandle<'_, T>) {
    while pool.figures().waiting < count && !last.is_finished() {
        thread::sleep(Duration::from_millis(1));
    }
}

fn queue(pool: &Pool<Server>, size: usize) -> Result<(), Error> {
    let held: Vec<_> = (0..size).map(|_| visit(pool, LONG)).collect::<Result<_, _>>()?;
    show("all lent out", pool);
    thread::scope(|scope| {
        let mut waiters = vec![];
        for number in 1..=3 {
            let waiter = scope.spawn(|| visit(pool, CHECKOUT).map(drop));
            wait_for_waiters(pool, number, &waiter);
            waiters.push(waiter);
        }
        show("three more callers", pool);
        for waiter in waiters {
            match waiter.join().expect("no panic") {
                Ok(()) => println!("served"),
                Err(error) => println!("refused: {error}"),
            }
        }
    });
    show("the callers have given up", pool);
    drop(held);
    show("all returned", pool);
    Ok(())
}

fn order(pool: &Pool<Server>, size: usize) -> Result<(), Error> {
    let served = Mutex::new(vec![]);
    let held: Vec<_> = (0..size).map(|_| visit(pool, LONG)).collect::<Result<_, _>>()?;
    thread::scope(|scope| {
        for number in 1..=5 {
            let served = &served;
            let waiter = scope.spawn(move || {
                for _ in 0..2 {
                    if let Ok(_connection) = visit(pool, LONG) {
                        served.lock().expect("no panic").push(number.to_string());
                    }
                }
            });
            wait_for_waiters(pool, number, &waiter);
        }
        drop(held);
    });
    println!("served: {}", served.into_inner().expect("no panic").join(" "));
    Ok(())
}

fn load(pool: &Pool<Server>, is_held: bool) -> Result<(), Error> {
    let (answered, refused, begin) = (AtomicU64::new(0), AtomicU64::new(0), Barrier::new(CALLERS));
    let call = || match visit(pool, CHECKOUT) {
        Ok(connection) => {
            // If it is not held, it is returned here.
            let held = is_held.then_some(connection);
            thread::sleep(WORK);
            drop(held);
            answered.fetch_add(1, Relaxed);
        }
        Err(Error::Exhausted { .. }) => drop(refused.fetch_add(1, Relaxed)),
        Err(error) => panic!("{error}"),
    };
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                begin.wait();
                (0..CALLS).for_each(|_| call());
            });
        }
    });
    println!("answered {}, refused {}", answered.into_inner(), refused.into_inner());
    for (range, count) in pool.figures().waits.iter().enumerate().filter(|(_, count)| **count > 0) {
        println!("waited up to {} us: {count}", 1 << range);
    }
    Ok(())
}
