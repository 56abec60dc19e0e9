//! A histogram of durations: percentiles to three percent, in 15 KB, whatever their number.

use serde::Serialize;

/// Each power of two is cut into 2^5 buckets, so a bucket is at most 1/32 of its value wide.
const SUB_BITS: u32 = 5;
/// One row for all values below 32 ns, which are kept exactly, and one for each power of two above.
const BUCKETS: usize = ((u64::BITS - SUB_BITS + 1) as usize) << SUB_BITS;

/// Durations in nanoseconds. Each thread fills its own; they are added up in the end.
#[derive(Debug, Clone)]
pub struct Histogram {
    buckets: Box<[u64]>,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// An empty one.
    pub fn new() -> Self {
        Self { buckets: vec![0; BUCKETS].into(), max: 0 }
    }

    /// Counts a duration.
    pub fn record(&mut self, nanos: u64) {
        self.buckets[bucket_of(nanos)] += 1;
        self.max = self.max.max(nanos);
    }

    /// Takes over what another has counted.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *count += more;
        }
        self.max = self.max.max(other.max);
    }

    /// The curve of all percentiles that a chart has room for: percent, and microseconds.
    pub fn curve(&self) -> Vec<(f64, f64)> {
        const PERCENTS: [f64; 18] = [
            0.0, 10.0, 25.0, 50.0, 60.0, 75.0, 85.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.7, 99.9, 99.95, 99.99,
            99.995, 100.0,
        ];
        let count: u64 = self.buckets.iter().sum();
        // One more nine than there are values would be the maximum again and again. A little less than 100: 100 − 99.9 is
        // not quite 0.1.
        let says_something =
            |percent: &&f64| **percent == 100.0 || (count as f64) * (100.0 - **percent) > 99.9;
        let (mut below, mut buckets) = (0, self.buckets.iter().enumerate());
        let mut end = 0;
        let mut reach = |rank: u64| {
            while below < rank {
                let Some((bucket, count)) = buckets.next() else { break };
                below += count;
                end = highest_in(bucket);
            }
            end.min(self.max)
        };
        let percents = PERCENTS.iter().filter(says_something).filter(|_| count > 0);
        percents
            .map(|percent| {
                let rank = ((count as f64 * percent / 100.0).ceil() as u64).clamp(1, count);
                (*percent, reach(rank) as f64 / 1e3)
            })
            .collect()
    }

    /// The figures; `None` if nothing was counted.
    pub fn summary(&self) -> Option<Latency> {
        let count: u64 = self.buckets.iter().sum();
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let percentile = |percent: u64| {
            // The smallest value that at least so many percent do not exceed.
            let rank = (u128::from(count) * u128::from(percent)).div_ceil(100) as u64;
            let mut below = 0;
            let bucket = self.buckets.iter().position(|bucket| {
                below += bucket;
                below >= rank
            });
            micros(bucket.map_or(0, highest_in).min(self.max))
        };
        (count > 0).then(|| Latency {
            count,
            p50_micros: percentile(50),
            p95_micros: percentile(95),
            p99_micros: percentile(99),
            max_micros: micros(self.max),
        })
    }
}

/// How long something took. A percentile is the upper end of its bucket: it never flatters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// Half of them took at most this long.
    pub p50_micros: f64,
    /// 95 of 100 took at most this long.
    pub p95_micros: f64,
    /// 99 of 100 took at most this long.
    pub p99_micros: f64,
    /// The longest took exactly this long.
    pub max_micros: f64,
}

/// The bucket of a value: its row is its power of two, its place there the five bits after the first.
fn bucket_of(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(SUB_BITS + 1);
    let row = u64::from(shift) << SUB_BITS;
    (row + (value >> shift)) as usize
}

/// The largest value of a bucket.
fn highest_in(bucket: usize) -> u64 {
    const SUB: u64 = 1 << SUB_BITS;
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

    fn of(values: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::new();
        values.into_iter().for_each(|value| histogram.record(value));
        histogram
    }

    #[test]
    fn every_value_lies_in_a_bucket_that_ends_at_most_a_32nd_above_it() {
        let powers =
            (0..u64::BITS).flat_map(|bit| [1 << bit, (1 << bit) - 1, (1 << bit) + 1, 3 << (bit / 2)]);
        for value in powers.chain(0..5_000).chain([u64::MAX]) {
            let end = highest_in(bucket_of(value));
            assert!(end >= value && end - value <= value / 32, "{value} in a bucket that ends at {end}");
        }
    }

    #[test]
    fn percentiles_are_those_of_the_values_however_they_were_spread_over_threads() {
        let mut histogram = of((1..=1_000_000).step_by(2));
        histogram.add(&of((2..=1_000_000).step_by(2)));
        let latency = histogram.summary().unwrap();
        assert_eq!(latency.count, 1_000_000);
        for (is, should) in
            [(latency.p50_micros, 500.0), (latency.p95_micros, 950.0), (latency.p99_micros, 990.0)]
        {
            assert!(is >= should && is <= should * 33.0 / 32.0, "{is}, not {should}");
        }
        assert_eq!(latency.max_micros, 1_000.0);
    }

    #[test]
    fn one_slow_value_in_a_thousand_is_the_maximum_and_not_the_p99() {
        let latency = of((0..999).map(|_| 10_000).chain([5_000_000])).summary().unwrap();
        assert!(latency.p99_micros < 10.5);
        assert_eq!(latency.max_micros, 5_000.0);
    }

    #[test]
    fn a_curve_rises_from_the_least_to_the_maximum_and_has_no_nines_that_were_not_measured() {
        let curve = of((1..=1_000).map(|value| value * 1_000)).curve();
        assert!(curve.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1), "{curve:?}");
        assert_eq!(curve.last(), Some(&(100.0, 1_000.0)));
        assert!(curve.iter().any(|point| point.0 == 99.9) && !curve.iter().any(|point| point.0 == 99.99));
    }

    #[test]
    fn nothing_counted_is_no_figure() {
        assert_eq!(of([]).summary(), None);
        assert_eq!(of([]).curve(), []);
    }
}
