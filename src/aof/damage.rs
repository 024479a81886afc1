//! Telling a torn tail from damage: whether an intact record follows a damaged one.

use super::numbers::parse_crc;
use super::record::{HEADER_LEN_MAX, Header, Position, SEAL_AND_LINE_END, line_len, seal};
use crate::store::effect::Seq;
use std::collections::{HashMap, VecDeque};

/// Crcs at ends of lines that are tried: only the nearest ones are likely to match.
const NEAREST_MAX: usize = 8;
/// Limit on hashing while looking for records in a damaged end, as a multiple of its length.
const WORK_MAX: usize = 8;

/// A record that is not intact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Offset in the file at which the record begins.
    pub offset: u64,
    /// The record that should be here.
    pub seq: Seq,
    /// The reason, for the operator.
    pub what: &'static str,
    /// True if a torn write can look like this; false for a whole record in the wrong place.
    pub may_be_torn: bool,
}

/// True if there is an intact record anywhere in `rest`, which begins with the damaged record after `after`.
///
/// A record can be verified if the crc of the one before it is known. A damaged record's crc is known if its digits
/// survived, and can be computed if only they are damaged; both are tried. Several records may be damaged, so the
/// digits at the ends of the nearest lines are tried, too.
pub(super) fn intact_record_follows(rest: &[u8], after: Position) -> bool {
    let first = crcs_of_first(rest, after.crc);
    let mut nearest: VecDeque<u32> = VecDeque::new();
    // Offset at which a record should begin → crc of its predecessor.
    let mut due: HashMap<usize, u32> = HashMap::new();
    let mut work_left = rest.len().saturating_mul(WORK_MAX);
    for (at, byte) in rest.iter().enumerate().skip(1) {
        match byte {
            // Not only at the start of a line: the line end before it may be damaged.
            b'#' => {
                let record = parse_record(&rest[at..]);
                let Some((header, line, payload)) =
                    record.filter(|(header, ..)| header.seq > after.seq)
                else {
                    continue;
                };
                // A client may have stored data that makes this slow. `true` is the safe answer.
                let Some(left) = work_left.checked_sub(payload.len()) else { return true };
                work_left = left;
                let (sealed, crc) = (sealed_part(line), crc32fast::hash(payload));
                let mut known = first.iter().chain(&nearest).chain(due.get(&at));
                if known.any(|before| seal(*before, sealed, crc) == header.crc) {
                    return true;
                }
                due.insert(at + line.len() + payload.len(), header.crc);
            }
            b'\n' => {
                nearest.extend(crc_at_end(&rest[..=at]));
                nearest.drain(..nearest.len().saturating_sub(NEAREST_MAX));
            }
            _ => {}
        }
    }
    false
}

/// Candidates for the crc of the damaged record at the start of `rest`: any eight digits where its header
/// should be, and the crc computed from its header and payload, in case only its digits are damaged.
fn crcs_of_first(rest: &[u8], before: u32) -> Vec<u32> {
    let head = &rest[..rest.len().min(HEADER_LEN_MAX)];
    let mut crcs: Vec<u32> = head.windows(8).filter_map(parse_crc).collect();
    if let Some(len) = line_len(rest).filter(|len| *len > SEAL_AND_LINE_END) {
        let sealed = sealed_part(&rest[..len]);
        let repaired = Header::parse(&[sealed, b"00000000\r\n"].concat());
        let payload_len = repaired.and_then(|(header, _)| usize::try_from(header.len).ok());
        if let Some(payload) = payload_len.and_then(|payload| rest[len..].get(..payload)) {
            crcs.push(seal(before, sealed, crc32fast::hash(payload)));
        }
    }
    crcs
}

/// A header line without its crc and line end.
fn sealed_part(line: &[u8]) -> &[u8] {
    &line[..line.len() - SEAL_AND_LINE_END]
}

/// The whole record at the start of `bytes`, intact or not: its header, its line and its payload.
fn parse_record(bytes: &[u8]) -> Option<(Header, &[u8], &[u8])> {
    let (header, line_len) = Header::parse(bytes)?;
    let (line, rest) = bytes.split_at(line_len);
    Some((header, line, rest.get(..usize::try_from(header.len).ok()?)?))
}

/// The crc at the end of a line. The rest of the line may be damaged.
fn crc_at_end(line: &[u8]) -> Option<u32> {
    let start = line.len().checked_sub(SEAL_AND_LINE_END)?;
    parse_crc(&line[start..start + 8])
}
