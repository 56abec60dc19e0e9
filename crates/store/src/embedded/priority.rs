//! Which threads go last where cores are scarce.
//!
//! Nothing but time depends on it. There is no counterpart for the settler, for whoever goes last on a busy machine hardly
//! goes at all, and then appends are refused; nor one that puts the appender first, for then it syncs smaller batches,
//! and all wait longer (measured).

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
