//! Arrays in text: each element on a line, numbered and indented as `redis-cli` does; a push is
//! one line of words. In RESP there are no levels.

/// The arrays that are not complete, the innermost last.
#[derive(Clone, Debug, Default)]
pub(super) struct Levels(Vec<Level>);

#[derive(Clone, Copy, Debug)]
struct Level {
    written: usize,
    len: usize,
    /// Blanks before the number of each element but the first.
    indent: usize,
    /// A push: its elements are the words of one line.
    is_line: bool,
}

impl Level {
    /// Numbers are right-aligned to the last one.
    fn digits(&self) -> usize {
        self.len.to_string().len()
    }
}

impl Levels {
    pub const fn new() -> Levels {
        Levels(Vec::new())
    }

    /// Of an outermost array's element: `written` are before it.
    pub fn of_element(written: usize, len: usize) -> Levels {
        Levels(vec![Level { written, len, indent: 0, is_line: false }])
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An array begins.
    pub fn open(&mut self, len: usize, is_line: bool) {
        let indent = self.0.last().map_or(0, |above| above.indent + above.digits() + 2);
        self.0.push(Level { written: 0, len, indent, is_line });
    }

    /// An element begins: writes its number, or the blank before a word.
    pub fn begin_element(&mut self, out: &mut Vec<u8>) {
        let Some(level) = self.0.last_mut() else { return };
        level.written += 1;
        let level = *level;
        if level.is_line {
            let blank = usize::from(level.written > 1);
            return out.extend_from_slice(&b" "[..blank]);
        }
        // The first element is on the line of its array's own number.
        let indent = if level.written == 1 { 0 } else { level.indent };
        let number = format!("{:indent$}{:>2$}) ", "", level.written, level.digits());
        out.extend_from_slice(number.as_bytes());
    }

    /// An element is left out.
    pub fn skip_element(&mut self) {
        if let Some(level) = self.0.last_mut() {
            level.written += 1;
        }
        self.end_element();
    }

    /// An element ends, and with it the arrays that it completes.
    pub fn end_element(&mut self) {
        while self.0.last().is_some_and(|level| level.written == level.len) {
            self.0.pop();
        }
    }

    /// True if the current element is a word of a push, but not the last one.
    pub fn is_inside_line(&self) -> bool {
        self.0.last().is_some_and(|level| level.is_line && level.written < level.len)
    }
}
