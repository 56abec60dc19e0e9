//! What the lanes have at the store at present, for those who read what others are still to hand over.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Batches of each lane, counted.
#[derive(Debug)]
pub struct Batches {
    lanes: Vec<Counts>,
    /// Told when one was handed over.
    handed_over: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    begun: AtomicU64,
    handed_over: AtomicU64,
}

impl Batches {
    pub(super) fn new(lanes: usize) -> Self {
        Self { lanes: (0..lanes).map(|_| Counts::default()).collect(), handed_over: Notify::new() }
    }

    pub(super) fn begins(&self, lane: usize) {
        self.lanes[lane].begun.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn is_handed_over(&self, lane: usize) {
        self.lanes[lane].handed_over.fetch_add(1, Ordering::SeqCst);
        self.handed_over.notify_waiters();
    }

    /// Waits until the hub has been handed all that is at the store now, and does not wait for what comes behind it.
    pub async fn all_that_began(&self) {
        let begun: Vec<_> = self.lanes.iter().map(|lane| lane.begun.load(Ordering::SeqCst)).collect();
        let is_there = || {
            let mut lanes = self.lanes.iter().zip(&begun);
            lanes.all(|(lane, begun)| lane.handed_over.load(Ordering::SeqCst) >= *begun)
        };
        loop {
            // Registered before the look, so that what is handed over in between is not missed.
            let mut told = std::pin::pin!(self.handed_over.notified());
            told.as_mut().enable();
            if is_there() {
                return;
            }
            told.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn what_began_is_waited_for_and_what_came_behind_it_is_not() {
        let batches = Batches::new(2);
        assert!(batches.all_that_began().now_or_never().is_some());
        batches.begins(0);
        batches.begins(1);
        let mut waiting = std::pin::pin!(batches.all_that_began());
        assert!(waiting.as_mut().now_or_never().is_none());
        batches.is_handed_over(1);
        batches.begins(1);
        assert!(waiting.as_mut().now_or_never().is_none());
        batches.is_handed_over(0);
        assert!(waiting.as_mut().now_or_never().is_some());
    }
}
