//! A whole file in RDB form: `dump.rdb`, the base of an append-only file, or the preamble of one.
//!
//! ```text
//! REDIS0010                            the version
//! fa <string> <string>                 facts about the writer                          skipped
//! f5 <string>                          a library of functions
//! fe 00                                the number of the database of what follows
//! fb <length> <length>                 how many keys it has                            skipped
//! fc <8 bytes> 00 <string> <string>    a deadline in ms (fd: 4 bytes, in s), a type, a key, a value
//! ff <8 bytes>                         the end, and the checksum of all before it; 0: none was computed
//! ```

use super::other::{OtherType, skip_module_parts};
use super::{Error, Reader, STRING, is_known};
use std::io::Read;

/// The first bytes of a file.
pub const MAGIC: &[u8] = b"REDIS";
/// From this version on a file ends with a checksum.
const CHECKSUM_SINCE: u16 = 5;

/// What a file consists of, as far as anybody wants to know.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// The items after it are in the database with this number.
    Database(u64),
    /// A string.
    Value {
        /// Its key.
        key: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
        /// When it expires, in milliseconds since 1970; it may have passed.
        deadline: Option<u64>,
    },
    /// A value of another type, which is skipped.
    Other {
        /// Its key.
        key: Vec<u8>,
        /// Its type.
        of_type: OtherType,
    },
    /// A library of functions.
    Library,
}

/// Goes through a file.
#[derive(Debug)]
pub struct File<R> {
    reader: Reader<R>,
    version: u16,
    len_max: u64,
    /// The value that comes next and was announced by [`Item::Other`].
    to_skip: Option<OtherType>,
}

impl<R: Read> File<R> {
    /// Reads the first line. Strings of more than `len_max` bytes will be refused.
    pub fn begin(source: R, len_max: u64) -> Result<File<R>, Error> {
        let mut reader = Reader::new(source);
        let head = reader.array::<9>()?;
        let digits = head.strip_prefix(MAGIC).ok_or(Error::Malformed("not a file in RDB form"))?;
        let text = std::str::from_utf8(digits).unwrap_or_default();
        let version = text.parse().ok().filter(|version| is_known(*version));
        let version = version.ok_or(Error::Malformed("a version of RDB that is not known"))?;
        Ok(File { reader, version, len_max, to_skip: None })
    }

    /// The number of bytes read so far.
    pub fn offset(&self) -> u64 {
        self.reader.offset()
    }

    /// The bytes after the file. Call it when [`File::next_item`] has returned None.
    pub fn into_source(self) -> R {
        self.reader.into_source()
    }

    /// The next item; None at the end, if the checksum is right.
    pub fn next_item(&mut self) -> Result<Option<Item>, Error> {
        if let Some(of_type) = self.to_skip.take() {
            of_type.skip(&mut self.reader)?;
        }
        let mut deadline = None;
        loop {
            match self.reader.byte()? {
                0xff => return self.check().map(|()| None),
                0xfe => return Ok(Some(Item::Database(self.reader.length()?))),
                0xfd => deadline = Some(u64::from(u32::from_le_bytes(self.reader.array()?)) * 1000),
                0xfc => deadline = Some(u64::from_le_bytes(self.reader.array()?)),
                0xf5 => {
                    self.reader.skip_string()?;
                    return Ok(Some(Item::Library));
                }
                opcode @ 0xf0.. => self.skip_fact(opcode)?,
                number => return self.entry(number, deadline).map(Some),
            }
        }
    }

    fn entry(&mut self, number: u8, deadline: Option<u64>) -> Result<Item, Error> {
        let key = self.reader.string(self.len_max)?;
        if number == STRING {
            let value = self.reader.string(self.len_max)?;
            return Ok(Item::Value { key, value, deadline });
        }
        let of_type = OtherType(number);
        self.to_skip = Some(of_type);
        Ok(Item::Other { key, of_type })
    }

    /// Skips what is not about data.
    fn skip_fact(&mut self, opcode: u8) -> Result<(), Error> {
        let reader = &mut self.reader;
        match opcode {
            // A fact about the writer.
            0xfa => {
                reader.skip_string()?;
                reader.skip_string()
            }
            // Numbers of keys: of a database, and of those in it that expire.
            0xfb => reader.length().and_then(|_| reader.length()).map(drop),
            // How often, or how long ago, a key was used.
            0xf9 => reader.byte().map(drop),
            0xf8 => reader.length().map(drop),
            // A module's own data beside the keys: its id, and when it is to be loaded.
            0xf7 => {
                (0..3).try_for_each(|_| reader.length().map(drop))?;
                skip_module_parts(reader)
            }
            // Sizes of a slot of a cluster: its number, keys, keys that expire.
            0xf4 => (0..3).try_for_each(|_| reader.length().map(drop)),
            _ => Err(Error::Malformed("an opcode that is not known")),
        }
    }

    fn check(&mut self) -> Result<(), Error> {
        if self.version < CHECKSUM_SINCE {
            return Ok(());
        }
        let computed = self.reader.crc();
        match u64::from_le_bytes(self.reader.array()?) {
            crc if crc == 0 || crc == computed => Ok(()),
            _ => Err(Error::Malformed("the checksum of the file is wrong: it is damaged")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdb::crc64::crc64;

    const LEN_MAX: u64 = 1 << 20;

    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.extend_from_slice(&crc64(0, &bytes).to_le_bytes());
        bytes
    }

    fn sample() -> Vec<u8> {
        let parts: [&[u8]; 10] = [
            b"REDIS0010\xfa\x09redis-ver\x067.0.15\xfa\x0aredis-bits\xc0\x40",
            b"\xf5\x0b#!lua name=",
            b"\xf7\x81\0\0\0\0\0\0\0\x01\x02\x01\x02\x07\0",
            b"\xfe\0\xfb\x04\x02",
            b"\0\x04city\x04Oslo",
            b"\xfc\0\xd8\xc3\x2c\xbb\x03\0\0\xf8\x0c\0\x01n\xc1\x2c\x01",
            b"\xfd\0\xf1\x53\x65\xf9\x05\0\x01a\xc3\x05\x11\0a\xe0\x07\0",
            b"\x01\x05queue\x02\x01x\x01y",
            b"\xfe\x03\0\0\0",
            b"\xff",
        ];
        sealed(parts.concat())
    }

    fn items(bytes: &[u8]) -> Result<Vec<Item>, Error> {
        let mut file = File::begin(bytes, LEN_MAX)?;
        let mut items = Vec::new();
        while let Some(item) = file.next_item()? {
            items.push(item);
        }
        assert_eq!(file.offset(), (bytes.len() - file.into_source().len()) as u64);
        Ok(items)
    }

    #[test]
    fn all_that_a_file_holds() {
        let value = |key: &str, value: &[u8], deadline| Item::Value {
            key: key.into(),
            value: value.to_vec(),
            deadline,
        };
        let expected = [
            Item::Library,
            Item::Database(0),
            value("city", b"Oslo", None),
            value("n", b"300", Some(4_102_444_800_000)),
            value("a", &[b'a'; 17], Some(1_700_000_000_000)),
            Item::Other { key: b"queue".into(), of_type: OtherType(1) },
            Item::Database(3),
            value("", b"", None),
        ];
        let bytes = sample();
        assert_eq!(items(&bytes).expect("whole"), expected);
        assert_eq!(items(&[&bytes[..], b"*1\r\n"].concat()).expect("whole"), expected);
    }

    #[test]
    fn no_checksum_before_version_5_and_where_redis_computed_none() {
        let without = |head: &[u8], end: &[u8]| [head, b"\xfe\0\0\x01k\x01v\xff", end].concat();
        assert_eq!(items(&without(b"REDIS0004", b"")).expect("whole").len(), 2);
        assert_eq!(items(&without(b"REDIS0010", &[0; 8])).expect("whole").len(), 2);
        assert!(matches!(items(&without(b"REDIS0010", b"")), Err(Error::Ends)));
        for head in [b"REDIS0016", b"REDIS0000", b"REDIS00x1", b"SIDER0010"] {
            assert!(matches!(items(&without(head, &[0; 8])), Err(Error::Malformed(_))));
        }
    }

    #[test]
    fn damage_is_noticed_wherever_it_is() {
        let bytes = sample();
        for cut in 0..bytes.len() {
            assert!(items(&bytes[..cut]).is_err(), "cut to {cut}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut spoiled = bytes.clone();
            spoiled[bit / 8] ^= 1 << (bit % 8);
            assert!(items(&spoiled).is_err(), "bit {bit}");
        }
    }
}
