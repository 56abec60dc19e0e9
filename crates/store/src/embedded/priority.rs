//! Which thread goes first where cores are scarce.

/// The calling thread goes before others, if the system lets this process have that (on Linux with `CAP_SYS_NICE`).
/// Where it does not, all are equal: nothing but time depends on it.
///
/// There is no counterpart for the settler: whoever goes last on a busy machine does not go at all, and then appends
/// are refused.
#[cfg(target_os = "linux")]
pub(super) fn go_first() {
    const NICE: i32 = -10;
    // On Linux a thread has a priority of its own.
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        tracing::debug!(%error, "the appender runs at the priority of all");
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) const fn go_first() {}
