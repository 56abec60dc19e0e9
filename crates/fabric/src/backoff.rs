//! How long to wait before a server is tried again.

use std::time::Duration;

/// Waits that double from `base` to `cap`; the one taken is drawn evenly from half of that to all of it.
///
/// A few nodes come back to a server, not thousands of clients: half the wait is jitter enough, and none is so short
/// that the tries of one node crowd.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    base: Duration,
    cap: Duration,
}

impl Backoff {
    /// For connections to servers beside us: 50 ms, doubling to 2 s.
    pub(crate) const SERVER: Self = Self { base: Duration::from_millis(50), cap: Duration::from_secs(2) };

    /// What has lasted so long had not failed: the next wait is a first one.
    pub(crate) const STEADY: Duration = Duration::from_secs(10);

    /// The wait after `failures` failures in a row (at least one); `roll` is drawn evenly from 0 to 1.
    pub(crate) fn delay(self, failures: u32, roll: f64) -> Duration {
        let doublings = failures.saturating_sub(1);
        let full = self.base.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(self.cap);
        full.mul_f64(0.5 + 0.5 * roll.clamp(0.0, 1.0))
    }
}

/// A number drawn evenly from 0 to 1 from the system's generator; 0.5 should that ever fail.
pub(crate) fn roll() -> f64 {
    getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_never_overflow() {
        let full = |failures| Backoff::SERVER.delay(failures, 1.0).as_millis();
        assert_eq!([full(0), full(1), full(2), full(3), full(7), full(99)], [50, 50, 100, 200, 2_000, 2_000]);
    }

    #[test]
    fn jitter_covers_half_of_the_wait() {
        assert_eq!(Backoff::SERVER.delay(3, 0.0), Duration::from_millis(100));
        assert_eq!(Backoff::SERVER.delay(3, 0.5), Duration::from_millis(150));
    }
}
