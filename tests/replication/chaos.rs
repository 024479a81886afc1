//! Hazard: everything at once. A leader, two followers behind hostile networks, a load, and in each round a
//! few faults: connections cut in the middle of a record, stalled, slow, replayed; bits flipped; nodes killed,
//! stopped and continued, restarted; logs compacted meanwhile.
//!
//! Then the network is honest again, and without help
//!
//! - both followers converge to the leader's log, byte for byte, and its state;
//! - each write that was acknowledged is in all three histories (its token says so);
//! - no flipped bit was applied, and no node needed a full copy: no history was gone.

use crate::common::nodes::{
    CATCH_UP, StopOnDrop, assert_replicated, count, follower_of, info, random_batch,
};
use crate::common::proxy::{Proxy, Way};
use crate::common::resp::{Resp, Value, encode};
use crate::common::rng::{Rng, fresh_seed};
use crate::common::server::{Server, set_deadline};
use crate::common::{DEADLINE, long_form, note, number_from_env};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

const WRITERS: u64 = 4;
/// Small, so that segments end and compactions begin all the time; a link that stalls is given up soon.
const SETTINGS: [(&str, &str); 5] = [
    ("segment-size", "32kb"),
    ("auto-compact-min-size", "256kb"),
    ("compact-rate", "4mb"),
    ("repl-backlog-size", "500mb"),
    ("repl-timeout", "1"),
];

struct Cluster {
    leader: Server,
    followers: [Server; 2],
    proxies: [Proxy; 2],
    rng: Rng,
    /// The counters of INFO of processes that have ended since.
    totals: BTreeMap<&'static str, u64>,
    faults: BTreeMap<&'static str, u64>,
}

const COUNTED: [&str; 4] = [
    "kvstore_full_copies_received",
    "kvstore_full_copies_sent",
    "kvstore_rejected",
    "kvstore_links_continued",
];

/// The replies that the writers got.
#[derive(Default)]
struct Acknowledged {
    writes: AtomicU64,
    /// The last token of each writer.
    tokens: Mutex<BTreeMap<u64, String>>,
}

#[test]
fn followers_always_converge() {
    let rounds = if long_form() { 100 } else { 10 };
    let rounds = number_from_env("KVSTORE_ROUNDS").unwrap_or(rounds);
    let seed = number_from_env("KVSTORE_SEED").unwrap_or_else(fresh_seed);
    note(&format!("{rounds} rounds of faults (KVSTORE_SEED={seed})"));
    let leader = Server::start(&SETTINGS);
    let proxies = [0, 1].map(|n| Proxy::to(leader.port(), seed + n));
    let followers = [0, 1].map(|n| follower_of(proxies[n].port(), &SETTINGS));
    let (totals, faults) = (BTreeMap::new(), BTreeMap::new());
    let rng = Rng::new(seed);
    let mut cluster = Cluster { leader, followers, proxies, rng, totals, faults };
    let acknowledged = Acknowledged::default();
    for round in 1..=rounds {
        if long_form() {
            note(&format!("round {round} of {rounds}"));
        }
        cluster.round(&acknowledged, seed + 100 * round);
        cluster.check(&acknowledged);
    }
    for node in [0, 1, 2] {
        cluster.harvest(node);
    }
    let flipped: u64 = cluster.proxies.iter().map(Proxy::flipped).sum();
    let totals = &cluster.totals;
    note(&format!(
        "{rounds} rounds: {} acknowledged writes, 0 lost; {flipped} bits flipped, 0 applied; faults {:?}; {:?}",
        acknowledged.writes.load(SeqCst),
        cluster.faults,
        totals
    ));
    assert_eq!(totals["kvstore_full_copies_received"], 0, "no history was gone");
}

impl Cluster {
    fn round(&mut self, acknowledged: &Acknowledged, seed: u64) {
        let stop = AtomicBool::new(false);
        let port = Mutex::new(self.leader.port());
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (stop, port) = (&stop, &port);
                scope.spawn(move || write(writer, seed, port, stop, acknowledged));
            }
            let stop = StopOnDrop(&stop);
            for _ in 0..self.rng.between(1, 3) {
                self.some_time();
                self.fault();
                *port.lock().expect("not poisoned") = self.leader.port();
            }
            self.some_time();
            drop(stop);
        });
        self.proxies.iter().for_each(Proxy::heal);
    }

    fn some_time(&mut self) {
        thread::sleep(Duration::from_millis(self.rng.between(1, 150) as u64));
    }

    fn fault(&mut self) {
        let (which, node) = (self.rng.below(2), self.rng.below(3));
        let amount = self.rng.between(1, 200_000) as u64;
        let proxy = &self.proxies[which];
        let name = match self.rng.below(14) {
            0 => (proxy.cut(), "cut").1,
            1 => (proxy.cut_in(amount), "cut later").1,
            2 | 3 => (proxy.flip(Way::Down), "flip down").1,
            4 => (proxy.flip(Way::Up), "flip up").1,
            5 => (proxy.stall(true), "stall").1,
            6 => (proxy.throttle(10_000 + amount), "throttle").1,
            7 => (proxy.delay(1 + amount / 10_000), "delay").1,
            8 => {
                proxy.replay();
                proxy.cut();
                "replay"
            }
            9 => (self.restart(node, "TERM"), "TERM").1,
            10 | 11 => (self.restart(node, "KILL"), "KILL").1,
            12 => {
                self.server(node).signal("STOP");
                thread::sleep(Duration::from_millis(amount / 100));
                self.server(node).signal("CONT");
                "STOP"
            }
            _ => {
                Resp::connect(self.server(node).port()).call(&["BGREWRITEAOF"]);
                "compaction"
            }
        };
        *self.faults.entry(name).or_default() += 1;
    }

    /// The leader is 2.
    fn server(&self, node: usize) -> &Server {
        self.followers.get(node).unwrap_or(&self.leader)
    }

    fn restart(&mut self, node: usize, signal: &str) {
        self.harvest(node);
        match node {
            2 => {
                self.leader.restart(signal);
                self.proxies.iter().for_each(|proxy| proxy.set_target(self.leader.port()));
            }
            _ => self.followers[node].restart(signal),
        }
    }

    fn harvest(&mut self, node: usize) {
        for name in COUNTED {
            *self.totals.entry(name).or_default() += count(self.server(node).port(), name);
        }
    }

    fn check(&self, acknowledged: &Acknowledged) {
        assert_replicated(&self.leader, &[&self.followers[0], &self.followers[1]]);
        for token in acknowledged.tokens.lock().expect("not poisoned").values() {
            for node in 0..3 {
                let reply = Resp::connect(self.server(node).port()).call(&["WAITSEQ", token, "0"]);
                assert_eq!(reply, Value::ok(), "token {token} on node {node}");
            }
        }
        for follower in &self.followers {
            assert_eq!(info(follower.port(), "kvstore_diverged_records"), "0");
        }
    }
}

/// Writes to the leader, wherever it is, until it is told to stop; notes what is acknowledged.
fn write(writer: u64, seed: u64, port: &Mutex<u16>, stop: &AtomicBool, told: &Acknowledged) {
    let mut rng = Rng::new(seed + writer);
    while !stop.load(SeqCst) {
        let port = *port.lock().expect("not poisoned");
        // The leader may be gone; then the port is another one soon.
        let _ = write_until_gone(writer, &mut rng, port, stop, told);
        thread::sleep(Duration::from_millis(5));
    }
}

fn write_until_gone(
    writer: u64,
    rng: &mut Rng,
    port: u16,
    stop: &AtomicBool,
    told: &Acknowledged,
) -> std::io::Result<()> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    set_deadline(&stream, CATCH_UP.min(DEADLINE));
    let mut stream = BufReader::new(stream);
    while !stop.load(SeqCst) {
        let mut bytes = Vec::new();
        if rng.below(400) == 0 {
            encode(&["FLUSHALL"], &mut bytes);
            stream.get_mut().write_all(&bytes)?;
            line(&mut stream)?;
            bytes.clear();
        }
        let replies = random_batch(rng, &format!("w{writer}"), &mut bytes);
        encode(&["LASTSEQ"], &mut bytes);
        stream.get_mut().write_all(&bytes)?;
        let mut token = String::new();
        for _ in 0..replies {
            // Of an array, as EXEC's answer, the elements stand on lines of their own.
            let reply = line(&mut stream)?;
            let elements = reply.strip_prefix('*').and_then(|count| count.parse().ok());
            for _ in 0..elements.unwrap_or(0) {
                line(&mut stream)?;
            }
        }
        for _ in 0..2 {
            token = line(&mut stream)?;
        }
        told.writes.fetch_add(replies as u64, SeqCst);
        thread::sleep(Duration::from_millis(1));
        if !token.ends_with(":0") {
            told.tokens.lock().expect("not poisoned").insert(writer, token);
        }
    }
    Ok(())
}

fn line(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut line = String::new();
    match stream.read_line(&mut line)? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim_end().to_owned()),
    }
}
