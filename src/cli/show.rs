//! `kvstore log`: prints the history, one line per effect.

use super::follow::follow;
use super::printer::Printer;
use super::{Arguments, Error, Tool, at};
use crate::aof::files;
use crate::aof::record::Position;
use crate::aof::recovery::{self, Record, Then};
use crate::aof::scan::Scanner;
use crate::protocol::{Decoder, Limits, Step};
use crate::store::effect::Seq;
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

fn run(arguments: &Arguments) -> Result<(), Error> {
    let dir = Path::new(&arguments.words[0]);
    let from = arguments.value("from").unwrap_or("0");
    let bad = |_| Error::Usage(format!("--from {from}: not a record's number"));
    let key = arguments.value("key").map(read_key).transpose()?;
    let mut printer = Printer::new(Seq(from.parse().map_err(bad)?), key);
    if dir.is_file() {
        return print_file(dir, &mut printer);
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
    Ok(())
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
        let record = Record::of(&header, payload);
        printer.print(&record).map_err(|malformed| Error::Failed(malformed.0.into()))?;
    }
}

/// Reads `--key`: the key itself, or the key in double quotes.
fn read_key(typed: &str) -> Result<Vec<u8>, Error> {
    if !typed.starts_with('"') {
        return Ok(typed.as_bytes().to_vec());
    }
    let mut decoder = Decoder::default();
    let limits = Limits { bulk_len_max: 0, unauthenticated: false };
    match (decoder.step(format!("{typed}\n").as_bytes(), limits), decoder.words()) {
        (Step::Text(_), [word]) => Ok(decoder.line()[word.span.start..word.span.end].to_vec()),
        _ => Err(Error::Usage(format!("--key {typed}: not one word in quotes"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::quote;

    #[test]
    fn keys_are_read_as_they_are_printed() {
        for key in [&b"name"[..], b"it's", b"", b"\"", b"a b\x00\xff\r\n"] {
            assert_eq!(read_key(&quote(key)).unwrap(), key);
        }
        assert_eq!(read_key("a b").unwrap(), b"a b");
        assert!(read_key("\"a\" b").is_err());
    }
}
