//! Why a run could not be made.

use std::io;

/// What went wrong before there was anything to report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments do not fit together, or do not fit the server.
    #[error("{0}")]
    Arguments(String),
    /// The server said no.
    #[error("{what}: {detail}")]
    Refused {
        /// What was asked of it.
        what: String,
        /// Its answer.
        detail: String,
    },
    /// The server could not be asked.
    #[error("{what}: the server cannot be reached: {cause}")]
    Unreachable {
        /// What was asked of it.
        what: String,
        /// Why.
        cause: String,
    },
    /// Something of this machine failed: a file, a thread, a socket.
    #[error("{what}: {cause}")]
    Io {
        /// What was done.
        what: String,
        /// Why it failed.
        cause: io::Error,
    },
    /// The user's wish.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// For `map_err`: an error of this machine, and what was done.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |cause| Self::Io { what, cause }
    }
}
