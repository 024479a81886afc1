//! One node is linearizable, with and without pipelines, under both policies, and through kill -9.

use crate::client::Mix;
use crate::common::rng::Rng;
use crate::common::server::Server;
use crate::common::{long_form, note};
use crate::{CLIENTS, MIXED, Round, SINGLE, seed};
use std::thread;
use std::time::Duration;

/// Commands of each client in a round.
const COMMANDS: usize = 400;

/// So many rounds on a server that does not fail.
fn without_faults(policy: &str, keys: usize, pipelines: &'static [usize], share: u64) {
    let total = if long_form() { 1_000_000 } else { 200_000 };
    let (rounds, seed) = (total * share / 100 / (CLIENTS * COMMANDS) as u64 + 1, seed());
    let server = Server::start(&[("appendfsync", policy)]);
    let mut calls = 0;
    for number in 0..rounds {
        let mut round = Round::new(number, seed, keys, pipelines);
        round.load(server.port(), COMMANDS);
        let (sent, in_doubt) = round.expect_linearizable(&format!("KVSTORE_SEED={seed}"));
        assert_eq!(in_doubt, 0, "every command is answered");
        calls += sent;
    }
    assert!(calls as u64 >= total * share / 100);
    note(&format!("appendfsync {policy}, registers of {keys}: {calls} calls, linearizable"));
}

#[test]
fn one_command_at_a_time_everysec() {
    without_faults("everysec", 1, SINGLE, 20);
}

#[test]
fn one_command_at_a_time_always() {
    without_faults("always", 1, SINGLE, 20);
}

#[test]
fn pipelines_everysec() {
    without_faults("everysec", 1, MIXED, 20);
}

#[test]
fn pipelines_always() {
    without_faults("always", 1, MIXED, 20);
}

/// Two keys that change in one MULTI are one register, also for a GET of one of them.
#[test]
fn transactions_on_two_keys() {
    without_faults("everysec", 2, MIXED, 20);
}

/// Kills the server under load, and goes on with the same keys after the restart: writes that were answered are
/// there, the others may be.
fn through_kill_9(keys: usize) {
    let (rounds, seed) = (if long_form() { 60 } else { 8 }, seed());
    let mut rng = Rng::new(seed);
    let settings = [("appendfsync", "always"), ("segment-size", "64kb")];
    let mut server = Server::start(&settings);
    let (mut calls, mut in_doubt) = (0, 0);
    for number in 0..rounds {
        let mut round = Round::new(number, seed, keys, MIXED);
        let (port, (clients, load)) = (server.port(), round.parts());
        thread::scope(|scope| {
            for client in clients {
                scope.spawn(move || client.run(port, load, usize::MAX));
            }
            // The moment of the kill is left to chance.
            thread::sleep(Duration::from_millis(rng.between(5, 60) as u64));
            server.kill();
        });
        server = Server::start_in(&server.shared_dir(), &settings);
        // Reads first: a write would hide what was lost.
        for mix in [Mix::Reads, Mix::All] {
            round.clients.iter_mut().for_each(|client| client.mix = mix);
            round.load(server.port(), 50);
        }
        let counts = round.expect_linearizable(&format!("KVSTORE_SEED={seed}, kill {number}"));
        calls += counts.0;
        in_doubt += counts.1;
    }
    assert!(in_doubt > 0, "no kill came while a command was under way");
    note(&format!(
        "{rounds} kills, registers of {keys}: {calls} calls, {in_doubt} in doubt, linearizable"
    ));
}

#[test]
fn kill_9_under_load() {
    through_kill_9(1);
}

#[test]
fn kill_9_within_transactions() {
    through_kill_9(2);
}
