//! Random identifiers. They need not be secret, but no two nodes may draw the same one.

use fastrand::Rng;
use std::hash::{BuildHasher, RandomState};

/// A generator seeded by the operating system, by way of the standard hasher. `Rng::new()` takes its
/// seed from the time and the thread only: good enough for samples, not for identifiers.
pub fn generator() -> Rng {
    Rng::with_seed(RandomState::new().hash_one(0u8))
}

/// 40 lower-case hex digits, the form of Redis's run ids.
pub fn hex40() -> String {
    let mut rng = generator();
    format!("{:032x}{:08x}", rng.u128(..), rng.u32(..))
}
