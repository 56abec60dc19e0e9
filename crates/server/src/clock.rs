//! What time it is, and what chance brings: both are passed in, so that tests own them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tertulia_protocol::Timestamp;

/// Tells the time; cheap to clone.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System { started: Instant, off_by_ms: i64, corrected_ms: Arc<AtomicI64> },
    Manual { epoch: Timestamp, elapsed_ns: Arc<AtomicU64> },
}

impl Clock {
    /// The clock of the machine.
    pub fn system() -> Self {
        Self::system_off_by(0)
    }

    /// The clock of the machine, plus so many milliseconds: for tests of clocks that are wrong.
    pub fn system_off_by(off_by_ms: i64) -> Self {
        Self(Source::System { started: Instant::now(), off_by_ms, corrected_ms: Arc::default() })
    }

    /// A clock that stands still until its hand is moved, for tests; it begins at 2026-01-01.
    pub fn manual() -> (Self, ClockHand) {
        let elapsed_ns = Arc::new(AtomicU64::new(0));
        let epoch = Timestamp::from_millis(1_767_225_600_000);
        (Self(Source::Manual { epoch, elapsed_ns: Arc::clone(&elapsed_ns) }), ClockHand { elapsed_ns })
    }

    /// The time of day. It may jump when the machine's clock is set.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System { off_by_ms, corrected_ms, .. } => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let since = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
                let corrected = corrected_ms.load(Ordering::Relaxed);
                Timestamp::from_millis(since.saturating_add(*off_by_ms).saturating_add(corrected))
            }
            Source::Manual { epoch, .. } => epoch.plus(self.monotonic()),
        }
    }

    /// Sets this clock and all its clones by so many milliseconds. A manual one is set by its hand alone.
    pub fn correct(&self, by_ms: i64) {
        if let Source::System { corrected_ms, .. } = &self.0 {
            corrected_ms.fetch_add(by_ms, Ordering::Relaxed);
        }
    }

    /// The time since this clock was made; it never runs back. For limits and timeouts.
    pub fn monotonic(&self) -> Duration {
        match &self.0 {
            Source::System { started, .. } => started.elapsed(),
            Source::Manual { elapsed_ns, .. } => Duration::from_nanos(elapsed_ns.load(Ordering::SeqCst)),
        }
    }
}

/// Moves a [`Clock::manual`] and all its clones.
#[derive(Debug, Clone)]
pub struct ClockHand {
    elapsed_ns: Arc<AtomicU64>,
}

impl ClockHand {
    /// Moves the time forward.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.elapsed_ns.fetch_add(by, Ordering::SeqCst);
    }
}

/// The operating system gives no random bytes: nothing that must be secret can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random bytes")]
pub struct RandomError;

/// Gives random bytes; cheap to clone.
#[derive(Clone)]
pub struct Random(Generator);

#[derive(Clone)]
enum Generator {
    System,
    /// `SplitMix64`: anyone can foretell it, which is what tests want.
    Seeded(Arc<AtomicU64>),
}

impl Random {
    /// The operating system's, good for secrets.
    pub fn system() -> Self {
        Self(Generator::System)
    }

    /// The same bytes for the same seed: for tests alone.
    pub fn seeded(seed: u64) -> Self {
        Self(Generator::Seeded(Arc::new(AtomicU64::new(seed))))
    }

    /// A wait of `least` to twice that, by chance, so that those who wait do not come back together.
    pub fn jitter(&self, least: Duration) -> Duration {
        let part = self.bytes::<1>().map_or(128, |[byte]| u32::from(byte));
        least + least * part / 256
    }

    /// A number drawn evenly from 0 to 1; 0.5 should the system have none.
    pub fn roll(&self) -> f64 {
        self.bytes().map_or(0.5, |bytes| f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX))
    }

    /// Fills `bytes`.
    ///
    /// # Errors
    /// If the operating system has none; what was to be made of them must not be made.
    pub fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        match &self.0 {
            Generator::System => getrandom::fill(bytes).map_err(|_| RandomError),
            Generator::Seeded(state) => {
                for chunk in bytes.chunks_mut(8) {
                    chunk.copy_from_slice(&split_mix(state).to_le_bytes()[..chunk.len()]);
                }
                Ok(())
            }
        }
    }

    /// An array of random bytes.
    ///
    /// # Errors
    /// As [`fill`](Self::fill).
    pub fn bytes<const N: usize>(&self) -> Result<[u8; N], RandomError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the state: it would tell what comes next.
        f.write_str("Random")
    }
}

/// Sebastiano Vigna, "splitmix64.c" (public domain).
fn split_mix(state: &AtomicU64) -> u64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut z = state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_by_its_hand() {
        let (clock, hand) = Clock::manual();
        let (before, clone) = ((clock.now(), clock.monotonic()), clock.clone());
        assert_eq!((clock.now(), clock.monotonic()), before);
        hand.advance(Duration::from_millis(1_500));
        assert_eq!(clock.now().since(before.0), Duration::from_millis(1_500));
        assert_eq!(clone.monotonic() - before.1, Duration::from_millis(1_500));
    }

    #[test]
    fn a_clock_that_is_wrong_is_set_with_all_its_clones_and_its_monotonic_time_is_not() {
        let (right, wrong) = (Clock::system(), Clock::system_off_by(3_600_000));
        let clone = wrong.clone();
        assert!(wrong.now().since(right.now()) > Duration::from_secs(3_500));
        clone.correct(-3_600_000);
        assert!(wrong.now().since(right.now()) < Duration::from_secs(100));
        assert!(wrong.monotonic() < Duration::from_secs(100));
    }

    #[test]
    fn a_seed_gives_the_same_bytes_again_and_another_one_others() {
        let (a, b, c) = (Random::seeded(1), Random::seeded(1), Random::seeded(2));
        let first = a.bytes::<20>();
        assert_eq!(first, b.bytes());
        assert_ne!(first, c.bytes());
        assert_ne!(first, a.bytes());
    }

    #[test]
    fn the_system_gives_bytes_that_differ() {
        let random = Random::system();
        assert_ne!(random.bytes::<16>(), random.bytes::<16>());
    }
}
