//! Those who follow the logs: what is derived from them, beside the service and never in its way.
//!
//! A consumer is told of every entry at least once, in the order of each conversation; what was in the logs before it
//! began it is told beside what comes. What it has taken it stores together with its cursor, so a crash makes it hear
//! some things again, and miss none. It runs on its own: when it is slow, or cannot go on, its lag grows, and no send
//! waits for it.
//!
//! - `follow` tells a consumer what comes, tries again what fails, and lays what can never be taken with the dead
//!   letters.
//! - `backfill` tells one that is new, or has missed something, what is in the logs already.
//! - [`search`] is the consumer that feeds the search index.

mod backfill;
mod backoff;
mod cursor;
mod follow;
mod progress;
pub mod search;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tertulia_protocol::Entry;
use tertulia_store::Store;
use tertulia_store::dead_letters::DeadLetters;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::follow::{Follower, Parts};
pub use self::progress::{Progress, Progresses};
use crate::clock::{Clock, Random};

/// One who follows the logs.
#[async_trait]
pub trait Consumer: Send + Sync + 'static {
    /// Its name, in metrics and with the dead letters.
    fn name(&self) -> &'static str;

    /// The cursor that came with what it has taken last; `None`: it has taken nothing yet.
    async fn cursor(&self) -> Result<Option<String>, ConsumeError>;

    /// Takes entries and the cursor with them, all or nothing. Some of them it may have taken before.
    async fn take(&self, entries: Vec<Arc<Entry>>, cursor: &str) -> Result<(), ConsumeError>;

    /// Makes what it has taken survive power loss.
    async fn sync(&self) -> Result<(), ConsumeError>;

    /// Forgets everything: it will be told all of it anew.
    async fn reset(&self) -> Result<(), ConsumeError>;
}

/// A consumer could not take it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConsumeError {
    /// Not now; nothing was taken.
    #[error("{why}")]
    Again {
        /// What is the matter, for the log.
        why: String,
        /// The least wait that makes sense.
        retry_after: Duration,
    },
    /// Never: there is something in it that it cannot take.
    #[error("{0}")]
    Never(String),
    /// The process is going down.
    #[error("the process is going down")]
    Closed,
}

/// The consumers of a node, before they begin.
pub struct Consumers {
    all: Vec<(Arc<dyn Consumer>, Arc<Progress>)>,
    letters: Arc<DeadLetters>,
}

impl Consumers {
    /// These, with a place for what they can never take.
    pub fn new(consumers: impl IntoIterator<Item = Arc<dyn Consumer>>, letters: Arc<DeadLetters>) -> Self {
        let all = consumers.into_iter().map(|consumer| {
            let progress = Arc::new(Progress::new(consumer.name()));
            (consumer, progress)
        });
        Self { all: all.collect(), letters }
    }

    /// What they show.
    pub fn progresses(&self) -> Progresses {
        Progresses::new(self.all.iter().map(|(_, progress)| Arc::clone(progress)))
    }

    /// Begins to tell each of them, beside the others.
    pub fn follow(self, store: &Arc<dyn Store>, clock: &Clock, random: &Random) -> Following {
        let all = self.progresses();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for (consumer, progress) in self.all {
            tasks.spawn(Follower::run(Parts {
                consumer,
                store: Arc::clone(store),
                letters: Arc::clone(&self.letters),
                progress,
                all: all.clone(),
                clock: clock.clone(),
                random: random.clone(),
                stop: stop.clone(),
            }));
        }
        Following { stop, tasks }
    }
}

/// Consumers that are told what comes.
pub struct Following {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Following {
    /// Stops, after the batch that each is at.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a consumer ended badly");
            }
        }
    }
}
