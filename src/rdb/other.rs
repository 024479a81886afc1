//! Values of the types that this server does not have: their names, and skipping them.
//!
//! Most of Redis's compact forms are one string with an inner structure, so a value is skipped by counting strings. A
//! module's value consists of parts that tell their kind.

use super::{Error, Reader};
use std::io::Read;

/// A type of Redis other than a string, by its byte in RDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherType(pub u8);

impl OtherType {
    /// The name that users of Redis know.
    pub fn name(self) -> &'static str {
        match self.0 {
            1 | 10 | 14 | 18 => "list",
            2 | 11 | 20 => "set",
            3 | 5 | 12 | 17 => "sorted set",
            4 | 9 | 13 | 16 => "hash",
            15 | 19 | 21 => "stream",
            6 | 7 => "value of a module",
            _ => "value of an unknown type",
        }
    }

    /// Skips a value of this type.
    ///
    /// # Errors
    /// [`Error::UnknownType`] for forms of Redis after 7.2, and for those of modules before Redis 4.0.
    pub fn skip<R: Read>(self, reader: &mut Reader<R>) -> Result<(), Error> {
        match self.0 {
            // A ziplist, a listpack, a map or set of integers in one string.
            9..=13 | 16 | 17 | 20 => reader.skip_string(),
            1 | 2 | 14 => each(reader, Reader::skip_string),
            3 => each(reader, |reader| {
                reader.skip_string()?;
                skip_decimal(reader)
            }),
            4 => each(reader, |reader| {
                reader.skip_string()?;
                reader.skip_string()
            }),
            5 => each(reader, |reader| {
                reader.skip_string()?;
                reader.skip(8)
            }),
            18 => each(reader, |reader| {
                reader.length()?;
                reader.skip_string()
            }),
            7 => {
                reader.length()?;
                skip_module_parts(reader)
            }
            15 => skip_stream(reader, 1),
            19 => skip_stream(reader, 2),
            21 => skip_stream(reader, 3),
            number => Err(Error::UnknownType(number)),
        }
    }
}

/// A count, then so many parts. A count that is too large meets the end of the data.
fn each<R: Read>(
    reader: &mut Reader<R>,
    mut skip: impl FnMut(&mut Reader<R>) -> Result<(), Error>,
) -> Result<(), Error> {
    for _ in 0..reader.length()? {
        skip(reader)?;
    }
    Ok(())
}

/// A score as Redis before 4.0 wrote it: a length and digits; 253 to 255 stand for NaN and the infinities.
fn skip_decimal<R: Read>(reader: &mut Reader<R>) -> Result<(), Error> {
    match reader.byte()? {
        253.. => Ok(()),
        len => reader.skip(len.into()),
    }
}

/// The parts of a module's value, up to the part that ends it.
pub(super) fn skip_module_parts<R: Read>(reader: &mut Reader<R>) -> Result<(), Error> {
    loop {
        match reader.length()? {
            0 => return Ok(()),
            1 | 2 => drop(reader.length()?),
            3 => reader.skip(4)?,
            4 => reader.skip(8)?,
            5 => reader.skip_string()?,
            _ => return Err(Error::Malformed("a part of a module's value is damaged")),
        }
    }
}

/// A stream, in the first, second (Redis 7.0) or third form (7.2).
fn skip_stream<R: Read>(reader: &mut Reader<R>, form: u8) -> Result<(), Error> {
    // Nodes: an id and a listpack.
    each(reader, |reader| {
        reader.skip_string()?;
        reader.skip_string()
    })?;
    // The number of entries, the last id; then the first id, the greatest deleted one, all entries ever.
    skip_numbers(reader, if form == 1 { 3 } else { 8 })?;
    each(reader, |reader| skip_group(reader, form))
}

fn skip_group<R: Read>(reader: &mut Reader<R>, form: u8) -> Result<(), Error> {
    /// Two numbers of 64 bits.
    const ID_BYTES: u64 = 16;
    reader.skip_string()?;
    // The last id; then how many entries were read.
    skip_numbers(reader, if form == 1 { 2 } else { 3 })?;
    // Pending entries: an id, the time of delivery and the number of deliveries.
    each(reader, |reader| {
        reader.skip(ID_BYTES + 8)?;
        reader.length().map(drop)
    })?;
    // Consumers: a name, when it was seen (and active), and its pending entries.
    each(reader, |reader| {
        reader.skip_string()?;
        reader.skip(if form == 3 { 16 } else { 8 })?;
        each(reader, |reader| reader.skip(ID_BYTES))
    })
}

fn skip_numbers<R: Read>(reader: &mut Reader<R>, count: usize) -> Result<(), Error> {
    (0..count).try_for_each(|_| reader.length().map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_after(number: u8, bytes: &[u8]) -> Result<usize, Error> {
        let mut reader = Reader::new(bytes);
        OtherType(number).skip(&mut reader)?;
        Ok(reader.into_source().len())
    }

    /// Values as Redis 7.0.15 dumped them, except that types 1, 3 and 7 are as its loader reads them.
    #[rustfmt::skip]
    const VALUES: &[(u8, &[u8])] = &[
        (1, b"\x02\x01a\xc0\x05"),
        (2, b"\x01\x01a"),
        (3, b"\x03\x01a\x031.5\x01b\xfe\x01c\xfd"),
        (4, b"\x01\x01f\x01v"),
        (5, b"\x01\x01m\0\0\0\0\0\0\xf8?"),
        (7, b"\x81\0\0\0\0\0\0\0\x01\x02\x09\x01\x05\x03abcd\x04abcdefgh\x05\x02hi\0"),
        (11, b"\x0c\x02\0\0\0\x02\0\0\0\x01\0\x02\0"),
        (16, b"\x0d\x0d\0\0\0\x02\0\x81f\x02\x81v\x02\xff"),
        (17, b"\x0f\x0f\0\0\0\x02\0\x81m\x02\x831.5\x04\xff"),
        (18, b"\x01\x02\x0c\x0c\0\0\0\x02\0\x81a\x02\x05\x01\xff"),
        // One entry in one node; a group with one consumer, which has the entry pending.
        (19, b"\x01\x10\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\x1d\x1d\0\0\0\x0a\0\x01\x01\0\x01\x01\
            \x01\x81f\x02\0\x01\x02\x01\0\x01\0\x01\x81v\x02\x04\x01\xff\x01\x01\x01\x01\x01\0\0\x01\x01\x01g\
            \x01\x01\x01\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\x8f5\xce\x16\xa2\x01\0\0\x01\x01\x01c\x8f5\xce\
            \x16\xa2\x01\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01"),
    ];

    #[test]
    fn values_are_skipped_to_their_end() {
        for (number, bytes) in VALUES {
            assert_eq!(left_after(*number, bytes).expect("whole"), 0, "type {number}");
            assert_ne!(OtherType(*number).name(), OtherType(99).name(), "type {number}");
            for cut in 0..bytes.len() {
                let ends = left_after(*number, &bytes[..cut]);
                assert!(matches!(ends, Err(Error::Ends)), "type {number} cut to {cut}: {ends:?}");
            }
        }
    }

    #[test]
    fn an_unknown_form_is_refused_by_its_number() {
        for number in [0, 6, 8, 22, 200] {
            assert!(
                matches!(left_after(number, &[0; 9]), Err(Error::UnknownType(it)) if it == number)
            );
        }
        assert!(matches!(left_after(7, b"\x01\x06"), Err(Error::Malformed(_))));
    }
}
