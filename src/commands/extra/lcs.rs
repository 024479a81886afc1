//! LCS: the longest common subsequence of two values.
//!
//! The textbook algorithm, as in Redis: a table with the length for each pair of prefixes, then a walk from
//! its end back to its start. The table takes four bytes for each pair, and may not be larger than the
//! longest value allowed.

use crate::commands::spec::row;
use crate::commands::{Call, Family, Flags, Handler, Keys, Row};
use crate::error::{Failure, NOT_AN_INTEGER, SYNTAX};
use crate::protocol::{Args, Reply, integer};

/// The row of LCS.
#[rustfmt::skip]
pub const COMMANDS: &[Row<Handler>] = &[
    row(Family::String, "lcs", -3, Flags::READONLY, Keys::TWO, lcs)
        .help("key1 key2 [LEN] [IDX] [MINMATCHLEN length] [WITHMATCHLEN]",
            "Returns the longest common subsequence of two values, its length, or its positions.",
            "MSET theirs ohmytext ours mynewtext; LCS theirs ours LEN -> 6"),
];

#[derive(Debug, Default)]
struct Options {
    len: bool,
    idx: bool,
    with_match_len: bool,
    match_len_min: i64,
}

impl Options {
    fn parse<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Result<Options, Failure> {
        const AMBIGUOUS: Failure =
            Failure::fixed("ERR If you want both the length and indexes, please just use IDX.");
        let mut options = Options::default();
        while let Some(word) = words.next() {
            match word.to_ascii_uppercase().as_slice() {
                b"LEN" => options.len = true,
                b"IDX" => options.idx = true,
                b"WITHMATCHLEN" => options.with_match_len = true,
                b"MINMATCHLEN" => {
                    let number = words.next().ok_or(SYNTAX)?;
                    options.match_len_min = integer(number).ok_or(NOT_AN_INTEGER)?;
                }
                _ => return Err(SYNTAX),
            }
        }
        if options.len && options.idx { Err(AMBIGUOUS) } else { Ok(options) }
    }
}

fn lcs(call: &mut Call<'_, '_>, args: Args<'_>) -> Result<(), Failure> {
    let a = call.tx.value(&args[1]).unwrap_or_default();
    let b = call.tx.value(&args[2]).unwrap_or_default();
    let options = Options::parse(args.from(3))?;
    let table = Table::new(a, b, call.value_len_max)?;
    if options.len {
        call.reply.count(table.len());
        return Ok(());
    }
    let matches = table.matches();
    if options.idx {
        reply_matches(call.reply, &matches, &options);
        call.reply.bulk(b"len");
        call.reply.count(table.len());
    } else {
        let runs = matches.iter().rev().map(|found| &a[found.a..found.a + found.len]);
        call.reply.bulk(&runs.collect::<Vec<_>>().concat());
    }
    Ok(())
}

/// Writes the map that IDX asks for, without its last pair, the length.
fn reply_matches(reply: &mut Reply, matches: &[Match], options: &Options) {
    let is_long = |found: &&Match| found.len as i64 >= options.match_len_min;
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(matches.iter().filter(is_long).count());
    for found in matches.iter().filter(is_long) {
        reply.array(2 + usize::from(options.with_match_len));
        for start in [found.a, found.b] {
            reply.array(2);
            reply.count(start);
            reply.count(start + found.len - 1);
        }
        if options.with_match_len {
            reply.count(found.len);
        }
    }
}

/// A run of bytes that is in both values.
#[derive(Debug)]
struct Match {
    /// Its offset in the first value.
    a: usize,
    /// Its offset in the second value.
    b: usize,
    len: usize,
}

/// The length of the longest common subsequence of each prefix of `a` (a row) and of `b` (a column).
struct Table<'v> {
    a: &'v [u8],
    b: &'v [u8],
    lens: Vec<u32>,
}

impl<'v> Table<'v> {
    fn new(a: &'v [u8], b: &'v [u8], bytes_max: usize) -> Result<Table<'v>, Failure> {
        const TOO_LARGE: Failure = Failure::fixed(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        );
        const NO_MEMORY: Failure =
            Failure::fixed("ERR Insufficient memory, failed allocating transient memory for LCS");
        let columns = b.len() + 1;
        let size = columns.checked_mul(a.len() + 1).filter(|size| *size <= bytes_max / 4);
        let size = size.ok_or(TOO_LARGE)?;
        let mut lens = Vec::new();
        lens.try_reserve_exact(size).map_err(|_| NO_MEMORY)?;
        lens.resize(columns, 0);
        for &byte in a {
            let above = lens.len() - columns;
            lens.push(0);
            for (column, &other) in b.iter().enumerate() {
                let here = above + column;
                let longest = if byte == other {
                    lens[here] + 1
                } else {
                    lens[here + 1].max(lens[here + columns])
                };
                lens.push(longest);
            }
        }
        Ok(Table { a, b, lens })
    }

    fn at(&self, row: usize, column: usize) -> u32 {
        self.lens[row * (self.b.len() + 1) + column]
    }

    /// The length for both whole values.
    fn len(&self) -> usize {
        self.at(self.a.len(), self.b.len()) as usize
    }

    /// The runs that make up the subsequence, last one first.
    fn matches(&self) -> Vec<Match> {
        let mut matches: Vec<Match> = Vec::new();
        let (mut row, mut column) = (self.a.len(), self.b.len());
        while row > 0 && column > 0 {
            if self.a[row - 1] == self.b[column - 1] {
                match matches.last_mut().filter(|last| last.a == row && last.b == column) {
                    Some(last) => *last = Match { a: row - 1, b: column - 1, len: last.len + 1 },
                    None => matches.push(Match { a: row - 1, b: column - 1, len: 1 }),
                }
                row -= 1;
                column -= 1;
            } else if self.at(row - 1, column) > self.at(row, column - 1) {
                row -= 1;
            } else {
                column -= 1;
            }
        }
        matches
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Bench;
    use crate::protocol::Dialect;

    #[test]
    fn finds_text_length_and_places() {
        let mut bench = Bench::new();
        bench.run("MSET a ohmytext b mynewtext");
        assert_eq!(bench.run("LCS a b"), "mytext");
        assert_eq!(bench.run("LCS a nobody"), "\"\"");
        assert_eq!(bench.run("LCS a b LEN"), "6");
        bench.dialect = Dialect::Resp3;
        let expected = "%2 $7 matches *1 *3 *2 :4 :7 *2 :5 :8 :4 $3 len :6";
        let answer = bench.run("LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN");
        assert_eq!(answer.replace("\r\n", " "), expected);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut bench = Bench::new();
        bench.value_len_max = 4 * 4 * 4;
        bench.run("MSET a abc b abc c abcd");
        assert_eq!(bench.run("LCS a b"), "abc");
        let expected =
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";
        assert_eq!(bench.run("LCS a c"), expected);
    }
}
