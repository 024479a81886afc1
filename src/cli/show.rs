//! `kvstore log`: the history, one line per effect.

use super::follow::follow;
use super::{Arguments, Error, Tool, Verdict, at, printing};
use crate::aof::files;
use crate::aof::record::{Header, Position};
use crate::aof::recovery::{self, Record, Then};
use crate::aof::scan::Scanner;
use crate::protocol::{Decoder, Limits, Step, quote};
use crate::store::effect;
use crate::store::effect::{Effect, Malformed, Seq};
use std::io::{self, BufWriter, StdoutLock, Write};
use std::path::Path;

pub(super) const TOOL: Tool = Tool {
    name: "log",
    help: "\
kvstore log DIR [--from SEQ] [--key KEY] [--follow]

Prints the history in the data directory DIR, one line for each effect:
  record  epoch  time  effect
It begins with the keys of the base, if the log was compacted; their lines begin with 'base'. Long
values are cut. A server may be using DIR. DIR may also be a single file of a log, such as one in
diverged/ or quarantine/; its checksums are then not checked.

  --from SEQ   begins with this record
  --key KEY    only effects on this key, and FLUSHALL; a key with blanks or unprintable bytes can be
               given as it is printed, in double quotes with \\xHH: --key '\"a\\x00b\"'
  --follow     continues while a server appends, until Ctrl-C

Exit code: 0, or 1 if a record is damaged or lost, 2 wrong usage.
",
    words: (1, 1),
    switches: &["follow"],
    values: &["from", "key"],
    run,
};

fn run(arguments: &Arguments) -> Result<Verdict, Error> {
    let dir = Path::new(&arguments.words[0]);
    let from = arguments.value("from").unwrap_or("0");
    let bad = |_| Error::Usage(format!("--from {from}: not a record's number"));
    let mut printer = Printer {
        from: Seq(from.parse().map_err(bad)?),
        key: arguments.value("key").map(read_key).transpose()?,
        out: BufWriter::new(io::stdout().lock()),
        failure: None,
    };
    if dir.is_file() {
        print_file(dir, &mut printer)?;
        return Ok(Verdict::Fine);
    }
    let read = recovery::read_each(dir, |record| {
        printer.print(&record)?;
        Ok(Then::GoOn)
    });
    // Checked first, since a failure to print also ends the reading.
    printer.flush()?;
    let recovered = read?;
    if arguments.has("follow") {
        follow(dir, recovered.end, &mut printer)?;
    } else if let Some(torn) = recovered.torn {
        let (name, damage) = (files::segment_name(torn.segment), torn.damage);
        eprintln!(
            "{name}, byte {}: the last {} bytes are no whole record ({}); a server is writing it, or a \
             crash cut it off",
            damage.offset, torn.len, damage.what
        );
    }
    Ok(Verdict::Fine)
}

/// Prints one file, such as one in quarantine/. The record before its first one is not known here, so
/// crcs are not checked.
fn print_file(path: &Path, printer: &mut Printer<'_>) -> Result<(), Error> {
    let mut scanner = Scanner::open(path, Position::default()).map_err(at(path))?;
    loop {
        let offset = scanner.offset();
        let Some((header, payload)) = scanner.read_unchecked().map_err(at(path))? else {
            if offset < scanner.file_len() {
                eprintln!("{}, byte {offset}: the rest is not a record", path.display());
            }
            return printer.flush();
        };
        let Header { seq, epoch, at: time, .. } = header;
        let record = Record { seq, epoch, at: time, payload, of_base: false };
        printer.print(&record).map_err(|malformed| Error::Failed(malformed.0.into()))?;
    }
}

/// Reads `--key`: the key itself, or the key in double quotes.
fn read_key(typed: &str) -> Result<Vec<u8>, Error> {
    if !typed.starts_with('"') {
        return Ok(typed.as_bytes().to_vec());
    }
    let mut decoder = Decoder::new();
    let limits = Limits { bulk_len_max: 0, unauthenticated: false };
    match (decoder.step(format!("{typed}\n").as_bytes(), limits), decoder.words()) {
        (Step::Text(_), [word]) => Ok(decoder.line()[word.span.start..word.span.end].to_vec()),
        _ => Err(Error::Usage(format!("--key {typed}: not one word in quotes"))),
    }
}

/// Prints the effects that `--from` and `--key` select.
pub(super) struct Printer<'o> {
    from: Seq,
    key: Option<Vec<u8>>,
    out: BufWriter<StdoutLock<'o>>,
    failure: Option<io::Error>,
}

impl Printer<'_> {
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

    #[test]
    fn keys_are_read_as_they_are_printed() {
        for key in [&b"name"[..], b"it's", b"", b"\"", b"a b\x00\xff\r\n"] {
            assert_eq!(read_key(&quote(key)).unwrap(), key);
        }
        assert_eq!(read_key("a b").unwrap(), b"a b");
        assert!(read_key("\"a\" b").is_err());
    }
}
