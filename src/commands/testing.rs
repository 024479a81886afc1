//! For the tests of this folder: runs a line against a store as the engine would, without its guards.

use super::spec::row;
use super::{
    Call, FAMILIES, Family, Flags, Handler, Keys, Resolved, Row, Shape, Table, lock, text,
};
use crate::clock::UnixMillis;
use crate::protocol::{Args, Decoder, Dialect, Limits, Reply, Step};
use crate::store::Store;

/// A store, and a clock that stands still until it is moved.
pub struct Bench {
    commands: Table<Handler>,
    store: Store,
    /// When the next command runs.
    pub now_ms: u64,
    /// See [`Call::value_len_max`].
    pub value_len_max: usize,
    /// How it is answered.
    pub dialect: Dialect,
}

impl Bench {
    /// An empty store, some time after 1970.
    pub fn new() -> Bench {
        Bench {
            commands: table(),
            store: Store::new(),
            now_ms: 1_000_000_000_000,
            value_len_max: 512 << 20,
            dialect: Dialect::Text,
        }
    }

    /// The answer to a line, errors included, without its last line end.
    pub fn run(&self, line: &str) -> String {
        self.run_and_count(line).0
    }

    /// The answer, and how many effects it took.
    pub fn run_and_count(&self, line: &str) -> (String, usize) {
        let mut decoder = Decoder::default();
        let limits = Limits { bulk_len_max: 1 << 20, unauthenticated: false };
        let input = format!("{line}\n");
        let step = decoder.step(input.as_bytes(), limits);
        assert!(matches!(step, Step::Text(_)), "{line}: {step:?}");
        let spans = text::arguments(&self.commands, decoder.line(), decoder.words()).expect(line);
        let args = decoder.line_args(&spans);

        let mut reply = Reply::new(self.dialect);
        let effects = match self.commands.resolve(args) {
            Ok(found) => self.call(found, args, &mut reply),
            Err(failure) => {
                reply.error(&failure);
                0
            }
        };
        let answer = String::from_utf8_lossy(reply.bytes()).trim_end().to_owned();
        (answer, effects)
    }

    /// Runs the command; returns how many effects it took.
    fn call(&self, found: Resolved<Handler>, args: Args<'_>, reply: &mut Reply) -> usize {
        let mut tx = lock(&self.store, found.command, args, || UnixMillis(self.now_ms));
        let (value_len_max, name) = (self.value_len_max, found.command.name);
        let mut call = Call { tx: &mut tx, reply, value_len_max, name };
        let result = (found.run)(&mut call, args);
        let effects = tx.effects();
        if let Err(failure) = result {
            assert_eq!(effects, 0, "{name} failed and changed something");
            reply.error(&failure);
        }
        effects
    }
}

/// The commands on keys, and the container of DEBUG OBJECT, which is a command about the server.
pub fn table() -> Table<Handler> {
    const DEBUG: &[Row<Handler>] =
        &[row(Family::Server, "debug", -2, Flags::NONE, Keys::NONE, |_, _| Ok(()))
            .shape(Shape::Container)];
    let rows = FAMILIES.iter().copied().chain([DEBUG]).flatten();
    Table::new(rows.map(|row| (&row.spec, row.run)), &[])
}
