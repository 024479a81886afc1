//! The text of `--help`, generated from the table of settings.

use super::settings::KEEP_IT;
use super::{SETTINGS, Setting};

/// The width of the text, in characters.
const WIDTH: usize = 90;

/// What is to be said before the settings.
pub const OPENING: &str = "\
kvstore serve [OPTION]...

Each option below can be given in three ways. If several are used, the first of these wins:
  on the command line          --port 8080 or --port=8080; a yes/no option may stand alone
  in the environment           KVSTORE_PORT=8080
  in the configuration file    port 8080
The configuration file is named by --config FILE or by KVSTORE_CONFIG. It has one option per line;
a line that begins with # is a comment; a value may be put in \"double quotes\". CONFIG SET changes
an option while the server runs, unless it says otherwise below; CONFIG REWRITE then writes the
changes to the file. BYTES may be written 512, 64mb or 1gb.

SIGTERM and SIGINT end the server in order, a second one at once. SIGHUP ends it in order if it
was started at a terminal; otherwise it is logged and ignored. Under nohup it stays ignored.
";

/// The part of `--help` about the options of `serve`.
pub fn help() -> String {
    let mut text = OPENING.to_string();
    for row in SETTINGS {
        if let Some(heading) = row.heading {
            text.extend(["\n", heading, "\n"]);
        }
        text.push_str(&format!("\n  --{} {}\n", row.name, row.kind.placeholder()));
        describe(row, &mut text);
    }
    text
}

fn describe(row: &Setting, text: &mut String) {
    const INDENT: &str = "     ";
    for line in description(row) {
        text.push_str(&wrap(INDENT, INDENT, WIDTH, line.split(' ')));
    }
}

/// A setting's meaning, alternatives, default and advice.
pub fn description(row: &Setting) -> Vec<String> {
    let mut lines = row.help.lines();
    let mut told = vec![lines.next().unwrap_or_default().to_string()];
    let alternatives = lines.next();
    told.extend(alternatives.map(|text| format!("Alternatives: {text}")));
    let default = if row.default.is_empty() { "\"\"" } else { row.default };
    let fixed = if row.at_run_time { "" } else { " It can only be set at start." };
    let alias = row.alias.map(|name| format!(" Also called {name}.")).unwrap_or_default();
    told.push(format!("Default: {default}.{fixed}{alias}"));
    if alternatives.is_some() {
        told.push(format!("If unsure, {}", lines.next().unwrap_or(KEEP_IT)));
    }
    told
}

/// Words on as many lines as they need, of at most `width` characters. The first line begins with
/// `heading`, the others with `indent`.
pub fn wrap(
    heading: &str,
    indent: &str,
    width: usize,
    words: impl IntoIterator<Item: AsRef<str>>,
) -> String {
    let mut text = String::new();
    let mut line = heading.to_string();
    for word in words {
        let word = word.as_ref();
        if line.chars().count() + 1 + word.chars().count() > width {
            text.extend([line.trim_end(), "\n"]);
            line = indent.to_string();
        }
        line.extend([" ", word]);
    }
    text + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_described_in_full() {
        let help = help();
        let unwrapped = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for row in SETTINGS {
            for part in [row.name, row.default].into_iter().chain(row.help.lines()) {
                let part = part.split_whitespace().collect::<Vec<_>>().join(" ");
                assert!(unwrapped.contains(&part), "{}: `{part}` is missing", row.name);
            }
        }
    }

    #[test]
    fn no_line_is_too_wide() {
        for line in help().lines() {
            assert!(line.chars().count() <= 100, "too wide: {line}");
            assert_eq!(line.trim_end(), line, "a blank at the end");
        }
    }

    #[test]
    fn an_option_looks_like_this() {
        let expected = "
  --replica-read-only yes
      A replica takes no writes from clients.
      Default: yes. It can only be set at start. Also called slave-read-only.
";
        assert!(help().ends_with(expected), "{}", help());
    }
}
