//! Which threads go last where cores are scarce, and whether they are.
//!
//! Nothing but time depends on it. There is no counterpart for the settler, for whoever goes last on a busy machine hardly
//! goes at all, and then appends are refused; nor one that puts the appender first, for then it syncs smaller batches,
//! and all wait longer (measured).

use std::time::Duration;

/// The calling thread goes after others: for work that may wait as long as there is more urgent work.
#[cfg(target_os = "linux")]
pub fn go_last() {
    if let Err(error) = super::linux::be_idle() {
        tracing::debug!(%error, "a thread that may wait runs as all do");
    }
}

/// Elsewhere it goes as all do.
#[cfg(not(target_os = "linux"))]
pub const fn go_last() {}

/// For how long the calling thread could have run and had no core, since it began; `None`: the system does not say.
///
/// The second number of `/proc/thread-self/schedstat` (<https://docs.kernel.org/scheduler/sched-stats.html>).
#[must_use]
pub fn waited_for_a_core() -> Option<Duration> {
    let numbers = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    numbers.split_ascii_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_learns_how_long_it_waited() {
        let Some(before) = waited_for_a_core() else { return };
        assert!(waited_for_a_core() >= Some(before));
    }
}
