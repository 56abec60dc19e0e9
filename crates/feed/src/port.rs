//! The port: what those are told who follow the logs.

use std::time::Duration;

use async_trait::async_trait;
use tertulia_store::{StoreError, Touched};

/// What came in the logs.
///
/// What is promised, whatever stands behind it:
/// - A consumer is told of every entry that comes after it began to follow, at least once; of those of one conversation in
///   their order, but for repeats. What it was told and did not call taken it is told again when it comes back.
/// - Where that cannot be kept (it is new, or comes back after too long), it is told so ([`News::missed`]) before
///   anything else: what it has missed is in the logs by then.
/// - Consumers do not know of each other, and none holds up another, nor those who append.
///
/// Several may follow for one consumer at one time if the feed [keeps the places](Feed::keeps_places): each is told of
/// some of the conversations then, and all together of all of them.
#[async_trait]
pub trait Feed: Send + Sync + 'static {
    /// Whether it remembers itself how far each consumer is. Otherwise the consumer stores the [place](Place::text) with
    /// what it has taken, and brings it along.
    fn keeps_places(&self) -> bool;

    /// Begins to follow for a consumer, from the place that it stored last, if it is the one who does.
    async fn follow(&self, consumer: &'static str, place: Option<&str>)
    -> Result<Box<dyn Reader>, FeedError>;
}

/// One who follows.
#[async_trait]
pub trait Reader: Send + Sync {
    /// What has come by now, some seconds of it at most; it does not wait for more. Whoever drops this call misses nothing.
    async fn next(&mut self) -> Result<News, FeedError>;

    /// Everything up to there was taken, and would survive power loss where the feed keeps the places.
    async fn taken(&mut self, place: &Place) -> Result<(), FeedError>;

    /// Everything up to there would survive power loss: it is never asked for again.
    async fn let_go(&mut self, place: &Place) -> Result<(), FeedError>;

    /// What waits behind the news that it gave last, by partition: all that it follows.
    fn lag(&self) -> Vec<Lag>;

    /// Follows no longer; somebody else may go on at once.
    async fn leave(self: Box<Self>);
}

/// What has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Stretches of logs, in the order in which they are to be taken.
    pub came: Vec<Came>,
    /// Something before this may never have been told: it is in the logs, and to be read there.
    pub missed: bool,
    /// Whether there is more already.
    pub more: bool,
    /// Behind all of it.
    pub place: Place,
}

/// New entries of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Came {
    /// Where they came from: all of a conversation come from one partition.
    pub partition: i32,
    /// The entries.
    pub range: Touched,
}

/// A place in a feed, as its readers give it out; opaque.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// As a consumer stores it.
    pub(crate) text: Option<String>,
    /// By partition: in which assignment to this reader, and the next record.
    pub(crate) offsets: Vec<Offset>,
}

/// A place in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offset {
    pub(crate) partition: i32,
    /// Which time it is that this reader has the partition.
    pub(crate) turn: u64,
    pub(crate) next: i64,
}

impl Place {
    /// As a consumer stores it; `None`: the feed keeps it.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }
}

/// What waits in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Which.
    pub partition: i32,
    /// How many entries, at least, as far as it has looked.
    pub entries: u64,
    /// Since when the oldest of them waits, in milliseconds since 1970, as far as that is known.
    pub since_ms: Option<i64>,
}

/// The feed could not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FeedError {
    /// Not now; nothing is lost.
    #[error("the feed cannot be read now: {reason}")]
    Unavailable {
        /// What is the matter, for the log.
        reason: String,
        /// When trying again makes sense.
        retry_after: Duration,
    },
    /// It was closed: the process is going down.
    #[error("the feed is closed")]
    Closed,
}

impl From<StoreError> for FeedError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Closed => Self::Closed,
            StoreError::Unavailable { reason, retry_after } => Self::Unavailable { reason, retry_after },
            StoreError::InvalidCursor | StoreError::Damaged(_) => {
                Self::Unavailable { reason: error.to_string(), retry_after: Duration::from_secs(5) }
            }
        }
    }
}
