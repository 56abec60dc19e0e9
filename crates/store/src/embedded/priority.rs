//! Which thread goes first where cores are scarce, and which last.
//!
//! On Linux a thread has a priority of its own. Where the system does not let us set it all are equal: nothing but time
//! depends on it.

/// The calling thread goes before others, if the system lets this process have that (on Linux with `CAP_SYS_NICE`).
///
/// There is no counterpart for the settler: whoever goes last on a busy machine hardly goes at all, and then appends
/// are refused.
pub(super) fn go_first() {
    set(-10);
}

/// The calling thread goes after others: for work that may wait as long as there is more urgent work.
pub fn go_last() {
    set(19);
}

#[cfg(target_os = "linux")]
fn set(nice: i32) {
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), nice) {
        tracing::debug!(%error, nice, "a thread runs at the priority of all");
    }
}

#[cfg(not(target_os = "linux"))]
const fn set(_nice: i32) {}
