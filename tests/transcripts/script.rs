//! The form of a transcript, and how what came back is compared with it.
//!
//! A file is made of prose (comments and blank lines) and of steps: a line that says what is done,
//! and below it what came back. It can be written out again with other replies, everything else as
//! it was.

use crate::common::resp::quote;
use std::fs;
use std::path::{Path, PathBuf};

/// An unpredictable part of a line.
const ANY: &str = "<any>";
const NUMBER: &str = "<number>";
/// As a line: any lines, up to one that matches what follows.
const LINES: &str = "<lines>";
/// As a line: here the server closed the connection.
pub const CLOSED: &str = "<closed>";

pub struct Script {
    pub path: PathBuf,
    /// Settings of the server, from `!server --name value`.
    pub settings: Vec<(String, String)>,
    pub parts: Vec<Part>,
}

pub enum Part {
    /// A line that is kept as it is.
    Prose(String),
    Step(Step),
}

pub struct Step {
    /// Counted from one.
    pub line: usize,
    /// The step as it stands in the file: `a> GET k`.
    pub written: String,
    /// Which client acts; most files have only the one without a name.
    pub client: String,
    pub action: Action,
    /// The lines that come back.
    pub reply: Vec<String>,
}

pub enum Action {
    /// Types a line and Enter, as telnet sends it.
    Type(String),
    /// Sends just these bytes.
    Send(Vec<u8>),
    /// Does nothing but read.
    Wait,
    /// Waits until the server leads.
    UntilItLeads,
    /// Says that nothing more comes, and still reads.
    HalfClose,
    /// Leaves.
    Close,
}

impl Script {
    pub fn read(path: &Path) -> Script {
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut script = Script { path: path.to_owned(), settings: vec![], parts: vec![] };
        for (index, line) in text.lines().enumerate() {
            let read = script.read_line(index + 1, line);
            read.unwrap_or_else(|error| panic!("{}:{}: {error}", path.display(), index + 1));
        }
        script
    }

    fn read_line(&mut self, number: usize, line: &str) -> Result<(), String> {
        if line.is_empty() || line.starts_with('#') {
            self.parts.push(Part::Prose(line.to_owned()));
        } else if let Some(settings) = line.strip_prefix("!server ") {
            self.settings = settings_of(settings)?;
            self.parts.push(Part::Prose(line.to_owned()));
        } else if let Some((client, action)) = head(line) {
            let action = action_of(action)?;
            let (client, written) = (client.to_owned(), line.to_owned());
            let step = Step { line: number, written, client, action, reply: vec![] };
            self.parts.push(Part::Step(step));
        } else {
            self.add_to_reply(line.strip_prefix('\\').unwrap_or(line))?;
        }
        Ok(())
    }

    /// Blank lines before it turn out to be part of the reply too.
    fn add_to_reply(&mut self, line: &str) -> Result<(), String> {
        let is_blank = |part: &Part| matches!(part, Part::Prose(line) if line.is_empty());
        let blanks = self.parts.iter().rev().take_while(|part| is_blank(part)).count();
        self.parts.truncate(self.parts.len() - blanks);
        let Some(Part::Step(step)) = self.parts.last_mut() else {
            return Err("a reply, and nothing was typed".to_owned());
        };
        step.reply.extend(vec![String::new(); blanks]);
        step.reply.push(line.to_owned());
        Ok(())
    }

    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.parts.iter().filter_map(|part| match part {
            Part::Step(step) => Some(step),
            Part::Prose(_) => None,
        })
    }

    /// The file's text with these replies; one that matched stays as it was written.
    pub fn with_replies(&self, replies: &[Vec<String>]) -> String {
        let mut replies = replies.iter();
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Prose(line) => text.push_str(&format!("{line}\n")),
                Part::Step(step) => {
                    text.push_str(&format!("{}\n", step.written));
                    let came = replies.next().expect("a reply for each step");
                    let reply = if matches(&step.reply, came) { &step.reply } else { came };
                    reply.iter().for_each(|line| text.push_str(&format!("{}\n", escaped(line))));
                }
            }
        }
        text
    }
}

/// `a> GET k` is client `a` and `> GET k`; the client's name is at most one letter.
fn head(line: &str) -> Option<(&str, &str)> {
    let (client, rest) = line.split_at(line.starts_with(|c: char| c.is_ascii_lowercase()).into());
    (rest == ">" || rest.starts_with("> ") || rest.starts_with('!')).then_some((client, rest))
}

/// A line of a reply that would read as something else begins with a backslash.
fn escaped(line: &str) -> String {
    let escape = line.starts_with(['#', '\\']) || head(line).is_some();
    format!("{}{line}", if escape { "\\" } else { "" })
}

fn action_of(text: &str) -> Result<Action, String> {
    match text {
        ">" => Ok(Action::Wait),
        "!half-close" => Ok(Action::HalfClose),
        "!until-it-leads" => Ok(Action::UntilItLeads),
        "!close" => Ok(Action::Close),
        _ => match (text.strip_prefix("> "), text.strip_prefix("!send ")) {
            (Some(line), _) => Ok(Action::Type(line.to_owned())),
            (_, Some(strings)) => Ok(Action::Send(bytes_of(strings)?)),
            _ => Err(format!("{text}: no such directive")),
        },
    }
}

/// `--requirepass secret --maxclients 2`
fn settings_of(text: &str) -> Result<Vec<(String, String)>, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let pair = |pair: &[&str]| match pair {
        [name, value] => name.strip_prefix("--").map(|name| (name.to_owned(), (*value).to_owned())),
        _ => None,
    };
    words.chunks(2).map(pair).collect::<Option<_>>().ok_or("!server --name value …".to_owned())
}

/// `"SET k " "x"*70000 "\r\n"`: the escapes are those of the text protocol.
fn bytes_of(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = vec![];
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let inner = rest.strip_prefix('"').ok_or("!send \"bytes\" \"more\"*1000 …")?;
        let (string, behind) = unescape(inner).ok_or("a string without an end")?;
        let behind_star = behind.strip_prefix('*');
        let digits = behind_star.map_or("1", |s| s.split(' ').next().unwrap_or_default());
        let times: usize = digits.parse().map_err(|_| format!("{digits}: not a number"))?;
        bytes.extend(string.repeat(times));
        rest = behind_star.map_or(behind, |s| &s[digits.len()..]).trim_start();
    }
    Ok(bytes)
}

/// The bytes up to the closing quote, and the text after it.
fn unescape(text: &str) -> Option<(Vec<u8>, &str)> {
    let mut bytes = vec![];
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((bytes, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => bytes.push(b'\n'),
                'r' => bytes.push(b'\r'),
                't' => bytes.push(b'\t'),
                'x' => {
                    bytes.push(u8::from_str_radix(text.get(at + 2..at + 4)?, 16).ok()?);
                    chars.nth(1)?;
                }
                other => bytes.extend(other.to_string().as_bytes()),
            },
            other => bytes.extend(other.to_string().as_bytes()),
        }
    }
    None
}

/// A line as it stands in a transcript: without its end, and with strange bytes made visible.
pub fn shown(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match std::str::from_utf8(line) {
        Ok(text) if !text.contains(|c: char| c.is_control()) => text.to_owned(),
        _ => quote(line),
    }
}

/// True if these lines match the transcript.
pub fn matches(expected: &[String], came: &[String]) -> bool {
    match expected.split_first() {
        None => came.is_empty(),
        Some((first, rest)) if first == LINES => {
            (0..=came.len()).any(|skipped| matches(rest, &came[skipped..]))
        }
        Some((first, rest)) => came
            .split_first()
            .is_some_and(|(line, more)| line_matches(first, line) && matches(rest, more)),
    }
}

/// True if more lines could still make it match.
pub fn may_still_match(expected: &[String], came: &[String]) -> bool {
    let until_lines = expected.iter().position(|line| line == LINES);
    let fixed = &expected[..until_lines.unwrap_or(expected.len())];
    (came.len() <= fixed.len() || until_lines.is_some())
        && fixed.iter().zip(came).all(|(pattern, line)| line_matches(pattern, line))
}

fn line_matches(pattern: &str, line: &str) -> bool {
    let wildcards = [ANY, NUMBER].map(|wildcard| (pattern.find(wildcard), wildcard));
    let first = wildcards.into_iter().filter_map(|(at, w)| Some((at?, w))).min();
    let Some((at, wildcard)) = first else { return pattern == line };
    let Some(line) = line.strip_prefix(&pattern[..at]) else { return false };
    let pattern = &pattern[at + wildcard.len()..];
    if wildcard == NUMBER {
        let unsigned = line.strip_prefix('-').unwrap_or(line);
        let rest = unsigned.trim_start_matches(|c: char| c.is_ascii_digit());
        return rest.len() < unsigned.len() && line_matches(pattern, rest);
    }
    line.char_indices()
        .map(|(at, _)| at)
        .chain([line.len()])
        .any(|at| line_matches(pattern, &line[at..]))
}
