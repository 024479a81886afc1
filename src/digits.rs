//! Decimal formatting for the hot paths: replies, effects and records.

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
