//! One key with its value, in one allocation.
//!
//! A small key with a small value costs little more than their bytes: they are not separate objects and
//! have no reference count. The bytes, in this order:
//!
//! 1. flags, 1 byte: has a deadline, has spare room
//! 2. key length: 1 byte, or 255 and 4 bytes
//! 3. deadline, 8 bytes, if the flag is set
//! 4. spare, 4 bytes, if the flag is set: number of unused bytes at the end, so that appending a little
//!    at a time does not copy everything each time
//! 5. key, value, spare room

use crate::clock::UnixMillis;

const HAS_DEADLINE: u8 = 1;
const HAS_SPARE: u8 = 2;
const LONG_KEY: u8 = 255;
/// A growing value reserves as much again as its length, and at most this many bytes.
const SPARE_MAX: usize = 1 << 20;

/// A key, its value and its deadline.
#[derive(Debug)]
pub struct Entry(Box<[u8]>);

/// Offsets of an entry's parts.
struct Layout {
    deadline: usize,
    key: usize,
    value: usize,
    end: usize,
}

impl Entry {
    /// Creates an entry without spare room.
    pub fn new(key: &[u8], value: &[u8], deadline: Option<UnixMillis>) -> Entry {
        Entry::build(key, &[value], 0, deadline)
    }

    fn build(key: &[u8], value: &[&[u8]], spare: usize, deadline: Option<UnixMillis>) -> Entry {
        let value_len: usize = value.iter().map(|part| part.len()).sum();
        let has_deadline = if deadline.is_some() { HAS_DEADLINE } else { 0 };
        let key_len_bytes = if key.len() < LONG_KEY as usize { 1 } else { 5 };
        let header_bytes =
            1 + key_len_bytes + 8 * usize::from(deadline.is_some()) + 4 * usize::from(spare > 0);
        // Exactly, so that the vector becomes a box without being moved.
        let mut bytes = Vec::with_capacity(header_bytes + key.len() + value_len + spare);
        bytes.push(has_deadline | if spare > 0 { HAS_SPARE } else { 0 });
        if key.len() < LONG_KEY as usize {
            bytes.push(key.len() as u8);
        } else {
            bytes.push(LONG_KEY);
            bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
        }
        if let Some(UnixMillis(ms)) = deadline {
            bytes.extend_from_slice(&ms.to_le_bytes());
        }
        if spare > 0 {
            bytes.extend_from_slice(&(spare as u32).to_le_bytes());
        }
        bytes.extend_from_slice(key);
        for part in value {
            bytes.extend_from_slice(part);
        }
        bytes.resize(bytes.len() + spare, 0);
        Entry(bytes.into_boxed_slice())
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        let at = self.layout();
        &self.0[at.key..at.value]
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        let at = self.layout();
        &self.0[at.value..at.end]
    }

    /// The time at which the key expires; None if it does not.
    pub fn deadline(&self) -> Option<UnixMillis> {
        (self.0[0] & HAS_DEADLINE != 0).then(|| {
            let at = self.layout().deadline;
            UnixMillis(u64::from_le_bytes(array(&self.0[at..at + 8])))
        })
    }

    /// Bytes allocated, with the allocator's usual overhead.
    pub fn allocated_bytes(&self) -> usize {
        // glibc: 8 bytes of header, rounded up to 16.
        (self.0.len() + 8).next_multiple_of(16)
    }

    /// Replaces value and deadline.
    pub fn set(&mut self, value: &[u8], deadline: Option<UnixMillis>) {
        if !self.overwrite(value, deadline) {
            *self = Entry::new(self.key(), value, deadline);
        }
    }

    /// Writes value and deadline in place, if they fit exactly: the usual case for a counter or a session
    /// that is written again and again. Returns false if they do not fit.
    fn overwrite(&mut self, value: &[u8], deadline: Option<UnixMillis>) -> bool {
        let at = self.layout();
        let fits = at.end - at.value == value.len()
            && at.end == self.0.len()
            && (self.0[0] & HAS_DEADLINE != 0) == deadline.is_some();
        if fits {
            self.0[at.value..at.end].copy_from_slice(value);
            self.write_deadline(at.deadline, deadline);
        }
        fits
    }

    /// Sets or removes the deadline.
    pub fn set_deadline(&mut self, deadline: Option<UnixMillis>) {
        if (self.0[0] & HAS_DEADLINE != 0) == deadline.is_some() {
            let at = self.layout().deadline;
            self.write_deadline(at, deadline);
        } else {
            *self = Entry::build(self.key(), &[self.value()], self.spare(), deadline);
        }
    }

    /// Overwrites part of the value. If the value is too short, it grows, padded with zero bytes.
    pub fn set_range(&mut self, offset: usize, bytes: &[u8]) {
        let at = self.layout();
        let old_len = at.end - at.value;
        let new_len = old_len.max(offset + bytes.len());
        let growth = new_len - old_len;
        if growth > self.spare() {
            let zeros = vec![0; growth];
            let spare = new_len.min(SPARE_MAX);
            *self = Entry::build(self.key(), &[self.value(), &zeros], spare, self.deadline());
        } else if growth > 0 {
            // Spare room is still zero: a value is never shortened in place.
            let left = (self.spare() - growth) as u32;
            self.0[at.key - 4..at.key].copy_from_slice(&left.to_le_bytes());
        }
        let start = self.layout().value + offset;
        self.0[start..start + bytes.len()].copy_from_slice(bytes);
    }

    fn write_deadline(&mut self, at: usize, deadline: Option<UnixMillis>) {
        if let Some(UnixMillis(ms)) = deadline {
            self.0[at..at + 8].copy_from_slice(&ms.to_le_bytes());
        }
    }

    fn spare(&self) -> usize {
        let at = self.layout();
        self.0.len() - at.end
    }

    fn layout(&self) -> Layout {
        let bytes = &self.0;
        let (deadline, key_len) = match bytes[1] {
            LONG_KEY => (6, u32::from_le_bytes(array(&bytes[2..6])) as usize),
            short => (2, short as usize),
        };
        let spare_at = if bytes[0] & HAS_DEADLINE != 0 { deadline + 8 } else { deadline };
        let (key, spare) = if bytes[0] & HAS_SPARE != 0 {
            (spare_at + 4, u32::from_le_bytes(array(&bytes[spare_at..spare_at + 4])) as usize)
        } else {
            (spare_at, 0)
        };
        Layout { deadline, key, value: key + key_len, end: bytes.len() - spare }
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the caller takes exactly N bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_it_is_given() {
        for key_len in [0, 1, 254, 255, 256, 70_000] {
            for deadline in [None, Some(UnixMillis(0)), Some(UnixMillis(u64::MAX))] {
                let key = vec![b'k'; key_len];
                let entry = Entry::new(&key, b"value", deadline);
                assert_eq!((entry.key(), entry.value()), (&key[..], &b"value"[..]));
                assert_eq!(entry.deadline(), deadline);
            }
        }
    }

    #[test]
    fn grows_by_small_appends() {
        let mut entry = Entry::new(b"k", b"", None);
        let mut expected = Vec::new();
        for i in 0..3000u32 {
            let bytes = i.to_string().into_bytes();
            entry.set_range(expected.len(), &bytes);
            expected.extend_from_slice(&bytes);
            if i % 100 == 0 {
                entry.set_deadline((i % 200 == 0).then_some(UnixMillis(i.into())));
            }
            assert_eq!(entry.value(), expected);
        }
        assert_eq!(entry.key(), b"k");
    }

    #[test]
    fn pads_with_zeros_and_overwrites_inside() {
        let mut entry = Entry::new(b"k", b"ab", Some(UnixMillis(7)));
        entry.set_range(4, b"z");
        assert_eq!(entry.value(), b"ab\0\0z");
        entry.set_range(1, b"XY");
        assert_eq!(entry.value(), b"aXY\0z");
        entry.set_range(8, b"");
        assert_eq!(entry.value(), b"aXY\0z\0\0\0");
        assert_eq!(entry.deadline(), Some(UnixMillis(7)));
    }

    #[test]
    fn overwrites_only_what_fits_exactly() {
        let mut entry = Entry::new(b"k", b"12", None);
        assert!(entry.overwrite(b"34", None));
        assert!(!entry.overwrite(b"345", None));
        assert!(!entry.overwrite(b"56", Some(UnixMillis(1))));
        assert_eq!(entry.value(), b"34");
    }
}
