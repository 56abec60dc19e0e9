//! What a consumer shows of itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tertulia_feed::Lag;
use tertulia_protocol::Timestamp;

/// How far a consumer has come.
#[derive(Debug)]
pub struct Progress {
    name: &'static str,
    taken: AtomicU64,
    failures: AtomicU64,
    /// What waits, by partition of the feed.
    waiting: Mutex<Waiting>,
    dead_letters: AtomicU64,
    backfill_left: AtomicU64,
    backfill_done: AtomicU64,
}

impl Progress {
    /// One that has taken nothing yet.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            taken: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            waiting: Mutex::default(),
            dead_letters: AtomicU64::new(0),
            backfill_left: AtomicU64::new(0),
            backfill_done: AtomicU64::new(0),
        }
    }

    /// The consumer's name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// How many entries it has taken since the start; some of them more than once.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// How often something had to be tried again.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// How many entries wait for it, as far as it has looked.
    pub fn lag_entries(&self) -> u64 {
        self.waiting().0.values().map(|lag| lag.entries).sum()
    }

    /// By partition of the feed that this node follows: how many entries wait for it, as far as it has looked, and how long
    /// the oldest of them has.
    pub fn lag(&self, now: Timestamp) -> Vec<(i32, u64, Duration)> {
        let waited =
            |lag: &Lag| lag.since_ms.map_or(Duration::ZERO, |since| now.since(Timestamp::from_millis(since)));
        self.waiting().0.values().map(|lag| (lag.partition, lag.entries, waited(lag))).collect()
    }

    /// How many entries are laid with the dead letters.
    pub fn dead_letters(&self) -> u64 {
        self.dead_letters.load(Ordering::Relaxed)
    }

    /// Of the logs that were there before it: how many entries it has read, and about how many it still has to.
    pub fn backfill(&self) -> (u64, u64) {
        (self.backfill_done.load(Ordering::Relaxed), self.backfill_left.load(Ordering::Relaxed))
    }

    pub(super) fn took(&self, entries: usize) {
        self.taken.fetch_add(entries as u64, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn waits(&self, waiting: &Waiting) {
        *self.waiting() = waiting.clone();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Each use is one step.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_dead_letters(&self, count: u64) {
        self.dead_letters.store(count, Ordering::Relaxed);
    }

    pub(super) fn set_backfill(&self, done: u64, left: u64) {
        self.backfill_done.store(done, Ordering::Relaxed);
        self.backfill_left.store(left, Ordering::Relaxed);
    }

    pub(super) fn backfilled(&self, entries: u64) {
        self.backfill_done.fetch_add(entries, Ordering::Relaxed);
        let left = self.backfill_left.load(Ordering::Relaxed).saturating_sub(entries);
        self.backfill_left.store(left, Ordering::Relaxed);
    }
}

/// All consumers of a node; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Progresses(Arc<[Arc<Progress>]>);

impl Progresses {
    /// Of these.
    pub fn new(progresses: impl IntoIterator<Item = Arc<Progress>>) -> Self {
        Self(progresses.into_iter().collect())
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Progress> {
        self.0.iter().map(Arc::as_ref)
    }
}

/// What waits for a consumer, by partition.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiting(BTreeMap<i32, Lag>);

impl Waiting {
    /// What waits in the feed.
    pub(super) fn new(lags: Vec<Lag>) -> Self {
        Self(lags.into_iter().map(|lag| (lag.partition, lag)).collect())
    }

    /// So many more have come from it, and are not taken yet.
    pub(super) fn came(&mut self, partition: i32, entries: u64) {
        self.lag(partition).entries += entries;
    }

    /// One of those that wait is of that time.
    pub(super) fn since(&mut self, partition: i32, written: Option<Timestamp>) {
        let lag = self.lag(partition);
        let written = written.map(Timestamp::as_millis);
        lag.since_ms = [lag.since_ms, written].into_iter().flatten().min();
    }

    fn lag(&mut self, partition: i32) -> &mut Lag {
        self.0.entry(partition).or_insert(Lag { partition, entries: 0, since_ms: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_grows_while_something_waits() {
        let progress = Progress::new("slow");
        let at = Timestamp::from_millis;
        assert_eq!(progress.lag(at(9_000)), []);
        let mut waiting = Waiting::new(vec![Lag { partition: 1, entries: 2, since_ms: Some(7_000) }]);
        waiting.came(0, 3);
        waiting.since(0, Some(at(5_000)));
        waiting.since(0, Some(at(6_000)));
        waiting.since(0, None);
        progress.waits(&waiting);
        let seconds = Duration::from_secs;
        assert_eq!(progress.lag(at(9_000)), [(0, 3, seconds(4)), (1, 2, seconds(2))]);
        assert_eq!(progress.lag_entries(), 5);
        progress.waits(&Waiting::new(vec![Lag { partition: 0, entries: 0, since_ms: None }]));
        assert_eq!((progress.lag(at(9_999)), progress.lag_entries()), (vec![(0, 0, Duration::ZERO)], 0));
    }
}
