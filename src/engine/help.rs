//! HELP, and errors for people, from the command table.

use super::Engine;
use super::command_command::grammar_words;
use crate::commands::{Command, Family, Run};
use crate::error::{Failure, NO_AUTH};
use crate::protocol::{Args, Reply};

/// Columns that a listing fills.
const WIDTH: usize = 78;
/// Lines that continue another are indented no further.
const INDENT_MAX: usize = 6;

/// `HELP`, `HELP SET`, `HELP CLIENT KILL`.
pub fn help(engine: &Engine, args: Args<'_>, reply: &mut Reply) -> Result<(), Failure> {
    if args.len() == 1 {
        reply.page(&overview(engine));
        return Ok(());
    }
    match engine.commands.row_of(args.skip(1)) {
        Some(row) => reply.page(&explain(engine, row)),
        None => return Err(explain_unknown(engine, &args[1])),
    }
    Ok(())
}

/// `CLIENT HELP` and its like: for programs one line per element, as in Redis.
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
    reply.lines(&lines);
    Ok(())
}

/// The error with what to type instead, for people.
pub fn explain_failure(engine: &Engine, failure: Failure, args: Args<'_>) -> Failure {
    if failure == NO_AUTH {
        return Failure::fixed("NOAUTH Authentication required: type AUTH <password>");
    }
    let mut row = engine.commands.row_of(args);
    let mut name = &args[0];
    if row.is_some_and(|row| matches!(row.run, Run::Prefix(_))) && args.len() > 1 {
        (row, name) = (engine.commands.row_of(args.skip(1)), &args[1]);
    }
    let Some(row) = row else { return explain_unknown(engine, name) };

    let text = failure.text();
    let what = if text.starts_with("ERR wrong number of arguments") {
        "ERR wrong number of arguments"
    } else if text.to_lowercase().starts_with("err syntax error") {
        &text
    } else {
        return failure;
    };
    let more = match engine.commands.subcommands(row.name).next() {
        Some(_) => format!("; HELP {} lists the subcommands", row.name.to_uppercase()),
        None => String::new(),
    };
    Failure::new(format!("{what}; usage: {}{more}", usage(row)))
}

fn explain_unknown(engine: &Engine, name: &[u8]) -> Failure {
    let typed = &name[..name.len().min(64)];
    let hint = match engine.commands.nearest(name) {
        Some(near) => format!("did you mean {}? ", near.to_uppercase()),
        None => String::new(),
    };
    let rest = format!("'; {hint}HELP lists the commands");
    Failure::new([b"ERR unknown command '", typed, rest.as_bytes()].concat())
}

/// `SET key value [NX | XX] …`
fn usage(row: &Command) -> String {
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
        page.push_str(&wrap(&format!("{:<13}", family.name()), &" ".repeat(13), names));
    }
    page.push_str(
        "HELP <command> explains one, QUIT leaves.\n\
         SET greeting hello big world stores all three words, GET greeting prints them.\n",
    );
    page
}

fn explain(engine: &Engine, row: &Command) -> String {
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

/// The usage on as many lines as it needs; what is in brackets stays together.
fn signature(row: &Command) -> String {
    let name = row.name.replace('|', " ").to_uppercase();
    let indent = " ".repeat(name.len().min(INDENT_MAX));
    wrap(&name, &indent, grammar_words(row.grammar).into_iter())
}

/// Words behind a heading, on as many lines as they need.
fn wrap(heading: &str, indent: &str, words: impl Iterator<Item = String>) -> String {
    let (mut text, mut line) = (String::new(), heading.to_string());
    for word in words {
        if line.len() + 1 + word.len() > WIDTH {
            text.push_str(line.trim_end());
            text.push('\n');
            line = indent.to_string();
        }
        line.push(' ');
        line.push_str(&word);
    }
    text.push_str(&line);
    text.push('\n');
    text
}
