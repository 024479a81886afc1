//! The decoder alone: requests that were once valid, and noise.

use super::common::resp::{encode, quote};
use super::common::rng::Rng;
use super::words::any_word;
use super::{Replay, cases, first_seed};
use kvstore::protocol::Decoder;
use kvstore::protocol::Limits;
use kvstore::protocol::Span;
use kvstore::protocol::Step;

const LIMITS: Limits = Limits { bulk_len_max: 1 << 20, unauthenticated: false };
/// The memory that the decoder may hold for each byte that it was given. The worst is a line of single
/// letters: two bytes make a word, whose places take 40, in a vector that doubles.
const HELD_PER_BYTE_MAX: usize = 48;
/// And before it was given any.
const HELD_MIN: usize = 4096;
const ROUND: u64 = 1000;

/// The steps that a decoder finds in `input`, given in pieces that end at `cuts`.
fn decode(input: &[u8], cuts: &[usize], limits: Limits) -> Vec<String> {
    let (mut decoder, mut found) = (Decoder::default(), vec![]);
    let (mut start, mut given) = (0, 0);
    for end in cuts.iter().copied().chain([input.len()]) {
        given += end - given;
        loop {
            let waiting = &input[start..given];
            let step = decoder.step(waiting, limits);
            found.extend(decoder.take_telnet_answers().as_deref().map(quote));
            let held = decoder.allocated_bytes();
            assert!(held <= HELD_PER_BYTE_MAX * given + HELD_MIN, "{held} bytes for {given}");
            let used = match step {
                Step::NeedMore => break,
                Step::Skip(used) => used,
                Step::Resp(used) => {
                    found.push(show(decoder.args(waiting).from(0)));
                    used
                }
                Step::Text(used) => {
                    let spans: Vec<Span> = decoder.words().iter().map(|word| word.span).collect();
                    found.push(show(decoder.line_args(&spans).from(0)));
                    used
                }
                Step::BadLine(used, failure) => {
                    found.push(failure.to_string());
                    used
                }
                Step::Fatal(failure) => {
                    found.push(failure.to_string());
                    return found;
                }
            };
            assert!(used <= waiting.len(), "{used} of {} bytes used", waiting.len());
            assert!(used > 0, "no progress");
            start += used;
        }
    }
    found
}

fn show<'a>(args: impl Iterator<Item = &'a [u8]>) -> String {
    args.map(quote).collect::<Vec<_>>().join(" ")
}

/// Several requests as clients send them.
fn requests(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![];
    for _ in 0..rng.below(4) + 1 {
        let args: Vec<Vec<u8>> = (0..rng.below(5) + 1).map(|_| any_word(rng)).collect();
        match rng.below(3) {
            0 => bytes.extend(args.join(&b" "[..]).into_iter().chain(*b"\n")),
            1 => bytes.extend(show(args.iter().map(Vec::as_slice)).bytes().chain(*b"\r\n")),
            _ => encode(&args, &mut bytes),
        }
    }
    bytes
}

/// Pieces in which a parser is likely to have an edge.
const TOKENS: &[&[u8]] = &[
    b"\r",
    b"\n",
    b"\r\n",
    b"*",
    b"$",
    b"*1\r\n",
    b"$0\r\n",
    b"$-1\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"*2147483647\r\n",
    b"*2147483648\r\n",
    b"$1048576\r\n",
    b"$1048577\r\n",
    b"$9223372036854775807\r\n",
    b"*9223372036854775808\r\n",
    b"$18446744073709551616\r\n",
    b"*01\r\n",
    b"$+1\r\n",
    b"\"",
    b"'",
    b"\\",
    b"\\x",
    b"\\x4",
    b"\xff",
    b"\xff\xff",
    b"\xff\xfa",
    b"\xff\xf0",
    b"\xff\xfd\x06",
    b"\0",
    b" ",
    b"\t",
];

fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.below(4) {
        let at = rng.below(bytes.len() + 1);
        let end = (at + rng.below(8)).min(bytes.len());
        match rng.below(5) {
            0 if at < bytes.len() => bytes[at] = rng.next_u64() as u8,
            1 => drop(bytes.drain(at..end)),
            2 => drop(bytes.splice(at..at, rng.pick(TOKENS).iter().copied())),
            3 => drop(bytes.splice(at..end, rng.pick(TOKENS).iter().copied())),
            _ => bytes.extend_from_within(at..end),
        }
    }
}

fn noise(rng: &mut Rng) -> Vec<u8> {
    (0..rng.below(30)).flat_map(|_| rng.pick(TOKENS).to_vec()).collect()
}

fn random_cuts(rng: &mut Rng, len: usize) -> Vec<usize> {
    let mut cuts: Vec<usize> = (0..rng.below(6)).map(|_| rng.below(len + 1)).collect();
    cuts.sort_unstable();
    cuts
}

#[test]
fn whatever_arrives_is_decoded_the_same_however_it_is_cut() {
    let first = first_seed();
    println!("KVSTORE_FUZZ_SEED={first}");
    for round in 0..cases().div_ceil(ROUND) {
        let mut rng = Rng::new(first.wrapping_add(round));
        let mut replay = Replay::new(first.wrapping_add(round));
        for _ in 0..ROUND {
            let mut input = if rng.chance(80) { requests(&mut rng) } else { noise(&mut rng) };
            mutate(&mut rng, &mut input);
            replay.note(quote(&input));
            let limits = Limits { unauthenticated: rng.chance(10), ..LIMITS };
            let whole = decode(&input, &[], limits);
            let each_byte: Vec<usize> = (1..input.len()).collect();
            assert_eq!(decode(&input, &each_byte, limits), whole, "byte by byte");
            let cuts = random_cuts(&mut rng, input.len());
            assert_eq!(decode(&input, &cuts, limits), whole, "cut at {cuts:?}");
        }
    }
}

/// Line and header lengths around the limits of 64 KiB, where the above does not get.
#[test]
fn long_inputs_are_decoded_the_same_however_they_are_cut() {
    const LIMIT: usize = 64 << 10;
    let heads: [&[u8]; 5] = [b"", b"*", b"*1\r\n$", b"\"", b"SET k "];
    let mut rng = Rng::new(first_seed());
    for head in heads {
        for len in [LIMIT - 9, LIMIT - 1, LIMIT, LIMIT + 1, LIMIT + 2, LIMIT + 9, 3 * LIMIT] {
            for end in [&b"\n"[..], b"\r\n", b"\""] {
                let body = b"1".repeat(len - head.len());
                let input = [head, &body, end, b"PING\r\n"].concat();
                let whole = decode(&input, &[], LIMITS);
                let around: Vec<usize> =
                    (LIMIT - 5..LIMIT + 5).filter(|at| *at < input.len()).collect();
                assert_eq!(decode(&input, &around, LIMITS), whole, "{} and {len}", quote(head));
                let cuts = random_cuts(&mut rng, input.len());
                assert_eq!(decode(&input, &cuts, LIMITS), whole, "{} and {len}", quote(head));
            }
        }
    }
}

#[test]
fn a_line_of_many_words_costs_what_is_stated() {
    for pattern in [&b"a "[..], b"\"\" ", b"'' "] {
        let mut input = pattern.repeat((64 << 10) / pattern.len());
        input.push(b'\n');
        decode(&input, &[], LIMITS);
    }
    let mut input = b"*1000000\r\n".to_vec();
    input.extend(b"$0\r\n\r\n".repeat(100_000));
    assert!(decode(&input, &[], LIMITS).is_empty());
}
