//! Two calls of Linux for which no safe library was found. All that is `unsafe` in the project is here.
//!
//! They pay for it ([performance](../../../../docs/performance.md)): syncs in pieces halve the p99 of sends at the peak and
//! bring a tenth more of them; an idle policy for the index halves the p99 beside it.
#![expect(unsafe_code, reason = "rustix lacks both calls; what they gain was measured, see above")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

/// Has a stretch of a file written, and waits for it. This is no sync: it says nothing of the file's length or place.
///
/// sync_file_range(2). Where the file system cannot do it nothing happens: the sync that follows then does it all.
pub(super) fn write_back(file: &File, from: u64, bytes: u64) -> io::Result<()> {
    const WAIT_AND_WRITE: libc::c_uint =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let (Ok(from), Ok(bytes)) = (i64::try_from(from), i64::try_from(bytes)) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // SAFETY: it takes numbers only, and the descriptor is open as long as `file` is borrowed.
    let done = unsafe { libc::sync_file_range(file.as_raw_fd(), from, bytes, WAIT_AND_WRITE) };
    if done == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOSYS | libc::ESPIPE | libc::EINVAL | libc::EOPNOTSUPP) => Ok(()),
        _ => Err(error),
    }
}

/// Gives the calling thread the policy `SCHED_IDLE`: any other thread that wants its core has it at once.
///
/// sched(7). Anybody may do so; only with a privilege there is a way back.
pub(super) fn be_idle() -> io::Result<()> {
    let param = libc::sched_param { sched_priority: 0 };
    // By its number: musl's function of this name refuses. 0 is the calling thread.
    // SAFETY: the kernel reads `param` during the call, and keeps nothing of it.
    let done = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_IDLE, &raw const param) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
