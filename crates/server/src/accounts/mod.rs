//! Accounts: who somebody is, on which device, what he shows of himself and whom he blocks.
//!
//! [`AccountsService`] has the rules over the port [`Accounts`]; what the hot paths ask is answered from
//! bounded caches. Nothing else in the process reads or writes accounts.

mod cache;
mod error;
mod events;
mod identity;
mod passwords;
mod profiles;
mod seen;
mod service;
mod sessions;
mod signer;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod tokens;

pub use error::{
    AuthError, BlockError, LoginError, ProfileError, RefreshError, RegisterError, RevokeError, SearchError,
    Trouble,
};
pub use events::{NoEvents, SessionEvents};
pub use identity::Identity;
pub use passwords::{PasswordConfig, StartError};
pub use service::{AccountsConfig, AccountsService, FLUSH_EVERY};
pub use signer::Signer;

#[cfg(doc)]
use tertulia_store::Accounts;
