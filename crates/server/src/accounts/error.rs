//! Why something about accounts was refused; the texts say what to do.

use std::time::Duration;

use tertulia_protocol::rules::Violation;
use tertulia_store::StoreError;

use crate::clock::RandomError;

/// The service cannot do it now, whoever asks.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Trouble {
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No secret can be made.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// Passwords cannot be hashed: as many as may wait are waiting.
    #[error("passwords cannot be checked at this moment; try again in {} s", retry_after.as_millis().div_ceil(1_000))]
    Busy {
        /// When trying again makes sense.
        retry_after: Duration,
    },
}

/// Why a token was not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuthError {
    /// It is no token, or one that has ended, or its device was revoked.
    #[error("the token is not valid, or not any more; refresh the session, or log in")]
    Unauthenticated,
    /// It cannot be checked now.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why nobody was registered.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegisterError {
    /// Something breaks a rule.
    #[error(transparent)]
    Invalid(#[from] Violation),
    /// Somebody has it.
    #[error("the username {0} is taken; choose another")]
    UsernameTaken(String),
    /// Too many from this address.
    #[error("too many registrations from this address; try again in {} s", .0.as_millis().div_ceil(1_000))]
    Limited(Duration),
    /// Not now.
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

/// Why a login was refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoginError {
    /// What the device says of itself breaks a rule.
    #[error(transparent)]
    Invalid(#[from] Violation),
    /// A wrong password or an unknown user: the two cannot be told apart.
    #[error("the username or the password is wrong")]
    WrongCredentials,
    /// Too many for this user or from this address.
    #[error("too many logins; try again in {} s", .0.as_millis().div_ceil(1_000))]
    Limited(Duration),
    /// Not now.
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

/// Why a session was not refreshed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RefreshError {
    /// It is no refresh token, or its device is gone.
    #[error("the refresh token is not valid, or not any more; log in")]
    Unauthenticated,
    /// It was used before: the device is revoked.
    #[error("this refresh token was used before, so the device was logged out; log in")]
    Reused,
    /// Too many of this device.
    #[error("too many refreshes; try again in {} s", .0.as_millis().div_ceil(1_000))]
    Limited(Duration),
    /// Not now.
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

/// Why a device was not revoked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RevokeError {
    /// The user has no such device.
    #[error("you have no such device")]
    NotFound,
    /// Not now.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a profile was not given or changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProfileError {
    /// Something breaks a rule.
    #[error(transparent)]
    Invalid(#[from] Violation),
    /// No such user.
    #[error("there is no such user")]
    NotFound,
    /// Not now.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a search gave nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SearchError {
    /// Something breaks a rule.
    #[error(transparent)]
    Invalid(#[from] Violation),
    /// Not now, or a cursor that no page gave out.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a block was not set or lifted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BlockError {
    /// Oneself.
    #[error("you cannot block yourself")]
    Oneself,
    /// No such user.
    #[error("there is no such user")]
    NotFound,
    /// Not now.
    #[error(transparent)]
    Store(#[from] StoreError),
}
