//! The command table as the engine runs it: commands on keys, and commands about the server.

use super::{Engine, Session};
use crate::commands::table::Absent;
use crate::commands::{self, Family, Flags, Handler, Shape};
use crate::error::Failure;
use crate::protocol::{Args, Reply};

/// The context of a [`ServerHandler`].
pub struct ServerCall<'c> {
    /// The server.
    pub engine: &'c Engine,
    /// The connection that has sent the command.
    pub session: &'c mut Session,
    /// Where the answer goes.
    pub reply: &'c mut Reply,
}

impl ServerCall<'_> {
    /// Answers OK.
    pub fn ok(&mut self) -> Result<(), Failure> {
        self.reply.ok();
        Ok(())
    }
}

/// The function of a command about the server or its connections.
pub type ServerHandler = fn(&mut ServerCall<'_>, Args<'_>) -> Result<(), Failure>;

/// The row of such a command.
pub type Row = commands::Row<ServerHandler>;

/// The function of a command.
#[derive(Clone, Copy)]
pub enum Run {
    /// It works on keys only: a pure function, run under the locks of its keys.
    Data(Handler),
    /// It works on the connection, the clients or the server, and is run without locks.
    Server(ServerHandler),
}

/// The command table.
pub type Commands = commands::Table<Run>;

/// A row of it.
pub type Resolved = commands::Resolved<Run>;

/// Assembles the table of the commands on keys and of these about the server. `absent` are the names of commands
/// that are left out on purpose.
pub fn assemble(server: &[&'static [Row]], absent: Absent) -> Commands {
    let data = commands::FAMILIES.iter().copied().flatten();
    let data = data.map(|row| (&row.spec, Run::Data(row.run)));
    let server = server.iter().copied().flatten().map(|row| (&row.spec, Run::Server(row.run)));
    Commands::new(data.chain(server), absent)
}

/// The usual flags of quick commands about the server.
pub const FAST: Flags = Flags::FAST.and(Flags::LOADING);
/// The usual flags of commands for operators.
pub const ADMIN: Flags = Flags::ADMIN.and(Flags::LOADING);

/// A row for a command about the server.
pub const fn row(
    family: Family,
    name: &'static str,
    arity: i32,
    flags: Flags,
    run: ServerHandler,
) -> Row {
    Row::new(family, name, arity, flags, run)
}

/// A row for a subcommand: what follows the flags is its grammar and its summary.
pub const fn sub(
    family: Family,
    name: &'static str,
    arity: i32,
    flags: Flags,
    run: ServerHandler,
    grammar: &'static str,
    summary: &'static str,
) -> Row {
    row(family, name, arity, flags, run).help(grammar, summary, "")
}

/// A row for a command that has only subcommands. `help` lists them.
pub const fn container(
    family: Family,
    name: &'static str,
    flags: Flags,
    help: ServerHandler,
    summary: &'static str,
    example: &'static str,
) -> Row {
    let row = row(family, name, -2, flags, help).shape(Shape::Container);
    row.help("subcommand [argument ...]", summary, example)
}

/// `CLIENT HELP` and its like: the subcommands of the container that a call names.
pub fn subcommands(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let container = String::from_utf8_lossy(&args[0]).to_lowercase();
    let title = container.to_uppercase();
    let mut lines =
        vec![format!("{title} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")];
    for row in call.engine.commands.subcommands(&container) {
        let (_, name) = row.name.split_once('|').unwrap_or_default();
        lines.push(format!("{} {}", name.to_uppercase(), row.grammar).trim_end().to_string());
        lines.push(format!("    {}", row.summary));
    }
    call.reply.lines(&lines);
    Ok(())
}
