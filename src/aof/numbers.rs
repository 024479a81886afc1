//! Numbers and words as our lines hold them, in files and on the link: `#1024 3 1767225600123 33 8f3a1c02`.
//!
//! Each number has exactly one spelling, and the parser accepts no other. So a flipped bit in a line either
//! changes its meaning, which a crc shows, or makes it unreadable.

use crate::digits;

/// The longest line of ours, with its end. Stock Redis skips only lines that begin with `#` and are no longer.
pub const LINE_BYTES_MAX: usize = 1023;

/// The words of a line, with one blank between two of them. Each method takes the next word; None if it is
/// missing or spelled differently than we would.
#[derive(Clone, Debug)]
pub struct Words<'l>(Option<&'l [u8]>);

impl<'l> Words<'l> {
    /// The words of this line, which has no line end.
    pub fn of(line: &'l [u8]) -> Words<'l> {
        Words(Some(line))
    }

    /// The words after `prefix`; None if the line begins differently.
    pub fn after(prefix: &[u8], line: &'l [u8]) -> Option<Words<'l>> {
        line.strip_prefix(prefix).map(Words::of)
    }

    /// Any word.
    pub fn word(&mut self) -> Option<&'l [u8]> {
        let rest = self.0?;
        let end = rest.iter().position(|&byte| byte == b' ');
        self.0 = end.map(|end| &rest[end + 1..]);
        Some(&rest[..end.unwrap_or(rest.len())])
    }

    /// A decimal number.
    pub fn number(&mut self) -> Option<u64> {
        canonical_number(self.word()?)
    }

    /// Eight hex digits.
    pub fn crc(&mut self) -> Option<u32> {
        parse_crc(self.word()?)
    }

    /// All words that are left.
    pub fn rest(&self) -> Option<&'l [u8]> {
        self.0
    }

    /// Requires that no word is left, and returns `value`.
    pub fn end<T>(&self, value: T) -> Option<T> {
        if self.0.is_none() { Some(value) } else { None }
    }
}

/// Eight lower-case hex digits.
pub fn hex(crc: u32) -> [u8; 8] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|at| DIGITS[(crc >> (28 - 4 * at)) as usize & 15])
}

/// Reads what [`hex`] wrote.
pub fn parse_crc(digits: &[u8]) -> Option<u32> {
    let add = |crc: u32, &digit: &u8| match digit {
        b'0'..=b'9' => Some(crc << 4 | u32::from(digit - b'0')),
        b'a'..=b'f' => Some(crc << 4 | u32::from(digit - b'a' + 10)),
        _ => None,
    };
    if digits.len() == 8 { digits.iter().try_fold(0, add) } else { None }
}

/// Reads a decimal number without a sign or leading zeros.
pub fn canonical_number(digits: &[u8]) -> Option<u64> {
    digits::parse(digits).filter(|_| digits.len() == 1 || digits[0] != b'0')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aof::record::Position;

    #[test]
    fn numbers_have_one_spelling() {
        let number = |text: &str| Words::of(text.as_bytes()).number();
        assert_eq!([number("0"), number("18446744073709551615")], [Some(0), Some(u64::MAX)]);
        for bad in ["", "00", "+1", "-1", "1x", "18446744073709551616", "\u{661}"] {
            assert_eq!(number(bad), None, "{bad}");
        }
        assert_eq!(parse_crc(b"0000abcd"), Some(0xabcd));
        assert_eq!((parse_crc(b"0000ABCD"), parse_crc(b"abcd")), (None, None));
    }

    #[test]
    fn words_are_taken_one_after_another() {
        let mut words = Words::after(b"#base ", b"#base 7 2 000000ab").unwrap();
        let position = Position::read(&mut words).unwrap();
        assert_eq!((position.seq.0, position.epoch.0, position.crc), (7, 2, 0xab));
        assert_eq!((words.end(1), words.word()), (Some(1), None));
        let mut words = Words::of(b"1  ");
        assert_eq!((words.number(), words.end(())), (Some(1), None));
        assert_eq!([words.word(), words.word(), words.word()], [Some(&b""[..]), Some(b""), None]);
    }
}
