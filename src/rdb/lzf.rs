//! LZF, by which Redis shortens strings of more than 20 bytes: expanding only, since we write strings as they are.
//!
//! | bytes | meaning |
//! |---|---|
//! | `000nnnnn` | the next n + 1 bytes, as they are |
//! | `nnnooooo` `pppppppp` | n + 2 bytes again, from `ooooopppppppp` + 1 bytes before |
//! | `111ooooo` `nnnnnnnn` `pppppppp` | n + 9 bytes again, likewise |

/// The bytes that `packed` stands for; None if it is damaged, or if they are not `len`. Memory grows with the bytes
/// expanded, and ends within one repetition (264 bytes) of `len`.
pub fn expand(mut packed: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    while !packed.is_empty() {
        let control = usize::from(next(&mut packed)?);
        match control >> 5 {
            0 => {
                let (plain, rest) = packed.split_at_checked(control + 1)?;
                out.extend_from_slice(plain);
                packed = rest;
            }
            code => {
                let more = if code == 7 { usize::from(next(&mut packed)?) } else { 0 };
                let back = (control & 0x1f) << 8 | usize::from(next(&mut packed)?);
                repeat(&mut out, back + 1, code + more + 2)?;
            }
        }
        if out.len() > len {
            return None;
        }
    }
    (out.len() == len).then_some(out)
}

fn next(packed: &mut &[u8]) -> Option<u8> {
    let (&first, rest) = packed.split_first()?;
    *packed = rest;
    Some(first)
}

/// Appends `count` bytes from `back` bytes before the end on. The source may overlap what is appended.
fn repeat(out: &mut Vec<u8>, back: usize, count: usize) -> Option<()> {
    let from = out.len().checked_sub(back)?;
    for at in from..from + count {
        out.push(out[at]);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form() {
        assert_eq!(expand(b"\x02abc", 3), Some(b"abc".to_vec()));
        assert_eq!(expand(b"\x02abc\x20\x02", 6), Some(b"abcabc".to_vec()));
        assert_eq!(expand(b"\0a\xe0\x07\0", 17), Some(vec![b'a'; 17]), "it overlaps itself");
        assert_eq!(expand(b"", 0), Some(vec![]));
    }

    #[test]
    fn damage_is_refused() {
        for packed in [&b"\x02ab"[..], b"\x20\0", b"\0a\x20", b"\0a\xe0\x07", b"\0a\x20\x01"] {
            assert_eq!((0..300).find_map(|len| expand(packed, len)), None, "{packed:?}");
        }
        assert_eq!(expand(b"\x02abc", 2), None, "more than announced");
        assert_eq!(expand(b"\x02abc", 4), None, "less than announced");
    }
}
