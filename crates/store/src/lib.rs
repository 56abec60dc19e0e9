//! Where everything durable lives: the ports [`Store`] (conversations and their logs) and [`Accounts`]
//! (users, devices, tokens, blocks), and the adapters behind both: embedded, and PostgreSQL.
//!
//! An adapter passes the suite of its port (`testsuite`), so nothing above knows which one it has.

pub mod accounts;
mod codes;
mod cursor;
pub mod dead_letters;
pub mod embedded;
pub mod leases;
mod observed;
mod port;
mod positions;
pub mod postgres;
mod queue;
mod remembered;
mod sharded;
#[cfg(any(test, feature = "testsuite"))]
pub mod testsuite;

pub use accounts::Accounts;
pub use observed::{AppendObserver, AppendStats};
pub use port::{
    Batch, InboxPage, JournalRow, Leftover, Logged, MemberPage, ReceiptPage, Slice, Store, StoreError,
    Touched,
};
pub use sharded::Sharded;
