//! Those who follow the logs: what is derived from them, beside the service and never in its way.
//!
//! A consumer is told of every entry at least once, in the order of each conversation; what was in the logs before it
//! began it is told beside what comes. A crash makes it hear some things again, and miss none. It runs on its own: when it
//! is slow, or cannot go on, its lag grows, and no send waits for it.
//!
//! What comes says a feed (`tertulia_feed`), and there are two ways to follow it:
//! - *alone*: what a consumer has taken is this node's, and it stores with it how far it is, in the feed and in the logs;
//! - *together*: what it has taken all nodes share. The feed keeps the places of them all, and which node reads what is in
//!   the logs already is decided by a lease.
//!
//! - `follow` tells a consumer what comes, and `take` tries again what fails, and lays what can never be taken with the
//!   dead letters; `letters` tries those again, when somebody asks for it.
//! - `catch_up` tells one that is new, or has missed something, what is in the logs already; `backfill` reads them.
//! - [`search`] is the consumer that feeds the search index.

mod backfill;
mod catch_up;
mod cursor;
mod follow;
mod letters;
mod parts;
mod progress;
mod read;
pub mod search;
mod take;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tertulia_feed::Feed;
use tertulia_protocol::Entry;
use tertulia_store::Store;
use tertulia_store::dead_letters::DeadLetters;
use tertulia_store::leases::Leases;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::follow::Follower;
use self::parts::Parts;
pub use self::progress::{Progress, Progresses};
use crate::clock::{Clock, Random};

/// One who follows the logs.
#[async_trait]
pub trait Consumer: Send + Sync + 'static {
    /// Its name, in metrics and with the dead letters.
    fn name(&self) -> &'static str;

    /// The cursor that is stored with what it has taken; `None`: it has taken nothing yet.
    async fn cursor(&self) -> Result<Option<String>, ConsumeError>;

    /// Takes entries and the cursor with them, all or nothing; without one the cursor stays. Some of them it may have
    /// taken before.
    async fn take(&self, entries: Vec<Arc<Entry>>, cursor: Option<&str>) -> Result<(), ConsumeError>;

    /// Moves the cursor, if it is still where it is thought to be; says whether it was.
    async fn move_cursor(&self, from: Option<&str>, to: &str) -> Result<bool, ConsumeError>;

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

/// Where consumers are told from, and what they need beside it.
#[derive(Clone)]
pub struct Sources {
    /// Where the logs are.
    pub store: Arc<dyn Store>,
    /// What comes.
    pub feed: Arc<dyn Feed>,
    /// Where that goes which can never be taken.
    pub letters: Arc<dyn DeadLetters>,
    /// By which one of the nodes is to read the logs, where what consumers have taken is all nodes'.
    pub leases: Option<Arc<dyn Leases>>,
}

/// The consumers of a node, before they begin.
pub struct Consumers {
    all: Vec<(Arc<dyn Consumer>, Arc<Progress>)>,
}

impl Consumers {
    /// These.
    pub fn new(consumers: impl IntoIterator<Item = Arc<dyn Consumer>>) -> Self {
        let all = consumers.into_iter().map(|consumer| {
            let progress = Arc::new(Progress::new(consumer.name()));
            (consumer, progress)
        });
        Self { all: all.collect() }
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.all.iter().map(|(consumer, _)| consumer.name())
    }

    /// What they show.
    pub fn progresses(&self) -> Progresses {
        Progresses::new(self.all.iter().map(|(_, progress)| Arc::clone(progress)))
    }

    /// Begins to tell each of them, beside the others.
    pub fn follow(self, sources: &Sources, clock: &Clock, random: &Random) -> Following {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for (consumer, progress) in self.all {
            tasks.spawn(Follower::run(Parts {
                consumer,
                sources: sources.clone(),
                progress,
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
