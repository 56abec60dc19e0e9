//! PostgreSQL 15 or later as the store of a cluster's nodes.
//!
//! ```text
//! append ── a queue a lane ── the lane's task ── decides, by what it remembers ── append_1: one round trip, if it is
//!                                             │                                   still so
//!                                             └─ else: lock, read what is new, decide, append_1, commit: two
//! reads  ── a pool of connections, one statement a question
//! ```
//!
//! The rules are those of `domain`, as in the embedded store; PostgreSQL keeps what was decided, and says when it was
//! decided by something old.
//!
//! Invariants:
//! - **P1** Whoever writes to a conversation holds its advisory lock until his transaction ends, and got his transaction
//!   number after the lock. So in a conversation commits rise with `seq`, and who waits holds up nobody's horizon.
//! - **P2** What is written was decided by the conversation at the version that it has in that transaction.
//! - **P3** The horizon is the oldest transaction that runs, read on the primary: everything below it is there to be
//!   read, or never will be.
//! - **P4** (convo, device, client_seq) is unique in the table: what memory may have forgotten, the key knows.
//! - **P5** A batch whose answer was lost is decided again by what is stored, never by memory.
//!
//! Where to look: `lane` (the write), `reads` (one file a question), `epochs` (positions), `servers` (several of them), `connect`, `pool` (connections),
//! `migrate` and `schema` (tables and functions), `accounts`, `store` (the port).

mod accounts;
mod connect;
mod dead_letters;
mod epochs;
mod error;
mod lane;
mod leases;
mod migrate;
mod options;
mod pool;
mod reads;
mod rows;
pub mod servers;
mod store;
#[cfg(test)]
pub(crate) mod tests;
mod tls;
mod types;

pub use accounts::PostgresAccounts;
pub use dead_letters::PostgresDeadLetters;
pub use error::OpenError;
pub use leases::PostgresLeases;
pub use options::PostgresOptions;

/// What adapters of other ports on PostgreSQL are made of.
pub mod parts {
    pub use tokio_postgres::Row;
    pub use tokio_postgres::types::ToSql;

    pub use super::connect::{Connector, Parameters, Session};
    pub use super::error::Failure;
    pub use super::pool::{Lent, Pool};
    pub use super::types::{Id, RowExt, integer};
}
pub use store::Postgres;
