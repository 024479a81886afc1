//! The messages of an election as lines of text, so that `nc` can watch them.
//!
//! ```text
//! ASK   pre|vote <epoch> <last epoch> <last seq> <list|-> <seal>
//! GIVE  pre|vote <epoch> yes|no <own epoch> whole|recovering <seal>
//! BEAT  <epoch> <round> <promise ms> <seal>
//! HEARD <epoch> <round> <promised ms> <own epoch> <seal>
//! ```

use super::message::{Ask, End, Message, Round};
use super::term::Memory;
use crate::aof::numbers::{Words, canonical_number};
use crate::aof::record::Epoch;
use crate::aof::sealed::{sealed, unsealed};
use crate::store::effect::Seq;

impl Message {
    /// The line, with its end.
    pub fn line(&self) -> Vec<u8> {
        let text = match self {
            Message::Ask(Ask { round, epoch, last, list }) => {
                let list = list.map_or("-".to_string(), |list| list.to_string());
                let End { epoch: last_epoch, seq } = last;
                format!("ASK {} {} {} {seq} {list}", round.word(), epoch.0, last_epoch.0)
            }
            Message::Give { round, epoch, yes, own, memory } => {
                let answer = if *yes { "yes" } else { "no" };
                format!("GIVE {} {} {answer} {} {}", round.word(), epoch.0, own.0, memory.word())
            }
            Message::Beat { epoch, round, promise } => {
                format!("BEAT {} {round} {promise}", epoch.0)
            }
            Message::Heard { epoch, round, promised, own } => {
                format!("HEARD {} {round} {promised} {}", epoch.0, own.0)
            }
        };
        sealed(text.as_bytes(), 0)
    }

    /// Reads a line without its end.
    pub fn parse(line: &[u8]) -> Option<Message> {
        let mut words = Words::of(unsealed(line, 0)?);
        let message = match words.word()? {
            b"ASK" => Message::Ask(Ask {
                round: Round::parse(words.word()?)?,
                epoch: Epoch(words.number()?),
                last: End { epoch: Epoch(words.number()?), seq: Seq(words.number()?) },
                list: match words.word()? {
                    b"-" => None,
                    list => Some(canonical_number(list)?),
                },
            }),
            b"GIVE" => Message::Give {
                round: Round::parse(words.word()?)?,
                epoch: Epoch(words.number()?),
                yes: match words.word()? {
                    b"yes" => true,
                    b"no" => false,
                    _ => return None,
                },
                own: Epoch(words.number()?),
                memory: Memory::parse(words.word()?)?,
            },
            b"BEAT" => Message::Beat {
                epoch: Epoch(words.number()?),
                round: words.number()?,
                promise: words.number()?,
            },
            b"HEARD" => Message::Heard {
                epoch: Epoch(words.number()?),
                round: words.number()?,
                promised: words.number()?,
                own: Epoch(words.number()?),
            },
            _ => return None,
        };
        words.end(message)
    }
}

impl Round {
    fn word(self) -> &'static str {
        match self {
            Round::Pre => "pre",
            Round::Vote => "vote",
        }
    }

    fn parse(word: &[u8]) -> Option<Round> {
        [Round::Pre, Round::Vote].into_iter().find(|round| round.word().as_bytes() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_back_and_no_flipped_bit_is_taken_for_another() {
        let ask = Ask {
            round: Round::Pre,
            epoch: Epoch(8),
            last: End { epoch: Epoch(7), seq: Seq(1024) },
            list: None,
        };
        let give = |yes, memory| Message::Give {
            round: Round::Vote,
            epoch: Epoch(8),
            yes,
            own: Epoch(9),
            memory,
        };
        let messages = [
            Message::Ask(ask),
            Message::Ask(Ask { round: Round::Vote, list: Some(u64::MAX), ..ask }),
            give(true, Memory::Whole),
            give(false, Memory::Recovering),
            Message::Beat { epoch: Epoch(8), round: 3, promise: 1000 },
            Message::Heard { epoch: Epoch(8), round: 3, promised: 500, own: Epoch(8) },
        ];
        for message in messages {
            let line = message.line();
            let line = line.strip_suffix(b"\r\n").expect("a line end");
            assert_eq!(Message::parse(line), Some(message));
            for bit in 0..line.len() * 8 {
                let mut flipped = line.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Message::parse(&flipped), None, "bit {bit} of {message:?}");
            }
        }
        assert!(messages[0].line().starts_with(b"ASK pre 8 7 1024 - "));
        assert!(messages[3].line().starts_with(b"GIVE vote 8 no 9 recovering "));
    }
}
