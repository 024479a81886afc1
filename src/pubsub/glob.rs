//! Glob patterns as Redis has them: `*`, `?`, `[a-z]`, `[^a]`, `\x`. Over bytes, not characters.
//!
//! Pattern and text come from clients. Backtracking for each star is exponential (CVE-2022-36021).
//! Backtracking for the last star only still takes pattern × text steps: seconds for two words of 40,000
//! bytes. So:
//!
//! - A pattern has at most [`PATTERN_BYTES_MAX`] bytes, on every path that takes one.
//! - It is parsed once, into the pieces between its stars. A class is a set of bytes, however long it was.
//! - Each piece is searched for once, from the end of the one before: the leftmost match is as good as any
//!   other. A long piece is searched for at all places at once, with a bit for each of its bytes
//!   (Baeza-Yates and Gonnet, "A new approach to text searching", 1992).
//!
//! So a byte of text takes at most 64 steps ([`Pattern::steps`]).

use crate::error::Failure;

/// The longest pattern, and the longest name of a channel.
pub const PATTERN_BYTES_MAX: usize = 4 << 10;
/// The error for a longer one of either.
pub const PATTERN_TOO_LONG: Failure =
    Failure::fixed("ERR a channel or pattern may have 4096 bytes at most");

/// Up to so many comparisons, trying one place after another is cheaper than preparing to try all at once.
const COMPARISONS_MAX: usize = 4 << 10;

/// A set of bytes, one bit each.
type Set = [u64; 4];

/// Matches one byte of text: that byte, `ANY`, or `FIRST_SET` plus the number of a set.
type Token = u16;
const ANY: Token = 256;
const FIRST_SET: Token = 257;

/// A pattern that is ready to be matched.
#[derive(Clone, Debug)]
pub struct Pattern {
    tokens: Vec<Token>,
    sets: Vec<Set>,
    /// The ends of the pieces between the stars, in `tokens`. Adjacent stars count as one.
    ends: Vec<u16>,
}

impl Pattern {
    /// Parses a pattern. Only its length can be wrong.
    pub fn parse(pattern: &[u8]) -> Result<Pattern, Failure> {
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(PATTERN_TOO_LONG);
        }
        let mut parsed = Pattern { tokens: Vec::new(), sets: Vec::new(), ends: Vec::new() };
        let (mut at, mut after_star) = (0, false);
        while let Some(&byte) = pattern.get(at) {
            let rest = &pattern[at..];
            let (token, len) = match byte {
                b'*' => {
                    if !after_star {
                        parsed.ends.push(parsed.tokens.len() as u16);
                    }
                    (after_star, at) = (true, at + 1);
                    continue;
                }
                b'?' => (ANY, 1),
                b'[' => {
                    let (set, len) = class(rest);
                    (parsed.token_of(set), len)
                }
                b'\\' if rest.len() > 1 => (Token::from(rest[1]), 2),
                literal => (Token::from(literal), 1),
            };
            parsed.tokens.push(token);
            (after_star, at) = (false, at + len);
        }
        parsed.ends.push(parsed.tokens.len() as u16);
        Ok(parsed)
    }

    /// True if all of `text` matches. As in Redis, an empty text is matched by the empty pattern only.
    pub fn matches(&self, text: &[u8]) -> bool {
        if text.len() < self.tokens.len() || (text.is_empty() && self.ends.len() > 1) {
            return false;
        }
        let (first, last) = (self.piece(0), self.piece(self.ends.len() - 1));
        if !self.fits(first, text) {
            return false;
        }
        if self.ends.len() == 1 {
            return first.len() == text.len();
        }
        // The first and the last piece have one possible place each. The text is long enough for all pieces, so
        // these two do not overlap.
        let (mut at, end) = (first.len(), text.len() - last.len());
        if !self.fits(last, &text[end..]) {
            return false;
        }
        for number in 1..self.ends.len() - 1 {
            match self.find(self.piece(number), &text[at..end]) {
                Some(after) => at += after,
                None => return false,
            }
        }
        true
    }

    /// An upper bound, roughly, for the steps that matching a text of this length takes.
    pub fn steps(&self, text_len: usize) -> usize {
        let middle = (1..self.ends.len().max(2) - 1).map(|number| self.piece(number).len());
        self.tokens.len().min(text_len) + text_len.saturating_mul(middle.max().unwrap_or(0).min(64))
    }

    /// Bytes of memory that the pattern takes.
    pub fn allocated_bytes(&self) -> usize {
        size_of_val(&*self.tokens) + size_of_val(&*self.sets) + size_of_val(&*self.ends)
    }

    fn piece(&self, number: usize) -> &[Token] {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.tokens[usize::from(start)..usize::from(self.ends[number])]
    }

    /// The token for a set: of a set that is known, the same again.
    fn token_of(&mut self, set: Set) -> Token {
        let known = self.sets.iter().position(|other| *other == set);
        let number = known.unwrap_or_else(|| {
            self.sets.push(set);
            self.sets.len() - 1
        });
        FIRST_SET + number as Token
    }

    fn accepts(&self, token: Token, byte: u8) -> bool {
        match token {
            ANY => true,
            literal @ ..ANY => literal == Token::from(byte),
            set => holds(&self.sets[usize::from(set - FIRST_SET)], byte),
        }
    }

    /// True if a text that is at least as long begins with this piece.
    fn fits(&self, piece: &[Token], text: &[u8]) -> bool {
        piece.iter().zip(text).all(|(&token, &byte)| self.accepts(token, byte))
    }

    /// The end of a piece's leftmost match in a text.
    fn find(&self, piece: &[Token], text: &[u8]) -> Option<usize> {
        let places = (text.len() + 1).checked_sub(piece.len())?;
        if places.saturating_mul(piece.len()) <= COMPARISONS_MAX {
            let at = (0..places).find(|&at| self.fits(piece, &text[at..]))?;
            return Some(at + piece.len());
        }
        let words = piece.len().div_ceil(64);
        let accepting = self.accepting(piece, words);
        // Bit n: the piece's first n + 1 bytes stand right before here.
        let mut begun = vec![0u64; words];
        let (last_word, last_bit) = (words - 1, (piece.len() - 1) % 64);
        // Words above this are 0.
        let mut highest = 0;
        for (at, &byte) in text.iter().enumerate() {
            let row = &accepting[usize::from(byte) * words..][..words];
            let mut carry = 1;
            for word in 0..=highest {
                let shifted = begun[word] << 1 | carry;
                carry = begun[word] >> 63;
                begun[word] = shifted & row[word];
            }
            if carry == 1 && highest < last_word {
                highest += 1;
                begun[highest] = row[highest] & 1;
            }
            if begun[last_word] >> last_bit & 1 == 1 {
                return Some(at + 1);
            }
            while highest > 0 && begun[highest] == 0 {
                highest -= 1;
            }
        }
        None
    }

    /// For each byte, the tokens of the piece that accept it: one bit per token, in rows of `words`.
    fn accepting(&self, piece: &[Token], words: usize) -> Vec<u64> {
        let mut any = vec![0u64; words];
        let numbered =
            || piece.iter().enumerate().map(|(n, token)| (n / 64, 1 << (n % 64), *token));
        for (word, bit, _) in numbered().filter(|(.., token)| *token == ANY) {
            any[word] |= bit;
        }
        let mut rows = any.repeat(256);
        for (word, bit, token) in numbered() {
            match token {
                ANY => {}
                literal @ ..ANY => rows[usize::from(literal) * words + word] |= bit,
                set => {
                    let set = &self.sets[usize::from(set - FIRST_SET)];
                    for byte in (0..=u8::MAX).filter(|&byte| holds(set, byte)) {
                        rows[usize::from(byte) * words + word] |= bit;
                    }
                }
            }
        }
        rows
    }
}

fn holds(set: &Set, byte: u8) -> bool {
    set[usize::from(byte / 64)] >> (byte % 64) & 1 == 1
}

/// The class `[…]` at the start of a pattern, and its length. As in Redis, a class without `]` ends with the
/// pattern, and the bounds of a range may come in either order.
fn class(pattern: &[u8]) -> (Set, usize) {
    let negated = pattern.get(1) == Some(&b'^');
    let mut at = if negated { 2 } else { 1 };
    let mut set = Set::default();
    let mut add = |byte: u8| set[usize::from(byte / 64)] |= 1 << (byte % 64);
    while at < pattern.len() && pattern[at] != b']' {
        if pattern[at] == b'\\' && at + 1 < pattern.len() {
            add(pattern[at + 1]);
            at += 2;
        } else if at + 2 < pattern.len() && pattern[at + 1] == b'-' {
            let (low, high) = (pattern[at].min(pattern[at + 2]), pattern[at].max(pattern[at + 2]));
            (low..=high).for_each(&mut add);
            at += 3;
        } else {
            add(pattern[at]);
            at += 1;
        }
    }
    (if negated { set.map(|word| !word) } else { set }, (at + 1).min(pattern.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;

    fn matches(pattern: &[u8], text: &[u8]) -> bool {
        Pattern::parse(pattern).expect("short enough").matches(text)
    }

    #[test]
    fn follows_redis() {
        let yes: &[(&str, &str)] = &[
            ("*", "anything"),
            ("h?llo", "hello"),
            ("h*llo", "heeeello"),
            ("h[ae]llo", "hallo"),
            ("h[^e]llo", "hallo"),
            ("h[a-c]llo", "hbllo"),
            ("h[c-a]llo", "hbllo"),
            ("\\*", "*"),
            ("a[\\]]b", "a]b"),
            ("[abc", "a"),
            ("*a*b*c*", "xxaxxbxxcxx"),
            ("", ""),
            ("a**", "a"),
            ("[^]", "a"),
            ("[^", "a"),
            ("\\", "\\"),
        ];
        let no: &[(&str, &str)] = &[
            ("", "a"),
            ("?", ""),
            // Redis's own; KEYS and SCAN take a single star for everything.
            ("*", ""),
            ("**", ""),
            ("h?llo", "hllo"),
            ("h[^e]llo", "hello"),
            ("\\*", "x"),
            ("*a*b*c*", "xxaxxcxx"),
            ("abc", "abcd"),
            ("ab*ba", "aba"),
            ("[]", "a"),
            ("[", "["),
            ("*[", "["),
        ];
        for (pattern, text) in yes {
            assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} should match {text}");
        }
        for (pattern, text) in no {
            assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} matches {text}");
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = "a*".repeat(64) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(4096).as_bytes()));
    }

    /// Redis's `stringmatchlen`, line by line, with its way back for each star.
    fn as_redis(pattern: &[u8], text: &[u8]) -> bool {
        let (mut p, mut t) = (0, 0);
        while p < pattern.len() && t < text.len() {
            match pattern[p] {
                b'*' => {
                    while pattern.get(p + 1) == Some(&b'*') {
                        p += 1;
                    }
                    let rest = &pattern[p + 1..];
                    return rest.is_empty() || (t..text.len()).any(|t| as_redis(rest, &text[t..]));
                }
                b'?' => {}
                b'[' => {
                    p += 1;
                    let not = pattern.get(p) == Some(&b'^');
                    p += usize::from(not);
                    let mut hit = false;
                    loop {
                        let rest = &pattern[p.min(pattern.len())..];
                        match rest {
                            [b'\\', escaped, ..] => {
                                p += 1;
                                hit |= *escaped == text[t];
                            }
                            [b']', ..] => break,
                            [] => {
                                p -= 1;
                                break;
                            }
                            [one, b'-', other, ..] => {
                                hit |= (*one.min(other)..=*one.max(other)).contains(&text[t]);
                                p += 2;
                            }
                            [literal, ..] => hit |= *literal == text[t],
                        }
                        p += 1;
                    }
                    if hit == not {
                        return false;
                    }
                }
                b'\\' if p + 1 < pattern.len() => {
                    p += 1;
                    if pattern[p] != text[t] {
                        return false;
                    }
                }
                literal if literal != text[t] => return false,
                _ => {}
            }
            (p, t) = (p + 1, t + 1);
            if t == text.len() {
                while pattern.get(p) == Some(&b'*') {
                    p += 1;
                }
            }
        }
        p == pattern.len() && t == text.len()
    }

    #[test]
    fn agrees_with_redis_on_any_pattern() {
        let mut random = Rng::new();
        let mut word = |alphabet: &[u8], len_max: u64| -> Vec<u8> {
            let len = random.u64(..) % (len_max + 1);
            (0..len).map(|_| alphabet[random.u64(..) as usize % alphabet.len()]).collect()
        };
        for _ in 0..200_000 {
            let (pattern, text) = (word(b"ab*?[]^-\\", 12), word(b"ab]-", 12));
            let expected = as_redis(&pattern, &text);
            let shown = [pattern.escape_ascii().to_string(), text.escape_ascii().to_string()];
            assert_eq!(matches(&pattern, &text), expected, "{shown:?}");
        }
    }

    #[test]
    fn long_pieces_are_found_where_short_ones_are() {
        let mut random = Rng::new();
        for round in 0..300 {
            let piece_len = 1 + random.u64(..) as usize % 200;
            let text: Vec<u8> = (0..2000).map(|_| b"ab"[random.u64(..) as usize % 2]).collect();
            let start = random.u64(..) as usize % (text.len() - piece_len);
            let mut piece = Vec::new();
            for &byte in &text[start..start + piece_len] {
                match random.u64(..) % 4 {
                    0 => piece.push(b'?'),
                    1 => piece.extend([b'[', byte, b'x', b']']),
                    _ => piece.push(byte),
                }
            }
            let parsed = Pattern::parse(&[b"*", &piece[..], b"*"].concat()).expect("short enough");
            let tokens = parsed.piece(1);
            let places = 0..=text.len() - tokens.len();
            let first = places.clone().find(|&at| parsed.fits(tokens, &text[at..]));
            let expected = first.map(|at| at + tokens.len());
            assert_eq!(parsed.find(tokens, &text), expected, "round {round}");
            assert!(parsed.matches(&text));
            let absent = Pattern::parse(&[b"*", &piece[..], b"x*"].concat()).expect("short enough");
            assert!(!absent.matches(&text));
        }
    }

    #[test]
    fn no_pattern_takes_as_many_steps_as_its_length_times_the_text() {
        use std::time::{Duration, Instant};
        let (a, n) = (b"a".repeat(4 << 20), PATTERN_BYTES_MAX - 8);
        let patterns: [Vec<u8>; 6] = [
            [b"*", &b"a".repeat(n)[..], b"b"].concat(),
            [b"*", &b"a".repeat(n)[..], b"b*"].concat(),
            [b"*[", &b"a".repeat(n)[..], b"]b*"].concat(),
            [&b"*a".repeat(n / 2)[..], b"*b"].concat(),
            [b"*", &b"?".repeat(n)[..], b"b*"].concat(),
            [b"*", &b"[^b]".repeat(n / 4)[..], b"b*"].concat(),
        ];
        for pattern in patterns {
            let start = Instant::now();
            assert!(!matches(&pattern, &a));
            // 17 billion comparisons would take longer, even where nothing else runs.
            assert!(start.elapsed() < Duration::from_secs(20), "{}", pattern.escape_ascii());
        }
        assert!(Pattern::parse(&b"a".repeat(PATTERN_BYTES_MAX)).is_ok());
        assert!(Pattern::parse(&b"a".repeat(PATTERN_BYTES_MAX + 1)).is_err());
    }
}
