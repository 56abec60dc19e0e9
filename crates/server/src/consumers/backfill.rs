//! What is in the logs already, conversation by conversation, in pages.

use std::collections::VecDeque;

use tertulia_feed::Came;
use tertulia_protocol::{ConvoId, Seq};
use tertulia_store::{Store, StoreError, Touched};

use super::cursor::Backfill;
use super::read::{Page, pages};

/// The logs are no partition.
const PARTITION: i32 = -1;
/// Conversations that are asked for at once.
const LOGS_AT_ONCE: usize = 1_000;

/// Logs that are to be read still.
pub(super) struct Logs {
    /// All before this place were given.
    place: Backfill,
    /// The next ones, with their newest entries.
    waiting: VecDeque<(ConvoId, Seq)>,
    /// Whether the store has none behind `waiting`.
    whole: bool,
}

impl Logs {
    /// The logs from a place on; with how many entries are before it, and about how many behind.
    pub(super) async fn open(store: &dyn Store, place: Backfill) -> Result<(Self, u64, u64), StoreError> {
        let (mut done, mut left) = (0, 0);
        let mut after = None;
        loop {
            let logs = store.logs(after, LOGS_AT_ONCE).await?;
            let Some(&(last, _)) = logs.last() else { break };
            after = Some(last);
            for (convo, newest) in logs {
                let is_done = place.done.is_some_and(|done| convo <= done);
                *(if is_done { &mut done } else { &mut left }) += newest.get();
            }
        }
        // Of the one that was begun.
        let begun = place.next.get().saturating_sub(1).min(left);
        let logs = Self { place, waiting: VecDeque::new(), whole: false };
        Ok((logs, done + begun, left - begun))
    }

    /// The next pages, `limit` at most; none: there is nothing more.
    pub(super) async fn next(&mut self, store: &dyn Store, limit: usize) -> Result<Vec<Page>, StoreError> {
        let mut given = Vec::new();
        while given.len() < limit {
            let Some(&(convo, last)) = self.waiting.front() else {
                // A question that fails is asked again: it must not take along what was given before it.
                if self.whole || !given.is_empty() {
                    break;
                }
                let logs = store.logs(self.place.done, LOGS_AT_ONCE).await?;
                self.whole = logs.is_empty();
                self.waiting.extend(logs);
                continue;
            };
            let range = Touched { convo, first: self.place.next, last };
            let came = Came { partition: PARTITION, range };
            let some = pages(&came).take(limit - given.len());
            let before = given.len();
            given.extend(some);
            let end =
                given[before..].last().map_or(last.get(), |page| page.first.get() + page.count as u64 - 1);
            if end >= last.get() {
                self.waiting.pop_front();
                self.place = Backfill { done: Some(convo), next: Seq::new(1) };
            } else {
                self.place.next = Seq::new(end + 1);
            }
        }
        Ok(given)
    }

    /// Up to where pages were given; `None`: to the end.
    pub(super) fn place(&self) -> Option<Backfill> {
        (!self.whole || !self.waiting.is_empty()).then_some(self.place)
    }
}
