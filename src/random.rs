//! Randomness that need not be secret: ids, samples, RANDOMKEY.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): one
/// multiplication chain per number, and any seed will do.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// A generator seeded by the standard hasher, whose keys come from the operating system.
    pub fn new() -> Random {
        Random(RandomState::new().hash_one(0u8))
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`. `bound` must not be 0.
    pub fn below(&mut self, bound: usize) -> usize {
        // Multiply-shift (Lemire, 2019): the bias is below bound / 2^64.
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// A number in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        // An f64 has 53 bits of precision.
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// 40 lower-case hex digits, the form of Redis's run ids.
    pub fn hex40(&mut self) -> String {
        let mut id = String::with_capacity(48);
        while id.len() < 40 {
            id.push_str(&format!("{:016x}", self.next_u64()));
        }
        id.truncate(40);
        id
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::new()
    }
}

/// A number in `0.0..1.0`, from this thread's generator.
pub fn dice() -> f64 {
    thread_local!(static DICE: RefCell<Random> = RefCell::new(Random::new()));
    DICE.with_borrow_mut(Random::unit)
}
