//! The store is away: that is said once, and once that it is back.
//!
//! While it is, every call is refused, and a line for each in the log would say nothing that the first did not: those are
//! counted, and are in the log of who asks for it.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tertulia_store::Store;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Random};
use crate::metrics::Metrics;

/// How often to look whether it is back.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// It is back when it answers, and has refused nothing for so long: a part of it may be away while the others answer.
const QUIET: Duration = Duration::from_secs(5);

/// Whether the store refuses what it is asked.
pub struct Outage {
    metrics: Arc<Metrics>,
    clock: Clock,
    /// `None`: it does not.
    under_way: Mutex<Option<UnderWay>>,
    began: Notify,
}

/// Times are of the clock's monotonic time.
#[derive(Debug, Clone, Copy)]
struct UnderWay {
    since: Duration,
    last: Duration,
    refused: u64,
}

impl Outage {
    /// None so far.
    pub fn new(metrics: Arc<Metrics>, clock: Clock) -> Self {
        Self { metrics, clock, under_way: Mutex::default(), began: Notify::new() }
    }

    /// So many calls were refused, because the store could not do what they needed.
    pub fn refused(&self, calls: u64, why: &str) {
        if calls == 0 {
            return;
        }
        self.metrics.store_refused(calls);
        tracing::debug!(calls, why, "the store could not do it");
        let now = self.clock.monotonic();
        let mut under_way = self.under_way();
        if let Some(under_way) = under_way.as_mut() {
            under_way.last = now;
            under_way.refused += calls;
            return;
        }
        *under_way = Some(UnderWay { since: now, last: now, refused: calls });
        drop(under_way);
        tracing::warn!(why, "the store does not do what it is asked; calls are refused until it does again");
        self.began.notify_one();
    }

    /// Says when the store is back, each time that it was away, until `stop`.
    pub async fn watch(&self, store: Arc<dyn Store>, random: Random, stop: CancellationToken) {
        let watching = async {
            loop {
                self.began.notified().await;
                loop {
                    tokio::time::sleep(random.jitter(LOOK_EVERY)).await;
                    if store.horizon().await.is_ok() && self.is_over() {
                        break;
                    }
                }
            }
        };
        stop.run_until_cancelled(watching).await;
    }

    /// The store answers: whether that is the end of it, which is said.
    fn is_over(&self) -> bool {
        let now = self.clock.monotonic();
        let mut under_way = self.under_way();
        let Some(ended) = *under_way else { return true };
        if now.saturating_sub(ended.last) < QUIET {
            return false;
        }
        *under_way = None;
        drop(under_way);
        let UnderWay { since, last, refused } = ended;
        let seconds = last.saturating_sub(since).as_secs_f64();
        tracing::info!(refused, seconds, "the store does again what it is asked; so many calls were refused");
        true
    }

    fn under_way(&self) -> MutexGuard<'_, Option<UnderWay>> {
        // Each use is one step.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
