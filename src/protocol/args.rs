//! The arguments of one request, where they lie in the bytes received: nothing is copied.

use std::ops::Index;

/// Where one argument begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Offset of its first byte.
    pub start: usize,
    /// Offset after its last byte.
    pub end: usize,
}

/// A request's arguments; the first is the command's name.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    /// Arguments at these places in `bytes`.
    pub fn new(bytes: &'a [u8], spans: &'a [Span]) -> Args<'a> {
        Args { bytes, spans }
    }

    /// The number of arguments, including the command's name.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The argument at this index, if there is one.
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.spans.get(index).map(|span| &self.bytes[span.start..span.end])
    }

    /// All arguments from this index on.
    pub fn from(&self, index: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone + use<'a> {
        let (bytes, spans) = (self.bytes, self.spans.get(index..).unwrap_or_default());
        spans.iter().map(move |span| &bytes[span.start..span.end])
    }

    /// True if the argument at this index is this word, in upper or lower case.
    pub fn is(&self, index: usize, word: &str) -> bool {
        self.get(index).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// Without the first `count` arguments: the command inside a command.
    pub fn skip(&self, count: usize) -> Args<'a> {
        Args { bytes: self.bytes, spans: self.spans.get(count..).unwrap_or_default() }
    }
}

impl Index<usize> for Args<'_> {
    type Output = [u8];

    /// # Panics
    /// If there are not that many: check the arity first.
    fn index(&self, index: usize) -> &[u8] {
        self.get(index).expect("the table's arity says that this argument is there")
    }
}
