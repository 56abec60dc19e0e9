//! The patience of those who try again.
//!
//! Waiting is sleeping, and nothing else: whoever waits is dropped when the node goes down, or races the wait against that.

use std::time::Duration;

use tertulia_domain::backoff::Backoff;

use crate::clock::Random;

/// Waits that grow from failure to failure, until something succeeds.
#[derive(Debug, Clone)]
pub struct Retry {
    backoff: Backoff,
    random: Random,
    failures: u32,
}

impl Retry {
    /// Nothing has failed yet.
    pub const fn new(backoff: Backoff, random: Random) -> Self {
        Self { backoff, random, failures: 0 }
    }

    /// It succeeded: the next failure is a first one.
    pub const fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// It failed; how long to wait now, `least` at least.
    pub fn failed(&mut self, least: Duration) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.backoff.wait_at_least(least, self.failures, self.random.roll())
    }

    /// Whether what failed last had not failed before: that is news, and the next times are none.
    pub const fn is_first(&self) -> bool {
        self.failures == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_until_it_succeeds() {
        let whole = [100, 200, 400, 800, 1_000, 1_000].map(Duration::from_millis);
        let mut retry = Retry::new(Backoff::new(whole[0], *whole.last().unwrap()), Random::seeded(1));
        for _ in 0..2 {
            for (number, whole) in whole.into_iter().enumerate() {
                let wait = retry.failed(Duration::ZERO);
                assert!(whole / 2 <= wait && wait <= whole, "{wait:?} of {whole:?}");
                assert_eq!(retry.is_first(), number == 0);
            }
            retry.succeeded();
        }
    }
}
