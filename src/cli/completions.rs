//! `kvstore completions`: what a shell offers after Tab, made from the tables of tools and settings.

use super::{Arguments, Error, TOOLS, Tool, print};
use crate::config::{Kind, SETTINGS, Setting};

pub(super) const TOOL: Tool = Tool {
    name: "completions",
    help: "\
kvstore completions bash|zsh|fish

Prints the script that completes kvstore's tools, options and values in this shell:
  kvstore completions bash > ~/.local/share/bash-completion/completions/kvstore
  kvstore completions zsh  > DIR/_kvstore            (DIR is one of $fpath)
  kvstore completions fish > ~/.config/fish/completions/kvstore.fish
",
    words: (1, 1),
    switches: &[],
    values: &[],
    run,
};

fn run(arguments: &Arguments) -> Result<(), Error> {
    let script = match arguments.words[0].as_str() {
        "bash" => bash(),
        "zsh" => zsh(),
        "fish" => fish(),
        other => return Err(Error::Usage(format!("{other}: not bash, zsh or fish"))),
    };
    print(&script);
    Ok(())
}

/// An option of a tool, or of the server.
struct Opt {
    name: &'static str,
    about: String,
    value: Value,
}

/// What comes after an option.
enum Value {
    None,
    /// One of these words.
    Words(Vec<&'static str>),
    File,
    Dir,
    /// Something that the shell cannot know.
    Any,
}

/// The options of the server.
fn server_options() -> Vec<Opt> {
    let config =
        Opt { name: "config", about: "The configuration file.".into(), value: Value::File };
    SETTINGS.iter().map(setting).chain([config]).collect()
}

fn setting(row: &Setting) -> Opt {
    let value = match &row.kind {
        Kind::YesNo => Value::Words(vec!["yes", "no"]),
        Kind::Choice(words) => Value::Words(words.to_vec()),
        Kind::Text("FILE" | "PATH") => Value::File,
        Kind::Text("DIR") => Value::Dir,
        _ => Value::Any,
    };
    let about = row.help.lines().next().unwrap_or_default();
    let (about, _) = about.split_once(". ").unwrap_or((about, ""));
    let about = about.split(": ").next().unwrap_or_default();
    Opt { name: row.name, about: about.trim_end_matches('.').into(), value }
}

fn tool_options(tool: &Tool) -> Vec<Opt> {
    let opt = |value: fn() -> Value| {
        move |name: &&'static str| Opt { name, about: String::new(), value: value() }
    };
    let switches = tool.switches.iter().map(opt(|| Value::None));
    switches.chain(tool.values.iter().map(opt(|| Value::Any))).collect()
}

/// The names of tools, and `serve`, each with its options.
fn all() -> Vec<(&'static str, Vec<Opt>)> {
    let tools = TOOLS.iter().map(|tool| (tool.name, tool_options(tool)));
    tools.chain([("serve", server_options())]).collect()
}

fn names(options: &[Opt]) -> String {
    let names = options.iter().map(|option| format!("--{}", option.name));
    names.chain(["--help".to_string()]).collect::<Vec<_>>().join(" ")
}

fn bash() -> String {
    let all = all();
    let tools: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    let mut values = String::new();
    for (tool, options) in &all {
        for Opt { name, value, .. } in options {
            let reply = match value {
                Value::None => continue,
                Value::Words(words) => format!("compgen -W '{}' -- \"$cur\"", words.join(" ")),
                Value::File => "compgen -f -- \"$cur\"".into(),
                Value::Dir => "compgen -d -- \"$cur\"".into(),
                Value::Any => ":".into(),
            };
            values += &format!("        {tool}:--{name}) mapfile -t COMPREPLY < <({reply}) ;;\n");
        }
    }
    let options: String = all
        .iter()
        .map(|(tool, options)| format!("        {tool}) options='{}' ;;\n", names(options)))
        .collect();
    format!(
        "\
# bash completion for kvstore, made by: kvstore completions bash
_kvstore() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} tool=${{COMP_WORDS[1]}} options
    COMPREPLY=()
    if [ \"$COMP_CWORD\" = 1 ] && [[ $cur != -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$cur\")
        return
    fi
    # Without the name of a tool, the server is meant.
    [[ $tool == -* ]] && tool=serve
    case $tool:$prev in
{values}        *)
            case $tool in
{options}            esac
            if [[ $cur == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$cur\")
            elif [ \"$tool\" = completions ]; then
                mapfile -t COMPREPLY < <(compgen -W 'bash zsh fish' -- \"$cur\")
            elif [ \"$tool\" != serve ]; then
                mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")
            fi
            ;;
    esac
}}
complete -o filenames -F _kvstore kvstore
",
        tools.join(" ")
    )
}

/// The text in single quotes of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn zsh() -> String {
    let mut cases = String::new();
    for (tool, options) in all() {
        let spec = |option: &Opt| {
            let about = option.about.replace('[', "(").replace(']', ")").replace(':', "\\:");
            let value = match &option.value {
                Value::None => String::new(),
                Value::Words(words) => format!(":value:({})", words.join(" ")),
                Value::File => ":file:_files".into(),
                Value::Dir => ":directory:_files -/".into(),
                Value::Any => ":value:".into(),
            };
            format!(" \\\n            {}", quoted(&format!("--{}[{about}]{value}", option.name)))
        };
        let specs: String = options.iter().map(spec).collect();
        let rest = match tool {
            "completions" => "'*:shell:(bash zsh fish)'",
            _ => "'*:file:_files'",
        };
        cases += &format!("        {tool}) _arguments '--help[Explains it.]'{specs} {rest} ;;\n");
    }
    let tools: Vec<String> =
        all().iter().map(|(name, _)| quoted(&format!("{name}:{}", summary(name)))).collect();
    format!(
        "\
#compdef kvstore
# zsh completion for kvstore, made by: kvstore completions zsh
_kvstore() {{
    local -a tools=({})
    if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then
        _describe tool tools
        return
    fi
    # Without the name of a tool, the server is meant.
    local tool=$words[2]
    if [[ $tool == -* ]]; then tool=serve; else shift words; (( CURRENT-- )); fi
    case $tool in
{cases}    esac
}}
if [[ $funcstack[1] == _kvstore ]]; then _kvstore \"$@\"; else compdef _kvstore kvstore; fi
",
        tools.join(" ")
    )
}

fn fish() -> String {
    let mut lines =
        String::from("# fish completion for kvstore, made by: kvstore completions fish\n");
    for (tool, options) in all() {
        let about = quoted(summary(tool));
        lines += &format!("complete -c kvstore -n __fish_use_subcommand -f -a {tool} -d {about}\n");
        for Opt { name, about, value } in options {
            let condition = format!("-n '__fish_seen_subcommand_from {tool}'");
            let value = match value {
                Value::None => String::new(),
                Value::Words(words) => format!(" -x -a '{}'", words.join(" ")),
                Value::File => " -r -F".into(),
                Value::Dir => " -x -a '(__fish_complete_directories)'".into(),
                Value::Any => " -x".into(),
            };
            let about = quoted(&about);
            lines += &format!("complete -c kvstore {condition} -l {name}{value} -d {about}\n");
        }
    }
    lines
        + "complete -c kvstore -n '__fish_seen_subcommand_from completions' -f -a 'bash zsh fish'\n"
}

/// The line about a tool in the overview.
fn summary(name: &str) -> &'static str {
    let is_its = |line: &&str| {
        let rest = line.strip_prefix("kvstore ").map(|rest| rest.trim_start_matches('['));
        rest.is_some_and(|rest| rest.starts_with(name))
    };
    let line = super::OVERVIEW.lines().find(is_its).unwrap_or_default();
    line.rsplit_once("  ").map_or("", |(_, about)| about.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_and_setting_is_in_every_script() {
        for script in [bash(), zsh(), fish()] {
            for tool in &TOOLS {
                assert!(script.contains(tool.name), "{}", tool.name);
                assert_ne!(summary(tool.name), "", "{}: a line of the overview", tool.name);
            }
            for row in SETTINGS {
                assert!(script.contains(row.name), "{}", row.name);
            }
        }
    }

    #[test]
    fn values_are_those_of_the_table() {
        assert!(
            bash().contains("serve:--appendonly) mapfile -t COMPREPLY < <(compgen -W 'yes no'")
        );
        assert!(zsh().contains("'--inline-replies["), "{}", zsh());
        assert!(zsh().contains(":value:(text resp)'"));
        assert!(fish().contains("-l repair -d ''\n"));
        assert_eq!(quoted("the disk's"), "'the disk'\\''s'");
    }
}
