//! Decimal numbers for the hot paths: replies, effects and records.

/// Writes the number's digits into the caller's buffer: `format!` would be half of a small effect's cost,
/// and a third of a GET's encoding. Twenty digits hold any 64-bit number.
pub fn decimal(mut value: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return &digits[at..];
        }
    }
}

/// Reads digits; None if there is none, or something else, or if the number is too large. Twice as fast as
/// `str::parse`, which would also take a plus sign.
pub fn parse(digits: &[u8]) -> Option<u64> {
    let add = |value: u64, &byte: &u8| match byte {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, add) }
}
