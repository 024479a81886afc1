//! Whole numbers of any size, for reading and printing a [`Float80`](crate::commands::extra::float80::Float80). They can
//! be multiplied and divided by small numbers.

/// A number in base 2^32. Its digits ("limbs") are least significant first, and the last one is not zero.
#[derive(Debug)]
pub struct Big(Vec<u32>);

/// The exponents of the largest powers of five and of ten that fit in a limb.
const FIVES: u32 = 13;
const TENS: u32 = 9;

impl Big {
    /// Converts a u64.
    pub fn new(value: u64) -> Big {
        let mut big = Big(vec![value as u32, (value >> 32) as u32]);
        big.trim();
        big
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    /// True if the number is 0.
    pub fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    /// Multiplies by `factor`, then adds `addend`.
    pub fn multiply_add(&mut self, factor: u32, addend: u32) {
        let mut carry = u64::from(addend);
        for limb in &mut self.0 {
            carry += u64::from(*limb) * u64::from(factor);
            *limb = carry as u32;
            carry >>= 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    /// Divides by `divisor`, and returns the remainder.
    fn divide(&mut self, divisor: u32) -> u32 {
        let mut rest = 0;
        for limb in self.0.iter_mut().rev() {
            let part = rest << 32 | u64::from(*limb);
            *limb = (part / u64::from(divisor)) as u32;
            rest = part % u64::from(divisor);
        }
        self.trim();
        rest as u32
    }

    /// Multiplies by 2^32 to the power of `limbs`. The number must not be 0, unless `limbs` is.
    pub fn shift_limbs(&mut self, limbs: usize) {
        self.0.splice(0..0, std::iter::repeat_n(0, limbs));
    }

    /// This number times 10^`power`, as a number and a power of two to multiply it by. An inexact result has
    /// its last bit set. None if `power` is so large or small that no `Float80` can hold the result.
    pub fn decimal(mut self, power: i32) -> Option<(Big, i32)> {
        // No text has enough digits to bring a number with another power back into range.
        if !(-10_300..=5_000).contains(&power) {
            return None;
        }
        // Ten is two times five, and the twos are in the power returned.
        let fives = power.unsigned_abs();
        let (steps, last) = (fives / FIVES, 5u32.pow(fives % FIVES));
        let factors = std::iter::repeat_n(5u32.pow(FIVES), steps as usize).chain([last]);
        if power >= 0 {
            factors.for_each(|factor| self.multiply_add(factor, 0));
            return Some((self, power));
        }
        // Each division removes less than one limb, so at least four are left for the quotient.
        let limbs = steps + 5;
        self.shift_limbs(limbs as usize);
        let mut inexact = false;
        for factor in factors {
            inexact |= self.divide(factor) != 0;
        }
        self.0[0] |= u32::from(inexact);
        Some((self, power - 32 * limbs as i32))
    }

    /// The most significant bits (all, or at least 97), and the power of two to multiply them by. If a
    /// dropped bit was set, the last bit is set.
    pub fn top(&self) -> (u128, i32) {
        let (below, top) = self.0.split_at(self.0.len().saturating_sub(4));
        let wide = top.iter().rev().fold(0, |wide: u128, limb| wide << 32 | u128::from(*limb));
        let lost = below.iter().any(|limb| *limb != 0);
        (wide | u128::from(lost), 32 * below.len() as i32)
    }

    /// Converts to decimal digits.
    pub fn into_decimal(mut self) -> String {
        let mut groups = Vec::new();
        while !self.is_zero() {
            groups.push(self.divide(10u32.pow(TENS)));
        }
        let first = groups.pop().unwrap_or(0).to_string();
        let rest =
            groups.iter().rev().map(|group| format!("{group:0width$}", width = TENS as usize));
        std::iter::once(first).chain(rest).collect()
    }
}
