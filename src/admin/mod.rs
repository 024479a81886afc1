//! Commands about the server and its connections: AUTH, HELLO, CLIENT, CONFIG, COMMAND, HELP, DEBUG.
//!
//! A command is a row of `COMMANDS` and a function of a [`ServerCall`](crate::engine::table::ServerCall). Such rows also
//! stand in `pubsub`, `replication` and `observe`, beside what they are about. [`commands`] assembles the table of
//! all of them, above everything that has rows, and the engine gets it when it is opened.

mod absent;
pub(crate) mod client_command;
pub(crate) mod command_command;
pub(crate) mod connection;
pub(crate) mod help;
pub(crate) mod key_specs;
pub(crate) mod log_command;
pub(crate) mod server_command;
mod transaction;

pub use server_command::log_level;

use crate::config::Config;
use crate::engine::table::{Commands, Row, assemble};
use crate::observe::{latency, slowlog, trace};
use crate::{failover, pubsub, replication};

/// The command table, in the order of HELP.
pub fn commands() -> Commands {
    with(&[])
}

/// The command table of a server with these settings: nodes that elect their leader have SENTINEL.
pub fn commands_for(config: &Config) -> Commands {
    if config.is_in_cluster() { with(failover::sentinel::COMMANDS) } else { commands() }
}

fn with(more: &'static [Row]) -> Commands {
    let server = [
        replication::commands::COMMANDS,
        failover::commands::COMMANDS,
        failover::members::COMMANDS,
        connection::COMMANDS,
        client_command::COMMANDS,
        transaction::COMMANDS,
        pubsub::commands::COMMANDS,
        log_command::COMMANDS,
        command_command::COMMANDS,
        server_command::COMMANDS,
        help::COMMANDS,
        latency::COMMANDS,
        slowlog::COMMANDS,
        trace::COMMANDS,
        more,
    ];
    assemble(&server, absent::ABSENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::extra::usage::nearest;
    use crate::commands::{Flags, Shape};
    use crate::engine::Run;

    #[test]
    fn every_row_is_complete() {
        let commands = with(failover::sentinel::COMMANDS);
        for row in commands.rows() {
            assert_eq!(row.name, row.name.to_lowercase());
            assert!(row.arity != 0 && !row.summary.is_empty(), "{}", row.name);
            assert!(row.summary.ends_with('.'), "{}: {}", row.name, row.summary);
            assert!(!(row.flags.has(Flags::WRITE) && row.flags.has(Flags::READONLY)));
            assert!(
                row.name.contains('|') || !row.example.is_empty(),
                "{} has no example",
                row.name
            );
            let found = commands.find(row.name.as_bytes()).expect("the row");
            if matches!(found.run, Run::Data(_)) && row.shape == Shape::Plain {
                let accesses = row.flags.has(Flags::WRITE) || row.flags.has(Flags::READONLY);
                assert!(accesses, "{} neither reads nor writes", row.name);
            }
            if let Some((container, _)) = row.name.split_once('|') {
                let found = commands.find(container.as_bytes()).expect("a container");
                assert_ne!(found.command.shape, Shape::Plain);
            }
        }
    }

    #[test]
    fn names_are_found_in_any_case() {
        let commands = commands();
        assert_eq!(commands.find(b"sEt").map(|found| found.command.name), Some("set"));
        assert!(commands.find(b"sett").is_none());
        for row in commands.rows().iter().filter(|row| row.name.contains('|')) {
            assert!(commands.named(row.name.as_bytes()).is_none(), "{} is called", row.name);
        }
        assert_eq!(commands.named(b"?").map(|found| found.command.name), Some("help"));
        assert_eq!(nearest(&commands, b"GTE"), Some("get"));
        assert_eq!(nearest(&commands, b"expre"), Some("expire"));
        assert_eq!(nearest(&commands, b"NOPE"), None);
        assert_eq!(nearest(&commands, b"frobnicate"), None);
    }
}
