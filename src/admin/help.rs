//! HELP, from the command table.

use super::command_command::grammar_words;
use crate::commands::Family::Server;
use crate::commands::extra::usage::explain_unknown;
use crate::commands::{Family, Spec};
use crate::config::wrap;
use crate::engine::Engine;
use crate::engine::table::{FAST, Row, ServerCall, row};
use crate::error::Failure;
use crate::protocol::Args;

#[rustfmt::skip]
pub const COMMANDS: &[Row] = &[
    row(Server, "help", -1, FAST, help)
        .help("[command | family]", "Lists the commands or those of a family, or explains one; ? is the same.",
            "HELP SET -> (its grammar, its meaning, an example)"),
];

/// The width of a page in columns.
const WIDTH: usize = 78;
/// The largest indent of a continued line.
const INDENT_MAX: usize = 6;

/// `HELP`, `HELP SET`, `HELP CLIENT KILL`, `HELP strings`.
fn help(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let ServerCall { engine, reply, .. } = call;
    if args.len() == 1 {
        reply.page(&overview(engine));
        return Ok(());
    }
    let page = match (engine.commands.row_of(args.skip(1)), family(&args[1])) {
        // PUBSUB is a command and a family.
        (Some(row), Some(family)) => explain(engine, row) + &list(engine, family),
        (Some(row), None) => explain(engine, row),
        (None, Some(family)) => list(engine, family),
        (None, None) => return Err(explain_unknown(&engine.commands, &args[1])),
    };
    reply.page(&page);
    Ok(())
}

fn overview(engine: &Engine) -> String {
    let mut page = String::new();
    for family in Family::ALL {
        let rows = engine.commands.top_rows().filter(|row| row.family == family);
        let names = rows.map(|row| row.name.to_uppercase());
        page.push_str(&wrap(&format!("{:<13}", family.name()), &" ".repeat(13), WIDTH, names));
    }
    page.push_str(
        "HELP <command> explains one, HELP <family> lists a family, QUIT leaves.\n\
         SET greeting hello big world stores all three words, GET greeting prints them.\n",
    );
    page
}

/// The family of this name, in the singular or in the plural.
fn family(name: &[u8]) -> Option<Family> {
    let singular = |name: &[u8]| {
        let lower = name.to_ascii_lowercase();
        lower.strip_suffix(b"s").map_or(lower.clone(), <[u8]>::to_vec)
    };
    let wanted = singular(name);
    Family::ALL.into_iter().find(|family| singular(family.name().as_bytes()) == wanted)
}

/// The commands of a family with a line each.
fn list(engine: &Engine, family: Family) -> String {
    let rows: Vec<_> = engine.commands.top_rows().filter(|row| row.family == family).collect();
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let mut page = format!("{}\n", family.name());
    for row in rows {
        page.push_str(&format!("  {:width$}  {}\n", row.name.to_uppercase(), row.summary));
    }
    page
}

fn explain(engine: &Engine, row: &Spec) -> String {
    let mut page = signature(row) + &format!("  {}\n", row.summary);
    if let Some((calls, answer)) = row.example.split_once(" -> ") {
        page.push_str("  Example:\n");
        calls.split("; ").for_each(|call| page.push_str(&format!("    > {call}\n")));
        answer.lines().for_each(|line| page.push_str(&format!("    {line}\n")));
    }
    for subcommand in engine.commands.subcommands(row.name) {
        page.push_str(&format!("{}  {}\n", signature(subcommand), subcommand.summary));
    }
    page
}

/// The usage, wrapped. An option in brackets is not split.
fn signature(row: &Spec) -> String {
    let name = row.name.replace('|', " ").to_uppercase();
    let indent = " ".repeat(name.len().min(INDENT_MAX));
    wrap(&name, &indent, WIDTH, grammar_words(row.grammar))
}
