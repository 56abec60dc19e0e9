//! Times that are few enough to be kept one by one.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

/// Exact percentiles, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Percentiles {
    /// How many times.
    pub count: usize,
    /// The shortest.
    pub min_millis: f64,
    /// Half of them took at most this long.
    pub p50_millis: f64,
    /// 95 of 100 took at most this long.
    pub p95_millis: f64,
    /// 99 of 100 took at most this long.
    pub p99_millis: f64,
    /// The longest.
    pub max_millis: f64,
}

impl Percentiles {
    /// Of these times; nothing if there are none.
    pub(crate) fn of_millis(mut millis: Vec<f64>) -> Option<Self> {
        millis.sort_by(f64::total_cmp);
        let (&min_millis, &max_millis) = (millis.first()?, millis.last()?);
        // The smallest value that at least so many percent do not exceed.
        let percentile = |percent: usize| millis[(millis.len() * percent).div_ceil(100).max(1) - 1];
        Some(Self {
            count: millis.len(),
            min_millis,
            p50_millis: percentile(50),
            p95_millis: percentile(95),
            p99_millis: percentile(99),
            max_millis,
        })
    }
}

impl Display for Percentiles {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { p50_millis, p95_millis, p99_millis, max_millis, .. } = self;
        write!(
            f,
            "p50 {p50_millis:.2} ms, p95 {p95_millis:.2} ms, p99 {p99_millis:.2} ms, max {max_millis:.2} ms"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_there() {
        let of = Percentiles::of_millis((1..=200).rev().map(f64::from).collect()).unwrap();
        assert_eq!(
            (of.min_millis, of.p50_millis, of.p95_millis, of.p99_millis, of.max_millis),
            (1.0, 100.0, 190.0, 198.0, 200.0)
        );
        let one = Percentiles::of_millis(vec![7.0]).unwrap();
        assert_eq!((one.count, one.p50_millis, one.p99_millis), (1, 7.0, 7.0));
        assert_eq!(Percentiles::of_millis(Vec::new()), None);
    }
}
