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
    /// The most bytes of the journal to take, but for one batch.
    pub(in crate::embedded) bytes_max: usize,
    /// How many when a read waits.
    pub(in crate::embedded) hurried_max: usize,
    /// How long to wait for the first batch; `None`: as long as it takes.
    pub(in crate::embedded) patience: Option<Duration>,
    /// What was done last was settled before its turn.
    pub(in crate::embedded) is_after_wanted: bool,
}

impl Tail {
    /// Waits for work, and takes at most about `records_max` records and `bytes_max` bytes of it.
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
            let hurried = self.waiting.load(Ordering::Acquire) > 0;
            let lingered = inner.batches.front().map(|oldest| oldest.came.elapsed());
            let is_late = lingered >= Some(bite.linger_max);
            let cannot_wait = hurried || is_full || is_late || inner.hurry || inner.closing;
            // Those who read what is settled before its turn must not keep the rest from its turn.
            let is_their_turn = !(cannot_wait && bite.is_after_wanted && lingered.is_some());
            if is_their_turn && !inner.wanted.is_empty() {
                inner.rounds += 1;
                let wanted = std::mem::take(&mut inner.wanted);
                return Work::Wanted(wanted.into_iter().collect(), inner.rounds);
            }
            let patience = if let Some(lingered) = lingered {
                let is_due = inner.records >= bite.records_min || lingered >= bite.linger;
                if cannot_wait || (is_due && !is_burst(inner.pushed, Instant::now())) {
                    let max = if hurried { bite.hurried_max } else { bite.records_max };
                    return inner.first_batches(max, bite.bytes_max);
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
    fn first_batches(&self, records_max: usize, bytes_max: usize) -> Work {
        let (mut records, mut bytes) = (0, 0);
        let begun_below = |batch: &&Unit| {
            let begun_below = records < records_max && bytes < bytes_max;
            records += batch.records;
            bytes += batch.place.length();
            begun_below
        };
        let places = self.batches.iter().take_while(begun_below).map(|batch| batch.place.clone()).collect();
        Work::Settle(self.first, places)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tertulia_domain::conversation::{Effect, Record};
    use tertulia_protocol::{Entry, EntryKind, Seq, Timestamp, UserId};

    use super::super::super::options::TailLimits;
    use super::*;

    const CONVO: ConvoId = ConvoId::from_bytes([1; 16]);
    const BITE: Bite = Bite {
        linger: Duration::ZERO,
        linger_max: Duration::MAX,
        records_min: 1,
        records_max: 50_000,
        bytes_max: 32 << 20,
        hurried_max: 10_000,
        patience: Some(Duration::ZERO),
        is_after_wanted: false,
    };

    fn record(seq: u64) -> Record {
        let entry = Entry {
            convo_id: CONVO,
            seq: Seq::new(seq),
            sender_id: UserId::from_bytes([2; 16]),
            client_seq: None,
            ts: Timestamp::from_millis(0),
            kind: EntryKind::Renamed { title: "x".into() },
        };
        Record::Entry { entry: Arc::new(entry), message_no: 0, effect: Effect::None }
    }

    /// Batches of two records of one conversation, and of so many bytes each.
    fn tail(batches: u64, bytes: u32) -> Tail {
        let tail = Tail::new(Commit::new(0), TailLimits::default());
        let file = Arc::new(tempfile::tempfile().unwrap());
        for number in 1..=batches {
            let place = Place { file: Arc::clone(&file), at: 0, length: bytes };
            tail.push(Commit::new(number), place, &[record(2 * number - 1), record(2 * number)], &[0, 1]);
        }
        tail
    }

    #[test]
    fn a_bite_ends_at_its_bytes_and_has_one_batch_at_least() {
        let taken = |tail: Tail| match tail.next_work(&BITE, |_, _| false) {
            Work::Settle(_, places) => places.len(),
            _ => panic!("there is something to settle"),
        };
        assert_eq!(taken(tail(10, 10 << 20)), 4);
        assert_eq!(taken(tail(10, 100 << 20)), 1);
        assert_eq!(taken(tail(10, 1)), 10);
    }

    #[test]
    fn what_is_wanted_and_what_is_late_take_turns() {
        let tail = tail(3, 1);
        let late = Bite { linger_max: Duration::ZERO, ..BITE };
        let is_wanted = |is_after_wanted| {
            tail.lock().wanted.insert(CONVO);
            // A burst that would put off the rest.
            matches!(tail.next_work(&Bite { is_after_wanted, ..late }, |_, _| true), Work::Wanted(..))
        };
        assert!(is_wanted(false));
        assert!(!is_wanted(true));
        tail.pop(Commit::new(3), &[CONVO]);
        assert!(is_wanted(true), "nothing else waits for its turn");
    }

    #[test]
    fn a_long_conversation_is_settled_before_its_turn_in_pieces_of_whole_commits() {
        let tail = tail(5, 1);
        let mut pieces = Vec::new();
        loop {
            let (piece, is_all) = tail.not_settled(CONVO, Commit::new(5), |_| false);
            let commits: Vec<_> = piece.iter().map(|pending| pending.commit.get()).collect();
            tail.settled_before_turn(CONVO, piece.last().unwrap().commit);
            pieces.push(commits);
            if is_all {
                break;
            }
        }
        assert_eq!(pieces, [[1, 1], [2, 2], [3, 3], [4, 4]], "the fifth came after it was asked for");
    }
}
