//! Strings: values that are read and written whole.

use super::expiry::Expiry;
use super::{Call, Command, Family, Flags, Keys, Run};
use crate::effect::Effect;
use crate::error::{Failure, SYNTAX};
use crate::protocol::Args;

const WRITE: Flags = Flags::WRITE.and(Flags::DENYOOM);
const READ: Flags = Flags::READONLY.and(Flags::FAST);

/// The family's rows.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "get",
        arity: 2,
        flags: READ,
        keys: Keys::ONE,
        run: Run::Data(get),
        family: Family::String,
        rest: None,
        grammar: "key",
        summary: "The value of a key.",
        example: "SET name Ada; GET name -> Ada",
    },
    Command {
        name: "set",
        arity: -3,
        flags: WRITE,
        keys: Keys::ONE,
        run: Run::Data(set),
        family: Family::String,
        rest: Some(2),
        grammar: "key value [NX | XX | IFEQ comparison] [GET] [EX seconds | PX milliseconds | \
                  EXAT unix-seconds | PXAT unix-milliseconds | KEEPTTL]",
        summary: "Sets a key to a value, which may be several words.",
        example: "SET greeting hello big world EX 60 -> OK",
    },
];

fn get(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    call.reply.bulk_or_nil(call.tx.value(&args[1]));
    Ok(())
}

/// On what condition SET sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Condition<'a> {
    #[default]
    Always,
    Absent,
    Present,
    /// The key holds just this value.
    Equals(&'a [u8]),
}

#[derive(Debug, Default)]
struct SetOptions<'a> {
    condition: Condition<'a>,
    expiry: Option<Expiry<'a>>,
    /// Answer with the old value.
    get: bool,
}

impl<'a> SetOptions<'a> {
    fn parse(mut words: impl Iterator<Item = &'a [u8]>) -> Result<SetOptions<'a>, Failure> {
        let mut options = SetOptions::default();
        while let Some(word) = words.next() {
            let condition = match word.to_ascii_uppercase().as_slice() {
                b"NX" => Condition::Absent,
                b"XX" => Condition::Present,
                b"IFEQ" => Condition::Equals(words.next().ok_or(SYNTAX)?),
                b"GET" => {
                    options.get = true;
                    continue;
                }
                _ => {
                    let expiry = Expiry::parse(word, &mut words, "KEEPTTL").ok_or(SYNTAX)?;
                    if options.expiry.is_some_and(|before| !before.may_be_followed_by(expiry)) {
                        return Err(SYNTAX);
                    }
                    options.expiry = Some(expiry);
                    continue;
                }
            };
            if options.condition != Condition::Always && options.condition != condition {
                return Err(SYNTAX);
            }
            options.condition = condition;
        }
        Ok(options)
    }
}

/// How many of these words, the last ones of a line, form options of SET.
pub fn options_at_end(words: &[&[u8]]) -> usize {
    /// No sensible call has more; it bounds the work for a line of a thousand times `GET`.
    const OPTION_WORDS_MAX: usize = 8;
    (0..=words.len().min(OPTION_WORDS_MAX))
        .rev()
        .find(|&len| {
            let tail = words[words.len() - len..].iter().copied();
            SetOptions::parse(tail)
                .is_ok_and(|options| options.expiry.is_none_or(|e| e.is_a_number()))
        })
        .unwrap_or(0)
}

fn set(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    let (key, value) = (&args[1], &args[2]);
    let options = SetOptions::parse(args.from(3))?;
    let old = if options.get
        || options.condition != Condition::Always
        || options.expiry == Some(Expiry::Keep)
    {
        call.tx.peek(key)
    } else {
        None
    };
    let deadline = match options.expiry {
        None => None,
        Some(Expiry::Keep) => old.and_then(|old| old.deadline),
        Some(expiry) => Some(expiry.deadline(call.tx.now(), call.name)?),
    };
    let met = match options.condition {
        Condition::Always => true,
        Condition::Absent => old.is_none(),
        Condition::Present => old.is_some(),
        Condition::Equals(expected) => old.is_some_and(|old| old.value == expected),
    };
    match (options.get, met) {
        (true, _) => call.reply.bulk_or_nil(old.map(|old| old.value)),
        (false, true) => call.reply.ok(),
        (false, false) => call.reply.nil(),
    }
    if met {
        call.tx.apply(Effect::Set { key, value, deadline });
    }
    Ok(())
}
