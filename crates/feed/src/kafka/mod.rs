//! The adapter of Apache Kafka: one topic, whose records name stretches of logs, keyed by conversation.
//!
//! ```text
//! relay ── publisher: a record a stretch, idempotent, acknowledged by all ── topic
//!   topic ── reader's thread: polls, keeps a little ── reader ── consumer; then the offset is stored
//! ```
//!
//! - All of a conversation are in one partition, in the order of its log. The relay is one at a time, and whoever takes
//!   over publishes some of it again; so a reader meets repeats, and nothing before what is before it.
//! - Readers of a consumer are a consumer group: Kafka gives each of them some of the partitions. What was taken is what
//!   is committed, within a second; who comes later begins there. When a partition goes to somebody else, what is in hand
//!   is first taken, if that does not take long.
//! - Nothing is given of a partition before the group has noted a place in it. A group that is new, or whose place is gone
//!   (retention has removed what it had not taken, the topic was made anew), is told that it has missed something, once,
//!   and begins at the end; a gap in the offsets says so, too.

mod begin;
mod consumer;
mod publisher;
mod reader;
mod record;
mod shelf;
#[cfg(test)]
mod tests;
mod topic;

use async_trait::async_trait;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

pub use self::publisher::KafkaPublisher;
use self::reader::KafkaReader;
use crate::port::{Feed, FeedError, Reader};
use crate::target::KafkaTarget;

#[cfg(any(test, feature = "fuzzing"))]
pub use self::record::any_record;

/// A feed of a cluster over Kafka.
pub struct KafkaFeed {
    target: KafkaTarget,
    /// What this node is called; for people.
    node: String,
}

impl KafkaFeed {
    /// The feed at a place, read by what is called `node`. Nothing is connected to before somebody follows.
    pub fn new(target: KafkaTarget, node: String) -> Self {
        Self { target, node }
    }
}

#[async_trait]
impl Feed for KafkaFeed {
    fn keeps_places(&self) -> bool {
        true
    }

    async fn follow(
        &self,
        consumer: &'static str,
        _place: Option<&str>,
    ) -> Result<Box<dyn Reader>, FeedError> {
        Ok(Box::new(KafkaReader::start(&self.target, &self.node, consumer)))
    }
}

/// What all clients are set to.
fn config(target: &KafkaTarget, name: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", target.brokers.join(","))
        .set("client.id", name)
        // Topics are made by us, with what they need.
        .set("allow.auto.create.topics", "false")
        .set("reconnect.backoff.max.ms", "2000")
        .set("socket.keepalive.enable", "true");
    config
}

/// librdkafka's own words, for who looks for them: what matters is said by who uses it.
#[derive(Debug, Clone, Copy, Default)]
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        said(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
    }
}

fn said(level: RDKafkaLogLevel, facility: &str, message: &str) {
    tracing::debug!(?level, facility, message, "librdkafka");
}

fn unavailable(error: &KafkaError) -> FeedError {
    FeedError::Unavailable { reason: format!("Kafka: {error}"), retry_after: std::time::Duration::ZERO }
}
