//! Hazard: money appears or vanishes. Half of a transaction is seen, or survives a crash.
//!
//! 32 connections move amounts between 100 accounts, each with WATCH, a look at both balances, and
//! MULTI … EXEC; others read all accounts at once, in one MULTI and with MGET. The server is killed
//! (`kill -9`) under this load and started again. The sum must be the same in every reading, after every
//! recovery, and **after every single record of the log**: a crash can come after any of them. No
//! balance may be below zero, which only WATCH sees to, and no acknowledged transfer may be lost.
//!
//! `KVSTORE_LONG=1` kills 20 times (`make crash`).

mod common;

use common::history::{State, apply};
use common::resp::{Resp, Value, encode};
use common::rng::{Rng, fresh_seed};
use common::server::{Server, connect, set_deadline};
use common::{DEADLINE, long_form, note, number_from_env, wait_until};
use kvstore::aof::files;
use kvstore::aof::recovery;
use kvstore::store::effect;
use kvstore::store::effect::Seq;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

const ACCOUNTS: usize = 100;
const SUM: i64 = 100 * ACCOUNTS as i64;
const MOVERS: usize = 32;
const READERS: usize = 3;
const TRANSFERS_SHORT: u64 = 600;
const TRANSFERS_LONG: u64 = 3_000;

/// The server is gone.
struct Gone;

/// A connection to a server that may be killed at any moment.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(port: u16) -> Result<Client, Gone> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(|_| Gone)?;
        set_deadline(&stream, DEADLINE);
        Ok(Client(BufReader::new(stream)))
    }

    /// Sends these lines of words at once; returns the reply to the last of them, as its leaves.
    fn ask(&mut self, lines: &[String]) -> Result<Vec<String>, Gone> {
        let mut bytes = Vec::new();
        for line in lines {
            encode(&line.split(' ').collect::<Vec<_>>(), &mut bytes);
        }
        self.0.get_mut().write_all(&bytes).map_err(|_| Gone)?;
        let mut last = Vec::new();
        for line in lines {
            last = self.reply()?;
            let is_error = |leaf: &String| leaf.starts_with("-E") || leaf.starts_with("-M");
            assert!(!last.iter().any(is_error), "{line}: {last:?}");
        }
        Ok(last)
    }

    /// A nil array has no leaves.
    fn reply(&mut self) -> Result<Vec<String>, Gone> {
        let line = self.line()?;
        let len = || line[1..].parse().unwrap_or(0);
        match line.as_bytes()[0] {
            b'$' => Ok(vec![self.line()?]),
            b'*' => (0..len()).try_fold(Vec::new(), |mut leaves: Vec<String>, _| {
                leaves.extend(self.reply()?);
                Ok(leaves)
            }),
            _ => Ok(vec![line]),
        }
    }

    fn line(&mut self) -> Result<String, Gone> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(_) if line.ends_with("\r\n") => Ok(line.trim_end().to_owned()),
            _ => Err(Gone),
        }
    }
}

/// Somebody who moves money.
struct Mover {
    id: usize,
    rng: Rng,
    /// Transfers that were acknowledged. The server counts them, too, in the same transactions.
    done: u64,
    /// True if one more was sent and not answered.
    pending: bool,
}

#[derive(Default)]
struct Counts {
    transfers: AtomicU64,
    conflicts: AtomicU64,
    readings: AtomicU64,
}

impl Mover {
    fn run(&mut self, port: u16, counts: &Counts) -> Result<(), Gone> {
        let mut client = Client::connect(port)?;
        loop {
            let from = self.rng.below(ACCOUNTS);
            let to = (from + 1 + self.rng.below(ACCOUNTS - 1)) % ACCOUNTS;
            let (from, to) = (format!("account:{from}"), format!("account:{to}"));
            let balances =
                client.ask(&[format!("WATCH {from} {to}"), format!("MGET {from} {to}")])?;
            let balance: usize = balances[0].parse().expect("no balance is below zero");
            let amount = self.rng.below(balance + 1);
            self.pending = true;
            let answers = client.ask(&[
                "MULTI".to_owned(),
                format!("DECRBY {from} {amount}"),
                format!("INCRBY {to} {amount}"),
                format!("INCR done:{}", self.id),
                "EXEC".to_owned(),
            ])?;
            self.pending = false;
            if answers.is_empty() {
                counts.conflicts.fetch_add(1, Relaxed);
                continue;
            }
            self.done += 1;
            assert_eq!(answers[2], format!(":{}", self.done), "a transfer was lost or doubled");
            counts.transfers.fetch_add(1, Relaxed);
        }
    }
}

/// Reads all accounts, again and again, in one way or the other.
fn read(port: u16, reader: usize, counts: &Counts) -> Result<(), Gone> {
    let mut client = Client::connect(port)?;
    let gets = (0..ACCOUNTS).map(|n| format!("GET account:{n}"));
    let multi = ["MULTI".to_owned()].into_iter().chain(gets).chain(["EXEC".to_owned()]).collect();
    let requests: [Vec<String>; 2] = [multi, vec![mget()]];
    loop {
        let balances = client.ask(&requests[reader % 2])?;
        assert_eq!(sum(balances.iter()), SUM, "reader {reader} has seen half of a transfer");
        counts.readings.fetch_add(1, Relaxed);
    }
}

fn mget() -> String {
    (0..ACCOUNTS).fold("MGET".to_owned(), |line, n| line + &format!(" account:{n}"))
}

fn sum(balances: impl ExactSizeIterator<Item = impl AsRef<[u8]>>) -> i64 {
    assert_eq!(balances.len(), ACCOUNTS, "an account is not there");
    balances
        .map(|balance| String::from_utf8_lossy(balance.as_ref()).parse::<i64>().expect("a number"))
        .inspect(|balance| assert!(*balance >= 0, "a balance of {balance}"))
        .sum()
}

/// Follows the log that a killed server left, and counts the money after each record. Returns how many
/// records that were.
fn check_each_record(server: &Server) -> usize {
    let dir = server.dir().join("data");
    let base = files::list(&dir).expect("the data directory").bases.last().copied();
    let exact_from = base.map_or(Seq(0), |seq| {
        recovery::read_base(&dir, seq, |_| Ok(())).expect("a base").0.end_seq
    });
    let (mut state, mut records) = (State::new(), 0);
    let read = recovery::read_each(&dir, |record| {
        effect::decode(record.payload, |effect| apply(&mut state, effect))?;
        let accounts = state.range(b"account:".to_vec()..b"account;".to_vec());
        let balances: Vec<&Vec<u8>> = accounts.map(|(_, (balance, _))| balance).collect();
        // The first record is that of the start, and has none yet.
        if record.seq > exact_from && !balances.is_empty() {
            assert_eq!(sum(balances.iter()), SUM, "behind record {}", record.seq);
            records += 1;
        }
        Ok(recovery::Then::GoOn)
    });
    read.expect("a log that can be read");
    records
}

fn load_and_kill(server: &mut Server, movers: &mut [Mover], counts: &Counts, compact: bool) {
    let port = server.port();
    let transfers = if long_form() { TRANSFERS_LONG } else { TRANSFERS_SHORT };
    let until = counts.transfers.load(Relaxed) + transfers;
    thread::scope(|scope| {
        let moving = movers.iter_mut().map(|mover| {
            scope.spawn(move || {
                let _ = mover.run(port, counts);
            })
        });
        let mut threads: Vec<_> = moving.collect();
        threads.extend((0..READERS).map(|reader| {
            scope.spawn(move || {
                let _ = read(port, reader, counts);
            })
        }));
        if compact {
            let _ = connect(port).write_all(b"BGREWRITEAOF\r\n");
        }
        let failed = || threads.iter().any(|thread| thread.is_finished());
        let enough = || counts.transfers.load(Relaxed) >= until;
        let came_far = wait_until(3 * DEADLINE, || enough() || failed());
        server.kill();
        for thread in threads {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        assert!(came_far, "the transfers do not get on");
    });
}

#[test]
fn the_sum_of_all_accounts_never_changes() {
    let seed = number_from_env("KVSTORE_SEED").unwrap_or_else(fresh_seed);
    println!("KVSTORE_SEED={seed}");
    let kills = if long_form() { 20 } else { 3 };
    let settings = [("segment-size", "64kb"), ("appendfsync", "100ms")];
    let mut server = Server::start(&settings);
    let opening = (0..ACCOUNTS)
        .fold("MSET".to_owned(), |line, n| line + &format!(" account:{n} {}", SUM / 100));
    assert!(Client::connect(server.port()).and_then(|mut client| client.ask(&[opening])).is_ok());

    let (counts, mut records) = (Counts::default(), 0);
    let mover = |id: usize| Mover { id, rng: Rng::new(seed ^ id as u64), done: 0, pending: false };
    let mut movers: Vec<Mover> = (0..MOVERS).map(mover).collect();
    for kill in 1..=kills {
        load_and_kill(&mut server, &mut movers, &counts, kill % 3 == 2);
        records += check_each_record(&server);
        server = Server::start_in(&server.shared_dir(), &settings);
        let Ok(mut client) = Client::connect(server.port()) else { panic!("no connection") };
        let Ok(balances) = client.ask(&[mget()]) else { panic!("no answer") };
        assert_eq!(sum(balances.iter()), SUM, "behind kill {kill}");
        for mover in &mut movers {
            let count = client.ask(&[format!("INCRBY done:{} 0", mover.id)]).unwrap_or_default();
            let done = count[0][1..].parse().expect("a number");
            let possible = mover.done..=mover.done + u64::from(std::mem::take(&mut mover.pending));
            assert!(
                possible.contains(&done),
                "{done} transfers are there, in place of {possible:?}"
            );
            mover.done = done;
        }
    }
    let [transfers, conflicts, readings] =
        [&counts.transfers, &counts.conflicts, &counts.readings].map(|count| count.load(Relaxed));
    assert!(conflicts > 0 && readings > 0, "{conflicts} conflicts, {readings} readings");
    note(&format!(
        "{kills} kills: {transfers} transfers, {conflicts} refused for a change, {readings} readings \
         of all accounts and {records} records, and always the same sum (KVSTORE_SEED={seed})"
    ));
}

/// Write skew: two transactions, each of which watches what the other writes. If EXEC held only the
/// shards that it writes to, both could look, find nothing changed, and go through.
#[test]
fn of_two_who_watch_each_other_one_gives_way() {
    const ROUNDS: usize = 200;
    /// Between the look at the watches and the write, to give the other time for the same.
    const READS: usize = 500;
    let server = Server::start(&[]);
    let (port, together) = (server.port(), Barrier::new(2));
    let contest = |mine: &'static str, other: &'static str| {
        let mut client = Resp::connect(port);
        let mut is_won = |round: usize| {
            client.call(&["WATCH", &format!("{other}:{round}")]);
            client.call(&["MULTI"]);
            let own = format!("{mine}:{round}");
            let mut reads = Vec::new();
            (0..READS).for_each(|_| encode(&["GET", &own], &mut reads));
            client.send_raw(&reads);
            (0..READS).for_each(|_| drop(client.read_reply()));
            client.call(&["SET", &own, "taken"]);
            together.wait();
            client.call(&["EXEC"]) != Value::Null
        };
        (0..ROUNDS).filter(|round| is_won(*round)).count()
    };
    let wins: usize = thread::scope(|scope| {
        let contests = [scope.spawn(|| contest("a", "b")), scope.spawn(|| contest("b", "a"))];
        contests.into_iter().map(|contest| contest.join().expect("no panic")).sum()
    });
    assert_eq!(wins, ROUNDS, "in each round just one goes through");
}
