//! Histograms of durations and other values.
//!
//! Buckets grow with the value, so microseconds and seconds have the same relative precision (the idea of
//! HdrHistogram, Gil Tene). A value costs two relaxed atomics. Hot paths collect values in a
//! [`LocalHistogram`] and pay once per batch.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Groups of buckets: 0 to 3, then one for each power of two. The last ends at 2^28 µs, four minutes.
const POWERS: usize = 27;
/// Buckets per power of two: a percentile is at most a quarter too high.
const STEPS: usize = 4;
const BUCKETS: usize = POWERS * STEPS;

/// Counts of values, shared by all threads.
#[derive(Debug)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: std::array::from_fn(|_| AtomicU64::new(0)), sum: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Records one value, in microseconds or the unit that the owner states.
    pub fn record(&self, value: u64) {
        self.counts[bucket_of(value)].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// Adds the values of a [`LocalHistogram`], and empties it.
    pub fn add(&self, local: &mut LocalHistogram) {
        if local.is_empty {
            return;
        }
        for (value, count) in local.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.counts[bucket_of(value as u64)].fetch_add(u64::from(*count), Relaxed);
        }
        self.sum.fetch_add(local.sum, Relaxed);
        *local = LocalHistogram::default();
    }

    /// The number of values.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// All values added up.
    pub fn sum(&self) -> u64 {
        self.sum.load(Relaxed)
    }

    /// A copy of the counts and the sum. Under load the sum may be a moment newer than the counts.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let counts = self.counts.iter().map(|count| count.load(Relaxed)).collect();
        HistogramSnapshot { counts, sum: self.sum() }
    }

    /// Removes all values, for CONFIG RESETSTAT.
    pub fn reset(&self) {
        self.counts.iter().for_each(|count| count.store(0, Relaxed));
        self.sum.store(0, Relaxed);
    }
}

/// Values below this are counted locally first. For slower operations, an atomic costs little.
const LOCAL_BELOW: usize = 2 * STEPS;

/// Values of one thread, to be added to a shared [`Histogram`]: a pipeline of a hundred commands costs a few
/// atomics, not hundreds.
#[derive(Debug)]
pub struct LocalHistogram {
    /// Counts by value.
    counts: [u32; LOCAL_BELOW],
    sum: u64,
    is_empty: bool,
}

impl LocalHistogram {
    /// Records a value that belongs to `shared`.
    pub fn record(&mut self, value: u64, shared: &Histogram) {
        match self.counts.get_mut(value as usize) {
            Some(count) => {
                *count += 1;
                self.sum += value;
                self.is_empty = false;
            }
            None => shared.record(value),
        }
    }
}

impl Default for LocalHistogram {
    fn default() -> Self {
        LocalHistogram { counts: [0; LOCAL_BELOW], sum: 0, is_empty: true }
    }
}

/// A histogram at one moment.
#[derive(Clone, Debug, Default)]
pub struct HistogramSnapshot {
    counts: Vec<u64>,
    /// All values added up.
    pub sum: u64,
}

impl HistogramSnapshot {
    /// The values of several histograms together.
    pub fn sum<'a>(all: impl Iterator<Item = &'a Histogram>) -> HistogramSnapshot {
        let mut sum = HistogramSnapshot { counts: vec![0; BUCKETS], sum: 0 };
        for histogram in all {
            sum.sum += histogram.sum();
            for (total, count) in sum.counts.iter_mut().zip(&histogram.counts) {
                *total += count.load(Relaxed);
            }
        }
        sum
    }

    /// The values that came after `before`. After CONFIG RESETSTAT, none.
    pub fn since(&self, before: &HistogramSnapshot) -> HistogramSnapshot {
        let earlier = before.counts.iter().chain(std::iter::repeat(&0));
        let counts = self.counts.iter().zip(earlier).map(|(now, then)| now.saturating_sub(*then));
        HistogramSnapshot { counts: counts.collect(), sum: self.sum.saturating_sub(before.sum) }
    }

    /// The number of values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The number of values up to `bound`. Exact for bounds of the form 2^n - 1; others are rounded down to
    /// a bucket.
    pub fn count_up_to(&self, bound: u64) -> u64 {
        let within = |(bucket, _): &(usize, &u64)| upper_bound(*bucket) <= bound;
        self.counts.iter().enumerate().filter(within).map(|(_, count)| count).sum()
    }

    /// The buckets that are not empty: the largest value of each, and its count.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let filled = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        filled.map(|(bucket, count)| (upper_bound(bucket), *count))
    }

    /// Doubling bounds with the number of values below each, up to the first bound (or 2^27) above all
    /// values. Values are microseconds rounded down, so 3 is "below 4".
    pub fn doubling(&self) -> Vec<(u64, u64)> {
        let all = self.count();
        let mut bounds: Vec<(u64, u64)> = Vec::new();
        for power in 0..=POWERS {
            let below = self.count_up_to((1 << power) - 1);
            bounds.push((1 << power, below));
            if below == all {
                break;
            }
        }
        bounds
    }

    /// The value that this share of all values (0.99 for p99) does not exceed, rounded up to the end of its
    /// bucket; 0 if there are no values.
    pub fn percentile(&self, share: f64) -> u64 {
        let rank = (self.count() as f64 * share).ceil() as u64;
        let mut below = 0;
        let reaches = |count: &u64| {
            below += count;
            below >= rank && below > 0
        };
        self.counts.iter().position(reaches).map_or(0, upper_bound)
    }
}

fn bucket_of(value: u64) -> usize {
    // Each value below STEPS has its bucket. For others, the bits after the highest choose the step.
    if value < STEPS as u64 {
        return value as usize;
    }
    let power = value.ilog2() as usize;
    let step = (value >> (power - STEPS.ilog2() as usize)) as usize % STEPS;
    ((power - 1) * STEPS + step).min(BUCKETS - 1)
}

/// The largest value of a bucket.
fn upper_bound(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let (power, step) = (bucket / STEPS + 1, bucket % STEPS);
    let width = 1 << (power - STEPS.ilog2() as usize);
    (1 << power) + (step as u64 + 1) * width - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_the_bucket_that_ends_at_or_above_it() {
        for value in (0..5000).chain((13..27).flat_map(|n| [(1 << n) - 1, 1 << n, (1 << n) + 1])) {
            let bucket = bucket_of(value);
            assert!(value <= upper_bound(bucket), "{value}");
            assert!(bucket == 0 || value > upper_bound(bucket - 1), "{value}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_near() {
        let histogram = Histogram::default();
        assert_eq!(histogram.snapshot().percentile(0.99), 0);
        (1..=1000).for_each(|value| histogram.record(value));
        let seen = histogram.snapshot();
        assert_eq!((seen.count(), seen.sum), (1000, 500_500));
        assert_eq!(seen.count_up_to(255), 255);
        assert!((500..=600).contains(&seen.percentile(0.5)), "{}", seen.percentile(0.5));
        assert_eq!(seen.doubling()[..3], [(1, 0), (2, 1), (4, 3)]);
        assert_eq!(seen.doubling().last(), Some(&(1024, 1000)));
        assert!((990..=1200).contains(&seen.percentile(0.99)), "{}", seen.percentile(0.99));
    }

    #[test]
    fn the_values_of_an_interval_are_a_difference() {
        let (one, other) = (Histogram::default(), Histogram::default());
        one.record(1000);
        let before = HistogramSnapshot::sum([&one, &other].into_iter());
        assert_eq!((before.count(), before.sum), (1, 1000));
        assert_eq!(before.since(&HistogramSnapshot::default()).count(), 1);
        (0..3).for_each(|_| other.record(2));
        let after = HistogramSnapshot::sum([&one, &other].into_iter()).since(&before);
        assert_eq!((after.count(), after.sum, after.percentile(1.0)), (3, 6, 2));
        one.reset();
        assert_eq!(HistogramSnapshot::sum([&one].into_iter()).since(&before).count(), 0);
    }

    #[test]
    fn what_is_gathered_locally_arrives_once() {
        let (shared, mut local) = (Histogram::default(), LocalHistogram::default());
        (0..20).for_each(|value| local.record(value, &shared));
        shared.add(&mut local);
        shared.add(&mut local);
        let direct = Histogram::default();
        (0..20).for_each(|value| direct.record(value));
        assert_eq!(shared.snapshot().doubling(), direct.snapshot().doubling());
        assert_eq!(shared.sum(), 190);
    }
}
