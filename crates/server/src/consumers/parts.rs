//! What a follower needs, and its patience.

use std::sync::Arc;
use std::time::Duration;

use tertulia_domain::backoff::Backoff;
use tertulia_feed::FeedError;
use tertulia_store::StoreError;
use tokio_util::sync::CancellationToken;

use super::progress::Progress;
use super::{ConsumeError, Consumer, Sources};
use crate::clock::{Clock, Random};
use crate::retry::Retry;

/// When something that failed is tried again.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));

/// Does something until it succeeds; ends the function around it when the process goes down.
macro_rules! insist {
    ($parts:expr, $what:literal, $work:expr) => {{
        let mut patience = $crate::consumers::parts::Patience::new(&$parts, $what);
        loop {
            if patience.is_over() {
                return Err($crate::consumers::parts::Stopped);
            }
            match $work {
                Ok(done) => break done,
                Err(error) => patience.wait(error.into()).await?,
            }
        }
    }};
}
pub(super) use insist;

/// What a follower needs.
pub(super) struct Parts {
    /// Who is told.
    pub(super) consumer: Arc<dyn Consumer>,
    /// From where.
    pub(super) sources: Sources,
    /// What it shows.
    pub(super) progress: Arc<Progress>,
    /// The time.
    pub(super) clock: Clock,
    /// Chance, for waits.
    pub(super) random: Random,
    /// When to stop.
    pub(super) stop: CancellationToken,
}

/// The process is going down.
pub(super) struct Stopped;

impl Parts {
    /// Waits, but not beyond the end.
    pub(super) async fn pause(&self, wait: Duration) -> Result<(), Stopped> {
        tokio::select! {
            () = tokio::time::sleep(wait) => Ok(()),
            () = self.stop.cancelled() => Err(Stopped),
        }
    }
}

/// Waits longer from try to try.
pub(super) struct Patience<'a> {
    parts: &'a Parts,
    what: &'static str,
    retry: Retry,
}

impl<'a> Patience<'a> {
    pub(super) fn new(parts: &'a Parts, what: &'static str) -> Self {
        Self { parts, what, retry: Retry::new(BACKOFF, parts.random.clone()) }
    }

    /// Whether there is to be no other try.
    pub(super) fn is_over(&self) -> bool {
        self.parts.stop.is_cancelled()
    }

    /// Waits before something that failed is tried again.
    pub(super) async fn wait(&mut self, error: ConsumeError) -> Result<(), Stopped> {
        let (why, least) = match error {
            ConsumeError::Closed => return Err(Stopped),
            ConsumeError::Again { why, retry_after } => (why, retry_after),
            ConsumeError::Never(why) => (why, Duration::from_secs(1)),
        };
        let wait = self.retry.failed(least);
        let (consumer, retry_ms) = (self.parts.consumer.name(), wait.as_millis());
        if self.retry.is_first() {
            tracing::warn!(
                consumer,
                why,
                retry_ms,
                "could not {}; nothing is lost, it is tried again",
                self.what
            );
        } else {
            tracing::debug!(consumer, why, retry_ms, "still could not {}", self.what);
        }
        self.parts.progress.failed();
        self.parts.pause(wait).await
    }
}

impl From<StoreError> for ConsumeError {
    fn from(error: StoreError) -> Self {
        FeedError::from(error).into()
    }
}

impl From<FeedError> for ConsumeError {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::Closed => Self::Closed,
            FeedError::Unavailable { reason, retry_after } => Self::Again { why: reason, retry_after },
        }
    }
}
