//! What a reader's thread has got and the reader has not yet: by partition, as long as the partition is this reader's.

use std::collections::{BTreeMap, VecDeque};

use super::record::Record;
use crate::port::{Came, Lag, News, Offset, Place};

/// Records that are given at once.
const RECORDS_MAX: usize = 4_096;
/// Records of a partition that are kept before no more are fetched, and those below which they are again.
pub(super) const KEPT_MAX: usize = 8_192;
const KEPT_LOW: usize = 2_048;

/// By partition, what waits.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    partitions: BTreeMap<i32, Partition>,
    /// Counts how often this reader was given partitions.
    turn: u64,
    /// Something may not have been told.
    missed: bool,
}

#[derive(Debug)]
struct Partition {
    turn: u64,
    /// The offset that the next record has, if none is missing; `None`: it is not known yet where this begins.
    next: Option<i64>,
    /// What was fetched.
    records: VecDeque<Fetched>,
    /// Up to where the reader was given records and has not called them taken.
    in_hand: Option<i64>,
    /// Where a consumer begins that has no offset here: kept, so that it is known next time.
    begins: Option<i64>,
    /// The end of the partition, as it was heard last.
    end: i64,
    /// Whether nothing is to be fetched.
    is_full: bool,
}

#[derive(Debug)]
struct Fetched {
    offset: i64,
    /// When it was published, in milliseconds since 1970.
    at_ms: Option<i64>,
    record: Record,
}

/// What a partition is like where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// Up to where its consumer has taken it; `None`: nobody has.
    pub(super) committed: Option<i64>,
    /// The oldest record that is there.
    pub(super) first: i64,
    /// Behind the newest.
    pub(super) end: i64,
}

impl Shelf {
    /// A partition is this reader's from now on.
    pub(super) fn assign(&mut self, partition: i32) {
        self.turn += 1;
        let new = Partition {
            turn: self.turn,
            next: None,
            records: VecDeque::new(),
            in_hand: None,
            begins: None,
            end: 0,
            is_full: false,
        };
        self.partitions.insert(partition, new);
    }

    /// A partition will be somebody else's: what the reader has not got he does not get.
    pub(super) fn withdraw(&mut self, partition: i32) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.records.clear();
        }
    }

    /// Whether the reader is at something of a partition.
    pub(super) fn is_in_hand(&self, partition: i32) -> bool {
        self.partitions.get(&partition).is_some_and(|partition| partition.in_hand.is_some())
    }

    /// A partition is somebody else's.
    pub(super) fn revoke(&mut self, partition: i32) {
        self.partitions.remove(&partition);
    }

    /// Partitions of which it is not known yet where this reader begins.
    pub(super) fn unknown(&self) -> Vec<i32> {
        self.partitions.iter().filter(|(_, it)| it.next.is_none()).map(|(partition, _)| *partition).collect()
    }

    /// Where a reader begins in a partition.
    pub(super) fn found(&mut self, partition: i32, found: Found) {
        let Some(known) = self.partitions.get_mut(&partition).filter(|known| known.next.is_none()) else {
            return;
        };
        let Found { committed, first, end } = found;
        match committed.filter(|committed| (first..=end).contains(committed)) {
            Some(committed) => known.next = Some(committed),
            None => {
                // Nobody was here yet; or what he has not taken is gone; or it is not what he has taken.
                self.missed = true;
                known.next = Some(first);
                known.begins = Some(first);
            }
        }
        known.end = end;
    }

    /// A record was fetched; `None`: it says nothing that we say.
    pub(super) fn put(&mut self, partition: i32, offset: i64, at_ms: Option<i64>, record: Option<Record>) {
        let Some(known) = self.partitions.get_mut(&partition) else { return };
        if known.next != Some(offset) {
            // Between two fetches the oldest were removed, or the topic was made anew.
            self.missed = true;
        }
        known.next = Some(offset + 1);
        known.end = known.end.max(offset + 1);
        match record {
            Some(record) => known.records.push_back(Fetched { offset, at_ms, record }),
            None => {
                tracing::error!(
                    partition,
                    offset,
                    "a record of the feed is not understood: the logs are read instead"
                );
                self.missed = true;
            }
        }
    }

    /// The end of a partition, as it was heard.
    pub(super) fn ends(&mut self, partition: i32, end: i64) {
        if let Some(known) = self.partitions.get_mut(&partition) {
            known.end = known.end.max(end);
        }
    }

    /// Partitions that are full now, and such as have room again: they are to be paused, and to be resumed.
    pub(super) fn rooms(&mut self) -> (Vec<i32>, Vec<i32>) {
        let (mut full, mut free) = (Vec::new(), Vec::new());
        for (number, partition) in &mut self.partitions {
            if !partition.is_full && partition.records.len() >= KEPT_MAX {
                partition.is_full = true;
                full.push(*number);
            } else if partition.is_full && partition.records.len() <= KEPT_LOW {
                partition.is_full = false;
                free.push(*number);
            }
        }
        (full, free)
    }

    /// What the reader is given.
    pub(super) fn next(&mut self) -> News {
        let mut news = News {
            came: Vec::new(),
            missed: std::mem::take(&mut self.missed),
            more: false,
            place: Place::default(),
        };
        // Each a share, so that none waits for another.
        let share = RECORDS_MAX / self.partitions.len().max(1) + 1;
        for (&number, partition) in &mut self.partitions {
            let mut next = partition.begins.take();
            for Fetched { offset, record, .. } in
                partition.records.drain(..share.min(partition.records.len()))
            {
                next = Some(offset + 1);
                match record {
                    Record::Came(range) => news.came.push(Came { partition: number, range }),
                    Record::Missed => news.missed = true,
                }
            }
            news.more |= !partition.records.is_empty();
            if let Some(next) = next {
                partition.in_hand = Some(next);
                news.place.offsets.push(Offset { partition: number, turn: partition.turn, next });
            }
        }
        news
    }

    /// What was called taken, of partitions that are still this reader's.
    pub(super) fn taken(&mut self, place: &Place) -> Vec<Offset> {
        let is_ours = |offset: &&Offset| {
            self.partitions.get(&offset.partition).is_some_and(|known| known.turn == offset.turn)
        };
        let ours: Vec<_> = place.offsets.iter().filter(is_ours).copied().collect();
        for offset in &ours {
            if let Some(known) = self.partitions.get_mut(&offset.partition)
                && known.in_hand.is_some_and(|in_hand| in_hand <= offset.next)
            {
                known.in_hand = None;
            }
        }
        ours
    }

    /// What waits, by partition.
    pub(super) fn lag(&self) -> Vec<Lag> {
        let lag = |(&partition, known): (&i32, &Partition)| {
            let kept: u64 = known.records.iter().map(|fetched| entries(fetched.record)).sum();
            // Each names one entry at least.
            let not_fetched =
                known.next.map_or(0, |next| known.end.saturating_sub(next).max(0).unsigned_abs());
            let since_ms = known.records.front().and_then(|fetched| fetched.at_ms);
            Lag { partition, entries: kept + not_fetched, since_ms }
        };
        self.partitions.iter().map(lag).collect()
    }
}

fn entries(record: Record) -> u64 {
    match record {
        Record::Came(range) => range.last.get() + 1 - range.first.get(),
        Record::Missed => 1,
    }
}

#[cfg(test)]
mod tests {
    use tertulia_protocol::{ConvoId, Seq};
    use tertulia_store::Touched;

    use super::*;

    fn came(first: u64, last: u64) -> Option<Record> {
        let convo = ConvoId::from_bytes([7; 16]);
        Some(Record::Came(Touched { convo, first: Seq::new(first), last: Seq::new(last) }))
    }

    fn found(committed: Option<i64>) -> Found {
        Found { committed, first: 10, end: 20 }
    }

    /// One partition, in which a consumer was up to record 15.
    fn shelf() -> Shelf {
        let mut shelf = Shelf::default();
        shelf.assign(0);
        assert_eq!(shelf.unknown(), [0]);
        shelf.found(0, found(Some(15)));
        assert!(shelf.unknown().is_empty());
        shelf
    }

    #[test]
    fn what_was_fetched_is_given_once_and_its_place_is_behind_it() {
        let mut shelf = shelf();
        shelf.put(0, 15, Some(1_000), came(1, 3));
        shelf.put(0, 16, Some(2_000), came(4, 4));
        // 17, 18 and 19 are not fetched yet.
        assert_eq!(shelf.lag(), [Lag { partition: 0, entries: 4 + 3, since_ms: Some(1_000) }]);
        let news = shelf.next();
        assert_eq!((news.came.len(), news.missed, news.more), (2, false, false));
        assert_eq!(news.place.offsets, [Offset { partition: 0, turn: 1, next: 17 }]);
        assert!(shelf.is_in_hand(0));
        assert_eq!(shelf.taken(&news.place).len(), 1);
        assert!(!shelf.is_in_hand(0));
        let nothing = shelf.next();
        assert!(nothing.came.is_empty() && nothing.place.offsets.is_empty());
        shelf.ends(0, 17);
        assert_eq!(shelf.lag()[0].entries, 3, "an end never goes back");
    }

    #[test]
    fn who_has_no_offset_that_is_there_has_missed_something() {
        for (committed, is_missed) in
            [(None, true), (Some(9), true), (Some(21), true), (Some(10), false), (Some(20), false)]
        {
            let mut shelf = Shelf::default();
            shelf.assign(0);
            shelf.found(0, found(committed));
            let news = shelf.next();
            assert_eq!(news.missed, is_missed, "{committed:?}");
            // Where he begins is kept, so that next time it is known.
            assert_eq!(news.place.offsets.first().map(|offset| offset.next), is_missed.then_some(10));
            assert!(!shelf.next().missed);
        }
    }

    #[test]
    fn a_hole_in_the_offsets_and_a_record_of_others_show_that_something_was_missed() {
        let mut shelf = shelf();
        shelf.put(0, 15, None, came(1, 1));
        assert!(!shelf.next().missed);
        shelf.put(0, 17, None, came(2, 2));
        assert!(shelf.next().missed);
        shelf.put(0, 18, None, None);
        let news = shelf.next();
        assert!(news.missed && news.came.is_empty());
        shelf.put(0, 19, None, Some(Record::Missed));
        assert!(shelf.next().missed);
        // The topic was made anew.
        shelf.put(0, 0, None, came(3, 3));
        assert!(shelf.next().missed);
    }

    #[test]
    fn what_is_anothers_by_now_is_not_noted() {
        let mut shelf = shelf();
        shelf.put(0, 15, None, came(1, 1));
        let news = shelf.next();
        shelf.withdraw(0);
        shelf.revoke(0);
        assert!(!shelf.is_in_hand(0));
        assert_eq!(shelf.taken(&news.place), []);
        // Also when it came back meanwhile.
        shelf.assign(0);
        shelf.found(0, found(Some(18)));
        assert_eq!(shelf.taken(&news.place), []);
        // What comes for a partition that is another's goes.
        shelf.put(5, 1, None, came(1, 1));
        assert!(shelf.next().came.is_empty());
    }

    #[test]
    fn a_partition_with_much_on_the_shelf_is_paused_until_there_is_room() {
        let mut shelf = shelf();
        let records = KEPT_MAX as i64;
        for number in 0..records {
            shelf.put(0, 15 + number, None, came(1, 1));
        }
        assert_eq!(shelf.rooms(), (vec![0], vec![]));
        assert_eq!(shelf.rooms(), (vec![], vec![]));
        assert!(shelf.next().more);
        assert_eq!(shelf.rooms(), (vec![], vec![]));
        while shelf.next().more {}
        assert_eq!(shelf.rooms(), (vec![], vec![0]));
    }
}
