//! Tokens: names of writes.

use std::fmt;

/// The name of one write, as LASTSEQ gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    text: String,
    epoch: u64,
    seq: u64,
}

impl Token {
    /// Reads `3.0c1199aa:151`: epoch, checksum, record. None for another text, and for record 0, which is no write.
    pub fn parse(text: &str) -> Option<Token> {
        let (history, seq) = text.split_once(':')?;
        let (epoch, _) = history.split_once('.')?;
        let (epoch, seq) = (epoch.parse().ok()?, seq.parse().ok()?);
        (seq > 0).then(|| Token { text: text.to_owned(), epoch, seq })
    }

    /// As the server writes it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// True if the other write is a later one.
    pub fn is_older_than(&self, other: &Token) -> bool {
        (self.epoch, self.seq) < (other.epoch, other.seq)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_ordered_by_epoch_and_record() {
        let token = |text| Token::parse(text).unwrap();
        let (old, new) = (token("2.0c1199aa:151"), token("3.11111111:7"));
        assert!(old.is_older_than(&new) && !new.is_older_than(&old));
        assert!(token("3.11111111:6").is_older_than(&new));
        assert_eq!(new.text(), "3.11111111:7");
        for text in ["", "3:1", "3.0c1199aa", "3.0c1199aa:x", "0.00000000:0"] {
            assert_eq!(Token::parse(text), None, "{text}");
        }
    }
}
