//! From a line's words to arguments: a command whose last argument is a free value takes the rest of
//! the line as it was typed.

use super::{Command, strings};
use crate::protocol::{Span, Word};

/// The arguments of a line: its words, with the rest of the line as one argument where the row says
/// so and the value is not quoted. For SET, the longest run of words at the end that forms valid
/// options is not part of the value.
pub fn arguments(command: Option<&Command>, line: &[u8], words: &[Word]) -> Vec<Span> {
    let mut spans: Vec<Span> = words.iter().map(|word| word.span).collect();
    let Some((command, rest)) = command.and_then(|command| Some((command, command.rest?))) else {
        return spans;
    };
    if rest + 1 >= words.len() || words[rest].quoted {
        return spans;
    }
    let end = if command.name == "set" {
        let tail: Vec<&[u8]> =
            spans[rest + 1..].iter().map(|span| &line[span.start..span.end]).collect();
        words.len() - strings::options_at_end(&tail)
    } else {
        words.len()
    };
    let value = Span { start: words[rest].typed.start, end: words[end - 1].typed.end };
    spans.splice(rest..end, [value]);
    spans
}
