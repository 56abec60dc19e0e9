//! What can go wrong with a call, sorted by what the caller does about it.

use std::time::Duration;

use tertulia_protocol::Code;

/// A call that did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server answered, and the answer is no.
    #[error("{detail} ({})", code.as_str())]
    Refused {
        /// For programs.
        code: Code,
        /// What is wrong and what to do, for people.
        detail: String,
        /// How long to wait before trying again, where the server says so.
        retry_after: Option<Duration>,
    },
    /// There was no answer. The call may or may not have been carried out.
    #[error("no answer from the server: {0}")]
    Unreachable(String),
    /// No connection could be made: the call was not carried out.
    #[error("cannot connect to the server: {0}")]
    NotConnected(String),
    /// Something answered, but not in the terms of the contract: a proxy, another server, another version.
    #[error("the answer is not one of this service (HTTP {status}): {detail}")]
    Unexpected {
        /// The HTTP status.
        status: u16,
        /// What was wrong with it.
        detail: String,
    },
    /// The session has ended; only a login helps.
    #[error(transparent)]
    SessionLost(#[from] SessionLost),
}

/// Why a session has ended for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionLost {
    /// The device was logged out, by its user or because a refresh token was used twice.
    #[error("this device was logged out; log in again")]
    Revoked,
    /// The refresh token is not accepted.
    #[error("the session has expired; log in again")]
    Expired,
    /// A refresh was sent but its answer was lost, so that the refresh token may be spent. To use it again
    /// could revoke the device.
    #[error("the answer to a session refresh was lost; log in again")]
    RefreshUncertain,
    /// The password that was kept for logging in again is not accepted.
    #[error("logging in again was refused; the password may have changed")]
    LoginRefused,
}

impl Error {
    /// The server's code, if it was the server that said no.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::SessionLost(_) => Some(Code::Unauthenticated),
            Self::Unreachable(_) | Self::NotConnected(_) | Self::Unexpected { .. } => None,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Refused { code, .. } => matches!(code, Code::RateLimited | Code::Unavailable),
            Self::Unreachable(_) | Self::NotConnected(_) => true,
            Self::Unexpected { status, .. } => *status >= 500,
            Self::SessionLost(_) => false,
        }
    }

    /// Whether nobody knows if the call was carried out: look before repeating one that is not idempotent.
    pub fn is_uncertain(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Unexpected { status, .. } => *status >= 500 || (200..300).contains(status),
            Self::Refused { .. } | Self::NotConnected(_) | Self::SessionLost(_) => false,
        }
    }

    /// Whether what was asked for is not there, or not for this user.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(Code::NotFound)
    }

    /// Whether the call contradicts what is there already: a username that is taken, for one.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(Code::Conflict)
    }

    /// Whether the session or the login was not accepted.
    pub fn is_unauthenticated(&self) -> bool {
        self.code() == Some(Code::Unauthenticated)
    }

    /// How long the server asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// An error and all its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}
