//! The relay: tells a feed that all nodes share what the store's journal has.
//!
//! One node does so at a time, by a lease. With the lease is noted how far it has come, only ever after everything up to
//! there has been published, and only by who still holds the lease. So whoever takes it over publishes some of it again,
//! and passes over nothing; and the journal is the outbox: while the feed cannot be reached, what comes waits there, and
//! nobody who appends waits for it.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tertulia_domain::backoff::Backoff;
use tertulia_store::leases::{Lease, Leases};
use tertulia_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::chance::roll;
use crate::journal::Rows;
use crate::port::{FeedError, News};

/// How long a node is the relay without saying that it still is.
const LEASE: Duration = Duration::from_secs(10);
/// How often it says so, and how often the others ask.
const KEEP_EVERY: Duration = Duration::from_secs(3);
/// How often to look whether something has come.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Rows of the journal that are published at once.
const ROWS_MAX: usize = 256;
/// How often the journal may forget what is published.
const FORGET_EVERY: Duration = Duration::from_secs(5);
/// When something that failed is tried again.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// Rows that wait in the journal before it is let go of: what they say is then read from the logs. Some gigabytes.
const WAITING_MAX: u64 = 4_000_000;
/// How many of them are counted at once.
const COUNTED_MAX: usize = 1_000;
/// Between the two parts of what is noted: whether something was passed over, and the place.
const MISSED: &str = "missed ";

/// Where the relay publishes.
#[async_trait]
pub trait Publisher: Send + 'static {
    /// Publishes what has come, in its order; done when all of it is kept safely. Whoever drops this call does not know
    /// how much of it was published, and publishes it all again.
    async fn publish(&mut self, news: &News) -> Result<(), FeedError>;
}

/// What a relay shows.
#[derive(Debug, Default)]
pub struct RelayProgress {
    leads: AtomicBool,
    published: AtomicU64,
    failures: AtomicU64,
    /// Since when something waits to be published, in milliseconds since 1970; 0: nothing does.
    behind_since: AtomicI64,
}

impl RelayProgress {
    /// Whether this node is the relay.
    pub fn leads(&self) -> bool {
        self.leads.load(Ordering::Relaxed)
    }

    /// How many records it has published since its start.
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// How often something had to be tried again.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// For how long something has waited to be published, by a clock of now, in milliseconds since 1970.
    pub fn lag(&self, now_ms: i64) -> Duration {
        match self.behind_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_millis(now_ms.saturating_sub(since).max(0).unsigned_abs()),
        }
    }

    fn is_behind(&self, is_behind: bool) {
        if !is_behind {
            self.behind_since.store(0, Ordering::Relaxed);
        } else if self.behind_since.load(Ordering::Relaxed) == 0 {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            self.behind_since.store(i64::try_from(now).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }
}

/// A node's part in relaying: it does so while it holds the lease.
pub struct Relay<P> {
    store: Arc<dyn Store>,
    leases: Arc<dyn Leases>,
    publisher: P,
    /// Of the lease.
    name: String,
    /// Rows of the journal that may wait.
    waiting_max: u64,
    /// How many of them are counted at once.
    counted_max: usize,
    progress: Arc<RelayProgress>,
    stop: CancellationToken,
}

/// Why it does not go on.
enum Ended {
    /// The process is going down.
    Stopped,
    /// It is not the relay any more.
    Deposed,
    /// Something failed, and is tried again.
    Failed(FeedError),
}

impl From<FeedError> for Ended {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::Closed => Self::Stopped,
            FeedError::Unavailable { .. } => Self::Failed(error),
        }
    }
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        FeedError::from(error).into()
    }
}

impl<P: Publisher> Relay<P> {
    /// Of a store to what is called `feed`.
    pub fn new(
        store: Arc<dyn Store>,
        leases: Arc<dyn Leases>,
        publisher: P,
        feed: &str,
        stop: CancellationToken,
    ) -> Self {
        let name = format!("relay to {feed}");
        Self {
            store,
            leases,
            publisher,
            name,
            waiting_max: WAITING_MAX,
            counted_max: COUNTED_MAX,
            progress: Arc::default(),
            stop,
        }
    }

    /// What it shows.
    pub fn progress(&self) -> Arc<RelayProgress> {
        Arc::clone(&self.progress)
    }

    /// Relays, whenever it is this node's turn, until it is stopped.
    pub async fn run(mut self) {
        let mut failures = 0;
        loop {
            let Err(ended) = self.serve(&mut failures).await;
            self.progress.leads.store(false, Ordering::Relaxed);
            self.progress.is_behind(false);
            let wait = match ended {
                Ended::Stopped => break,
                Ended::Deposed => {
                    tracing::warn!("another node relays now");
                    KEEP_EVERY
                }
                Ended::Failed(error) => {
                    failures += 1;
                    self.progress.failures.fetch_add(1, Ordering::Relaxed);
                    let wait = BACKOFF.wait(failures, roll());
                    tracing::warn!(%error, retry_ms = wait.as_millis(), "cannot relay to the feed; nothing is lost");
                    wait
                }
            };
            if self.pause(wait).await.is_err() {
                break;
            }
        }
    }

    /// Waits for its turn, and relays as long as it has it.
    async fn serve(&mut self, failures: &mut u32) -> Result<Infallible, Ended> {
        let lease = loop {
            if let Some(lease) = self.leases.take(&self.name, LEASE).await? {
                break lease;
            }
            self.pause(KEEP_EVERY).await?;
        };
        tracing::info!(term = lease.term, "this node relays to the feed now");
        self.progress.leads.store(true, Ordering::Relaxed);
        let Err(ended) = self.relay(&lease, failures).await;
        if !matches!(ended, Ended::Deposed) {
            // Else it ends by itself.
            let _ = self.leases.give_up(&lease).await;
        }
        Err(ended)
    }

    async fn relay(&mut self, lease: &Lease, failures: &mut u32) -> Result<Infallible, Ended> {
        let note = lease
            .note
            .as_deref()
            .map(|note| note.strip_prefix(MISSED).map_or((false, note), |it| (true, it)));
        let (missed, place) = note.unzip();
        let mut rows = Rows::open(Arc::clone(&self.store), place).await?;
        if missed == Some(true) {
            rows.has_missed();
        }
        let mut kept_at = tokio::time::Instant::now();
        let mut forgot_at = kept_at;
        loop {
            let news = rows.next(ROWS_MAX).await?;
            let is_news = news.missed || !news.came.is_empty();
            self.progress.is_behind(is_news);
            if is_news {
                if news.missed && lease.note.is_some() {
                    tracing::warn!(
                        "the journal does not know all that came: those who follow read the logs again"
                    );
                }
                self.publish(lease, &news, &rows).await?;
                let records = news.came.len() as u64 + u64::from(news.missed);
                self.progress.published.fetch_add(records, Ordering::Relaxed);
                *failures = 0;
            }
            // What touched no entry is passed, too.
            if is_news || kept_at.elapsed() >= KEEP_EVERY {
                self.keep(lease, news.place.text()).await?;
                kept_at = tokio::time::Instant::now();
                if forgot_at.elapsed() >= FORGET_EVERY {
                    forgot_at = kept_at;
                    rows.forget().await?;
                }
            }
            if !is_news && !news.more {
                self.pause(LOOK_EVERY).await?;
            }
        }
    }

    /// Publishes, however long that takes, and says meanwhile that it is still there.
    async fn publish(&mut self, lease: &Lease, news: &News, rows: &Rows) -> Result<(), Ended> {
        let Self { leases, publisher, stop, waiting_max, counted_max, .. } = self;
        let mut waiting = Waiting { rows: rows.behind(), count: 0 };
        let mut publishing = std::pin::pin!(publisher.publish(news));
        loop {
            tokio::select! {
                published = &mut publishing => return Ok(published?),
                () = stop.cancelled() => return Err(Ended::Stopped),
                () = tokio::time::sleep(KEEP_EVERY) => {}
            }
            let note = if waiting.count(*counted_max).await? > *waiting_max {
                waiting.rows.forget().await?;
                Some(format!("{MISSED}{}", waiting.rows.place().text().unwrap_or_default()))
            } else {
                None
            };
            if !leases.keep(lease, note.as_deref()).await? {
                return Err(Ended::Deposed);
            }
            if note.is_some() {
                let reason = "too much waits in the journal, which is let go of".to_owned();
                return Err(Ended::Failed(FeedError::Unavailable { reason, retry_after: Duration::ZERO }));
            }
        }
    }

    async fn keep(&self, lease: &Lease, place: Option<&str>) -> Result<(), Ended> {
        if self.leases.keep(lease, place).await? { Ok(()) } else { Err(Ended::Deposed) }
    }

    async fn pause(&self, wait: Duration) -> Result<(), Ended> {
        tokio::select! {
            () = tokio::time::sleep(wait) => Ok(()),
            () = self.stop.cancelled() => Err(Ended::Stopped),
        }
    }
}

/// What waits in the journal, as far as it was counted.
struct Waiting {
    rows: Rows,
    count: u64,
}

impl Waiting {
    /// Goes on counting.
    async fn count(&mut self, at_once: usize) -> Result<u64, Ended> {
        while self.rows.is_full_of(at_once).await? {
            self.count += at_once as u64;
        }
        Ok(self.count)
    }
}
