//! The port [`Live`]: what was just committed, to the nodes where somebody wants it.
//!
//! A node subscribes to a topic while it has somebody interested, and hears through its [`Ear`] what any node (itself,
//! too) publishes there. What is promised, whatever stands behind it:
//!
//! - **At most once.** A message is heard once or not at all.
//! - **In order.** What one node publishes to one topic, in one call or in calls that follow each other, is heard in
//!   that order. Nothing is promised between topics, or between publishers.
//! - **Nothing is missed after [`subscribe`](Live::subscribe) has returned `Ok`**, for as long as the link is whole.
//! - **A loss shows.** When messages may have been missed the ear hears [`Heard::Broken`], and [`Heard::Restored`]
//!   once all topics that are wanted are subscribed again. Whoever keeps state that follows the messages repairs it
//!   then, from the store: what is published from that moment on is heard.
//!
//! The last one is only as good as the server behind it: one that takes a message and then fails over to a replica
//! which knows nothing of it loses it in silence. So a hole is looked for in what is heard, as ever, and heads are
//! compared now and then.

mod ear;
pub mod local;
pub mod redis;
#[cfg(any(test, feature = "testsuite"))]
pub mod testsuite;
mod topic;

use async_trait::async_trait;
use bytes::Bytes;

pub use ear::{Ear, Limits};
pub use topic::Topic;

/// The longest message: far above what a node has to say, far below what makes a server cut its reader.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// The channel between nodes. What it hears comes out of the [`Ear`] that it was made with.
#[async_trait]
pub trait Live: Send + Sync + 'static {
    /// Subscribes to topics; one that is subscribed already stays so.
    ///
    /// When it has returned `Ok`, nothing that is published to them from now on is missed. What was published before
    /// may be heard, too. The confirmation comes on the link behind what is heard: somebody has to listen to the ear
    /// while this waits.
    ///
    /// Many calls at once cost as little as one with all their topics.
    ///
    /// # Errors
    /// [`LiveError::Broken`]: not now. They are remembered, and subscribed when [`Heard::Restored`] is heard.
    async fn subscribe(&self, topics: Vec<Topic>) -> Result<(), LiveError>;

    /// Ends subscriptions, soon. Messages that are on their way may still be heard.
    fn unsubscribe(&self, topics: &[Topic]);

    /// Publishes messages, in their order, in one round trip; returns when the channel has taken all of them.
    ///
    /// It ends in bounded time, whatever has happened to the link.
    ///
    /// # Errors
    /// Some of them may have been taken, and nobody knows which: the log tells those who miss one. Of
    /// [`LiveError::TooLarge`] none was.
    async fn publish(&self, messages: Vec<(Topic, Bytes)>) -> Result<(), LiveError>;

    /// Asks to hear [`Heard::Barrier`] with this token, after everything that the channel had taken before this call,
    /// from any node, on any topic that was subscribed.
    ///
    /// If the link is broken, or breaks before, it is not heard. When a later token is heard first, it stands for
    /// this one, too.
    fn barrier(&self, token: u64);

    /// Figures for `/metrics`, cheap to take: (name without prefix, value).
    fn figures(&self) -> Vec<(&'static str, f64)>;

    /// Ends all subscriptions and lets go of the link; the ear hears what is left, and then the end.
    async fn close(&self);
}

/// What comes out of an [`Ear`]. It begins broken: the first `Restored` says that the link stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Somebody published this.
    Message {
        /// To this topic.
        topic: Topic,
        /// What was published, byte for byte.
        bytes: Bytes,
    },
    /// From here on messages may be missing.
    Broken,
    /// All topics that are wanted are subscribed again.
    Restored,
    /// Everything that was published before [`barrier`](Live::barrier) was called with this token has been heard.
    Barrier(u64),
}

/// The channel could not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LiveError {
    /// The link is broken, and is being mended.
    #[error("the live channel is broken: {0}")]
    Broken(String),
    /// A message is longer than [`MESSAGE_BYTES_MAX`].
    #[error("a message of {0} bytes is too long for the live channel")]
    TooLarge(usize),
    /// It was closed: the process is going down.
    #[error("the live channel is closed")]
    Closed,
}

/// Refuses messages that are too long.
fn check_sizes(messages: &[(Topic, Bytes)]) -> Result<(), LiveError> {
    match messages.iter().map(|(_, bytes)| bytes.len()).find(|len| *len > MESSAGE_BYTES_MAX) {
        Some(len) => Err(LiveError::TooLarge(len)),
        None => Ok(()),
    }
}
