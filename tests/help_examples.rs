//! HELP is true: what it tells people to type gives what it says.
//!
//! The hazard: an example is prose until something runs it. A command changes, its example does not,
//! and the first thing that a newcomer types fails. So each row's example is typed into a fresh
//! server. An answer in brackets, such as `(a picture)`, only must not be an error.

mod common;

use common::server::Server;
use common::text::Text;
use kvstore::admin::commands;
use kvstore::commands::Spec;

#[test]
fn each_example_gives_the_answer_that_it_shows() {
    let wrong: Vec<String> = commands().rows().iter().filter_map(|row| check(row).err()).collect();
    assert!(wrong.is_empty(), "examples that are not true:\n{}", wrong.join("\n"));
}

fn check(row: &Spec) -> Result<(), String> {
    if row.example.is_empty() {
        return Ok(());
    }
    let complain = |what: String| Err(format!("{}: {:?}: {what}", row.name, row.example));
    let Some((calls, expected)) = row.example.split_once(" -> ") else {
        return complain("is not `CALL; CALL -> ANSWER`".to_owned());
    };
    let calls: Vec<&str> = calls.split("; ").collect();
    let (last, before) = calls.split_last().expect("split gives at least one");
    if !is_a_call_of(last, row) {
        return complain("shows another command".to_owned());
    }
    let server = Server::start(&[]);
    let mut client = Text::connect(server.port());
    for call in before {
        let answer = client.line(call);
        if is_error(&answer) {
            return complain(format!("{call} gives {answer}"));
        }
    }
    client.send(last);
    client.finish_sending();
    let answer = client.read_to_end();
    let answer = answer.trim_end_matches('\n');
    let is_right = if is_description(expected) { !is_error(answer) } else { answer == expected };
    if is_right { Ok(()) } else { complain(format!("gives {answer:?}")) }
}

/// `CLIENT ID` is a call of `client|id`, and will do as an example of `client`.
fn is_a_call_of(call: &str, row: &Spec) -> bool {
    let mut words = call.split(' ').map(str::to_lowercase);
    row.name.split('|').all(|name| words.next().as_deref() == Some(name))
}

/// `(a picture)`, but not the answers `(nil)` and `(empty)`.
fn is_description(answer: &str) -> bool {
    answer.starts_with('(') && !["(nil)", "(empty)"].contains(&answer)
}

/// The codes that a wrong example could run into.
fn is_error(answer: &str) -> bool {
    ["ERR ", "WRONGTYPE ", "WRONGPASS ", "NOAUTH ", "BUSYKEY "]
        .iter()
        .any(|c| answer.starts_with(c))
}
