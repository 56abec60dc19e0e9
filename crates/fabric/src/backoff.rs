//! When a server is tried again.

use std::time::Duration;

use tertulia_domain::backoff::Backoff;

/// For connections to servers beside us. A few nodes come back to one, not thousands of clients.
pub(crate) const SERVER: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));

/// What has lasted so long had not failed: the next wait is a first one.
pub(crate) const STEADY: Duration = Duration::from_secs(10);

/// A number drawn evenly from 0 to 1 from the system's generator; 0.5 should that ever fail.
pub(crate) fn roll() -> f64 {
    getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX))
}
