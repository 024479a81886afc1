//! Effects: the only things that can happen to the data.
//!
//! A command is a request ("add one, if it is a number, unless it expired"); an effect is the result
//! ("SET n 42"). Only effects are applied to memory and written to the log. They have absolute values and
//! absolute times, so applying a range of them again, in order, ends in the same state. INCR becomes SET,
//! EXPIRE becomes PEXPIREAT, GETDEL becomes DEL.
//!
//! Out of scope: which command an effect came from.

use crate::clock::UnixMillis;
use crate::digits::{self, decimal};
use crate::resp::{array, bulk, header};
use std::fmt;

/// A record's number. Records are counted from 1, without gaps; 0 is before all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One change of state. Borrows from the request or the log's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect<'a> {
    /// Sets a key's value and its deadline, if any.
    Set {
        /// The key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
        /// When it expires.
        deadline: Option<UnixMillis>,
    },
    /// Overwrites part of a value, padded with zero bytes up to `offset`. The deadline stays.
    SetRange {
        /// The key.
        key: &'a [u8],
        /// Where in the value, in bytes.
        offset: usize,
        /// The new bytes there.
        bytes: &'a [u8],
    },
    /// Removes keys.
    Del {
        /// The keys. An absent one is not an error.
        keys: &'a [&'a [u8]],
    },
    /// Sets the time at which a key expires.
    PexpireAt {
        /// The key.
        key: &'a [u8],
        /// That time.
        deadline: UnixMillis,
    },
    /// Removes a key's deadline.
    Persist {
        /// The key.
        key: &'a [u8],
    },
    /// Removes all keys.
    FlushAll,
}

impl Effect<'_> {
    /// Appends the effect as a RESP command: what the log holds, and what stock Redis can load.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Effect::Set { key, value, deadline: None } => array(out, &[b"SET", key, value]),
            Effect::Set { key, value, deadline: Some(at) } => {
                array(out, &[b"SET", key, value, b"PXAT", decimal(at.0, &mut [0; 20])]);
            }
            Effect::SetRange { key, offset, bytes } => {
                array(out, &[b"SETRANGE", key, decimal(offset as u64, &mut [0; 20]), bytes]);
            }
            Effect::Del { keys } => {
                header(out, b'*', keys.len() + 1);
                bulk(out, b"DEL");
                keys.iter().for_each(|key| bulk(out, key));
            }
            Effect::PexpireAt { key, deadline } => {
                array(out, &[b"PEXPIREAT", key, decimal(deadline.0, &mut [0; 20])]);
            }
            Effect::Persist { key } => array(out, &[b"PERSIST", key]),
            Effect::FlushAll => array(out, &[b"FLUSHALL"]),
        }
    }
}

/// Stands before the effects of a record with more than one.
pub const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
/// Stands after them.
pub const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

/// Begins a payload that is one line and has no effect: the members of a cluster (`cluster::members`).
pub const MEMBERS: &[u8] = b"#members ";

/// Why a payload is not a list of effects. If its checksum is right, another program wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// Reads a record's payload and passes its effects to `apply`, in order. Returns their number.
pub fn decode(payload: &[u8], mut apply: impl FnMut(Effect<'_>)) -> Result<usize, Malformed> {
    let mut effects = 0;
    each_command(payload, |words| {
        if let Some(effect) = effect_of(words)? {
            apply(effect);
            effects += 1;
        }
        Ok(())
    })?;
    Ok(effects)
}

/// The effect of a command; None for those around several effects.
fn effect_of<'w>(words: &'w [&'w [u8]]) -> Result<Option<Effect<'w>>, Malformed> {
    Ok(Some(match *words {
        [b"MULTI"] | [b"EXEC"] => return Ok(None),
        [b"SET", key, value] => Effect::Set { key, value, deadline: None },
        [b"SET", key, value, b"PXAT", at] => {
            Effect::Set { key, value, deadline: Some(UnixMillis(number(at)?)) }
        }
        [b"SETRANGE", key, offset, bytes] => {
            Effect::SetRange { key, offset: number(offset)? as usize, bytes }
        }
        [b"DEL", ref keys @ ..] if !keys.is_empty() => Effect::Del { keys },
        [b"PEXPIREAT", key, at] => Effect::PexpireAt { key, deadline: UnixMillis(number(at)?) },
        [b"PERSIST", key] => Effect::Persist { key },
        [b"FLUSHALL"] => Effect::FlushAll,
        _ => return Err(Malformed("a command that is no effect")),
    }))
}

/// Checks a payload as [`check`] does, and passes the keys that its effects change to `visit`. Returns false if they
/// change all keys.
pub fn keys<'p>(payload: &'p [u8], mut visit: impl FnMut(&'p [u8])) -> Result<bool, Malformed> {
    let mut all = false;
    each_command(payload, |words| {
        effect_of(words)?;
        match *words {
            [b"DEL", ref keys @ ..] => keys.iter().for_each(|key| visit(key)),
            [b"FLUSHALL"] => all = true,
            [_, key, ..] => visit(key),
            _ => {}
        }
        Ok(())
    })?;
    Ok(!all)
}

const NOT_ONE_LINE: Malformed = Malformed("a members record is not one line");

/// Passes the words of each command to `run`. The line of a members record has none.
fn each_command<'p>(
    payload: &'p [u8],
    mut run: impl FnMut(&[&'p [u8]]) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    if payload.starts_with(MEMBERS) {
        let end = payload.iter().position(|&byte| byte == b'\n');
        // Commands after the line would never be applied.
        return if end == Some(payload.len() - 1) { Ok(()) } else { Err(NOT_ONE_LINE) };
    }
    let mut rest = payload;
    let mut words: Vec<&'p [u8]> = Vec::with_capacity(8);
    while !rest.is_empty() {
        words.clear();
        let (count, mut at) = read_header(rest, b'*')?;
        for _ in 0..count {
            let (len, after) = read_header(at, b'$')?;
            let (word, after) =
                after.split_at_checked(len).ok_or(Malformed("a string ends early"))?;
            words.push(word);
            const NO_END: Malformed = Malformed("a string does not end in a line end");
            at = after.strip_prefix(b"\r\n").ok_or(NO_END)?;
        }
        rest = at;
        run(&words)?;
    }
    Ok(())
}

/// Checks that a payload is a list of effects. Returns their number.
pub fn check(payload: &[u8]) -> Result<usize, Malformed> {
    decode(payload, |_| ())
}

/// `<kind><number>␍␊`
fn read_header(bytes: &[u8], kind: u8) -> Result<(usize, &[u8]), Malformed> {
    const NO_HEADER: Malformed = Malformed("a length is missing or damaged");
    let rest = bytes.strip_prefix(&[kind]).ok_or(NO_HEADER)?;
    let len = rest.iter().take(20).position(|&byte| byte == b'\r').ok_or(NO_HEADER)?;
    let (digits, rest) = rest.split_at(len);
    let rest = rest.strip_prefix(b"\r\n").ok_or(NO_HEADER)?;
    Ok((number(digits)? as usize, rest))
}

fn number(digits: &[u8]) -> Result<u64, Malformed> {
    digits::parse(digits).ok_or(Malformed("a number is not one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &[Effect<'static>] = &[
        Effect::Set { key: b"k", value: b"", deadline: None },
        Effect::Set { key: b"", value: b"\r\n*1", deadline: Some(UnixMillis(u64::MAX)) },
        Effect::SetRange { key: b"k", offset: 7, bytes: b"x" },
        Effect::Del { keys: &[b"a", b"b"] },
        Effect::PexpireAt { key: b"k", deadline: UnixMillis(0) },
        Effect::Persist { key: b"k" },
        Effect::FlushAll,
    ];

    #[test]
    fn what_is_encoded_is_decoded() {
        let mut payload = MULTI.to_vec();
        ALL.iter().for_each(|effect| effect.encode(&mut payload));
        payload.extend_from_slice(EXEC);
        let mut at = 0;
        let count = decode(&payload, |effect| {
            assert_eq!(effect, ALL[at]);
            at += 1;
        });
        assert_eq!(count, Ok(ALL.len()));
    }

    #[test]
    fn keys_are_those_of_all_effects() {
        let mut payload = MULTI.to_vec();
        let flush = ALL.len() - 1;
        ALL[..flush].iter().for_each(|effect| effect.encode(&mut payload));
        let mut seen: Vec<&[u8]> = Vec::new();
        assert_eq!(keys(&payload, |key| seen.push(key)), Ok(true));
        assert_eq!(seen, [&b"k"[..], b"", b"k", b"a", b"b", b"k", b"k"]);
        ALL[flush].encode(&mut payload);
        assert_eq!(keys(&payload, |_| ()), Ok(false));
    }

    #[test]
    fn a_members_record_has_no_effects_and_no_keys() {
        let payload = b"#members 1\r\n";
        assert_eq!(check(payload), Ok(0));
        assert_eq!(keys(payload, |key| panic!("a key: {key:?}")), Ok(true));
    }

    #[test]
    fn damaged_payloads_are_refused() {
        let mut payload = Vec::new();
        ALL.iter().for_each(|effect| effect.encode(&mut payload));
        for end in 1..payload.len() {
            // A cut between two effects is not the payload's to see: the record has a length.
            let _ = decode(&payload[..end], |_| ());
        }
        let bad: &[&[u8]] = &[
            b"SET k v\r\n",
            b"*1\r\n$3\r\nGET\r\n",
            b"*1\r\n$99999999999999999999\r\nX\r\n",
            b"*18446744073709551615\r\n",
            b"*1\r\n$-1\r\n",
            b"*1\r\n$3\r\nDEL\r\n",
            b"*0\r\n",
            b"#members 1",
            b"#members 1\r\n*1\r\n$8\r\nFLUSHALL\r\n",
        ];
        for payload in bad {
            assert!(decode(payload, |_| ()).is_err(), "{}", String::from_utf8_lossy(payload));
        }
    }
}
