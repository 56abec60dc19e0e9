//! The feed: what came in the logs, told to those who follow them, at least once and in the order of each conversation.
//!
//! It names stretches of logs, and never carries what they say: whoever is told reads the store, and so sees the present
//! state. What was taken back is on no way that leads past the store.
//!
//! - [`port`]: what whoever follows may rely on.
//! - [`journal`]: the adapter of the store's journal, for one node, or for nodes that each follow for themselves.
//! - [`kafka`]: the adapter of Apache Kafka, for nodes that share the work.
//! - [`relay`]: how what the journal has comes to a feed that all nodes share; [`target`]: where that is.
//!
//! An adapter passes the suite of the port (`testsuite`), so whoever follows does not know which one it has.

mod chance;
pub mod journal;
pub mod kafka;
pub mod port;
pub mod relay;
pub mod target;
#[cfg(any(test, feature = "testsuite"))]
pub mod testsuite;

pub use port::{Came, Feed, FeedError, Lag, News, Place, Reader};
pub use target::KafkaTarget;
