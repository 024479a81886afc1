//! COMMAND: the table, for programs.

use super::key_specs;
use crate::commands::{Command, Flags};
use crate::engine::Engine;
use crate::error::Failure;
use crate::glob::Pattern;
use crate::protocol::{Args, Reply};

const INVALID_COMMAND: Failure = Failure::fixed("ERR Invalid command specified");

pub fn all(engine: &Engine, reply: &mut Reply) -> Result<(), Failure> {
    let rows = top_rows(engine);
    reply.array(rows.len());
    rows.iter().for_each(|row| describe(engine, row, reply));
    Ok(())
}

pub fn count(engine: &Engine, reply: &mut Reply) -> Result<(), Failure> {
    reply.count(top_rows(engine).len());
    Ok(())
}

pub fn info(engine: &Engine, args: Args<'_>, reply: &mut Reply) -> Result<(), Failure> {
    if args.len() == 2 {
        return all(engine, reply);
    }
    reply.array(args.len() - 2);
    for name in args.from(2) {
        match engine.commands.find(name) {
            Some(found) => describe(engine, found.command, reply),
            None => reply.nil_array(),
        }
    }
    Ok(())
}

pub fn list(engine: &Engine, args: Args<'_>, reply: &mut Reply) -> Result<(), Failure> {
    // As Redis 7: with the subcommands, which COMMAND COUNT does not count.
    let mut rows = engine.commands.rows().to_vec();
    if args.len() > 2 {
        if args.len() != 5 || !args.is(2, "filterby") {
            return Err(crate::error::SYNTAX);
        }
        if args.is(3, "pattern") {
            let pattern = Pattern::parse(&args[4].to_ascii_lowercase())?;
            rows.retain(|row| pattern.matches(row.name.as_bytes()));
        } else if args.is(3, "aclcat") {
            let category = String::from_utf8_lossy(&args[4]).to_lowercase();
            rows.retain(|row| categories(row).any(|name| name[1..] == category));
        } else if args.is(3, "module") {
            rows.clear();
        } else {
            return Err(crate::error::SYNTAX);
        }
    }
    reply.array(rows.len());
    rows.iter().for_each(|row| reply.bulk(row.name.as_bytes()));
    Ok(())
}

/// What `redis-cli` makes its hints and its help of.
pub fn docs(engine: &Engine, args: Args<'_>, reply: &mut Reply) -> Result<(), Failure> {
    let rows: Vec<&Command> = if args.len() == 2 {
        top_rows(engine)
    } else {
        args.from(2)
            .filter_map(|name| engine.commands.find(name))
            .map(|found| found.command)
            .collect()
    };
    reply.map(rows.len());
    for row in rows {
        reply.bulk(row.name.as_bytes());
        document(engine, row, reply);
    }
    Ok(())
}

fn document(engine: &Engine, row: &Command, reply: &mut Reply) {
    let subcommands: Vec<&Command> = engine.commands.subcommands(row.name).collect();
    let words = grammar_words(row.grammar);
    reply.map(3 + usize::from(!words.is_empty()) + usize::from(!subcommands.is_empty()));
    for (name, value) in
        [("summary", row.summary), ("since", "0.1.0"), ("group", row.family.name())]
    {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    if !words.is_empty() {
        reply.bulk(b"arguments");
        reply.array(words.len());
        for word in words {
            reply.map(2);
            reply.bulk(b"name");
            reply.bulk(word.as_bytes());
            reply.bulk(b"type");
            reply.bulk(b"string");
        }
    }
    if !subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(subcommands.len());
        for subcommand in subcommands {
            reply.bulk(subcommand.name.as_bytes());
            document(engine, subcommand, reply);
        }
    }
}

/// The parts of a grammar: its words, and its bracketed options as a whole.
pub fn grammar_words(grammar: &str) -> Vec<String> {
    let (mut words, mut depth) = (vec![String::new()], 0);
    for character in grammar.chars() {
        depth += i32::from(character == '[') - i32::from(character == ']');
        if character == ' ' && depth == 0 {
            words.push(String::new());
        } else if let Some(word) = words.last_mut() {
            word.push(character);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

pub fn getkeys(engine: &Engine, args: Args<'_>, reply: &mut Reply) -> Result<(), Failure> {
    let (_, keys) = keys_of_call(engine, args)?;
    reply.array(keys.len());
    keys.iter().for_each(|key| reply.bulk(key));
    Ok(())
}

pub fn getkeysandflags(engine: &Engine, args: Args<'_>, reply: &mut Reply) -> Result<(), Failure> {
    let (command, keys) = keys_of_call(engine, args)?;
    reply.array(keys.len());
    for (index, key) in keys.into_iter().enumerate() {
        reply.array(2);
        reply.bulk(key);
        key_specs::flags(key_specs::in_call(command, args.skip(2), index), reply);
    }
    Ok(())
}

fn keys_of_call<'a>(
    engine: &Engine,
    args: Args<'a>,
) -> Result<(&'static Command, Vec<&'a [u8]>), Failure> {
    const NO_KEYS: Failure = Failure::fixed("ERR The command has no key arguments");
    let call = args.skip(2);
    // To Redis, DEBUG is one command without keys. Ours of DEBUG OBJECT is for the locks.
    if call.is(0, "debug") {
        return Err(NO_KEYS);
    }
    let command = engine.commands.lookup(call).ok_or(INVALID_COMMAND)?.command;
    if command.keys.first == 0 {
        return Err(NO_KEYS);
    }
    if !command.accepts(call.len()) {
        return Err(Failure::fixed("ERR Invalid number of arguments specified for command"));
    }
    Ok((command, command.keys(call).collect()))
}

fn top_rows(engine: &Engine) -> Vec<&'static Command> {
    engine.commands.rows().iter().copied().filter(|row| !row.name.contains('|')).collect()
}

fn flag_names(row: &Command) -> impl Iterator<Item = &'static str> {
    let names = [
        (Flags::WRITE, "write"),
        (Flags::READONLY, "readonly"),
        (Flags::DENYOOM, "denyoom"),
        (Flags::ADMIN, "admin"),
        (Flags::FAST, "fast"),
        (Flags::NO_AUTH, "no_auth"),
        (Flags::LOADING, "loading"),
        (Flags::NO_MULTI, "no_multi"),
        (Flags::MAY_REPLICATE, "may_replicate"),
    ];
    let flags = row.flags;
    names.into_iter().filter(move |(flag, _)| flags.has(*flag)).map(|(_, name)| name)
}

fn categories(row: &Command) -> impl Iterator<Item = String> {
    let access = if row.flags.has(Flags::WRITE) {
        Some("@write")
    } else if row.flags.has(Flags::READONLY) {
        Some("@read")
    } else {
        None
    };
    let speed = if row.flags.has(Flags::FAST) { "@fast" } else { "@slow" };
    let admin = row.flags.has(Flags::ADMIN).then_some("@admin");
    let names = [access, Some(speed), admin].into_iter().flatten().map(str::to_string);
    names.chain([format!("@{}", row.family.name())])
}

/// A row as Redis 7 prints it: ten elements.
fn describe(engine: &Engine, row: &Command, reply: &mut Reply) {
    reply.array(10);
    reply.bulk(row.name.as_bytes());
    reply.int(i64::from(row.arity));
    let flags: Vec<&str> = flag_names(row).collect();
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.simple(flag));
    reply.count(row.keys.first);
    reply.int(row.keys.last as i64);
    reply.count(row.keys.step);
    let categories: Vec<String> = categories(row).collect();
    reply.set(categories.len());
    categories.iter().for_each(|category| reply.simple(category));
    // Tips for proxies: none.
    reply.set(0);
    key_specs::describe(row, reply);
    let subcommands: Vec<&Command> = engine.commands.subcommands(row.name).collect();
    // To Redis, what is empty is a set here.
    match subcommands.len() {
        0 => reply.set(0),
        len => reply.array(len),
    }
    subcommands.iter().for_each(|subcommand| describe(engine, subcommand, reply));
}

#[cfg(test)]
mod tests {
    use crate::admin::command_command::grammar_words;

    #[test]
    fn options_stay_together() {
        let words = grammar_words("key value [NX | XX] [EX seconds | PX [x] y]");
        assert_eq!(words, ["key", "value", "[NX | XX]", "[EX seconds | PX [x] y]"]);
        assert!(grammar_words("").is_empty());
    }
}
