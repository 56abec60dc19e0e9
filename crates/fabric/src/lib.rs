//! What the nodes of a cluster tell each other, as ports with an adapter for one process and one for Redis 7.
//!
//! - [`live`]: what was just committed, to the nodes where somebody wants it; may be lost, and says when.
//! - [`node`]: what a node is called.
//!
//! An adapter passes the suite of its port (`testsuite` beside the port), so nothing above knows which one it has.
//! What all adapters for Redis share is in `redis`.

mod backoff;
pub mod live;
pub mod node;
pub mod redis;

pub use node::NodeId;
