//! The port [`Presence`]: where users are connected, over all nodes.
//!
//! Each node says what it sees of its own users, under a lease; a user is what all nodes together see of him. What is
//! promised, whatever stands behind it:
//!
//! - **Truth within the lease.** What a node announced is known to all once [`told`](Presence::told) has returned, and a
//!   node that has died, or cannot reach the others, says nothing any more once its lease has run out.
//! - **It heals by itself.** A node knows what it announced, and announces all of it anew when the others may have
//!   forgotten: it was away for longer than its lease, or the server behind it has lost what it was told.
//!
//! When a user was last seen is in the store (`Accounts`): it has to outlive every lease.

pub mod local;
pub mod redis;
#[cfg(any(test, feature = "testsuite"))]
pub mod testsuite;

use async_trait::async_trait;
use tertulia_protocol::UserId;
use tertulia_protocol::event::Presence as Status;

use crate::ClusterError;

/// Where users are, over all nodes.
#[async_trait]
pub trait Presence: Send + Sync + 'static {
    /// Says what this node sees of its users from now on; `Offline` of those who have gone.
    ///
    /// The others are told soon, many changes together; of a user who changes often they hear the last.
    fn announce(&self, changes: &[(UserId, Status)]);

    /// Waits until the others can know all that was announced before this call.
    ///
    /// # Errors
    /// They could not be told now. It is remembered, and they will be.
    async fn told(&self) -> Result<(), ClusterError>;

    /// What these users are on the other nodes; `answer[i]` is that of `users[i]`. One round trip, or about once a second
    /// two more.
    ///
    /// # Errors
    /// Nobody can tell now what other nodes see.
    async fn elsewhere(&self, users: &[UserId]) -> Result<Vec<Status>, ClusterError>;

    /// What these users are, over all nodes, this one included.
    ///
    /// # Errors
    /// As [`elsewhere`](Self::elsewhere).
    async fn ask(&self, users: &[UserId]) -> Result<Vec<Status>, ClusterError>;

    /// Figures for `/metrics`, cheap to take: (name without prefix, value).
    fn figures(&self) -> Vec<(&'static str, f64)>;

    /// Ends the lease: at once nothing is seen here, and this node is none of the nodes any more.
    async fn close(&self);
}
