//! How long to wait before trying again.

use std::time::Duration;

use crate::clock::Random;

const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(30);

/// Waits that double, each shortened by chance to half of itself at most.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    random: Random,
    tries: u32,
}

impl Backoff {
    pub(super) fn new(random: Random) -> Self {
        Self { random, tries: 0 }
    }

    /// The next wait, `least` at least.
    pub(super) fn next(&mut self, least: Duration) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.tries.min(16)).min(LAST).max(least * 2);
        self.tries = self.tries.saturating_add(1);
        let part = self.random.bytes::<1>().map_or(128, |[byte]| u32::from(byte));
        whole / 2 + whole / 2 * part / 256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_never_shorter_than_asked() {
        let mut backoff = Backoff::new(Random::seeded(1));
        let mut whole = FIRST;
        for _ in 0..20 {
            let wait = backoff.next(Duration::ZERO);
            assert!(whole / 2 <= wait && wait <= whole, "{wait:?} of {whole:?}");
            whole = (whole * 2).min(LAST);
        }
        assert!(backoff.next(Duration::from_secs(60)) >= Duration::from_secs(60));
    }
}
