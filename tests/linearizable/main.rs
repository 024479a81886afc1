//! Hazard: clients see answers that no single register, asked by one client after another, could have given: a
//! stale read, a lost update, a write that vanishes, half of a transaction.
//!
//! Eight clients send random commands to a few keys and record when each was sent and answered; the checker of
//! `common/linear.rs` looks for an order that explains all answers. One node must be linearizable, also through
//! kill -9. Reads of a follower, and a failover to a follower that lagged, are not: there the checker must find
//! the fault, which also shows that it looks.
//!
//! `by_hand` and `random` test the checker itself. `KVSTORE_LONG=1` sends a million commands (`make chaos`).

#[path = "../common/mod.rs"]
mod common;

mod by_hand;
mod client;
mod one_node;
mod random;
mod two_nodes;

use client::{Client, Load, Mix, Register};
use common::diagram::Violation;
use common::linear::{Call, check};
use common::number_from_env;
use common::rng::fresh_seed;
use std::time::Instant;

const CLIENTS: usize = 8;
const REGISTERS: usize = 8;
/// Commands sent at once.
const SINGLE: &[usize] = &[1];
const MIXED: &[usize] = &[1, 1, 4, 8];

/// Clients, their registers, and what they have recorded. Each round has new keys, so that calls without an
/// answer do not add up on one.
struct Round {
    registers: Vec<Register>,
    clients: Vec<Client>,
    clock: Instant,
    pipelines: &'static [usize],
}

impl Round {
    /// Registers of so many keys each.
    fn new(number: u64, seed: u64, keys: usize, pipelines: &'static [usize]) -> Round {
        let key = |register, half| format!("round:{number}:{register}:{half}");
        let register = |n| Register((0..keys).map(|half| key(n, half)).collect());
        let clients =
            (1..=CLIENTS).map(|id| Client::new(id, seed.wrapping_add(number), Mix::All, REGISTERS));
        Round {
            registers: (0..REGISTERS).map(register).collect(),
            clients: clients.collect(),
            clock: Instant::now(),
            pipelines,
        }
    }

    /// The clients, and the load that each of them gets.
    fn parts(&mut self) -> (&mut [Client], Load<'_>) {
        let Round { registers, clients, clock, pipelines } = self;
        (clients, Load { registers, clock: *clock, pipelines })
    }

    /// Each client sends so many commands to this port, all of which must be answered.
    fn load(&mut self, port: u16, commands: usize) {
        let (clients, load) = self.parts();
        let run = |client: &mut Client| client.run(port, load, commands).expect("the node stays");
        std::thread::scope(|scope| {
            for client in clients {
                scope.spawn(|| run(client));
            }
        });
    }

    /// The calls of a register by the clients that the condition selects.
    fn calls(&self, register: usize, of: impl Fn(&Client) -> bool) -> Vec<Call> {
        let clients = self.clients.iter().filter(|client| of(client));
        let calls = clients.flat_map(|client| &client.calls);
        calls.filter(|(at, _)| *at == register).map(|(_, call)| *call).collect()
    }

    /// The first register whose history no order explains, of all clients.
    fn violation(&self) -> Option<Violation> {
        (0..REGISTERS).find_map(|register| check(&self.calls(register, |_| true)).err())
    }

    /// Fails at a violation; returns the number of calls and, of these, of calls in doubt.
    fn expect_linearizable(&self, context: &str) -> (usize, usize) {
        for (number, register) in self.registers.iter().enumerate() {
            if let Err(violation) = check(&self.calls(number, |_| true)) {
                panic!("{context}, {:?}: {violation}", register.0);
            }
        }
        let calls = || self.clients.iter().flat_map(|client| &client.calls);
        (calls().count(), calls().filter(|(_, call)| call.answered.is_none()).count())
    }
}

fn seed() -> u64 {
    number_from_env("KVSTORE_SEED").unwrap_or_else(fresh_seed)
}
