//! A histogram of durations that many tasks fill at once: percentiles to three percent, in 15 KB.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::{Serialize, Serializer};

/// Each power of two is cut into this many buckets: 2^5, so a bucket is at most 1/32 of its value wide.
const SUB_BITS: u32 = 5;
const SUB: u64 = 1 << SUB_BITS;
/// One row for all values below 32 µs, which are kept exactly, and one for each power of two above.
const BUCKETS: usize = ((u64::BITS - SUB_BITS + 1) as usize) << SUB_BITS;

/// Durations in whole microseconds, in buckets that widen with their value.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: Box<[AtomicU64]>,
    max_micros: AtomicU64,
}

impl Histogram {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), max_micros: AtomicU64::new(0) }
    }

    /// Counts a duration.
    pub(crate) fn record(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(micros)].fetch_add(1, Relaxed);
        self.max_micros.fetch_max(micros, Relaxed);
    }

    /// What was counted so far.
    pub(crate) fn summary(&self) -> Summary {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        let max_micros = self.max_micros.load(Relaxed);
        let percentile = |percent: u64| {
            // The smallest value that at least so many percent do not exceed.
            let rank = (count * percent).div_ceil(100);
            let mut below = 0;
            let bucket = counts.iter().position(|bucket_count| {
                below += bucket_count;
                below >= rank
            });
            Duration::from_micros(bucket.map_or(0, highest_in).min(max_micros))
        };
        Summary { count, p50: percentile(50), p99: percentile(99), max: Duration::from_micros(max_micros) }
    }
}

/// The figures of a histogram. A percentile is the upper end of its bucket: it never flatters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary {
    /// How many durations.
    pub(crate) count: u64,
    /// Half of them are at most this long.
    #[serde(rename = "p50Micros", serialize_with = "as_micros")]
    pub(crate) p50: Duration,
    /// 99 of 100 are at most this long.
    #[serde(rename = "p99Micros", serialize_with = "as_micros")]
    pub(crate) p99: Duration,
    /// The longest, exactly.
    #[serde(rename = "maxMicros", serialize_with = "as_micros")]
    pub(crate) max: Duration,
}

fn as_micros<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u128(duration.as_micros())
}

/// The bucket of a value: its row is its power of two, its place there the five bits after the first.
fn bucket_of(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(SUB_BITS + 1);
    let row = u64::from(shift) << SUB_BITS;
    (row + (value >> shift)) as usize
}

/// The largest value of a bucket.
fn highest_in(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * SUB {
        return bucket;
    }
    let shift = (bucket >> SUB_BITS) - 1;
    let lowest = (SUB + bucket % SUB) << shift;
    lowest + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(values: impl IntoIterator<Item = u64>) -> Summary {
        let histogram = Histogram::new();
        values.into_iter().for_each(|value| histogram.record(Duration::from_micros(value)));
        histogram.summary()
    }

    #[test]
    fn every_value_lies_in_a_bucket_that_ends_at_most_a_32nd_above_it() {
        let powers =
            (0..u64::BITS).flat_map(|bit| [1 << bit, (1 << bit) - 1, (1 << bit) + 1, 3 << (bit / 2)]);
        for value in powers.chain(0..5_000).chain([u64::MAX]) {
            let end = highest_in(bucket_of(value));
            assert!(end >= value && end - value <= value / SUB, "{value} in a bucket that ends at {end}");
            assert!(bucket_of(value) < BUCKETS);
        }
    }

    #[test]
    fn percentiles_are_those_of_the_values() {
        let summary = micros(1..=1_000);
        assert_eq!(summary.count, 1_000);
        assert!((500..=516).contains(&summary.p50.as_micros()), "{summary:?}");
        assert!((990..=1_000).contains(&summary.p99.as_micros()), "{summary:?}");
        assert_eq!(summary.max, Duration::from_millis(1));
    }

    #[test]
    fn one_slow_value_in_a_thousand_is_the_maximum_and_not_the_p99() {
        let summary = micros((0..999).map(|_| 10).chain([5_000_000]));
        assert_eq!(summary.p99, Duration::from_micros(10));
        assert_eq!(summary.max, Duration::from_secs(5));
    }

    #[test]
    fn an_empty_one_has_zeros() {
        assert_eq!(
            micros([]),
            Summary { count: 0, p50: Duration::ZERO, p99: Duration::ZERO, max: Duration::ZERO }
        );
    }
}
