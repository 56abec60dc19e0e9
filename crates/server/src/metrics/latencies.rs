//! How long it took, for what happens as often as messages come: a histogram without a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::LATENCY_BUCKETS;

/// A histogram of durations; all clones are the same one.
///
/// A reader may see a count that is ahead of the sum, or behind it, by what is noted at that moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Latencies(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// The last one is for what is longer than all bounds.
    buckets: [AtomicU64; LATENCY_BUCKETS.len() + 1],
    /// In microseconds, so that it does not run over within the life of a server.
    sum: AtomicU64,
}

impl Latencies {
    /// Notes all of them. Those that are equal and follow on each other cost as much as one.
    pub(super) fn observe(&self, all: impl IntoIterator<Item = Duration>) {
        let mut run = (Duration::ZERO, 0);
        for after in all {
            if after != run.0 {
                self.note(run);
                run = (after, 0);
            }
            run.1 += 1;
        }
        self.note(run);
    }

    fn note(&self, (after, times): (Duration, u64)) {
        let seconds = after.as_secs_f64();
        let bucket = LATENCY_BUCKETS.iter().take_while(|bound| seconds > **bound).count();
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        // Relaxed: these are counts, and nothing else is published by them.
        self.0.buckets[bucket].fetch_add(times, Ordering::Relaxed);
        self.0.sum.fetch_add(micros.saturating_mul(times), Ordering::Relaxed);
    }
}

impl EncodeMetric for Latencies {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        let bounds = LATENCY_BUCKETS.into_iter().chain([f64::INFINITY]);
        let counts = self.0.buckets.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<_> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_micros(self.0.sum.load(Ordering::Relaxed)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::metrics::histogram::Histogram;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn it_says_what_the_librarys_own_histogram_says() {
        let (ours, theirs) = (Latencies::default(), Histogram::new(LATENCY_BUCKETS));
        let millis = [0, 0, 250, 250, 250, 1, 100, 100, 3, 1_000, 10_000, 11_000, 3, 3];
        let all = millis.map(Duration::from_millis);
        ours.observe(all);
        all.iter().for_each(|after| theirs.observe(after.as_secs_f64()));
        let (mut ours_said, mut theirs_said) = (Registry::default(), Registry::default());
        ours_said.register("it", "It", ours);
        theirs_said.register("it", "It", theirs);
        let [ours, theirs] = [ours_said, theirs_said].map(|registry| {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            text
        });
        assert!(ours.contains("it_count 14"), "{ours}");
        let but_for_the_sum = |text: &str| -> Vec<_> {
            text.lines().filter(|line| !line.starts_with("it_sum")).map(str::to_owned).collect()
        };
        assert_eq!(but_for_the_sum(&ours), but_for_the_sum(&theirs));
        assert!(ours.contains("it_sum 22.96"), "{ours}");
    }
}
