//! Splits a configuration line into words, with double quotes as in redis.conf.
//!
//! Inside the quotes, `\n \r \t \b \a \xHH` stand for a byte, and any other character after a
//! backslash for itself. Single quotes, and quotes inside a word, are refused: redis.conf gives them
//! a meaning, so they must not become part of a value.

use crate::protocol::{self, unescape};

const NOT_CLOSED: &str = "a quote that is not closed";

/// Splits a line into its words.
pub fn split_words(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => take_quoted(quoted)?,
            None => take_bare(rest),
        };
        if !after.is_empty() && !after.starts_with([' ', '\t']) {
            return Err("a quote inside a word; put the whole word in double quotes");
        }
        words.push(word);
        rest = after.trim_ascii_start();
    }
    Ok(words)
}

fn take_bare(text: &str) -> (String, &str) {
    let end = text.find([' ', '\t', '"', '\'']).unwrap_or(text.len());
    (text[..end].to_string(), &text[end..])
}

/// Reads up to the closing quote. The word is collected as bytes, since `\xHH` is a byte.
fn take_quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut word = Vec::new();
    let mut bytes = text.as_bytes();
    loop {
        bytes = match bytes {
            [] => return Err(NOT_CLOSED),
            [b'"', rest @ ..] => {
                let word = String::from_utf8(word).map_err(|_| "a value that is not UTF-8")?;
                return Ok((word, &text[text.len() - rest.len()..]));
            }
            [b'\\', rest @ ..] => {
                let (byte, len) = unescape(rest).ok_or(NOT_CLOSED)?;
                word.push(byte);
                &rest[len..]
            }
            [byte, rest @ ..] => {
                word.push(*byte);
                rest
            }
        }
    }
}

/// Formats a value for a configuration file: bare if it reads back unchanged, otherwise quoted.
pub fn quote(value: &str) -> String {
    let bare = |c: char| !c.is_ascii_control() && !matches!(c, ' ' | '"' | '\'' | '\\' | '#');
    if !value.is_empty() && value.chars().all(bare) {
        return value.to_string();
    }
    protocol::quote(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(line: &str) -> Vec<String> {
        split_words(line).expect(line)
    }

    #[test]
    fn words_are_bare_or_quoted() {
        assert_eq!(words("  port\t8080 "), ["port", "8080"]);
        assert_eq!(words(r#"a "b c" "" f\g"#), ["a", "b c", "", r"f\g"]);
        assert!(words(" \t ").is_empty());
    }

    #[test]
    fn escapes_are_those_of_redis() {
        let line = r#""\n\r\t\b\a\x41\xc3\xa9\q\"\\\é\xg""#;
        assert_eq!(words(line), ["\n\r\t\u{8}\u{7}Aéq\"\\éxg"]);
    }

    #[test]
    fn what_cannot_be_split_is_refused() {
        for line in [r#"a "b"#, r#""\"#, r#""a\""#] {
            assert_eq!(split_words(line), Err("a quote that is not closed"), "{line}");
        }
        let inside = "a quote inside a word; put the whole word in double quotes";
        for line in [r#"a"b""#, r#""a"b"#, "it's", "'a b'"] {
            assert_eq!(split_words(line), Err(inside), "{line}");
        }
        assert_eq!(split_words(r#""\xff""#), Err("a value that is not UTF-8"));
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_read_back(value in any::<String>()) {
            prop_assert_eq!(split_words(&quote(&value)), Ok(vec![value]));
        }

        #[test]
        fn no_line_makes_it_panic(line in r#"[ax"'\\ \té]*"#) {
            let _ = split_words(&line);
        }
    }
}
