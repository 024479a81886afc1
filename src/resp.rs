//! RESP arrays of strings, as they are written: effects in the log, commands of the client library, replies. Inlined,
//! because each reply and each effect comes through here: a pipelined GET costs some 6 % more otherwise.

use crate::digits::decimal;

/// Appends an array of strings: a command.
pub fn array(out: &mut Vec<u8>, words: &[&[u8]]) {
    header(out, b'*', words.len());
    words.iter().for_each(|word| bulk(out, word));
}

/// Appends a string of any bytes.
#[inline]
pub fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    header(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends the first line of an array (`*`), a string (`$`) or another value with a length.
#[inline]
pub fn header(out: &mut Vec<u8>, resp_type: u8, len: usize) {
    out.push(resp_type);
    out.extend_from_slice(decimal(len as u64, &mut [0; 20]));
    out.extend_from_slice(b"\r\n");
}
