//! The arguments of a line in text. Where a command's last argument is a free value, it is the rest of the line
//! as it was typed.

use super::{Shape, Spec, Table, strings};
use crate::error::Failure;
use crate::protocol::{Span, Word};

/// The arguments of a line. `TRACE` is followed by a command with arguments of its kind.
pub fn arguments<F: Copy>(
    commands: &Table<F>,
    line: &[u8],
    words: &[Word],
) -> Result<Vec<Span>, Failure> {
    let row = |words: &[Word]| {
        let name = words.first()?.span;
        commands.named(&line[name.start..name.end]).map(|found| found.command)
    };
    match (row(words), words) {
        (Some(prefix), [name, words @ ..]) if prefix.shape == Shape::Prefix => {
            let arguments = arguments_of(row(words), line, words)?;
            Ok(std::iter::once(name.span).chain(arguments).collect())
        }
        (command, words) => arguments_of(command, line, words),
    }
}

/// The arguments of a call: its words; the rest of the line is one argument where the row says so and the value
/// is not quoted. For SET, the longest run of words at the end that forms valid options is not part of it.
fn arguments_of(command: Option<&Spec>, line: &[u8], words: &[Word]) -> Result<Vec<Span>, Failure> {
    let mut spans: Vec<Span> = words.iter().map(|word| word.span).collect();
    let Some((command, rest)) = command.and_then(|command| Some((command, command.rest?))) else {
        return Ok(spans);
    };
    if rest + 1 >= words.len() || words[rest].quoted {
        return Ok(spans);
    }
    let end = if command.name == "set" {
        let tail: Vec<&[u8]> =
            spans[rest + 1..].iter().map(|span| &line[span.start..span.end]).collect();
        words.len() - strings::options_at_end(&tail)?
    } else {
        words.len()
    };
    let value = Span { start: words[rest].typed.start, end: words[end - 1].typed.end };
    spans.splice(rest..end, [value]);
    Ok(spans)
}
