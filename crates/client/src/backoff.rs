//! How long to wait before trying again: exponential, with full jitter, unless the server says how long.
//!
//! A client whose connection is gone, or did not come about:
//!
//! 1. **Tries the other nodes at once**, each one once, where one does not answer in time, refuses because it goes down or
//!    cannot serve now (503), or lets the socket in and turns it away (1013). Only a round in which all did so is a failure.
//! 2. **Waits as long as the server says**, where it does: in a close (4010, 4008, 1013), which has jitter in it, or in
//!    `Retry-After`, to which a tenth is added by chance. It knows how many others wait. Such a wait is no reason to wait
//!    longer the next time, when nobody says how long.
//! 3. **Else draws the wait** evenly from zero to 250 ms, and to twice as much after each such wait, up to 15 s. A connection
//!    that has lived for a second begins anew. What else fails (a page of history, of the inbox, a refresh) has its own waits.

use std::time::Duration;

use crate::error::Error;

/// No number of the server is taken for longer: one that is wrong does not silence a client for ever.
pub(crate) const TOLD_MAX: Duration = Duration::from_secs(3_600);

/// Waits that double from `base` to `cap`; the one taken is drawn evenly from zero to that.
///
/// Full jitter spreads the clients of a server that has come back over the whole wait. Randomness comes in
/// as an argument: `roll` is drawn evenly from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait is at most this long.
    pub base: Duration,
    /// No wait is longer than this.
    pub cap: Duration,
}

impl Backoff {
    /// For connections: 250 ms, doubling to 15 s.
    pub const CONNECT: Self = Self { base: Duration::from_millis(250), cap: Duration::from_secs(15) };

    /// The wait before retry `attempt` (0 is the first).
    pub fn delay(&self, attempt: u32, roll: f64) -> Duration {
        let full = self.base.saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(self.cap);
        full.mul_f64(roll.clamp(0.0, 1.0))
    }
}

/// A number drawn evenly from 0 to 1 from the system's generator; 0.5 should that ever fail.
pub fn roll() -> f64 {
    getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX))
}

/// Makes a call until it succeeds or fails for good, waiting as the server says, else as `backoff` has it.
///
/// `on_wait` is told of each failure and of the wait after it. The call must be safe to repeat. Dropping the
/// future ends the loop: callers race it against their shutdown.
///
/// # Errors
/// The first error that is not temporary.
pub async fn retry<T, F: Future<Output = Result<T, Error>>>(
    backoff: Backoff,
    mut on_wait: impl FnMut(&Error, Duration),
    mut call: impl FnMut() -> F,
) -> Result<T, Error> {
    let mut attempt = 0;
    loop {
        match call().await {
            Err(error) if error.is_temporary() => {
                let wait = wait_for(&error, backoff, attempt, roll());
                on_wait(&error, wait);
                tokio::time::sleep(wait).await;
                attempt = attempt.saturating_add(1);
            }
            outcome => return outcome,
        }
    }
}

/// The server's number, and up to a tenth more so that not everybody comes back at once; without one, ours.
pub fn wait_for(error: &Error, backoff: Backoff, attempt: u32, roll: f64) -> Duration {
    match error.retry_after() {
        Some(told) => told.min(TOLD_MAX).mul_f64(1.0 + 0.1 * roll.clamp(0.0, 1.0)),
        None => backoff.delay(attempt, roll),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_never_overflow() {
        let full = |attempt| Backoff::CONNECT.delay(attempt, 1.0).as_millis();
        assert_eq!(
            [full(0), full(1), full(2), full(5), full(6), full(99)],
            [250, 500, 1_000, 8_000, 15_000, 15_000]
        );
    }

    #[test]
    fn jitter_covers_the_whole_wait() {
        assert_eq!(Backoff::CONNECT.delay(3, 0.0), Duration::ZERO);
        assert_eq!(Backoff::CONNECT.delay(3, 0.5), Duration::from_secs(1));
    }

    #[test]
    fn the_servers_number_wins() {
        let error = Error::Refused {
            code: tertulia_protocol::Code::RateLimited,
            detail: String::new(),
            retry_after: Some(Duration::from_secs(60)),
        };
        assert_eq!(wait_for(&error, Backoff::CONNECT, 0, 0.0), Duration::from_secs(60));
        assert_eq!(wait_for(&error, Backoff::CONNECT, 0, 1.0), Duration::from_secs(66));
        let error = Error::Refused {
            code: tertulia_protocol::Code::RateLimited,
            detail: String::new(),
            retry_after: Some(Duration::MAX),
        };
        assert_eq!(wait_for(&error, Backoff::CONNECT, 0, 0.0), TOLD_MAX, "but only so far");
    }
}
