//! Awkward arguments, as a client with a bug, or with a plan, sends them.

use super::common::rng::Rng;
use kvstore::rdb::{self, crc64::crc64};

/// Few, so that commands meet each other's results.
pub const KEYS: &[&[u8]] = &[
    b"a",
    b"b",
    b"c",
    b"d",
    b"n",
    b"",
    b"a key",
    b"\x00\xff\r\n",
    b"*[k]?",
    b"a-key-that-is-longer-than-whatever-some-store-keeps-inline",
];

/// None lies between 20,000 and a million: values of that size would make the run slow and find nothing
/// that smaller and larger ones do not.
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "2",
    "3",
    "7",
    "8",
    "9",
    "10",
    "15",
    "63",
    "64",
    "100",
    "255",
    "256",
    "1000",
    "4095",
    "16384",
    "-1",
    "-2",
    "-7",
    "-8",
    "-100",
    "-0",
    "+1",
    "007",
    " 1",
    "1 ",
    "1.5",
    "1e3",
    "0x10",
    "",
    "1048575",
    "1048576",
    "8388607",
    "8388608",
    "2147483647",
    "2147483648",
    "-2147483648",
    "4294967295",
    "4294967296",
    "-4294967297",
    "536870911",
    "536870912",
    "536870913",
    "1152921504606846976",
    "2305843009213693951",
    "2305843009213693952",
    "4611686018427387904",
    "9007199254740993",
    "922337203685477",
    "9223372036854775",
    "9223372036854776",
    "9223372036854775806",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775807",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999",
    "1767225600",
    "1767225600123",
    "253402300800",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "-1e308",
    "1e-400",
    "3.0e3",
    "0.1",
    "179769313486231570000000000000000000000",
    "1e17",
    "1e18",
    "#0",
    "#1",
    "#7",
    "#-1",
    "#9223372036854775807",
    "u8",
    "i64",
    "u63",
    "u64",
    "i0",
    "u1",
];

const ODD: &[&[u8]] = &[
    b"",
    b" ",
    b"\r\n",
    b"\0",
    b"\xff\xfe\xfd",
    b"\xc3\xa9",
    b"(nil)",
    b"ERR no",
    b"-ERR",
    b"+OK\r\n",
    b"*1",
    b"$-1",
    b"1) a",
    b"\"",
    b"'",
    b"\\",
    b"\x1b[2J",
    b"\xff\xf4",
    b"*",
    b"?",
    b"[",
    b"[^",
    b"[a-",
    b"\\",
    b"**********",
    b"*a*a*a*a*a*b",
    b"k[]*",
    b"yes",
    b"no",
    b"on",
    b"default",
    b"127.0.0.1:1",
    b"post",
];

pub fn key(rng: &mut Rng) -> Vec<u8> {
    rng.pick(KEYS).to_vec()
}

pub fn number(rng: &mut Rng) -> Vec<u8> {
    match rng.below(10) {
        0 => (rng.next_u64() as i64).to_string().into_bytes(),
        1 => rng.between(-20, 200).to_string().into_bytes(),
        _ => rng.pick(NUMBERS).as_bytes().to_vec(),
    }
}

pub fn value(rng: &mut Rng) -> Vec<u8> {
    match rng.below(8) {
        0 => rng.pick(ODD).to_vec(),
        1 | 2 => number(rng),
        3 => {
            let len = rng.below(300);
            vec![rng.next_u64() as u8; len]
        }
        _ => {
            let len = rng.below(70);
            rng.bytes(len)
        }
    }
}

pub fn any_word(rng: &mut Rng) -> Vec<u8> {
    match rng.below(4) {
        0 => key(rng),
        1 => number(rng),
        _ => value(rng),
    }
}

/// A payload of DUMP, or almost: type, value, version, checksum.
pub fn dump(rng: &mut Rng) -> Vec<u8> {
    let mut payload = vec![if rng.chance(90) { rdb::STRING } else { rng.next_u64() as u8 }];
    match rng.below(4) {
        0 => payload.extend(value(rng)),
        1 => payload.extend([&b"\xc3\x05\x11\0a\xe0\x07"[..], &rng.bytes(1)].concat()),
        _ => rdb::append_string(&mut payload, &value(rng)),
    }
    payload.extend(rdb::VERSION.to_le_bytes());
    payload.extend(crc64(0, &payload).to_le_bytes());
    if rng.chance(20) {
        let len = rng.below(payload.len());
        payload.truncate(len);
    }
    payload
}
