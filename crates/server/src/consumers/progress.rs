//! What a consumer shows of itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tertulia_domain::log::Commit;
use tertulia_protocol::Timestamp;

/// How far a consumer has come.
#[derive(Debug)]
pub struct Progress {
    name: &'static str,
    taken: AtomicU64,
    failures: AtomicU64,
    lag_entries: AtomicU64,
    /// When the oldest entry that waits was written; 0: none waits.
    waits_since: AtomicI64,
    dead_letters: AtomicU64,
    backfill_left: AtomicU64,
    backfill_done: AtomicU64,
    /// Everything before this commit is taken, and would survive power loss.
    passed: AtomicU64,
}

impl Progress {
    /// One that has taken nothing yet.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            taken: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            lag_entries: AtomicU64::new(0),
            waits_since: AtomicI64::new(0),
            dead_letters: AtomicU64::new(0),
            backfill_left: AtomicU64::new(0),
            backfill_done: AtomicU64::new(0),
            passed: AtomicU64::new(0),
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
        self.lag_entries.load(Ordering::Relaxed)
    }

    /// How long the oldest of them has waited.
    pub fn lag(&self, now: Timestamp) -> Duration {
        match self.waits_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => now.since(Timestamp::from_millis(since)),
        }
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

    pub(super) fn waits(&self, entries: u64, since: Option<Timestamp>) {
        self.lag_entries.store(entries, Ordering::Relaxed);
        self.waits_since.store(since.map_or(0, Timestamp::as_millis), Ordering::Relaxed);
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

    /// Notes that one of them has passed what came before a commit; says what all of them have passed.
    pub(super) fn passed(&self, one: &Progress, before: Commit) -> Commit {
        one.passed.store(before.get(), Ordering::SeqCst);
        let least = self.iter().map(|progress| progress.passed.load(Ordering::SeqCst)).min();
        Commit::new(least.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_slowest_has_passed_all_have_passed() {
        let [fast, slow] = ["fast", "slow"].map(|name| Arc::new(Progress::new(name)));
        let all = Progresses::new([Arc::clone(&fast), Arc::clone(&slow)]);
        assert_eq!(all.passed(&fast, Commit::new(9)), Commit::new(0));
        assert_eq!(all.passed(&slow, Commit::new(4)), Commit::new(4));
        assert_eq!(all.passed(&slow, Commit::new(12)), Commit::new(9));
    }

    #[test]
    fn the_lag_grows_while_something_waits() {
        let progress = Progress::new("slow");
        let at = Timestamp::from_millis;
        assert_eq!(progress.lag(at(9_000)), Duration::ZERO);
        progress.waits(3, Some(at(5_000)));
        assert_eq!(progress.lag(at(9_000)), Duration::from_secs(4));
        progress.waits(0, None);
        assert_eq!((progress.lag(at(9_999)), progress.lag_entries()), (Duration::ZERO, 0));
    }
}
