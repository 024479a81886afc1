//! Read your own writes on any node: the token of a write.
//!
//! A client that writes to the leader and then reads from a follower may miss its own write. LASTSEQ on the
//! leader gives a token of the last write; WAITSEQ on any node returns when that node has it.
//!
//! ```text
//! 3.0c1199aa:151       epoch 3, whose first record has the crc 0c1199aa; record 151
//! ```
//!
//! The crc makes the epoch unique: two nodes that were parted may both count to 3. So a token of a write that
//! a failover lost is never taken for another write with the same number.

use crate::aof::numbers::{canonical_number, parse_crc};
use crate::aof::record::Epoch;
use crate::store::effect::Seq;

/// Names one write: LASTSEQ gives it, WAITSEQ takes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Token {
    /// The epoch of the write.
    pub epoch: Epoch,
    /// The crc of the epoch's first record.
    pub crc: u32,
    /// Its record.
    pub seq: Seq,
}

impl Token {
    /// As LASTSEQ shows it.
    pub fn text(&self) -> String {
        format!("{}.{:08x}:{}", self.epoch.0, self.crc, self.seq)
    }

    /// Reads it back; None for any other text.
    pub fn parse(text: &[u8]) -> Option<Token> {
        let text = std::str::from_utf8(text).ok()?;
        let (history, seq) = text.split_once(':')?;
        let (epoch, crc) = history.split_once('.')?;
        let number = |digits: &str| canonical_number(digits.as_bytes());
        Some(Token {
            epoch: Epoch(number(epoch)?),
            crc: parse_crc(crc.as_bytes())?,
            seq: Seq(number(seq)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_read_back() {
        let token = Token { epoch: Epoch(3), crc: 0x0c11_99aa, seq: Seq(151) };
        assert_eq!(token.text(), "3.0c1199aa:151");
        assert_eq!(Token::parse(token.text().as_bytes()), Some(token));
        for bad in ["", "3:151", "3.0c1199aa", "3.0c1199aa:", "3.0C1199AA:151", "03.0c1199aa:1"] {
            assert_eq!(Token::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
