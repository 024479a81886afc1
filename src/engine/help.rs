//! HELP, from the command table.

use super::Engine;
use crate::commands::{Command, Family};
use crate::error::Failure;
use crate::protocol::{Args, Reply};

/// Columns that a listing fills.
const WIDTH: usize = 78;

/// `HELP`, `HELP SET`, `HELP CLIENT KILL`.
pub fn help(engine: &Engine, args: Args<'_>, reply: &mut Reply) -> Result<(), Failure> {
    if args.len() == 1 {
        reply.page(&overview(engine));
        return Ok(());
    }
    match engine.commands.row_of(args.skip(1)) {
        Some(row) => reply.page(&explain(engine, row)),
        None => return Err(engine.explain_unknown(&args[1])),
    }
    Ok(())
}

/// `CLIENT HELP` and its like, one line per element as Redis.
pub fn subcommands(engine: &Engine, container: &str, reply: &mut Reply) -> Result<(), Failure> {
    let mut lines = vec![format!(
        "{} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        container.to_uppercase()
    )];
    for row in engine.commands.subcommands(container) {
        let (_, name) = row.name.split_once('|').unwrap_or_default();
        lines.push(format!("{} {}", name.to_uppercase(), row.grammar).trim_end().to_string());
        lines.push(format!("    {}", row.summary));
    }
    reply.array(lines.len());
    lines.iter().for_each(|line| reply.simple(line));
    Ok(())
}

/// `SET key value [NX | XX] …`
pub fn usage(row: &Command) -> String {
    let name = row.name.replace('|', " ").to_uppercase();
    format!("{name} {}", row.grammar).trim_end().to_string()
}

fn overview(engine: &Engine) -> String {
    let mut page = String::new();
    for family in Family::ALL {
        let rows = engine.commands.rows().iter();
        let names = rows
            .filter(|row| row.family == family && !row.name.contains('|'))
            .map(|row| row.name.to_uppercase());
        page.push_str(&wrap(&format!("{:<11}", family.name()), names));
    }
    page.push_str(
        "HELP <command> explains one. SET greeting hello big world stores all three words.\n",
    );
    page
}

fn explain(engine: &Engine, row: &Command) -> String {
    let mut page = format!("{}\n  {}\n", usage(row), row.summary);
    if let Some((call, answer)) = row.example.split_once(" -> ") {
        page.push_str(&format!("  Example: {call}\n           {answer}\n"));
    }
    for subcommand in engine.commands.subcommands(row.name) {
        page.push_str(&format!("  {}\n      {}\n", usage(subcommand), subcommand.summary));
    }
    page
}

/// Words behind a heading, on as many lines as they need, indented alike.
fn wrap(heading: &str, words: impl Iterator<Item = String>) -> String {
    let (mut text, mut line) = (String::new(), heading.to_string());
    for word in words {
        if line.len() + 1 + word.len() > WIDTH {
            text.push_str(line.trim_end());
            text.push('\n');
            line = " ".repeat(heading.len());
        }
        line.push(' ');
        line.push_str(&word);
    }
    text.push_str(&line);
    text.push('\n');
    text
}
