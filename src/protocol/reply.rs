//! Replies: one set of calls, three dialects.
//!
//! A handler says what it answers ([`Reply::int`], [`Reply::bulk`], [`Reply::array`] and then as many
//! elements) and never knows who asked. Several replies are collected in one buffer and sent at once.
//!
//! In text a reply is one line, or one line per element, numbered and indented as `redis-cli` does:
//!
//! ```text
//! OK            (nil)        42          hello big world
//! 1) a          ERR no such key          "a value\nwith a line end is quoted"
//! 2) 1) nested
//!    2) array
//! ```

use super::levels::Levels;
use super::quoting::{Escaping, escape, is_word, needs_quotes, quote};
use crate::digits::decimal;
use crate::error::Failure;
use crate::resp;

/// The form of replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Lines for people and scripts.
    Text,
    /// RESP2, what Redis clients speak at first.
    Resp2,
    /// RESP3, after `HELLO 3`: with maps, sets, doubles and pushes.
    Resp3,
}

/// A buffer of replies.
#[derive(Debug)]
pub struct Reply {
    bytes: Vec<u8>,
    dialect: Dialect,
    /// Bytes that may be collected, beside the largest value that is a whole reply.
    len_max: usize,
    /// Where the current reply begins.
    start: usize,
    levels: Levels,
    /// Bytes of the largest reply here that is one value.
    largest_value: usize,
    /// Something was left out.
    is_cut_short: bool,
}

/// A place in a reply to go back to.
#[derive(Debug)]
pub struct Mark {
    len: usize,
    levels: Levels,
    largest_value: usize,
    is_cut_short: bool,
}

impl Mark {
    /// Bytes that had been written.
    pub fn position(&self) -> usize {
        self.len
    }
}

impl Reply {
    /// An empty buffer; it allocates when it is first written to.
    pub const fn new(dialect: Dialect) -> Reply {
        Reply {
            bytes: Vec::new(),
            dialect,
            len_max: usize::MAX,
            start: 0,
            levels: Levels::new(),
            largest_value: 0,
            is_cut_short: false,
        }
    }

    /// Begins the reply to the next request.
    pub fn start(&mut self) {
        self.start = self.bytes.len();
    }

    /// The dialect of what is written next.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Changes the dialect, between two replies.
    pub fn set_dialect(&mut self, dialect: Dialect) {
        self.dialect = dialect;
    }

    /// Limits the bytes that may be collected. The rest is left out, so that a request which
    /// names a large key a million times costs no memory: the owner of the buffer asks
    /// [`Reply::is_over_limit`] and sends none of it. A reply that is one value always fits.
    pub fn set_limit(&mut self, len_max: usize) {
        self.len_max = len_max;
    }

    /// True if the limit was exceeded, so that something was or will be left out.
    pub fn is_over_limit(&self) -> bool {
        self.is_cut_short || self.bytes.len() > self.bytes_max()
    }

    /// Bytes that may still be written.
    pub fn room(&self) -> usize {
        self.bytes_max().saturating_sub(self.bytes.len())
    }

    /// Bytes of the largest of these replies that is one value: it may exceed the limit.
    pub fn largest_value(&self) -> usize {
        self.largest_value
    }

    fn bytes_max(&self) -> usize {
        self.len_max.saturating_add(self.largest_value)
    }

    /// True if a part of a reply fits. After one that does not fit, none does.
    pub fn fits(&mut self, bytes: usize) -> bool {
        self.is_cut_short |= bytes > self.room();
        !self.is_cut_short
    }

    /// True if nothing of the current reply has been written.
    fn is_at_start(&self) -> bool {
        self.levels.is_empty() && self.bytes.len() == self.start
    }

    /// Bytes between two replies that are not a reply, or are one already.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The bytes written so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Empties the buffer after its bytes were sent, and keeps a little memory for the next replies.
    pub fn clear(&mut self) {
        const KEEP_MAX: usize = 16 << 10;
        self.bytes.clear();
        self.bytes.shrink_to(KEEP_MAX);
        self.start = 0;
        self.largest_value = 0;
        self.is_cut_short = false;
    }

    /// Leaves the replies to an empty buffer, and goes on with that one's memory. The next replies may have `len_max` bytes.
    pub fn park_in(&mut self, other: &mut Reply, len_max: usize) {
        std::mem::swap(self, other);
        (self.dialect, self.len_max) = (other.dialect, len_max);
    }

    /// Takes the bytes out of the buffer.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// A place to go back to, if a command fails half-way.
    pub fn mark(&self) -> Mark {
        Mark {
            len: self.bytes.len(),
            levels: self.levels.clone(),
            largest_value: self.largest_value,
            is_cut_short: self.is_cut_short,
        }
    }

    /// Removes everything written since the mark.
    pub fn rewind(&mut self, mark: &Mark) {
        self.bytes.truncate(mark.len);
        self.levels.clone_from(&mark.levels);
        self.largest_value = mark.largest_value;
        self.is_cut_short = mark.is_cut_short;
    }

    /// `OK`.
    pub fn ok(&mut self) {
        self.simple("OK");
    }

    /// A short fixed text without line ends, such as `PONG`.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error.
    pub fn error(&mut self, failure: &Failure) {
        // A line end in the text (it may quote what the client sent) would forge a second reply, and
        // a terminal would act on any other control character.
        if self.dialect == Dialect::Text {
            let mut text = String::new();
            escape(&mut text, failure.bytes(), Escaping::Controls);
            return self.line(b'-', text.as_bytes());
        }
        let without_line_end = |&byte: &u8| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte };
        self.line(b'-', &failure.bytes().iter().map(without_line_end).collect::<Vec<_>>());
    }

    /// An integer.
    pub fn int(&mut self, value: i64) {
        if self.begin_if_it_fits(1) {
            if self.dialect != Dialect::Text {
                self.bytes.push(b':');
            }
            self.digits(value);
            self.end_line();
        }
    }

    /// A count or a length, as an integer.
    pub fn count(&mut self, value: usize) {
        self.int(value as i64);
    }

    /// 1 for true, 0 for false.
    pub fn flag(&mut self, value: bool) {
        self.int(i64::from(value));
    }

    /// A string of any bytes.
    pub fn bulk(&mut self, value: &[u8]) {
        self.value(b'$', b"", value);
    }

    /// A string of any bytes, or nil.
    pub fn bulk_or_nil(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => self.bulk(value),
            None => self.nil(),
        }
    }

    /// Several lines for people to read, in one string: as they are in text, a verbatim string in RESP3.
    pub fn page(&mut self, text: &str) {
        match self.dialect {
            Dialect::Text if self.levels.is_empty() => {
                let text = text.replace('\r', "");
                let text = text.trim_matches('\n');
                let text = if text.is_empty() { "(empty)" } else { text };
                self.bytes.extend_from_slice(text.as_bytes());
                self.end_line();
                self.largest_value = self.largest_value.max(self.bytes.len() - self.start);
            }
            Dialect::Resp3 => self.value(b'=', b"txt:", text.as_bytes()),
            _ => self.bulk(text.as_bytes()),
        }
    }

    /// Several lines for people to read: as they are in text, an array in RESP.
    pub fn lines(&mut self, lines: &[impl AsRef<str>]) {
        let lines = lines.iter().map(AsRef::as_ref);
        if self.dialect == Dialect::Text {
            return self.page(&lines.collect::<Vec<_>>().join("\n"));
        }
        self.array(lines.len());
        lines.for_each(|line| self.simple(line));
    }

    /// No value.
    pub fn nil(&mut self) {
        self.no_value(b'$');
    }

    /// No array, which RESP2 writes differently from no value.
    pub fn nil_array(&mut self) {
        self.no_value(b'*');
    }

    /// A floating-point number, which only RESP3 has: a string elsewhere.
    pub fn double(&mut self, value: f64) {
        match self.dialect {
            Dialect::Resp3 => self.line(b',', value.to_string().as_bytes()),
            _ => self.bulk(value.to_string().as_bytes()),
        }
    }

    /// Begins an array; its elements are the next `len` replies.
    pub fn array(&mut self, len: usize) {
        self.aggregate(b'*', len, len);
    }

    /// Begins a map; its keys and values are the next `2 * len` replies. An array in RESP2.
    pub fn map(&mut self, len: usize) {
        self.aggregate(b'%', len, 2 * len);
    }

    /// Begins a set. An array in RESP2.
    pub fn set(&mut self, len: usize) {
        self.aggregate(b'~', len, len);
    }

    /// Begins a push, a message that answers no request. An array in RESP2. In text it is one line: words,
    /// quoted where they would read as several, and last a value written as everywhere else. So a line's
    /// first word says what it is, and a value cannot forge another line.
    pub fn push(&mut self, len: usize) {
        self.aggregate(b'>', len, len);
    }

    /// Leaves a place for the array's next element, which [`Reply::element`] writes later.
    pub fn skip_element(&mut self) {
        self.levels.skip_element();
    }

    /// Writes the element at `index` of an outermost array of `len` that is complete but for such places. The
    /// caller has taken out what comes after it, with [`Reply::cut`], and puts it back.
    pub fn element(&mut self, index: usize, len: usize, write: impl FnOnce(&mut Reply)) {
        if self.dialect == Dialect::Text {
            self.levels = Levels::of_element(index, len);
        }
        write(self);
        self.levels = Levels::new();
    }

    /// Removes and returns everything from `position` on.
    pub fn cut(&mut self, position: usize) -> Vec<u8> {
        self.bytes.split_off(position)
    }

    fn aggregate(&mut self, resp3_type: u8, resp3_len: usize, elements: usize) {
        self.levels.begin_element(&mut self.bytes);
        match self.dialect {
            Dialect::Text if elements == 0 => {
                self.bytes.extend_from_slice(b"(empty)");
                self.end_line();
            }
            Dialect::Text => self.levels.open(elements, resp3_type == b'>'),
            Dialect::Resp2 => resp::header(&mut self.bytes, b'*', elements),
            Dialect::Resp3 => resp::header(&mut self.bytes, resp3_type, resp3_len),
        }
    }

    fn value(&mut self, resp_type: u8, tag: &[u8], value: &[u8]) {
        let is_whole = self.is_at_start();
        if !self.begin_if_it_fits(value.len()) {
            return;
        }
        if self.dialect != Dialect::Text {
            resp::header(&mut self.bytes, resp_type, tag.len() + value.len());
            self.bytes.extend_from_slice(tag);
            self.bytes.extend_from_slice(value);
        } else if needs_quotes(value) || (self.levels.is_inside_line() && !is_word(value)) {
            self.bytes.extend_from_slice(quote(value).as_bytes());
        } else {
            self.bytes.extend_from_slice(value);
        }
        self.end_line();
        if is_whole {
            self.largest_value = self.largest_value.max(self.bytes.len() - self.start);
        }
    }

    fn no_value(&mut self, resp2_type: u8) {
        match self.dialect {
            Dialect::Text => self.line(b'_', b"(nil)"),
            Dialect::Resp2 => self.line(resp2_type, b"-1"),
            Dialect::Resp3 => self.line(b'_', b""),
        }
    }

    fn line(&mut self, resp_type: u8, text: &[u8]) {
        if self.begin_if_it_fits(1 + text.len()) {
            if self.dialect != Dialect::Text {
                self.bytes.push(resp_type);
            }
            self.bytes.extend_from_slice(text);
            self.end_line();
        }
    }

    fn digits(&mut self, value: i64) {
        if value < 0 {
            self.bytes.push(b'-');
        }
        self.bytes.extend_from_slice(decimal(value.unsigned_abs(), &mut [0; 20]));
    }

    /// Begins a part of so many bytes. A part that does not fit is left out, unless it is a whole reply.
    fn begin_if_it_fits(&mut self, bytes: usize) -> bool {
        let fits = self.is_at_start() || self.fits(bytes);
        if fits {
            self.levels.begin_element(&mut self.bytes);
        } else {
            self.skip_element();
        }
        fits
    }

    /// Ends an element, and the arrays that it completes.
    fn end_line(&mut self) {
        if self.levels.is_inside_line() {
            return;
        }
        self.bytes.extend_from_slice(if self.dialect == Dialect::Text { b"\n" } else { b"\r\n" });
        self.levels.end_element();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(dialect: Dialect, write: impl Fn(&mut Reply)) -> String {
        let mut reply = Reply::new(dialect);
        write(&mut reply);
        assert!(reply.levels.is_empty(), "an array was not completed");
        String::from_utf8(reply.take()).unwrap()
    }

    fn nested(reply: &mut Reply) {
        reply.array(3);
        reply.map(1);
        reply.bulk(b"a");
        reply.int(-7);
        reply.array(0);
        reply.nil();
    }

    #[test]
    fn text_is_numbered_and_indented() {
        let expected = "1) 1) a\n   2) -7\n2) (empty)\n3) (nil)\n";
        assert_eq!(written(Dialect::Text, nested), expected);
    }

    #[test]
    fn numbers_of_a_long_array_are_aligned() {
        let text = written(Dialect::Text, |reply| {
            reply.array(10);
            (0..9).for_each(|n| reply.int(n));
            reply.array(2);
            reply.ok();
            reply.ok();
        });
        assert!(text.starts_with(" 1) 0\n 2) 1\n"), "{text}");
        assert!(text.ends_with("10) 1) OK\n    2) OK\n"), "{text}");
    }

    #[test]
    fn resp_as_specified() {
        let resp2 = "*3\r\n*2\r\n$1\r\na\r\n:-7\r\n*0\r\n$-1\r\n";
        let resp3 = "*3\r\n%1\r\n$1\r\na\r\n:-7\r\n*0\r\n_\r\n";
        assert_eq!(written(Dialect::Resp2, nested), resp2);
        assert_eq!(written(Dialect::Resp3, nested), resp3);
        assert_eq!(written(Dialect::Resp3, |r| r.int(i64::MIN)), ":-9223372036854775808\r\n");
    }

    #[test]
    fn a_push_is_one_line_that_nothing_in_it_can_forge() {
        let line = |channel: &[u8], value: &[u8]| {
            written(Dialect::Text, |reply| {
                reply.push(3);
                reply.bulk(b"message");
                reply.bulk(channel);
                reply.bulk(value);
            })
        };
        assert_eq!(line(b"news", b"hello world"), "message news hello world\n");
        assert_eq!(line(b"a b", b"'x' \"y\""), "message \"a b\" 'x' \"y\"\n");
        assert_eq!(line(b"'a", b""), "message \"'a\" \"\"\n");
        assert_eq!(line(b"n\nmessage n", b"x\r\nOK"), "message \"n\\nmessage n\" \"x\\r\\nOK\"\n");
        assert_eq!(line(b"(nil)", b"(nil)"), "message \"(nil)\" \"(nil)\"\n");
    }

    #[test]
    fn an_error_is_one_line() {
        let error = Failure::new("ERR unknown command 'a\r\n+OK'");
        let text = written(Dialect::Resp2, |reply| reply.error(&error));
        assert_eq!(text, "-ERR unknown command 'a  +OK'\r\n");
        let text = written(Dialect::Text, |reply| reply.error(&error));
        assert_eq!(text, "ERR unknown command 'a\\r\\n+OK'\n");
    }

    #[test]
    fn beyond_the_limit_values_are_left_out() {
        let mut reply = Reply::new(Dialect::Resp2);
        reply.set_limit(1000);
        reply.array(100);
        (0..100).for_each(|_| reply.bulk(&[b'v'; 400]));
        assert!(reply.is_over_limit());
        assert!(reply.bytes().len() < 2000, "{}", reply.bytes().len());
        assert!(reply.bytes().len() <= 1000, "the value that does not fit is none of it");
        reply.clear();
        assert!(!reply.is_over_limit());
    }

    #[test]
    fn a_reply_that_is_one_value_always_fits_and_no_other_does() {
        let value = [b'v'; 5000];
        for dialect in [Dialect::Text, Dialect::Resp2, Dialect::Resp3] {
            let mut reply = Reply::new(dialect);
            reply.set_limit(1000);
            reply.start();
            reply.bulk(&value);
            assert!(!reply.is_over_limit() && reply.largest_value() >= 5000);
            reply.start();
            reply.simple("PONG");
            assert!(!reply.is_over_limit(), "what comes after it does not suffer from it");
            reply.start();
            reply.array(1);
            reply.bulk(&value);
            assert!(reply.is_over_limit(), "an array of one value");
            let mut alone = Reply::new(dialect);
            alone.set_limit(1000);
            alone.array(1);
            alone.bulk(&value);
            assert!(alone.is_over_limit(), "{dialect:?}: an array of one value, and nothing else");
        }
    }

    #[test]
    fn every_sort_of_element_counts_and_what_is_taken_back_does_not() {
        let elements: [fn(&mut Reply); 6] = [
            |reply| reply.bulk(&[b'v'; 100]),
            |reply| reply.page(&"v".repeat(100)),
            |reply| reply.simple(&"v".repeat(100)),
            |reply| reply.error(&Failure::new("v".repeat(100))),
            |reply| (0..100).for_each(|_| reply.int(7)),
            |reply| (0..100).for_each(|_| reply.nil()),
        ];
        for (write, dialect) in elements.into_iter().flat_map(|write| {
            [Dialect::Text, Dialect::Resp2, Dialect::Resp3].map(|dialect| (write, dialect))
        }) {
            let mut reply = Reply::new(dialect);
            reply.set_limit(1000);
            let mark = reply.mark();
            reply.array(10_000);
            (0..100).for_each(|_| write(&mut reply));
            assert!(reply.is_over_limit() && reply.bytes().len() < 1700, "{dialect:?}");
            reply.rewind(&mark);
            assert!(!reply.is_over_limit());
        }
    }

    #[test]
    fn elements_that_come_later_fit_into_their_places() {
        for dialect in [Dialect::Text, Dialect::Resp2, Dialect::Resp3] {
            let at_once = written(dialect, |reply| {
                reply.array(10);
                (0..10).for_each(|_| nested(reply));
            });
            let in_parts = written(dialect, |reply| {
                reply.array(10);
                let mut places = Vec::new();
                for index in 0..10 {
                    if [0, 3, 4, 9].contains(&index) {
                        places.push((index, reply.bytes().len()));
                        reply.skip_element();
                    } else {
                        nested(reply);
                    }
                }
                for (index, place) in places.into_iter().rev() {
                    let behind = reply.cut(place);
                    reply.element(index, 10, nested);
                    reply.raw(&behind);
                }
            });
            assert_eq!(in_parts, at_once);
        }
    }

    #[test]
    fn a_rewound_reply_leaves_nothing() {
        let text = written(Dialect::Text, |reply| {
            reply.array(2);
            reply.ok();
            let mark = reply.mark();
            reply.array(2);
            reply.ok();
            reply.rewind(&mark);
            reply.nil();
        });
        assert_eq!(text, "1) OK\n2) (nil)\n");
    }
}
