//! What the nodes of a cluster tell each other, as ports with an adapter for one process and one for Redis 7.
//!
//! - [`live`]: what was just committed, to the nodes where somebody wants it; may be lost, and says when.
//! - [`presence`]: where users are connected, over all nodes; true within a lease.
//! - [`nodes`]: which nodes there are, and which of them a session belongs to; under the same lease.
//! - [`node`]: what a node is called.
//!
//! An adapter passes the suite of its port (`testsuite` beside the port), so nothing above knows which one it has.
//! What all adapters for Redis share is in [`redis`].

mod backoff;
pub mod live;
pub mod node;
pub mod nodes;
pub mod presence;
pub mod redis;

pub use node::NodeId;

/// What other nodes see cannot be told or asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// Not now; what was to be told is remembered.
    #[error("the other nodes cannot be reached: {0}")]
    Unavailable(String),
    /// It was closed: the process is going down.
    #[error("this node has left the cluster")]
    Closed,
}
