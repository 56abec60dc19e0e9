//! Which thread goes first where cores are scarce: the one that somebody waits for.
//!
//! Where it cannot be set, all are equal: nothing but time depends on it.

/// The calling thread goes before others, if the system lets this process have that (on Linux with `CAP_SYS_NICE`).
pub(super) fn go_first() {
    set(-10);
}

/// The calling thread goes after others: a ninth of the share of one that does not.
pub(super) fn go_last() {
    set(10);
}

#[cfg(target_os = "linux")]
fn set(nice: i32) {
    // On Linux a thread has a priority of its own.
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), nice) {
        tracing::debug!(%error, nice, "a thread keeps the priority of all");
    }
}

#[cfg(not(target_os = "linux"))]
const fn set(_nice: i32) {}
