//! Users, their devices and tokens, and whom they block: the port [`Accounts`], its embedded adapter
//! [`EmbeddedAccounts`] and its conformance suite.

mod embedded;
mod fold;
mod port;
mod records;
#[cfg(any(test, feature = "testsuite"))]
pub mod testsuite;

pub use embedded::EmbeddedAccounts;
pub use fold::fold;
pub use port::{Accounts, DEVICES_PER_USER_MAX};
pub use records::{
    Access, Creation, Credentials, DeviceRecord, NewDevice, NewUser, Presented, Rotation, SigningKey,
    TokenHash, Tokens, UserPage, UserRecord,
};
