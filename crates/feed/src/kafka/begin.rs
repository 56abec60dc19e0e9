//! Where a reader begins in a partition, by what its consumer's group has noted there.
//!
//! A group that is new begins in all partitions at one time, and whoever has the [first](FOUNDER) of them does that: he
//! is told that what was before is to be read from the logs, and when that is taken the group notes the end of every
//! partition, as it was before. The others wait for that. So the logs are read once, however many begin at one time, and
//! nobody is told anything of a partition of which the group would not know later how far it was.

use std::collections::BTreeMap;

/// The partition whose reader begins for a group that is new.
pub(super) const FOUNDER: i32 = 0;

/// A partition, as its group and its brokers know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// Up to where the group has taken it; `None`: it has noted nothing.
    pub(super) noted: Option<i64>,
    /// The oldest record that is there.
    pub(super) first: i64,
    /// Behind the newest.
    pub(super) end: i64,
}

/// Where a reader begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// Where the group has left off.
    At(i64),
    /// Not where somebody has left off. What is before these places, each of a partition, is in the logs by now; as soon as
    /// it is taken that they are to be read, the group notes the places.
    Anew(Vec<(i32, i64)>, Why),
}

/// Why a reader does not begin where somebody has left off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The consumer, or the partition, is new.
    New,
    /// What was not taken is gone, or the topic was made anew.
    Gone,
}

impl Why {
    pub(super) fn say(self, partition: i32) {
        match self {
            Self::New => tracing::info!(
                partition,
                "a consumer is new to the feed: what was written before is read from the logs"
            ),
            Self::Gone => tracing::warn!(
                partition,
                "the feed has no longer what a consumer had not taken: it is read from the logs"
            ),
        }
    }
}

/// Where a reader begins in a partition of his; `None`: somebody else finds that out.
///
/// `is_founded` says whether the group has noted something in the first partition; whoever has that one sees all.
/// `is_early`: it may be that whoever publishes has not even begun. What he says first is that something was before, and
/// who begins behind that reads the logs once.
pub(super) fn find(
    partition: i32,
    seen: &BTreeMap<i32, Seen>,
    is_founded: bool,
    is_early: bool,
) -> Option<Found> {
    let it = seen.get(&partition)?;
    match it.noted {
        Some(noted) if (it.first..=it.end).contains(&noted) => Some(Found::At(noted)),
        Some(_) => Some(Found::Anew(vec![(partition, it.end)], Why::Gone)),
        None if partition == FOUNDER && is_early && it.end == 0 => None,
        None if partition == FOUNDER => {
            let new = seen.iter().filter(|(_, seen)| seen.noted.is_none());
            Some(Found::Anew(new.map(|(&partition, seen)| (partition, seen.end)).collect(), Why::New))
        }
        None if is_founded => Some(Found::Anew(vec![(partition, it.end)], Why::New)),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Partitions 0, 1, … as they were noted; each has records 10 to 19.
    fn seen(noted: &[Option<i64>]) -> BTreeMap<i32, Seen> {
        let seen = noted.iter().map(|&noted| Seen { noted, first: 10, end: 20 });
        (0..).zip(seen).collect()
    }

    #[test]
    fn who_comes_back_goes_on_where_the_group_has_left_off() {
        for noted in [10, 15, 20] {
            assert_eq!(find(1, &seen(&[None, Some(noted)]), false, false), Some(Found::At(noted)));
        }
        // What was not taken is gone, or the topic was made anew.
        for noted in [9, 21] {
            let found = find(1, &seen(&[Some(15), Some(noted)]), true, false);
            assert_eq!(found, Some(Found::Anew(vec![(1, 20)], Why::Gone)));
        }
    }

    #[test]
    fn a_new_group_begins_once_for_all_partitions() {
        let seen = seen(&[None, None, Some(15), None]);
        assert_eq!(
            find(0, &seen, false, false),
            Some(Found::Anew(vec![(0, 20), (1, 20), (3, 20)], Why::New))
        );
        // The others wait for that, and those of the same reader, too.
        assert_eq!(find(1, &seen, false, false), None);
        assert_eq!(find(2, &seen, false, false), Some(Found::At(15)));
        // The topic has got more partitions.
        assert_eq!(find(3, &seen, true, false), Some(Found::Anew(vec![(3, 20)], Why::New)));
    }

    #[test]
    fn a_new_group_waits_a_while_for_whoever_publishes() {
        let empty = BTreeMap::from([(0, Seen { noted: None, first: 0, end: 0 })]);
        assert_eq!(find(0, &empty, false, true), None);
        assert_eq!(find(0, &empty, false, false), Some(Found::Anew(vec![(0, 0)], Why::New)));
        assert_eq!(find(0, &seen(&[None]), false, true), Some(Found::Anew(vec![(0, 20)], Why::New)));
    }
}
