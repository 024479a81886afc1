//! COMMAND: the table, for programs.

use super::key_specs;
use crate::commands::Family::Server;
use crate::commands::Shape;
use crate::commands::{Flags, Spec};
use crate::engine::Engine;
use crate::engine::table::{FAST, Row, ServerCall, row, sub, subcommands};
use crate::error::Failure;
use crate::protocol::{Args, Reply};
use crate::pubsub::glob::Pattern;

#[rustfmt::skip]
pub const COMMANDS: &[Row] = &[
    row(Server, "command", -1, FAST, all).shape(Shape::ContainerOr)
        .help("[subcommand [argument ...]]", "Describes the commands for programs; HELP is for people.",
            "COMMAND COUNT -> (a number)"),
    sub(Server, "command|count", 2, FAST, count, "", "Returns the number of commands."),
    sub(Server, "command|docs", -2, FAST, docs, "[command-name [command-name ...]]",
        "Returns the documentation of commands."),
    sub(Server, "command|getkeys", -4, FAST, getkeys, "command argument [argument ...]", "Returns the keys of a call."),
    sub(Server, "command|getkeysandflags", -4, FAST, getkeysandflags, "command argument [argument ...]",
        "Returns the keys of a call and the operations on them."),
    sub(Server, "command|help", 2, FAST, subcommands, "", "Lists the subcommands."),
    sub(Server, "command|info", -2, FAST, info, "[command-name [command-name ...]]", "Returns the properties of commands."),
    sub(Server, "command|list", -2, FAST, list,
        "[FILTERBY MODULE module-name | ACLCAT category | PATTERN pattern]", "Returns the names of commands."),
];

const INVALID_COMMAND: Failure = Failure::fixed("ERR Invalid command specified");

fn all(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    let rows = top_rows(call.engine);
    call.reply.array(rows.len());
    rows.iter().for_each(|row| describe(call.engine, row, call.reply));
    Ok(())
}

fn count(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    call.reply.count(top_rows(call.engine).len());
    Ok(())
}

fn info(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let ServerCall { engine, reply, .. } = call;
    if args.len() == 2 {
        return all(call, args);
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

fn list(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    // As in Redis 7, with the subcommands, which COMMAND COUNT does not count.
    let mut rows = call.engine.commands.rows().to_vec();
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
    call.reply.array(rows.len());
    rows.iter().for_each(|row| call.reply.bulk(row.name.as_bytes()));
    Ok(())
}

/// COMMAND DOCS, from which `redis-cli` makes its hints and its help.
fn docs(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let ServerCall { engine, reply, .. } = call;
    let rows: Vec<&Spec> = if args.len() == 2 {
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

fn document(engine: &Engine, row: &Spec, reply: &mut Reply) {
    let subcommands: Vec<&Spec> = engine.commands.subcommands(row.name).collect();
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

/// The words of a grammar; an option in brackets is one word.
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

fn getkeys(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let (_, keys) = keys_of_call(call.engine, args)?;
    call.reply.array(keys.len());
    keys.iter().for_each(|key| call.reply.bulk(key));
    Ok(())
}

fn getkeysandflags(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let ServerCall { engine, reply, .. } = call;
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
) -> Result<(&'static Spec, Vec<&'a [u8]>), Failure> {
    const NO_KEYS: Failure = Failure::fixed("ERR The command has no key arguments");
    let call = args.skip(2);
    // In Redis, DEBUG is one command without keys. Here DEBUG OBJECT has one, for the locks.
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

fn top_rows(engine: &Engine) -> Vec<&'static Spec> {
    engine.commands.top_rows().collect()
}

fn flag_names(row: &Spec) -> impl Iterator<Item = &'static str> {
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

fn categories(row: &Spec) -> impl Iterator<Item = String> {
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

/// Replies with a row in the form of Redis 7: ten elements.
fn describe(engine: &Engine, row: &Spec, reply: &mut Reply) {
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
    let subcommands: Vec<&Spec> = engine.commands.subcommands(row.name).collect();
    // Redis replies with a set if there are none.
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
