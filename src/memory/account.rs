//! A sum that is kept up to date while its parts change, such as the bytes that all clients hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The sum of all accounts.
#[derive(Clone, Debug, Default)]
pub struct Total(Arc<AtomicUsize>);

impl Total {
    /// The sum.
    pub fn get(&self) -> usize {
        self.0.load(Relaxed)
    }
}

/// A part of a total. Dropping it takes it out of the total.
#[derive(Debug)]
pub struct Account {
    total: Total,
    part: AtomicUsize,
}

impl Account {
    /// A new account, of 0 bytes.
    pub fn new(total: &Total) -> Account {
        Account { total: total.clone(), part: AtomicUsize::new(0) }
    }

    /// Its bytes.
    pub fn get(&self) -> usize {
        self.part.load(Relaxed)
    }

    /// Changes its bytes.
    pub fn set(&self, bytes: usize) {
        let before = self.part.swap(bytes, Relaxed);
        if before != bytes {
            // Wraps around when it shrinks.
            self.total.0.fetch_add(bytes.wrapping_sub(before), Relaxed);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_the_parts_that_are_left() {
        let sum = Total::default();
        let (one, two) = (Account::new(&sum), Account::new(&sum));
        one.set(10);
        two.set(5);
        one.set(7);
        assert_eq!((sum.get(), one.get()), (12, 7));
        drop(one);
        assert_eq!(sum.get(), 5);
    }
}
