//! The embedded store: a synced journal in front, SQLite settled behind, both in one data folder.

mod error;
pub(crate) mod sqlite;

pub use error::OpenError;
