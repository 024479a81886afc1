//! The output of `kvstore log`: one line for each effect.

use super::{Error, printing};
use crate::aof::recovery::Record;
use crate::cluster::members::Members;
use crate::protocol::quote;
use crate::store::effect::{self, Effect, Malformed, Seq};
use std::io::{self, BufWriter, StdoutLock, Write};

/// Prints the effects that `--from` and `--key` select.
pub(super) struct Printer<'o> {
    from: Seq,
    key: Option<Vec<u8>>,
    out: BufWriter<StdoutLock<'o>>,
    /// The first error since the last flush. Nothing is printed after it.
    failure: Option<io::Error>,
}

impl Printer<'_> {
    pub fn new(from: Seq, key: Option<Vec<u8>>) -> Self {
        Printer { from, key, out: BufWriter::new(io::stdout().lock()), failure: None }
    }

    /// Prints a record's effects. `Malformed` if the record cannot be decoded, or cannot be printed.
    pub fn print(&mut self, record: &Record<'_>) -> Result<(), Malformed> {
        if self.failure.is_some() {
            return Err(Malformed("it cannot be printed"));
        }
        if record.seq < self.from {
            return effect::check(record.payload).map(drop);
        }
        let seq = if record.of_base { "base".to_string() } else { record.seq.to_string() };
        let start = format!("{seq} {} {}", record.epoch.0, record.at.utc());
        if record.payload.is_empty() && self.key.is_none() {
            self.line(format_args!("{start} (the epoch begins)"));
        }
        let members = Members::of_record(record.seq, record.payload)?;
        if let Some(members) = members.filter(|_| self.key.is_none()) {
            self.line(format_args!("{start} members {members}"));
        }
        effect::decode(record.payload, |effect| {
            let key = self.key.as_deref();
            if key.is_none_or(|key| concerns(&effect, key)) {
                let effect = describe(&effect, key);
                self.line(format_args!("{start} {effect}"));
            }
        })
        .map(drop)
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        if self.failure.is_none() {
            self.failure = writeln!(self.out, "{line}").err();
        }
    }

    /// Flushes the output. Returns the first error since the last flush.
    pub fn flush(&mut self) -> Result<(), Error> {
        let failure = self.failure.take();
        failure.map_or_else(|| self.out.flush(), Err).map_err(printing)
    }
}

fn concerns(effect: &Effect<'_>, wanted: &[u8]) -> bool {
    match *effect {
        Effect::Set { key, .. }
        | Effect::SetRange { key, .. }
        | Effect::PexpireAt { key, .. }
        | Effect::Persist { key } => key == wanted,
        Effect::Del { keys } => keys.contains(&wanted),
        Effect::FlushAll => true,
    }
}

/// Formats the effect as a command. A DEL of several keys shows only the wanted one.
fn describe(effect: &Effect<'_>, wanted: Option<&[u8]>) -> String {
    match *effect {
        Effect::Set { key, value, deadline: None } => {
            format!("SET {} {}", short(key), short(value))
        }
        Effect::Set { key, value, deadline: Some(at) } => {
            format!("SET {} {} PXAT {}", short(key), short(value), at.utc())
        }
        Effect::SetRange { key, offset, bytes } => {
            format!("SETRANGE {} {offset} {}", short(key), short(bytes))
        }
        Effect::Del { keys } => {
            let shown = keys.iter().filter(|key| wanted.is_none_or(|wanted| wanted == **key));
            shown.fold("DEL".to_string(), |line, key| line + " " + &short(key))
        }
        Effect::PexpireAt { key, deadline } => {
            format!("PEXPIREAT {} {}", short(key), deadline.utc())
        }
        Effect::Persist { key } => format!("PERSIST {}", short(key)),
        Effect::FlushAll => "FLUSHALL".to_string(),
    }
}

/// Quotes `bytes`. Long ones are cut and their length is added.
fn short(bytes: &[u8]) -> String {
    /// Longer than most keys, shorter than a line.
    const SHOWN_MAX: usize = 80;
    if bytes.len() <= SHOWN_MAX {
        return quote(bytes);
    }
    format!("{}… ({} bytes)", quote(&bytes[..SHOWN_MAX]), bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut() {
        assert_eq!(short(b"a\r\n\xff"), r#""a\r\n\xff""#);
        assert!(short(&[b'x'; 81]).ends_with("x\"… (81 bytes)"));
    }
}
