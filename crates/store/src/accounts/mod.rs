//! Users, their devices and tokens, and whom they block: the port [`Accounts`], its embedded adapter
//! [`EmbeddedAccounts`] and its conformance suite. The adapter for PostgreSQL is in [`postgres`](crate::postgres).

pub(crate) mod cursor;
mod embedded;
pub(crate) mod fold;
mod port;
mod records;
#[cfg(any(test, feature = "testsuite"))]
pub mod testsuite;

pub use embedded::EmbeddedAccounts;
pub use fold::fold;
pub(crate) use port::ACCESS_TOKENS_PER_DEVICE_MAX;
pub use port::{Accounts, DEVICES_PER_USER_MAX};
pub use records::{
    Access, Creation, Credentials, DeviceRecord, NewDevice, NewUser, Presented, Rotation, SigningKey,
    TokenHash, Tokens, UserPage, UserRecord,
};
