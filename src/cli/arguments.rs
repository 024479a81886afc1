//! A tool's arguments: words, and options among them.

use super::{Error, Tool};

/// The arguments of a tool.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    /// All arguments that are not options, in order.
    pub words: Vec<String>,
    /// Options; those that stand alone have no value.
    options: Vec<(String, Option<String>)>,
}

impl Arguments {
    /// Reads `--name`, `--name value`, `--name=value` and words, as the tool's row describes them.
    pub fn parse(tool: &Tool, args: &[String]) -> Result<Arguments, Error> {
        let mut given = Arguments::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let Some(option) = arg.strip_prefix("--") else {
                given.words.push(arg.clone());
                continue;
            };
            let (name, inline) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value.to_string())),
                None => (option, None),
            };
            if tool.values.contains(&name) {
                let value = inline.or_else(|| args.next().cloned());
                let missing = || Error::Usage(format!("--{name}: a value is missing"));
                given.options.push((name.to_string(), Some(value.ok_or_else(missing)?)));
            } else if tool.switches.contains(&name) && inline.is_none() {
                given.options.push((name.to_string(), None));
            } else {
                return Err(Error::Usage(format!("{arg}: no such option")));
            }
        }
        let (min, max) = tool.words;
        match given.words.len() {
            len if len < min => Err(Error::Usage("too few arguments".into())),
            len if len > max => Err(Error::Usage(format!("{}: too many", given.words[max]))),
            _ => Ok(given),
        }
    }

    /// True if this option was given.
    pub fn has(&self, switch: &str) -> bool {
        self.options.iter().any(|(given, _)| given == switch)
    }

    /// The option's value; the last one, if it was given several times.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|(given, _)| given == name)?.1.as_deref()
    }
}
