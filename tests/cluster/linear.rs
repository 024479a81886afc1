//! Hazard: clients see answers that no single register could have given, because the leader changes.
//!
//! Eight clients send commands to the node that leads, wherever it is, while nodes and their network fail. Under
//! `ack majority` and `reads index` an order must explain all answers. Under `ack leader`, and under `reads local`, there
//! is a story for each in which none does, and the same checker must find that.

use crate::client::{Client, Load, Mix, Register};
use crate::common::linear::{Answer, Call, Op, check};
use crate::common::nodes::StopOnDrop;
use crate::common::resp::Value;
use crate::common::rng::fresh_seed;
use crate::common::{long_form, note, number_from_env, wait_until};
use crate::faults::Faults;
use crate::fixture::{Cluster, ELECTED_WITHIN, pipeline};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

const CLIENTS: usize = 8;
const REGISTERS: usize = 8;
const PIPELINES: &[usize] = &[1, 1, 4];
/// Commands of all clients in a round, unless its faults end later.
const ROUND: usize = 4_000;
/// A node that does not answer for so long is left for another one.
const PATIENCE: Duration = Duration::from_secs(1);

#[test]
fn what_clients_see_through_faults_is_linearizable() {
    let total = if long_form() { 1_000_000 } else { 20_000 };
    let seed = number_from_env("KVSTORE_SEED").unwrap_or_else(fresh_seed);
    let settings = [("ack", "majority"), ("reads", "index")];
    let mut faults = Faults::new(Cluster::start(3, &settings), seed, 1);
    faults.end();
    let (mut sent, mut in_doubt, mut number) = (0, 0, 0);
    while sent < total {
        number += 1;
        let clients = one_round(&mut faults, number, seed);
        for register in 0..REGISTERS {
            let calls = calls(&clients, register);
            if let Err(violation) = check(&calls) {
                panic!("KVSTORE_SEED={seed}, round {number}, register {register}: {violation}");
            }
            sent += calls.len();
            in_doubt += calls.iter().filter(|call| call.answered.is_none()).count();
        }
        faults.end();
    }
    note(&format!(
        "{number} rounds of faults: {sent} calls, {in_doubt} of them in doubt, linearizable; {:?}",
        faults.counts
    ));
}

/// New keys in each round, so that calls in doubt do not add up on one.
fn one_round(faults: &mut Faults, number: u64, seed: u64) -> Vec<Client> {
    let register = |at| Register(vec![format!("round:{number}:{at}")]);
    let registers: Vec<Register> = (0..REGISTERS).map(register).collect();
    let new = |id| Client::new(id, seed.wrapping_add(number), Mix::All, REGISTERS);
    let mut clients: Vec<Client> = (1..=CLIENTS).map(new).collect();
    clients.iter_mut().for_each(|client| client.patience = Some(PATIENCE));
    let ports: Vec<u16> = faults.cluster.nodes.iter().map(|node| node.port).collect();
    let (stop, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let load = Load { registers: &registers, pipelines: PIPELINES, clock: Instant::now() };
    thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| follow_leader(client, &ports, load, &stop, &count));
        }
        let _stop = StopOnDrop(&stop);
        faults.some();
        faults.end();
        let is_enough = || count.load(SeqCst) >= ROUND;
        assert!(wait_until(ELECTED_WITHIN, is_enough), "the clients come to nothing");
    });
    clients
}

/// Sends commands to the node that leads, until it is told to stop.
fn follow_leader(
    client: &mut Client,
    ports: &[u16],
    load: Load<'_>,
    stop: &AtomicBool,
    count: &AtomicUsize,
) {
    let mut at = client.id;
    while !stop.load(SeqCst) {
        let before = client.calls.len();
        if client.run(ports[at % ports.len()], load, 20).is_err() {
            at += 1;
            thread::sleep(Duration::from_millis(5));
        }
        count.fetch_add(client.calls.len().saturating_sub(before), SeqCst);
    }
}

fn calls(clients: &[Client], register: usize) -> Vec<Call> {
    let calls = clients.iter().flat_map(|client| &client.calls);
    calls.filter(|(at, _)| *at == register).map(|(_, call)| *call).collect()
}

/// A history of one register, written down call by call.
struct History {
    calls: Vec<Call>,
    clock: Instant,
}

impl History {
    fn new() -> History {
        History { calls: Vec::new(), clock: Instant::now() }
    }

    fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    /// Runs a command and records its answer; an error is none.
    fn call(&mut self, op: Op, run: impl FnOnce() -> Value) {
        let called = self.now();
        let answer = match run() {
            Value::Simple(_) => Some(Answer::Ok),
            Value::Null => Some(Answer::Nil),
            value @ Value::Bulk(_) => {
                let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
                Some(Answer::Number(text.parse().expect("a number")))
            }
            _ => None,
        };
        let answered = answer.map(|answer| (self.now(), answer));
        self.calls.push(Call { client: 1, op, called, answered });
    }
}

/// A leader dies with a write that no other node has, after it was answered with OK.
fn loses_its_last_write(ack: &str) -> History {
    let mut cluster = Cluster::start(3, &[("ack", ack), ("reads", "index")]);
    let old = cluster.converge();
    let mut history = History::new();
    history.call(Op::Set(1), || cluster.set(old, "x", "1"));
    cluster.converge();
    let others = cluster.others(old);
    others.iter().for_each(|at| cluster.cut_link(*at, old, true));
    history.call(Op::Set(2), || cluster.set(old, "x", "2"));
    cluster.kill(old);
    cluster.heal();
    let new = cluster.leader_among(&others);
    history.call(Op::Get, || cluster.get(new, "x"));
    history
}

#[test]
fn a_write_that_a_failover_lost_is_found_under_ack_leader() {
    let violation = check(&loses_its_last_write("leader").calls).expect_err("an OK is lost");
    note(&format!("ack leader: {violation}"));
    check(&loses_its_last_write("majority").calls).expect("under ack majority it was no OK");
}

/// A leader stands still while another one is elected and writes. Then it is asked, and goes on. Returns what it answers
/// while it says that it leads, if it does.
fn answers_late(cluster: &Cluster, value: i64) -> Option<History> {
    let old = cluster.converge();
    let mut history = History::new();
    history.call(Op::Set(value), || cluster.set(old, "x", &value.to_string()));
    cluster.converge();
    let client = cluster.connect(old);
    cluster.signal(old, "STOP");
    let new = cluster.leader_among(&cluster.others(old));
    history.call(Op::Set(value + 1), || cluster.set(new, "x", &(value + 1).to_string()));
    let mut leads = false;
    history.call(Op::Get, || {
        let asked = pipeline(client, &[&["MULTI"], &["ROLE"], &["GET", "x"], &["EXEC"]]);
        cluster.signal(old, "CONT");
        match asked.join().expect("it is answered").pop() {
            Some(Value::Array(mut parts)) => {
                leads = parts[0].as_array()[0] == Value::bulk("master");
                parts.remove(1)
            }
            other => other.expect("a reply"),
        }
    });
    leads.then_some(history)
}

#[test]
fn a_stale_read_is_found_under_reads_local() {
    let cluster = Cluster::start(3, &[("ack", "majority"), ("reads", "local")]);
    let stories = (0..10).map(|round| answers_late(&cluster, 10 * round + 1));
    let violation = stories.flatten().find_map(|history| check(&history.calls).err());
    // Whether the thread that steps down or that of the client goes on first is up to the kernel.
    let violation = violation.expect("one of ten reads overtakes the end of its leader's time");
    note(&format!("reads local: {violation}"));
}

#[test]
fn no_stale_read_is_found_under_reads_index() {
    let cluster = Cluster::start(3, &[("ack", "majority"), ("reads", "index")]);
    for round in 0..3 {
        if let Some(history) = answers_late(&cluster, 10 * round + 1) {
            check(&history.calls).expect("a read is confirmed after it ran");
        }
    }
}
