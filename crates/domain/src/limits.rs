//! How often somebody may do something: the generic cell rate algorithm (ITU-T I.371), pure.
//!
//! It is a leaky bucket that needs no drops: one number says when the bucket will be empty, and every
//! unit that is let in moves that moment one interval into the future. A unit is refused while the
//! moment is further away than a burst may push it, and the difference is exactly how long to wait.

use std::num::NonZeroU32;
use std::time::Duration;

/// How much is allowed: one unit each interval, and a burst of them at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Between two units; zero lets everything in.
    interval_ns: u64,
    /// How far ahead of now the bucket may be filled: a burst of intervals.
    burst_ns: u64,
}

impl Quota {
    /// Lets everything in.
    pub const UNLIMITED: Self = Self { interval_ns: 0, burst_ns: 0 };

    /// `count` units each `period`, and up to `burst` of them at once.
    pub const fn new(count: NonZeroU32, period: Duration, burst: NonZeroU32) -> Self {
        let interval = period.as_nanos() / count.get() as u128;
        // A period of centuries, or more than a unit a nanosecond: the nearest that can be counted.
        let interval_ns = if interval > u64::MAX as u128 {
            u64::MAX
        } else if interval == 0 {
            1
        } else {
            interval as u64
        };
        Self { interval_ns, burst_ns: interval_ns.saturating_mul(burst.get() as u64) }
    }

    /// Whether this lets everything in.
    pub const fn is_unlimited(self) -> bool {
        self.interval_ns == 0
    }

    /// Lets `cost` units in and gives the state after them, or says how long to wait until they can come.
    ///
    /// `now` runs from any fixed moment and never back. What costs more than a burst counts as a burst:
    /// else it could never come.
    ///
    /// # Errors
    /// The wait; the state is unchanged, so whoever is refused is not punished for asking.
    pub fn take(self, state: Gcra, now: Duration, cost: u32) -> Result<Gcra, Duration> {
        if self.is_unlimited() {
            return Ok(state);
        }
        let now = nanos(now);
        let cost_ns = self.interval_ns.saturating_mul(u64::from(cost)).min(self.burst_ns);
        let empty_at = state.empty_at_ns.max(now).saturating_add(cost_ns);
        match empty_at.saturating_sub(now.saturating_add(self.burst_ns)) {
            0 => Ok(Gcra { empty_at_ns: empty_at }),
            wait => Err(Duration::from_nanos(wait)),
        }
    }
}

impl Quota {
    /// Lets `cost` units in, however many they are: for what is known only when it is done. The state may be in debt after
    /// them, and until that is paid [`take`](Self::take) refuses everything, also what costs nothing.
    pub fn owe(self, state: Gcra, now: Duration, cost: u32) -> Gcra {
        let cost_ns = self.interval_ns.saturating_mul(u64::from(cost));
        if self.is_unlimited() {
            return state;
        }
        Gcra { empty_at_ns: state.empty_at_ns.max(nanos(now)).saturating_add(cost_ns) }
    }
}

/// What is remembered of somebody: the moment at which his bucket is empty again. Eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gcra {
    empty_at_ns: u64,
}

impl Gcra {
    /// Whether nothing is left in the bucket: this state can be forgotten.
    pub fn is_empty(self, now: Duration) -> bool {
        self.empty_at_ns <= nanos(now)
    }

    /// The state as a number, for an atomic.
    pub const fn to_bits(self) -> u64 {
        self.empty_at_ns
    }

    /// The state that [`to_bits`](Self::to_bits) gave.
    pub const fn from_bits(bits: u64) -> Self {
        Self { empty_at_ns: bits }
    }
}

fn nanos(now: Duration) -> u64 {
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quota(count: u32, period: Duration, burst: u32) -> Quota {
        Quota::new(NonZeroU32::new(count).unwrap(), period, NonZeroU32::new(burst).unwrap())
    }

    #[test]
    fn a_burst_passes_at_once_and_then_one_each_interval() {
        let quota = quota(20, Duration::from_secs(1), 3);
        let mut state = Gcra::default();
        for _ in 0..3 {
            state = quota.take(state, Duration::ZERO, 1).unwrap();
        }
        assert_eq!(quota.take(state, Duration::ZERO, 1), Err(Duration::from_millis(50)));
        assert_eq!(quota.take(state, Duration::from_millis(20), 1), Err(Duration::from_millis(30)));
        state = quota.take(state, Duration::from_millis(50), 1).unwrap();
        assert_eq!(quota.take(state, Duration::from_millis(50), 1), Err(Duration::from_millis(50)));
    }

    #[test]
    fn a_refusal_costs_nothing() {
        let quota = quota(1, Duration::from_secs(1), 1);
        let state = quota.take(Gcra::default(), Duration::ZERO, 1).unwrap();
        for _ in 0..100 {
            assert_eq!(quota.take(state, Duration::ZERO, 1), Err(Duration::from_secs(1)));
        }
        assert!(quota.take(state, Duration::from_secs(1), 1).is_ok());
    }

    #[test]
    fn what_costs_more_than_a_burst_comes_as_a_burst() {
        let quota = quota(10, Duration::from_secs(1), 5);
        let state = quota.take(Gcra::default(), Duration::ZERO, 1_000).unwrap();
        assert_eq!(quota.take(state, Duration::ZERO, 1), Err(Duration::from_millis(100)));
    }

    #[test]
    fn who_owes_more_than_a_burst_is_let_in_when_he_has_paid_what_is_more_than_it() {
        let quota = quota(10, Duration::from_secs(1), 5);
        let state = quota.owe(Gcra::default(), Duration::ZERO, 5);
        let state = quota.take(state, Duration::ZERO, 0).unwrap();
        let state = quota.owe(state, Duration::ZERO, 20);
        assert_eq!(quota.take(state, Duration::ZERO, 0), Err(Duration::from_secs(2)));
        assert!(quota.take(state, Duration::from_secs(2), 0).is_ok());
        assert_eq!(Quota::UNLIMITED.owe(Gcra::default(), Duration::ZERO, u32::MAX), Gcra::default());
    }

    #[test]
    fn an_unlimited_quota_never_refuses_and_never_remembers() {
        let state = Quota::UNLIMITED.take(Gcra::default(), Duration::ZERO, u32::MAX);
        assert_eq!(state, Ok(Gcra::default()));
    }

    #[test]
    fn the_ends_of_the_ranges_do_not_overflow() {
        for quota in [quota(u32::MAX, Duration::ZERO, u32::MAX), quota(1, Duration::MAX, u32::MAX)] {
            for now in [Duration::ZERO, Duration::MAX] {
                let _ = quota.take(Gcra::from_bits(u64::MAX), now, u32::MAX);
            }
        }
    }

    proptest! {
        /// Whatever the arrivals are: in no window is more let in than the burst and what the rate adds to it.
        #[test]
        fn no_window_lets_in_more_than_a_burst_and_the_rate(
            count in 1_u32..100,
            burst in 1_u32..50,
            gaps in prop::collection::vec((0_u64..200, 1_u32..5), 1..300),
        ) {
            let quota = quota(count, Duration::from_secs(1), burst);
            let interval = 1_000_000_000 / u64::from(count);
            let (mut state, mut now) = (Gcra::default(), 0);
            let mut taken: Vec<(u64, u64)> = Vec::new();
            for (gap_ms, cost) in gaps {
                now += gap_ms * 1_000_000;
                if let Ok(next) = quota.take(state, Duration::from_nanos(now), cost) {
                    state = next;
                    taken.push((now, u64::from(cost.min(burst))));
                }
            }
            for first in 0..taken.len() {
                let mut sum = 0;
                for &(at, cost) in &taken[first..] {
                    sum += cost;
                    let window = at - taken[first].0;
                    prop_assert!(sum <= u64::from(burst) + window.div_ceil(interval));
                }
            }
        }

        /// The wait that is told is exact: a nanosecond before it is too early, at its end it is not.
        #[test]
        fn the_wait_is_exact(
            count in 1_u32..100,
            burst in 1_u32..50,
            filled in 1_u32..100,
            cost in 1_u32..50,
            later in 0_u64..5_000_000_000,
        ) {
            let quota = quota(count, Duration::from_secs(1), burst);
            let mut state = Gcra::default();
            for _ in 0..filled {
                state = quota.take(state, Duration::ZERO, 1).unwrap_or(state);
            }
            let now = Duration::from_nanos(later);
            if let Err(wait) = quota.take(state, now, cost) {
                prop_assert!(quota.take(state, now + wait - Duration::from_nanos(1), cost).is_err());
                prop_assert!(quota.take(state, now + wait, cost).is_ok());
            }
        }

        /// Who stays away long enough has his whole burst again.
        #[test]
        fn an_empty_bucket_is_as_good_as_a_new_one(burst in 1_u32..50, cost in 1_u32..50) {
            let quota = quota(7, Duration::from_secs(60), burst);
            let state = quota.take(Gcra::default(), Duration::ZERO, cost).unwrap();
            let rested = Duration::from_nanos(state.to_bits());
            prop_assert!(state.is_empty(rested));
            prop_assert_eq!(quota.take(state, rested, burst), quota.take(Gcra::default(), rested, burst));
        }
    }
}
