//! `kvstore man`: the manual page, made from the tables of tools, settings and commands.

use super::{Arguments, Error, OVERVIEW, TOOLS, Tool, print};
use crate::admin;
use crate::commands::{Family, Spec};
use crate::config::{self, SETTINGS, Setting};
use std::fmt::Write;

pub(super) const TOOL: Tool = Tool {
    name: "man",
    help: "\
kvstore man

Prints the manual page:
  kvstore man | man -l -
",
    words: (0, 0),
    switches: &[],
    values: &[],
    run,
};

fn run(_: &Arguments) -> Result<(), Error> {
    print(&page());
    Ok(())
}

fn page() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(
        ".TH KVSTORE 1 \"\" \"kvstore {version}\" \"User Commands\"\n\
         .SH NAME\nkvstore \\- {}\n",
        escaped(env!("CARGO_PKG_DESCRIPTION"))
    );
    section(&mut page, "SYNOPSIS");
    as_it_is(&mut page, OVERVIEW.split("\nEach tool").next().unwrap_or_default());
    section(&mut page, "TOOLS");
    for tool in &TOOLS {
        subsection(&mut page, tool.name);
        as_it_is(&mut page, tool.help);
    }
    section(&mut page, "OPTIONS OF THE SERVER");
    as_it_is(&mut page, config::OPENING);
    SETTINGS.iter().for_each(|row| setting(&mut page, row));
    section(&mut page, "COMMANDS");
    let commands = admin::commands();
    for family in Family::ALL {
        subsection(&mut page, family.name());
        let rows = commands.rows().iter().filter(|row| row.family == family);
        rows.for_each(|row| command(&mut page, row));
    }
    page
}

fn section(page: &mut String, title: &str) {
    let _ = writeln!(page, ".SH {title}");
}

fn subsection(page: &mut String, title: &str) {
    let _ = writeln!(page, ".SS {title}");
}

/// Text with its own line ends.
fn as_it_is(page: &mut String, text: &str) {
    page.push_str(".nf\n");
    text.lines().for_each(|line| entry_line(page, line));
    page.push_str(".fi\n");
}

fn setting(page: &mut String, row: &Setting) {
    if let Some(heading) = row.heading {
        subsection(page, heading);
    }
    page.push_str(".TP\n");
    let _ =
        writeln!(page, "\\fB\\-\\-{}\\fR {}", escaped(row.name), escaped(&row.kind.placeholder()));
    config::description(row).iter().for_each(|line| {
        entry_line(page, line);
        page.push_str(".br\n");
    });
}

fn command(page: &mut String, row: &Spec) {
    let name = escaped(&row.name.replace('|', " ").to_uppercase());
    let _ = writeln!(page, ".TP\n\\fB{name}\\fR {}", escaped(row.grammar));
    entry_line(page, row.summary);
}

/// A line of text that is not taken for a request, whatever it begins with.
fn entry_line(page: &mut String, line: &str) {
    let guard = if line.starts_with('.') { "\\&" } else { "" };
    let _ = writeln!(page, "{guard}{}", escaped(line));
}

/// Text in which roff sees no escapes, in characters that every terminal has: dashes and quotes as they are typed.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => escaped.push_str("\\e"),
            '-' => escaped.push_str("\\-"),
            '\'' => escaped.push_str("\\(aq"),
            '`' => escaped.push_str("\\(ga"),
            '^' => escaped.push_str("\\(ha"),
            '~' => escaped.push_str("\\(ti"),
            '…' => escaped.push_str("..."),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_tables_are_in_it() {
        let page = page();
        for tool in &TOOLS {
            assert!(page.contains(&format!("\n.SS {}\n", tool.name)), "{}", tool.name);
        }
        for row in SETTINGS {
            assert!(
                page.contains(&format!("\n\\fB\\-\\-{}\\fR", escaped(row.name))),
                "{}",
                row.name
            );
        }
        for row in admin::commands().rows() {
            let name = escaped(&row.name.replace('|', " ").to_uppercase());
            assert!(page.contains(&format!("\n\\fB{name}\\fR")), "{}", row.name);
        }
    }

    #[test]
    fn text_is_not_taken_for_requests() {
        let mut page = String::new();
        [".TH x", "'x", "a\\b - ~"].iter().for_each(|line| entry_line(&mut page, line));
        assert_eq!(page, "\\&.TH x\n\\(aqx\na\\eb \\- \\(ti\n");
    }
}
