//! What the settler is to do next, and when.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tertulia_domain::log::Commit;
use tertulia_protocol::ConvoId;

use super::super::journal::Place;
use super::{FULL_FROM, Inner, Tail, Unit};

/// What the settler is to do next.
pub(in crate::embedded) enum Work {
    /// Settle these, the first of which has this commit.
    Settle(Commit, Vec<Place>),
    /// Settle these conversations; then this round is over.
    Wanted(Vec<ConvoId>, u64),
    /// Nothing came in time.
    Nothing,
    /// Everything is settled, and nothing will come.
    Closed,
    /// Stop where you are.
    Abandoned,
}

/// How the settler wants its work.
#[derive(Debug, Clone, Copy)]
pub(in crate::embedded) struct Bite {
    /// How long batches may wait for company.
    pub(in crate::embedded) linger: Duration,
    /// How long at most, if this is a burst.
    pub(in crate::embedded) linger_max: Duration,
    /// So many records do not wait for more, unless this is a burst.
    pub(in crate::embedded) records_min: usize,
    /// The most records to take.
    pub(in crate::embedded) records_max: usize,
    /// How many when a read waits.
    pub(in crate::embedded) hurried_max: usize,
    /// How long to wait for the first batch; `None`: as long as it takes.
    pub(in crate::embedded) patience: Option<Duration>,
    /// What was done last was settled before its turn.
    pub(in crate::embedded) is_after_wanted: bool,
}

impl Tail {
    /// Waits for work, and takes at most about `records_max` records of it.
    ///
    /// Lingers a little, so that rows of one conversation are written together, and while `is_burst` says so of the records
    /// that have come until now, but not for ever; not while somebody waits, and not when it is rather full.
    pub(in crate::embedded) fn next_work(
        &self,
        bite: &Bite,
        mut is_burst: impl FnMut(u64, Instant) -> bool,
    ) -> Work {
        let deadline = bite.patience.map(|patience| Instant::now() + patience);
        let mut inner = self.lock();
        loop {
            if inner.abandoned {
                return Work::Abandoned;
            }
            let is_full = inner.fill(&self.limits) >= FULL_FROM;
            // Those who read must not keep it from getting emptier.
            let is_their_turn = !(is_full && bite.is_after_wanted);
            if is_their_turn && !inner.wanted.is_empty() {
                inner.rounds += 1;
                let wanted = std::mem::take(&mut inner.wanted);
                return Work::Wanted(wanted.into_iter().collect(), inner.rounds);
            }
            let patience = if let Some(oldest) = inner.batches.front() {
                let hurried = self.waiting.load(Ordering::Acquire) > 0;
                let lingered = oldest.came.elapsed();
                let is_due = inner.records >= bite.records_min || lingered >= bite.linger;
                let is_late = lingered >= bite.linger_max;
                let cannot_wait = hurried || is_full || is_late || inner.hurry || inner.closing;
                if cannot_wait || (is_due && !is_burst(inner.pushed, Instant::now())) {
                    let max = if hurried { bite.hurried_max } else { bite.records_max };
                    return inner.first_batches(max);
                }
                inner.wakes_at = if is_due { usize::MAX } else { bite.records_min };
                Some(if is_due { bite.linger } else { bite.linger - lingered })
            } else {
                if inner.closing {
                    return Work::Closed;
                }
                let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
                if left == Some(Duration::ZERO) {
                    return Work::Nothing;
                }
                left
            };
            inner = self.wait_for_work(inner, patience);
        }
    }

    fn wait_for_work<'a>(
        &'a self,
        inner: MutexGuard<'a, Inner>,
        patience: Option<Duration>,
    ) -> MutexGuard<'a, Inner> {
        match patience {
            None => self.work.wait(inner).unwrap_or_else(PoisonError::into_inner),
            Some(patience) => {
                self.work.wait_timeout(inner, patience).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// Waits, unless it is to stop.
    pub(in crate::embedded) fn pause(&self, pause: Duration) -> bool {
        let inner = self.lock();
        let (inner, _) = self
            .work
            .wait_timeout_while(inner, pause, |inner| !inner.abandoned && !inner.closing)
            .unwrap_or_else(PoisonError::into_inner);
        !inner.abandoned
    }
}

impl Inner {
    fn first_batches(&self, records_max: usize) -> Work {
        let mut records = 0;
        let begun_below = |batch: &&Unit| {
            let begun_below = records < records_max;
            records += batch.records;
            begun_below
        };
        let places = self.batches.iter().take_while(begun_below).map(|batch| batch.place.clone()).collect();
        Work::Settle(self.first, places)
    }
}
