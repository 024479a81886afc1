//! Calls made of the command table: each row states its grammar, `key value [NX | XX] [EX seconds]`, and
//! a random walk through it makes a call that is almost right. Almost, because a wrong one is refused at
//! the door, and the code after those checks is to be tested too.

use super::common::rng::Rng;
use super::words::{any_word, dump, key, number, value};
use kvstore::admin::commands;
use kvstore::commands::Spec;
use kvstore::config::SETTINGS;

pub struct Grammar {
    rows: Vec<&'static Spec>,
    /// The words in capitals of all grammars.
    options: Vec<&'static str>,
}

impl Grammar {
    pub fn new() -> Grammar {
        let rows = commands().rows().to_vec();
        let is_option = |word: &&str| word.len() > 1 && is_literal(word);
        let options = rows.iter().flat_map(|row| tokens(row.grammar)).filter(is_option).collect();
        Grammar { rows, options }
    }

    /// A call of any command.
    pub fn call(&self, rng: &mut Rng) -> Vec<Vec<u8>> {
        let row = rng.pick(&self.rows);
        let mut words: Vec<Vec<u8>> =
            row.name.split('|').map(|word| word.as_bytes().to_vec()).collect();
        if row.grammar.starts_with("command ") {
            // COMMAND GETKEYS looks at a call.
            words.extend(self.call(rng));
        } else {
            expand(rng, &tokens(row.grammar), &mut words);
        }
        if rng.chance(40) {
            for _ in 0..rng.below(3) + 1 {
                self.spoil(rng, &mut words);
            }
        }
        words
    }

    fn spoil(&self, rng: &mut Rng, words: &mut Vec<Vec<u8>>) {
        // The name is spoilt seldom: then nothing else is tested.
        let first = if rng.chance(5) { 0 } else { 1 };
        let at = first + rng.below(words.len() + 1 - first);
        let word = if rng.chance(40) {
            rng.pick(&self.options).as_bytes().to_vec()
        } else {
            any_word(rng)
        };
        match rng.below(4) {
            0 if at < words.len() && words.len() > 1 => drop(words.remove(at)),
            1 if at < words.len() => words[at] = word,
            2 => words.truncate(at.max(1)),
            _ => words.insert(at, word),
        }
    }
}

/// The words of a grammar; brackets, bars and dots are words too.
fn tokens(grammar: &'static str) -> Vec<&'static str> {
    let mut tokens = vec![];
    for word in grammar.split_ascii_whitespace() {
        let opening = word.bytes().take_while(|&b| b == b'[').count();
        let (brackets, rest) = word.split_at(opening);
        let closing = rest.bytes().rev().take_while(|&b| b == b']').count();
        let (word, more) = rest.split_at(rest.len() - closing);
        tokens.extend(brackets.split_inclusive('['));
        tokens.extend(Some(word).filter(|word| !word.is_empty()));
        tokens.extend(more.split_inclusive(']'));
    }
    tokens
}

fn is_literal(token: &str) -> bool {
    !token.bytes().any(|byte| byte.is_ascii_lowercase())
        && token.bytes().any(|b| b.is_ascii_uppercase())
}

/// Walks through a grammar and appends what it meets.
fn expand(rng: &mut Rng, tokens: &[&str], words: &mut Vec<Vec<u8>>) {
    let alternatives = split_at_bars(tokens);
    if alternatives.len() > 1 {
        // The grammar does not say how much of what precedes a bar belongs to it: `TYPE NORMAL | MASTER`.
        let choice = rng.below(alternatives.len());
        if choice > 0 && rng.chance(50) {
            expand(rng, &alternatives[0][..1.min(alternatives[0].len())], words);
        }
        return expand(rng, alternatives[choice], words);
    }
    let mut rest = tokens;
    while let [token, after @ ..] = rest {
        rest = after;
        match *token {
            "[" => {
                let inner = &after[..closing(after)];
                rest = &after[(inner.len() + 1).min(after.len())..];
                if rng.chance(60) {
                    expand(rng, inner, words);
                }
            }
            "]" => {}
            "..." if tokens.len() > 1 => {
                let repeated = &tokens[..tokens.len() - after.len() - 1];
                (0..rng.below(3)).for_each(|_| expand(rng, repeated, words));
            }
            token => words.push(word(rng, token)),
        }
    }
}

/// Where the bracket that was opened before these tokens is closed.
fn closing(tokens: &[&str]) -> usize {
    let mut depth = 1;
    let end = tokens.iter().position(|token| {
        depth += match *token {
            "[" => 1,
            "]" => -1,
            _ => 0,
        };
        depth == 0
    });
    end.unwrap_or(tokens.len())
}

fn split_at_bars<'t>(tokens: &'t [&'t str]) -> Vec<&'t [&'t str]> {
    let mut depth = 0;
    tokens
        .split(|token| {
            depth += match *token {
                "[" => 1,
                "]" => -1,
                _ => 0,
            };
            depth == 0 && *token == "|"
        })
        .collect()
}

fn word(rng: &mut Rng, token: &str) -> Vec<u8> {
    if is_literal(token) {
        let lower = rng.chance(20);
        return if lower { token.to_ascii_lowercase().into() } else { token.into() };
    }
    if rng.chance(5) {
        return any_word(rng);
    }
    match token {
        "serialized-value" => dump(rng),
        "value" | "message" | "channel" | "password" | "username" | "pattern" | "section" => {
            value(rng)
        }
        "parameter" => SETTINGS[rng.below(SETTINGS.len())].name.as_bytes().to_vec(),
        "bit" | "index" | "numlocal" => rng.below(2).to_string().into(),
        "type" => b"string".to_vec(),
        token if token.contains("key") || matches!(token, "source" | "destination") => key(rng),
        _ if rng.chance(70) => number(rng),
        _ => any_word(rng),
    }
}
