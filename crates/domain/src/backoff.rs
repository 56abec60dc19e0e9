//! How long to wait before something that failed is tried again.
//!
//! Half of each wait is chance, so that those who wait for one thing do not all come at once, and none of them crowds.

use std::time::Duration;

/// Waits that double.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// From a first wait to a longest.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// The wait after `failures` failures in a row (at least one), drawn evenly from half of it to all of it: `roll` is
    /// drawn evenly from 0 to 1.
    pub fn wait(self, failures: u32, roll: f64) -> Duration {
        self.wait_at_least(Duration::ZERO, failures, roll)
    }

    /// As [`wait`](Self::wait); and never shorter than what was asked for, which may be longer than the longest.
    pub fn wait_at_least(self, least: Duration, failures: u32, roll: f64) -> Duration {
        let doublings = failures.saturating_sub(1);
        let doubled = self.first.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX));
        let whole = doubled.min(self.longest).max(least.saturating_mul(2));
        whole.mul_f64(0.5 + 0.5 * roll.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));

    #[test]
    fn waits_double_up_to_the_longest_and_never_overflow() {
        let whole = |failures| BACKOFF.wait(failures, 1.0).as_millis();
        assert_eq!(
            [whole(0), whole(1), whole(2), whole(3), whole(7), whole(99)],
            [50, 50, 100, 200, 2_000, 2_000]
        );
    }

    #[test]
    fn half_of_a_wait_is_chance() {
        let waits = [0.0, 0.5, 1.0, 7.0].map(|roll| BACKOFF.wait(3, roll).as_millis());
        assert_eq!(waits, [100, 150, 200, 200]);
    }

    #[test]
    fn nobody_comes_sooner_than_he_was_asked_to() {
        let least = Duration::from_secs(60);
        assert_eq!(BACKOFF.wait_at_least(least, 1, 0.0), least);
        assert_eq!(BACKOFF.wait_at_least(least, 9, 1.0), 2 * least);
        assert_eq!(BACKOFF.wait_at_least(Duration::from_millis(1), 1, 1.0), Duration::from_millis(50));
    }
}
