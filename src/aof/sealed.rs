//! Lines that end in a seal, the CRC-32 of the text before it: `DECLINE 1024 8f3a1c02`. So a flipped bit shows,
//! wherever the line was on its way: over a link, or on a disk.

use super::numbers::{hex, parse_crc};
use super::record;

/// A blank and eight digits.
const SEAL_LEN: usize = 9;

/// The line with its seal and its end. `context` is a CRC-32 that the seal also covers; 0 for none.
pub fn sealed(text: &[u8], context: u32) -> Vec<u8> {
    let mut line = text.to_vec();
    line.push(b' ');
    line.extend_from_slice(&hex(record::seal(context, text, 0)));
    line.extend_from_slice(b"\r\n");
    line
}

/// The text of a line without its end; None if the seal is not the text's.
pub fn unsealed(line: &[u8], context: u32) -> Option<&[u8]> {
    let (text, crc) = line.split_at_checked(line.len().checked_sub(SEAL_LEN)?)?;
    let is_whole = parse_crc(crc.strip_prefix(b" ")?)? == record::seal(context, text, 0);
    if is_whole { Some(text) } else { None }
}
