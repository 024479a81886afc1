//! From a line's words to arguments: a command whose last argument is a free value takes the rest of
//! the line as it was typed.

use super::{Command, strings};
use crate::protocol::{Span, Word};

/// The arguments of a line: its words, with the rest of the line as one argument where the row says
/// so and the value is not quoted. For SET, the longest run of words at the end that forms valid
/// options is not part of the value.
pub fn arguments(
    command: Option<&Command>,
    line: impl Fn(Span) -> Vec<u8>,
    words: &[Word],
) -> Vec<Span> {
    let mut spans: Vec<Span> = words.iter().map(|word| word.span).collect();
    let Some(rest) = command.and_then(|command| command.rest) else { return spans };
    if rest + 1 >= words.len() || words[rest].quoted {
        return spans;
    }
    let end = if command.is_some_and(|command| command.name == "set") {
        let tail: Vec<Vec<u8>> = words[rest + 1..].iter().map(|word| line(word.span)).collect();
        rest + 1 + tail.len() - strings::options_at_end(&tail)
    } else {
        words.len()
    };
    let value = Span { start: words[rest].typed.start, end: words[end - 1].typed.end };
    spans.splice(rest..end, [value]);
    spans
}
