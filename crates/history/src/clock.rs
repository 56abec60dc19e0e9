//! The clock of histories: `CLOCK_MONOTONIC`, which all processes of a machine share while it runs.

use rustix::time::{ClockId, clock_gettime};

/// Where Linux tells which run of the machine this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Nanoseconds since a moment that is the same for all processes of this machine.
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// Names the clock: times of two histories can be compared if both have the same name. `None` where the
/// system does not tell.
pub(crate) fn name() -> Option<String> {
    std::fs::read_to_string(BOOT_ID).ok().map(|id| id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_clock_never_runs_back() {
        let first = super::now();
        assert!(first > 0 && super::now() >= first);
    }
}
