//! A sum that is kept up to date while its parts change, such as the bytes that all clients hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The sum.
#[derive(Clone, Debug, Default)]
pub struct Sum(Arc<AtomicUsize>);

impl Sum {
    /// All parts together.
    pub fn get(&self) -> usize {
        self.0.load(Relaxed)
    }
}

/// A part of a sum. It leaves the sum when it is dropped.
#[derive(Debug)]
pub struct Held {
    sum: Sum,
    part: AtomicUsize,
}

impl Held {
    /// A new part, of nothing yet.
    pub fn new(sum: &Sum) -> Held {
        Held { sum: sum.clone(), part: AtomicUsize::new(0) }
    }

    /// How much it is now.
    pub fn get(&self) -> usize {
        self.part.load(Relaxed)
    }

    /// Changes it.
    pub fn set(&self, bytes: usize) {
        let before = self.part.swap(bytes, Relaxed);
        if before != bytes {
            // Wraps around where it grows smaller.
            self.sum.0.fetch_add(bytes.wrapping_sub(before), Relaxed);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_the_parts_that_are_left() {
        let sum = Sum::default();
        let (one, two) = (Held::new(&sum), Held::new(&sum));
        one.set(10);
        two.set(5);
        one.set(7);
        assert_eq!((sum.get(), one.get()), (12, 7));
        drop(one);
        assert_eq!(sum.get(), 5);
    }
}
