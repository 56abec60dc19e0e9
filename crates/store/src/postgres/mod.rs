//! PostgreSQL 15 or later as the store of a cluster's nodes.

mod accounts;
mod connect;
mod error;
mod migrate;
mod options;
mod pool;
#[cfg(test)]
mod tests;
mod types;

pub use accounts::PostgresAccounts;
pub use error::OpenError;
pub use options::PostgresOptions;
