//! Why a run could not be made at all; what it finds out about the server is in its report.

use std::io;
use std::path::{Path, PathBuf};

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system says no.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was to be done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// The first start failed: nothing has been done to the server yet.
    #[error("the server does not start ({status}); its log: {}", log.display())]
    NoServer {
        /// How it ended.
        status: String,
        /// Where it says why.
        log: PathBuf,
    },
    /// PostgreSQL or Redis, which the nodes need.
    #[error("a server that the nodes need: {0}")]
    Service(String),
    /// A start that takes minutes.
    #[error("the server was not ready within two minutes")]
    NeverReady,
    /// The population could not be made, although nothing had been done to the server yet.
    #[error("cannot set up the users: {0}")]
    SetUp(#[from] tertulia_client::error::Error),
    /// A fault was asked for that cannot be had here.
    #[error("{0}")]
    NoFault(String),
    /// The history could not be written: nothing can be said about the run.
    #[error(transparent)]
    History(#[from] tertulia_history::record::Error),
    /// The history could not be read.
    #[error(transparent)]
    Check(#[from] tertulia_history::check::Error),
    /// An address that is none.
    #[error(transparent)]
    Address(#[from] tertulia_client::server::InvalidServer),
    /// The user has had enough.
    #[error("interrupted before the load began")]
    Interrupted,
}

impl Error {
    pub(crate) fn service(error: impl std::fmt::Display) -> Self {
        Self::Service(format!("{error:#}"))
    }

    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}
