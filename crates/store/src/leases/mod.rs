//! Leases: what one of all nodes does at a time, and how far it has come.
//!
//! Whoever holds a lease does so until its time is over, by the clock of the database, and so may somebody who was paused
//! still think that he does. What he notes in the lease is refused then; what he does elsewhere has to bear that another
//! does the same.

#[cfg(any(test, feature = "testsuite"))]
pub mod local;
#[cfg(test)]
pub(crate) mod testsuite;

use std::time::Duration;

use async_trait::async_trait;

use crate::StoreError;

/// Leases that the nodes share.
#[async_trait]
pub trait Leases: Send + Sync + 'static {
    /// Takes a lease for that long, unless somebody holds it.
    async fn take(&self, name: &str, ttl: Duration) -> Result<Option<Lease>, StoreError>;

    /// Holds it for as long again from now on, and notes how far its holder has come. `false`: it is another's by now, or
    /// its time is over, and nothing was noted.
    async fn keep(&self, lease: &Lease, note: Option<&str>) -> Result<bool, StoreError>;

    /// Holds it no longer: somebody else may take it at once.
    async fn give_up(&self, lease: &Lease) -> Result<(), StoreError>;
}

/// A lease that somebody holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Of what.
    pub name: String,
    /// Which time it is that somebody took it.
    pub term: i64,
    /// How long it lasts when it is not kept.
    pub ttl: Duration,
    /// How far holders had come when it was taken.
    pub note: Option<String>,
}
