//! Errors in the text dialect, with advice for people.

use crate::commands::{Shape, Spec, Table};
use crate::error::{Failure, Kind};
use crate::protocol::Args;

/// The error, with advice on what to type instead.
pub fn explain_failure<F: Copy>(commands: &Table<F>, failure: Failure, args: Args<'_>) -> Failure {
    match failure.kind() {
        Kind::NoAuth => {
            return Failure::fixed("NOAUTH Authentication required: type AUTH <password>");
        }
        Kind::DbOutOfRange => {
            return Failure::new(format!(
                "{failure}: there is one database, number 0; prefixes keep keys apart, as in app1:name, or a \
                 second server does"
            ));
        }
        _ => {}
    }
    let mut row = commands.row_of(args);
    let mut name = &args[0];
    if row.is_some_and(|row| row.shape == Shape::Prefix) && args.len() > 1 {
        (row, name) = (commands.row_of(args.skip(1)), &args[1]);
    }
    let Some(row) = row else { return explain_unknown(commands, name) };

    let what = match failure.kind() {
        Kind::Arity => "ERR wrong number of arguments".into(),
        Kind::Syntax => failure.text(),
        _ => return failure,
    };
    let more = match commands.subcommands(row.name).next() {
        Some(_) => format!("; HELP {} lists the subcommands", row.name.to_uppercase()),
        None => String::new(),
    };
    Failure::new(format!("{what}; usage: {}{more}", usage(row)))
}

pub fn explain_unknown<F: Copy>(commands: &Table<F>, name: &[u8]) -> Failure {
    let typed = &name[..name.len().min(64)];
    if let Some(reason) = commands.why_absent(name) {
        let rest = format!("': {reason} (HELP lists the commands)");
        return Failure::new([b"ERR unknown command '", typed, rest.as_bytes()].concat());
    }
    let hint = match nearest(commands, name) {
        Some(near) => format!("did you mean {}? ", near.to_uppercase()),
        None => String::new(),
    };
    let rest = format!("'; {hint}HELP lists the commands");
    Failure::new([b"ERR unknown command '", typed, rest.as_bytes()].concat())
}

/// The known name with the fewest typing errors, if `name` was probably meant to be that one.
pub fn nearest<F: Copy>(commands: &Table<F>, name: &[u8]) -> Option<&'static str> {
    // Two errors in four letters make another word: NOPE is not COPY.
    const TWO_ERRORS_LEN_MIN: usize = 6;
    const LEN_MAX: usize = 32;
    let typed = std::str::from_utf8(name).ok().filter(|name| name.len() <= LEN_MAX)?;
    let typed = typed.to_ascii_lowercase();
    let errors_max = if typed.len() < TWO_ERRORS_LEN_MIN { 1 } else { 2 };
    let names = commands.top_rows().map(|row| row.name);
    let (errors, name) = names.map(|name| (strsim::osa_distance(&typed, name), name)).min()?;
    (errors <= errors_max && errors < name.len()).then_some(name)
}

/// `SET key value [NX | XX] …`
fn usage(row: &Spec) -> String {
    let name = row.name.replace('|', " ").to_uppercase();
    format!("{name} {}", row.grammar).trim_end().to_string()
}
