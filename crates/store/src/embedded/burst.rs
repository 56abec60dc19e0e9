//! Whether so much comes that it had better be settled later.

use std::time::{Duration, Instant};

/// When settling what comes would take this share of a core, it waits until the burst is over.
const SHARE: f64 = 0.1;
/// Over how long it is measured at least how much comes.
const WINDOW: Duration = Duration::from_millis(50);

/// How much comes.
pub(super) struct Burst {
    records: u64,
    at: Instant,
    per_second: f64,
}

impl Burst {
    pub(super) const fn new(now: Instant) -> Self {
        Self { records: 0, at: now, per_second: 0.0 }
    }

    /// Whether there is one, when so many records have come until now and settling one costs this.
    pub(super) fn is_on(&mut self, now: Instant, records: u64, record_cost: Duration) -> bool {
        let elapsed = now.saturating_duration_since(self.at);
        if elapsed >= WINDOW {
            self.per_second = records.saturating_sub(self.records) as f64 / elapsed.as_secs_f64();
            (self.records, self.at) = (records, now);
        }
        self.per_second * record_cost.as_secs_f64() >= SHARE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: Duration = Duration::from_micros(2);

    #[test]
    fn a_burst_is_what_would_take_a_tenth_of_a_core() {
        let begin = Instant::now();
        let mut burst = Burst::new(begin);
        let mut records = 0;
        let mut second = 0;
        let mut come = |per_second: u64| {
            (records, second) = (records + per_second, second + 1);
            burst.is_on(begin + Duration::from_secs(second), records, COST)
        };
        assert!(!come(49_000));
        assert!(come(51_000));
        assert!(!come(49_000));
        assert!(!come(0));
        assert!(come(200_000));
    }

    #[test]
    fn what_costs_nothing_yet_is_none() {
        let begin = Instant::now();
        let mut burst = Burst::new(begin);
        assert!(!burst.is_on(begin + Duration::from_secs(1), 1_000_000, Duration::ZERO));
    }

    #[test]
    fn between_two_looks_it_is_what_it_was() {
        let begin = Instant::now();
        let mut burst = Burst::new(begin);
        assert!(burst.is_on(begin + WINDOW, 100_000, COST));
        assert!(burst.is_on(begin + WINDOW, 100_000, COST));
        assert!(!burst.is_on(begin + WINDOW * 2, 100_000, COST));
    }
}
