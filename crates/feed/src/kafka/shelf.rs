//! What a reader's thread has got and the reader has not yet: by partition, as long as the partition is this reader's.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use super::begin::Found;
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
}

#[derive(Debug)]
struct Partition {
    turn: u64,
    begin: Begin,
    /// The offset that the next record has, if none is missing; `None`: none was fetched.
    next: Option<i64>,
    /// What was fetched.
    records: VecDeque<Fetched>,
    /// Up to where the reader was given records and has not called them taken.
    in_hand: Option<i64>,
    /// The end of the partition, as it was heard last.
    end: i64,
    /// Whether nothing is to be fetched.
    is_full: bool,
}

/// Where a reader begins in a partition.
#[derive(Debug)]
enum Begin {
    /// It is not known yet: nothing is given.
    Unknown,
    /// Not where somebody left off: the reader is to be told so, or was, or has taken it, and the group does not know yet.
    Anew { places: Vec<(i32, i64)>, told: Told },
    /// Here.
    At(i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    NotYet,
    InHand,
    Taken,
}

#[derive(Debug)]
struct Fetched {
    offset: i64,
    /// When it was published, in milliseconds since 1970.
    at_ms: Option<i64>,
    /// `None`: it says nothing that we say.
    record: Option<Record>,
    /// What was before it is not what was fetched before it.
    is_behind_hole: bool,
}

/// What is to be noted for the group.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Soon.
    pub(super) soon: Vec<Offset>,
    /// Now: the group knows of no place in these partitions, whoever has them.
    pub(super) now: Vec<(i32, i64)>,
}

impl Shelf {
    /// A partition is this reader's from now on.
    pub(super) fn assign(&mut self, partition: i32) {
        self.turn += 1;
        let new = Partition {
            turn: self.turn,
            begin: Begin::Unknown,
            next: None,
            records: VecDeque::new(),
            in_hand: None,
            end: 0,
            is_full: false,
        };
        self.partitions.insert(partition, new);
    }

    /// A partition will be somebody else's: what the reader has not got he does not get.
    pub(super) fn withdraw(&mut self, partition: i32) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.records.clear();
            if let Begin::Anew { told: Told::NotYet, .. } = partition.begin {
                partition.begin = Begin::Unknown;
            }
        }
    }

    /// Whether the reader is at something of a partition.
    pub(super) fn is_in_hand(&self, partition: i32) -> bool {
        self.partitions.get(&partition).is_some_and(|it| {
            it.in_hand.is_some() || matches!(it.begin, Begin::Anew { told: Told::InHand, .. })
        })
    }

    /// A partition is somebody else's.
    pub(super) fn revoke(&mut self, partition: i32) {
        self.partitions.remove(&partition);
    }

    /// Partitions of which it is not known yet where this reader begins.
    pub(super) fn unknown(&self) -> Vec<i32> {
        let is_unknown = |it: &Partition| !matches!(it.begin, Begin::At(_));
        self.partitions.iter().filter(|(_, it)| is_unknown(it)).map(|(partition, _)| *partition).collect()
    }

    /// It was found where a reader begins in a partition. Gives back what is to be noted again: it was, and was not found.
    pub(super) fn found(&mut self, partition: i32, found: Found) -> Vec<(i32, i64)> {
        let Some(known) = self.partitions.get_mut(&partition) else { return Vec::new() };
        match (&known.begin, found) {
            (Begin::Unknown | Begin::Anew { .. }, Found::At(place)) => known.begin_at(place),
            (Begin::Unknown, Found::Anew(places, why)) => {
                why.say(partition);
                known.begin = Begin::Anew { places, told: Told::NotYet };
            }
            (Begin::Anew { places, told: Told::Taken }, Found::Anew(..)) => return places.clone(),
            (Begin::Anew { .. }, Found::Anew(..)) | (Begin::At(_), _) => {}
        }
        Vec::new()
    }

    /// A record was fetched; `None`: it says nothing that we say.
    pub(super) fn put(&mut self, partition: i32, offset: i64, at_ms: Option<i64>, record: Option<Record>) {
        let Some(known) = self.partitions.get_mut(&partition) else { return };
        let next = known.next.replace(offset + 1);
        known.end = known.end.max(offset + 1);
        if record.is_none() {
            tracing::error!(
                partition,
                offset,
                "a record of the feed is not understood: the logs are read instead"
            );
        }
        let went_back = next.is_some_and(|next| offset < next);
        let is_hole = match (next, &known.begin) {
            (Some(next), Begin::At(place)) => offset > next.max(*place),
            (None, Begin::At(place)) => offset > *place,
            (Some(next), _) => offset > next,
            (None, _) => false,
        };
        match known.begin {
            // The topic was made anew: this is not what was there before.
            Begin::At(_) if went_back => known.begin = Begin::At(offset),
            Begin::At(place) if offset < place => return,
            _ => {}
        }
        // A hole: between two fetches the oldest were removed.
        known.records.push_back(Fetched { offset, at_ms, record, is_behind_hole: went_back || is_hole });
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
        let mut news = News { came: Vec::new(), missed: false, more: false, place: Place::default() };
        // Each a share, so that none waits for another.
        let share = RECORDS_MAX / self.partitions.len().max(1) + 1;
        for (&number, partition) in &mut self.partitions {
            let next = match &mut partition.begin {
                Begin::At(_) => partition.give(number, share, &mut news),
                Begin::Anew { told: told @ Told::NotYet, .. } => {
                    *told = Told::InHand;
                    news.missed = true;
                    Some(0)
                }
                Begin::Anew { .. } | Begin::Unknown => None,
            };
            if let Some(next) = next {
                news.place.offsets.push(Offset { partition: number, turn: partition.turn, next });
            }
        }
        news
    }

    /// What was called taken, of partitions that are still this reader's.
    pub(super) fn taken(&mut self, place: &Place) -> Taken {
        let mut taken = Taken::default();
        for offset in &place.offsets {
            let known = self.partitions.get_mut(&offset.partition);
            let Some(known) = known.filter(|known| known.turn == offset.turn) else { continue };
            match &mut known.begin {
                Begin::At(begin) => {
                    known.in_hand = known.in_hand.filter(|in_hand| *in_hand > offset.next);
                    // One that it was found meanwhile is there already.
                    if offset.next > *begin {
                        taken.soon.push(*offset);
                    }
                }
                Begin::Anew { places, told } => {
                    *told = Told::Taken;
                    taken.now.extend_from_slice(places);
                }
                Begin::Unknown => {}
            }
        }
        taken
    }

    /// What waits, by partition.
    pub(super) fn lag(&self) -> Vec<Lag> {
        let lag = |(&partition, known): (&i32, &Partition)| {
            let kept: u64 = known.records.iter().map(entries).sum();
            // Each names one entry at least.
            let not_fetched =
                known.expected().map_or(0, |next| known.end.saturating_sub(next).max(0).unsigned_abs());
            let since_ms = known.records.front().and_then(|fetched| fetched.at_ms);
            Lag { partition, entries: kept + not_fetched, since_ms }
        };
        self.partitions.iter().map(lag).collect()
    }
}

impl Partition {
    /// The reader begins here. What was fetched before that was known is looked through again.
    fn begin_at(&mut self, place: i64) {
        self.begin = Begin::At(place);
        self.end = self.end.max(place);
        let is_before = |fetched: &Fetched| fetched.offset < place && !fetched.is_behind_hole;
        while self.records.front().is_some_and(is_before) {
            self.records.pop_front();
        }
        if let Some(first) = self.records.front_mut() {
            first.is_behind_hole |= first.offset > place;
        }
    }

    /// Gives some records; says up to where, if there were any.
    fn give(&mut self, number: i32, count: usize, news: &mut News) -> Option<i64> {
        let mut next = None;
        for fetched in self.records.drain(..count.min(self.records.len())) {
            next = Some(fetched.offset + 1);
            news.missed |= fetched.is_behind_hole;
            match fetched.record {
                Some(Record::Came(range)) => news.came.push(Came { partition: number, range }),
                Some(Record::Missed) | None => news.missed = true,
            }
        }
        news.more |= !self.records.is_empty();
        self.in_hand = next.or(self.in_hand);
        next
    }

    /// The offset that the next record of interest has.
    fn expected(&self) -> Option<i64> {
        match self.begin {
            Begin::At(place) => Some(self.next.map_or(place, |next| next.max(place))),
            Begin::Anew { .. } | Begin::Unknown => self.next,
        }
    }
}

fn entries(fetched: &Fetched) -> u64 {
    match fetched.record {
        Some(Record::Came(range)) => range.last.get() + 1 - range.first.get(),
        Some(Record::Missed) | None => 1,
    }
}
